//! What to do wrong: told by control threads, taken by reactors.

use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tgt_bdev::{IoStatus, Op};
use tgt_reactor::Handle;

/// The kinds of IO that faults are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Unmaps.
    Unmap,
    /// Flushes.
    Flush,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 4] = [Target::Read, Target::Write, Target::Unmap, Target::Flush];

    /// That of an operation; none: it never goes wrong here.
    #[inline]
    pub(crate) const fn of(op: Op) -> Option<Target> {
        match op {
            Op::Read => Some(Target::Read),
            Op::Write => Some(Target::Write),
            Op::Unmap => Some(Target::Unmap),
            Op::Flush => Some(Target::Flush),
            Op::WriteZeroes | Op::Reset | Op::Abort | Op::Compare | Op::CompareAndWrite | Op::Copy => None,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It ends this way without having reached the base.
    Status(IoStatus),
    /// It does not end.
    Pending,
    /// One byte is another.
    Corrupt {
        /// Of the IO's data; beyond its end nothing is changed.
        offset: u64,
        /// What the byte is combined with by exclusive or.
        value: u8,
    },
    /// It is handed back as if there were no slot, and comes again.
    NoSlot,
}

/// One thing to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// For so many IOs more.
    pub num: u32,
    /// Only for IO that finds at least so many others in flight on its channel.
    pub queue_depth: u64,
}

/// The faults of one error bdev, on all reactors.
#[derive(Debug, Default)]
pub struct Faults {
    /// One bit for each target that has a fault: all that IO looks at otherwise.
    armed: AtomicU32,
    by_target: Mutex<[Option<Fault>; Target::ALL.len()]>,
    /// Raised when what is pending shall go on.
    resumes: AtomicU32,
    /// Whom to wake then.
    reactors: OnceLock<Arc<Vec<Handle>>>,
}

impl Faults {
    /// Replaces the fault of one target.
    pub fn set(&self, target: Target, fault: Fault) {
        self.change(target, Some(fault).filter(|fault| fault.num > 0));
    }

    /// Forgets all of them. What is pending stays so.
    pub fn clear(&self) {
        Target::ALL.into_iter().for_each(|target| self.change(target, None));
    }

    /// Lets what is pending go on to the base.
    pub fn resume_pending(&self) {
        self.resumes.fetch_add(1, AcqRel);
        for reactor in self.reactors.get().into_iter().flat_map(|reactors| reactors.iter()) {
            // An empty message, so that a sleeping reactor polls; one whose inbox is full is awake anyway.
            let _ = reactor.send(|_| ());
        }
    }

    pub(crate) fn remember_reactors(&self, reactors: &Arc<Vec<Handle>>) {
        self.reactors.get_or_init(|| reactors.clone());
    }

    /// Number of resumes so far.
    #[inline]
    pub(crate) fn resumes(&self) -> u32 {
        self.resumes.load(Acquire)
    }

    /// What goes wrong with this IO, which finds `in_flight` others.
    #[inline]
    pub(crate) fn take(&self, op: Op, in_flight: u64) -> Option<Kind> {
        let target = Target::of(op)?;
        if self.armed.load(Acquire) & 1 << target as u32 == 0 {
            return None;
        }
        self.take_armed(target, in_flight)
    }

    #[cold]
    fn take_armed(&self, target: Target, in_flight: u64) -> Option<Kind> {
        let mut faults = self.lock();
        let place = &mut faults[target as usize];
        let fault = place.as_mut().filter(|fault| in_flight >= fault.queue_depth)?;
        fault.num -= 1;
        let kind = fault.kind;
        if fault.num == 0 {
            *place = None;
            self.armed.fetch_and(!(1 << target as u32), AcqRel);
        }
        Some(kind)
    }

    fn change(&self, target: Target, fault: Option<Fault>) {
        let mut faults = self.lock();
        faults[target as usize] = fault;
        let bits =
            faults.iter().zip(0..).fold(0, |bits, (fault, bit)| bits | u32::from(fault.is_some()) << bit);
        self.armed.store(bits, Release);
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Fault>; Target::ALL.len()]> {
        self.by_target.lock().expect("no thread panics while it holds this lock")
    }
}
