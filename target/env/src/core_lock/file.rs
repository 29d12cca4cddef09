//! One lock file: opening it safely in a directory that everybody may write to, locking single bytes of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process;

use super::CoreUse;

/// What a lock covers: a byte, and the lock's type.
#[derive(Debug, Clone, Copy)]
pub(super) struct LockByte {
    offset: i64,
    kind: libc::c_int,
}

/// Held, for writing, by the one target that always polls.
pub(super) const POLLING_BYTE: LockByte = LockByte { offset: 0, kind: libc::F_WRLCK };
/// Held, for reading, by every adaptive target.
pub(super) const SHARING_BYTE: LockByte = LockByte { offset: 1, kind: libc::F_RDLCK };

/// Whoever else holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: Option<i32>,
}

#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
}

impl LockFile {
    /// Opens or makes the file. Others may read it, so that adaptive targets of other users can take their lock.
    pub(super) fn open(path: &Path, core_use: CoreUse) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // NOFOLLOW: anybody may have put a link here; NONBLOCK: or a pipe.
        options.read(true).write(true).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        // Without O_CREAT first: with it, fs.protected_regular refuses another user's file even to root.
        let opened = match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match options.clone().create_new(true).open(path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
                    made => made,
                }
            }
            other => other,
        };
        let opened = match opened {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && core_use == CoreUse::Adaptive => {
                options.write(false).open(path)
            }
            other => other,
        };
        Ok(Self { file: opened? })
    }

    /// Takes a lock without waiting; `false`: somebody else holds one that conflicts.
    pub(super) fn lock(&self, byte: LockByte) -> io::Result<bool> {
        let mut request = request(byte.kind, byte.offset, 1);
        match self.fcntl(libc::F_OFD_SETLK, &mut request) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Who else holds a lock on this byte.
    pub(super) fn holder(&self, byte: LockByte) -> io::Result<Option<Holder>> {
        self.conflict(byte.offset, 1)
    }

    /// Who else holds a lock on either byte.
    pub(super) fn others(&self) -> io::Result<Option<Holder>> {
        self.conflict(POLLING_BYTE.offset, 2)
    }

    fn conflict(&self, start: i64, len: i64) -> io::Result<Option<Holder>> {
        let mut request = request(libc::F_WRLCK, start, len);
        self.fcntl(libc::F_OFD_GETLK, &mut request)?;
        if request.l_type == libc::F_UNLCK as i16 {
            return Ok(None);
        }
        // The kernel names the owner of a POSIX lock (SPDK's); for one like ours it says -1.
        let pid = Some(request.l_pid).filter(|&pid| pid > 0);
        Ok(Some(Holder { pid: pid.or_else(|| self.read_pid()) }))
    }

    pub(super) fn write_pid(&self) -> io::Result<()> {
        self.file.write_all_at(&process::id().to_ne_bytes(), 0)
    }

    fn read_pid(&self) -> Option<i32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        Some(i32::from_ne_bytes(bytes)).filter(|&pid| pid > 0)
    }

    /// Whether `path` still names this file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Removes the file if nobody else holds a lock on it. Whoever opened it meanwhile notices by [`Self::is_at`].
    pub(super) fn remove_if_last(&self, path: &Path) {
        let mut whole = request(libc::F_WRLCK, 0, 0);
        if self.fcntl(libc::F_OFD_SETLK, &mut whole).is_ok() && self.is_at(path) {
            // A file that stays behind (directory not writable any more) does no harm: its lock is gone.
            let _removed = fs::remove_file(path);
        }
    }

    fn fcntl(&self, command: libc::c_int, request: &mut libc::flock) -> io::Result<()> {
        // SAFETY: the descriptor is open, and both commands read and write one `flock`, which is exclusively ours.
        let result = unsafe { libc::fcntl(self.file.as_raw_fd(), command, std::ptr::from_mut(request)) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing alone is not enough: a child just forked, and not yet past its exec, holds the same open file. An
        // unlock fails only for reasons that closing settles as well.
        let _closing_follows = self.fcntl(libc::F_OFD_SETLK, &mut request(libc::F_UNLCK, 0, 0));
    }
}

/// `len` 0: to the end of the file, however long it grows.
fn request(kind: libc::c_int, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        // Open-file-description locks want 0 here.
        l_pid: 0,
    }
}
