//! A device that does what a test tells it, and a reactor to run it on.

use crate::{
    Bdev, BdevSpec, Bdevs, Bufs, Channel, Cx, Desc, Device, DmaBuf, Done, DoneQueue, Finished, Io, IoChannel,
    IoStatus, Limits, Mode, Op, OpSet, Tag, Work,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};
use uuid::Uuid;

pub(super) const BLOCK: u32 = 512;
pub(super) const BLOCKS: u64 = 1000;

/// The device's side: what it holds, and how much it takes.
#[derive(Default)]
pub(super) struct Script {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// With the number of the channel each came by.
    held: VecDeque<(usize, Io)>,
    /// By channel.
    ended: Vec<DoneQueue>,
    /// IOs it takes at a time; none: any number.
    slots: Option<usize>,
    seen: Vec<Seen>,
    /// Ends every IO at once, this way.
    automatic: Option<fn(Io) -> Done>,
}

/// What the device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) op: Op,
    pub(super) lba: u64,
    pub(super) blocks: u32,
    pub(super) segments: usize,
}

impl Script {
    pub(super) fn set_slots(&self, slots: usize) {
        self.state().slots = Some(slots);
    }

    pub(super) fn set_automatic(&self, end: fn(Io) -> Done) {
        self.state().automatic = Some(end);
    }

    /// Ends the oldest IO the device holds.
    pub(super) fn end_one(&self, status: IoStatus) {
        let mut state = self.state();
        let (channel, io) = state.held.pop_front().expect("the device holds an IO");
        state.ended[channel].push(io.complete(status));
    }

    pub(super) fn end_all(&self) {
        while !self.state().held.is_empty() {
            self.end_one(IoStatus::SUCCESS);
        }
    }

    /// Everything the device was given so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// What the device holds.
    pub(super) fn held(&self) -> Vec<(Op, std::ops::Range<u64>, Tag)> {
        let held = |(_, io): &(usize, Io)| (io.op, io.lba..io.lba + u64::from(io.blocks), io.tag);
        self.state().held.iter().map(held).collect()
    }

    /// Ends one of the IOs the device holds, if there is any.
    pub(super) fn end_some(&self, index: usize) {
        let mut state = self.state();
        let count = state.held.len();
        if count > 0 {
            let (channel, io) = state.held.remove(index % count).expect("one of them");
            state.ended[channel].push(io.complete(IoStatus::SUCCESS));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }
}

struct ScriptedDevice(Arc<Script>);
struct ScriptedChannel(Arc<Script>, usize);

impl Device for ScriptedDevice {
    fn open_channel(&self, _cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let ended = &mut self.0.state().ended;
        ended.push(DoneQueue::default());
        Ok(Box::new(ScriptedChannel(self.0.clone(), ended.len() - 1)))
    }
}

impl Channel for ScriptedChannel {
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        let mut state = self.0.state();
        if state.slots.is_some_and(|slots| state.held.len() >= slots) {
            return Err(io);
        }
        let (op, lba, blocks, segments) = (io.op, io.lba, io.blocks, io.bufs.segment_count());
        state.seen.push(Seen { op, lba, blocks, segments });
        match state.automatic {
            Some(end) => state.ended[self.1].push(end(io)),
            None => state.held.push_back((self.1, io)),
        }
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let ended = &mut self.0.state().ended[self.1];
        if ended.is_empty() {
            return Work::Idle;
        }
        done.take_all(ended);
        Work::Busy
    }
}

pub(super) fn spec(name: &str, script: &Arc<Script>) -> BdevSpec {
    BdevSpec {
        name: name.to_owned(),
        aliases: Vec::new(),
        product_name: "scripted",
        uuid: Uuid::new_v4(),
        block_size: BLOCK,
        num_blocks: BLOCKS,
        ops: OpSet::all(),
        limits: Limits::default(),
        numa_node: None,
        device: Arc::new(ScriptedDevice(script.clone())),
    }
}

/// Registers a scripted bdev.
pub(super) fn scripted(bdevs: &Bdevs, change: impl FnOnce(&mut BdevSpec)) -> (Arc<Bdev>, Arc<Script>) {
    let script = Arc::new(Script::default());
    let mut spec = spec("Scripted0", &script);
    change(&mut spec);
    (bdevs.register(spec).expect("a valid spec"), script)
}

/// Runs `test` on a reactor of its own.
pub(super) fn on_reactor<R: Send + 'static>(test: impl FnOnce(&mut Cx) -> R + Send + 'static) -> R {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    let reactors = Reactors::start(&options).expect("a reactor starts where tests run");
    let result = reactors.handles()[0].call_within(Duration::from_secs(120), |reactor| test(reactor.cx()));
    assert!(reactors.stop().is_empty(), "the test panicked on its reactor");
    result.expect("the test ends in time")
}

/// An open channel with its script.
pub(super) struct Opened {
    pub(super) channel: IoChannel,
    pub(super) script: Arc<Script>,
    pub(super) bdev: Arc<Bdev>,
    pub(super) desc: Desc,
}

pub(super) fn open(cx: &mut Cx, mode: Mode, change: impl FnOnce(&mut BdevSpec)) -> Opened {
    let bdevs = Bdevs::new();
    let (bdev, script) = scripted(&bdevs, change);
    let desc = Desc::open(&bdev, "test", mode).expect("nobody claims it");
    let channel = desc.open_channel(cx).expect("the script opens");
    Opened { channel, script, bdev, desc }
}

impl Opened {
    pub(super) fn submit(&mut self, cx: &mut Cx, io: Io) {
        self.channel.submit(cx, io).expect("there is room");
    }

    /// Polls once.
    pub(super) fn poll(&mut self, cx: &mut Cx) -> Vec<Finished> {
        let mut done = DoneQueue::default();
        let _ = self.channel.poll(cx, &mut done);
        std::iter::from_fn(|| done.pop().map(Done::finish)).collect()
    }

    /// Polls once; tags and statuses.
    pub(super) fn ended(&mut self, cx: &mut Cx) -> Vec<(u64, IoStatus)> {
        self.poll(cx).into_iter().map(|finished| (finished.tag.0, finished.status)).collect()
    }
}

pub(super) fn buffer(bytes: u32) -> Bufs {
    Bufs::from(DmaBuf::alloc(bytes).expect("memory for a test"))
}

/// A read of `blocks` blocks.
pub(super) fn read(tag: u64, lba: u64, blocks: u32) -> Io {
    Io::new(Op::Read, Tag(tag), lba, blocks, buffer(blocks * BLOCK))
}

/// A write of `blocks` blocks.
pub(super) fn write(tag: u64, lba: u64, blocks: u32) -> Io {
    Io::new(Op::Write, Tag(tag), lba, blocks, buffer(blocks * BLOCK))
}
