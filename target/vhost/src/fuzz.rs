//! What the fuzz targets of this crate run: any bytes as a guest's memory and rings; any messages of a front end.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use tgt_guest_memory::{GuestMemory, RegionSpec, sealed_memfd};
use vhost::vhost_user::BackendReqHandler;
use vhost::vhost_user::message::FrontendReq;

use crate::disk::Disk;
use crate::inflight::InflightRegion;
use crate::request::{DATA_MAX, Geometry, Plan, Request};
use crate::ring::{Chain, Ring, RingSpec, Taken};
use crate::session::Session;
use crate::session::wire::{self, Look};

/// A guest's memory: small, so that addresses made of few bytes hit it.
const MEMORY: RegionSpec = RegionSpec { guest: 0x1000, len: 0x8000, user: 0x1000, offset: 0 };
/// Where its ring lies, in either kind of address: the rest of the memory is what descriptors name.
const RING: [u64; 3] = [0x1000, 0x1400, 0x1800];
const STEPS_MAX: usize = 400;
const DISK: Geometry = Geometry {
    block_size: 1024,
    blocks: 1000,
    flush: true,
    discard: true,
    write_zeroes: true,
    readonly: false,
};

/// Takes the bytes as the shape of a ring, what the guest's memory holds from the ring on, and what happens: chains are taken and
/// answered, words of the memory are overwritten, the device dies and comes back.
///
/// # Panics
/// If a walk goes beyond the memory or its bounds, or a request beyond the disk.
pub fn ring(data: &[u8]) {
    ring_counted(data);
}

/// As [`ring`]; how many chains were taken.
pub(crate) fn ring_counted(data: &[u8]) -> u32 {
    let Some((&[shape, size, used], rest)) = data.split_first_chunk::<3>() else { return 0 };
    let file = sealed_memfd("fuzz", MEMORY.len).expect("a file in memory");
    let memory = GuestMemory::default().with(MEMORY, &file).expect("a region");
    let (content, steps) = rest.split_at(rest.len() * usize::from(used) / 256);
    memory.write(MEMORY.guest, &content[..content.len().min(MEMORY.len as usize)]).expect("it fits");
    let bit = |n: u8| shape & 1 << n != 0;
    let spec = RingSpec {
        size: u16::from(size) % 33,
        desc: RING[0],
        driver: RING[1],
        device: RING[2],
        log: None,
        packed: bit(0),
        event_idx: bit(1),
        indirect: bit(2),
    };
    let region = bit(3).then(|| InflightRegion::create(1, 32, spec.packed).expect("a region").0);
    let base = match (bit(4), bit(5)) {
        (true, _) => 0x8000_8000,
        (false, true) => u32::from(shape),
        (false, false) => 0,
    };
    let mut world = World { memory, spec, region, base, owed: Vec::new(), taken: 0 };
    world.run(steps);
    world.taken
}

struct World {
    memory: GuestMemory,
    spec: RingSpec,
    region: Option<InflightRegion>,
    base: u32,
    owed: Vec<Taken>,
    taken: u32,
}

impl World {
    fn start(&self) -> Option<Ring> {
        let part = self.region.as_ref().and_then(|region| region.part(0, self.spec.packed).expect("in it"));
        Ring::new(&self.memory, &self.spec, self.base, part).ok()
    }

    fn run(&mut self, steps: &[u8]) {
        let Some(mut ring) = self.start() else { return };
        let mut chain = Chain::default();
        for step in steps.chunks(4).take(STEPS_MAX) {
            let byte = |n: usize| step.get(n).copied().unwrap_or(0);
            let fine = match byte(0) % 8 {
                0..=2 => self.take(&mut ring, &mut chain),
                3 | 4 => self.answer(&mut ring, byte(1)),
                5 => ring.ask_for_kicks(&self.memory, byte(1) & 1 == 0).is_ok(),
                6 => {
                    let at = u64::from(u16::from_le_bytes([byte(1), byte(2)])) % (MEMORY.len - 2);
                    self.memory.write(MEMORY.guest + at, &[byte(3), byte(1)]).expect("in memory");
                    true
                }
                _ => {
                    // It dies; what was owed is taken again, if there is a region to say so.
                    self.owed.clear();
                    let again = self.start();
                    again.map(|again| ring = again).is_some()
                }
            };
            if !fine {
                return;
            }
        }
    }

    fn take(&mut self, ring: &mut Ring, chain: &mut Chain) -> bool {
        let Ok(Some(taken)) = ring.take(&self.memory, chain) else { return false };
        assert!(taken.id < self.spec.size, "an id of no descriptor");
        assert!(self.owed.iter().all(|other| other.id != taken.id), "{} is in flight already", taken.id);
        assert!(chain.readable.len() + chain.writable.len() <= 1024 + usize::from(self.spec.size));
        for segment in chain.readable.iter().chain(&chain.writable) {
            self.memory.check(segment.at, u64::from(segment.len)).expect("a piece is memory");
        }
        self.owed.push(taken);
        self.taken += 1;
        let Ok(request) = Request::read(&self.memory, chain) else { return false };
        self.memory.check(request.status, 1).expect("the status is memory");
        match request.plan(&self.memory, chain, &DISK) {
            Ok(Plan::Io { lba, blocks, bytes, op }) => {
                assert!(lba + u64::from(blocks) <= DISK.blocks && u64::from(bytes) <= DATA_MAX);
                assert!(!op.has_data() || bytes == blocks * DISK.block_size);
                true
            }
            Ok(Plan::Name | Plan::Answer(_)) => true,
            Err(_) => false,
        }
    }

    fn answer(&mut self, ring: &mut Ring, which: u8) -> bool {
        if self.owed.is_empty() {
            return true;
        }
        let taken = self.owed.swap_remove(usize::from(which) % self.owed.len());
        let answered =
            ring.answer(&self.memory, taken, u32::from(which)).and_then(|()| ring.publish(&self.memory));
        let _wants = ring.wants_call();
        answered.is_ok()
    }
}

/// Takes the bytes as messages: a code, flags, how many files of which kind come along, a length, a body.
///
/// # Panics
/// If a message does, or leaves a queue that cannot be looked at.
pub fn messages(data: &[u8]) {
    messages_counted(data);
}

/// As [`messages`]; how many were handled, refusals included.
pub(crate) fn messages_counted(data: &[u8]) -> u32 {
    let mut handled = 0;
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    ours.set_nonblocking(true).expect("a mode");
    theirs.set_nonblocking(true).expect("a mode");
    let session = Arc::new(Mutex::new(Session::new("fuzz", Disk { geometry: DISK, packed_ring: true })));
    let socket = ours.try_clone().expect("a socket");
    let mut handler = BackendReqHandler::from_stream(ours, session.clone());
    let memory = sealed_memfd("fuzz", MEMORY.len).expect("a file in memory");
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("an eventfd");
    let mut rest = data;
    while let Some((&[code, flags, files, low, high], after)) = rest.split_first_chunk::<5>() {
        let size = usize::from(u16::from_le_bytes([low, high]) % 512).min(after.len());
        let (body, after) = after.split_at(size);
        rest = after;
        send(&theirs, code, flags, body, files, [&memory, &bell]);
        let Ok(Look::Message(next)) = wire::look(&socket) else { break };
        handled += 1;
        assert!(wire::has_room(&socket), "what was answered is read");
        if next.request == FrontendReq::SET_BACKEND_REQ_FD as u32 {
            let acknowledge = next.needs_reply && session.lock().expect("no panic").acknowledges();
            if wire::take_channel(&socket, acknowledge).is_err() {
                break;
            }
        } else if handler.handle_request().is_err() && !next.needs_reply {
            break;
        }
        while rustix::net::recv(&theirs, &mut [0_u8; 4096][..], rustix::net::RecvFlags::DONTWAIT)
            .is_ok_and(|(_, came)| came > 0)
        {}
        look_at_queues(&mut session.lock().expect("no panic"));
    }
    handled
}

fn send(theirs: &UnixStream, code: u8, flags: u8, body: &[u8], files: u8, kinds: [&OwnedFd; 2]) {
    let header = [u32::from(code % 48), u32::from(flags), body.len() as u32];
    let bytes: Vec<u8> =
        header.iter().flat_map(|word| word.to_le_bytes()).chain(body.iter().copied()).collect();
    let kind = kinds[usize::from(files & 1)];
    let fds = vec![kind.as_fd(); usize::from(files >> 1 & 7)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)), "room for eight");
    sendmsg(theirs, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).expect("room in a socket");
}

/// What the home does with queues that can run.
fn look_at_queues(session: &mut Session) {
    for index in 0..session.vrings().len() {
        if session.can_run(index) {
            let (spec, part) = (session.ring_spec(index), session.inflight_part(index));
            let (memory, base) = (session.memory(), session.vrings()[index].base);
            if let Ok(mut ring) = Ring::new(&memory, &spec, base, part) {
                let _taken = ring.take(&memory, &mut Chain::default());
            }
        }
    }
}
