use crate::{CallError, Cx, Poller, Reactors, SleepPolicy, StartOptions, Stop, Work};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tgt_env::clock::Ticks;

fn start(count: u32, sleep: SleepPolicy) -> Reactors {
    let options = StartOptions { cores: (0..count).collect(), sleep, pin: false };
    Reactors::start(&options).expect("reactors start where tests run")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// A poller that does what its closure says.
struct Scripted<F>(F);

impl<F: FnMut(&mut Cx) -> Work> Poller for Scripted<F> {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        (self.0)(cx)
    }

    fn name(&self) -> &str {
        "scripted"
    }
}

fn counter() -> (Arc<AtomicU64>, Arc<AtomicU64>) {
    let counter = Arc::new(AtomicU64::new(0));
    (counter.clone(), counter)
}

#[test]
fn messages_run_in_order_and_are_answered() {
    let reactors = start(2, SleepPolicy::ADAPTIVE);
    for handle in reactors.handles().iter() {
        let (seen, seen_there) = counter();
        for n in 0..100 {
            let seen = seen_there.clone();
            handle
                .send(move |_| seen.store(seen.load(SeqCst).wrapping_mul(3).wrapping_add(n), SeqCst))
                .expect("room");
        }
        let id = handle.call(|reactor| reactor.cx().id()).expect("an answer");
        assert_eq!(id, handle.id());
        assert_eq!(seen.load(SeqCst), (0..100).fold(0u64, |sum, n| sum.wrapping_mul(3).wrapping_add(n)));
    }
    assert_eq!(reactors.stop(), []);
}

#[test]
fn an_idle_reactor_sleeps_and_wakes_for_a_message() {
    let reactors = start(1, SleepPolicy::ADAPTIVE);
    let handle = reactors.handles()[0].clone();
    for _ in 0..20 {
        wait_until("it sleeps", || handle.stats().snapshot().asleep);
        assert_eq!(handle.call(|_| 7), Ok(7));
    }
    assert!(handle.stats().snapshot().sleeps >= 20);
    assert_eq!(reactors.stop(), []);
}

#[test]
fn a_reactor_that_never_sleeps_does_not() {
    let reactors = start(1, SleepPolicy::Never);
    let handle = reactors.handles()[0].clone();
    let turns = handle.stats().snapshot().turns;
    wait_until("it turns", || handle.stats().snapshot().turns > turns + 100_000);
    assert_eq!(handle.stats().snapshot().sleeps, 0);
    handle.set_spin(Some(Duration::ZERO));
    wait_until("it sleeps now", || handle.stats().snapshot().asleep);
    assert_eq!(reactors.stop(), []);
}

#[test]
fn a_poller_that_spins_keeps_the_reactor_awake() {
    let reactors = start(1, SleepPolicy::After(Duration::ZERO));
    let handle = reactors.handles()[0].clone();
    let (polls, polls_there) = counter();
    let spin = move |_: &mut Cx| {
        polls_there.fetch_add(1, SeqCst);
        Work::Spin
    };
    handle.spawn(|_| Scripted(spin)).expect("an answer");
    let sleeps = handle.stats().snapshot().sleeps;
    let before = polls.load(SeqCst);
    wait_until("it is polled", || polls.load(SeqCst) > before + 100_000);
    assert!(handle.stats().snapshot().sleeps <= sleeps + 1, "only the sleep it may have been in");
    assert_eq!(reactors.stop(), []);
}

#[test]
fn a_deadline_wakes_a_sleeping_reactor() {
    let reactors = start(1, SleepPolicy::After(Duration::ZERO));
    let handle = reactors.handles()[0].clone();
    let (woken, woken_there) = counter();
    handle
        .spawn(move |reactor| {
            let deadline = reactor.cx().refresh_now() + Ticks::from_duration(Duration::from_millis(30));
            Scripted(move |cx: &mut Cx| {
                if cx.now() < deadline {
                    cx.wake_at(deadline);
                    return Work::Idle;
                }
                woken_there.store((cx.now() - deadline).as_ns() + 1, SeqCst);
                Work::Over
            })
        })
        .expect("an answer");
    wait_until("the deadline passes", || woken.load(SeqCst) > 0);
    wait_until("it is gone", || handle.call(|reactor| reactor.poller_stats().is_empty()) == Ok(true));
    assert!(handle.stats().snapshot().sleeps > 0, "it slept meanwhile");
    assert_eq!(reactors.stop(), []);
}

#[test]
fn a_timed_poller_runs_once_per_period() {
    let reactors = start(1, SleepPolicy::ADAPTIVE);
    let handle = reactors.handles()[0].clone();
    let (runs, runs_there) = counter();
    let began = Instant::now();
    let tick = move |_: &mut Cx| {
        runs_there.fetch_add(1, SeqCst);
        Work::Busy
    };
    let spawn = |reactor: &mut crate::Reactor| {
        reactor.cx().spawn(Box::new(Scripted(tick)), Some(Ticks::from_duration(Duration::from_millis(5))))
    };
    let id = handle.call(spawn).expect("an answer");
    wait_until("it ran ten times", || runs.load(SeqCst) >= 10);
    assert!(began.elapsed() >= Duration::from_millis(50), "ten periods of 5 ms");
    let stats = handle.call(|reactor| reactor.poller_stats()).expect("an answer");
    assert_eq!(stats.len(), 1);
    assert!(stats[0].period.is_some() && stats[0].id == id && stats[0].busy_count == stats[0].run_count);
    assert_eq!(handle.call(move |reactor| reactor.stop_poller(id)), Ok(true));
    wait_until("it is gone", || handle.call(move |reactor| reactor.has_poller(id)) == Ok(false));
    assert_eq!(handle.call(move |reactor| reactor.stop_poller(id)), Ok(false));
    assert_eq!(reactors.stop(), []);
}

#[test]
fn a_poller_spawned_by_a_poller_is_polled() {
    let reactors = start(1, SleepPolicy::ADAPTIVE);
    let (runs, runs_there) = counter();
    let parent = move |cx: &mut Cx| {
        let runs = runs_there.clone();
        let child = move |_: &mut Cx| {
            runs.fetch_add(1, SeqCst);
            Work::Over
        };
        cx.spawn(Box::new(Scripted(child)), None);
        Work::Over
    };
    reactors.handles()[0].spawn(|_| Scripted(parent)).expect("an answer");
    wait_until("the child ran", || runs.load(SeqCst) == 1);
    assert_eq!(reactors.stop(), []);
}

struct Drainer {
    may_go: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
}

impl Poller for Drainer {
    fn poll(&mut self, _cx: &mut Cx) -> Work {
        Work::Idle
    }

    fn name(&self) -> &str {
        "drainer"
    }

    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        if self.may_go.load(SeqCst) { Stop::Done } else { Stop::Draining }
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.dropped.store(true, SeqCst);
    }
}

#[test]
fn stopping_waits_for_pollers_to_drain() {
    let reactors = start(1, SleepPolicy::ADAPTIVE);
    let (may_go, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let drainer = Drainer { may_go: may_go.clone(), dropped: dropped.clone() };
    let handle = reactors.handles()[0].clone();
    handle.spawn(|_| drainer).expect("an answer");
    let stopper = std::thread::spawn(move || reactors.stop());
    wait_until("it still answers while draining", || handle.call(|_| 1) == Ok(1));
    assert!(!dropped.load(SeqCst));
    may_go.store(true, SeqCst);
    assert_eq!(stopper.join().expect("no panic"), []);
    assert!(dropped.load(SeqCst));
    assert_eq!(handle.call(|_| 1), Err(CallError::Stopped(handle.id())));
}

#[test]
fn a_reactor_that_panicked_says_that_it_stopped() {
    let reactors = start(2, SleepPolicy::ADAPTIVE);
    let handle = reactors.handles()[1].clone();
    let broken = |_: &mut Cx| panic!("as this test wants it");
    let spawn = move |reactor: &mut crate::Reactor| {
        reactor.cx().spawn(Box::new(Scripted(broken)), None);
    };
    handle.send(spawn).expect("room");
    wait_until("it says so", || handle.call(|_| 1) == Err(CallError::Stopped(handle.id())));
    assert_eq!(reactors.handles()[0].call(|_| 1), Ok(1), "the other goes on");
    assert_eq!(reactors.stop(), [handle.id()]);
}

#[test]
fn a_reactor_must_not_wait_for_a_reactor() {
    let reactors = start(2, SleepPolicy::ADAPTIVE);
    let other = reactors.handles()[1].clone();
    let panics = move |_: &mut crate::Reactor| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| other.call(|_| 1))).is_err()
    };
    assert_eq!(reactors.handles()[0].call(panics), Ok(true));
    assert_eq!(reactors.stop(), []);
}

#[test]
fn busy_and_idle_time_add_up_to_the_time_that_passed() {
    let reactors = start(1, SleepPolicy::ADAPTIVE);
    let handle = reactors.handles()[0].clone();
    let read =
        move || handle.call(|reactor| reactor.cx().refresh_now()).map(|now| (now, handle.stats().snapshot()));
    let (begin, first) = read().expect("an answer");
    let mut latest = read().expect("an answer");
    wait_until("half a second passes", || {
        latest = read().expect("an answer");
        (latest.0 - begin).as_duration() > Duration::from_millis(500)
    });
    let accounted = (latest.1.busy - first.busy) + (latest.1.idle - first.idle);
    let passed = latest.0 - begin;
    let share = accounted.0 as f64 / passed.0 as f64;
    assert!((0.95..1.05).contains(&share), "{accounted:?} of {passed:?} are accounted for");
    assert_eq!(reactors.stop(), []);
}

#[test]
fn each_reactor_has_its_own_locals_by_type() {
    #[derive(PartialEq, Debug)]
    struct Name(u32);
    let reactors = start(2, SleepPolicy::ADAPTIVE);
    for (no, handle) in reactors.handles().iter().enumerate() {
        let set = move |reactor: &mut crate::Reactor| {
            assert_eq!(reactor.cx().local::<Name>(), None, "nobody has set it yet");
            reactor.cx().set_local(Rc::new(Name(no as u32)));
            reactor.cx().set_local(Rc::new(7_u8));
        };
        handle.call(set).expect("an answer");
    }
    for (no, handle) in reactors.handles().iter().enumerate() {
        let seen = handle.call(|reactor| {
            let (name, same) = (reactor.cx().local::<Name>(), reactor.cx().local::<Name>());
            let (name, same) = (name.expect("set before"), same.expect("set before"));
            (name.0, Rc::ptr_eq(&name, &same), reactor.cx().local::<u8>().as_deref().copied())
        });
        assert_eq!(seen, Ok((no as u32, true, Some(7))));
    }
    assert_eq!(reactors.stop(), []);
}

#[test]
fn a_local_is_dropped_on_its_reactors_thread() {
    struct Witness(std::sync::mpsc::Sender<std::thread::ThreadId>);
    impl Drop for Witness {
        fn drop(&mut self) {
            // Whoever waits for it says so below.
            let _ = self.0.send(std::thread::current().id());
        }
    }
    let reactors = start(1, SleepPolicy::ADAPTIVE);
    let (tell, told) = std::sync::mpsc::channel();
    let set = move |reactor: &mut crate::Reactor| {
        reactor.cx().set_local(Rc::new(Witness(tell)));
        std::thread::current().id()
    };
    let thread = reactors.handles()[0].call(set).expect("an answer");
    assert_eq!(reactors.stop(), []);
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(thread));
}
