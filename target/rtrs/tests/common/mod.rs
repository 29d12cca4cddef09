//! Both sides of sessions on real sockets: as threads, as processes, and with a proxy between them that can be broken.

// Each test file uses a part of it.
#![allow(dead_code)]

mod client;
pub(crate) mod executed;
pub(crate) mod process;
pub(crate) mod proxy;
mod server;

pub(crate) use client::{ClientRig, Load, Log};
pub(crate) use executed::{Recorder, now_ns};
pub(crate) use server::ServerRig;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tgt_env::bufs::Bufs;
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};
use tgt_rtrs::Key;
use tgt_rtrs::frame::KeyName;

/// The bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        // Whoever is waited for needs the core.
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

fn reactors() -> Reactors {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    Reactors::start(&options).expect("reactors start where tests run")
}

pub(crate) fn key(secret: &[u8]) -> Key {
    let parsed = tgt_keyring::Key::parse(secret.to_vec().into()).expect("long enough");
    Key::new(KeyName::new("rack").expect("short"), Box::new(parsed))
}

/// The key of those who do not care which.
pub(crate) fn any_key() -> Key {
    key(b"0123456789abcdef")
}

/// Prints a figure past libtest, which keeps to itself what a passing test prints.
pub(crate) fn figure(what: &str) {
    // Nobody who reads it, nobody who misses it.
    let _lost = writeln!(std::io::stderr(), "{what}");
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// The bytes that belong to a request (`false`) or to its answer.
pub(crate) fn pattern(tag: u64, answer: bool, bytes: u32) -> Vec<u8> {
    let mut word = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(answer);
    let mut data = Vec::with_capacity(bytes as usize + 8);
    while data.len() < bytes as usize {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        data.extend_from_slice(&word.to_le_bytes());
    }
    data.truncate(bytes as usize);
    data
}

fn bytes_of(bufs: &Bufs, bytes: u32) -> Vec<u8> {
    let mut data = vec![0; bytes as usize];
    bufs.copy_to_slice(0, &mut data);
    data
}
