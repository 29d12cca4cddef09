//! What each block may hold: a history of one register per block.
//!
//! Allowed is: the last acknowledged write, any write not yet ended, and any failed write that no later acknowledged one
//! or read has ruled out. A read rules out what ended before it began and was not returned: from then on the block
//! returns the same value from every leg. A write that every holder lost by power loss before a flush covered it may give
//! way to an older one, once.

use rmr_proto::{BlockRange, MemberId, MemberSet};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pending,
    Failed,
    Acked,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    value: u64,
    state: State,
    invoked: u64,
    ended: u64,
    /// Ruled out together with others: any of them may have been what the block held.
    batch: u64,
}

#[derive(Clone, Debug, Default)]
struct Block {
    now: Vec<Candidate>,
    /// Acknowledged or seen, overwritten since, and what came after may still be lost; oldest first.
    older: Vec<Candidate>,
    /// Legs that hold the newest value on a clean chunk and have not lost power since.
    holders: MemberSet,
}

impl Block {
    /// What came before may be back.
    fn revert(&mut self) {
        for c in std::mem::take(&mut self.older) {
            if !self.now.iter().any(|n| n.value == c.value) {
                self.now.insert(0, c);
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Read {
    range: BlockRange,
    began: u64,
    /// Ruled out while the read was under way: allowed for it.
    extra: Vec<(u64, u64)>,
}

/// The histories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    blocks: Vec<Block>,
    undurable: BTreeSet<u64>,
    reads: BTreeMap<u64, Read>,
    step: u64,
    /// When each member last lost what it had not flushed.
    lost_at: [u64; rmr_proto::MEMBERS_MAX],
    /// By block: every value since all members were last of one history. Empty: not kept.
    ever: Vec<BTreeSet<u64>>,
}

impl Oracle {
    /// Contents of a new pool are unknown: whatever is read first holds from then on.
    pub(crate) fn new(initial: &[Vec<u64>]) -> Self {
        let blocks = (0..initial[0].len()).map(|block| {
            let values: BTreeSet<u64> = initial.iter().map(|disk| disk[block]).collect();
            let candidate = |value| Candidate { value, state: State::Acked, invoked: 0, ended: 0, batch: 0 };
            Block { now: values.into_iter().map(candidate).collect(), ..Block::default() }
        });
        Self { blocks: blocks.collect(), step: 1, ..Self::default() }
    }

    /// From now on every value is remembered, for [`Self::forget`].
    pub(crate) fn remember_all(&mut self) {
        let held = |block: &Block| block.now.iter().chain(&block.older).map(|c| c.value).collect();
        self.ever = self.blocks.iter().map(held).collect();
    }

    /// The pool may go on from another history than the one that was last seen: a block may hold whatever it ever held,
    /// until it is read.
    pub(crate) fn forget(&mut self) {
        let ended = self.tick();
        for (block, ever) in self.blocks.iter_mut().zip(&self.ever) {
            let pending = |c: &Candidate| c.state == State::Pending;
            block.now.retain(pending);
            let failed = |value| Candidate { value, state: State::Failed, invoked: 0, ended, batch: 0 };
            let written: BTreeSet<u64> = block.now.iter().map(|c| c.value).collect();
            block.now.extend(ever.difference(&written).copied().map(failed));
            block.older.clear();
            block.holders = MemberSet::EMPTY;
        }
    }

    /// A block that the device may grow to holds this on some disk, too.
    pub(crate) fn may_hold(&mut self, block: u64, value: u64) {
        let candidate = Candidate { value, state: State::Acked, invoked: 0, ended: 0, batch: 0 };
        self.blocks[block as usize].now.push(candidate);
    }

    fn tick(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    pub(crate) fn invoke_write(&mut self, range: BlockRange, values: &[u64]) {
        let invoked = self.tick();
        for (block, value) in (range.first..range.end()).zip(values) {
            let candidate =
                Candidate { value: *value, state: State::Pending, invoked, ended: u64::MAX, batch: 0 };
            self.blocks[block as usize].now.push(candidate);
            if let Some(ever) = self.ever.get_mut(block as usize) {
                ever.insert(*value);
            }
        }
    }

    /// `holders`: legs of the set whose chunk is clean. `durable`: acknowledged as durable (FUA).
    pub(crate) fn ack_write(&mut self, block: u64, value: u64, holders: MemberSet, durable: bool) {
        let ended = self.tick();
        let state = &mut self.blocks[block as usize];
        let Some(at) = state.now.iter().position(|c| c.value == value) else { return };
        state.now[at].state = State::Acked;
        state.now[at].ended = ended;
        let invoked = state.now[at].invoked;
        let kept = |m: &MemberId| self.lost_at[m.index()] < invoked;
        state.holders = holders.iter().filter(kept).fold(MemberSet::EMPTY, MemberSet::with);
        let lost = state.holders.is_empty() && !durable;
        self.rule_out(block, value, invoked);
        if lost {
            // Every leg that executed it lost power before the answer arrived.
            self.blocks[block as usize].revert();
        }
        if durable && self.blocks[block as usize].now.len() == 1 {
            self.blocks[block as usize].older.clear();
            self.undurable.remove(&block);
        } else {
            self.undurable.insert(block);
        }
    }

    /// Removes what ended before `before`, but for `value`.
    fn rule_out(&mut self, block: u64, value: u64, before: u64) {
        let batch = self.tick();
        let state = &mut self.blocks[block as usize];
        let out = |c: &Candidate| c.value != value && c.state != State::Pending && c.ended < before;
        let gone: Vec<Candidate> = state.now.iter().copied().filter(out).collect();
        if gone.is_empty() {
            return;
        }
        state.now.retain(|c| !out(c));
        // A failed one may be what the block held: it too may be back.
        state.older.extend(gone.iter().map(|c| Candidate { batch, ..*c }));
        for read in self.reads.values_mut() {
            if read.range.first <= block && block < read.range.end() {
                read.extra.extend(gone.iter().map(|c| (block, c.value)));
            }
        }
    }

    pub(crate) fn fail_write(&mut self, range: BlockRange, values: &[u64]) {
        let ended = self.tick();
        for (block, value) in (range.first..range.end()).zip(values) {
            for c in self.blocks[block as usize].now.iter_mut().filter(|c| c.value == *value) {
                if c.state == State::Pending {
                    (c.state, c.ended) = (State::Failed, ended);
                }
            }
        }
    }

    pub(crate) fn invoke_read(&mut self, id: u64, range: BlockRange) {
        let began = self.tick();
        self.reads.insert(id, Read { range, began, extra: Vec::new() });
    }

    pub(crate) fn drop_read(&mut self, id: u64) {
        self.reads.remove(&id);
    }

    /// A read returned; `Err` says why that is wrong.
    pub(crate) fn end_read(&mut self, id: u64, values: &[u64]) -> Result<(), String> {
        let Some(read) = self.reads.remove(&id) else { return Ok(()) };
        for (block, value) in (read.range.first..read.range.end()).zip(values) {
            let state = &mut self.blocks[block as usize];
            if let Some(c) = state.now.iter_mut().find(|c| c.value == *value) {
                if c.state == State::Failed {
                    // Seen, so it counts; who holds it is not known.
                    c.state = State::Acked;
                    state.holders = MemberSet::EMPTY;
                    self.undurable.insert(block);
                }
                self.rule_out(block, *value, read.began);
                let state = &mut self.blocks[block as usize];
                if state.holders.is_empty() && self.lost_at.iter().any(|at| *at > read.began) {
                    // Served before power was lost, delivered after.
                    state.revert();
                }
            } else if !read.extra.contains(&(block, *value)) {
                return Err(format!(
                    "read of block {block} returned {value:#x}, allowed are {:x?}",
                    self.allowed(block)
                ));
            }
        }
        Ok(())
    }

    /// Values that the block may hold now.
    pub(crate) fn allowed(&self, block: u64) -> Vec<u64> {
        self.blocks[block as usize].now.iter().map(|c| c.value).collect()
    }

    pub(crate) fn allows(&self, block: u64, value: u64) -> bool {
        self.blocks[block as usize].now.iter().any(|c| c.value == value)
    }

    /// Logical time, for the start of a flush.
    pub(crate) fn begin_flush(&mut self) -> u64 {
        self.tick()
    }

    /// Everything acknowledged before `began` is durable.
    pub(crate) fn end_flush(&mut self, began: u64) {
        let blocks = &mut self.blocks;
        self.undurable.retain(|block| {
            let state = &mut blocks[*block as usize];
            let covered = |c: &Candidate| c.state == State::Acked && c.ended < began;
            if state.now.iter().any(covered) {
                state.older.clear();
                return !state.now.iter().all(covered);
            }
            if let Some(last) = state.older.iter().rev().find(|c| covered(c)).map(|c| c.batch) {
                state.older.retain(|c| c.batch >= last);
            }
            true
        });
    }

    /// What `member` had not flushed may be gone.
    pub(crate) fn lost_cache(&mut self, member: MemberId) {
        self.lost_at[member.index()] = self.tick();
        for block in &self.undurable {
            let state = &mut self.blocks[*block as usize];
            state.holders = state.holders.without(member);
            if state.holders.is_empty() {
                state.revert();
            }
        }
    }
}
