//! A registered bdev: what is fixed, what may change, who has it open.

use crate::desc::{Claim, DescInfo};
use crate::device::{BdevSpec, Device, Limits, OpSet};
use crate::histogram::{Counts, Histogram, HistogramSpec};
use crate::modules::Modules;
use crate::notify::{NotificationKind, Notifications};
use crate::qos::{Qos, RateLimits};
use crate::range_lock::{Lock, LockQueue};
use crate::sampling::{QueueDepth, Samples};
use crate::stats::{ChannelStats, Generation, IoStats, ResetMode};
use crate::trace::{TraceRing, TracedIo};
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tgt_env::probe::Text;
use tgt_reactor::{Handle, ReactorId};
use uuid::Uuid;

/// A registered bdev. Control threads; io channels read its atomics.
pub struct Bdev {
    spec: BdevSpec,
    probe_name: Text,
    num_blocks: AtomicU64,
    removed: AtomicBool,
    generation_all: AtomicU32,
    generation_max_min: AtomicU32,
    generation_errors: AtomicU32,
    qos: Arc<Qos>,
    samples: Samples,
    /// Raised after any change that io channels have to notice.
    changes: AtomicU32,
    pub(crate) control: Mutex<Control>,
    closed: Condvar,
    /// Raised when other range locks are in force.
    pub(crate) locks_version: AtomicU64,
    /// A thread's lock is held, or the bdev is removed.
    pub(crate) locks_changed: Condvar,
    notifications: Arc<Notifications>,
    modules: Arc<Modules>,
}

/// Who has the bdev open. Short critical sections, control threads and channel opening only.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) descs: Vec<DescInfo>,
    pub(crate) claim: Claim,
    pub(crate) channels: Vec<ChannelEntry>,
    pub(crate) locks: LockQueue,
    /// Totals of channels that were closed since the last reset.
    closed_stats: IoStats,
    /// While latencies are counted: what closed channels have counted.
    histogram: Option<Counts>,
    /// One of so many IOs is traced; 0: none.
    trace_every: u32,
    next_id: u64,
}

/// An open io channel as the control side knows it.
#[derive(Clone, Debug)]
pub(crate) struct ChannelEntry {
    pub(crate) id: u64,
    pub(crate) reactor: Handle,
    pub(crate) opener: Arc<str>,
    pub(crate) stats: Arc<ChannelStats>,
    histogram: Option<Arc<Histogram>>,
    trace: Option<Arc<TraceRing>>,
}

/// An open io channel as RPC tells of it.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// Where it runs.
    pub reactor: ReactorId,
    /// Who opened the bdev.
    pub opener: Arc<str>,
    /// Its accounts.
    pub stats: IoStats,
}

/// Sampled IO of an open io channel.
#[derive(Clone, Debug)]
pub struct ChannelTrace {
    /// Where it runs.
    pub reactor: ReactorId,
    /// Who opened the bdev.
    pub opener: Arc<str>,
    /// Samples that have ended since the trace was set.
    pub sampled: u64,
    /// The newest of them, the oldest first.
    pub ios: Vec<TracedIo>,
}

impl Bdev {
    pub(crate) fn new(spec: BdevSpec, notifications: Arc<Notifications>, modules: Arc<Modules>) -> Bdev {
        Bdev {
            num_blocks: AtomicU64::new(spec.num_blocks),
            probe_name: Text::new(&spec.name),
            spec,
            removed: AtomicBool::new(false),
            generation_all: AtomicU32::new(0),
            generation_max_min: AtomicU32::new(0),
            generation_errors: AtomicU32::new(0),
            qos: Arc::default(),
            samples: Samples::default(),
            changes: AtomicU32::new(0),
            control: Mutex::default(),
            closed: Condvar::new(),
            locks_version: AtomicU64::new(0),
            locks_changed: Condvar::new(),
            notifications,
            modules,
        }
    }

    /// Unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where probes find its name, as long as it lives.
    pub(crate) fn probe_name(&self) -> usize {
        self.probe_name.address()
    }

    /// Further names, its UUID among them.
    #[must_use]
    pub fn aliases(&self) -> Vec<String> {
        self.spec.aliases.iter().cloned().chain([self.spec.uuid.to_string()]).collect()
    }

    /// Whether this is its name, an alias or its UUID.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name() == name || self.aliases().iter().any(|alias| alias == name)
    }

    /// What control planes switch on.
    #[must_use]
    pub fn product_name(&self) -> &'static str {
        self.spec.product_name
    }

    /// Identity.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.spec.uuid
    }

    /// Bytes per block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.spec.block_size
    }

    /// Blocks, as of now.
    #[must_use]
    pub fn num_blocks(&self) -> u64 {
        self.num_blocks.load(Acquire)
    }

    /// What openers may ask for, what is emulated included.
    #[must_use]
    pub fn ops(&self) -> OpSet {
        self.spec.ops.with_emulated()
    }

    /// What its device does itself.
    #[must_use]
    pub fn native_ops(&self) -> OpSet {
        self.spec.ops
    }

    /// What it takes in one IO.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.spec.limits
    }

    /// NUMA node of its memory or hardware, if it has one.
    #[must_use]
    pub fn numa_node(&self) -> Option<u32> {
        self.spec.numa_node
    }

    /// Its module's part.
    #[must_use]
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.spec.device
    }

    /// The claim on it.
    #[must_use]
    pub fn claim(&self) -> Claim {
        self.control().claim
    }

    /// Who has it open.
    #[must_use]
    pub fn openers(&self) -> Vec<DescInfo> {
        self.control().descs.clone()
    }

    /// Its io channels and their accounts.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelInfo> {
        let generation = self.generation();
        let info = |channel: &ChannelEntry| ChannelInfo {
            reactor: channel.reactor.id(),
            opener: channel.opener.clone(),
            stats: channel.stats.snapshot(generation),
        };
        self.control().channels.iter().map(info).collect()
    }

    /// Totals over all channels, open and closed, since the last reset.
    #[must_use]
    pub fn stats(&self) -> IoStats {
        let control = self.control();
        let generation = self.generation();
        let mut stats = control.closed_stats.clone();
        control.channels.iter().for_each(|channel| stats.add(&channel.stats.snapshot(generation)));
        stats
    }

    /// Forgets accounts. Seen by every later reader at once.
    pub fn reset_stats(&self, mode: ResetMode) {
        let mut control = self.control();
        match mode {
            ResetMode::All => {
                control.closed_stats = IoStats::default();
                self.generation_all.fetch_add(1, AcqRel);
            }
            ResetMode::MaxMin => {
                control.closed_stats.forget_max_min();
                self.generation_max_min.fetch_add(1, AcqRel);
            }
            ResetMode::Errors => {
                control.closed_stats.errors.clear();
                self.generation_errors.fetch_add(1, AcqRel);
            }
        }
        self.announce(&control);
    }

    /// Limits the rate of reads and writes; the change is seen from the next turn of each reactor on.
    pub fn set_rate_limits(&self, limits: RateLimits) {
        let control = self.control();
        self.qos.set(limits);
        self.announce(&control);
    }

    /// The limits in force.
    #[must_use]
    pub fn rate_limits(&self) -> RateLimits {
        self.qos.limits()
    }

    pub(crate) fn qos(&self) -> &Arc<Qos> {
        &self.qos
    }

    /// Starts to count latencies afresh, or stops with `None`.
    pub fn set_histogram(&self, spec: Option<HistogramSpec>) {
        let mut control = self.control();
        control.histogram = spec.map(Counts::new);
        for channel in &mut control.channels {
            channel.histogram = spec.map(|spec| Arc::new(Histogram::new(spec)));
        }
        self.announce(&control);
    }

    /// What was counted over all channels since it was started; `None` if it was not.
    #[must_use]
    pub fn histogram(&self) -> Option<Counts> {
        let control = self.control();
        let mut counts = control.histogram.clone()?;
        let open = control.channels.iter().filter_map(|channel| channel.histogram.as_ref());
        open.for_each(|histogram| histogram.add_to(&mut counts));
        Some(counts)
    }

    /// Traces one of `every` IOs of each io channel afresh, present and future ones; 0 ends it.
    pub fn set_io_trace(&self, every: u32) {
        let mut control = self.control();
        control.trace_every = every;
        for channel in &mut control.channels {
            channel.trace = (every > 0).then(|| Arc::new(TraceRing::new(every)));
        }
        self.announce(&control);
    }

    /// One of so many IOs is traced; 0: none.
    #[must_use]
    pub fn io_trace_every(&self) -> u32 {
        self.control().trace_every
    }

    /// The newest sampled IOs, at most `count` of each open channel.
    #[must_use]
    pub fn io_trace(&self, count: usize) -> Vec<ChannelTrace> {
        let of = |channel: &ChannelEntry| {
            let ring = channel.trace.as_ref()?;
            let (reactor, opener) = (channel.reactor.id(), channel.opener.clone());
            Some(ChannelTrace { reactor, opener, sampled: ring.written(), ios: ring.newest(count) })
        };
        self.control().channels.iter().filter_map(of).collect()
    }

    /// Samples the queue depth every `period` from now on; zero ends it.
    ///
    /// # Errors
    /// If no thread could be started; nothing is sampled then.
    pub fn sample_queue_depth(self: &Arc<Self>, period: Duration) -> std::io::Result<()> {
        let started = Samples::start(self, period);
        self.announce(&self.control());
        started
    }

    /// What sampling has seen; `None` if nobody asked for it.
    #[must_use]
    pub fn queue_depth_sampled(&self) -> Option<QueueDepth> {
        self.samples.read()
    }

    pub(crate) fn samples(&self) -> &Samples {
        &self.samples
    }

    /// IOs in flight on all channels, while it is sampled.
    pub(crate) fn queue_depth(&self) -> u64 {
        self.control().channels.iter().map(|channel| u64::from(channel.stats.depth())).sum()
    }

    pub(crate) fn histogram_of(&self, channel: u64) -> Option<Arc<Histogram>> {
        let control = self.control();
        control.channels.iter().find(|entry| entry.id == channel)?.histogram.clone()
    }

    pub(crate) fn trace_of(&self, channel: u64) -> Option<Arc<TraceRing>> {
        let control = self.control();
        control.channels.iter().find(|entry| entry.id == channel)?.trace.clone()
    }

    /// Changes the size; openers get an event. IO beyond the new end fails from the next turn of each reactor on.
    pub fn resize(&self, num_blocks: u64) {
        let control = self.control();
        self.num_blocks.store(num_blocks, Release);
        self.announce(&control);
        drop(control);
        self.notifications.push(NotificationKind::BdevResize, self.name());
        self.modules.all().iter().for_each(|module| module.resized(self));
    }

    /// True once it was removed: every IO fails, no one can open it.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Acquire)
    }

    pub(crate) fn mark_removed(&self) {
        let control = self.control();
        self.removed.store(true, Release);
        self.announce(&control);
        self.locks_changed.notify_all();
    }

    /// Waits until nobody has it open. Returns those who still have when `patience` is over.
    pub(crate) fn wait_closed(&self, patience: Duration) -> Vec<DescInfo> {
        let deadline = Instant::now() + patience;
        let mut control = self.control();
        while !control.descs.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.closed.wait_timeout(control, left);
            control = waited.expect("no thread panics while it holds this lock").0;
        }
        control.descs.clone()
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().expect("no thread panics while it holds this lock")
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation {
            all: self.generation_all.load(Acquire),
            max_min: self.generation_max_min.load(Acquire),
            errors: self.generation_errors.load(Acquire),
        }
    }

    /// Number of changes so far; an io channel that finds another number looks at everything again.
    #[inline]
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// Lists a channel. Returns the locks in force and their version too: it need not acknowledge them, as nothing of it
    /// is in the device.
    pub(crate) fn add_channel(
        &self,
        reactor: Handle,
        opener: Arc<str>,
    ) -> (u64, Arc<ChannelStats>, (u64, Vec<Arc<Lock>>)) {
        let mut control = self.control();
        let id = control.next_id();
        let locks = (self.locks_version.load(Acquire), control.locks.in_force().cloned().collect());
        let stats = Arc::new(ChannelStats::new(self.generation()));
        let histogram = control.histogram.as_ref().map(|counts| Arc::new(Histogram::new(counts.spec)));
        let trace = (control.trace_every > 0).then(|| Arc::new(TraceRing::new(control.trace_every)));
        control.channels.push(ChannelEntry { id, reactor, opener, stats: stats.clone(), histogram, trace });
        (id, stats, locks)
    }

    pub(crate) fn remove_channel(&self, id: u64) {
        let mut control = self.control();
        let generation = self.generation();
        if let Some(index) = control.channels.iter().position(|channel| channel.id == id) {
            let channel = control.channels.remove(index);
            if let (Some(counts), Some(histogram)) = (&mut control.histogram, &channel.histogram) {
                histogram.add_to(counts);
            }
            control.closed_stats.add(&channel.stats.snapshot(generation));
            control.locks.channel_closed(id);
            self.grant_locks(&mut control);
        }
    }

    pub(crate) fn desc_closed(&self) {
        self.closed.notify_all();
    }

    /// Raises the number of changes and wakes every reactor that has a channel.
    pub(crate) fn announce(&self, control: &Control) {
        self.changes.fetch_add(1, AcqRel);
        for channel in &control.channels {
            // An empty message, so that a sleeping reactor polls; one whose inbox is full is awake anyway.
            let _ = channel.reactor.send(|_| ());
        }
    }
}

impl Control {
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl std::fmt::Debug for Bdev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.spec, f)
    }
}
