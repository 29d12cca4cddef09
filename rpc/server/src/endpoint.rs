//! The socket in the file system: its lock, its mode, its removal.
//!
//! Order matters: lock, remove what a dead target left, bind, set the mode, listen. Until `listen` every connect is
//! refused, so there is no moment in which the socket answers with a wider mode than asked for.

use crate::error::ServerError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that may wait to be accepted, as in SPDK.
const BACKLOG: i32 = 512;
/// `sun_path` holds this much and a NUL.
const PATH_BYTES_MAX: usize = 107;
/// A lock file may be removed by its last owner just when it is opened; then it is opened anew.
const LOCK_TRIES: usize = 10;

/// A socket that listens, and the lock that makes it ours.
pub(crate) struct Endpoint {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held as long as this lives.
    _lock: File,
    pub(crate) listener: UnixListener,
    /// Device and inode of the socket file, to remove no other.
    inode: (u64, u64),
}

impl Endpoint {
    /// Claims `path` and listens on it.
    pub(crate) fn claim(path: &Path, mode: u32) -> Result<Self, ServerError> {
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            return Err(ServerError::PathTooLong { path: path.to_owned(), bytes });
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(path, &lock_path)?;
        remove_stale(path)?;
        let listener = listen(path, mode)?;
        let inode =
            inode(path).ok_or_else(|| failed(path, "find it again", io::ErrorKind::NotFound.into()))?;
        Ok(Self { path: path.to_owned(), lock_path, _lock: lock, listener, inode })
    }

    /// Removes socket and lock file, if they are still ours.
    pub(crate) fn remove(&self) {
        match inode(&self.path) {
            Some(there) if there != self.inode => return,
            Some(_) => remove(&self.path),
            None => {}
        }
        remove(&self.lock_path);
    }
}

fn remove(path: &Path) {
    if let Err(why) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), "cannot remove: {why}");
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Takes the lock or says who holds it.
fn lock(path: &Path, lock_path: &Path) -> Result<File, ServerError> {
    let failed = |source| ServerError::Lock { path: lock_path.to_owned(), source };
    for _ in 0..LOCK_TRIES {
        // NOFOLLOW: the usual directory is writable for everybody.
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::open(lock_path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
        let mut file = File::from(file);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ServerError::InUse { path: path.to_owned(), owner: owner(&mut file) });
            }
            Err(why) => return Err(failed(why.into())),
            Ok(()) => {}
        }
        let ours = file.metadata().map(|meta| (meta.dev(), meta.ino())).map_err(failed)?;
        if inode(lock_path) == Some(ours) {
            name_owner(&mut file).map_err(failed)?;
            return Ok(file);
        }
    }
    Err(failed(io::Error::other("the lock file is replaced again and again")))
}

fn name_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Who holds the lock, from what it wrote into the file.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let pid = file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let Some(pid) = pid else {
        return "another process (it did not write its id into the lock file)".to_owned();
    };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim()),
        Err(_) => format!("process {pid}"),
    }
}

/// Removes the socket of a target that is gone: nobody else holds the lock.
fn remove_stale(path: &Path) -> Result<(), ServerError> {
    match fs::symlink_metadata(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(failed(path, "look at it", why)),
        Ok(meta) if !meta.file_type().is_socket() => Err(ServerError::NotASocket { path: path.to_owned() }),
        Ok(_) => {
            tracing::debug!(path = %path.display(), "removing a stale socket");
            fs::remove_file(path).map_err(|why| failed(path, "remove the stale socket", why))
        }
    }
}

fn listen(path: &Path, mode: u32) -> Result<UnixListener, ServerError> {
    let step = |step| move |why: rustix::io::Errno| failed(path, step, why.into());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(step("make a socket"))?;
    let address = SocketAddrUnix::new(path).map_err(step("use this path"))?;
    rustix::net::bind(&socket, &address).map_err(step("bind it"))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(step("set its mode"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(step("listen"))?;
    Ok(UnixListener::from(socket))
}

fn failed(path: &Path, step: &'static str, source: io::Error) -> ServerError {
    ServerError::Socket { path: path.to_owned(), step, source }
}
