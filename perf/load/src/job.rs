//! The poller: keeps a queue full and measures it.

use crate::pattern::{Part, Pattern};
use crate::report::JobReport;
use crate::spec::{JobSpec, Limit};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tgt_bdev::{Bufs, Cx, Desc, DmaBuf, DoneQueue, Io, IoChannel, IoStatus, Tag, Ticks, Work};
use tgt_reactor::{Poller, Stop};

/// Longest latency that the histogram tells apart; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(100);

/// Digits of a latency that percentiles are true to.
const DIGITS: u8 = 3;

/// Latencies of a job, if they are wanted.
#[derive(Debug)]
pub(crate) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    pub(crate) fn new(wanted: bool) -> Result<Latencies, String> {
        let ticks_max = Ticks::from_duration(LATENCY_MAX).0;
        let histogram =
            Histogram::new_with_bounds(1, ticks_max, DIGITS).map_err(|error| error.to_string())?;
        Ok(Latencies(wanted.then_some(histogram)))
    }

    #[inline]
    pub(crate) fn record(&mut self, ticks: Ticks) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(ticks.0);
        }
    }

    pub(crate) fn take(&mut self) -> Option<Histogram<u64>> {
        self.0.take()
    }
}

/// What control threads see of a job while it runs.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// IOs completed.
    pub(crate) ios: AtomicU64,
    /// Asks the job to end early.
    pub(crate) stop: AtomicBool,
    /// Filled in when the job has ended and nothing is in flight.
    pub(crate) report: Mutex<Option<JobReport>>,
}

/// One job on its reactor.
pub(crate) struct Job {
    spec: JobSpec,
    name: String,
    channel: IoChannel,
    pattern: Pattern,
    /// Buffers of IOs that are not in flight; filled once, so that no IO allocates.
    idle: Vec<Bufs>,
    done: DoneQueue,
    started: Ticks,
    deadline: Ticks,
    to_submit: u64,
    completed: u64,
    errors: u64,
    first_error: Option<IoStatus>,
    latencies: Latencies,
    /// Last, so that whoever sees it let go knows that the channel is closed.
    shared: Arc<Shared>,
}

impl Job {
    /// Opens the channel and allocates everything. The clock starts with the first poll.
    pub(crate) fn new(
        cx: &mut Cx,
        desc: &Desc,
        spec: JobSpec,
        part: Part,
        shared: Arc<Shared>,
    ) -> Result<Job, String> {
        let bdev = desc.bdev().clone();
        let channel = desc.open_channel(cx).map_err(|error| error.to_string())?;
        Ok(Job {
            name: format!("load on {}", spec.bdev),
            pattern: Pattern::new(&spec, part, bdev.block_size(), bdev.num_blocks()),
            idle: make_buffers(&spec)?,
            done: DoneQueue::with_capacity(spec.queue_depth as usize),
            started: Ticks::ZERO,
            deadline: Ticks::NEVER,
            to_submit: match spec.limit {
                Limit::Ios(ios) => ios,
                Limit::Time(_) => u64::MAX,
            },
            completed: 0,
            errors: 0,
            first_error: None,
            latencies: Latencies::new(spec.latency)?,
            channel,
            spec,
            shared,
        })
    }

    #[cold]
    fn start(&mut self, cx: &mut Cx) {
        self.started = cx.refresh_now();
        if let Limit::Time(time) = self.spec.limit {
            self.deadline = self.started + Ticks::from_duration(time);
        }
    }

    /// Submits as many of the idle buffers as there is room for.
    #[cold]
    fn refill(&mut self, cx: &mut Cx) {
        while self.to_submit > 0 {
            let Some(bufs) = self.idle.pop() else { return };
            let before = self.idle.len();
            self.submit_or_park(cx, bufs);
            if self.idle.len() > before {
                // No room for now: try again at the next poll.
                return;
            }
        }
    }

    /// Submits the next IO with these buffers, or parks them if the job is to end or there is no room.
    #[inline]
    fn submit_or_park(&mut self, cx: &mut Cx, bufs: Bufs) {
        if self.to_submit == 0 {
            return self.idle.push(bufs);
        }
        self.to_submit -= 1;
        let (op, lba) = self.pattern.next();
        let io = Io::new(op, Tag(0), lba, self.pattern.blocks(), bufs);
        if let Err(io) = self.channel.submit(cx, io) {
            self.park(io);
        }
    }

    /// No room: this IO was never taken. Its place in the pattern is skipped.
    #[cold]
    fn park(&mut self, io: Io) {
        self.to_submit += 1;
        self.idle.push(io.complete(IoStatus::ABORTED).finish().bufs);
    }

    /// Books one completion and gives its buffers back.
    #[inline]
    fn book(&mut self, now: Ticks, done: tgt_bdev::Done) -> Bufs {
        let finished = done.finish();
        self.completed += 1;
        self.latencies.record(now - finished.submitted);
        if !finished.status.is_ok() {
            self.book_error(finished.status);
        }
        finished.bufs
    }

    #[cold]
    fn book_error(&mut self, status: IoStatus) {
        self.errors += 1;
        self.first_error.get_or_insert(status);
        if !self.spec.go_on {
            self.to_submit = 0;
        }
    }

    #[cold]
    fn end(&mut self, now: Ticks) {
        let report = JobReport {
            bdev: self.spec.bdev.clone(),
            reactor: self.spec.reactor,
            ios: self.completed,
            bytes: self.completed * self.spec.bytes_each(),
            elapsed: (now - self.started).as_duration(),
            errors: self.errors,
            first_error: self.first_error,
            wrong: None,
            ticks: self.latencies.take(),
        };
        *self.shared.report.lock().expect("nobody panics while holding this") = Some(report);
    }
}

impl Poller for Job {
    #[inline]
    fn poll(&mut self, cx: &mut Cx) -> Work {
        if self.started == Ticks::ZERO {
            self.start(cx);
        }
        let mut work = self.channel.poll(cx, &mut self.done);
        let now = cx.now();
        if now >= self.deadline || self.shared.stop.load(Relaxed) {
            self.to_submit = 0;
        }
        while let Some(one) = self.done.pop() {
            let bufs = self.book(now, one);
            self.submit_or_park(cx, bufs);
        }
        if self.to_submit > 0 && !self.idle.is_empty() {
            self.refill(cx);
            // What is handed over now has to be polled for.
            work = work.max(Work::Spin);
        }
        self.shared.ios.store(self.completed, Relaxed);
        if self.channel.in_flight() == 0 && self.to_submit == 0 {
            self.end(now);
            return Work::Over;
        }
        if self.deadline != Ticks::NEVER {
            cx.wake_at(self.deadline);
        }
        work
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        self.to_submit = 0;
        Stop::Draining
    }
}

/// One buffer per IO in flight, filled with something that is not zero.
fn make_buffers(spec: &JobSpec) -> Result<Vec<Bufs>, String> {
    let mut rng = fastrand::Rng::with_seed(spec.seed);
    let (first, second) = spec.workload.ops();
    let make = |_| {
        if !first.has_data() && !second.has_data() {
            return Ok(Bufs::none());
        }
        let mut buffer = DmaBuf::alloc(spec.io_bytes).map_err(|error| error.to_string())?;
        rng.fill(buffer.as_mut_slice());
        Ok(Bufs::from(buffer))
    };
    (0..spec.queue_depth).map(make).collect()
}
