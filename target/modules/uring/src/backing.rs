//! Opening a file or block device, and refusing what would end in lost data.

use crate::Flavour;
use crate::error::CreateError;
use crate::holder::{self, DeviceNumber, Holder};
use crate::step::ZeroBy;
use rustix::fs::{AtFlags, FlockOperation, OFlags, StatxFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tgt_env::memory::DmaBuf;

const BLOCK_SIZE_MIN: u32 = 512;
const BLOCK_SIZE_MAX: u32 = 65536;

/// How long a backing that nobody visible holds is asked for again: a killed process lets go of it only when its last
/// IO has ended, which is after it has disappeared.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// How often.
const RELEASE_INTERVAL: Duration = Duration::from_millis(2);

const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;

/// What a file or device is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    File { dev: u64, inode: u64 },
    Device(DeviceNumber),
}

/// The backings of this process, with the names of their bdevs.
static OPEN: Mutex<Vec<(Identity, String)>> = Mutex::new(Vec::new());

/// An identity in that list; taken off when dropped.
#[derive(Debug)]
struct Listed(Identity);

/// An open file or block device that is this process's alone.
#[derive(Debug)]
pub(crate) struct Backing {
    file: File,
    path: PathBuf,
    direct: bool,
    /// What addresses in memory must be multiples of.
    memory_align: u32,
    /// What offsets in the file, and lengths of every segment, must be multiples of.
    offset_align: u32,
    can_discard: bool,
    zero_by: AtomicU8,
    /// Dropped last: whoever finds the list without it finds the file closed.
    _listed: Listed,
}

impl Backing {
    /// Opens `path` for the bdev `bdev`.
    pub(crate) fn open(path: &Path, bdev: &str, flavour: Flavour) -> Result<Backing, CreateError> {
        let kernel =
            |what| move |source| CreateError::Kernel { path: path.to_owned(), what, source, hint: "" };
        let found = std::fs::metadata(path).map_err(kernel("cannot be looked at"))?;
        let is_device = found.file_type().is_block_device();
        check_kind(path, &found)?;
        if matches!(flavour, Flavour::Aio { nowait: true, .. }) && !is_device {
            return Err(CreateError::NoWait(path.to_owned()));
        }
        let identity = identity(&found);
        let listed = Listed::take(identity, path, bdev)?;
        if let Some(name) = holder::loop_on(path).filter(|_| !is_device) {
            let holder = format!("the loop device {name} stands on it");
            return Err(CreateError::InUse { path: path.to_owned(), holder });
        }
        if !flavour.readonly() && is_read_only(identity) {
            // The kernel would open it and fail every write.
            return Err(refused(path, io::Error::from_raw_os_error(EROFS), false));
        }
        let (file, direct) = open_exclusively(path, identity, flavour.readonly())?;
        let opened = file.metadata().map_err(kernel("cannot be looked at"))?;
        if self::identity(&opened) != identity {
            let source = io::Error::from_raw_os_error(EBUSY);
            return Err(kernel("was replaced by another file meanwhile")(source));
        }
        let align = if direct { alignment(&file, is_device) } else { Some(NO_ALIGNMENT) };
        // A file system that opens directly and then refuses: known only now.
        let (file, direct, align) = match align {
            Some(align) => (file, direct, align),
            None => {
                drop(file);
                (
                    open_once(path, is_device, flavour.readonly(), false)
                        .map_err(kernel("cannot be opened"))?,
                    false,
                    NO_ALIGNMENT,
                )
            }
        };
        if !is_device {
            lock(&file, path, &opened, flavour.readonly())?;
        }
        Ok(Backing {
            can_discard: !is_device || discards(identity),
            file,
            path: path.to_owned(),
            direct,
            memory_align: align.0,
            offset_align: align.1,
            zero_by: AtomicU8::new(zero_first(flavour) as u8),
            _listed: listed,
        })
    }

    /// As it was given.
    pub(crate) fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Past the page cache.
    pub(crate) fn direct(&self) -> bool {
        self.direct
    }

    pub(crate) fn can_discard(&self) -> bool {
        self.can_discard
    }

    /// What addresses in memory must be multiples of: a power of two.
    pub(crate) fn memory_align(&self) -> u32 {
        self.memory_align
    }

    /// What lengths of segments must be multiples of: a power of two.
    pub(crate) fn length_align(&self) -> u32 {
        if self.direct { self.offset_align } else { 1 }
    }

    /// How zeroes are written.
    pub(crate) fn zero_by(&self) -> ZeroBy {
        ZeroBy::ALL[usize::from(self.zero_by.load(Relaxed))]
    }

    /// This way does not work here: the next one for everybody from now on.
    pub(crate) fn cannot_zero_by(&self, way: ZeroBy) -> ZeroBy {
        self.zero_by.fetch_max(way.next() as u8, Relaxed);
        self.zero_by()
    }

    /// Its size now.
    pub(crate) fn bytes(&self) -> Result<u64, CreateError> {
        let size = (&self.file).seek(SeekFrom::End(0));
        size.map_err(|source| CreateError::Kernel {
            path: self.path.clone(),
            what: "its size cannot be had",
            source,
            hint: "",
        })
    }

    /// Bytes per block: as given, if the backing takes that; the least it takes otherwise.
    pub(crate) fn block_size(&self, given: Option<u32>) -> Result<u32, CreateError> {
        let least = self.offset_align.max(BLOCK_SIZE_MIN);
        match given {
            None | Some(0) => Ok(least),
            Some(given) if given.is_power_of_two() && (least..=BLOCK_SIZE_MAX).contains(&given) => Ok(given),
            Some(given) => Err(CreateError::BlockSize { path: self.path.clone(), given, least }),
        }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Listed {
    fn take(identity: Identity, path: &Path, bdev: &str) -> Result<Listed, CreateError> {
        let mut open = OPEN.lock().expect("no thread panics while it holds this lock");
        if let Some((_, other)) = open.iter().find(|(listed, _)| *listed == identity) {
            return Err(CreateError::AlreadyOpen { path: path.to_owned(), bdev: other.clone() });
        }
        open.push((identity, bdev.to_owned()));
        Ok(Listed(identity))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        OPEN.lock()
            .expect("no thread panics while it holds this lock")
            .retain(|(listed, _)| *listed != self.0);
    }
}

/// Memory, and file: anything goes through the page cache.
const NO_ALIGNMENT: (u32, u32) = (1, BLOCK_SIZE_MIN);

fn identity(found: &std::fs::Metadata) -> Identity {
    if found.file_type().is_block_device() {
        Identity::Device(DeviceNumber::of(found.rdev()))
    } else {
        Identity::File { dev: found.dev(), inode: found.ino() }
    }
}

fn check_kind(path: &Path, found: &std::fs::Metadata) -> Result<(), CreateError> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() || kind.is_block_device() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_char_device() => "a character device",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "something else",
    };
    Err(CreateError::Kind { path: path.to_owned(), what })
}

fn open_once(path: &Path, is_device: bool, readonly: bool, direct: bool) -> io::Result<File> {
    let mut flags = OFlags::CLOEXEC;
    flags.set(OFlags::DIRECT, direct);
    // On a block device: nobody else mounts or takes it, and it is refused while somebody has.
    flags.set(OFlags::EXCL, is_device);
    OpenOptions::new().read(true).write(!readonly).custom_flags(flags.bits() as i32).open(path)
}

/// The open file, and whether it goes past the page cache.
fn open_exclusively(path: &Path, identity: Identity, readonly: bool) -> Result<(File, bool), CreateError> {
    let is_device = matches!(identity, Identity::Device(_));
    let deadline = Instant::now() + RELEASE_PATIENCE;
    loop {
        let opened = direct_or_buffered(|direct| open_once(path, is_device, readonly, direct));
        let error = match opened {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let Identity::Device(number) = identity else { return Err(refused(path, error, readonly)) };
        if error.raw_os_error() != Some(EBUSY) {
            return Err(refused(path, error, readonly));
        }
        let holder = match holder::of_device(number) {
            Holder::Known(holder) => holder,
            Holder::Unseen if Instant::now() < deadline => {
                std::thread::sleep(RELEASE_INTERVAL);
                continue;
            }
            Holder::Unseen => "another process has it open exclusively".to_owned(),
        };
        return Err(CreateError::InUse { path: path.to_owned(), holder });
    }
}

/// Opens directly; through the page cache where the file system does not know of it.
pub(crate) fn direct_or_buffered<F>(open: impl Fn(bool) -> io::Result<F>) -> io::Result<(F, bool)> {
    match open(true) {
        Err(error) if error.raw_os_error() == Some(EINVAL) => open(false).map(|file| (file, false)),
        opened => opened.map(|file| (file, true)),
    }
}

fn refused(path: &Path, source: io::Error, readonly: bool) -> CreateError {
    let hint = match source.raw_os_error() {
        Some(EACCES | EROFS) if !readonly => ": it may be read-only; bdev_aio_create takes readonly=true",
        _ => "",
    };
    CreateError::Kernel { path: path.to_owned(), what: "cannot be opened", source, hint }
}

/// Memory and file alignment of direct IO; none: there is no direct IO after all.
fn alignment(file: &File, is_device: bool) -> Option<(u32, u32)> {
    let told =
        rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN);
    if let Ok(told) = told
        && StatxFlags::from_bits_retain(told.stx_mask).contains(StatxFlags::DIOALIGN)
    {
        let (memory, offset) = (told.stx_dio_mem_align, told.stx_dio_offset_align);
        let usable = memory.is_power_of_two() && offset.is_power_of_two() && offset <= BLOCK_SIZE_MAX;
        return usable.then_some((memory, offset));
    }
    if is_device && let Ok(logical) = rustix::fs::ioctl_blksszget(file) {
        return Some((logical, logical));
    }
    [512, 1024, 2048, 4096].into_iter().find(|size| reads_directly(file, *size)).map(|size| (size, size))
}

/// Whether a read of this many bytes goes well: on kernels and file systems that do not tell.
fn reads_directly(file: &File, bytes: u32) -> bool {
    let Ok(mut buffer) = DmaBuf::alloc(4096) else { return false };
    let piece = &mut buffer.as_mut_slice()[..bytes as usize];
    rustix::io::pread(file, piece, u64::from(bytes)).is_ok()
}

/// Locks a file. The lock belongs to the open file, not to the process: the kernel gives it back when the last IO on
/// the file has ended and the last descriptor is gone.
fn lock(file: &File, path: &Path, found: &std::fs::Metadata, readonly: bool) -> Result<(), CreateError> {
    let how = if readonly {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    let deadline = Instant::now() + RELEASE_PATIENCE;
    loop {
        match rustix::fs::flock(file, how) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(errno) => {
                let (path, hint) = (path.to_owned(), ": without a lock nothing keeps others from writing");
                return Err(CreateError::Kernel {
                    path,
                    what: "cannot be locked",
                    source: errno.into(),
                    hint,
                });
            }
        }
        let holder = match holder::of_lock(found.dev(), found.ino()) {
            Holder::Known(holder) => holder,
            Holder::Unseen if Instant::now() < deadline => {
                std::thread::sleep(RELEASE_INTERVAL);
                continue;
            }
            Holder::Unseen => "another process has locked it".to_owned(),
        };
        return Err(CreateError::InUse { path: path.to_owned(), holder });
    }
}

/// Whether a block device takes no writes.
fn is_read_only(identity: Identity) -> bool {
    let Identity::Device(number) = identity else { return false };
    std::fs::read_to_string(format!("/sys/dev/block/{number}/ro")).is_ok_and(|text| text.trim() == "1")
}

/// Whether a block device discards.
fn discards(identity: Identity) -> bool {
    let Identity::Device(number) = identity else { return true };
    // A partition has no queue of its own: its disk's is one above.
    let read =
        |place: &str| std::fs::read_to_string(format!("/sys/dev/block/{number}/{place}/discard_max_bytes"));
    let most = read("queue").or_else(|_| read("../queue"));
    most.is_ok_and(|text| text.trim() != "0")
}

/// SPDK's aio writes zeroes out unless it is told that the backing can do better.
fn zero_first(flavour: Flavour) -> ZeroBy {
    if flavour.discards() { ZeroBy::Range } else { ZeroBy::Writing }
}
