//! Requests of the client: admission, the wait for the intent entry or for a copy, the disk, the answer.

use super::meta::CommitNo;
use super::{OutCause, Service, Store, release};
use crate::mutant::Mutant;
use crate::{DiskOp, Now, Party, StoreAction};
use rmr_proto::{BufId, ChunkNo, Continuity, IoOp, IoReply, IoRequest, IoStatus, Msg};

/// Most chunks that one request may touch: one bit each in the answer.
const CHUNKS_PER_REQUEST: u64 = 64;
const WINDOW: u64 = 4096;
/// Most requests under way; a client has far fewer.
const REQUESTS_MAX: usize = 16_384;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Waits for a copy of this chunk to end.
    Copy(ChunkNo),
    /// Waits for a commit.
    Intent(CommitNo),
    /// Waits, until then at most, for entries to be cleared: there are far too many.
    Room(Now),
    /// The disk has it.
    Disk,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Request {
    from: Party,
    io: IoRequest,
    buf: Option<BufId>,
    stage: Stage,
    entered: bool,
    /// Has waited for room as long as it may.
    waited: bool,
}

/// Requests under way, and which numbers of this epoch have been seen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Option<Request>>,
    free: Vec<u32>,
    waiting: Vec<u32>,
    seen: Vec<u64>,
    highest: u64,
}

impl Requests {
    fn put(&mut self, request: Request) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(request);
            return slot;
        }
        self.slots.push(Some(request));
        (self.slots.len() - 1) as u32
    }

    fn take(&mut self, slot: u32) -> Option<Request> {
        let request = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(request)
    }

    pub(super) fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn get(&self, slot: u32) -> Option<&Request> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// A new epoch: numbers start again.
    pub(super) fn new_epoch(&mut self) {
        self.seen.clear();
        self.seen.resize((WINDOW / 64) as usize, 0);
        self.highest = 0;
    }

    /// True the first time `number` is seen. Numbers further back than the window count as seen.
    pub(super) fn first_time(&mut self, number: u64) -> bool {
        if self.seen.is_empty() {
            self.new_epoch();
        }
        if number.saturating_add(WINDOW) <= self.highest {
            return false;
        }
        let jump = number.saturating_sub(self.highest).min(WINDOW);
        for step in 1..=jump {
            let at = (self.highest.max(number.saturating_sub(WINDOW)) + step) % WINDOW;
            self.seen[(at / 64) as usize] &= !(1 << (at % 64));
        }
        self.highest = self.highest.max(number);
        let (word, bit) = (((number % WINDOW) / 64) as usize, 1u64 << (number % 64));
        let first = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        first
    }
}

impl Store {
    pub(super) fn on_request(
        &mut self,
        now: Now,
        from: Party,
        io: IoRequest,
        buf: Option<BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        if let Err(status) = self.admit(&io) {
            self.reply(from, &io, status, None, out);
            release(Msg::Io(io, buf), out);
            return;
        }
        if !self.requests.first_time(io.number) && !Mutant::NoDedup.on() {
            release(Msg::Io(io, buf), out);
            return;
        }
        self.lease_until = now + self.config.lease_ns;
        self.take_horizons(io.answered, io.flushed);
        self.copies.pace.client_io(now);
        let request = Request { from, io, buf, stage: Stage::Disk, entered: false, waited: false };
        match io.op {
            IoOp::Read => self.start_read(request, out),
            IoOp::Flush => {
                let slot = self.requests.put(request);
                out.push(StoreAction::Flush { op: DiskOp::Request(slot) });
            }
            IoOp::Write | IoOp::WriteFua | IoOp::Zero { .. } => {
                let slot = self.requests.put(request);
                self.start_write(now, slot, out);
            }
        }
    }

    fn admit(&self, io: &IoRequest) -> Result<(), IoStatus> {
        self.accepts(io.epoch)?;
        if self.requests.used() >= REQUESTS_MAX {
            return Err(IoStatus::NotServing);
        }
        if io.op == IoOp::Flush {
            return Ok(());
        }
        if !self.geometry().holds(io.range) {
            return Err(IoStatus::DiskError);
        }
        let (first, last) = self.geometry().chunks_of(io.range);
        if last.0 - first.0 >= CHUNKS_PER_REQUEST { Err(IoStatus::DiskError) } else { Ok(()) }
    }

    fn start_read(&mut self, request: Request, out: &mut Vec<StoreAction>) {
        let missed = self.unclean_of(&request.io);
        if missed != 0 && !Mutant::ReadMissed.on() {
            self.prefer_missed(&request.io);
            self.reply(request.from, &request.io, IoStatus::NotClean, None, out);
            return;
        }
        let range = request.io.range;
        let slot = self.requests.put(request);
        out.push(StoreAction::Read { op: DiskOp::Request(slot), range });
    }

    /// Bit n: the n-th chunk of the request is not durably clean here.
    fn unclean_of(&self, io: &IoRequest) -> u64 {
        let geometry = *self.geometry();
        let (first, last) = geometry.chunks_of(io.range);
        if self.meta.ram.misses.is_empty() && self.meta.durable.misses.is_empty() {
            return 0;
        }
        let me = self.member();
        let dirty = |chunk: &u64| {
            let (region, index) =
                (geometry.region_of(ChunkNo(*chunk)), geometry.index_in_region(ChunkNo(*chunk)));
            self.meta.ram.unclean(region, me).has(index) || self.meta.durable.unclean(region, me).has(index)
        };
        (first.0..=last.0).filter(dirty).fold(0, |bits, chunk| bits | 1 << (chunk - first.0))
    }

    /// Goes on with a write: copy lock, then intent, then disk. Called again after each wait.
    pub(super) fn start_write(&mut self, now: Now, slot: u32, out: &mut Vec<StoreAction>) {
        let Some(request) = self.requests.get(slot) else { return };
        let (io, entered, waited) = (request.io, request.entered, request.waited);
        let (first, last) = self.geometry().chunks_of(io.range);
        let locked = (first.0..=last.0).map(ChunkNo).find(|chunk| self.copies.locks(*chunk, io.seq));
        if let Some(chunk) = locked
            && !Mutant::NoChunkLock.on()
        {
            self.wait(slot, Stage::Copy(chunk));
            return;
        }
        let executes = Mutant::PartialWriteCleans.on() || Mutant::ExecuteUnproved.on();
        if !io.proved && self.unclean_of(&io) != 0 && !executes {
            self.refuse_unclean(slot, out);
            return;
        }
        let untracked = Mutant::ZeroesUntracked.on() && matches!(io.op, IoOp::Zero { .. });
        if !entered && !waited && self.is_far_over() && !self.has_entries(io.range) {
            self.wait(slot, Stage::Room(now + self.config.intent_wait_ns));
            return;
        }
        if !entered && !untracked {
            let commit = self.enter(now, io.range);
            let commit = commit.max(self.note_epoch_written());
            if let Some(Some(request)) = self.requests.slots.get_mut(slot as usize) {
                request.entered = true;
            }
            if !self.meta.done(commit) && !Mutant::WriteBeforeIntent.on() {
                self.wait(slot, Stage::Intent(commit));
                return;
            }
        }
        if !untracked {
            self.note_write(io.range, io.seq);
        }
        self.on_disk += 1;
        let Some(Some(request)) = self.requests.slots.get_mut(slot as usize) else { return };
        request.stage = Stage::Disk;
        out.push(StoreAction::Write {
            op: DiskOp::Request(slot),
            range: io.range,
            buf: request.buf.take(),
            fua: io.op == IoOp::WriteFua,
            unmap: io.op == IoOp::Zero { unmap: true },
        });
    }

    /// Before the first write of an epoch executes, that it wrote in it is durable: whose history this is shows later.
    /// The commit to wait for comes back.
    fn note_epoch_written(&mut self) -> CommitNo {
        let epoch = self.meta.ram.record.adopted;
        if self.meta.durable.record.wrote == epoch || Mutant::WroteUnrecorded.on() {
            return 0;
        }
        if self.meta.ram.record.wrote != epoch {
            self.meta.ram.record.wrote = epoch;
            self.meta.touch_record();
        }
        self.meta.want()
    }

    /// A write to a chunk that this store missed, of which no clean leg is known to have it: not executed, so that it
    /// counts against nobody.
    fn refuse_unclean(&mut self, slot: u32, out: &mut Vec<StoreAction>) {
        let Some(request) = self.requests.take(slot) else { return };
        if request.entered {
            self.leave(request.io.range);
        }
        self.prefer_missed(&request.io);
        self.reply(request.from, &request.io, IoStatus::NotClean, None, out);
        release(Msg::Io(request.io, request.buf), out);
    }

    /// The first chunk of the request that is missed here is copied next.
    fn prefer_missed(&mut self, io: &IoRequest) {
        let missed = self.unclean_of(io);
        let (first, _) = self.geometry().chunks_of(io.range);
        self.copies.prefer(ChunkNo(first.0 + u64::from(missed.trailing_zeros())));
    }

    fn wait(&mut self, slot: u32, stage: Stage) {
        if let Some(Some(request)) = self.requests.slots.get_mut(slot as usize) {
            request.stage = stage;
            self.requests.waiting.push(slot);
        }
    }

    /// A commit is durable: writes that waited for it go on.
    pub(super) fn wake_intents(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        let meta = &self.meta;
        let requests = &mut self.requests;
        let ready = |slot: &u32| match requests.slots[*slot as usize].as_ref().map(|r| r.stage) {
            Some(Stage::Intent(commit)) => meta.done(commit),
            _ => false,
        };
        let (go, stay): (Vec<u32>, Vec<u32>) = requests.waiting.iter().partition(|slot| ready(slot));
        requests.waiting = stay;
        for slot in go {
            self.start_write(now, slot, out);
        }
    }

    /// Entries have been cleared, or patience is at an end: writes that waited for room go on.
    pub(super) fn wake_roomless(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        let full = self.is_far_over();
        let mut waiting = std::mem::take(&mut self.requests.waiting);
        let mut go = Vec::new();
        waiting.retain(|slot| {
            let Some(Some(request)) = self.requests.slots.get_mut(*slot as usize) else { return true };
            let Stage::Room(until) = request.stage else { return true };
            request.waited |= now >= until;
            let stays = full && !request.waited;
            if !stays {
                go.push(*slot);
            }
            stays
        });
        self.requests.waiting = waiting;
        for slot in go {
            self.start_write(now, slot, out);
        }
    }

    /// The copy of `chunk` ended: writes that waited for it go on.
    pub(super) fn wake_copy(&mut self, now: Now, chunk: ChunkNo, out: &mut Vec<StoreAction>) {
        let requests = &mut self.requests;
        let mine = |slot: &u32| {
            requests.slots[*slot as usize].as_ref().is_some_and(|r| r.stage == Stage::Copy(chunk))
        };
        let (go, stay): (Vec<u32>, Vec<u32>) = requests.waiting.iter().partition(|slot| mine(slot));
        requests.waiting = stay;
        for slot in go {
            self.start_write(now, slot, out);
        }
    }

    /// Sends every request that the disk does not have back: the epoch ends.
    pub(super) fn send_back_waiting(&mut self, out: &mut Vec<StoreAction>) {
        for slot in std::mem::take(&mut self.requests.waiting) {
            let Some(request) = self.requests.take(slot) else { continue };
            if request.entered {
                self.leave(request.io.range);
            }
            self.reply(request.from, &request.io, IoStatus::WrongEpoch, None, out);
            release(Msg::Io(request.io, request.buf), out);
        }
    }

    /// Drops every waiting request without a word: the store is latched.
    pub(super) fn abandon_all(&mut self, out: &mut Vec<StoreAction>) {
        self.send_back_waiting(out);
        self.cancel_copies(out);
        self.fence = None;
        self.joining = None;
    }

    pub(super) fn on_request_done(
        &mut self,
        now: Now,
        slot: u32,
        ok: bool,
        buf: Option<BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        let Some(request) = self.requests.take(slot) else { return };
        if request.io.op.is_write() {
            self.on_disk -= 1;
            if request.entered {
                self.leave(request.io.range);
            }
        }
        if !ok {
            match request.io.op {
                IoOp::Read => self.note_unreadable(now, request.io.range),
                IoOp::Flush if Mutant::FlushErrorIgnored.on() => {
                    return self.reply(request.from, &request.io, IoStatus::Done, None, out);
                }
                IoOp::Flush => self.fail_disk(true),
                _ => self.fail_disk(false),
            }
        }
        if ok && request.io.op.is_write() && Mutant::PartialWriteCleans.on() {
            self.forget_misses(&request.io);
        }
        // A flush that succeeds after one that failed says nothing: what it was to cover may be gone.
        let void = request.io.op == IoOp::Flush && self.continuity != Continuity::Unbroken;
        let status = if ok && !void { IoStatus::Done } else { IoStatus::DiskError };
        // A failed flush may have taken back what a read still in the queue was to see.
        let taken_back = request.io.op == IoOp::Read && self.service == Service::Out(OutCause::DiskError);
        if taken_back && !Mutant::FlushErrorIgnored.on() {
            self.reply(request.from, &request.io, IoStatus::NotServing, None, out);
            out.extend(buf.map(StoreAction::Release));
            return;
        }
        self.reply(request.from, &request.io, status, buf, out);
        if ok && request.io.proved && request.io.op.is_write() {
            self.note_overwritten(now, request.io.range, out);
        }
    }

    fn forget_misses(&mut self, io: &IoRequest) {
        let me = self.member();
        for region in self.regions_of(io.range) {
            let bits = self.geometry().bits_of(region, io.range);
            let misses = self.meta.misses_mut(region);
            misses.missed[me.index()] = misses.missed[me.index()].minus(bits);
        }
    }

    fn reply(
        &self,
        to: Party,
        io: &IoRequest,
        status: IoStatus,
        buf: Option<BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        let missed = if status == IoStatus::Done && io.op.is_write() { self.unclean_of(io) } else { 0 };
        let reply = IoReply {
            epoch: io.epoch,
            tag: io.tag,
            status,
            missed,
            dirty_chunks: if self.service == Service::Serving { self.dirty_chunks() } else { 0 },
            pressure: self.pressure(),
            counter: self.meta.durable.record.counter,
        };
        out.push(StoreAction::Send(to, Msg::IoReply(reply, buf)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once_whatever_the_order() {
        let mut requests = Requests::default();
        for number in [1, 3, 2, 10, 4, 5000, 4999] {
            assert!(requests.first_time(number), "{number} is new");
            assert!(!requests.first_time(number), "{number} was seen");
        }
        assert!(!requests.first_time(3), "too far back counts as seen");
        assert!(requests.first_time(4000), "inside the window and never seen");
        assert!(requests.first_time(1_000_000), "a jump clears the window");
        assert!(requests.first_time(999_999) && !requests.first_time(999_999));
    }
}
