//! The bed: where kernel, modules, busybox and QEMU are.
//!
//! ```text
//! <folder>/bed.txt                 what it was made of, written last
//!          boot/vmlinuz            the kernel
//!          lib/modules/<release>/  its modules, uncompressed, those a storage test may want
//!          busybox                 static
//!          qemu/                   Debian's packages, unpacked, where QEMU was not on PATH
//! <folder>.lock                    held while a guest runs
//! ```

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;
use crate::tools::on_path;

/// Changed whenever [`crate::fetch()`] makes something else of the same packages: an older bed is then made anew.
pub(crate) const RECIPE: &str = "rmr guest bed 2";
const QEMU: &str = "qemu-system-x86_64";
/// Longest wait for other guests on the bed.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two tries of the lock: a wait on it could not be bounded.
const LOOK: Duration = Duration::from_millis(20);
const REMEDY: &str = "`cargo run -p test-vm -- fetch` downloads it (Debian: 125 MB)";

/// A folder from which guests boot.
#[derive(Clone, Debug)]
pub struct Bed {
    folder: PathBuf,
    release: String,
}

impl Bed {
    /// Where the bed is or would be: `RMR_VM_BED`, else `rmr-vm` in `XDG_CACHE_HOME`, else `.build/vm` of the checkout.
    #[must_use]
    pub fn folder() -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/"));
        let named = std::env::var_os("RMR_VM_BED").map(PathBuf::from);
        let cached = || std::env::var_os("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("rmr-vm"));
        root.join(named.or_else(cached).unwrap_or_else(|| PathBuf::from(".build/vm")))
    }

    /// The bed of this machine. [`Error::Missing`] without one, and with `RMR_VM=off`.
    pub fn find() -> Result<Bed, Error> {
        if std::env::var_os("RMR_VM").is_some_and(|value| value == "off") {
            return Err(Error::missing("RMR_VM=off", "unset it"));
        }
        Bed::open(&Bed::folder())
    }

    /// The bed in `folder`, if it is complete.
    pub(crate) fn open(folder: &Path) -> Result<Bed, Error> {
        let stamp = std::fs::read_to_string(folder.join("bed.txt")).unwrap_or_default();
        if stamp.lines().next() != Some(RECIPE) {
            return Err(Error::missing(format!("no kernel in {}", folder.display()), REMEDY));
        }
        let modules = folder.join("lib/modules");
        let release = release(&modules)?;
        let bed = Bed { folder: folder.to_owned(), release };
        if on_path(QEMU).is_none() && !bed.unpacked_qemu().is_file() {
            return Err(Error::missing(format!("no {QEMU} on PATH or in {}", folder.display()), REMEDY));
        }
        Ok(bed)
    }

    /// The kernel's release, as `uname -r` says it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("boot/vmlinuz")
    }

    /// The folder that is `/lib/modules` in the guest.
    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules")
    }

    pub(crate) fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    fn unpacked_qemu(&self) -> PathBuf {
        self.folder.join("qemu/usr/bin").join(QEMU)
    }

    /// QEMU's program, the arguments that let it find its firmware, and the environment it needs.
    pub(crate) fn qemu(&self) -> (PathBuf, Vec<OsString>, Vec<(&'static str, OsString)>) {
        if let Some(program) = on_path(QEMU) {
            return (program, Vec::new(), Vec::new());
        }
        let root = self.folder.join("qemu");
        let firmware = ["usr/share/qemu", "usr/share/seabios"];
        let args = firmware.iter().flat_map(|dir| ["-L".into(), root.join(dir).into_os_string()]).collect();
        let libraries = root.join("usr/lib/x86_64-linux-gnu").into_os_string();
        (self.unpacked_qemu(), args, vec![("LD_LIBRARY_PATH", libraries)])
    }

    /// Waits for other guests to end, and keeps further ones out until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.folder.with_extension("lock");
        let file = File::options().create(true).append(true).open(&path).map_err(Error::file(&path))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(Error::File { path, source }),
                Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => {
                    return Err(Error::Busy { lock: path, waited: PATIENCE });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
    }
}

/// The one release under `modules`.
fn release(modules: &Path) -> Result<String, Error> {
    let mut entries = std::fs::read_dir(modules).map_err(Error::file(modules))?;
    match entries.next() {
        Some(entry) => Ok(entry.map_err(Error::file(modules))?.file_name().to_string_lossy().into_owned()),
        None => Err(Error::missing(format!("no modules in {}", modules.display()), REMEDY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bed_that_is_absent_half_made_or_of_another_recipe_is_missing() {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = |bed: Result<Bed, Error>| bed.expect_err("no bed").is_missing();
        assert!(missing(Bed::open(&dir.path().join("none"))));
        std::fs::create_dir_all(dir.path().join("lib/modules/6.12")).expect("modules");
        assert!(missing(Bed::open(dir.path())));
        std::fs::write(dir.path().join("bed.txt"), "rmr guest bed 0\n").expect("stamp");
        assert!(missing(Bed::open(dir.path())));
    }

    #[test]
    fn a_second_guest_waits_for_the_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let bed = Bed { folder: dir.path().join("vm"), release: String::new() };
        let held = bed.lock().expect("free");
        let (told, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| told.send(bed.lock().map(drop)));
            assert!(waits.recv_timeout(3 * LOOK).is_err(), "the lock is held");
            drop(held);
            waits.recv_timeout(PATIENCE).expect("free again").expect("the lock");
        });
    }
}
