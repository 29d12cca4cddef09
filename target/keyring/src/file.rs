//! A key file: what it must be, and how it is read.

use crate::error::KeyringError;
use crate::material::{KeyFault, MAX_BYTES};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, stat};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::geteuid;
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Permission bits that no key file may have: any of group and others.
const OTHERS: u32 = 0o077;

/// Reads the file at `path`, which must be the target's own, for its owner alone, regular and not too long. Blocks:
/// control threads.
///
/// What is checked is what is read: all rules are looked at once more on the open file, so that a file exchanged in
/// between gains nothing. The bytes are in one buffer that overwrites itself when it goes.
pub(crate) fn read_key(path: &str) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let failed = |what| move |errno| KeyringError::Io { what, path: path.to_owned(), errno };
    if !path.starts_with('/') {
        return Err(KeyringError::Relative { path: path.to_owned() });
    }
    // Before it is opened: to open some devices does something to them.
    check(path, &stat(path).map_err(failed("find"))?)?;
    // Should it have become a pipe by now: to open that must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(path, flags, Mode::empty()).map_err(failed("open"))?;
    let before = fstat(&file).map_err(failed("look at"))?;
    check(path, &before)?;
    read_whole(path, &file, &before)
}

/// The bytes of an open file, which must be as it was `before`.
pub(crate) fn read_whole(
    path: &str,
    file: impl AsFd,
    before: &Stat,
) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let failed = |what| move |errno| KeyringError::Io { what, path: path.to_owned(), errno };
    // One more than it should hold: so that one that grows is noticed. Made at its full size, as a buffer that grows
    // leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; before.st_size as usize + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match retry_on_intr(|| read(&file, &mut bytes[len..])).map_err(failed("read"))? {
            0 => break,
            more => len += more,
        }
    }
    let after = fstat(&file).map_err(failed("look at"))?;
    if len as u64 != before.st_size as u64 || state(&after) != state(before) {
        return Err(KeyringError::Changed { path: path.to_owned() });
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// What differs between two looks at a file that was written to in between. Not the time of its last change of status:
/// that moves as well when another file is renamed over it, which is how keys are exchanged, and leaves its bytes alone.
fn state(stat: &Stat) -> (i64, i64, i64) {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec as i64)
}

fn check(path: &str, stat: &Stat) -> Result<(), KeyringError> {
    let path = || path.to_owned();
    if let Some(kind) = other_than_regular(FileType::from_raw_mode(stat.st_mode)) {
        return Err(KeyringError::Kind { path: path(), kind });
    }
    let user = geteuid().as_raw();
    if stat.st_uid != user {
        return Err(KeyringError::Owner { path: path(), owner: stat.st_uid, user });
    }
    if stat.st_mode & OTHERS != 0 {
        return Err(KeyringError::Mode { path: path(), mode: stat.st_mode & 0o7777 });
    }
    match u64::try_from(stat.st_size) {
        Ok(bytes) if bytes <= MAX_BYTES as u64 => Ok(()),
        Ok(bytes) => Err(KeyringError::Fault { path: path(), fault: KeyFault::Long { bytes } }),
        Err(_) => Err(KeyringError::Io { what: "look at", path: path(), errno: Errno::OVERFLOW }),
    }
}

fn other_than_regular(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        FileType::RegularFile => return None,
        FileType::Directory => "a directory",
        FileType::BlockDevice => "a block device",
        FileType::CharacterDevice => "a character device",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::Symlink | FileType::Unknown => "of an unknown kind",
    })
}
