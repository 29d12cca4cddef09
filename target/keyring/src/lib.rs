//! # Named keys
//!
//! **What it is and is not.** The secrets that two hosts share, by name: for the challenge and response of sessions now,
//! for NVMe in-band authentication and TLS later. A key lives in a file; the keyring holds its name and path, never its
//! bytes. It draws no keys, speaks to no other host, and knows nothing of what a protocol makes of them.
//!
//! **Words.** *key file*: what holds a key on disk; *reference* ([`KeyRef`]): one user's hold on a named key; *key*
//! ([`Key`]): its bytes in memory, as they were when they were read; *removed*: no longer in the keyring, but a
//! reference lives.
//!
//! **Who may call it, on which thread.** [`Keyring`] and [`KeyRef::load`]: control threads, as they lock or read files.
//! [`Key`] and the end of a reference: any thread, reactors included; they take no lock.
//!
//! **Invariants.**
//! * A key file is a regular file of the target's own user, without a permission bit for anyone else, of 16 to 4096
//!   bytes; every read checks all of that again, on the file that is read.
//! * A key's bytes stand in one buffer, which is overwritten when the last user of it goes. They are in no message, log,
//!   `Debug` text, answer or saved configuration.
//! * After `remove` has returned no read of that key begins. Bytes read before stay with those who have them.
//! * A refused call changes nothing. No lock is held while a file is read.
//!
//! **Map of files.** `keyring.rs` names, references, removal · `file.rs` the rules of key files · `material.rs` from a
//! file's bytes to a key's · `key.rs` bytes in memory, HMAC · `rpc.rs` the methods · `error.rs` · `fuzz.rs` ·
//! `tests.rs`, `tests/`. The operator's page: `docs/112-keys.md`.
//!
//! **Where the tests are.** `tests.rs`; `tests/wiped.rs` (searches the process's memory for a key that has gone);
//! `tests/example.rs` (the commands of the operator's page); the corpus `test/fuzz/corpus/key_file`; against SPDK's client in `test/e2e`.

mod error;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod key;
mod keyring;
mod material;
pub mod rpc;
#[cfg(test)]
mod tests;

pub use error::KeyringError;
pub use key::{Key, MAC_BYTES};
pub use keyring::{KeyInfo, KeyRef, Keyring, MAX_KEYS};
pub use material::{KeyFault, MAX_BYTES, MIN_BYTES};
