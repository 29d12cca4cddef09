//! Looking at the message that comes next, without taking it: whether all of it is there, and which queues it concerns.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg,
    sendmsg,
};
use vhost::vhost_user::message::{BackendReq, FrontendReq};

/// `{ u32 request; u32 flags; u32 size; }`
pub(crate) const HEADER: usize = 12;
/// Most bytes after the header: what rust-vmm's crate accepts.
const BODY_MAX: u32 = 4096;
const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;
/// The bytes of a body that say which queue it is about.
const INDEX_BYTES: usize = 4;

/// What a message changes, so that it has to stand still first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concerns {
    Nothing,
    Queue(u32),
    All,
}

/// The message that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) request: u32,
    /// It wants an acknowledgement, and has no answer of its own in which a refusal could be told.
    pub(crate) needs_reply: bool,
    pub(crate) concerns: Concerns,
}

/// What lies in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A whole message.
    Message(Next),
    /// Nothing, or the front of a message.
    NotYet,
    /// The peer has closed it.
    End,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message of {0} bytes: accepted are up to {BODY_MAX}")]
    Long(u32),
    #[error("a channel for our requests without a socket")]
    NoChannel,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for WireError {
    fn from(errno: rustix::io::Errno) -> WireError {
        WireError::Io(errno.into())
    }
}

/// Looks at what comes next, and leaves it there.
pub(crate) fn look(socket: impl AsFd) -> Result<Look, WireError> {
    let mut front = [0; HEADER + INDEX_BYTES];
    let peeked = recv(&socket, &mut front[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    let len = match peeked {
        Ok((0, _)) => return Ok(Look::End),
        Ok((len, _)) => len,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Look::NotYet),
        Err(rustix::io::Errno::CONNRESET) => return Ok(Look::End),
        Err(errno) => return Err(errno.into()),
    };
    if len < HEADER {
        return Ok(front_of_a_message(&socket));
    }
    let word = |at: usize| u32::from_le_bytes([front[at], front[at + 1], front[at + 2], front[at + 3]]);
    let (request, flags, size) = (word(0), word(4), word(8));
    if size > BODY_MAX {
        return Err(WireError::Long(size));
    }
    // A peek may stop where descriptors come along; what is queued in all does not.
    let queued = rustix::io::ioctl_fionread(&socket)?;
    if queued < HEADER as u64 + u64::from(size) {
        return Ok(front_of_a_message(&socket));
    }
    let index = (len == front.len() && size as usize >= INDEX_BYTES).then(|| word(HEADER));
    Ok(Look::Message(Next {
        request,
        needs_reply: flags & NEED_REPLY != 0 && !has_answer(request),
        concerns: concerns(request, index),
    }))
}

/// Whether a message is answered with more than an acknowledgement: without its answer nobody can go on.
fn has_answer(request: u32) -> bool {
    use FrontendReq as F;
    matches!(
        F::try_from(request),
        Ok(F::GET_FEATURES
            | F::GET_PROTOCOL_FEATURES
            | F::GET_QUEUE_NUM
            | F::GET_VRING_BASE
            | F::GET_CONFIG
            | F::GET_INFLIGHT_FD
            | F::GET_MAX_MEM_SLOTS
            | F::SET_LOG_BASE)
    )
}

/// More will come, unless its sender has gone: what it left behind hides the end.
fn front_of_a_message(socket: impl AsFd) -> Look {
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    if is_ready(socket, gone) { Look::End } else { Look::NotYet }
}

fn concerns(request: u32, index: Option<u32>) -> Concerns {
    use FrontendReq as F;
    match F::try_from(request) {
        Ok(
            F::SET_VRING_NUM
            | F::SET_VRING_ADDR
            | F::SET_VRING_BASE
            | F::GET_VRING_BASE
            | F::SET_VRING_ENABLE,
        ) => index.map_or(Concerns::All, Concerns::Queue),
        // Its index is one byte, beside flags.
        Ok(F::SET_VRING_KICK) => index.map_or(Concerns::All, |index| Concerns::Queue(index & 0xff)),
        Ok(
            F::SET_FEATURES
            | F::SET_PROTOCOL_FEATURES
            | F::SET_MEM_TABLE
            | F::REM_MEM_REG
            | F::SET_LOG_BASE
            | F::SET_INFLIGHT_FD
            | F::GET_INFLIGHT_FD
            | F::RESET_OWNER
            | F::RESET_DEVICE,
        ) => Concerns::All,
        _ => Concerns::Nothing,
    }
}

/// Whether an answer of any length allowed can be sent without waiting.
pub(crate) fn has_room(socket: impl AsFd) -> bool {
    is_ready(socket, PollFlags::OUT)
}

fn is_ready(socket: impl AsFd, flags: PollFlags) -> bool {
    let mut fds = [PollFd::new(&socket, flags)];
    let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&no_time)).is_ok_and(|ready| ready > 0) && fds[0].revents().intersects(flags)
}

/// Takes a `SET_BACKEND_REQ_FD` that [`look`] has seen, and answers it. Gives the channel for our requests.
pub(crate) fn take_channel(socket: impl AsFd, acknowledge: bool) -> Result<OwnedFd, WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut header = [0; HEADER];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    recvmsg(&socket, &mut [IoSliceMut::new(&mut header)], &mut control, flags)?;
    let mut channel = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            channel = channel.or(fds.last());
        }
    }
    let size = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if size > 0 {
        recv(&socket, &mut vec![0; size.min(BODY_MAX) as usize][..], RecvFlags::DONTWAIT)?;
    }
    let channel = channel.ok_or(WireError::NoChannel)?;
    if acknowledge {
        let mut answer = message(FrontendReq::SET_BACKEND_REQ_FD as u32, VERSION | REPLY, 8).to_vec();
        answer.extend(0_u64.to_le_bytes());
        send(&socket, &answer)?;
    }
    Ok(channel)
}

/// Tells the front end that the configuration space has changed. False: there is no room, try again.
pub(crate) fn tell_config_change(channel: impl AsFd) -> Result<bool, WireError> {
    match send(channel, &message(BackendReq::CONFIG_CHANGE_MSG as u32, VERSION, 0)) {
        Ok(()) => Ok(true),
        Err(WireError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn message(request: u32, flags: u32, size: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (place, word) in header.chunks_exact_mut(4).zip([request, flags, size]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

fn send(socket: impl AsFd, bytes: &[u8]) -> Result<(), WireError> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut SendAncillaryBuffer::default(), flags)?;
    Ok(())
}
