//! Reactors and bdevs for a test, taken down when dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tgt_bdev::{Bdev, Bdevs, Bufs, Cx, DmaBuf, DoneQueue, Finished, Io, IoChannel, IoStatus, Mode};
use tgt_reactor::{Handle, Reactors, SleepPolicy, StartOptions};
use uuid::Uuid;

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
        self.reactors()[0].call_within(3 * PATIENCE, on_reactor).expect("the test ended well on its reactor")
    }
}

/// Submits one IO and polls until it has ended.
pub fn do_io(cx: &mut Cx, channel: &mut IoChannel, io: Io) -> Finished {
    channel.submit(cx, io).expect("there is room");
    next_done(cx, channel)
}

/// Polls until an IO has ended; panics if none does within 20 s. Does what the reactor's turn would do, which waits for
/// the test meanwhile: it reads the clock and looks at the io_uring.
pub fn next_done(cx: &mut Cx, channel: &mut IoChannel) -> Finished {
    let deadline = Instant::now() + PATIENCE;
    let mut done = DoneQueue::default();
    while Instant::now() < deadline {
        cx.refresh_now();
        cx.uring().pump().expect("the ring works");
        let _ = channel.poll(cx, &mut done);
        if let Some(first) = done.pop() {
            assert!(done.is_empty(), "more than one IO ended: take them one by one");
            return first.finish();
        }
    }
    panic!("no IO ended within {PATIENCE:?}");
}

/// As [`next_done`], for `count` of them: tags and statuses, sorted by tag.
pub fn all_done(cx: &mut Cx, channel: &mut IoChannel, count: usize) -> Vec<(u64, IoStatus)> {
    let deadline = Instant::now() + PATIENCE;
    let (mut done, mut ended) = (DoneQueue::default(), Vec::new());
    while ended.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} IOs ended within {PATIENCE:?}", ended.len());
        cx.refresh_now();
        cx.uring().pump().expect("the ring works");
        let _ = channel.poll(cx, &mut done);
        while let Some(one) = done.pop() {
            let finished = one.finish();
            ended.push((finished.tag.0, finished.status));
        }
    }
    ended.sort_by_key(|(tag, _)| *tag);
    ended
}

/// A disk in memory for layers to stand on: blocks of 512 bytes, IO cut at every eighth, the same UUID for the same name.
pub fn disk(bdevs: &Bdevs, name: &str, num_blocks: u64) -> Arc<Bdev> {
    let uuid = Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()));
    let (name, block_size, optimal_io_boundary) = (name.to_owned(), 512, 8);
    let spec = bdev_malloc::MallocSpec { name, uuid, block_size, num_blocks, optimal_io_boundary };
    bdev_malloc::create(bdevs, spec).expect("a malloc bdev")
}

/// A buffer of `bytes` bytes of one value.
#[must_use]
pub fn filled(bytes: u32, byte: u8) -> Bufs {
    let mut bufs = Bufs::from(DmaBuf::alloc(bytes).expect("memory"));
    bufs.fill(byte);
    bufs
}

/// What buffers hold.
#[must_use]
pub fn bytes(bufs: &Bufs) -> Vec<u8> {
    let mut bytes = vec![0; bufs.len() as usize];
    bufs.copy_to_slice(0, &mut bytes);
    bytes
}

/// Waits until `condition` holds; panics with `what` if it does not within 20 s.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
