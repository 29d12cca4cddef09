//! Who may have how many requests under way.
//!
//! Half of the slots are guaranteed to the attached users in equal parts; the rest goes to whoever asks first, and when there
//! is no rest, to those that wait, in turn.

use super::event::UserNo;
use crate::{SlotNo, UserId};
use std::collections::VecDeque;

struct User {
    id: UserId,
    /// Slots it has: permits and requests.
    held: u32,
    /// Stands in the ring.
    waits: bool,
}

/// Free slots and the users that want them.
pub(super) struct Permits {
    users: Vec<Option<User>>,
    attached: u32,
    free: Vec<SlotNo>,
    depth: u32,
    /// Slots each user is sure to get.
    guaranteed: u32,
    /// Guaranteed slots that are not held yet, of all users.
    owed: u32,
    ring: VecDeque<UserNo>,
}

impl Permits {
    pub(super) fn new() -> Self {
        let (users, free, ring) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { users, attached: 0, free, depth: 0, guaranteed: 0, owed: 0, ring }
    }

    /// All slots are free, nobody waits: a life begins with `depth` slots, or ended (0).
    pub(super) fn reset(&mut self, depth: u16) {
        self.depth = u32::from(depth);
        self.free.clear();
        self.free.extend((0..depth).rev().map(SlotNo));
        self.ring.clear();
        for user in self.users.iter_mut().flatten() {
            (user.held, user.waits) = (0, false);
        }
        self.share();
    }

    pub(super) fn attach(&mut self, id: UserId) -> UserNo {
        let no = self.users.iter().position(Option::is_none).unwrap_or(self.users.len());
        let user = Some(User { id, held: 0, waits: false });
        if no == self.users.len() {
            self.users.push(user);
        } else {
            self.users[no] = user;
        }
        self.attached += 1;
        // Room for everybody, so that waiting allocates nothing.
        self.ring.reserve(self.users.len() - self.ring.len().min(self.users.len()));
        self.share();
        UserNo(no as u16)
    }

    /// `false` if it still holds slots.
    pub(super) fn detach(&mut self, no: UserNo) -> bool {
        if self.user(no).held != 0 {
            return false;
        }
        self.users[usize::from(no.0)] = None;
        self.ring.retain(|&other| other != no);
        self.attached -= 1;
        self.share();
        true
    }

    pub(super) fn id(&self, no: UserNo) -> UserId {
        self.user(no).id
    }

    /// A free slot for `no`, now; or it waits for its turn.
    pub(super) fn take(&mut self, no: UserNo) -> Option<SlotNo> {
        let sure = !self.free.is_empty() && self.user(no).held < self.guaranteed;
        if sure || (self.ring.is_empty() && self.may_take(no)) {
            return Some(self.give(no));
        }
        let user = self.user_mut(no);
        if !user.waits {
            user.waits = true;
            self.ring.push_back(no);
        }
        None
    }

    /// `slot` of `no` is free again.
    pub(super) fn release(&mut self, no: UserNo, slot: SlotNo) {
        let guaranteed = self.guaranteed;
        let user = self.user_mut(no);
        user.held -= 1;
        if user.held < guaranteed {
            self.owed += 1;
        }
        self.free.push(slot);
    }

    /// Whoever's turn it is, with a slot; `None` when nobody waits that may have one.
    pub(super) fn next(&mut self) -> Option<(UserNo, SlotNo)> {
        for _ in 0..self.ring.len() {
            let no = self.ring.pop_front()?;
            if self.may_take(no) {
                self.user_mut(no).waits = false;
                return Some((no, self.give(no)));
            }
            self.ring.push_back(no);
        }
        None
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn attached(&self) -> u32 {
        self.attached
    }

    pub(super) fn held(&self) -> u32 {
        self.users.iter().flatten().map(|user| user.held).sum()
    }

    fn may_take(&self, no: UserNo) -> bool {
        let free = self.free.len() as u32;
        free > 0 && (self.user(no).held < self.guaranteed || free > self.owed)
    }

    fn give(&mut self, no: UserNo) -> SlotNo {
        let slot = self.free.pop().expect("guaranteed slots are kept free");
        let guaranteed = self.guaranteed;
        let user = self.user_mut(no);
        user.held += 1;
        if user.held <= guaranteed {
            self.owed -= 1;
        }
        slot
    }

    /// The number of users or slots has changed. What somebody holds beyond the new shares stays his until it ends, so more
    /// may be promised for a while than is free; `sure` is then limited by what is.
    fn share(&mut self) {
        self.guaranteed = (self.depth / 2).checked_div(self.attached).unwrap_or(0);
        let guaranteed = self.guaranteed;
        self.owed = self.users.iter().flatten().map(|user| guaranteed.saturating_sub(user.held)).sum();
    }

    /// Users that wait.
    pub(super) fn waiting(&self) -> u32 {
        self.ring.len() as u32
    }

    fn user(&self, no: UserNo) -> &User {
        self.users[usize::from(no.0)].as_ref().expect("a user that is attached")
    }

    fn user_mut(&mut self, no: UserNo) -> &mut User {
        self.users[usize::from(no.0)].as_mut().expect("a user that is attached")
    }

    /// # Panics
    /// If the books do not balance.
    pub(super) fn check(&self) {
        assert_eq!(self.free.len() as u32 + self.held(), self.depth, "free and held slots are all there are");
        let owed: u32 = self.users.iter().flatten().map(|u| self.guaranteed.saturating_sub(u.held)).sum();
        assert_eq!(self.owed, owed, "guaranteed and not held");
        let waiting = self.users.iter().flatten().filter(|user| user.waits).count();
        assert_eq!(waiting, self.ring.len(), "who waits stands in the ring once");
    }
}
