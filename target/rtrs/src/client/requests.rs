//! Requests: on their way out, under way, lost and sent again, answered.

use super::event::{Action, Answer, Ask, Permit, SessionDead, SubmitError, Tag, UserNo};
use super::{Client, Policy};
use crate::fault::Fault;
use crate::frame::{Frame, Reply, Request};
use crate::mutant::Mutant;
use crate::{ConnId, Direction, PathNo, SlotNo, SlotUse, UserId};

/// Where a slot stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nobody's, or the permit is with its user.
    Free,
    /// Its request waits for a path.
    Parked,
    /// Its request was sent there.
    Sent(PathNo),
    /// And the server has no memory for its data yet.
    NoMemory(PathNo),
}

/// One slot of the life.
pub(super) struct Slot {
    state: State,
    use_no: u32,
    sending: u32,
    user: UserNo,
    id: UserId,
    ask: Ask,
    told: Told,
}

/// Bytes that a lane keeps for each slot.
pub const SLOT_BYTES: usize = size_of::<Slot>();
// A lane of 256 slots without requests stays below 32 KiB.
const _: () = assert!(SLOT_BYTES * 256 <= 32 << 10);

/// Does the server know that the answer of a slot's last use was received?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    /// It does, or a new use will say so.
    Known,
    /// It was told on this connection, as thing number so.
    On(ConnId, u32),
    /// It is to be told when a path is up.
    Not,
}

/// What may come back for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The caller's name for it.
    pub tag: Tag,
    /// Most bytes of data; 0 for a write.
    pub bytes: u32,
}

impl Slot {
    fn new() -> Self {
        let ask = Ask { tag: 0, direction: Direction::Read, bytes: 0, user_len: 0 };
        Self {
            state: State::Free,
            use_no: 0,
            sending: 0,
            user: UserNo(0),
            id: UserId(0),
            ask,
            told: Told::Known,
        }
    }
}

impl Client {
    pub(super) fn begin_slots(&mut self, depth: u16) {
        self.slots.clear();
        self.slots.extend((0..depth).map(|_| Slot::new()));
        self.parked = 0;
    }

    /// A permit for `user`, now; `None` = it is handed one by [`Action::Permit`] in its turn.
    ///
    /// # Errors
    /// [`SubmitError::Dead`] if there is no life.
    pub fn permit(&mut self, user: UserNo) -> Result<Option<Permit>, SubmitError> {
        let (life, _) = self.life().ok_or(SubmitError::Dead)?;
        Ok(self.permits.take(user).map(|slot| Permit { slot, user, life }))
    }

    /// Gives a permit back that is not needed.
    pub fn give_back(&mut self, permit: Permit, out: &mut Vec<Action>) {
        if self.is_life(permit.life) {
            self.permits.release(permit.user, permit.slot);
            self.hand_on(out);
        }
    }

    /// Sends a request, or keeps it until a path is up.
    ///
    /// # Errors
    /// If it is not taken, with the permit.
    pub fn submit(
        &mut self,
        now: u64,
        permit: Permit,
        ask: Ask,
        out: &mut Vec<Action>,
    ) -> Result<SlotUse, (Permit, SubmitError)> {
        self.now = self.now.max(now);
        if let Err(error) = self.acceptable(&permit, &ask) {
            return Err((permit, error));
        }
        let id = self.permits.id(permit.user);
        let slot = &mut self.slots[usize::from(permit.slot.0)];
        assert_eq!(slot.state, State::Free, "slot {:?} has a request already", permit.slot);
        slot.use_no = slot.use_no.wrapping_add(1);
        (slot.sending, slot.user, slot.id, slot.ask, slot.told) = (0, permit.user, id, ask, Told::Known);
        let at = SlotUse { slot: permit.slot, use_no: slot.use_no };
        self.send(permit.slot, out);
        Ok(at)
    }

    fn acceptable(&self, permit: &Permit, ask: &Ask) -> Result<(), SubmitError> {
        let (_, limits) = self.life().filter(|(life, _)| *life == permit.life).ok_or(SubmitError::Dead)?;
        let (data_max, user_max) = (limits.data_max, limits.user_max);
        if ask.bytes > data_max {
            return Err(SubmitError::TooLarge { what: "data", got: ask.bytes, max: data_max });
        }
        if ask.user_len > user_max {
            let (got, max) = (u32::from(ask.user_len), u32::from(user_max));
            return Err(SubmitError::TooLarge { what: "user header", got, max });
        }
        Ok(())
    }

    /// Sends the request of `slot` on the path that is best for it now; parks it if there is none.
    fn send(&mut self, no: SlotNo, out: &mut Vec<Action>) {
        match self.choose() {
            Some(path) => self.send_on(no, path, out),
            None => {
                self.slots[usize::from(no.0)].state = State::Parked;
                self.parked += 1;
            }
        }
    }

    fn send_on(&mut self, no: SlotNo, to: PathNo, out: &mut Vec<Action>) {
        let now = self.now;
        let slot = &mut self.slots[usize::from(no.0)];
        let path = self.paths[usize::from(to.0)].as_mut().expect("a path that was chosen");
        let conn = path.conn.as_mut().expect("an up path is connected");
        let again = slot.sending > 0;
        slot.state = State::Sent(to);
        slot.sending += 1;
        let request = Request {
            at: SlotUse { slot: no, use_no: slot.use_no },
            sending: if Mutant::SameSending.on() { 1 } else { slot.sending },
            user: slot.id,
            direction: slot.ask.direction,
            bytes: slot.ask.bytes,
            user_len: slot.ask.user_len,
            seen: conn.seen,
        };
        conn.under_way += 1;
        conn.quicken(now, &self.config);
        path.stats.requests += 1;
        path.stats.resends += u64::from(again);
        path.stats.bytes_out += u64::from(request.data_len());
        out.push(Action::Send { conn: conn.id, frame: Frame::Request(request) });
    }

    fn choose(&mut self) -> Option<PathNo> {
        // Nothing is sent in a life that is to end.
        self.life()?;
        let count = self.paths.len();
        let mut best: Option<(u64, PathNo)> = None;
        // From the cursor on, so that equals take turns.
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some(path) = self.paths[at].as_ref().filter(|path| path.is_up()) else { continue };
            let weight = match self.config.policy {
                Policy::RoundRobin => 0,
                Policy::MinInflight => path.conn.as_ref().map_or(0, |conn| u64::from(conn.under_way)),
                Policy::MinLatency => path.stats.round_trip_ns,
            };
            if best.is_none_or(|(least, _)| weight < least) {
                best = Some((weight, path.no));
            }
        }
        let (_, no) = best?;
        self.turn = usize::from(no.0) + 1;
        Some(no)
    }

    /// A path is up: what waited for one goes.
    pub(super) fn unpark(&mut self, out: &mut Vec<Action>) {
        if self.life().is_none() {
            return;
        }
        self.tell(out);
        for at in 0..self.slots.len() {
            if self.parked == 0 || Mutant::NoUnpark.on() {
                return;
            }
            if self.slots[at].state == State::Parked {
                self.parked -= 1;
                self.send(SlotNo(at as u16), out);
            }
        }
    }

    /// Tells the server of answers received of which it may not know.
    fn tell(&mut self, out: &mut Vec<Action>) {
        for no in 0..self.slots.len() {
            if self.slots[no].told != Told::Not {
                continue;
            }
            let Some(path) = self.choose() else { return };
            let (now, slot) = (self.now, &mut self.slots[no]);
            let path = self.paths[usize::from(path.0)].as_mut().expect("a path that was chosen");
            let conn = path.conn.as_mut().expect("an up path is connected");
            slot.told = Told::On(conn.id, conn.mark());
            conn.quicken(now, &self.config);
            let at = SlotUse { slot: SlotNo(no as u16), use_no: slot.use_no };
            out.push(Action::Send { conn: conn.id, frame: Frame::Seen(at) });
        }
    }

    /// What a connection that falls may have told in vain.
    pub(super) fn forget_told(&mut self, no: PathNo) {
        let Some(conn) = self.paths[usize::from(no.0)].as_ref().and_then(|path| path.conn.as_ref()) else {
            return;
        };
        for slot in &mut self.slots {
            if let Told::On(id, mark) = slot.told
                && id == conn.id
            {
                slot.told = if conn.knows(mark) || Mutant::NoSeen.on() { Told::Known } else { Told::Not };
            }
        }
    }

    /// A path has fallen: what was under way on it goes elsewhere.
    pub(super) fn resend(&mut self, fallen: PathNo, out: &mut Vec<Action>) {
        self.tell(out);
        for at in 0..self.slots.len() {
            if matches!(self.slots[at].state, State::Sent(path) | State::NoMemory(path) if path == fallen) {
                self.send(SlotNo(at as u16), out);
            }
        }
    }

    /// What may come back for this use of a slot on this connection; `None` = nothing, and an answer breaks the protocol.
    pub fn expected(&self, conn: ConnId, at: SlotUse) -> Option<Expected> {
        let path = self.paths.get(conn.0 as usize & 0xffff)?.as_ref()?;
        path.conn.as_ref().filter(|current| current.id == conn)?;
        let slot = self.slots.get(usize::from(at.slot.0))?;
        let here = matches!(slot.state, State::Sent(no) | State::NoMemory(no) if no == path.no);
        let bytes = if slot.ask.direction == Direction::Read { slot.ask.bytes } else { 0 };
        (here && slot.use_no == at.use_no).then_some(Expected { tag: slot.ask.tag, bytes })
    }

    pub(super) fn on_reply(
        &mut self,
        conn: ConnId,
        reply: Reply,
        out: &mut Vec<Action>,
    ) -> Result<(), Fault> {
        let Some(expected) = self.expected(conn, reply.at) else {
            return Err(Fault::Protocol("an answer to what was not asked"));
        };
        if reply.bytes > expected.bytes {
            return Err(Fault::Protocol("an answer with more data than was asked for"));
        }
        let (now, config) = (self.now, &self.config);
        let path = self.paths[conn.0 as usize & 0xffff].as_mut().expect("an answer was expected there");
        path.stats.answers += 1;
        path.stats.bytes_in += u64::from(reply.bytes);
        let conn = path.conn.as_mut().expect("an answer was expected there");
        conn.seen = conn.seen.wrapping_add(1);
        conn.under_way -= 1;
        conn.quicken(now, config);
        let slot = &mut self.slots[usize::from(reply.at.slot.0)];
        slot.state = State::Free;
        slot.told = Told::On(conn.id, conn.mark());
        let (tag, user) = (slot.ask.tag, slot.user);
        let answer = Answer { result: reply.result, bytes: reply.bytes, user_len: reply.user_len };
        out.push(Action::Complete { tag, at: reply.at, result: Ok(answer) });
        self.permits.release(user, reply.at.slot);
        self.hand_on(out);
        Ok(())
    }

    pub(super) fn on_wait(&mut self, conn: ConnId, at: SlotUse) -> Result<(), Fault> {
        let here = self.expected(conn, at).is_some();
        let slot = self
            .slots
            .get_mut(usize::from(at.slot.0))
            .filter(|slot| here && slot.ask.direction == Direction::Write);
        match slot.map(|slot| &mut slot.state) {
            Some(state @ State::Sent(_)) => {
                *state = State::NoMemory(PathNo(conn.0 as u16));
                Ok(())
            }
            _ => Err(Fault::Protocol("a wait for what was not asked")),
        }
    }

    pub(super) fn on_grant(&mut self, conn: ConnId, at: SlotUse, out: &mut Vec<Action>) -> Result<(), Fault> {
        let no = PathNo(conn.0 as u16);
        let here = self.expected(conn, at).is_some();
        if !here || self.slots[usize::from(at.slot.0)].state != State::NoMemory(no) {
            return Err(Fault::Protocol("a grant for what does not wait"));
        }
        if self.life().is_none() {
            return Ok(());
        }
        if let Some(conn) = &mut self.path(no).conn {
            // It is not under way twice.
            conn.under_way -= 1;
        }
        self.send_on(at.slot, no, out);
        Ok(())
    }

    /// Free slots to those that wait for them.
    fn hand_on(&mut self, out: &mut Vec<Action>) {
        let Some((life, _)) = self.life() else { return };
        while let Some((user, slot)) = self.permits.next() {
            out.push(Action::Permit { user, permit: Permit { slot, user, life } });
        }
    }

    /// The life is over: no request of it is answered any more.
    pub(super) fn fail_all(&mut self, out: &mut Vec<Action>) {
        for (no, slot) in self.slots.drain(..).enumerate() {
            if slot.state != State::Free {
                let at = SlotUse { slot: SlotNo(no as u16), use_no: slot.use_no };
                out.push(Action::Complete { tag: slot.ask.tag, at, result: Err(SessionDead) });
            }
        }
        self.parked = 0;
    }

    /// Requests under way, parked ones included.
    pub fn under_way(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state != State::Free).count()
    }

    /// Slots that are nobody's.
    pub fn free_permits(&self) -> usize {
        self.permits.free()
    }

    pub(super) fn check_slots(&self) {
        let parked = self.slots.iter().filter(|slot| slot.state == State::Parked).count();
        assert_eq!(parked, self.parked as usize, "requests that wait for a path");
        assert!(self.under_way() <= self.permits.held() as usize, "a request without a permit");
        let up = self.paths.iter().flatten().filter(|path| path.is_up()).count();
        let ending = self.living.is_some() && self.life().is_none();
        assert!(parked == 0 || up == 0 || ending, "a request waits though a path is up");
        for path in self.paths.iter().flatten() {
            let here =
                |slot: &&Slot| matches!(slot.state, State::Sent(no) | State::NoMemory(no) if no == path.no);
            let under_way = path.conn.as_ref().map_or(0, |conn| conn.under_way);
            assert_eq!(
                self.slots.iter().filter(here).count(),
                under_way as usize,
                "under way on {:?}",
                path.no
            );
        }
    }
}
