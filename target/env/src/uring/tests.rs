//! The ring against the running kernel. Needs io_uring; where it is refused each test says so and stops.

#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::*;

/// Nothing here takes longer on a working machine.
const BOUND: Duration = Duration::from_secs(10);

pub(super) fn ring() -> Option<Uring> {
    match Uring::new(8) {
        Ok(ring) => Some(ring),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

pub(super) fn event() -> Arc<OwnedFd> {
    Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("eventfd"))
}

fn ring_bell(event: &OwnedFd) {
    rustix::io::write(event, &1u64.to_ne_bytes()).expect("eventfd write");
}

fn silence(event: &OwnedFd) {
    rustix::io::read(event, &mut [0u8; 8]).expect("eventfd read");
}

/// Waits until the source has a completion.
pub(super) fn completion(ring: &mut Uring, source: SourceId) -> Completion {
    let start = Instant::now();
    loop {
        if let Some(done) = ring.next_completion(source) {
            return done;
        }
        assert!(start.elapsed() < BOUND, "no completion within {BOUND:?}");
        ring.wait(Some(BOUND)).expect("wait");
    }
}

/// For the best ring and for those of older kernels.
#[test]
fn an_eventfd_written_by_another_thread_wakes_the_sleeper_again_and_again() {
    if ring().is_none() {
        return;
    }
    for task_run in [TaskRun::Deferred, TaskRun::Cooperative, TaskRun::Interrupting] {
        match Uring::with_choices(8, &[task_run]) {
            Ok(ring) => woken_again_and_again(ring),
            Err(error) => println!("skipped: {task_run:?} is not known to this kernel ({error})"),
        }
    }
}

fn woken_again_and_again(mut ring: Uring) {
    let source = ring.add_source().unwrap();
    let event = event();
    ring.poll_fd(source, event.clone(), Interest::Readable, true, 42).unwrap();
    for _ in 0..3 {
        let writer = thread::spawn({
            let event = event.clone();
            move || ring_bell(&event)
        });
        let done = completion(&mut ring, source);
        assert_eq!((done.tag, done.result & i32::from(libc::POLLIN), done.more), (42, 1, true));
        writer.join().unwrap();
        silence(&event);
    }
}

#[test]
fn a_wait_without_events_ends_at_its_time_and_not_before() {
    let Some(mut ring) = ring() else { return };
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let start = Instant::now();
        // A signal may end a wait early; that is told apart.
        while ring.wait(Some(timeout)).unwrap() != Woken::TimedOut {
            assert!(start.elapsed() < BOUND);
        }
        assert!(start.elapsed() >= timeout);
    }
}

#[test]
fn has_work_turns_true_without_a_system_call_when_something_happened() {
    let Some(mut ring) = ring() else { return };
    let source = ring.add_source().unwrap();
    let event = event();
    assert!(!ring.has_work());
    ring.poll_fd(source, event.clone(), Interest::Readable, false, 1).unwrap();
    assert!(ring.has_work(), "a request waits to be handed over");
    assert_eq!(ring.pump().unwrap(), 0);
    assert!(!ring.has_work());
    ring_bell(&event);
    let start = Instant::now();
    while !ring.has_work() {
        assert!(start.elapsed() < BOUND);
    }
    assert_eq!(ring.pump().unwrap(), 1);
    assert!(ring.has_work(), "a completion waits to be taken");
    assert!(!ring.next_completion(source).unwrap().more);
    assert!(!ring.has_work());
}

#[test]
fn sources_do_not_see_each_others_completions() {
    let Some(mut ring) = ring() else { return };
    let events = [event(), event()];
    let sources = [ring.add_source().unwrap(), ring.add_source().unwrap()];
    for ((&source, event), tag) in sources.iter().zip(&events).zip(10..) {
        ring.poll_fd(source, event.clone(), Interest::Readable, false, tag).unwrap();
    }
    ring_bell(&events[1]);
    assert_eq!(completion(&mut ring, sources[1]).tag, 11);
    assert_eq!(ring.next_completion(sources[0]), None);
    ring_bell(&events[0]);
    assert_eq!(completion(&mut ring, sources[0]).tag, 10);
}

#[test]
fn a_cancelled_poll_completes_once_with_ecanceled_and_frees_its_descriptor() {
    let Some(mut ring) = ring() else { return };
    let source = ring.add_source().unwrap();
    let event = event();
    let op = ring.poll_fd(source, event.clone(), Interest::Readable, true, 5).unwrap();
    assert_eq!(ring.pump().unwrap(), 0);
    ring.cancel(op).unwrap();
    let done = completion(&mut ring, source);
    assert_eq!(done, Completion { tag: 5, result: -libc::ECANCELED, more: false });
    assert_eq!(Arc::strong_count(&event), 1);
    ring.cancel(op).unwrap();
    ring.pump().unwrap();
    assert_eq!(ring.next_completion(source), None, "it is over once");
}

#[test]
fn removing_a_source_swallows_its_outstanding_operations_and_frees_their_descriptors() {
    let Some(mut ring) = ring() else { return };
    let (gone, stays) = (ring.add_source().unwrap(), ring.add_source().unwrap());
    let (quiet, fired, other) = (event(), event(), event());
    ring.poll_fd(gone, quiet.clone(), Interest::Readable, true, 1).unwrap();
    ring.poll_fd(gone, fired.clone(), Interest::Readable, true, 2).unwrap();
    ring.poll_fd(stays, other.clone(), Interest::Readable, false, 3).unwrap();
    ring_bell(&fired);
    ring.remove_source(gone).unwrap();
    ring_bell(&other);
    assert_eq!(completion(&mut ring, stays).tag, 3);
    let start = Instant::now();
    while Arc::strong_count(&quiet) + Arc::strong_count(&fired) > 2 {
        assert!(start.elapsed() < BOUND, "descriptors still held");
        ring.pump().unwrap();
    }
    assert_eq!(ring.next_completion(gone), None);
    assert!(matches!(ring.remove_source(gone), Err(UringError::UnknownSource)));
}

#[test]
fn more_requests_than_the_queue_holds_are_handed_over_in_between() {
    let Some(mut ring) = ring() else { return };
    let source = ring.add_source().unwrap();
    let event = event();
    ring_bell(&event);
    // 8 entries, 32 slots.
    for tag in 0..32 {
        ring.poll_fd(source, event.clone(), Interest::Readable, false, tag).unwrap();
    }
    let full = ring.poll_fd(source, event.clone(), Interest::Readable, false, 99);
    assert!(matches!(full, Err(UringError::NoSlot { limit: 32 })));
    let mut tags: Vec<u64> = (0..32).map(|_| completion(&mut ring, source).tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..32).collect::<Vec<_>>());
    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn a_seccomp_filter_that_refuses_io_uring_is_named() {
    if ring().is_none() {
        return;
    }
    for (errno, part) in [(libc::EPERM, "seccomp"), (libc::ENOSYS, "CONFIG_IO_URING")] {
        // A filter binds the thread that installs it, for good: hence a thread of its own.
        let error = thread::spawn(move || {
            refuse_on_this_thread(libc::SYS_io_uring_setup, errno as u32);
            Uring::new(8).map(drop).expect_err("refused")
        });
        let error = error.join().unwrap();
        assert!(error.is_refusal() && error.to_string().contains(part), "{error}");
    }
}

/// Makes a system call fail with `errno` on this thread.
pub(super) fn refuse_on_this_thread(call: libc::c_long, errno: u32) {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program and its header live until the calls return; both calls bind this thread only.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter), 0);
    }
}
