//! Operations under way and the sources they belong to: fixed tables, lists threaded through them.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::UringError;
use crate::bufs::Bufs;

/// Something with a file descriptor that the ring keeps alive while it is armed.
pub type SharedFd = Arc<dyn AsFd + Send + Sync>;

/// One consumer of completions on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId {
    index: u16,
    generation: u32,
}

/// One operation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId {
    index: u32,
    generation: u32,
}

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// As given when it was started.
    pub tag: u64,
    /// ≥ 0: the operation's result (poll: the `POLL*` events since the last completion); < 0: −errno.
    pub result: i32,
    /// Whether more completions will come (multishot). `false`: the operation is over.
    pub more: bool,
}

/// Place of a file in its ring's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileIndex(pub(super) u32);

/// Source numbers are 16 bits; the last one marks completions nobody waits for.
const SOURCES_MAX: usize = u16::MAX as usize;
const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 24;
/// Most slots a ring can have.
pub(super) const SLOTS_MAX: u32 = 1 << INDEX_BITS;
/// `user_data` of requests whose completion says nothing (cancellation).
pub(super) const UNHEARD: u64 = u64::MAX;
/// End of a list.
const NONE: u32 = u32::MAX;

struct Source {
    generation: u32,
    alive: bool,
    /// Slots in use, armed or not yet consumed.
    ops: u32,
    ready_first: u32,
    ready_last: u32,
}

struct Slot {
    generation: u32,
    source: u16,
    tag: u64,
    /// Held while the kernel may look at it.
    fd: Option<SharedFd>,
    /// For operations on a file of the ring's table, which holds the descriptor.
    file: Option<FileIndex>,
    /// Held from the start until the completion is consumed.
    bufs: Bufs,
    /// The kernel will still report.
    armed: bool,
    /// Reported and not yet consumed: the slot is in its source's ready list.
    result: Option<i32>,
    /// Next in the ready list or the free list.
    next: u32,
}

/// Tables of one ring. Everything is bounded: a slot is in a ready list at most once, however often it reported.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    free_first: u32,
    sources: Vec<Source>,
    /// Completions not yet consumed, all sources.
    ready: u32,
    /// Operations the kernel will still report on.
    under_way: u32,
    /// Slots in use for operations on files, consumed or not.
    file_ops: u32,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let slot = |index: u32| Slot {
            generation: 0,
            source: 0,
            tag: 0,
            fd: None,
            file: None,
            bufs: Bufs::none(),
            armed: false,
            result: None,
            next: if index + 1 < count { index + 1 } else { NONE },
        };
        Self {
            slots: (0..count).map(slot).collect(),
            free_first: 0,
            sources: Vec::new(),
            ready: 0,
            under_way: 0,
            file_ops: 0,
        }
    }

    pub(super) fn ready(&self) -> u32 {
        self.ready
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    pub(super) fn add_source(&mut self) -> Result<SourceId, UringError> {
        let reusable = self.sources.iter().position(|source| !source.alive && source.ops == 0);
        let index = reusable.unwrap_or(self.sources.len());
        if index == SOURCES_MAX {
            return Err(UringError::NoSource { limit: SOURCES_MAX });
        }
        if reusable.is_none() {
            self.sources.push(Source {
                generation: 0,
                alive: false,
                ops: 0,
                ready_first: NONE,
                ready_last: NONE,
            });
        }
        let source = &mut self.sources[index];
        source.alive = true;
        source.generation = source.generation.wrapping_add(1);
        Ok(SourceId { index: index as u16, generation: source.generation })
    }

    /// Ends a source: what it did not consume is forgotten, and what it still has armed will be swallowed.
    pub(super) fn remove_source(&mut self, id: SourceId) -> Result<(), UringError> {
        self.source(id)?;
        while self.next_ready(id).is_some() {}
        self.sources[usize::from(id.index)].alive = false;
        Ok(())
    }

    pub(super) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// `user_data` of the operation in a slot, if it is armed for `source` (removed or not).
    pub(super) fn armed_for(&self, index: u32, source: SourceId) -> Option<u64> {
        let slot = &self.slots[index as usize];
        (slot.armed && slot.source == source.index).then(|| self.user_data(index))
    }

    /// Occupies a slot for an operation; returns its name and `user_data`.
    pub(super) fn arm(
        &mut self,
        source: SourceId,
        tag: u64,
        fd: SharedFd,
    ) -> Result<(OpId, u64), UringError> {
        let (op, user_data) = self.occupy(source, tag)?;
        self.slots[op.index as usize].fd = Some(fd);
        Ok((op, user_data))
    }

    #[inline]
    fn occupy(&mut self, source: SourceId, tag: u64) -> Result<(OpId, u64), UringError> {
        self.source(source)?;
        let index = self.free_first;
        let limit = self.slots.len() as u32;
        let slot = self.slots.get_mut(index as usize).ok_or(UringError::NoSlot { limit })?;
        self.free_first = slot.next;
        slot.next = NONE;
        slot.source = source.index;
        slot.tag = tag;
        slot.armed = true;
        let generation = slot.generation;
        self.sources[usize::from(source.index)].ops += 1;
        self.under_way += 1;
        Ok((OpId { index, generation }, self.user_data(index)))
    }

    /// As [`Slots::arm`], for an operation on a file with its buffers. A quarter of the slots stays free for others.
    #[inline]
    pub(super) fn arm_file(
        &mut self,
        source: SourceId,
        tag: u64,
        file: FileIndex,
        bufs: Bufs,
    ) -> Result<(OpId, u64), (UringError, Bufs)> {
        let limit = self.slots.len() as u32 / 4 * 3;
        let room =
            if self.file_ops < limit { self.occupy(source, tag) } else { Err(UringError::NoSlot { limit }) };
        match room {
            Ok((op, user_data)) => {
                self.file_ops += 1;
                let slot = &mut self.slots[op.index as usize];
                slot.file = Some(file);
                slot.bufs = bufs;
                Ok((op, user_data))
            }
            Err(error) => Err((error, bufs)),
        }
    }

    /// The buffers of an operation that was just started.
    pub(super) fn bufs(&self, op: OpId) -> &Bufs {
        &self.slots[op.index as usize].bufs
    }

    /// Whether the kernel may still read or write any buffer.
    pub(super) fn any_bufs_under_way(&self) -> bool {
        self.file_ops > 0 && self.slots.iter().any(|slot| slot.armed && !slot.bufs.is_empty())
    }

    /// Leaves the buffers that the kernel may still use where they are, for ever.
    pub(super) fn leak_bufs_under_way(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.armed) {
            std::mem::forget(std::mem::replace(&mut slot.bufs, Bufs::none()));
        }
    }

    /// `user_data` of an operation the kernel still has; `None` once it is over.
    pub(super) fn armed(&self, op: OpId) -> Option<u64> {
        let slot = self.slots.get(op.index as usize)?;
        (slot.armed && slot.generation == op.generation).then(|| self.user_data(op.index))
    }

    /// Takes in one completion. Tells the file whose operation is over with it.
    #[inline]
    pub(super) fn complete(&mut self, user_data: u64, result: i32, more: bool) -> Option<FileIndex> {
        if user_data == UNHEARD {
            return None;
        }
        let index = (user_data & u64::from(SLOTS_MAX - 1)) as u32;
        assert!(
            self.slots.get(index as usize).is_some_and(|slot| slot.armed)
                && self.user_data(index) == user_data,
            "a completion for {user_data:#x}, which is not under way"
        );
        let slot = &mut self.slots[index as usize];
        if !more {
            slot.armed = false;
            slot.fd = None;
            self.under_way -= 1;
        }
        let file = slot.file.filter(|_| !more);
        let source = usize::from(slot.source);
        if !self.sources[source].alive {
            if !more {
                self.release(index);
            }
            return file;
        }
        let waiting = slot.result;
        slot.result = Some(merge(waiting, result));
        if waiting.is_none() {
            self.append_ready(source, index);
        }
        file
    }

    /// The next completion of a source, in order of arrival, with the buffers of its operation.
    #[inline]
    pub(super) fn next_ready(&mut self, id: SourceId) -> Option<(Completion, Bufs)> {
        let source = self.sources.get_mut(usize::from(id.index))?;
        if source.generation != id.generation || source.ready_first == NONE {
            return None;
        }
        let index = source.ready_first;
        let slot = &mut self.slots[index as usize];
        source.ready_first = slot.next;
        if slot.next == NONE {
            source.ready_last = NONE;
        }
        slot.next = NONE;
        self.ready -= 1;
        let completion = Completion { tag: slot.tag, result: slot.result.take()?, more: slot.armed };
        let bufs = std::mem::replace(&mut slot.bufs, Bufs::none());
        if !completion.more {
            self.release(index);
        }
        Some((completion, bufs))
    }

    fn source(&self, id: SourceId) -> Result<&Source, UringError> {
        let source = self.sources.get(usize::from(id.index));
        source
            .filter(|source| source.alive && source.generation == id.generation)
            .ok_or(UringError::UnknownSource)
    }

    fn append_ready(&mut self, source: usize, index: u32) {
        let source = &mut self.sources[source];
        match source.ready_last {
            NONE => source.ready_first = index,
            last => self.slots[last as usize].next = index,
        }
        source.ready_last = index;
        self.ready += 1;
    }

    #[inline]
    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        self.file_ops -= u32::from(slot.file.take().is_some());
        slot.bufs = Bufs::none();
        slot.generation = slot.generation.wrapping_add(1) & ((1 << GENERATION_BITS) - 1);
        slot.next = self.free_first;
        self.free_first = index;
        self.sources[usize::from(slot.source)].ops -= 1;
    }

    /// Source in the high 16 bits, then the slot's generation and index.
    fn user_data(&self, index: u32) -> u64 {
        let slot = &self.slots[index as usize];
        u64::from(slot.source) << (INDEX_BITS + GENERATION_BITS)
            | u64::from(slot.generation) << INDEX_BITS
            | u64::from(index)
    }
}

/// Several reports of one poll are one: events add up, an error ends it.
fn merge(waiting: Option<i32>, result: i32) -> i32 {
    match waiting {
        Some(events) if events >= 0 && result >= 0 => events | result,
        _ => result,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use super::*;

    fn null() -> SharedFd {
        Arc::new(File::open("/dev/null").expect("/dev/null"))
    }

    #[test]
    fn each_source_gets_its_own_completions_in_order() {
        let mut slots = Slots::new(4);
        let (a, b) = (slots.add_source().unwrap(), slots.add_source().unwrap());
        let armed: Vec<_> =
            [(a, 1), (b, 2), (a, 3)].map(|(source, tag)| slots.arm(source, tag, null()).unwrap().1).into();
        for &user_data in armed.iter().rev() {
            slots.complete(user_data, 7, false);
        }
        assert_eq!((slots.ready(), slots.under_way()), (3, 0));
        let tags = |slots: &mut Slots, id| {
            std::iter::from_fn(|| slots.next_ready(id)).map(|(done, _)| done.tag).collect::<Vec<_>>()
        };
        assert_eq!(tags(&mut slots, a), [3, 1]);
        assert_eq!(tags(&mut slots, b), [2]);
        assert_eq!(slots.ready(), 0);
    }

    #[test]
    fn reports_of_one_multishot_operation_add_up_to_one_completion() {
        let mut slots = Slots::new(1);
        let source = slots.add_source().unwrap();
        let fd = null();
        let (op, user_data) = slots.arm(source, 9, Arc::clone(&fd)).unwrap();
        slots.complete(user_data, 1, true);
        slots.complete(user_data, 4, true);
        let next = |slots: &mut Slots| slots.next_ready(source).map(|(done, _)| done);
        assert_eq!(next(&mut slots), Some(Completion { tag: 9, result: 5, more: true }));
        assert_eq!(next(&mut slots), None);
        assert_eq!((slots.armed(op), Arc::strong_count(&fd)), (Some(user_data), 2));
        slots.complete(user_data, 1, true);
        slots.complete(user_data, -libc::ECANCELED, false);
        assert_eq!((slots.armed(op), Arc::strong_count(&fd)), (None, 1));
        assert_eq!(next(&mut slots), Some(Completion { tag: 9, result: -libc::ECANCELED, more: false }));
    }

    #[test]
    fn slots_are_bounded_and_come_back_when_their_completion_is_consumed() {
        let mut slots = Slots::new(2);
        let source = slots.add_source().unwrap();
        let (_, first) = slots.arm(source, 0, null()).unwrap();
        slots.arm(source, 1, null()).unwrap();
        assert!(matches!(slots.arm(source, 2, null()), Err(UringError::NoSlot { limit: 2 })));
        slots.complete(first, 0, false);
        assert!(slots.arm(source, 2, null()).is_err(), "not consumed yet");
        slots.next_ready(source).unwrap();
        let (_, again) = slots.arm(source, 2, null()).unwrap();
        assert_ne!(again, first, "a slot used again is told apart from its past");
    }

    #[test]
    fn a_removed_source_swallows_what_comes_late_and_its_number_rests_until_then() {
        let mut slots = Slots::new(4);
        let source = slots.add_source().unwrap();
        let (_, done) = slots.arm(source, 0, null()).unwrap();
        let (_, late) = slots.arm(source, 1, null()).unwrap();
        slots.complete(done, 1, false);
        slots.remove_source(source).unwrap();
        let armed: Vec<_> = (0..slots.count()).filter_map(|index| slots.armed_for(index, source)).collect();
        assert_eq!((armed, slots.ready()), (vec![late], 0));
        assert!(matches!(slots.arm(source, 2, null()), Err(UringError::UnknownSource)));
        let other = slots.add_source().unwrap();
        assert_ne!(other.index, source.index);
        slots.complete(late, -libc::ECANCELED, false);
        assert!(
            slots.next_ready(source).is_none() && slots.next_ready(other).is_none() && slots.ready() == 0
        );
        let reused = slots.add_source().unwrap();
        assert_eq!(reused.index, source.index);
        assert!(slots.remove_source(source).is_err(), "the old name does not fit the new source");
    }

    #[test]
    #[should_panic(expected = "not under way")]
    fn a_completion_nobody_asked_for_is_a_bug_that_stops_the_process() {
        let mut slots = Slots::new(1);
        let source = slots.add_source().unwrap();
        let (_, user_data) = slots.arm(source, 0, null()).unwrap();
        slots.complete(user_data, 0, false);
        slots.complete(user_data, 0, false);
    }
}
