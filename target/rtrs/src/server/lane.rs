//! Lanes: joined, begun, left, ended.

use super::event::{Action, Admission, LaneRef, Link, ServedStats};
use super::record::{Slot, State, Unconfirmed};
use super::{Conn, Lane, Server};
use crate::fault::{Death, Fault};
use crate::frame::{Bye, ByeCause, Frame, Hand, Refuse, RefuseCause, Welcome};
use crate::mutant::Mutant;
use crate::{ConnId, Life};
use std::collections::VecDeque;

impl Server {
    pub(super) fn on_admit(&mut self, conn: ConnId, admission: &Admission, out: &mut Vec<Action>) {
        let result = self.lane_for(admission, out).and_then(|lane| {
            self.seat(conn, lane, admission, out)?;
            Ok(lane)
        });
        match result {
            Ok(lane) => {
                let life = self.lane(lane).expect("just joined").life;
                let limits = self.config.limits;
                let welcome = Welcome { life, stamp: self.now, limits, mac: [0; 32] };
                let mac = admission.transcript.welcome_mac(&admission.key, welcome);
                let hand = Hand::Welcome(Welcome { mac, ..welcome });
                out.push(Action::Send { conn, frame: Frame::Hand(Box::new(hand)) });
            }
            Err(fault) => {
                if let Fault::Refused(why) = fault {
                    let mac = admission.transcript.refuse_mac(&admission.key, why);
                    let hand = Hand::Refuse(Refuse { why, mac });
                    out.push(Action::Send { conn, frame: Frame::Hand(Box::new(hand)) });
                }
                out.push(Action::Close { conn, fault });
            }
        }
    }

    /// The life that a connection is to join, begun if that is asked for.
    fn lane_for(&mut self, admission: &Admission, out: &mut Vec<Action>) -> Result<LaneRef, Fault> {
        let (hello, wanted) = (&admission.hello, admission.proof.life);
        let refused = |why| Err(Fault::Refused(why));
        if self.now > admission.challenge.stamp + self.config.limits.lease_ns {
            // It lay somewhere: who sent it may be gone.
            return Err(Fault::HandShake);
        }
        let name = (hello.session, hello.lane);
        if let Some(&at) = self.by_name.get(&name) {
            let lane = self.lane(at).expect("a lane that is named is there");
            if lane.host != hello.host || hello.incarnation < lane.incarnation {
                return refused(RefuseCause::Stale);
            }
            if lane.draining {
                return refused(if wanted.is_none() { RefuseCause::Draining } else { RefuseCause::Unknown });
            }
            if hello.incarnation > lane.incarnation {
                if wanted.is_some() {
                    return refused(RefuseCause::Unknown);
                }
                self.end_life(at, Death::Replaced, out);
            } else if wanted.is_some_and(|life| life != lane.life) {
                return refused(RefuseCause::Unknown);
            } else {
                return Ok(at);
            }
        }
        if self.by_name.contains_key(&name) {
            return refused(RefuseCause::Draining);
        }
        if wanted.is_some() {
            return refused(RefuseCause::Unknown);
        }
        if self.by_name.len() >= self.config.lanes_max {
            return refused(RefuseCause::Busy);
        }
        Ok(self.begin_life(admission, out))
    }

    fn begin_life(&mut self, admission: &Admission, out: &mut Vec<Action>) -> LaneRef {
        let hello = &admission.hello;
        // Drawn at random for this connection, so no other life has it.
        let mut drawn = [0; 8];
        drawn.copy_from_slice(&admission.challenge.nonce[..8]);
        let life = Life(u64::from_le_bytes(drawn).max(1));
        let depth = usize::from(self.config.limits.depth);
        let lane = Lane {
            session: hello.session,
            number: hello.lane,
            host: hello.host,
            incarnation: hello.incarnation,
            life,
            draining: false,
            slots: vec![Slot::NEW; depth],
            conns: Vec::with_capacity(self.config.paths_max.min(8)),
            gone: ServedStats::default(),
            executing: 0,
            unleased: 0,
            lease_until: 0,
            alone_since: self.now,
            queue: VecDeque::with_capacity(depth),
        };
        let at = self.lanes.iter().position(|(_, lane)| lane.is_none()).unwrap_or_else(|| {
            self.lanes.push((0, None));
            self.lanes.len() - 1
        });
        let place = &mut self.lanes[at];
        place.0 = place.0.wrapping_add(1);
        place.1 = Some(lane);
        let at = LaneRef { at: at as u32, turn: place.0 };
        self.by_name.insert((hello.session, hello.lane), at);
        // Room for every lane, so that waiting for memory allocates nothing.
        self.hungry.reserve(self.by_name.len());
        let (session, number, host) = (hello.session, hello.lane, hello.host);
        out.push(Action::Link(Link::Up { lane: at, session, number, host, life }));
        at
    }

    /// Gives a connection its place in a lane.
    fn seat(
        &mut self,
        id: ConnId,
        at: LaneRef,
        admission: &Admission,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let (path, number) = (admission.hello.path, admission.hello.connection);
        let lane = self.lane(at).expect("a lane that is joined is there");
        let rival =
            lane.conns.iter().copied().find(|&id| self.conn(id).is_some_and(|conn| conn.path == path));
        if let Some(rival) = rival {
            if self.conn(rival).is_some_and(|conn| conn.number >= number) {
                return Err(Fault::Refused(RefuseCause::Stale));
            }
            self.drop_conn(rival, Fault::Replaced, true, out);
        }
        let (paths_max, now) = (self.config.paths_max, self.now);
        let lane = self.lane_mut(at).expect("a lane that is joined is there");
        if lane.conns.len() >= paths_max {
            return Err(Fault::Refused(RefuseCause::WrongLane));
        }
        lane.conns.push(id);
        let place = id.0 as u32 as usize;
        if self.conns.len() <= place {
            self.conns.resize_with(place + 1, || None);
        }
        assert!(self.conns[place].is_none(), "connection {id:?} has the place of another");
        let unconfirmed = Unconfirmed::new(self.config.limits.depth);
        let stats = ServedStats::default();
        self.conns[place] = Some(Conn { id, lane: at, path, number, heard: now, unconfirmed, stats });
        self.renew(at, admission.challenge.stamp, out);
        Ok(())
    }

    /// A connection is over; `close` if it is to be closed from here.
    pub(super) fn drop_conn(&mut self, id: ConnId, fault: Fault, close: bool, out: &mut Vec<Action>) {
        let now = self.now;
        let Some((lane, stats)) = self.conn(id).map(|conn| (conn.lane, conn.stats)) else { return };
        self.conns[id.0 as u32 as usize] = None;
        if let Some(lane) = self.lane_mut(lane) {
            lane.gone.add(stats);
            lane.conns.retain(|&other| other != id);
            lane.alone_since = now;
        }
        if close {
            if let Some(why) = fault.bye() {
                out.push(Action::Send { conn: id, frame: Frame::Bye(Bye { life: false, why }) });
            }
            out.push(Action::Close { conn: id, fault });
        }
    }

    /// Nothing of this life is executed from here on. It stays known while users have requests of it.
    pub(super) fn end_life(&mut self, at: LaneRef, why: Death, out: &mut Vec<Action>) {
        let Some(lane) = self.lane_mut(at).filter(|lane| !lane.draining) else { return };
        (lane.draining, lane.unleased) = (true, 0);
        lane.queue.clear();
        let conns = std::mem::take(&mut lane.conns);
        for (no, slot) in lane.slots.iter_mut().enumerate() {
            let buf = match slot.state {
                State::Done | State::Executing => continue,
                State::Waiting => None,
                State::Granted(buf) => Some(buf),
                State::Answered(_, buf) | State::Unleased(buf) => buf,
            };
            slot.state = State::Done;
            out.push(Action::Release { lane: at, at: slot.at(no), buf });
        }
        for conn in conns {
            if why == Death::Command {
                let bye = Bye { life: true, why: ByeCause::Command };
                out.push(Action::Send { conn, frame: Frame::Bye(bye) });
            }
            self.drop_conn(conn, Fault::LifeOver, true, out);
        }
        self.hungry.retain(|&other| other != at);
        out.push(Action::Link(Link::Down { lane: at, why }));
        self.forget_drained(at);
    }

    /// Forgets a life that is over and of which nobody has anything.
    pub(super) fn forget_drained(&mut self, at: LaneRef) {
        let Some(lane) =
            self.lane(at).filter(|lane| lane.draining && (lane.executing == 0 || Mutant::NoDrain.on()))
        else {
            return;
        };
        self.by_name.remove(&(lane.session, lane.number));
        self.lanes[at.at as usize].1 = None;
    }

    pub(super) fn on_tick(&mut self, out: &mut Vec<Action>) {
        let (now, config) = (self.now, &self.config);
        let (lease, keep, tick) = (config.limits.lease_ns, config.keep_ns, config.tick_ns);
        // Whoever slept himself judges later: what he missed may lie in his own sockets.
        let slept = now.saturating_sub(self.ticked).saturating_sub(tick) > lease / 4;
        self.ticked = now;
        for place in 0..self.conns.len() {
            let Some(conn) = &mut self.conns[place] else { continue };
            if slept {
                conn.heard = conn.heard.max(now.saturating_sub(lease / 2));
            }
            let silent = now.saturating_sub(conn.heard);
            if silent >= lease {
                let (id, fault) = (conn.id, Fault::Silent { silent_ms: silent / 1_000_000 });
                self.drop_conn(id, fault, true, out);
            }
        }
        for place in 0..self.lanes.len() {
            let (turn, Some(lane)) = &self.lanes[place] else { continue };
            let away = now.saturating_sub(lane.alone_since);
            if !lane.draining && lane.conns.is_empty() && away >= keep {
                let (at, why) =
                    (LaneRef { at: place as u32, turn: *turn }, Death::Away { away_ms: away / 1_000_000 });
                self.end_life(at, why, out);
            }
        }
    }
}

impl Lane {
    pub(super) fn check(&self) {
        let executing = self.slots.iter().filter(|slot| slot.state == State::Executing).count();
        assert_eq!(executing, self.executing as usize, "requests with users");
        let unleased = self.slots.iter().filter(|slot| matches!(slot.state, State::Unleased(_))).count();
        assert_eq!(unleased, self.unleased as usize, "requests that wait for the lease");
        let queued = self.slots.iter().filter(|slot| slot.queued).count();
        assert!(self.draining || queued == self.queue.len(), "who waits stands in the queue once");
    }
}
