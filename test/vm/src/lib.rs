//! A guest: one command under a real kernel of its own, on any x86-64 machine, without KVM and without root.
//!
//! # What it is and is not
//! A way for tests to reach what the machine at hand does not have: device mapper, NVMe devices, VFIO, the kernel's own
//! NVMe/TCP host. QEMU interprets the guest's code (TCG), so its timing says nothing about speed. It is no way to run
//! code that is not trusted: the guest reads the host's files.
//!
//! # Words
//! * *bed*: the folder with kernel, modules, busybox and, where the machine has none, QEMU; made by [`fetch`].
//! * *guest*: one boot of that kernel. Its root is the host's, read only, with a layer in memory on top: what the guest
//!   writes is gone with it. Programs built on the host run in it at the same paths.
//! * *share*: a folder that both see and write, [`SHARE`] in the guest.
//!
//! # Who may call it, on which thread
//! Tests, from any thread that lives as long as the guest: QEMU ends with the thread that started it. One guest runs
//! at a time on a bed; the next one waits.
//!
//! # Invariants
//! * QEMU never outlives its [`Running`], nor the process that started it, nor its time limit.
//! * A guest that ended without saying how its command ended is an error, never a success.
//! * Nothing is installed and nothing outside the bed and the temporary folder is written.
//! * Tests never download: only [`fetch`] does, called by `cargo xtask ci` (step `prepare`) or by hand.
//!
//! # Map of files
//! `bed` where things are · `fetch` makes the bed · `tools` other programs · `guest` what to boot · `disk` its disks ·
//! `initramfs` and `init.sh` from the kernel to the command · `running` QEMU's process · `error` · `main` the binary
//! `rmr-guest`.
//!
//! # Where the tests are
//! `tests/guest.rs` boots guests; the rest beside the code.

mod bed;
mod disk;
mod error;
mod fetch;
mod guest;
mod initramfs;
mod running;
mod tools;

pub use bed::Bed;
pub use disk::Disk;
pub use error::Error;
pub use fetch::fetch;
pub use guest::{Guest, SHARE};
pub use running::{Outcome, Running};

/// Says in one line what is not tested and why, past libtest, which keeps to itself what a passing test prints.
pub fn tell_skipped(why: &Error) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Nobody who reads it, nobody who misses it.
    let _lost = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}
