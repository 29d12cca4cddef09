//! The JSON-RPC server on a unix socket, wire-compatible with SPDK's.
//!
//! # What it is and is not
//! It owns the socket, finds requests in the stream of bytes, reads their envelope and hands the parameters' text to
//! the registry. It declares no method and knows no module. It speaks no TCP: whoever may write to the socket
//! controls the target, so the file's mode (0600) is the access control.
//!
//! # Words
//! * *request*: one JSON value, at most 256 KiB, 8,192 values and 64 levels; *batch*: an array of them.
//! * *notification*: a request without id, or with id null: only its errors are answered.
//! * *seat*: a connection's place among at most 64; *left behind*: a thread still in a call whose client hung up. It
//!   has no seat.
//!
//! # Who may call it, on which thread
//! [`Server::start`] and [`Server::stop`] from any ordinary thread. Each connection has its own thread, which also
//! runs the handlers: a slow call delays only its own connection. One more accepts, and notices who hangs up.
//!
//! # Invariants
//! * One connection's requests are answered in order. Bytes may be cut anywhere: the answers are the same.
//! * What is not JSON, or over a limit, gets one last answer (-32700) and the connection ends.
//! * A connection holds at most one request (256 KiB and one read) and one answer (32 MiB); a client that does not
//!   read blocks only itself, and is dropped after [`ServerConfig::write_timeout`].
//! * A client that hangs up gives its seat back at once, whatever its call does: whoever connects later finds it free.
//!   With [`LEFT_BEHIND_MAX`] threads left behind, newcomers are refused.
//! * Idle connections cost no time. The socket is never reachable with a wider mode than asked for.
//!
//! # Map of files
//! `server` start, accept, stop · `serve` one connection · `connections` the table of seats · `watch` who
//! connects, who hangs up · `frame`, `scan` bytes
//! to requests · `answer` envelope and batch · `endpoint` lock, socket file · `error` why it did not start · `fuzz`
//! entry point for the fuzzer.
//!
//! # Where the tests are
//! Beside `scan` and `frame`; `tests/wire.rs` what is answered to what; `tests/clients.rs` clients that misbehave;
//! `tests/hangups.rs` clients that hang up during a call; `tests/idle.rs` what idle connections cost; `tests/socket.rs` the file; the corpus
//! `test/fuzz/corpus/rpc_request`, which `test/corpus` replays.

mod answer;
mod connections;
mod endpoint;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod scan;
mod serve;
mod server;
mod watch;

pub use connections::{CONNECTIONS_MAX, LEFT_BEHIND_MAX};
pub use error::ServerError;
pub use frame::REQUEST_BYTES_MAX;
pub use server::{Server, ServerConfig};
