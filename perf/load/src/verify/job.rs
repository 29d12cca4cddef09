//! The poller: reads back what is known, loads, and reads back again.
//!
//! ```text
//!   ReadBack(first) ──▶ Load ──▶ ReadBack(last) ──▶ end
//!        └────────────── mismatch, failed IO, stop ─────┘   (whatever is in flight is waited for)
//! ```

use super::ledger::{Ledger, Mismatch, Seq, UNWRITTEN};
use super::stamp;
use super::state::{self, Kind, Shape, StateFile};
use crate::job::{Latencies, Shared};
use crate::pattern::Part;
use crate::report::JobReport;
use crate::spec::{JobSpec, Limit};
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tgt_bdev::{Bufs, Cx, Desc, DmaBuf, Done, DoneQueue, Io, IoChannel, IoStatus, Op, Tag, Ticks, Work};
use tgt_reactor::{Poller, Stop};

/// How often a free place is looked for before the next turn.
const TRIES: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Every place that was ever written is read, from this one on.
    ReadBack { next: u64, last: bool },
    /// Reads and writes anywhere.
    Load,
    /// Nothing more is submitted.
    Ending,
}

/// What is under way under one tag.
#[derive(Clone, Copy, Debug)]
struct Flight {
    place: u64,
    /// The write's number; a read has none.
    seq: Option<Seq>,
}

/// One checked job on its reactor.
pub(crate) struct VerifyJob {
    spec: JobSpec,
    name: String,
    channel: IoChannel,
    phase: Phase,
    ledger: Ledger,
    state: Option<StateFile>,
    run: u64,
    rng: Rng,
    first_lba: u64,
    blocks: u32,
    block_bytes: u32,
    /// Buffers that are free, and by tag what is under way.
    idle: Vec<(u32, DmaBuf)>,
    flights: Vec<Option<Flight>>,
    /// Made, noted, and not yet taken by the channel.
    ready: Vec<Io>,
    done: DoneQueue,
    started: Ticks,
    deadline: Ticks,
    to_submit: u64,
    completed: u64,
    errors: u64,
    first_error: Option<IoStatus>,
    wrong: Option<String>,
    latencies: Latencies,
    shared: Arc<Shared>,
}

impl VerifyJob {
    /// Opens the channel and the state file, and allocates everything.
    pub(crate) fn new(
        cx: &mut Cx,
        desc: &Desc,
        spec: JobSpec,
        part: Part,
        shared: Arc<Shared>,
    ) -> Result<VerifyJob, String> {
        let bdev = desc.bdev().clone();
        let (block_bytes, blocks) = (bdev.block_size(), spec.io_bytes / bdev.block_size());
        let (first_place, places) = part.of(bdev.num_blocks() / u64::from(blocks));
        let fresh_run = Rng::new().u64(1..);
        let (state, ledger, run) = match &spec.state {
            Some(path) => {
                let shape = Shape {
                    bdev_bytes: places * u64::from(spec.io_bytes),
                    io_bytes: spec.io_bytes,
                    block_bytes,
                };
                let (state, ledger, run) =
                    state::open(path, shape, fresh_run).map_err(|error| error.to_string())?;
                (Some(state), ledger, run)
            }
            None => (None, Ledger::new(places, blocks), fresh_run),
        };
        let buffer =
            |tag| DmaBuf::alloc(spec.io_bytes).map(|buffer| (tag, buffer)).map_err(|error| error.to_string());
        let depth = u64::from(spec.queue_depth).min(places) as u32;
        Ok(VerifyJob {
            name: format!("checked load on {}", spec.bdev),
            channel: desc.open_channel(cx).map_err(|error| error.to_string())?,
            phase: Phase::ReadBack { next: 0, last: false },
            ledger,
            state,
            run,
            rng: Rng::with_seed(spec.seed),
            first_lba: first_place * u64::from(blocks),
            blocks,
            block_bytes,
            idle: (0..depth).map(buffer).collect::<Result<_, _>>()?,
            flights: vec![None; depth as usize],
            ready: Vec::with_capacity(depth as usize),
            done: DoneQueue::with_capacity(depth as usize),
            started: Ticks::ZERO,
            deadline: Ticks::NEVER,
            to_submit: match spec.limit {
                Limit::Ios(ios) => ios,
                Limit::Time(_) => u64::MAX,
            },
            completed: 0,
            errors: 0,
            first_error: None,
            wrong: None,
            latencies: Latencies::new(spec.latency)?,
            spec,
            shared,
        })
    }

    /// Makes IO for every free buffer that there is a place for.
    fn prepare(&mut self, now: Ticks) {
        while let Some((tag, buffer)) = self.idle.pop() {
            match self.next_place(now) {
                Some((place, op)) => self.make(tag, buffer, place, op),
                None => return self.idle.push((tag, buffer)),
            }
        }
    }

    /// Where to go next, and to do what. None: nowhere until something under way has ended.
    fn next_place(&mut self, now: Ticks) -> Option<(u64, Op)> {
        loop {
            match self.phase {
                Phase::Ending => return None,
                Phase::ReadBack { next, last } => {
                    let known = (next..self.ledger.places()).find(|place| self.ledger.is_known(*place));
                    let Some(place) = known else {
                        self.read_back_is_over(last, now);
                        continue;
                    };
                    if self.ledger.is_busy(place) {
                        return None;
                    }
                    self.phase = Phase::ReadBack { next: place + 1, last };
                    return Some((place, Op::Read));
                }
                Phase::Load if self.to_submit == 0 || now >= self.deadline => {
                    self.phase = Phase::ReadBack { next: 0, last: true };
                }
                Phase::Load => {
                    let places = self.ledger.places();
                    let free = |place: &u64| !self.ledger.is_busy(*place);
                    let place = (0..TRIES).map(|_| self.rng.u64(0..places)).find(free)?;
                    let read = self.rng.u8(0..100) < self.spec.read_percent;
                    self.to_submit -= 1;
                    return Some((place, if read { Op::Read } else { Op::Write }));
                }
            }
        }
    }

    fn read_back_is_over(&mut self, last: bool, now: Ticks) {
        if last {
            self.phase = Phase::Ending;
            return;
        }
        self.phase = Phase::Load;
        if let Limit::Time(time) = self.spec.limit {
            self.deadline = now + Ticks::from_duration(time);
        }
    }

    fn make(&mut self, tag: u32, mut buffer: DmaBuf, place: u64, op: Op) {
        let lba = self.lba_of(place);
        let seq = (op == Op::Write).then(|| self.ledger.next_seq());
        if let Some(seq) = seq {
            let blocks = buffer.as_mut_slice().chunks_mut(self.block_bytes as usize);
            blocks.zip(lba..).for_each(|(block, lba)| stamp::stamp(block, self.run, lba, seq));
            self.note(Kind::Planned, place, seq);
        }
        self.ledger.set_busy(place, true);
        self.flights[tag as usize] = Some(Flight { place, seq });
        self.ready.push(Io::new(op, Tag(tag.into()), lba, self.blocks, Bufs::from(buffer)));
    }

    fn lba_of(&self, place: u64) -> u64 {
        self.first_lba + place * u64::from(self.blocks)
    }

    fn note(&mut self, kind: Kind, place: u64, seq: Seq) {
        if let Some(state) = &mut self.state {
            state.note(kind, place, seq);
        }
    }

    /// Hands over what is ready, once its notes are in the state file.
    fn submit(&mut self, cx: &mut Cx) {
        if let Some(Err(error)) = self.state.as_mut().map(StateFile::flush) {
            self.give_up(error.to_string());
        }
        let mut refused = Vec::new();
        for io in self.ready.drain(..) {
            if let Err(io) = self.channel.submit(cx, io) {
                refused.push(io);
            }
        }
        self.ready = refused;
    }

    fn give_up(&mut self, why: String) {
        self.wrong.get_or_insert(why);
        self.phase = Phase::Ending;
    }

    fn book(&mut self, done: Done, now: Ticks) {
        let finished = done.finish();
        let tag = finished.tag.0 as u32;
        let mut buffer = finished.bufs.into_dma().expect("the buffer comes back as it was lent");
        let flight = self.flights[tag as usize].take().expect("a completion for something under way");
        self.completed += 1;
        self.latencies.record(now - finished.submitted);
        self.ledger.set_busy(flight.place, false);
        match (flight.seq, finished.status.is_ok()) {
            (Some(seq), true) => {
                self.ledger.wrote(flight.place, seq);
                self.note(Kind::Written, flight.place, seq);
            }
            (Some(seq), false) => {
                self.ledger.may_have_written(flight.place, seq);
                self.note(Kind::Failed, flight.place, seq);
            }
            (None, true) => self.judge(flight.place, buffer.as_mut_slice()),
            (None, false) => {}
        }
        if !finished.status.is_ok() {
            self.errors += 1;
            self.first_error.get_or_insert(finished.status);
            if !self.spec.go_on {
                self.phase = Phase::Ending;
            }
        }
        self.idle.push((tag, buffer));
    }

    /// Compares what a place holds with what it may hold.
    fn judge(&mut self, place: u64, bytes: &mut [u8]) {
        let lba = self.lba_of(place);
        for (index, block) in bytes.chunks_mut(self.block_bytes as usize).enumerate() {
            let lba = lba + index as u64;
            let found = stamp::read(block, self.run, lba);
            match self.ledger.found(place, index as u32, lba, found) {
                Ok(false) => {}
                Ok(true) => self.note(Kind::Written, place, self.ledger.acked(place)),
                Err(mismatch) => return self.mismatch(&mismatch),
            }
        }
    }

    fn mismatch(&mut self, mismatch: &Mismatch) {
        self.errors += 1;
        self.give_up(format!("bdev {:?}: {mismatch}", self.spec.bdev));
    }

    fn end(&mut self, now: Ticks) {
        // Writes that were made and never taken did not happen; their plans in the state file only say they may have.
        let unwritten = self.ready.drain(..).map(|io| io.complete(IoStatus::ABORTED).finish());
        unwritten.for_each(drop);
        let report = JobReport {
            bdev: self.spec.bdev.clone(),
            reactor: self.spec.reactor,
            ios: self.completed,
            bytes: self.completed * u64::from(self.spec.io_bytes),
            elapsed: (now - self.started).as_duration(),
            errors: self.errors,
            first_error: self.first_error,
            wrong: self.wrong.take(),
            ticks: self.latencies.take(),
        };
        *self.shared.report.lock().expect("nobody panics while holding this") = Some(report);
    }
}

impl Poller for VerifyJob {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        if self.started == Ticks::ZERO {
            self.started = cx.refresh_now();
        }
        if self.shared.stop.load(Relaxed) {
            self.phase = Phase::Ending;
        }
        let work = self.channel.poll(cx, &mut self.done);
        let now = cx.now();
        while let Some(done) = self.done.pop() {
            self.book(done, now);
        }
        self.prepare(now);
        // What is handed over now has to be polled for.
        let handed = !self.ready.is_empty();
        self.submit(cx);
        self.shared.ios.store(self.completed, Relaxed);
        if self.phase == Phase::Ending && self.channel.in_flight() == 0 {
            self.end(now);
            return Work::Over;
        }
        if self.deadline != Ticks::NEVER {
            cx.wake_at(self.deadline.max(now));
        }
        if handed { work.max(Work::Spin) } else { work }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        self.phase = Phase::Ending;
        Stop::Draining
    }
}

/// The first number of a write is not the mark of a place that was never written.
const _: () = assert!(UNWRITTEN == 0);
