//! Reactors and bdevs for a test, taken down when dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tgt_bdev::{Bdevs, Cx, DoneQueue, Finished, Io, IoChannel, Mode};
use tgt_reactor::{Handle, Reactors, SleepPolicy, StartOptions};

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process's worth of reactors and bdevs.
#[derive(Debug)]
pub struct World {
    reactors: Option<Reactors>,
    /// The bdevs.
    pub bdevs: Arc<Bdevs>,
}

impl World {
    /// `count` reactors, not pinned: a test machine may have fewer cores, and other tests run on them.
    #[must_use]
    pub fn new(count: u32) -> World {
        let options = StartOptions { cores: (0..count).collect(), sleep: SleepPolicy::ADAPTIVE, pin: false };
        World::with(&options)
    }

    /// Reactors as the options say.
    #[must_use]
    pub fn with(options: &StartOptions) -> World {
        let reactors = Reactors::start(options).expect("reactors start where tests run");
        World { reactors: Some(reactors), bdevs: Bdevs::new() }
    }

    /// The reactors.
    #[must_use]
    pub fn reactors(&self) -> &[Handle] {
        self.reactors.as_ref().expect("only drop takes them").handles()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let stuck = self.reactors.take().map(Reactors::stop).unwrap_or_default();
        assert!(stuck.is_empty() || std::thread::panicking(), "reactors did not stop: {stuck:?}");
    }
}

impl World {
    /// Runs `test` on the first reactor with an open channel to `bdev`; panics if it panics there.
    pub fn with_channel<R: Send + 'static>(
        &self,
        bdev: &str,
        test: impl FnOnce(&mut Cx, &mut IoChannel) -> R + Send + 'static,
    ) -> R {
        let desc = self.bdevs.open(bdev, "test", Mode::Write).expect("it can be opened");
        let on_reactor = move |reactor: &mut tgt_reactor::Reactor| {
            let mut channel = desc.open_channel(reactor.cx()).expect("it opens");
            test(reactor.cx(), &mut channel)
        };
        self.reactors()[0].call(on_reactor).expect("the test ended well on its reactor")
    }
}

/// Submits one IO and polls until it has ended.
pub fn do_io(cx: &mut Cx, channel: &mut IoChannel, io: Io) -> Finished {
    channel.submit(cx, io).expect("there is room");
    let mut done = DoneQueue::default();
    for _ in 0..1_000_000 {
        let _ = channel.poll(cx, &mut done);
        if let Some(done) = done.pop() {
            return done.finish();
        }
    }
    panic!("the IO did not end in a million polls");
}

/// Waits until `condition` holds; panics with `what` if it does not within 20 s.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
