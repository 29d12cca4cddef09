//! Messages of vhost-user, as a front end sends them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Codes of the messages that are used here (vhost-user specification, "Front-end message types").
#[allow(missing_docs)]
pub mod code {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_LOG_BASE: u32 = 6;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const SET_BACKEND_REQ_FD: u32 = 21;
    pub const GET_CONFIG: u32 = 24;
    pub const GET_INFLIGHT_FD: u32 = 31;
    pub const SET_INFLIGHT_FD: u32 = 32;
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
}

/// Bits of a header's flags.
const VERSION: u32 = 1;
/// The flag of a message that wants to be acknowledged.
pub const NEED_REPLY: u32 = 8;

/// A message that has come.
#[derive(Debug)]
pub struct Message {
    /// Its code.
    pub request: u32,
    /// What follows the header.
    pub body: Vec<u8>,
    /// What came along.
    pub fds: Vec<OwnedFd>,
}

/// The bytes of a message.
#[must_use]
pub fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let words = [request, VERSION | flags, body.len() as u32];
    words.iter().flat_map(|word| word.to_le_bytes()).chain(body.iter().copied()).collect()
}

/// Words one after the other, as bodies have them.
#[must_use]
pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Sends bytes with descriptors along. False if the peer has gone.
pub fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "room for 32 descriptors");
    }
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    sent.is_ok_and(|sent| sent == bytes.len())
}

/// Waits for a message. None: the peer has gone.
pub fn receive(stream: &UnixStream) -> Option<Message> {
    let mut header = [0; 12];
    let mut fds = Vec::new();
    let mut done = 0;
    while done < header.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let came = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut header[done..])], &mut control, flags);
        match came {
            Ok(came) if came.bytes > 0 => done += came.bytes,
            Ok(_) | Err(rustix::io::Errno::CONNRESET) => return None,
            Err(errno) => panic!("no answer within {:?}: {errno}", super::PATIENCE),
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                fds.extend(came);
            }
        }
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let mut body = vec![0; word(8) as usize];
    std::io::Read::read_exact(&mut &*stream, &mut body).ok()?;
    Some(Message { request: word(0), body, fds })
}
