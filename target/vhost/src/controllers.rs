//! All controllers of a target. Control threads.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tgt_bdev::{Bdev, Bdevs, Desc, Mode, Module, OpenError};
use tgt_env::cores::CpuMask;
use tgt_reactor::Handle;

use crate::VhostError;
use crate::controller::{Ask, Controller, ControllerSpec};
use crate::home::Home;
use crate::queue::Coalescing;

/// How long a removal of a bdev waits for controllers to let go of it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a socket on which a process listens is waited for: one that was killed leaves its io_uring behind, which lets go of
/// the socket some milliseconds later.
const DEATH_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks at such a socket.
const DEATH_INTERVAL: Duration = Duration::from_millis(2);
/// Longest path of a socket (`sockaddr_un`), without the zero at its end.
const PATH_MAX: usize = 107;

/// What to make.
#[derive(Clone, Debug, Default)]
pub struct BlkSpec {
    /// Name of the controller, and of its socket in the directory of sockets.
    pub name: String,
    /// Name, alias or UUID of the bdev.
    pub bdev: String,
    /// Cores of its queues, as a mask; all reactors without one.
    pub cpumask: Option<String>,
    /// Whether the guest may only read.
    pub readonly: bool,
    /// Whether packed rings are offered.
    pub packed_ring: bool,
}

/// All controllers, by name in the order they were made.
pub struct Controllers {
    /// Which knows us as one of its modules.
    bdevs: Weak<Bdevs>,
    reactors: Arc<Vec<Handle>>,
    directory: PathBuf,
    list: Mutex<Vec<Arc<Controller>>>,
    /// Held over a creation or a deletion, which wait.
    changing: Mutex<()>,
}

impl Controllers {
    /// None yet. Their sockets will be in `directory`.
    #[must_use]
    pub fn new(bdevs: &Arc<Bdevs>, reactors: &Arc<Vec<Handle>>, directory: PathBuf) -> Arc<Controllers> {
        let controllers = Arc::new(Controllers {
            bdevs: Arc::downgrade(bdevs),
            reactors: reactors.clone(),
            directory,
            list: Mutex::default(),
            changing: Mutex::default(),
        });
        bdevs.add_module(controllers.clone());
        controllers
    }

    /// Makes a controller; front ends can connect when this returns.
    ///
    /// # Errors
    /// Any [`VhostError`]; nothing has changed.
    pub fn create(&self, spec: &BlkSpec) -> Result<(), VhostError> {
        let _alone = locked(&self.changing);
        let path = self.path_of(&spec.name)?;
        if self.find(&spec.name).is_ok() {
            return Err(VhostError::Exists(spec.name.clone()));
        }
        let reactors = self.reactors_of(spec.cpumask.as_deref())?;
        let mode = if spec.readonly { Mode::Read } else { Mode::Write };
        let bdevs = self.bdevs.upgrade().ok_or_else(|| OpenError::NotFound(spec.bdev.clone()))?;
        let desc = bdevs.open(&spec.bdev, &format!("vhost {}", spec.name), mode)?;
        let listener = listen(&path).map_err(|source| VhostError::Socket { path: path.clone(), source })?;
        // Two controllers with a queue each shall not meet on the first core.
        let turn = locked(&self.list).len() % reactors.len();
        let queues: Vec<Handle> = reactors[turn..].iter().chain(&reactors[..turn]).cloned().collect();
        let controller = Arc::new(Controller::new(ControllerSpec {
            name: spec.name.clone(),
            path: path.clone(),
            bdev: desc.bdev().clone(),
            readonly: spec.readonly,
            packed_ring: spec.packed_ring,
            cpumask: format!("0x{:x}", reactors.iter().map(Handle::core).collect::<CpuMask>()),
            asked_cpumask: spec.cpumask.clone(),
            home: queues[0].clone(),
        }));
        let made = self.settle(&controller, queues, listener, &path, desc);
        if made.is_err() {
            // Bound by us a moment ago, and nobody's now.
            let _removed = std::fs::remove_file(&path);
        }
        made
    }

    fn settle(
        &self,
        controller: &Arc<Controller>,
        queues: Vec<Handle>,
        listener: UnixListener,
        path: &Path,
        desc: Desc,
    ) -> Result<(), VhostError> {
        let (own, path) = (controller.clone(), path.to_owned());
        let made = controller.home.call(move |reactor| {
            let home = Home::new(reactor.cx(), own, queues, listener, path, desc)?;
            reactor.cx().spawn(Box::new(home), None);
            Ok(())
        });
        let refused = |why| VhostError::Reactor { name: controller.name.clone(), why };
        made.map_err(|why| refused(why.to_string()))?.map_err(refused)?;
        locked(&self.list).push(controller.clone());
        Ok(())
    }

    /// Deletes a controller that no front end is connected to.
    ///
    /// # Errors
    /// [`VhostError::NotFound`], [`VhostError::Busy`], [`VhostError::Reactor`].
    pub fn delete(&self, name: &str) -> Result<(), VhostError> {
        let _alone = locked(&self.changing);
        let controller = self.find(name)?;
        let (answer, goes) = sync_channel(1);
        controller.ask(Ask::Delete(answer));
        match goes.recv_timeout(Handle::CALL_TIMEOUT) {
            Ok(true) => {
                locked(&self.list).retain(|other| !Arc::ptr_eq(other, &controller));
                Ok(())
            }
            Ok(false) => Err(VhostError::Busy(name.to_owned())),
            Err(why) => Err(VhostError::Reactor { name: name.to_owned(), why: why.to_string() }),
        }
    }

    /// Holds calls back while there are more than `iops_threshold` requests a second, for `delay_base_us` at most.
    ///
    /// # Errors
    /// [`VhostError::NotFound`], [`VhostError::Delay`].
    pub fn set_coalescing(
        &self,
        name: &str,
        delay_base_us: u32,
        iops_threshold: u32,
    ) -> Result<(), VhostError> {
        let controller = self.find(name)?;
        if delay_base_us > DELAY_MAX_US {
            return Err(VhostError::Delay(delay_base_us));
        }
        controller.set_coalescing(Coalescing { delay_base_us, iops_threshold });
        Ok(())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Controller>> {
        locked(&self.list).clone()
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Controller>, VhostError> {
        let list = locked(&self.list);
        let found = list.iter().find(|controller| controller.name == name);
        found.cloned().ok_or_else(|| VhostError::NotFound(name.to_owned()))
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, VhostError> {
        let plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        let path = self.directory.join(name);
        let path = std::path::absolute(&path).unwrap_or(path);
        if !plain || path.as_os_str().len() > PATH_MAX {
            return Err(VhostError::Name { name: name.to_owned(), path });
        }
        Ok(path)
    }

    fn reactors_of(&self, mask: Option<&str>) -> Result<Vec<Handle>, VhostError> {
        let Some(text) = mask else { return Ok(self.reactors.to_vec()) };
        let ours: CpuMask = self.reactors.iter().map(Handle::core).collect();
        let wrong = || VhostError::Mask { mask: text.to_owned(), ours: format!("0x{ours:x}") };
        let mask: CpuMask = text.parse().map_err(|_| wrong())?;
        if mask.is_empty() || !mask.without(&ours).is_empty() {
            return Err(wrong());
        }
        Ok(self.reactors.iter().filter(|reactor| mask.contains(reactor.core())).cloned().collect())
    }

    fn on(&self, bdev: &Bdev) -> Vec<Arc<Controller>> {
        self.all().into_iter().filter(|controller| controller.is_on(bdev)).collect()
    }
}

/// Longest that a call may be held back.
pub(crate) const DELAY_MAX_US: u32 = 1_000_000;

impl Module for Controllers {
    fn removing(&self, _bdevs: &Bdevs, bdev: &Arc<Bdev>) {
        let released: Vec<_> = self
            .on(bdev)
            .into_iter()
            .map(|controller| {
                let (answer, released) = sync_channel(1);
                controller.ask(Ask::Release(answer));
                (controller, released)
            })
            .collect();
        for (controller, released) in released {
            if released.recv_timeout(RELEASE_TIMEOUT).is_err() {
                tracing::warn!(
                    controller = controller.name,
                    "bdev {:?} is removed, but requests of a guest are still under way on it",
                    bdev.name()
                );
            }
        }
    }

    fn resized(&self, bdev: &Bdev) {
        self.on(bdev).iter().for_each(|controller| controller.ask(Ask::Resized));
    }
}

impl std::fmt::Debug for Controllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} vhost controllers in {}", locked(&self.list).len(), self.directory.display())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}

/// A listener at `path`. The socket of a process that has died is replaced, that of one that lives is not.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let end = Instant::now() + DEATH_TIMEOUT;
    while is_listened_on(path)? {
        if Instant::now() >= end {
            return Err(Error::new(ErrorKind::AddrInUse, "another process listens there"));
        }
        std::thread::sleep(DEATH_INTERVAL);
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether somebody listens at `path`. If not, nothing is there any more.
fn is_listened_on(path: &Path) -> std::io::Result<bool> {
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(false) };
    if !there.file_type().is_socket() {
        return Err(Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
