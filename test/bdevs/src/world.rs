//! Reactors and bdevs for a test, taken down when dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tgt_bdev::Bdevs;
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

/// Waits until `condition` holds; panics with `what` if it does not within 20 s.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
