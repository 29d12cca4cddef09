//! Paths coming and going, and the life that hangs on them.

use super::event::{Action, Link, PathState};
use super::path::Due;
use super::{Client, Living};
use crate::fault::{Death, Fault};
use crate::frame::{Bye, Challenge, Frame, Hand, Refuse, RefuseCause, VERSION, Welcome};
use crate::mutant::Mutant;
use crate::{ConnId, Incarnation, Life, Now, PathNo};

impl Client {
    pub(super) fn on_connected(&mut self, conn: ConnId, nonce: [u8; 32], out: &mut Vec<Action>) {
        let incarnation = Incarnation(self.incarnation);
        let no = usize::from(conn.0 as u16);
        let Some(path) = self.paths.get_mut(no).and_then(Option::as_mut) else { return };
        if path.current(conn).is_none() {
            return;
        }
        let Some(hello) = path.greet(nonce, &self.config, &self.key, incarnation) else { return };
        out.push(Action::Path(path.go(PathState::Greeting)));
        out.push(Action::Send { conn, frame: Frame::Hand(Box::new(Hand::Hello(hello))) });
    }

    pub(super) fn on_challenge(
        &mut self,
        no: PathNo,
        challenge: Challenge,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let life = self.living.map(|living| living.life);
        let path = self.paths[usize::from(no.0)].as_mut().expect("a path that is there");
        if path.state != PathState::Greeting {
            return Err(Fault::Protocol("a challenge out of turn"));
        }
        if challenge.version != VERSION {
            return Err(Fault::Version { version: challenge.version });
        }
        if self.config.digest && !challenge.digest {
            return Err(Fault::Protocol("the server left data digests out, which were asked for"));
        }
        if self.peer.is_some_and(|peer| peer != challenge.host) {
            return Err(Fault::WrongHost);
        }
        let Some(proof) = path.prove(challenge, &self.key, life) else {
            return Err(Fault::Protocol("a challenge out of turn"));
        };
        let conn = path.conn.as_ref().expect("it proves something").id;
        out.push(Action::Path(path.go(PathState::Proving)));
        out.push(Action::Send { conn, frame: Frame::Hand(Box::new(Hand::Proof(proof))) });
        // The proof may renew the lease from this stamp on.
        self.stamped();
        Ok(())
    }

    pub(super) fn on_welcome(
        &mut self,
        no: PathNo,
        welcome: Welcome,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let now = self.now;
        let path = self.paths[usize::from(no.0)].as_mut().expect("a path that is there");
        let Some(transcript) = path.transcript().filter(|_| path.state == PathState::Proving) else {
            return Err(Fault::Protocol("a welcome out of turn"));
        };
        if !crate::hand::same(&transcript.welcome_mac(&self.key, welcome), &welcome.mac) {
            return Err(Fault::Proof);
        }
        let host = transcript.server_host();
        match self.living {
            Some(living) if living.life != welcome.life && !Mutant::AnyLife.on() => {
                self.die(Death::OtherLife, Some(no), out);
                return Ok(());
            }
            Some(living) if living.limits != welcome.limits => {
                return Err(Fault::Protocol("the server changed its limits within a life"));
            }
            _ => {}
        }
        out.push(Action::Path(path.rise(now, welcome.stamp)));
        self.peer = Some(host);
        match &mut self.living {
            None => self.begin_life(welcome, out),
            Some(living) => {
                let was_stalled = living.stalled.take().is_some();
                if was_stalled && !living.ending {
                    out.push(Action::Link(Link::Resumed));
                }
                if was_stalled {
                    self.encourage();
                }
                if self.living.is_some_and(|living| living.ending) {
                    let conn = self.path(no).conn.as_ref().expect("an up path is connected").id;
                    out.push(super::goodbye(conn));
                }
            }
        }
        self.stamped();
        self.unpark(out);
        Ok(())
    }

    /// A path is up where there was none: what kept the others down may be over as well.
    fn encourage(&mut self) {
        let now = self.now;
        for path in self.paths.iter_mut().flatten() {
            if !matches!(path.state, PathState::Waiting { fault: Some(fault), .. } if fault.lasting()) {
                path.hurry(now);
            }
        }
    }

    fn begin_life(&mut self, welcome: Welcome, out: &mut Vec<Action>) {
        let (life, limits) = (welcome.life, welcome.limits);
        self.living = Some(Living { life, limits, stamped: self.now, stalled: None, ending: false });
        self.permits.reset(limits.depth);
        self.begin_slots(limits.depth);
        let host = self.peer.expect("proved by the welcome");
        out.push(Action::Link(Link::Up { life, host, limits }));
    }

    pub(super) fn on_refuse(
        &mut self,
        no: PathNo,
        refuse: Refuse,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let path = self.path(no);
        let fault = Fault::Refused(refuse.why);
        let Some(transcript) = path.transcript() else { return Err(fault) };
        let mac = transcript.clone().refuse_mac(&self.key, refuse.why);
        if !crate::hand::same(&mac, &refuse.mac) {
            // It has no part in the key, or does not know ours: nothing it says ends a life.
            return Err(if refuse.why == RefuseCause::Key { fault } else { Fault::Proof });
        }
        if refuse.why == RefuseCause::Unknown && self.living.is_some() {
            self.die(Death::Forgotten, Some(no), out);
            return Ok(());
        }
        Err(fault)
    }

    /// A stamp of the server came.
    pub(super) fn stamped(&mut self) {
        if let Some(living) = &mut self.living {
            living.stamped = self.now;
        }
    }

    /// Closes a connection from this side.
    pub(super) fn hang_up(&mut self, no: PathNo, fault: Fault, out: &mut Vec<Action>) {
        let path = self.path(no);
        let Some(conn) = path.conn.as_ref().map(|conn| conn.id) else { return };
        if let (Some(why), true) = (fault.bye(), path.is_up()) {
            out.push(Action::Send { conn, frame: Frame::Bye(Bye { life: false, why }) });
        }
        out.push(Action::Close { conn, fault });
        self.fall(no, fault, out);
    }

    /// A path's connection is gone: what was under way on it goes to the others.
    pub(super) fn fall(&mut self, no: PathNo, fault: Fault, out: &mut Vec<Action>) {
        let now = self.now;
        self.forget_told(no);
        let others = self.ups().any(|path| path.no != no);
        let urgent = self.living.is_some() && !others;
        let path = self.paths[usize::from(no.0)].as_mut().expect("a path that is there");
        let was_up = path.is_up();
        out.push(Action::Path(path.fall(now, fault, urgent, &self.config)));
        if !was_up {
            return;
        }
        if self.ups().next().is_none()
            && let Some(living) = &mut self.living
        {
            living.stalled = Some((now, fault));
            out.push(Action::Link(Link::Stalled { fault }));
            self.paths.iter_mut().flatten().for_each(|path| path.press(now, &self.config));
        }
        self.resend(no, out);
    }

    /// The life is over. `told_by`: the path on which that was learnt.
    pub(super) fn die(&mut self, why: Death, told_by: Option<PathNo>, out: &mut Vec<Action>) {
        if self.living.take().is_none() {
            return;
        }
        self.incarnation += 1;
        let now = self.now;
        for path in self.paths.iter_mut().flatten() {
            if let Some(conn) = &path.conn {
                out.push(Action::Close { conn: conn.id, fault: Fault::LifeOver });
                out.push(Action::Path(path.fall(now, Fault::LifeOver, false, &self.config)));
            }
            if Some(path.no) == told_by {
                path.hurry(now);
            }
        }
        self.fail_all(out);
        self.permits.reset(0);
        out.push(Action::Link(Link::Dead { why }));
        if self.retired {
            self.drop_paths(out);
        }
    }

    /// No path is connected any more.
    pub(super) fn drop_paths(&mut self, out: &mut Vec<Action>) {
        for at in 0..self.paths.len() {
            if self.paths[at].is_some() {
                self.hang_up(PathNo(at as u16), Fault::Command, out);
                self.paths[at] = None;
            }
        }
    }

    /// When [`super::Event::Tick`] is wanted next; `None` = not before something else happens.
    pub fn next_timeout(&self) -> Option<Now> {
        let paths = self.paths.iter().flatten().map(|path| match (&path.state, &path.conn) {
            (PathState::Waiting { until, .. }, _) => *until,
            (_, Some(conn)) => conn.due(path.is_up(), &self.config),
            (_, None) => Now::MAX,
        });
        paths.chain(self.dies_at()).min()
    }

    /// When a stalled life ends: when no request of it can be executed any more, and not before paths had a chance.
    fn dies_at(&self) -> Option<Now> {
        let living = self.living?;
        let (since, _) = living.stalled?;
        if Mutant::DeadEarly.on() {
            return Some(since + self.config.detect_ns);
        }
        let lease = living.limits.lease_ns;
        Some((living.stamped + lease + lease / 2).max(since + 2 * self.config.hand_ns))
    }

    pub(super) fn on_tick(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let late = self.next_timeout().is_some_and(|due| now.saturating_sub(due) > self.config.detect_ns / 4);
        if let (Some(at), Some(Living { stamped, stalled: Some((_, last)), .. })) =
            (self.dies_at(), self.living)
            && now >= at
        {
            let silent_ms = (now - stamped) / 1_000_000;
            self.die(Death::Unreachable { silent_ms, last }, None, out);
        }
        let urgent = self.living.is_some_and(|living| living.stalled.is_some());
        for at in 0..self.paths.len() {
            let Some(path) = &mut self.paths[at] else { continue };
            let up = path.is_up();
            if let PathState::Waiting { until, .. } = path.state {
                if now >= until {
                    self.conns += 1;
                    let (conn, change) = path.dial(now, self.conns, urgent, &self.config);
                    out.push(Action::Path(change));
                    out.push(Action::Connect { conn, path: change.path });
                }
                continue;
            }
            let (no, Some(conn)) = (path.no, &mut path.conn) else { continue };
            if late {
                conn.forgive(now, &self.config);
            }
            match conn.tick(now, up, &self.config) {
                Ok(Due::Nothing) => {}
                Ok(Due::Look) => out.push(Action::Look { conn: conn.id }),
                Ok(Due::Beat(ping)) => {
                    out.push(Action::Send { conn: conn.id, frame: Frame::Ping(ping) });
                    out.push(Action::Look { conn: conn.id });
                }
                Err(fault) => self.hang_up(no, fault, out),
            }
        }
    }

    /// The life that a permit or request must belong to.
    pub(super) fn is_life(&self, life: Life) -> bool {
        self.living.is_some_and(|living| living.life == life)
    }
}
