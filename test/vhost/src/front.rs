//! A front end: it connects, sets up memory and queues, and does requests as a driver of a disk would.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::PATIENCE;
use crate::driver::{Answered, Driver, Shape};
use crate::guest::{GUEST, Guest};
use crate::wire::{self, Message, NEED_REPLY, code, words};

/// Features that a front may agree on.
#[allow(missing_docs)]
pub mod feature {
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const INDIRECT: u64 = 1 << 28;
    pub const VERSION_1: u64 = 1 << 32;
    pub const PACKED: u64 = 1 << 34;
    pub const LOG_ALL: u64 = 1 << 26;
    pub const PROTOCOL: u64 = 1 << 30;
}

/// Types of requests (Virtual I/O Device 1.2, 5.2.6).
#[allow(missing_docs)]
pub mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// Bytes of memory for each request: its header, its status, and its data from 4 KiB on.
pub const REQUEST_BYTES: u64 = 64 << 10;
const QUEUE_BYTES: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// How a front sets its queues up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many.
    pub queues: u16,
    /// Descriptors of each.
    pub size: u16,
    /// Packed rings.
    pub packed: bool,
    /// Event indices.
    pub event_idx: bool,
    /// An inflight region.
    pub inflight: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { queues: 1, size: 64, packed: false, event_idx: true, inflight: false }
    }
}

/// One queue.
pub struct Queue {
    /// Its ring.
    pub driver: Driver,
    /// Written to tell the target of requests.
    pub kick: OwnedFd,
    /// Written by the target.
    pub call: OwnedFd,
    /// Written by the target when the ring is broken.
    pub error: OwnedFd,
    /// Which request has which id: its memory.
    slots: Vec<Option<u64>>,
    free: Vec<u64>,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The id under which it was offered.
    pub id: u16,
    /// The status byte.
    pub status: u8,
    /// Bytes that the device says it wrote.
    pub written: u32,
    /// Where its memory is.
    pub at: u64,
}

/// A machine with a disk: its memory and rings outlive connections.
pub struct Front {
    /// Its memory.
    pub guest: Guest,
    /// How it is set up.
    pub setup: Setup,
    /// Its queues.
    pub queues: Vec<Queue>,
    stream: Option<UnixStream>,
    inflight: Option<(OwnedFd, Vec<u8>)>,
    /// What the back end offers.
    pub offered: u64,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a front with {:?}", self.setup)
    }
}

fn bell() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

impl Front {
    /// A machine that is not connected.
    #[must_use]
    pub fn new(setup: Setup) -> Front {
        let requests = u64::from(setup.queues) * u64::from(setup.size) * REQUEST_BYTES;
        let rings = u64::from(setup.queues) * QUEUE_BYTES;
        let guest = Guest::new(rings + requests);
        let shape = Shape { packed: setup.packed, size: setup.size, event_idx: setup.event_idx };
        let queue = |index: u64| {
            let first = GUEST + rings + index * u64::from(setup.size) * REQUEST_BYTES;
            Queue {
                driver: Driver::new(&guest, GUEST + index * QUEUE_BYTES, shape),
                kick: bell(),
                call: bell(),
                error: bell(),
                slots: vec![None; usize::from(setup.size)],
                free: (0..u64::from(setup.size)).rev().map(|slot| first + slot * REQUEST_BYTES).collect(),
            }
        };
        let queues = (0..u64::from(setup.queues)).map(queue).collect();
        Front { guest, setup, queues, stream: None, inflight: None, offered: 0 }
    }

    /// A machine whose disk runs.
    #[must_use]
    pub fn connected(path: &Path, setup: Setup) -> Front {
        let mut front = Front::new(setup);
        front.connect(path);
        front.start();
        front
    }

    /// Connects, as soon as somebody listens, and agrees on features.
    pub fn connect(&mut self, path: &Path) {
        self.offered = until("somebody answers", || {
            let stream = UnixStream::connect(path).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
            // The socket of a process that was killed may still take connections, and drop them.
            let questions = [code::SET_OWNER, code::GET_FEATURES];
            let questions: Vec<u8> = questions.iter().flat_map(|code| wire::message(*code, 0, &[])).collect();
            let answer = wire::send(&stream, &questions, &[]).then(|| wire::receive(&stream)).flatten()?;
            self.stream = Some(stream);
            Some(u64::from_le_bytes(answer.body.try_into().expect("a word")))
        });
        let protocol = self.ask_u64(code::GET_PROTOCOL_FEATURES);
        self.tell(code::SET_PROTOCOL_FEATURES, &words(&[protocol]), &[]);
        self.set_features(0);
    }

    /// Agrees on what its rings need, and `more`.
    pub fn set_features(&self, more: u64) {
        let mut wanted = feature::VERSION_1 | feature::PROTOCOL | feature::INDIRECT | more;
        wanted |= if self.setup.packed { feature::PACKED } else { 0 };
        wanted |= if self.setup.event_idx { feature::EVENT_IDX } else { 0 };
        assert_eq!(wanted & !self.offered, 0, "not offered");
        self.tell(code::SET_FEATURES, &words(&[wanted]), &[]);
    }

    /// Hands memory, inflight region and queues over: the disk runs.
    pub fn start(&mut self) {
        self.share_memory();
        if self.setup.inflight {
            self.share_inflight();
        }
        for index in 0..self.queues.len() {
            let base = self.queues[index].driver.base();
            self.start_queue(index, base);
        }
    }

    /// Hands its memory over.
    pub fn share_memory(&self) {
        let mut body = words(&[1]);
        body.extend(self.region());
        self.tell(code::SET_MEM_TABLE, &body, &[self.guest.file.as_fd()]);
    }

    /// Its memory as messages have it.
    fn region(&self) -> Vec<u8> {
        let spec = self.guest.spec;
        words(&[spec.guest, spec.len, spec.user, spec.offset])
    }

    /// Asks for an inflight region, or gives back the one it has.
    fn share_inflight(&mut self) {
        if self.inflight.is_none() {
            let mut body = words(&[0, 0]);
            body.extend([self.setup.queues.to_le_bytes(), self.setup.size.to_le_bytes()].concat());
            body.resize(24, 0);
            let mut made = self.ask(code::GET_INFLIGHT_FD, &body, &[]);
            self.inflight = Some((made.fds.pop().expect("a file"), made.body));
        }
        if let Some((file, body)) = &self.inflight {
            self.tell(code::SET_INFLIGHT_FD, body, &[file.as_fd()]);
        }
    }

    /// Sets one queue up and starts it.
    pub fn start_queue(&self, index: usize, base: u32) {
        let queue = &self.queues[index];
        let pair = |value: u32| [(index as u32).to_le_bytes(), value.to_le_bytes()].concat();
        self.tell(code::SET_VRING_NUM, &pair(u32::from(self.setup.size)), &[]);
        self.tell(code::SET_VRING_BASE, &pair(base), &[]);
        self.set_addresses(index, None);
        self.tell(code::SET_VRING_ERR, &words(&[index as u64]), &[queue.error.as_fd()]);
        self.tell(code::SET_VRING_CALL, &words(&[index as u64]), &[queue.call.as_fd()]);
        self.tell(code::SET_VRING_KICK, &words(&[index as u64]), &[queue.kick.as_fd()]);
        self.tell(code::SET_VRING_ENABLE, &pair(1), &[]);
    }

    /// Tells where a ring lies; with `log`, that writes to the used ring are noted at that guest address.
    pub fn set_addresses(&self, index: usize, log: Option<u64>) {
        let at = self.queues[index].driver.at();
        let mut body = [(index as u32).to_le_bytes(), u32::from(log.is_some()).to_le_bytes()].concat();
        body.extend(words(&[at.desc, at.device, at.driver, log.unwrap_or(0)]));
        self.tell(code::SET_VRING_ADDR, &body, &[]);
    }

    /// Stops a queue: where its ring stands.
    pub fn stop_queue(&self, index: usize) -> u32 {
        let body = [(index as u32).to_le_bytes(), 0_u32.to_le_bytes()].concat();
        let answer = self.ask(code::GET_VRING_BASE, &body, &[]).body;
        u32::from_le_bytes(answer[4..8].try_into().expect("an index and a base"))
    }

    /// Closes the connection.
    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    /// The connection.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        self.stream.as_ref().expect("connected")
    }

    /// Sends a message and waits for its acknowledgement: zero.
    pub fn tell(&self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        assert_eq!(self.try_tell(request, body, fds), Some(0), "message {request} is refused");
    }

    /// As [`Front::tell`]: what the acknowledgement says; none if the connection ended instead.
    pub fn try_tell(&self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Option<u64> {
        // Before that is agreed on nobody answers.
        let acknowledged = !matches!(request, code::SET_OWNER | code::SET_PROTOCOL_FEATURES);
        let flags = if acknowledged { NEED_REPLY } else { 0 };
        if !wire::send(self.stream(), &wire::message(request, flags, body), fds) {
            return None;
        }
        if !acknowledged {
            return Some(0);
        }
        let answer = wire::receive(self.stream())?;
        assert_eq!(answer.request, request);
        // This one is answered with what was sent.
        if request == code::SET_LOG_BASE {
            return Some(0);
        }
        Some(u64::from_le_bytes(answer.body.try_into().expect("a word")))
    }

    /// Sends a message that has an answer of its own.
    pub fn ask(&self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Message {
        assert!(wire::send(self.stream(), &wire::message(request, 0, body), fds), "the back end has gone");
        let answer = wire::receive(self.stream()).expect("an answer");
        assert_eq!(answer.request, request);
        answer
    }

    fn ask_u64(&self, request: u32) -> u64 {
        u64::from_le_bytes(self.ask(request, &[], &[]).body.try_into().expect("a word"))
    }

    /// `size` bytes of the configuration space from `offset` on.
    #[must_use]
    pub fn config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut body: Vec<u8> = [offset, size, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        body.resize(12 + size as usize, 0);
        self.ask(code::GET_CONFIG, &body, &[]).body[12..].to_vec()
    }

    /// Sectors of 512 bytes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        u64::from_le_bytes(self.config(0, 8).try_into().expect("eight bytes"))
    }

    /// Offers a request, and kicks if the device wants it; none if there is no room. `write`: data to be written; `read`: bytes
    /// to be read.
    pub fn submit(&mut self, queue: usize, kind: u32, sector: u64, write: &[u8], read: u32) -> Option<u16> {
        let Front { guest, queues, .. } = self;
        let queue = &mut queues[queue];
        let at = *queue.free.last()?;
        let mut header = [kind.to_le_bytes(), 0_u32.to_le_bytes()].concat();
        header.extend(sector.to_le_bytes());
        guest.write(at, &header);
        guest.write(at + 16, &[0xff]);
        guest.write(at + PAGE, write);
        let mut pieces = vec![(at, 16, false)];
        let (write, read) = (write.len() as u32, read);
        let pages = |bytes: u32, writes: bool| {
            let bytes = u64::from(bytes);
            (0..bytes.div_ceil(PAGE)).map(move |page| {
                let len = (bytes - page * PAGE).min(PAGE) as u32;
                (at + PAGE + page * PAGE, len, writes)
            })
        };
        pieces.extend(pages(write, false));
        pieces.extend(pages(read, true));
        pieces.push((at + 16, 1, true));
        // In a table where there are many.
        let id = if pieces.len() > 3 {
            queue.driver.offer_indirect(guest, at + 64, &pieces)
        } else {
            queue.driver.offer(&pieces)
        }?;
        queue.free.pop();
        queue.slots[usize::from(id)] = Some(at);
        queue.kick_if_wanted();
        Some(id)
    }

    /// The next answer, if there is one.
    pub fn try_done(&mut self, queue: usize) -> Option<Done> {
        let queue = &mut self.queues[queue];
        let Answered { id, written } = queue.driver.next_answer()?;
        let at = queue.slots[usize::from(id)].take().expect("it was offered");
        queue.free.push(at);
        Some(Done { id, status: self.guest.read(at + 16, 1)[0], written, at })
    }

    /// Waits for the next answer, as a driver does that sleeps until it is called.
    pub fn wait(&mut self, queue: usize) -> Done {
        self.wait_within(queue, PATIENCE).unwrap_or_else(|| panic!("no answer within {PATIENCE:?}"))
    }

    /// As [`Front::wait`], for so long; none if none comes.
    pub fn wait_within(&mut self, queue: usize, patience: Duration) -> Option<Done> {
        let end = Instant::now() + patience;
        loop {
            self.queues[queue].driver.ask_for_calls(true);
            if let Some(done) = self.try_done(queue) {
                self.queues[queue].driver.ask_for_calls(false);
                return Some(done);
            }
            if !is_rung_within(&self.queues[queue].call, end.checked_duration_since(Instant::now())?) {
                return None;
            }
        }
    }

    /// Does one request and gives its status, and what was read.
    pub fn request(
        &mut self,
        queue: usize,
        kind: u32,
        sector: u64,
        write: &[u8],
        read: u32,
    ) -> (u8, Vec<u8>) {
        let id = self.submit(queue, kind, sector, write, read).expect("room");
        let done = self.wait(queue);
        assert_eq!(done.id, id);
        (done.status, self.guest.read(done.at + PAGE, read as usize))
    }
}

impl Queue {
    /// Kicks the device if it asked for it.
    pub fn kick_if_wanted(&self) {
        if self.driver.must_kick() {
            rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).expect("an eventfd with room");
        }
    }
}

/// Waits for an eventfd to be written, and takes what was. False if it was not in time.
pub fn is_rung_within(fd: &OwnedFd, patience: Duration) -> bool {
    let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let rung = poll(&mut fds, Some(&patience)).is_ok_and(|ready| ready > 0);
    if rung {
        // Non-blocking, and this is its only reader.
        rustix::io::read(fd, &mut [0_u8; 8]).expect("it was rung");
    }
    rung
}

/// Waits until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
