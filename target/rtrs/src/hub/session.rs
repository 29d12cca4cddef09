//! A session as lanes are made from it: what control threads decide, and reactors read when they make a lane.

use super::paths::PathKey;
use crate::client::{Link, Policy};
use crate::frame::KeyName;
use crate::tcp::PathAddress;
use crate::{Fault, Id, Key, server};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use tgt_reactor::ReactorId;

/// A session that somebody holds. When the last is dropped its lanes end.
pub type SessionRef = Arc<Session>;

/// The key of a session or listener, to be given to each lane.
#[derive(Clone)]
pub enum SessionKey {
    /// Only freshness is proved.
    None,
    /// By this name, which travels.
    Named(KeyName, tgt_keyring::Key),
    /// Of this name, and cannot be had any more: nothing is proved with it, and no proof fits.
    Lost(KeyName),
}

/// A secret that nobody has.
struct Nobodys;

impl crate::Secret for Nobodys {
    fn hmac_sha256(&self, _: &[&[u8]]) -> [u8; 32] {
        crate::tcp::nonce()
    }
}

impl SessionKey {
    /// For one engine.
    #[must_use]
    pub fn get(&self) -> Key {
        match self {
            Self::None => Key::NONE,
            Self::Named(name, key) => Key::new(*name, Box::new(key.clone())),
            Self::Lost(name) => Key::new(*name, Box::new(Nobodys)),
        }
    }
}

/// What lanes of a session are made of.
#[derive(Clone)]
pub struct SessionSetup {
    /// This host.
    pub host: Id,
    /// What both sides must have.
    pub key: SessionKey,
    /// Data digests wanted.
    pub digest: bool,
    /// Without a key, connect to where you like.
    pub insecure: bool,
    /// How a path is chosen.
    pub policy: Policy,
    /// Where it leads.
    pub paths: Vec<(PathKey, PathAddress)>,
}

/// What a hub tells control threads, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A lane's life, at the client.
    Link {
        /// The session.
        session: Id,
        /// Where the lane is.
        reactor: ReactorId,
        /// What.
        link: Link,
    },
    /// A path of a lane came up or fell, or cannot come up for another reason than before.
    Path {
        /// The session.
        session: Id,
        /// Where the lane is.
        reactor: ReactorId,
        /// Which.
        path: PathKey,
        /// `None`: it is up.
        fault: Option<Fault>,
    },
    /// A lane's life, at the server.
    Served {
        /// Where the lane is.
        reactor: ReactorId,
        /// What.
        link: server::Link,
    },
    /// A session's last holder has gone: its lanes are to end.
    Dropped {
        /// The session.
        session: Id,
    },
}

/// A session to one peer. Any thread.
pub struct Session {
    id: Id,
    /// Exchanged whole by control threads. Reactors read it when they make a lane, never per request; it is locked for as
    /// long as it takes to copy a pointer.
    setup: RwLock<Arc<SessionSetup>>,
    notes: Option<Sender<Note>>,
}

impl Session {
    /// A session that tells `notes` what becomes of it.
    #[must_use]
    pub fn new(id: Id, setup: SessionSetup, notes: Option<Sender<Note>>) -> SessionRef {
        Arc::new(Session { id, setup: RwLock::new(Arc::new(setup)), notes })
    }

    /// Its name in hand-shakes.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it is made of now.
    #[must_use]
    pub fn setup(&self) -> Arc<SessionSetup> {
        self.setup.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what lanes are made of from here on; those that are there are told by [`super::Hub`]'s methods.
    pub fn change(&self, change: impl FnOnce(&mut SessionSetup)) {
        let mut setup = SessionSetup::clone(&self.setup());
        change(&mut setup);
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
    }

    pub(super) fn notes(&self) -> Option<Sender<Note>> {
        self.notes.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(notes) = &self.notes {
            // Nobody listens any more: the process stops, and all lanes with it.
            let _ = notes.send(Note::Dropped { session: self.id });
        }
    }
}
