//! A sampled trace: of every N-th IO that an opener submits on an io channel, what it was and when it began and ended.
//!
//! ```text
//! submit: the N-th since the last ─► Tracer::under_way        (IO that the block layer itself ends is not traced)
//! poll:   its completion ──────────► TraceRing, over the oldest record
//! ```
//! All room is there from the start. The ring has one writer, the channel's reactor, and any number of readers: each
//! record has a version that is odd while it is written, and a reader that meets a change leaves the record out.
//! A trace ends with its channel.

use crate::io::{Done, Io, IoKey, Op};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use tgt_env::clock::Ticks;
use tgt_status::IoStatus;

/// Records that a channel keeps, the newest.
pub const TRACED_MAX: usize = 256;

/// Sampled IOs of a channel that may be in flight at once; with more the oldest of them is forgotten.
const UNDER_WAY_MAX: usize = 16;

/// One sampled IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedIo {
    /// What was asked for.
    pub op: Op,
    /// First block; of an abort: the tag of the IO to stop.
    pub lba: u64,
    /// Blocks.
    pub blocks: u32,
    /// When the outermost io channel took it.
    pub submitted: Ticks,
    /// When its completion surfaced in this channel.
    pub done: Ticks,
    /// How it ended.
    pub status: IoStatus,
}

/// The newest records of one channel: written by its reactor, read by any thread.
#[derive(Debug)]
pub(crate) struct TraceRing {
    every: u32,
    /// Records written so far.
    written: AtomicU64,
    records: Box<[Record]>,
}

#[derive(Debug, Default)]
struct Record {
    version: AtomicU64,
    /// LBA; submitted; done; blocks, operation and status.
    words: [AtomicU64; 4],
}

impl TraceRing {
    /// For one of `every` IOs, at least 1.
    pub(crate) fn new(every: u32) -> TraceRing {
        let records = (0..TRACED_MAX).map(|_| Record::default()).collect();
        TraceRing { every: every.max(1), written: AtomicU64::new(0), records }
    }

    /// Reactor: writes over the oldest record.
    fn push(&self, io: &TracedIo) {
        let number = self.written.load(Relaxed);
        let record = &self.records[number as usize % TRACED_MAX];
        let version = record.version.load(Relaxed);
        record.version.store(version + 1, Relaxed);
        fence(Release);
        for (word, value) in record.words.iter().zip(io.words()) {
            word.store(value, Relaxed);
        }
        record.version.store(version + 2, Release);
        self.written.store(number + 1, Release);
    }

    /// Sampled IOs that have ended so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Acquire)
    }

    /// The newest `count` records at most, the oldest of them first. One that is being written is left out.
    pub(crate) fn newest(&self, count: usize) -> Vec<TracedIo> {
        let written = self.written();
        let first = written.saturating_sub(count.min(TRACED_MAX) as u64);
        (first..written).filter_map(|number| self.records[number as usize % TRACED_MAX].read()).collect()
    }
}

impl Record {
    fn read(&self) -> Option<TracedIo> {
        let version = self.version.load(Acquire);
        let words = self.words.each_ref().map(|word| word.load(Relaxed));
        fence(Acquire);
        let whole = version.is_multiple_of(2) && self.version.load(Relaxed) == version;
        if whole { TracedIo::of_words(words) } else { None }
    }
}

impl TracedIo {
    fn words(&self) -> [u64; 4] {
        let status = u64::from(self.status.sct()) << 8 | u64::from(self.status.sc());
        let packed = u64::from(self.blocks) | (self.op as u64) << 32 | status << 40;
        [self.lba, self.submitted.0, self.done.0, packed]
    }

    fn of_words([lba, submitted, done, packed]: [u64; 4]) -> Option<TracedIo> {
        let op = *Op::ALL.get((packed >> 32) as usize & 0xff)?;
        let status = IoStatus::new((packed >> 48) as u8, (packed >> 40) as u8);
        let (submitted, done) = (Ticks(submitted), Ticks(done));
        Some(TracedIo { op, lba, blocks: packed as u32, submitted, done, status })
    }
}

/// The writer's side, in the channel.
#[derive(Debug)]
pub(crate) struct Tracer {
    ring: Arc<TraceRing>,
    /// IOs until the next sample.
    left: u32,
    under_way: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    key: IoKey,
    lba: u64,
    submitted: Ticks,
}

impl Tracer {
    pub(crate) fn new(ring: Arc<TraceRing>) -> Tracer {
        Tracer { left: ring.every, ring, under_way: Vec::with_capacity(UNDER_WAY_MAX) }
    }

    pub(crate) fn writes_to(&self, ring: &Arc<TraceRing>) -> bool {
        Arc::ptr_eq(&self.ring, ring)
    }

    /// Counts an IO, and notes the N-th. One that is handed back to the opener and comes again may be noted twice: the
    /// second note finds no completion and goes as the oldest.
    #[inline]
    pub(crate) fn submitted(&mut self, io: &Io) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.left = self.ring.every;
        if self.under_way.len() == UNDER_WAY_MAX {
            self.under_way.remove(0);
        }
        self.under_way.push(Sample { key: io.key(), lba: io.lba, submitted: io.submitted });
    }

    /// Looks whether a completion noticed at `now` is that of a sample.
    #[inline]
    pub(crate) fn completed(&mut self, done: &Done, now: Ticks) {
        let is_it = |sample: &Sample| sample.key == done.key() && sample.submitted == done.submitted;
        let Some(index) = self.under_way.iter().position(is_it) else { return };
        let Sample { lba, submitted, .. } = self.under_way.remove(index);
        let (op, blocks, status) = (done.op, done.blocks, done.status);
        self.ring.push(&TracedIo { op, lba, blocks, submitted, done: now, status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn record(number: u64) -> TracedIo {
        let op = Op::ALL[number as usize % Op::ALL.len()];
        let status = IoStatus::ALL[number as usize % IoStatus::ALL.len()];
        let (submitted, done) = (Ticks(number), Ticks(!number));
        TracedIo { op, lba: number << 40, blocks: number as u32, submitted, done, status }
    }

    #[test]
    fn the_newest_records_come_back_whole_and_in_order() {
        let ring = TraceRing::new(1);
        assert_eq!(ring.newest(9), []);
        let all: Vec<TracedIo> = (0..3 * TRACED_MAX as u64 + 5).map(record).collect();
        all.iter().for_each(|io| ring.push(io));
        assert_eq!(ring.newest(7), all[all.len() - 7..]);
        assert_eq!(ring.newest(usize::MAX), all[all.len() - TRACED_MAX..]);
        assert_eq!(ring.written(), all.len() as u64);
    }

    #[test]
    fn a_reader_never_sees_half_a_record() {
        let (ring, stop) = (TraceRing::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..).take_while(|_| !stop.load(Relaxed)).for_each(|number| ring.push(&record(number)));
            });
            let mut seen = 0;
            while seen < 100_000 {
                for io in ring.newest(TRACED_MAX) {
                    assert_eq!(io, record(io.submitted.0));
                    seen += 1;
                }
            }
            stop.store(true, Relaxed);
        });
    }
}
