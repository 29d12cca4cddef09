//! The thread that hears from the reactors: what becomes of sessions is told once, whatever the number of their lanes.

use super::Sessions;
use crate::client::Link;
use crate::hub::{Hub, Note, PathKey};
use crate::{Death, Fault, Id, server};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tgt_reactor::ReactorId;

/// How soon a key that was exchanged, or removed, counts.
const KEYS_EVERY: Duration = Duration::from_secs(2);

/// What can happen to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewsKind {
    /// Its first lane has a life.
    SessionUp,
    /// Its last lane has none.
    SessionDown,
    /// A path is up in a lane, the first to be.
    PathUp,
    /// A path is up in no lane, or cannot come up for another reason than before.
    PathDown,
}

/// Something that happened to a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// What.
    pub kind: NewsKind,
    /// To whom and why: the session's UUID, then its peer or path, then the reason.
    pub about: String,
}

/// What was told of a session.
#[derive(Default)]
pub(super) struct Seen {
    up: BTreeSet<ReactorId>,
    paths: BTreeMap<PathKey, SeenPath>,
}

#[derive(Default)]
struct SeenPath {
    up: BTreeSet<ReactorId>,
    /// The kind of fault that was told last, while it is down.
    fault: Option<std::mem::Discriminant<Fault>>,
}

impl Seen {
    pub(super) fn forget(&mut self, path: PathKey) {
        self.paths.remove(&path);
    }

    fn on_link(&mut self, reactor: ReactorId, link: Link) -> Option<(NewsKind, String)> {
        match link {
            Link::Up { host, .. } => {
                let first = self.up.is_empty();
                self.up.insert(reactor);
                first.then(|| (NewsKind::SessionUp, format!("host {host}")))
            }
            Link::Dead { why } => {
                let was = self.up.remove(&reactor);
                (was && self.up.is_empty()).then(|| (NewsKind::SessionDown, why.to_string()))
            }
            Link::Stalled { .. } | Link::Resumed => None,
        }
    }

    fn on_path(
        &mut self,
        reactor: ReactorId,
        path: PathKey,
        fault: Option<Fault>,
    ) -> Option<(NewsKind, String)> {
        let seen = self.paths.entry(path).or_default();
        let Some(fault) = fault else {
            seen.fault = None;
            let first = seen.up.is_empty();
            seen.up.insert(reactor);
            return first.then(|| (NewsKind::PathUp, String::new()));
        };
        seen.up.remove(&reactor);
        if !seen.up.is_empty() || seen.fault == Some(std::mem::discriminant(&fault)) {
            return None;
        }
        seen.fault = Some(std::mem::discriminant(&fault));
        Some((NewsKind::PathDown, fault.to_string()))
    }
}

pub(super) fn start(sessions: Weak<Sessions>, told: Receiver<Note>) -> io::Result<JoinHandle<()>> {
    Builder::new().name("sessions".to_owned()).spawn(move || {
        let mut keys_read = Instant::now();
        loop {
            let note = told.recv_timeout(KEYS_EVERY);
            let Some(sessions) = sessions.upgrade().filter(|s| !s.stopped.load(Ordering::Acquire)) else {
                return;
            };
            match note {
                Ok(note) => sessions.on_note(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if keys_read.elapsed() >= KEYS_EVERY {
                sessions.retire_late();
                sessions.refresh_keys();
                keys_read = Instant::now();
            }
        }
    })
}

impl Sessions {
    fn on_note(&self, note: Note) {
        match note {
            Note::Link { session, reactor, link } => self.on_link(session, reactor, link),
            Note::Path { session, reactor, path, fault } => self.on_path(session, reactor, path, fault),
            Note::Served { link: server::Link::Up { session, number, host, .. }, reactor } => {
                tracing::info!(%session, lane = number, %host, %reactor, "a client's lane is up");
            }
            Note::Served { link: server::Link::Down { why, .. }, reactor } => {
                tracing::info!(%why, %reactor, "a client's lane is down");
            }
            Note::Dropped { session } => self.on_dropped(session),
        }
    }

    fn on_link(&self, session: Id, reactor: ReactorId, link: Link) {
        let news = {
            let mut state = self.state();
            state
                .peers
                .iter_mut()
                .find(|peer| peer.id == session)
                .and_then(|peer| peer.seen.on_link(reactor, link))
        };
        if let Some((kind, text)) = news {
            self.tell(kind, format!("{session} {text}"));
        }
    }

    fn on_path(&self, session: Id, reactor: ReactorId, path: PathKey, fault: Option<Fault>) {
        let news = {
            let mut state = self.state();
            let Some(peer) = state.peers.iter_mut().find(|peer| peer.id == session) else { return };
            let Some((_, spec)) = peer.paths.iter().find(|(key, _)| *key == path) else { return };
            let spec = *spec;
            peer.seen.on_path(reactor, path, fault).map(|(kind, text)| (kind, spec, text))
        };
        if let Some((kind, spec, text)) = news {
            self.tell(kind, format!("{session} {spec} {text}").trim_end().to_owned());
        }
    }

    fn on_dropped(&self, session: Id) {
        let was_up = {
            let mut state = self.state();
            let Some(at) = state.peers.iter().position(|peer| peer.id == session) else { return };
            let peer = state.peers.remove(at);
            state.to_retire.extend((0..self.reactors.len()).map(|reactor| (reactor, session)));
            !peer.seen.up.is_empty()
        };
        if was_up {
            self.tell(NewsKind::SessionDown, format!("{session} {}", Death::Command));
        }
        self.retire_late();
    }

    /// Ends lanes of sessions that nobody holds; those of reactors that take no message now, next time.
    fn retire_late(&self) {
        let to_retire = std::mem::take(&mut self.state().to_retire);
        let not_told = to_retire.into_iter().filter(|(reactor, session)| {
            let session = *session;
            let told = self.reactors[*reactor].send(move |reactor| {
                if let Some(hub) = reactor.cx().local::<Hub>() {
                    hub.retire(reactor.cx(), session);
                }
            });
            matches!(told, Err(tgt_reactor::CallError::Full(..)))
        });
        let not_told: Vec<_> = not_told.collect();
        self.state().to_retire.extend(not_told);
    }

    fn tell(&self, kind: NewsKind, about: String) {
        match kind {
            NewsKind::SessionDown | NewsKind::PathDown if !about.ends_with(&Death::Command.to_string()) => {
                tracing::warn!(about, "{}", kind.name());
            }
            _ => tracing::info!(about, "{}", kind.name()),
        }
        (self.tell)(News { kind, about });
    }
}

impl NewsKind {
    /// Its name as a notification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NewsKind::SessionUp => "rtrs_session_up",
            NewsKind::SessionDown => "rtrs_session_down",
            NewsKind::PathUp => "rtrs_path_up",
            NewsKind::PathDown => "rtrs_path_down",
        }
    }
}
