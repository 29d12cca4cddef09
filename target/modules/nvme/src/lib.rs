//! # The NVMe over Fabrics initiator
//!
//! **What it is, and is not.** Namespaces of remote controllers as bdevs, over TCP: read, write, flush, and what the controller can of
//! compare, write zeroes and deallocation. It comes back by itself after a loss. Not here: other transports, several paths,
//! authentication, TLS, metadata, resets and aborts of single IO. `docs/131-nvme-initiator.md` says why it is as it is.
//!
//! **Words.** *association*: an admin queue and the IO queues of one connect. *home*: the reactor of a controller's admin queue.
//! *node*: what a reactor has of all controllers. *link*: the IO queue of a controller on a reactor. *held*: sent in an association that
//! is over, to be sent again in the next. *errand*: what one reactor tells another.
//!
//! **Who may call it, on which thread.** [`Controllers`] and the methods of [`rpc`]: control threads, which may block. Channels: the
//! reactor they were opened on. [`codec`] and [`engine`]: pure; anybody.
//!
//! **Invariants.** An IO succeeds only with the controller's completion, after all of its data has moved. What a controller may not
//! send ends the association. Memory is a stream's until the stream gives it back. There is one association of a controller at a
//! time. What was under way is sent again in order, before anything new, and never to another namespace.
//!
//! **Map of files.** Per IO: `channel.rs`, `qp.rs` a queue pair on a stream, `engine.rs` whether an answer may come, `codec.rs` the wire. Per
//! connection: `node.rs` a reactor's half, `admin.rs` setup and keep-alive, `admin/pages.rs`. Control: `service.rs`, `controller.rs` what is
//! shared, `options.rs`, `error.rs`, `rpc.rs`.
//!
//! **Where the tests are.** `engine/tests.rs` every wrong answer; `tests/` against the product's own target over real sockets;
//! `target/app/tests/nvme.rs` two processes; `fuzz.rs` and the corpus `test/fuzz/corpus/nvme_answers`.

mod admin;
mod channel;
pub mod codec;
mod controller;
pub mod engine;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod node;
mod options;
mod qp;
pub mod rpc;
mod service;

pub use error::NvmeError;
pub use options::AttachOptions;
pub use service::Controllers;
