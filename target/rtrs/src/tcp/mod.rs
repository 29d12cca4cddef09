//! Sessions over TCP: the engines of this crate on the byte streams of `tgt-sock`.
//!
//! A [`ClientPort`] drives the lanes of its reactor, of all sessions; a [`ServerPort`] listeners and the lanes that
//! come through them. Neither is a poller: the poller that owns one calls `begin`, takes `next` until there is nothing
//! more, and returns what `end` says. So they live on one reactor's thread, and whoever shares a lane between pools does
//! that above ([`crate::hub`]).

mod client;
mod server;

pub use client::{ClientEvent, ClientPort, Done, LaneNo, PathAddress, Refusal, Submission};
pub use server::{
    Answer, DoorFigures, DoorNo, Incoming, ServedPath, ServerEvent, ServerPort, ServerPortConfig, Spread,
    Stray,
};

use crate::Fault;
use crate::codec::{self, HEAD};
use crate::frame::{Frame, USER_MAX};
use crate::pace::Pace;
use crc_fast::{CrcAlgorithm, Digest};
use tgt_env::bufs::Bufs;
use tgt_sock::{Cause, GroupOptions, Progress, Stream};

/// Most bytes of a header and a user header.
const HEADS: usize = HEAD + USER_MAX as usize;

/// Room on one stream for the largest frame and all beats.
fn group_options() -> GroupOptions {
    GroupOptions { queue_bytes: 16 << 20, queue_pieces: 4096, ..GroupOptions::default() }
}

/// Data is queued on a stream while less than this is: beats wait behind no more, and a slow path keeps its lease.
const QUEUED_MAX: usize = 1 << 20;

/// Whether a stream has enough to send for now. What waits goes on with its next `Sent`, or when it is looked at next.
fn has_plenty(stream: &Stream<'_>, pace: &Pace) -> bool {
    stream.queued_bytes() >= QUEUED_MAX || !pace.admits(stream.queued_total())
}

/// How far a stream has come. What the system does not say is no sign of life.
fn look(stream: &mut Stream<'_>) -> Progress {
    stream.progress().unwrap_or_else(|error| {
        tracing::warn!(%error, peer = %stream.peer(), "how far a session's connection has come is not known");
        Progress::default()
    })
}

/// CRC32C of the first `len` bytes.
fn crc_of(bufs: &Bufs, len: u32) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    bufs.by_window(len, |bytes| digest.update(bytes));
    digest.finalize() as u32
}

/// A frame's header and user header, and how long they are together.
fn head_of(frame: &Frame, user: &[u8], digest: Option<u32>) -> ([u8; HEADS], usize) {
    let mut bytes = [0; HEADS];
    let len = HEAD + user.len();
    bytes[..HEAD].copy_from_slice(&codec::head_of(frame, user, digest));
    bytes[HEAD..len].copy_from_slice(user);
    (bytes, len)
}

/// 244 random bits, used once.
pub(crate) fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    nonce[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    nonce[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    nonce
}

/// What the system said, if it was the system.
pub(crate) fn errno_of(error: &tgt_sock::SockError) -> i32 {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.raw_os_error().unwrap_or(0);
        }
        cause = error.source();
    }
    0
}

fn fault_of(cause: Cause) -> Fault {
    const CONNRESET: i32 = 104;
    const TIMEDOUT: i32 = 110;
    const CONNREFUSED: i32 = 111;
    match cause {
        Cause::Reset => Fault::System { errno: CONNRESET },
        Cause::Refused => Fault::System { errno: CONNREFUSED },
        Cause::ConnectTimedOut { .. } | Cause::TimedOut => Fault::System { errno: TIMEDOUT },
        Cause::Unreachable(errno) | Cause::System { errno, .. } => {
            Fault::System { errno: errno.raw_os_error() }
        }
        Cause::FrameTooLong { .. } => Fault::Protocol("the front of a frame is longer than any frame's"),
        Cause::PeerClosed
        | Cause::PeerClosedInFrame { .. }
        | Cause::Finished
        | Cause::FinishTimedOut { .. }
        | Cause::Aborted => Fault::EndOfStream,
    }
}

/// `tgt-keyring`'s keys are what a hand-shake wants.
impl crate::Secret for tgt_keyring::Key {
    fn hmac_sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        tgt_keyring::Key::hmac_sha256(self, parts)
    }
}
