//! What prepares a host for the target, tested: `scripts/setup.sh`, the systemd unit, the Debian package.
//!
//! # What it is and is not
//! What the tests in `tests/` share: a machine made of files, on which `setup.sh` runs as on a real one. The files are
//! a sysfs, a procfs and a dev; the script's one function that writes to sysfs is replaced by one that does what the
//! kernel would. That the real kernel agrees is tested in a guest.
//!
//! # Words
//! * *machine*: one such tree. *BDF*: a PCI address, as 0000:01:00.0.
//!
//! # Who may call it, on which thread
//! Tests, on any thread; each machine has a folder of its own.
//!
//! # Invariants
//! Nothing of the machine the tests run on is changed.
//!
//! # Map of files
//! `machine` the tree and the runs of the script · `kernel.sh` what the kernel does when sysfs is written to.
//!
//! # Where the tests are
//! `tests/setup.rs` on such machines · `tests/guest.rs` under a real kernel · `tests/package.rs` unit and package.

mod machine;

pub use machine::{Machine, Run};

use std::path::{Path, PathBuf};

/// The root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders below the root").to_owned()
}

/// Says in one line what is not tested and why, past libtest, which keeps to itself what a passing test prints.
pub fn skip(why: &str) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Nobody who reads it, nobody who misses it.
    let _lost = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}
