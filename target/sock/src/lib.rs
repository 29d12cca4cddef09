//! # Byte streams for reactors
//!
//! **What it is, and is not.** TCP connections that a reactor polls: everything that came in one read, everything that
//! waits in one system call, asleep when nothing comes. It knows no protocol: frames, digests, sessions, reconnecting
//! belong to its users. `docs/110-byte-streams.md` says why it is as it is.
//!
//! **Words.** *group*: the streams and listeners of one user on one reactor. *staging*: the group's one buffer into which
//! the kernel puts what comes. *kept*: the front of an incomplete frame, that waits for the rest. *payload*: a piece of an
//! IO's memory, sent from or received into without a copy of ours. *hot*: read every turn; *parked*: not looked at until
//! the kernel reports. *held*: not read, because its user wants nothing now. *blocked*: the kernel takes no more.
//!
//! **Who may call it.** The reactor's thread that made the group, from a poller: [`Group::begin`], [`Group::next`] until there
//! is nothing more, [`Group::end`], whose answer the poller returns. Everything else at any time between. Not `Send`,
//! as the reactor's [`tgt_reactor::Cx`] is not.
//!
//! **Invariants.** A payload handed over comes back exactly once. A stream's last event is its one [`Event::Closed`]. Bytes
//! are handed out in order, each once, but for what the user did not consume. [`tgt_reactor::Work::Idle`] is said only if
//! whatever comes next wakes the reactor. Nothing is allocated per message once queues have grown to their load, no
//! queue grows beyond its bound, nothing blocks, no error is dropped.
//!
//! **Leaving.** [`Group::abort_all`] (or `finish` for each stream), take events until [`Group::stream_count`] is 0, then
//! [`Group::close`], then drop. A group that is dropped with lent buffers in its queues panics, as every loss of a lent
//! buffer does.
//!
//! **Map.** `group.rs` what its user calls, `round.rs` what a turn does, `shared.rs` what is done to one stream: keep, send, arm,
//! end · `conn.rs` one stream's state · `stream.rs`, `event.rs` what the user holds · `outgoing.rs` the queue · `listener.rs` ·
//! `watch.rs` epoll in the io_uring · `socket.rs` options and system calls · `options.rs`, `cause.rs`, `error.rs`, `table.rs`.
//!
//! **Tests.** Beside the code, and `tests/`: real sockets under a real reactor.

mod cause;
mod conn;
mod error;
mod event;
mod group;
mod listener;
mod options;
mod outgoing;
mod round;
mod shared;
mod socket;
mod stream;
mod table;
mod watch;

pub use cause::Cause;
pub use error::SockError;
pub use event::{Event, Received};
pub use group::{Detached, Group, GroupStats};
pub use options::{ConnectTo, GroupOptions, ListenOn, SocketOptions};
pub use outgoing::Payload;
pub use stream::{Progress, Refused, Room, Stream};
pub use table::{ListenerId, StreamId};
