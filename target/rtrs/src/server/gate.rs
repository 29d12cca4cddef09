//! Connections that have not proved themselves yet: few, for a short time, and each allowed one frame at a time.

use super::event::{Admission, GateAction, GateEvent};
use crate::fault::Fault;
use crate::frame::{Challenge, Hand, Hello, Proof, Refuse, RefuseCause, VERSION};
use crate::hand::{Key, Transcript};
use crate::{ConnId, Id, Now};
use std::sync::Arc;

/// What a listener asks of those that come.
#[derive(Clone, Debug)]
pub struct GateConfig {
    /// The server's host.
    pub host: Id,
    /// The key that everybody must have; [`Key::NONE`] = none.
    pub key: Arc<Key>,
    /// Without a key, come from where you like.
    pub insecure: bool,
    /// Data digests, even if the client does not ask for them.
    pub digest: bool,
    /// Most connections that have not proved themselves.
    pub pending_max: usize,
    /// Of those, most from one address.
    pub per_source_max: usize,
    /// Each for no longer than this, ns.
    pub hand_ns: Now,
}

impl GateConfig {
    /// The usual numbers.
    pub fn new(host: Id, key: Arc<Key>) -> Self {
        let (pending_max, per_source_max) = (256, 32);
        Self { host, key, insecure: false, digest: true, pending_max, per_source_max, hand_ns: 1_000_000_000 }
    }
}

enum Stage {
    Accepted { nonce: [u8; 32] },
    Challenged { hello: Hello, challenge: Challenge },
}

struct Pending {
    conn: ConnId,
    source: u128,
    loopback: bool,
    until: Now,
    stage: Stage,
}

/// The door of one listener.
pub struct Gate {
    config: GateConfig,
    now: Now,
    /// The oldest first.
    pending: Vec<Pending>,
}

impl Gate {
    /// Nobody there yet.
    pub fn new(config: GateConfig) -> Self {
        let pending = Vec::with_capacity(config.pending_max);
        Self { config, now: 0, pending }
    }

    /// From here on connections prove this key.
    pub fn set_key(&mut self, key: Arc<Key>) {
        self.config.key = key;
    }

    /// Something happened.
    pub fn on(&mut self, now: Now, event: GateEvent, out: &mut Vec<GateAction>) {
        self.now = self.now.max(now);
        match event {
            GateEvent::Accepted { conn, source, loopback, nonce } => {
                self.make_room(source, out);
                let (until, stage) = (self.now + self.config.hand_ns, Stage::Accepted { nonce });
                self.pending.push(Pending { conn, source, loopback, until, stage });
            }
            GateEvent::Hand { conn, hand } => {
                let Some(at) = self.pending.iter().position(|pending| pending.conn == conn) else { return };
                self.on_hand(at, hand, out);
            }
            GateEvent::Lost { conn } => self.pending.retain(|pending| pending.conn != conn),
            GateEvent::Tick => {
                let now = self.now;
                for late in self.pending.extract_if(.., |pending| now >= pending.until) {
                    out.push(GateAction::Close { conn: late.conn, fault: Fault::HandShake });
                }
            }
        }
    }

    /// When [`GateEvent::Tick`] is wanted next.
    pub fn next_timeout(&self) -> Option<Now> {
        self.pending.iter().map(|pending| pending.until).min()
    }

    /// Connections that have not proved themselves.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The oldest goes: of the same address if that has its share, else of all.
    fn make_room(&mut self, source: u128, out: &mut Vec<GateAction>) {
        let of_source = self.pending.iter().filter(|pending| pending.source == source).count();
        let oldest = if of_source >= self.config.per_source_max {
            self.pending.iter().position(|pending| pending.source == source)
        } else if self.pending.len() >= self.config.pending_max {
            Some(0)
        } else {
            None
        };
        if let Some(at) = oldest {
            let conn = self.pending.remove(at).conn;
            out.push(GateAction::Close { conn, fault: Fault::Crowded });
        }
    }

    fn on_hand(&mut self, at: usize, hand: Hand, out: &mut Vec<GateAction>) {
        let conn = self.pending[at].conn;
        let result = match (&self.pending[at].stage, hand) {
            (Stage::Accepted { nonce }, Hand::Hello(hello)) => {
                let (nonce, loopback) = (*nonce, self.pending[at].loopback);
                self.challenge(hello, nonce, loopback).map(|challenge| {
                    self.pending[at].stage = Stage::Challenged { hello, challenge };
                    out.push(GateAction::Send { conn, hand: Hand::Challenge(challenge) });
                })
            }
            (Stage::Challenged { hello, challenge }, Hand::Proof(proof)) => {
                let (hello, challenge) = (*hello, *challenge);
                self.admission(hello, challenge, proof).map(|admission| {
                    self.pending.remove(at);
                    out.push(GateAction::Admit { conn, admission: Box::new(admission) });
                })
            }
            _ => Err(Fault::Protocol("a frame of the hand-shake out of turn")),
        };
        if let Err(fault) = result {
            self.pending.remove(at);
            if let Fault::Refused(why) = fault {
                out.push(GateAction::Send { conn, hand: Hand::Refuse(Refuse { why, mac: [0; 32] }) });
            }
            out.push(GateAction::Close { conn, fault });
        }
    }

    fn challenge(&self, hello: Hello, nonce: [u8; 32], loopback: bool) -> Result<Challenge, Fault> {
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            return Err(Fault::Refused(RefuseCause::Version { low: VERSION, high: VERSION }));
        }
        let ours = self.config.key.name();
        let keyless = hello.key.is_none();
        if keyless && !(ours.is_none() && (loopback || self.config.insecure)) {
            return Err(Fault::Refused(RefuseCause::KeyNeeded));
        }
        if hello.key != ours {
            return Err(Fault::Refused(RefuseCause::Key));
        }
        let digest = hello.digest || self.config.digest;
        Ok(Challenge { version: VERSION, digest, host: self.config.host, nonce, stamp: self.now })
    }

    fn admission(&self, hello: Hello, challenge: Challenge, proof: Proof) -> Result<Admission, Fault> {
        let mut transcript = Transcript::new(hello, challenge);
        if !transcript.accept(&self.config.key, proof) && !crate::mutant::Mutant::AnyProof.on() {
            return Err(Fault::Refused(RefuseCause::Key));
        }
        Ok(Admission { hello, challenge, proof, transcript, key: self.config.key.clone() })
    }
}
