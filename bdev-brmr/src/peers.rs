//! Sessions of a storage node to the other members' nodes.

use crate::store::Home;
use bdev_rmr::hail::Peer;
use bdev_rmr::store::Peers;
use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tgt_env::memory::DmaBuf;
use tgt_reactor::Handle;
use tgt_rtrs::hub::SessionRef;
use tgt_rtrs::sessions::{PathSpec, PeerSpec, Sessions};

/// Where stores live: the reactor on which the lanes of other hosts end.
pub struct StorageNode {
    reactors: Arc<Vec<Handle>>,
    sessions: Arc<Sessions>,
}

impl StorageNode {
    /// Stores are on the first reactor, and reached from all.
    #[must_use]
    pub fn new(reactors: &Arc<Vec<Handle>>, sessions: &Arc<Sessions>) -> Self {
        Self { reactors: reactors.clone(), sessions: sessions.clone() }
    }
}

impl Home for StorageNode {
    fn reactor(&self) -> Handle {
        self.reactors[0].clone()
    }

    fn reactors(&self) -> Vec<Handle> {
        self.reactors.to_vec()
    }

    fn peers(&self) -> Box<dyn Peers> {
        Box::new(PeerSessions::new(&self.sessions))
    }

    fn data_max(&self) -> u32 {
        // A request's data is one buffer.
        self.sessions.transport().unwrap_or_default().max_io_size.min(DmaBuf::MAX_LEN)
    }
}

/// A peer by what a session to it is made of.
type Way = (Vec<String>, Option<String>);

/// Sessions that were asked for: being opened, or open and waiting to be fetched.
type Asked = Arc<Mutex<BTreeMap<Way, Option<SessionRef>>>>;

/// Opens sessions on a thread of its own, as that may have to wait; a reactor asks, and asks again.
struct PeerSessions {
    asked: Asked,
    /// `None`: there was no thread to be had.
    ask: Option<Sender<Peer>>,
}

impl PeerSessions {
    fn new(sessions: &Arc<Sessions>) -> Self {
        let (ask, told) = channel::<Peer>();
        let (asked, sessions) = (Asked::default(), sessions.clone());
        let of = asked.clone();
        // It ends with the reactor that may ask.
        let thread = move || told.iter().for_each(|peer| answer(&sessions, &of, &peer));
        let started = std::thread::Builder::new().name("rmr peers".into()).spawn(thread);
        if let Err(error) = &started {
            tracing::error!(%error, "no thread for sessions to other storage nodes: stores here copy nothing");
        }
        Self { asked, ask: started.is_ok().then_some(ask) }
    }
}

fn answer(sessions: &Sessions, asked: &Asked, peer: &Peer) {
    match open(sessions, peer) {
        Ok(session) => drop(lock(asked).insert(way(peer), Some(session))),
        Err(why) => {
            tracing::warn!(member = peer.member, %why, "no session to the node of another member");
            lock(asked).remove(&way(peer));
        }
    }
}

impl Peers for PeerSessions {
    fn session(&self, peer: &Peer) -> Option<SessionRef> {
        let mut asked = lock(&self.asked);
        match asked.get(&way(peer)) {
            Some(Some(_)) => asked.remove(&way(peer)).flatten(),
            Some(None) => None,
            None => {
                if self.ask.as_ref().is_some_and(|ask| ask.send(peer.clone()).is_ok()) {
                    asked.insert(way(peer), None);
                }
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
