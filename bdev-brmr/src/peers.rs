//! Sessions of a storage node to the other members' nodes.

use bdev_rmr::hail::Peer;
use bdev_rmr::store::Peers;
use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tgt_rtrs::hub::SessionRef;
use tgt_rtrs::sessions::{PathSpec, PeerSpec, Sessions};

/// A peer by what a session to it is made of.
type Way = (Vec<String>, Option<String>);

/// Sessions that were asked for: being opened, or open and waiting to be fetched.
type Asked = Arc<Mutex<BTreeMap<Way, Option<SessionRef>>>>;

/// Opens sessions on a thread of its own, as that may have to wait; a reactor asks, and asks again.
pub struct PeerSessions {
    asked: Asked,
    ask: Sender<Peer>,
}

impl PeerSessions {
    /// # Errors
    /// If there is no thread for it.
    pub fn start(sessions: &Arc<Sessions>) -> std::io::Result<Self> {
        let (ask, told) = channel::<Peer>();
        let (asked, sessions) = (Asked::default(), sessions.clone());
        let of = asked.clone();
        // It ends with the last reactor that may ask.
        std::thread::Builder::new().name("rmr peers".into()).spawn(move || {
            for peer in told {
                let opened = open(&sessions, &peer);
                let mut asked = lock(&of);
                match opened {
                    Ok(session) => drop(asked.insert(way(&peer), Some(session))),
                    Err(why) => {
                        tracing::warn!(member = peer.member, %why, "no session to the node of another member");
                        asked.remove(&way(&peer));
                    }
                }
            }
        })?;
        Ok(Self { asked, ask })
    }
}

impl Peers for PeerSessions {
    fn session(&self, peer: &Peer) -> Option<SessionRef> {
        let mut asked = lock(&self.asked);
        match asked.get(&way(peer)) {
            Some(Some(_)) => asked.remove(&way(peer)).flatten(),
            Some(None) => None,
            None => {
                asked.insert(way(peer), None);
                // Without the thread nobody can be asked; the process stops then.
                let _ = self.ask.send(peer.clone());
                None
            }
        }
    }
}

fn open(sessions: &Sessions, peer: &Peer) -> Result<SessionRef, String> {
    let paths = peer.paths.iter().map(|path| path.parse::<PathSpec>().map_err(|error| error.to_string()));
    let spec = PeerSpec { key: peer.key.clone(), ..PeerSpec::new(paths.collect::<Result<_, _>>()?) };
    sessions.open(&spec).map_err(|error| error.to_string())
}

fn way(peer: &Peer) -> Way {
    (peer.paths.clone(), peer.key.clone())
}

fn lock(asked: &Asked) -> MutexGuard<'_, BTreeMap<Way, Option<SessionRef>>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}
