//! One path of a lane: its connection, its hand-shake, its signs of life.

use super::Config;
use super::event::{PathChange, PathState, Signs};
use crate::fault::Fault;
use crate::frame::{Challenge, Hello, Ping, Proof, VERSION};
use crate::hand::{Key, Transcript};
use crate::{ConnId, Id, Incarnation, Life, Now, PathNo, crc32c};

/// What is counted of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathStats {
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Answers received.
    pub answers: u64,
    /// Bytes of data sent with requests.
    pub bytes_out: u64,
    /// Bytes of data received with answers.
    pub bytes_in: u64,
    /// Requests sent here after they had been lost elsewhere, or were granted memory.
    pub resends: u64,
    /// Times it came up.
    pub ups: u64,
    /// Times it fell, before it was up or after.
    pub faults: u64,
    /// Smoothed round trip of the beats, ns; 0 = none yet.
    pub round_trip_ns: u64,
}

/// What is to be done for a connection now.
pub(super) enum Due {
    Nothing,
    Look,
    Beat(Ping),
}

/// A connection of a path, from the wish to have one to its end.
pub(super) struct Conn {
    pub(super) id: ConnId,
    /// When it was begun; how long it may take to be connected, and then for its hand-shake to end, from there.
    began: Now,
    patience: Now,
    hello: Option<Hello>,
    transcript: Option<Transcript>,
    /// Something came last.
    heard: Now,
    /// A ping is out since then.
    ping_sent: Option<Now>,
    next_ping: Now,
    /// What the stream has shown at most, and when it was looked at last.
    signs: Signs,
    looked: Now,
    /// The ping that is out ends there in the stream; `None` until the first look after it.
    ping_end: Option<u64>,
    /// Of what lies before that end some was acknowledged last.
    moved: Now,
    /// Newest stamp of the server.
    stamp: u64,
    /// Answers received.
    pub(super) seen: u32,
    /// Things the server is to know: answers received here and those named by `Seen`; how many the ping that is out told
    /// of, and how many the server has been proved to know of.
    marks: u32,
    pinged: u32,
    known: u32,
    pub(super) under_way: u32,
}

pub(super) struct Path {
    pub(super) id: Id,
    pub(super) no: PathNo,
    pub(super) state: PathState,
    pub(super) conn: Option<Conn>,
    /// Connections made so far.
    connections: u32,
    /// Faults since it was last up.
    failures: u32,
    pub(super) stats: PathStats,
}

impl Path {
    pub(super) fn new(id: Id, no: PathNo, now: Now) -> Self {
        let state = PathState::Waiting { until: now, fault: None };
        Self { id, no, state, conn: None, connections: 0, failures: 0, stats: PathStats::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == PathState::Up
    }

    /// Its connection, if that is `conn`.
    pub(super) fn current(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conn.as_mut().filter(|current| current.id == conn)
    }

    /// The one place that changes its state.
    pub(super) fn go(&mut self, state: PathState) -> PathChange {
        use PathState::{Dialling, Greeting, Proving, Up, Waiting};
        let legal = matches!(
            (self.state, state),
            (Waiting { .. }, Dialling | Waiting { .. })
                | (Dialling, Greeting | Waiting { .. })
                | (Greeting, Proving | Waiting { .. })
                | (Proving, Up | Waiting { .. })
                | (Up, Waiting { .. })
        );
        assert!(legal, "path {:?} cannot go from {:?} to {state:?}", self.no, self.state);
        self.state = state;
        PathChange { path: self.no, id: self.id, state }
    }

    /// Begins a connection. Its number's low bits are the path's, so that it is found without a search. `urgent`: nothing else is
    /// up, so one that was asked for in vain, the network being cut at that moment, is soon given up for another: the system asks
    /// again after a second only.
    pub(super) fn dial(
        &mut self,
        now: Now,
        serial: u64,
        urgent: bool,
        config: &Config,
    ) -> (ConnId, PathChange) {
        let id = ConnId(serial << 16 | u64::from(self.no.0));
        let patience = if urgent { self.urgent_patience(config) } else { config.hand_ns };
        self.connections += 1;
        self.conn = Some(Conn {
            id,
            began: now,
            patience,
            hello: None,
            transcript: None,
            heard: now,
            ping_sent: None,
            next_ping: now,
            signs: Signs::default(),
            looked: now,
            ping_end: None,
            moved: now,
            stamp: 0,
            seen: 0,
            marks: 0,
            pinged: 0,
            known: 0,
            under_way: 0,
        });
        (id, self.go(PathState::Dialling))
    }

    fn urgent_patience(&self, config: &Config) -> Now {
        config.dial_urgent_ns.max(3 * self.stats.round_trip_ns).min(config.hand_ns)
    }

    /// No other is up any more: it is tried as one that is urgent from here on.
    pub(super) fn press(&mut self, now: Now, config: &Config) {
        let patience = self.urgent_patience(config);
        match (&mut self.state, &mut self.conn) {
            (PathState::Waiting { until, fault: Some(fault) }, _) if !fault.lasting() => {
                *until = (*until).min(now + config.backoff_urgent_ns);
            }
            // One that has had its time has it until now: nothing was late.
            (PathState::Dialling, Some(conn)) => {
                conn.patience = conn.patience.min(patience.max(now.saturating_sub(conn.began)));
            }
            _ => {}
        }
    }

    /// Its connection is gone: it waits before the next.
    pub(super) fn fall(&mut self, now: Now, fault: Fault, urgent: bool, config: &Config) -> PathChange {
        self.conn = None;
        self.failures = self.failures.saturating_add(1);
        self.stats.faults += 1;
        let until = now + self.pause(&fault, urgent, config);
        self.go(PathState::Waiting { until, fault: Some(fault) })
    }

    /// Doubled with each failure, half to one and a half of it, by chance that differs between sessions and tries.
    fn pause(&self, fault: &Fault, urgent: bool, config: &Config) -> Now {
        let (min, max) = (config.backoff_min_ns, config.backoff_max_ns);
        let most = if urgent { config.backoff_urgent_ns } else { max };
        let doubled = min.saturating_mul(1 << self.failures.saturating_sub(1).min(30)).min(most);
        let base = if fault.lasting() { max } else { doubled };
        let salt =
            [&config.session.0[..], &self.id.0, &config.lane.to_le_bytes(), &self.connections.to_le_bytes()];
        let chance = u64::from(crc32c(&salt.concat()));
        base / 2 + base * chance / (1 << 32)
    }

    /// Tried again at once, whatever happened before.
    pub(super) fn hurry(&mut self, now: Now) {
        self.failures = 0;
        if let PathState::Waiting { until, .. } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    pub(super) fn greet(
        &mut self,
        nonce: [u8; 32],
        config: &Config,
        key: &Key,
        incarnation: Incarnation,
    ) -> Option<Hello> {
        if self.state != PathState::Dialling {
            return None;
        }
        let conn = self.conn.as_mut()?;
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            lane: config.lane,
            lanes: config.lanes,
            connection: self.connections,
            digest: config.digest,
            incarnation,
            session: config.session,
            path: self.id,
            host: config.host,
            nonce,
            key: key.name(),
        };
        (conn.hello, conn.patience) = (Some(hello), config.hand_ns);
        Some(hello)
    }

    /// The answer to a challenge that was checked.
    pub(super) fn prove(&mut self, challenge: Challenge, key: &Key, life: Option<Life>) -> Option<Proof> {
        let conn = self.conn.as_mut()?;
        let mut transcript = Transcript::new(conn.hello?, challenge);
        let proof = transcript.prove(key, Proof { life, mac: [0; 32] });
        (conn.transcript, conn.stamp) = (Some(transcript), challenge.stamp);
        Some(proof)
    }

    pub(super) fn transcript(&self) -> Option<&Transcript> {
        self.conn.as_ref().and_then(|conn| conn.transcript.as_ref())
    }

    /// The hand-shake is over.
    pub(super) fn rise(&mut self, now: Now, stamp: u64) -> PathChange {
        self.failures = 0;
        self.stats.ups += 1;
        if let Some(conn) = &mut self.conn {
            (conn.stamp, conn.hello, conn.transcript) = (stamp, None, None);
            // A first beat at once: the round trip is known before the first choice that asks for it.
            conn.next_ping = now;
        }
        self.go(PathState::Up)
    }

    pub(super) fn pong(&mut self, now: Now, stamp: u64, echo: u64) {
        let Some(conn) = &mut self.conn else { return };
        conn.stamp = conn.stamp.max(stamp);
        if conn.ping_sent.take().is_some() {
            conn.known = conn.pinged;
            let round_trip = now.saturating_sub(echo).max(1);
            let old = self.stats.round_trip_ns;
            self.stats.round_trip_ns = if old == 0 { round_trip } else { (old * 7 + round_trip) / 8 };
        }
    }
}

impl Conn {
    pub(super) fn hear(&mut self, now: Now) {
        self.heard = now;
    }

    /// One more thing that the server is to know; its number.
    pub(super) fn mark(&mut self) -> u32 {
        self.marks = self.marks.wrapping_add(1);
        self.marks
    }

    /// Is the server proved to know of the thing with this number?
    pub(super) fn knows(&self, mark: u32) -> bool {
        self.known.wrapping_sub(mark) as i32 >= 0
    }

    /// Requests under way, or things that the server does not know of yet.
    fn is_busy(&self) -> bool {
        self.under_way > 0 || self.known != self.marks
    }

    /// It has become busy: the next beat is not further than a busy one's.
    pub(super) fn quicken(&mut self, now: Now, config: &Config) {
        self.next_ping = self.next_ping.min(now + config.beat_busy_ns);
    }

    /// Whoever slept himself judges later: what he missed may lie in his own socket.
    pub(super) fn forgive(&mut self, now: Now, config: &Config) {
        self.heard = self.heard.max(now.saturating_sub(config.detect_ns / 2));
        self.began = self.began.max(now.saturating_sub(self.patience / 2));
    }

    /// When something must be done about it, in this state.
    pub(super) fn due(&self, up: bool, config: &Config) -> Now {
        if !up {
            return self.began + self.patience;
        }
        match self.silent_at(config) {
            None => self.next_ping,
            // Looked at once for the last time when it would be dead.
            Some(at) if self.looked < at => at.min(self.looked + config.beat_busy_ns),
            Some(_) => self.looked + config.beat_busy_ns,
        }
    }

    /// When it is dead if there is no other sign of it; `None` = it owes no answer.
    ///
    /// A sign is any byte that comes. While the ping is on its way behind our own data, it is a sign as well that this data gets
    /// on. Once the peer's host has the ping, that its host lives says nothing of the peer itself.
    fn silent_at(&self, config: &Config) -> Option<Now> {
        Some(self.ping_sent?.max(self.heard).max(self.moved) + config.detect_ns)
    }

    /// Its stream has come so far.
    pub(super) fn look(&mut self, now: Now, signs: Signs, config: &Config) -> Result<(), Fault> {
        if signs.came > self.signs.came {
            self.heard = now;
        }
        let end = *self.ping_end.get_or_insert(signs.queued);
        if signs.acknowledged > self.signs.acknowledged && self.signs.acknowledged < end {
            self.moved = now;
        }
        // What the system did not say is no step back from which the next would be one ahead.
        self.signs.came = self.signs.came.max(signs.came);
        self.signs.acknowledged = self.signs.acknowledged.max(signs.acknowledged);
        if self.silent_at(config).is_some_and(|at| now >= at) {
            return Err(Fault::Silent { silent_ms: (now - self.heard) / 1_000_000 });
        }
        Ok(())
    }

    /// What time has brought: that the hand-shake is over in vain, that its stream is to be looked at, or a beat to send, after
    /// which it is to be looked at as well.
    pub(super) fn tick(&mut self, now: Now, up: bool, config: &Config) -> Result<Due, Fault> {
        if now < self.due(up, config) {
            return Ok(Due::Nothing);
        }
        if !up {
            return Err(Fault::HandShake);
        }
        self.looked = now;
        if self.ping_sent.is_some() {
            return Ok(Due::Look);
        }
        self.ping_end = None;
        self.ping_sent = Some(now);
        self.pinged = self.marks;
        self.next_ping = if self.is_busy() {
            now + config.beat_busy_ns
        } else {
            // All idle connections of a reactor meet at the same ten moments of a second: it wakes for all of them at once.
            let at = now + config.beat_idle_ns;
            (at - at % config.beat_busy_ns.max(1)).max(now + config.beat_idle_ns / 2)
        };
        Ok(Due::Beat(Ping { seen: self.seen, stamp: now, echo: self.stamp }))
    }
}
