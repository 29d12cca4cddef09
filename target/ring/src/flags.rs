//! The protocol of the bell: two flags, so that no wake-up is lost and no superfluous one is paid for.
//!
//! ```text
//! sender                                receiver, each turn          receiver, before it sleeps
//! queue the item                        if swap(pending, false):     swap(asleep, true)
//! if swap(pending, true): done              drain queues             if pending: swap(asleep, false), do not sleep
//! if swap(asleep, false):                                            sleep
//!     write the eventfd                                              swap(asleep, false)
//! ```
//! *No lost wake-up*: all of these are read-modify-writes, so each flag has one order of changes that both sides
//! agree on. If the sender's swap of `asleep` comes before the receiver's, its swap of `pending` does too, and the
//! receiver sees it; if it comes after, the sender finds `asleep` set and wakes.
//! *Skipping is safe*: a sender that finds `pending` set has still swapped it, so the receiver's swap that clears it
//! reads from the sender's and sees the item; the receiver drains after clearing.

#[cfg(loom)]
use loom::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed},
};
#[cfg(not(loom))]
use std::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Relaxed},
};

/// State of one receiver's bell.
#[derive(Debug)]
pub(crate) struct Flags {
    pending: AtomicBool,
    asleep: AtomicBool,
}

impl Flags {
    pub(crate) fn new() -> Flags {
        Flags { pending: AtomicBool::new(false), asleep: AtomicBool::new(false) }
    }

    /// Sender, after queueing. True: the receiver sleeps and this caller has to wake it.
    pub(crate) fn ring(&self) -> bool {
        // A read-modify-write, also when the flag is set already: the receiver's swap then reads from it, and with it
        // sees the item. A plain look would publish nothing, and the item could be left lying (loom finds it).
        !self.pending.swap(true, AcqRel) && self.asleep.swap(false, AcqRel)
    }

    /// Receiver: whether anything was queued since the last call. If so, drain the queues now.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // A plain look first: this runs every turn, and a swap locks the cache line.
        self.pending.load(Relaxed) && self.pending.swap(false, AcqRel)
    }

    /// Receiver, before sleeping. False: something was queued, do not sleep.
    pub(crate) fn try_sleep(&self) -> bool {
        self.asleep.swap(true, AcqRel);
        // Reads the flag without changing it, but as a read-modify-write: it must not be an old value.
        if self.pending.fetch_or(false, AcqRel) {
            self.woke();
            return false;
        }
        true
    }

    /// Receiver, after sleeping.
    pub(crate) fn woke(&self) {
        self.asleep.swap(false, AcqRel);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::Flags;
    use loom::sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    };
    use loom::sync::{Arc, Condvar, Mutex};

    /// The kernel's part: a counter that wakes, as an eventfd does.
    struct Eventfd {
        count: Mutex<u32>,
        changed: Condvar,
    }

    impl Eventfd {
        fn write(&self) {
            *self.count.lock().expect("no panic inside") += 1;
            self.changed.notify_one();
        }

        fn wait(&self) {
            let mut count = self.count.lock().expect("no panic inside");
            while *count == 0 {
                count = self.changed.wait(count).expect("no panic inside");
            }
            *count = 0;
        }
    }

    /// Each sender has a queue of its own whose tail it stores with `Release`, as a ring buffer does: the bell must
    /// not rely on the queue for stronger ordering.
    struct World {
        flags: Flags,
        tails: [AtomicU32; 2],
        eventfd: Eventfd,
    }

    /// All interleavings with up to three preemptions: what goes wrong with such flags goes wrong with two.
    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    fn world() -> Arc<World> {
        let eventfd = Eventfd { count: Mutex::new(0), changed: Condvar::new() };
        Arc::new(World { flags: Flags::new(), tails: [AtomicU32::new(0), AtomicU32::new(0)], eventfd })
    }

    fn send(world: &World, sender: usize, tail: u32) {
        world.tails[sender].store(tail, Release);
        if world.flags.ring() {
            world.eventfd.write();
        }
    }

    /// Receives until `wanted` items came; a lost wake-up hangs here, which loom reports as a deadlock.
    fn receive(world: &World, wanted: u32) {
        loop {
            if world.flags.take() {
                let got: u32 = world.tails.iter().map(|tail| tail.load(Acquire)).sum();
                if got == wanted {
                    return;
                }
            }
            if world.flags.try_sleep() {
                world.eventfd.wait();
                world.flags.woke();
            }
        }
    }

    #[test]
    fn two_senders_never_leave_the_receiver_asleep() {
        check(|| {
            let world = world();
            let senders: Vec<_> = (0..2)
                .map(|sender| {
                    let world = world.clone();
                    loom::thread::spawn(move || send(&world, sender, 1))
                })
                .collect();
            receive(&world, 2);
            senders.into_iter().for_each(|sender| sender.join().expect("sends"));
        });
    }

    #[test]
    fn a_second_item_from_one_sender_is_not_left_lying() {
        check(|| {
            let world = world();
            let sender = {
                let world = world.clone();
                loom::thread::spawn(move || {
                    send(&world, 0, 1);
                    send(&world, 0, 2);
                })
            };
            receive(&world, 2);
            sender.join().expect("sends");
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Flags;

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let flags = Flags::new();
        assert!(!flags.ring(), "awake: nothing to wake");
        assert!(!flags.try_sleep(), "something is queued: no sleep");
        assert!(flags.take());
        assert!(!flags.take(), "taken once");
        assert!(flags.try_sleep());
        assert!(flags.ring(), "asleep: the first ring wakes");
        assert!(!flags.ring(), "the second need not");
        flags.woke();
        assert!(flags.take());
    }
}
