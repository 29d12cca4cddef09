//! An IO's memory and a socket: what one system call takes from several places, or puts there.
//!
//! The kernel is given addresses; no Rust slice of an IO's memory is ever made, because a device or a guest may be
//! writing to it.

use super::Bufs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

/// Pieces one system call takes (`UIO_MAXIOV`).
pub const PIECES_MAX: usize = 1024;

/// Room for the list of pieces of one call, made once and used for each.
#[derive(Debug)]
pub struct PieceList {
    list: Vec<libc::iovec>,
}

// SAFETY: the addresses in it mean something only within one `Gather` or `Scatter`, which empties it first.
unsafe impl Send for PieceList {}

/// Memory to be sent, in order.
#[derive(Debug)]
pub struct Gather<'a> {
    list: &'a mut Vec<libc::iovec>,
    bytes: usize,
    memory: PhantomData<&'a [u8]>,
}

/// Memory to be filled by what a socket holds, in order.
#[derive(Debug)]
pub struct Scatter<'a> {
    list: &'a mut Vec<libc::iovec>,
    memory: PhantomData<&'a mut [u8]>,
}

impl PieceList {
    /// Room for [`PIECES_MAX`] pieces.
    #[must_use]
    pub fn new() -> PieceList {
        PieceList { list: Vec::with_capacity(PIECES_MAX) }
    }

    /// Begins a list of what to send.
    pub fn gather<'a>(&'a mut self) -> Gather<'a> {
        self.list.clear();
        Gather { list: &mut self.list, bytes: 0, memory: PhantomData }
    }

    /// Begins a list of where to receive.
    pub fn scatter<'a>(&'a mut self) -> Scatter<'a> {
        self.list.clear();
        Scatter { list: &mut self.list, memory: PhantomData }
    }
}

impl Default for PieceList {
    fn default() -> PieceList {
        PieceList::new()
    }
}

impl<'a> Gather<'a> {
    /// Bytes in the list.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends `bytes`. False if there is no room for another piece.
    pub fn push_bytes(&mut self, bytes: &'a [u8]) -> bool {
        let fits = self.list.len() < PIECES_MAX;
        if fits && !bytes.is_empty() {
            self.push(bytes.as_ptr().cast_mut(), bytes.len());
        }
        fits
    }

    /// Appends `len` bytes of `bufs` from `offset`. False if there was no room for all of their segments; those that
    /// fitted are in the list. Panics if the buffers are too short.
    pub fn push_bufs(&mut self, bufs: &'a Bufs, offset: u32, len: u32) -> bool {
        let mut fits = true;
        bufs.for_range(offset, len as usize, |ptr, len| {
            fits &= self.list.len() < PIECES_MAX;
            if fits {
                self.push(ptr.cast_mut(), len);
            }
        });
        fits
    }

    /// Hands the list to the socket, without waiting; returns how many bytes it took. One system call.
    ///
    /// # Errors
    /// The kernel's: `WouldBlock` if the socket takes nothing now.
    pub fn send(self, socket: impl AsFd) -> io::Result<usize> {
        let message = message(self.list);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pieces are memory that is borrowed for as long as `self` and only read by the kernel; the
        // header lives across the call.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &message, flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn push(&mut self, ptr: *mut u8, len: usize) {
        self.list.push(libc::iovec { iov_base: ptr.cast(), iov_len: len });
        self.bytes += len;
    }
}

impl<'a> Scatter<'a> {
    /// Appends `bytes`. Panics if there is no room for another piece.
    pub fn push_bytes(&mut self, bytes: &'a mut [u8]) {
        assert!(self.list.len() < PIECES_MAX, "a call takes {PIECES_MAX} pieces");
        if !bytes.is_empty() {
            self.list.push(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
        }
    }

    /// Appends `len` bytes of `bufs` from `offset`, as far as there is room for their segments; returns the bytes that
    /// fitted. Panics if the buffers are read-only or too short.
    pub fn push_bufs(&mut self, bufs: &'a mut Bufs, offset: u32, len: u32) -> u32 {
        let (mut fits, mut fitted) = (true, 0);
        bufs.for_range_mut(offset, len as usize, |ptr, len| {
            fits &= self.list.len() < PIECES_MAX;
            if fits {
                self.list.push(libc::iovec { iov_base: ptr.cast(), iov_len: len });
                fitted += len as u32;
            }
        });
        fitted
    }

    /// Takes what the socket holds, without waiting; returns how many bytes that were. 0: the peer has closed (or the
    /// list was empty). One system call.
    ///
    /// # Errors
    /// The kernel's: `WouldBlock` if there is nothing now.
    pub fn receive(self, socket: impl AsFd) -> io::Result<usize> {
        let mut message = message(self.list);
        // SAFETY: the pieces are memory that is exclusively borrowed for as long as `self`; the header lives across
        // the call.
        let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }
}

/// Bytes handed to this TCP socket that its peer's host has not acknowledged, those not yet on the wire included. One
/// system call.
///
/// # Errors
/// The kernel's: `InvalidInput` for a socket that listens.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ of a socket) writes one int, to where this one lives across the call.
    let outcome = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome == 0 { Ok(u64::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

/// A header with these pieces, no address and no control data.
fn message(list: &mut Vec<libc::iovec>) -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are valid values of all its fields.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = list.as_mut_ptr();
    message.msg_iovlen = list.len() as _;
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bufs::Lender;
    use crate::memory::DmaBuf;
    use std::os::unix::net::UnixStream;

    fn filled(bytes: impl ExactSizeIterator<Item = u8>) -> Bufs {
        let mut buf = DmaBuf::alloc(bytes.len() as u32).expect("memory");
        buf.as_mut_slice().iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        buf.into()
    }

    #[test]
    fn what_is_gathered_from_many_places_is_scattered_to_others() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let (mut lender, mut list) = (Lender::new(), PieceList::new());
        let whole = lender.gather([filled((0..100).map(|n| n as u8)), filled((100..200).map(|n| n as u8))]);
        let mut gather = list.gather();
        assert!(
            gather.push_bytes(b"head") && gather.push_bufs(&whole, 50, 100) && gather.push_bytes(b"tail")
        );
        assert_eq!(gather.bytes(), 108);
        assert_eq!(gather.send(&near).expect("room"), 108);

        let mut target = lender.gather([filled([0; 60].into_iter()), filled([0; 60].into_iter())]);
        let (mut head, mut rest) = ([0; 4], [0; 9]);
        let mut scatter = list.scatter();
        scatter.push_bytes(&mut head);
        assert_eq!(scatter.push_bufs(&mut target, 20, 100), 100);
        scatter.push_bytes(&mut rest);
        assert_eq!(scatter.receive(&far).expect("bytes"), 108);
        let mut payload = [0; 100];
        target.copy_to_slice(20, &mut payload);
        assert_eq!((&head, &rest), (b"head", b"tail\0\0\0\0\0"));
        assert!(payload.iter().copied().eq(50..150));
        let nothing = list.scatter().receive(&far).map_err(|error| error.kind());
        assert!(matches!(nothing, Ok(0) | Err(io::ErrorKind::WouldBlock)));
    }

    #[test]
    fn what_the_peer_has_not_acknowledged_is_counted() {
        use std::io::{Read, Write};
        use std::time::{Duration, Instant};
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let mut near =
            std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut far, _) = listener.accept().expect("the same");
        near.set_nonblocking(true).expect("a socket");
        let mut sent = 0;
        // Until neither socket takes more: then some of it is still here.
        while let Ok(count) = near.write(&[1; 65_536]) {
            sent += count;
        }
        assert!((1..=sent as u64).contains(&unacknowledged(&near).expect("TCP")));
        let mut came = vec![0; sent];
        far.read_exact(&mut came).expect("all of it");
        let deadline = Instant::now() + Duration::from_secs(20);
        while unacknowledged(&near).expect("TCP") > 0 {
            assert!(Instant::now() < deadline, "read, and not acknowledged");
        }
        assert!(unacknowledged(&listener).is_err(), "a listener sends nothing");
    }

    #[test]
    fn a_call_takes_no_more_pieces_than_the_kernel() {
        let mut list = PieceList::new();
        let mut gather = list.gather();
        for _ in 0..PIECES_MAX {
            assert!(gather.push_bytes(b"x"));
        }
        assert!(!gather.push_bytes(b"x"));
        let (near, _far) = UnixStream::pair().expect("a pair");
        assert_eq!(gather.send(&near).expect("room"), PIECES_MAX);
    }

    #[test]
    #[should_panic(expected = "read-only")]
    fn a_view_is_not_received_into() {
        let (mut lender, mut list) = (Lender::new(), PieceList::new());
        let lease = lender.lend(filled([0; 8].into_iter())).expect("room");
        let mut view = lender.view(&lease);
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            list.scatter().push_bufs(&mut view, 0, 8);
        }));
        lender.give_back(view);
        drop(lender.end(lease));
        std::panic::resume_unwind(refused.expect_err("it must refuse"));
    }
}
