//! Sessions as a service of the process: listeners, sessions to peers, their keys, and what is told of them.
//!
//! [`Sessions`] is for control threads alone. What it decides it gives to the reactors' hubs by message; what happens there
//! comes back as [`Note`]s to a thread of its own, which tells of it, ends what nobody holds any more, and gives out keys that
//! were exchanged. No reactor waits for it.
//!
//! Two locks: `changes`, held for a whole change, also while reactors are asked; `state`, held for looks into tables, and
//! never while a reactor is waited for. The first is taken before the second.

mod error;
mod keys;
mod listeners;
mod news;
mod path;
mod peers;

pub use error::SessionsError;
pub use listeners::{ListenerInfo, ListenerSpec, TransportSpec};
pub use news::{News, NewsKind};
pub use path::{ACCEPTED as PATH_ACCEPTED, PathError, PathSpec};
pub use peers::{LaneInfo, PathInfo, PeerSpec, ServedInfo, SessionInfo};

use crate::Id;
use crate::client::Policy;
use crate::hub::{Hub, Note};
use listeners::Listener;
use peers::{Peer, served};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tgt_keyring::Keyring;
use tgt_reactor::{Cx, Handle};

/// Most bytes of data in one request: the data is one buffer.
const IO_SIZE_MAX: u32 = tgt_env::memory::DmaBuf::MAX_LEN;

/// What a process's sessions are made with.
pub struct SessionsOptions {
    /// All reactors.
    pub reactors: Arc<Vec<Handle>>,
    /// Where keys come from.
    pub keyring: Arc<Keyring>,
    /// This host, as peers know it.
    pub host: Id,
    /// Without a key, go and let come where you like, and not on this host only.
    pub insecure: bool,
    /// Told of what happens, on a thread of its own.
    pub tell: Box<dyn Fn(News) + Send + Sync>,
}

/// The sessions of a process. Control threads.
pub struct Sessions {
    reactors: Arc<Vec<Handle>>,
    keyring: Arc<Keyring>,
    host: Id,
    insecure: bool,
    tell: Box<dyn Fn(News) + Send + Sync>,
    notes: Sender<Note>,
    /// One change at a time.
    changes: Mutex<()>,
    state: Mutex<State>,
    stopped: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    transport: Option<TransportSpec>,
    listeners: Vec<Listener>,
    /// There was a listener: limits are fixed.
    listened: bool,
    peers: Vec<Peer>,
    /// Lanes that a reactor with a full inbox is to end.
    to_retire: Vec<(usize, Id)>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Nothing listens, no session is there.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn start(options: SessionsOptions) -> std::io::Result<Arc<Sessions>> {
        let SessionsOptions { reactors, keyring, host, insecure, tell } = options;
        let (notes, told) = channel();
        let sessions = Arc::new(Sessions {
            reactors,
            keyring,
            host,
            insecure,
            tell,
            notes,
            changes: Mutex::default(),
            state: Mutex::default(),
            stopped: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let thread = news::start(Arc::downgrade(&sessions), told)?;
        *sessions.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(sessions)
    }

    /// Ends the thread. Before the reactors stop; sessions end with those.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the thread.
        let _ = self.notes.send(Note::Dropped { session: Id::default() });
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that tells of sessions has panicked");
        }
    }

    /// This host, as peers know it.
    #[must_use]
    pub fn host(&self) -> Id {
        self.host
    }

    /// All sessions that lead from here and to here, as they are now, or an error `within` this time.
    ///
    /// # Errors
    /// A reactor does not answer in time.
    pub fn figures(&self, within: Duration) -> Result<(Vec<SessionInfo>, Vec<ServedInfo>), SessionsError> {
        let end = Instant::now() + within;
        let answers = self.ask_hubs_within(
            || end.saturating_duration_since(Instant::now()),
            |hub, cx| (hub.client_lanes(cx), hub.server_lanes(cx)),
        )?;
        let (ours, theirs): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        Ok((self.infos(&ours.concat()), served(theirs.concat())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all reactors' hubs, one after the other; those that have none are left out.
    fn ask_hubs<A: Send + 'static>(
        &self,
        question: impl Fn(&Rc<Hub>, &mut Cx) -> A + Clone + Send + 'static,
    ) -> Result<Vec<A>, SessionsError> {
        self.ask_hubs_within(|| Handle::CALL_TIMEOUT, question)
    }

    /// The same, waiting for each reactor no longer than `patience` says then.
    fn ask_hubs_within<A: Send + 'static>(
        &self,
        patience: impl Fn() -> Duration,
        question: impl Fn(&Rc<Hub>, &mut Cx) -> A + Clone + Send + 'static,
    ) -> Result<Vec<A>, SessionsError> {
        let mut answers = Vec::new();
        for reactor in self.reactors.iter() {
            let question = question.clone();
            let answer = reactor.call_within(patience(), move |reactor| {
                let hub = reactor.cx().local::<Hub>()?;
                Some(question(&hub, reactor.cx()))
            })?;
            answers.extend(answer);
        }
        Ok(answers)
    }
}

/// The policy's name in RPC.
#[must_use]
pub fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::RoundRobin => "round_robin",
        Policy::MinInflight => "min_inflight",
        Policy::MinLatency => "min_latency",
    }
}
