//! Per IO: straight through, unless there is a fault for it.

use crate::corrupt::Corruptions;
use crate::fault::{Faults, Kind};
use std::collections::VecDeque;
use std::sync::Arc;
use tgt_bdev::{Channel, Cx, DoneQueue, Event, Io, IoChannel, IoKey, IoStatus, Op, Work};

pub(crate) struct ErrorChannel {
    base: IoChannel,
    faults: Arc<Faults>,
    /// Resumes seen.
    resumes: u32,
    pending: VecDeque<Io>,
    corruptions: Corruptions,
    /// What ended here.
    ended: DoneQueue,
}

impl ErrorChannel {
    pub(crate) fn new(base: IoChannel, faults: Arc<Faults>) -> ErrorChannel {
        ErrorChannel {
            base,
            resumes: faults.resumes(),
            faults,
            pending: VecDeque::new(),
            corruptions: Corruptions::default(),
            ended: DoneQueue::default(),
        }
    }

    #[cold]
    fn go_wrong(&mut self, cx: &mut Cx, io: Io, kind: Kind) -> Result<(), Io> {
        match kind {
            Kind::Status(status) => self.ended.push(io.complete(status)),
            Kind::Pending => self.pending.push_back(io),
            Kind::NoSlot => return Err(io),
            Kind::Corrupt { offset, value } => match self.corruptions.begin(io, offset, value) {
                Ok(io) => {
                    return self.base.submit(cx, io).map_err(|mut io| {
                        self.corruptions.undo(&mut io);
                        io
                    });
                }
                Err(io) => self.ended.push(io.complete(IoStatus::NAMESPACE_NOT_READY_RETRY)),
            },
        }
        Ok(())
    }

    /// Ends what is pending: it was reset, or its base is gone.
    #[cold]
    fn end_pending(&mut self, status: IoStatus) {
        self.pending.drain(..).for_each(|io| self.ended.push(io.complete(status)));
    }

    /// An IO that is pending here; any other is the base's to stop.
    #[cold]
    fn abort_pending(&mut self, abort: Io) -> Option<Io> {
        let key = IoKey::of_opener(abort.abort_target());
        let Some(at) = self.pending.iter().position(|io| io.key() == key) else { return Some(abort) };
        let victim = self.pending.remove(at).expect("just found");
        self.ended.push(victim.complete(IoStatus::ABORTED));
        self.ended.push(abort.complete(IoStatus::SUCCESS));
        None
    }

    /// Hands what is pending to the base, as far as it takes it.
    #[cold]
    fn resume(&mut self, cx: &mut Cx) {
        while let Some(io) = self.pending.pop_front() {
            if let Err(io) = self.base.submit(cx, io) {
                self.pending.push_front(io);
                return;
            }
        }
        self.resumes = self.faults.resumes();
    }
}

impl Channel for ErrorChannel {
    fn submit(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        match io.op {
            Op::Abort => match self.abort_pending(io) {
                Some(abort) => return self.base.submit(cx, abort),
                None => return Ok(()),
            },
            Op::Reset => self.end_pending(IoStatus::ABORTED),
            _ => {}
        }
        let in_flight = u64::from(self.base.in_flight()) + self.pending.len() as u64;
        match self.faults.take(io.op, in_flight) {
            None => self.base.submit(cx, io),
            Some(kind) => self.go_wrong(cx, io, kind),
        }
    }

    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let mut work = Work::Idle;
        if self.resumes != self.faults.resumes() {
            self.resume(cx);
            work = Work::Spin;
        }
        if self.corruptions.is_empty() {
            work = work.max(self.base.poll(cx, done));
        } else {
            let mut arrived = DoneQueue::default();
            work = work.max(self.base.poll(cx, &mut arrived));
            while let Some(mut one) = arrived.pop() {
                self.corruptions.end(&mut one);
                done.push(one);
            }
        }
        // The control side acts on them; but what is pending would wait for ever.
        while let Some(event) = self.base.take_event() {
            if event == Event::Removed {
                self.end_pending(IoStatus::INVALID_NAMESPACE);
            }
        }
        if !self.ended.is_empty() {
            done.take_all(&mut self.ended);
            work = Work::Busy;
        }
        work
    }
}
