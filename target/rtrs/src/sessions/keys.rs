//! Keys of listeners and sessions: read on control threads, and again when their files change.

use super::{Sessions, SessionsError};
use crate::frame::KeyName;
use crate::hub::{Hub, SessionKey};
use tgt_keyring::KeyRef;

/// The key of a listener or a session.
pub(super) struct HeldKey {
    reference: KeyRef,
    name: KeyName,
    /// What was given to the engines; `None`: it could not be read last time.
    given: Option<tgt_keyring::Key>,
    /// Why not.
    pub(super) fault: Option<String>,
}

impl HeldKey {
    pub(super) fn name(&self) -> &str {
        self.reference.name()
    }

    /// Reads it again. `Some` if the engines are to have something else.
    fn refresh(&mut self) -> Option<SessionKey> {
        match self.reference.load() {
            Ok(key) => {
                self.fault = None;
                let same = self.given.as_ref().is_some_and(|given| given.expose() == key.expose());
                if same {
                    return None;
                }
                tracing::info!(key = self.name(), "a key of sessions was exchanged");
                self.given = Some(key.clone());
                Some(SessionKey::Named(self.name, key))
            }
            Err(error) => {
                if self.fault.is_none() {
                    tracing::warn!(key = self.name(), %error, "no new connection of a session can be made with this key");
                }
                self.fault = Some(error.to_string());
                self.given.take().map(|_| SessionKey::Lost(self.name))
            }
        }
    }
}

impl Sessions {
    /// A reference to the key `name`, and its bytes for the engines.
    pub(super) fn key(&self, name: Option<&str>) -> Result<(Option<HeldKey>, SessionKey), SessionsError> {
        let Some(name) = name else { return Ok((None, SessionKey::None)) };
        let reference = self.keyring.get(name)?;
        let Some(wire) = KeyName::new(reference.name()) else {
            return Err(SessionsError::KeyName { name: name.to_owned() });
        };
        let key = reference.load()?;
        let held = HeldKey { reference, name: wire, given: Some(key.clone()), fault: None };
        Ok((Some(held), SessionKey::Named(wire, key)))
    }

    /// Reads all keys in use again, and gives out those that are others now.
    pub(super) fn refresh_keys(&self) {
        let mut state = self.state();
        let mut of_listeners = Vec::new();
        let mut of_sessions = Vec::new();
        for listener in &mut state.listeners {
            let reactor = listener.reactor;
            let door = listener.door;
            of_listeners
                .extend(listener.key.as_mut().and_then(HeldKey::refresh).map(|key| (reactor, door, key)));
        }
        for peer in &mut state.peers {
            let id = peer.id;
            let Some(key) = peer.key.as_mut().and_then(HeldKey::refresh) else { continue };
            if let Some(session) = peer.session() {
                session.change(|setup| setup.key = key.clone());
            }
            of_sessions.push((id, key));
        }
        drop(state);
        for (reactor, door, key) in of_listeners {
            self.post(reactor as usize, move |hub, _| hub.set_listener_key(door, &key));
        }
        for (session, key) in of_sessions {
            for reactor in 0..self.reactors.len() {
                let key = key.clone();
                self.post(reactor, move |hub, cx| hub.set_key(cx, session, &key));
            }
        }
    }

    /// Tells a reactor's hub something; waits for the reactor, and says so if it does not answer.
    pub(super) fn post(
        &self,
        reactor: usize,
        body: impl FnOnce(&Hub, &mut tgt_reactor::Cx) + Send + 'static,
    ) {
        let done = self.reactors[reactor].call(move |reactor| {
            if let Some(hub) = reactor.cx().local::<Hub>() {
                body(&hub, reactor.cx());
            }
        });
        if let Err(error) = done {
            tracing::error!(%error, "a reactor was not told of a change of its sessions");
        }
    }
}
