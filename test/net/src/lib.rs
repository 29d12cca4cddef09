//! Networks that break on demand: network namespaces on bridges, with real TCP between them.
//!
//! # What it is and is not
//! A way for tests to see what sessions and replication do when a network is cut, one way or both, loses packets, is
//! slow, or comes and goes. The kernel's own TCP is under test, not a model of it; the simulator is elsewhere. It says
//! nothing about speed.
//!
//! # Words
//! * *node*: one namespace with one card, `eth0`, or several, each with addresses of its own (IPv4, and IPv6 where the
//!   kernel has it); what a host is to the code under test.
//! * *card*: cards with the same number are on one bridge and in one subnet: what a path is to the code under test.
//! * *hub*: the namespace with the bridges between the nodes. The machine's own network is not touched.
//! * *cut*: packets vanish and nobody is told, as behind a broken switch. *unplugged*: the card sees that it has no
//!   cable.
//! * *leftover*: a namespace of a run that was killed before it could clean up.
//!
//! # Who may call it, on which thread
//! Tests, as root, on any thread. Nets of different tests and processes do not see each other.
//!
//! # Invariants
//! * When a [`Net`] is dropped, also by a panic, its processes are killed and its namespaces are gone.
//! * Names hold the id and the start time of the process they belong to: what belongs to no living process is removed
//!   when the next net is made, and nothing else is.
//! * A fault is in force when the call that makes it returns.
//!
//! # Map of files
//! `net` making and removing · `card` faults of one of several · `node` running in a namespace · `faults` what is broken,
//! and the rules for nftables · `flap` a link that comes and goes · `leftovers` · `tools` · `error`.
//!
//! # Where the tests are
//! `tests/net.rs`; with delays in `tests/guest.rs`, because not every kernel has netem; small ones beside the code.

mod card;
mod error;
mod faults;
mod flap;
mod leftovers;
mod net;
mod node;
mod tools;

pub use card::Card;
pub use error::Error;
pub use net::Net;
pub use node::{Node, Process};

/// Says in one line what is not tested and why, past libtest, which keeps to itself what a passing test prints.
pub fn tell_skipped(why: &Error) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Nobody who reads it, nobody who misses it.
    let _lost = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}
