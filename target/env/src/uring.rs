//! One io_uring per reactor, shared by everything on it that waits for the kernel.
//!
//! Each user of the ring is a *source*; completions find their source by its number in the high bits of
//! `user_data` and wait there until it asks for them. The ring belongs to the thread that made it (it is not
//! `Send`): the kernel keeps its work for that thread, so that nothing interrupts it and an idle look at the ring
//! costs loads only.
//!
//! A turn of a reactor: `if ring.has_work() { ring.pump()? }`, then each source takes its completions with
//! [`Uring::next_completion`]. To sleep: [`Uring::wait`].

mod error;
#[cfg(test)]
mod file_tests;
mod files;
mod fixed;
#[cfg(test)]
mod fixed_tests;
mod slots;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

pub use error::UringError;
pub use files::{Allocation, FileId, FileOp, IoDone, SEGMENTS_MAX};
pub use slots::{Completion, OpId, SharedFd, SourceId};

use files::Files;
use fixed::FixedBuffers;
use slots::{SLOTS_MAX, Slots, UNHEARD};

/// Operations a ring holds for each entry of its submission queue.
const SLOTS_PER_ENTRY: u32 = 4;

/// How long a ring that ends waits for reads and writes under way.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// A reactor's io_uring.
pub struct Uring {
    ring: IoUring,
    features: UringFeatures,
    slots: Slots,
    files: Files,
    fixed: FixedBuffers,
    /// Only the thread that made the ring may use it (`IORING_SETUP_SINGLE_ISSUER`).
    thread_bound: PhantomData<*const ()>,
}

/// What the kernel's io_uring offers; each that is missing costs a little, none is indispensable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringFeatures {
    /// When completion work runs.
    pub task_run: TaskRun,
    /// Sleeping in [`Uring::wait`] does not count as waiting for a disk (Linux 6.15).
    pub no_iowait: bool,
}

/// When the kernel runs completion work for the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskRun {
    /// Only inside this ring's own calls (Linux 6.1): the best.
    Deferred,
    /// At the thread's next system call (Linux 5.19).
    Cooperative,
    /// At once, by interrupting the thread.
    Interrupting,
}

/// What to wait for on a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Data, a connection, or the end.
    Readable,
    /// Room to write.
    Writable,
    /// Either.
    Both,
}

/// Why [`Uring::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// At least one completion can be taken.
    Completions,
    /// The time is over.
    TimedOut,
    /// A signal came, or something that concerns nobody: look at the clock and wait again.
    Early,
}

impl Uring {
    /// A ring with room for `entries` submissions at once and four times as many operations under way (rounded up
    /// to a power of two). Call it on the thread that will use it.
    ///
    /// # Errors
    /// One for which [`UringError::is_refusal`] holds.
    pub fn new(entries: u32) -> Result<Self, UringError> {
        Self::with_choices(entries, &[TaskRun::Deferred, TaskRun::Cooperative, TaskRun::Interrupting])
    }

    fn with_choices(entries: u32, choices: &[TaskRun]) -> Result<Self, UringError> {
        let (ring, task_run) =
            build(entries, choices).map_err(|source| UringError::of_setup(entries, source))?;
        let params = ring.params();
        if !params.is_feature_nodrop() {
            return Err(UringError::TooOld { feature: "IORING_FEAT_NODROP", since: "5.5" });
        }
        if !params.is_feature_submit_stable() {
            return Err(UringError::TooOld { feature: "IORING_FEAT_SUBMIT_STABLE", since: "5.5" });
        }
        if !params.is_feature_ext_arg() {
            return Err(UringError::TooOld { feature: "IORING_FEAT_EXT_ARG", since: "5.11" });
        }
        let features = UringFeatures { task_run, no_iowait: params.is_feature_no_iowait() };
        let slots = params.sq_entries().saturating_mul(SLOTS_PER_ENTRY).min(SLOTS_MAX);
        let (slots, files, fixed) = (Slots::new(slots), Files::new(), FixedBuffers::new());
        Ok(Self { features, slots, files, fixed, ring, thread_bound: PhantomData })
    }

    /// What the kernel gave.
    #[must_use]
    pub fn features(&self) -> UringFeatures {
        self.features
    }

    /// Why reads and writes do without registered buffers in part or at all: each reason once, for the operator.
    #[inline]
    #[must_use]
    pub fn take_refusal(&mut self) -> Option<UringError> {
        self.fixed.take_refusal()
    }

    /// A new consumer of completions.
    ///
    /// # Errors
    /// [`UringError::NoSource`].
    pub fn add_source(&mut self) -> Result<SourceId, UringError> {
        self.slots.add_source()
    }

    /// Ends a source. Its operations are cancelled, its completions, late ones too, concern nobody any more; file
    /// descriptors are held until the kernel has let go of them.
    ///
    /// # Errors
    /// [`UringError::UnknownSource`]; [`UringError::Enter`] if the cancellations could not be handed over (the
    /// source is gone all the same).
    pub fn remove_source(&mut self, source: SourceId) -> Result<(), UringError> {
        self.slots.remove_source(source)?;
        for index in 0..self.slots.count() {
            if let Some(user_data) = self.slots.armed_for(index, source) {
                self.push(&cancel_entry(user_data))?;
            }
        }
        Ok(())
    }

    /// Asks to be told when `fd` is ready; takes effect with the next [`Self::pump`] or [`Self::wait`].
    ///
    /// `multishot`: again for every new event, until cancelled. It reports *changes* (and once the state at the
    /// start): read until nothing is left before relying on the next report. Reports not yet consumed add up to one.
    ///
    /// # Errors
    /// [`UringError::UnknownSource`], [`UringError::NoSlot`], [`UringError::Enter`].
    pub fn poll_fd(
        &mut self,
        source: SourceId,
        fd: SharedFd,
        interest: Interest,
        multishot: bool,
        tag: u64,
    ) -> Result<OpId, UringError> {
        let number = Fd(fd.as_fd().as_raw_fd());
        self.make_room()?;
        let (op, user_data) = self.slots.arm(source, tag, fd)?;
        let entry =
            opcode::PollAdd::new(number, interest.events()).multi(multishot).build().user_data(user_data);
        self.push(&entry)?;
        Ok(op)
    }

    /// Asks for the end of an operation; it then completes with −ECANCELED unless it has just completed otherwise.
    /// Nothing happens if it is over already.
    ///
    /// # Errors
    /// [`UringError::Enter`].
    pub fn cancel(&mut self, op: OpId) -> Result<(), UringError> {
        match self.slots.armed(op) {
            Some(user_data) => self.push(&cancel_entry(user_data)),
            None => Ok(()),
        }
    }

    /// The next completion of a source, in order of arrival, among those taken in by [`Self::pump`] and
    /// [`Self::wait`]. For sources that watch descriptors; what file operations bring is taken by [`Self::next_io`].
    #[inline]
    pub fn next_completion(&mut self, source: SourceId) -> Option<Completion> {
        self.slots.next_ready(source).map(|(completion, _no_bufs)| completion)
    }

    /// Operations that the kernel will still report on. While there are only those that a caller knows of and can
    /// do without until it sleeps, it need not look at the ring.
    #[inline]
    #[must_use]
    pub fn under_way(&self) -> u32 {
        self.slots.under_way()
    }

    /// Whether [`Self::pump`] would have something to do or a completion waits to be taken. Loads only.
    #[inline]
    #[must_use]
    pub fn has_work(&mut self) -> bool {
        self.slots.ready() > 0 || !self.ring.completion().is_empty() || self.must_enter()
    }

    /// Whether the kernel has something for us: completions, or work that it does in our next call. Without it
    /// [`Self::has_work`] means only that requests wait to be handed over. Loads only.
    #[must_use]
    pub fn has_news(&mut self) -> bool {
        let queue = self.ring.submission();
        let kernel_waits = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        kernel_waits || self.slots.ready() > 0 || !self.ring.completion().is_empty()
    }

    /// Hands new requests to the kernel and takes in what is complete, without waiting: one system call if there is
    /// something to hand over or the kernel asks for one, none otherwise. Returns the completions to be taken.
    ///
    /// # Errors
    /// [`UringError::Enter`].
    pub fn pump(&mut self) -> Result<u32, UringError> {
        if self.must_enter() {
            self.enter(0, None)?;
        }
        self.take_in();
        Ok(self.slots.ready())
    }

    /// Hands new requests over and sleeps until there is a completion, or `timeout` has passed. Does not sleep if a
    /// completion waits to be taken, or if the timeout is zero.
    ///
    /// # Errors
    /// [`UringError::Enter`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Woken, UringError> {
        self.take_in();
        if self.slots.ready() > 0 {
            self.pump()?;
            return Ok(Woken::Completions);
        }
        // A timer of no time would still cost a trip through the scheduler (15 µs where tried).
        let end = match timeout {
            Some(Duration::ZERO) => self.enter(0, None).map(|_| Woken::TimedOut)?,
            timeout => self.enter(1, timeout)?,
        };
        self.take_in();
        Ok(if self.slots.ready() > 0 { Woken::Completions } else { end })
    }

    fn must_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// A place in the submission queue, so that what follows cannot fail half-way.
    fn make_room(&mut self) -> Result<(), UringError> {
        if self.ring.submission().is_full() { self.hand_over() } else { Ok(()) }
    }

    /// Hands over all that is queued.
    #[cold]
    fn hand_over(&mut self) -> Result<(), UringError> {
        const TRIES: u32 = 8;
        for _ in 0..TRIES {
            self.enter(0, None)?;
            self.take_in();
            if self.ring.submission().is_empty() {
                return Ok(());
            }
        }
        let source = io::Error::from_raw_os_error(libc::EBUSY);
        Err(UringError::Enter { source })
    }

    /// Queues an entry, handing over what is queued if there is no room.
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), UringError> {
        self.make_room()?;
        // SAFETY: entries come from `poll_fd` (its descriptor is held by the slot until the kernel is done) and
        // `cancel_entry` (no pointers).
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "there is room, and nobody else fills it");
        Ok(())
    }

    fn take_in(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            let more = cqueue::more(entry.flags());
            if let Some(file) = self.slots.complete(entry.user_data(), entry.result(), more) {
                self.files.op_over(&self.ring, file);
            }
        }
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> Result<Woken, UringError> {
        let result = enter(&mut self.ring, want, timeout, self.features.no_iowait);
        match result.map_err(|source| (source.raw_os_error(), source)) {
            Ok(()) | Err((Some(libc::EINTR), _)) => Ok(Woken::Early),
            Err((Some(libc::ETIME), _)) => Ok(Woken::TimedOut),
            // The completion queue is full, or memory is short for the moment: taking in completions comes next and
            // helps, and what was not handed over stays in the queue.
            Err((Some(libc::EBUSY | libc::EAGAIN), _)) => Ok(Woken::Early),
            Err((_, source)) => Err(UringError::Enter { source }),
        }
    }
}

/// The kernel may write into buffers after the ring is closed: they outlive what it does with them, or stay for ever.
impl Drop for Uring {
    fn drop(&mut self) {
        let deadline = Instant::now() + DROP_PATIENCE;
        while self.slots.any_bufs_under_way() && Instant::now() < deadline {
            if self.enter(1, Some(Duration::from_millis(100))).is_err() {
                break;
            }
            self.take_in();
        }
        self.slots.leak_bufs_under_way();
    }
}

/// The best ring this kernel can make, of the kinds named.
fn build(entries: u32, choices: &[TaskRun]) -> io::Result<(IoUring, TaskRun)> {
    let mut unknown_flag = io::Error::from_raw_os_error(libc::EINVAL);
    for &task_run in choices {
        let mut builder = IoUring::builder();
        match task_run {
            TaskRun::Deferred => builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag(),
            TaskRun::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
            TaskRun::Interrupting => &mut builder,
        };
        let cq_entries = entries.saturating_mul(SLOTS_PER_ENTRY);
        match builder.setup_clamp().setup_cqsize(cq_entries).build(entries) {
            Ok(ring) => return Ok((ring, task_run)),
            // A kernel that does not know a flag says so this way.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => unknown_flag = error,
            Err(error) => return Err(error),
        }
    }
    Err(unknown_flag)
}

fn enter(ring: &mut IoUring, want: u32, timeout: Option<Duration>, no_iowait: bool) -> io::Result<()> {
    let submit = ring.submission().len() as u32;
    let time = timeout.map(Timespec::from);
    let args = time.as_ref().map_or(SubmitArgs::new(), |time| SubmitArgs::new().timespec(time));
    let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
    if want > 0 && no_iowait {
        flags |= EnterFlags::NO_IOWAIT;
    }
    // SAFETY: EXT_ARG takes exactly this structure (the crate passes its size), it and the time in it live until
    // the call returns, and the entries submitted were checked when pushed.
    unsafe { ring.submitter().enter(submit, want, flags.bits(), Some(&args)) }.map(drop)
}

fn cancel_entry(user_data: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data).build().user_data(UNHEARD)
}

impl Interest {
    fn events(self) -> u32 {
        let events = match self {
            Self::Readable => libc::POLLIN | libc::POLLRDHUP,
            Self::Writable => libc::POLLOUT,
            Self::Both => libc::POLLIN | libc::POLLRDHUP | libc::POLLOUT,
        };
        events as u32
    }
}

impl fmt::Display for UringFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.task_run {
            TaskRun::Deferred => "io_uring: deferred task run",
            TaskRun::Cooperative => "io_uring: cooperative task run (deferred: Linux 6.1)",
            TaskRun::Interrupting => "io_uring: interrupting task run (deferred: Linux 6.1)",
        })?;
        f.write_str(if self.no_iowait {
            ", no iowait"
        } else {
            ", sleep shows as iowait (not from Linux 6.15 on)"
        })
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("features", &self.features).field("ready", &self.slots.ready()).finish()
    }
}
