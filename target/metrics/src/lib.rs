//! # Metrics: figures of a running target for Prometheus
//!
//! **What it is and is not.** A page of figures in Prometheus's text format, and a small HTTP server that answers
//! `GET /metrics` with it. Nothing can be changed through it. It keeps no history and computes no rates: that is what
//! Prometheus does. It is off unless the target is told an address.
//!
//! **Words.** *family*: the samples of one name, with one type and one line of help. *page*: all families as text.
//! *scrape*: one fetch of the page.
//!
//! **Who may call it, on which thread.** [`Server::start`] makes threads of its own, which block; [`page`] may wait two
//! seconds for reactors. Nothing of this runs on a reactor but one empty message per scrape, which wakes it so that
//! its times are those of now.
//!
//! **Invariants.** What a client sends is bounded in bytes, in time and in connections. Every family is in
//! [`families::ALL`], and every one there is in `docs/201-observability.md`. A reactor that does not answer is reported
//! as such and holds nothing up.
//!
//! **Map.** `address.rs` where to listen · `families.rs` the list of families · `text.rs` the format · `page.rs` what
//! fills it, with `bdevs.rs`, `sessions.rs`, `replication.rs`, `reactors.rs`, `memory.rs`, `process.rs` · `request.rs` what a
//! client may ask ·
//! `server.rs` the threads.
//!
//! **Tests.** Beside the code; `tests/page.rs` reads whole pages with a strict parser; the process in
//! `target/app/tests/metrics.rs`.

mod address;
mod bdevs;
pub mod families;
mod memory;
mod page;
mod process;
mod reactors;
pub mod replication;
mod request;
mod server;
mod sessions;
mod text;

pub use address::{AddressError, parse_address};
pub use page::{Sources, page};
pub use server::{CONNECTIONS_MAX, MetricsError, REQUEST_BYTES_MAX, Server};
