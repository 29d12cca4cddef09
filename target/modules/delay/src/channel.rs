//! Per IO: straight down, and on the way up into the queue of its bucket until its time has come.

use crate::latency::{Bucket, Latencies};
use std::collections::VecDeque;
use std::sync::Arc;
use tgt_bdev::{Channel, Cx, Done, DoneQueue, Io, IoChannel, IoKey, IoStatus, Op, Ticks, Work};

/// One IO in this many takes the longer latency.
const ONE_IN: u32 = 100;

pub(crate) struct DelayChannel {
    base: IoChannel,
    latencies: Arc<Latencies>,
    /// One for each bucket. IOs of one bucket end in the order in which the base ended them.
    late: [VecDeque<(Ticks, Done)>; 4],
    /// What comes from the base in one poll.
    arrived: DoneQueue,
    /// What was aborted here, and the aborts.
    ended: DoneQueue,
    rng: fastrand::Rng,
}

impl DelayChannel {
    pub(crate) fn new(base: IoChannel, latencies: Arc<Latencies>) -> DelayChannel {
        DelayChannel {
            base,
            latencies,
            late: Default::default(),
            arrived: DoneQueue::default(),
            ended: DoneQueue::default(),
            rng: fastrand::Rng::new(),
        }
    }

    fn bucket(&mut self, op: Op) -> Option<Bucket> {
        let slow = self.rng.u32(0..ONE_IN) == 0;
        match op {
            Op::Read if slow => Some(Bucket::P99Read),
            Op::Read => Some(Bucket::AvgRead),
            Op::Write if slow => Some(Bucket::P99Write),
            Op::Write => Some(Bucket::AvgWrite),
            _ => None,
        }
    }

    fn hold_back(&mut self, cx: &Cx, one: Done, done: &mut DoneQueue) {
        let Some(bucket) = self.bucket(one.op) else { return done.push(one) };
        let due = one.submitted() + self.latencies.ticks(bucket);
        let queue = &mut self.late[bucket as usize];
        if due <= cx.now() && queue.is_empty() {
            done.push(one);
        } else {
            queue.push_back((due, one));
        }
    }

    /// An IO whose answer is held back here; any other is the base's to stop.
    #[cold]
    fn take_late(&mut self, io: &Io) -> Option<Done> {
        let key = IoKey::of_opener(io.abort_target());
        self.late.iter_mut().find_map(|queue| {
            let at = queue.iter().position(|(_, done)| done.key() == key)?;
            queue.remove(at).map(|(_, done)| done)
        })
    }
}

impl Channel for DelayChannel {
    fn submit(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        if io.op == Op::Abort
            && let Some(mut late) = self.take_late(&io)
        {
            late.status = IoStatus::ABORTED;
            self.ended.push(late);
            self.ended.push(io.complete(IoStatus::SUCCESS));
            return Ok(());
        }
        self.base.submit(cx, io)
    }

    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let before = done.len();
        done.take_all(&mut self.ended);
        let mut arrived = std::mem::take(&mut self.arrived);
        let work = self.base.poll(cx, &mut arrived);
        while let Some(one) = arrived.pop() {
            self.hold_back(cx, one, done);
        }
        self.arrived = arrived;
        // The control side acts on them.
        while self.base.take_event().is_some() {}
        let now = cx.now();
        for queue in &mut self.late {
            while let Some((_, one)) = queue.pop_front_if(|(due, _)| *due <= now) {
                done.push(one);
            }
            if let Some((due, _)) = queue.front() {
                cx.wake_at(*due);
            }
        }
        if done.len() > before { work.max(Work::Busy) } else { work }
    }
}
