//! IO of control threads on an open bdev: ranges are read, written and flushed one piece at a time by a poller that lives as
//! long as the job.

use super::disk::memory;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tgt_bdev::{Bdev, Bufs, Cx, Desc, DoneQueue, Io, IoChannel, IoStatus, Op, Tag, Work};
use tgt_reactor::{CallError, Handle, Poller, Stop};

/// Most bytes of one IO.
const PIECE: u64 = 1 << 20;
/// How long a job may take before it is said that the bdev hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a job was not done, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The bdev cannot be opened on the reactor.
    #[error(transparent)]
    Open(#[from] tgt_bdev::OpenError),
    /// The reactor does not answer.
    #[error(transparent)]
    Reactor(#[from] CallError),
    /// An IO failed.
    #[error("bdev {bdev:?}: {what} of {len} bytes at {offset} failed: {}", status.text())]
    Io {
        /// The bdev.
        bdev: String,
        /// Read, write or flush.
        what: &'static str,
        /// Bytes from its start.
        offset: u64,
        /// How many.
        len: u64,
        /// What it said.
        status: IoStatus,
    },
    /// It did not end.
    #[error("bdev {bdev:?} did not end its IO within {seconds} s; it is not known what it has done")]
    Late {
        /// The bdev.
        bdev: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The reactor stops.
    #[error("the target stops")]
    Stopping,
}

/// What is to be done. Ranges are whole blocks of the bdev.
#[derive(Debug)]
pub enum RangeJob {
    /// So many bytes from this place on.
    Read {
        /// Bytes from the start of the bdev.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// These bytes, in this order, each piece done before the next; then everything durable.
    Write(Vec<(u64, Vec<u8>)>),
}

impl RangeJob {
    /// Does it on this reactor, and waits for it: control threads only. What was read.
    ///
    /// # Errors
    /// See [`RangeError`]. Of a write that failed the first pieces may be there.
    pub fn run(self, reactor: &Handle, desc: &Arc<Desc>) -> Result<Vec<u8>, RangeError> {
        let (reply, answer) = sync_channel(1);
        let (of, bdev) = (desc.clone(), desc.bdev().name().to_owned());
        let start = move |reactor: &mut tgt_reactor::Reactor| {
            let cx = reactor.cx();
            let channel = of.open_channel(cx)?;
            let poller = RangePoller::new(channel, of, self, reply);
            cx.spawn(Box::new(poller), None);
            Ok(())
        };
        reactor.call(start)?.map_err(RangeError::Open)?;
        match answer.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(RangeError::Late { bdev, seconds: PATIENCE.as_secs() }),
            Err(RecvTimeoutError::Disconnected) => Err(RangeError::Stopping),
        }
    }
}

struct RangePoller {
    /// Both go before the answer is given: who waited for it may claim the bdev anew.
    held: Option<(IoChannel, Arc<Desc>)>,
    bdev: Arc<Bdev>,
    done: DoneQueue,
    job: RangeJob,
    reply: SyncSender<Result<Vec<u8>, RangeError>>,
    /// Which range of a write, and how far in the range.
    at: (usize, u64),
    read: Vec<u8>,
    /// What is under way.
    step: Option<(&'static str, u64, u64)>,
    flushed: bool,
    stopping: bool,
}

impl RangePoller {
    fn new(
        channel: IoChannel,
        desc: Arc<Desc>,
        job: RangeJob,
        reply: SyncSender<Result<Vec<u8>, RangeError>>,
    ) -> Self {
        Self {
            bdev: desc.bdev().clone(),
            held: Some((channel, desc)),
            done: DoneQueue::default(),
            job,
            reply,
            at: (0, 0),
            read: Vec::new(),
            step: None,
            flushed: false,
            stopping: false,
        }
    }

    /// The next IO; `None`: the job is done.
    fn next_io(&mut self, cx: &mut Cx) -> Result<Option<Io>, IoStatus> {
        let block = u64::from(self.bdev.block_size());
        let alloc = |cx: &mut Cx, len: u64| memory(cx, len as u32).map_err(|_| IoStatus::INTERNAL);
        let (what, op, offset, len, bufs) = match &self.job {
            RangeJob::Read { offset, len } => {
                let left = len - self.at.1;
                if left == 0 {
                    return Ok(None);
                }
                let piece = left.min(PIECE);
                ("a read", Op::Read, offset + self.at.1, piece, alloc(cx, piece)?)
            }
            RangeJob::Write(ranges) => match ranges.get(self.at.0) {
                Some((offset, bytes)) => {
                    let piece = (bytes.len() as u64 - self.at.1).min(PIECE);
                    let mut bufs = alloc(cx, piece)?;
                    bufs.copy_from_slice(0, &bytes[self.at.1 as usize..][..piece as usize]);
                    ("a write", Op::Write, offset + self.at.1, piece, bufs)
                }
                None if self.flushed => return Ok(None),
                None => {
                    self.flushed = true;
                    ("a flush", Op::Flush, 0, 0, Bufs::none())
                }
            },
        };
        self.step = Some((what, offset, len));
        Ok(Some(Io::new(op, Tag(0), offset / block, (len / block) as u32, bufs)))
    }

    fn took(&mut self, bufs: &Bufs, len: u64) {
        self.at.1 += len;
        match &self.job {
            RangeJob::Read { .. } => {
                let at = self.read.len();
                self.read.resize(at + len as usize, 0);
                bufs.copy_to_slice(0, &mut self.read[at..]);
            }
            RangeJob::Write(ranges) => {
                if ranges.get(self.at.0).is_some_and(|(_, bytes)| bytes.len() as u64 == self.at.1) {
                    self.at = (self.at.0 + 1, 0);
                }
            }
        }
    }

    fn end(&mut self, result: Result<(), IoStatus>) -> Work {
        let (what, offset, len) = self.step.unwrap_or(("memory", 0, 0));
        let bdev = self.bdev.name().to_owned();
        self.held = None;
        let result = result.map(|()| std::mem::take(&mut self.read));
        let result = result.map_err(|status| RangeError::Io { bdev, what, offset, len, status });
        // Nobody waits any more: it took too long.
        let _ = self.reply.try_send(result);
        Work::Over
    }
}

impl Poller for RangePoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let Some((channel, _)) = &mut self.held else { return Work::Over };
        let work = channel.poll(cx, &mut self.done);
        let idle = channel.in_flight() == 0;
        if let Some(done) = self.done.pop() {
            let finished = done.finish();
            if !finished.status.is_ok() {
                return self.end(Err(finished.status));
            }
            let len = self.step.map_or(0, |(_, _, len)| len);
            self.took(&finished.bufs, len);
        }
        if !idle {
            return work;
        }
        if self.stopping {
            return Work::Over;
        }
        match (self.next_io(cx), &mut self.held) {
            (Ok(Some(io)), Some((channel, _))) => {
                // One at a time: there is room.
                channel.submit(cx, io).expect("a channel has room for one IO");
                Work::Busy
            }
            (Ok(_), _) => self.end(Ok(())),
            (Err(status), _) => self.end(Err(status)),
        }
    }

    fn name(&self) -> &str {
        "store_ranges"
    }

    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        self.stopping = true;
        let idle = self.held.as_ref().is_none_or(|(channel, _)| channel.in_flight() == 0);
        if idle { Stop::Done } else { Stop::Draining }
    }
}
