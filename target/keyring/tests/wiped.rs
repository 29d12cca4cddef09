//! A key that has gone is nowhere in the memory of the process: searched for through `/proc/self/mem`.
//!
//! One test in a process of its own, as others would write while it reads. What it looks for it keeps masked, and
//! unmasks byte by byte while it compares; so that what it finds is the key.

#![allow(clippy::expect_used, missing_docs)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use tgt_keyring::Keyring;
use zeroize::{Zeroize, Zeroizing};

const MASK: u8 = 0xa5;
const WINDOW: usize = 1 << 20;

/// The writable memory of this process, but for `buffer`.
fn writable(buffer: &Range<u64>) -> Vec<Range<u64>> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the maps");
    let number = |text: &str| u64::from_str_radix(text, 16).expect("an address");
    let one = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        rest.starts_with("rw").then(|| number(start)..number(end))
    };
    let around = |range: Range<u64>| {
        let before = range.start..range.end.min(buffer.start.max(range.start));
        let after = range.start.max(buffer.end.min(range.end))..range.end;
        [before, after].into_iter().filter(|range| !range.is_empty())
    };
    maps.lines().filter_map(one).flat_map(around).collect()
}

/// How many bytes from the middle of a key are looked for. Those at its front the allocator overwrites with notes of its
/// own when memory is given back.
const LOOKED_FOR: usize = 20;

/// How often the middle of what `masked` stands for is found.
fn found(masked: &[u8], buffer: &mut [u8]) -> usize {
    let masked = &masked[masked.len() / 2..][..LOOKED_FOR];
    let memory = File::open("/proc/self/mem").expect("own memory");
    let own = buffer.as_ptr() as u64;
    let own = own..own + buffer.len() as u64;
    let is_it = |at: &[u8]| at.iter().zip(masked).all(|(byte, masked)| byte ^ MASK == *masked);
    let mut count = 0;
    for range in writable(&own) {
        let mut at = range.start;
        while at < range.end {
            let want = buffer.len().min((range.end - at) as usize);
            // Some mappings can be seen and not be read.
            let Ok(len) = memory.read_at(&mut buffer[..want], at) else { break };
            count += buffer[..len].windows(masked.len()).filter(|window| is_it(window)).count();
            // Windows overlap, so that none is missed at an edge.
            let step = if len == buffer.len() { len - masked.len() + 1 } else { len };
            if step == 0 {
                break;
            }
            at += step as u64;
        }
    }
    buffer.zeroize();
    count
}

#[test]
fn a_key_that_has_gone_is_nowhere_in_memory() {
    // The one in a block of the hash as it is, the other hashed before.
    for len in [48, 1000] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let masked: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
        write_unmasked(&path, &masked);
        used_and_gone(path.to_str().expect("a path"), &masked);
    }
}

fn write_unmasked(path: &Path, masked: &[u8]) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a file");
    let mut plain = Zeroizing::new(vec![0; masked.len()]);
    plain.iter_mut().zip(masked).for_each(|(byte, masked)| *byte = masked ^ MASK);
    file.write_all(&plain).expect("written");
}

fn used_and_gone(path: &str, masked: &[u8]) {
    let mut buffer = vec![0; WINDOW];
    let mut found = || found(masked, &mut buffer);
    assert_eq!(found(), 0, "before it was read");
    let keyring = Keyring::new();
    keyring.add_file("key0", path).expect("added");
    assert_eq!(found(), 0, "the keyring keeps no key");
    let user = keyring.get("key0").expect("there");
    let key = user.load().expect("read");
    let clone = key.clone();
    assert_eq!(found(), 1, "in use, once for all clones");
    let mac = key.hmac_sha256(&[b"challenge"]);
    assert!(clone.verify_hmac_sha256(&[b"challenge"], &mac));
    drop(key);
    assert!(found() >= 1, "a clone lives");
    drop(clone);
    assert_eq!(found(), 0, "the last clone has gone");
}
