//! Requests: taken, waiting for memory, with a user, answered, confirmed.

use super::event::{Action, Answered, Execute, LaneRef, Place, Waiter};
use super::record::{Copy, Slot, State};
use super::{Lane, Server};
use crate::fault::Fault;
use crate::frame::{Frame, Reply, Request};
use crate::mutant::Mutant;
use crate::{BufId, ConnId, Direction, Now, SlotNo, SlotUse};

impl Slot {
    /// The last use of the slot with this number.
    pub(super) fn at(&self, no: usize) -> SlotUse {
        SlotUse { slot: SlotNo(no as u16), use_no: self.use_no }
    }
}

impl Server {
    /// What to do with the bytes of `request`, whose header came on `conn`. A buffer that is named here is the caller's
    /// from then on: it comes back with the request, or goes free with the connection.
    pub fn place(&mut self, conn: ConnId, request: &Request) -> Place {
        if request.bytes > self.config.limits.data_max {
            // It will be refused: no memory is bound for it first.
            return Place::Drop;
        }
        let crowded = self.waiting().is_some();
        let Some(at) = self.conn(conn).map(|conn| conn.lane) else { return Place::Drop };
        let Some(slot) = self.lane_mut(at).and_then(|lane| lane.slot_mut(request.at)) else {
            return Place::Drop;
        };
        match (slot.sort(request.at.use_no), slot.state) {
            // Its buffer is as large as was asked for first. The request will be refused.
            (Copy::Same, _) if !slot.is_same(request) => Place::Drop,
            (Copy::Same, State::Granted(buf)) => {
                // One stream fills it, even if two copies are on their way.
                if !Mutant::GrantToAll.on() {
                    slot.state = State::Waiting;
                }
                Place::Bound(buf)
            }
            (Copy::Next, _) | (Copy::Same, State::Waiting) => match (request.bytes, crowded) {
                (0, _) => Place::Bare,
                (_, false) => Place::Bind,
                (_, true) => Place::Queue,
            },
            _ => Place::Drop,
        }
    }

    pub(super) fn on_request(
        &mut self,
        id: ConnId,
        request: Request,
        buf: Option<BufId>,
        out: &mut Vec<Action>,
    ) {
        let now = self.now;
        let free = |out: &mut Vec<Action>| out.extend(buf.map(Action::Free));
        let Some(conn) = self.conn_mut(id) else { return free(out) };
        conn.heard = now;
        let at = conn.lane;
        if let Err(fault) = self.confirm(id, request.seen, out).and_then(|()| self.acceptable(at, &request)) {
            free(out);
            return self.drop_conn(id, fault, true, out);
        }
        let conn = self.conn_mut(id).expect("it was there");
        conn.stats.requests += 1;
        conn.stats.bytes_in += u64::from(request.data_len());
        let lane = self.lane_mut(at).expect("a connection has a lane");
        let no = usize::from(request.at.slot.0);
        let slot = &mut lane.slots[no];
        let newer = request.sending.wrapping_sub(slot.sending) as i32 > 0;
        match (slot.sort(request.at.use_no), slot.state) {
            (Copy::Next, last) => {
                if let State::Answered(_, kept) = last {
                    out.push(Action::Release { lane: at, at: slot.at(no), buf: kept });
                }
                slot.begin(id, &request);
                self.go_on(at, request.at.slot, buf, out);
            }
            (Copy::Same, State::Waiting | State::Granted(_)) => {
                if newer {
                    (slot.conn, slot.sending) = (id, request.sending);
                }
                // An older copy brings its data all the same; without, it has nothing to say.
                if newer || buf.is_some() || request.bytes == 0 {
                    self.go_on(at, request.at.slot, buf, out);
                }
            }
            (Copy::Same, State::Executing | State::Answered(..)) if Mutant::ExecuteAgain.on() => {
                slot.state = State::Waiting;
                lane.executing -= u32::from(lane.executing > 0);
                self.go_on(at, request.at.slot, buf, out);
            }
            (Copy::Same, state) if newer || Mutant::AnyCopyAnswered.on() => {
                (slot.conn, slot.sending) = (id, request.sending);
                free(out);
                if let State::Answered(reply, _) = state {
                    self.send_reply(id, reply, out);
                }
            }
            _ => free(out),
        }
    }

    fn acceptable(&self, at: LaneRef, request: &Request) -> Result<(), Fault> {
        let lane = self.lane(at).expect("a connection has a lane");
        let Some(slot) = lane.slot(request.at) else {
            return Err(Fault::Protocol("a slot that there is not"));
        };
        if request.bytes > self.config.limits.data_max || request.user_len > self.config.limits.user_max {
            return Err(Fault::Protocol("a request over the limits"));
        }
        match slot.sort(request.at.use_no) {
            Copy::Broken => return Err(Fault::Protocol("a use of a slot that cannot come now")),
            Copy::Same if !slot.is_same(request) => {
                return Err(Fault::Protocol("a copy of a request that asks for something else"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The client has returned a stamp that was sent at `proved`: its lane's lease holds so long, and what waited for that is executed.
    pub(super) fn renew(&mut self, at: LaneRef, proved: Now, out: &mut Vec<Action>) {
        let (now, lease_ns) = (self.now, self.config.limits.lease_ns);
        let Some(lane) = self.lane_mut(at) else { return };
        lane.lease_until = lane.lease_until.max(proved + lease_ns);
        if now >= lane.lease_until || lane.unleased == 0 || Mutant::NoRenewal.on() {
            return;
        }
        for no in 0..lane.slots.len() {
            let lane = self.lane_mut(at).expect("it was there");
            if let State::Unleased(buf) = lane.slots[no].state {
                lane.unleased -= 1;
                lane.slots[no].state = State::Waiting;
                self.execute(at, SlotNo(no as u16), buf, out);
            }
        }
    }

    /// A use that was not executed and has what it needs: to its user, if the client is known to live.
    fn begin(&mut self, at: LaneRef, no: SlotNo, buf: Option<BufId>, out: &mut Vec<Action>) {
        let now = self.now;
        let lane = self.lane_mut(at).expect("a connection has a lane");
        if now < lane.lease_until || Mutant::NoLease.on() {
            return self.execute(at, no, buf, out);
        }
        lane.slots[usize::from(no.0)].state = State::Unleased(buf);
        lane.unleased += 1;
    }

    /// A use that was not executed: to its user if it has what it needs, else to the queue.
    fn go_on(&mut self, at: LaneRef, no: SlotNo, buf: Option<BufId>, out: &mut Vec<Action>) {
        let lane = self.lane_mut(at).expect("a connection has a lane");
        let slot = &mut lane.slots[usize::from(no.0)];
        let (conn, of) = (slot.conn, slot.at(usize::from(no.0)));
        if let State::Granted(bound) = slot.state {
            if buf.is_none() && slot.direction == Direction::Write {
                // Memory came while this copy's data was read over.
                out.push(Action::Send { conn, frame: Frame::Wait(of) });
                return out.push(Action::Send { conn, frame: Frame::Grant(of) });
            }
            slot.state = State::Waiting;
            if buf.is_none() {
                return self.begin(at, no, Some(bound), out);
            }
            out.push(Action::Free(bound));
        }
        if slot.bytes == 0 || buf.is_some() {
            return self.begin(at, no, buf, out);
        }
        slot.state = State::Waiting;
        let is_write = slot.direction == Direction::Write;
        if !std::mem::replace(&mut slot.queued, true) {
            lane.queue.push_back(no);
            if lane.queue.len() == 1 {
                self.hungry.push_back(at);
            }
        }
        if is_write {
            out.push(Action::Send { conn, frame: Frame::Wait(of) });
        }
    }

    fn execute(&mut self, at: LaneRef, no: SlotNo, buf: Option<BufId>, out: &mut Vec<Action>) {
        let lane = self.lane_mut(at).expect("a connection has a lane");
        let slot = &mut lane.slots[usize::from(no.0)];
        assert!(!matches!(slot.state, State::Executing | State::Answered(..)), "a use is executed once");
        slot.state = State::Executing;
        lane.executing += 1;
        out.push(Action::Execute(Execute {
            lane: at,
            at: slot.at(usize::from(no.0)),
            user: slot.user,
            direction: slot.direction,
            bytes: slot.bytes,
            user_len: slot.user_len,
            buf,
        }));
    }

    /// Whose turn it is to get memory, if anybody waits. Ask again after each [`super::Event::Bound`].
    pub fn waiting(&mut self) -> Option<Waiter> {
        while let Some(&at) = self.hungry.front() {
            let lane = self.lane_mut(at).expect("who waits is there");
            while let Some(&no) = lane.queue.front() {
                let slot = &mut lane.slots[usize::from(no.0)];
                if slot.state == State::Waiting {
                    return Some(Waiter { lane: at, at: slot.at(usize::from(no.0)), bytes: slot.bytes });
                }
                // A later copy found memory at once.
                slot.queued = false;
                lane.queue.pop_front();
            }
            self.hungry.pop_front();
        }
        None
    }

    pub(super) fn on_bound(&mut self, waiter: Waiter, buf: BufId, out: &mut Vec<Action>) {
        if self.waiting() != Some(waiter) {
            return out.push(Action::Free(buf));
        }
        let at = waiter.lane;
        self.hungry.pop_front();
        let lane = self.lane_mut(at).expect("who waits is there");
        lane.queue.pop_front();
        let hungry = !lane.queue.is_empty();
        let slot = &mut lane.slots[usize::from(waiter.at.slot.0)];
        slot.queued = false;
        let (conn, direction) = (slot.conn, slot.direction);
        match direction {
            Direction::Write => slot.state = State::Granted(buf),
            Direction::Read => {}
        }
        if hungry {
            self.hungry.push_back(at);
        }
        match direction {
            Direction::Write if self.conn(conn).is_some() => {
                out.push(Action::Send { conn, frame: Frame::Grant(waiter.at) });
            }
            Direction::Write => {}
            Direction::Read if Mutant::NoLeaseAtBound.on() => {
                self.execute(at, waiter.at.slot, Some(buf), out);
            }
            Direction::Read => self.begin(at, waiter.at.slot, Some(buf), out),
        }
    }

    pub(super) fn on_answer(&mut self, answered: Answered, out: &mut Vec<Action>) {
        let Answered { lane: at, at: slot_use, result, bytes, user_len, buf } = answered;
        if Mutant::NoDrain.on() && self.lane(at).is_none() {
            return out.extend(buf.map(Action::Free));
        }
        let lane = self.lane_mut(at).expect("a life with requests at users is kept");
        lane.executing -= 1;
        let draining = lane.draining;
        let slot = &mut lane.slots[usize::from(slot_use.slot.0)];
        assert_eq!(
            (slot.state, slot.use_no),
            (State::Executing, slot_use.use_no),
            "an answer to what is executed"
        );
        let room = if slot.direction == Direction::Read { slot.bytes } else { 0 };
        assert!(bytes <= room, "an answer of {bytes} bytes to a request for {room}");
        if draining {
            slot.state = State::Done;
            out.push(Action::Release { lane: at, at: slot_use, buf });
            return self.forget_drained(at);
        }
        let reply = Reply { at: slot_use, result, bytes, user_len };
        slot.state = State::Answered(reply, buf);
        if Mutant::ReleaseWhenSent.on() {
            slot.state = State::Done;
            out.push(Action::Release { lane: at, at: slot_use, buf });
        }
        let conn = slot.conn;
        if self.conn(conn).is_some() {
            self.send_reply(conn, reply, out);
        }
    }

    fn send_reply(&mut self, id: ConnId, reply: Reply, out: &mut Vec<Action>) {
        let depth = usize::from(self.config.limits.depth);
        let conn = self.conn_mut(id).expect("a connection that is there");
        if conn.unconfirmed.len() >= depth {
            // Only a client that asks for the same answer again and again gets here.
            return self.drop_conn(
                id,
                Fault::Protocol("more answers asked for than there are slots"),
                true,
                out,
            );
        }
        conn.unconfirmed.push(reply.at);
        conn.stats.answers += 1;
        conn.stats.bytes_out += u64::from(reply.bytes);
        out.push(Action::Reply { conn: id, lane: conn.lane, reply });
    }

    /// The client has the answer of this use, from a connection that is gone.
    pub(super) fn on_seen(&mut self, id: ConnId, at: SlotUse, out: &mut Vec<Action>) {
        let of = self.conn(id).expect("a connection that is there").lane;
        let lane = self.lane_mut(of).expect("a connection has a lane");
        match lane.slot_mut(at).map(|slot| (slot.use_no == at.use_no, slot)) {
            Some((true, slot)) => {
                if let State::Answered(_, buf) = slot.state {
                    slot.state = State::Done;
                    out.push(Action::Release { lane: of, at, buf });
                }
            }
            Some((false, slot)) if slot.sort(at.use_no) == Copy::Old => {}
            _ => self.drop_conn(id, Fault::Protocol("an answer seen that was never given"), true, out),
        }
    }

    /// The client has `seen` answers on this connection: what was kept of them is let go.
    pub(super) fn confirm(&mut self, id: ConnId, seen: u32, out: &mut Vec<Action>) -> Result<(), Fault> {
        let conn = self.conns[id.0 as u32 as usize].as_mut().expect("a connection that is there");
        let lane = self.lanes[conn.lane.at as usize].1.as_mut().expect("a connection has a lane");
        let Some(news) = conn.unconfirmed.news(seen) else {
            return Err(Fault::Protocol("more answers confirmed than were sent"));
        };
        for _ in 0..news {
            let Some(at) = conn.unconfirmed.pop() else { break };
            let slot = &mut lane.slots[usize::from(at.slot.0)];
            if let (State::Answered(_, buf), true) = (slot.state, slot.use_no == at.use_no) {
                slot.state = State::Done;
                out.push(Action::Release { lane: conn.lane, at, buf });
            }
        }
        Ok(())
    }
}

impl Lane {
    fn slot(&self, at: SlotUse) -> Option<&Slot> {
        self.slots.get(usize::from(at.slot.0))
    }

    fn slot_mut(&mut self, at: SlotUse) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(at.slot.0))
    }
}

impl Slot {
    /// A new use begins with this request.
    fn begin(&mut self, conn: ConnId, request: &Request) {
        *self = Self {
            use_no: request.at.use_no,
            sending: request.sending,
            conn,
            state: State::Waiting,
            queued: self.queued,
            user: request.user,
            direction: request.direction,
            bytes: request.bytes,
            user_len: request.user_len,
        };
    }
}
