//! Controllers as control threads see them: attach, detach, reset; and the thread that has bdevs follow namespaces.

use crate::channel::NvmeDevice;
use crate::controller::{Controller, Found, Namespace, Phase};
use crate::error::NvmeError;
use crate::node::Node;
use crate::options::AttachOptions;
use rpc_registry::ConfigEntry;
use std::sync::atomic::Ordering::Release;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tgt_bdev::{Bdev, BdevSpec, Bdevs, Limits, Module, Op, OpSet, RemoveError};
use tgt_reactor::Handle;

/// How long an attach or a reset is waited for: longer than a setup may take.
const PATIENCE: Duration = Duration::from_secs(25);
/// Longest range that one command discards, blocks.
const UNMAP_MAX_BLOCKS: u32 = 1 << 20;

/// The controllers of a process. Control threads.
pub struct Controllers {
    bdevs: Arc<Bdevs>,
    reactors: Arc<Vec<Handle>>,
    list: Mutex<List>,
    /// One attach, detach or reset at a time.
    changes: Mutex<()>,
}

struct List {
    all: Vec<Arc<Controller>>,
    next: usize,
    news: Option<Sender<Arc<Controller>>>,
}

impl Controllers {
    /// None is attached.
    #[must_use]
    pub fn new(bdevs: &Arc<Bdevs>, reactors: &Arc<Vec<Handle>>) -> Arc<Controllers> {
        let list = Mutex::new(List { all: Vec::new(), next: 0, news: None });
        let controllers = Arc::new(Controllers {
            bdevs: bdevs.clone(),
            reactors: reactors.clone(),
            list,
            changes: Mutex::new(()),
        });
        bdevs.add_module(Arc::new(Saved(Arc::downgrade(&controllers))));
        controllers
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Controller>> {
        self.list().all.clone()
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Controller>, NvmeError> {
        let all = self.all();
        let found = all.iter().find(|controller| controller.options.name == name).cloned();
        found.ok_or_else(|| NvmeError::NotFound(name.to_owned()))
    }

    /// Where news goes; the thread that hears them is started with the first controller.
    fn news(self: &Arc<Self>) -> Result<Sender<Arc<Controller>>, NvmeError> {
        let mut list = self.list();
        if let Some(news) = &list.news {
            return Ok(news.clone());
        }
        let (sender, news) = channel();
        let of = Arc::downgrade(self);
        let follow = move || follow(&of, &news);
        std::thread::Builder::new()
            .name("nvme-namespaces".to_owned())
            .spawn(follow)
            .map_err(NvmeError::Thread)?;
        list.news = Some(sender.clone());
        Ok(sender)
    }

    /// Connects to a controller; the names of its bdevs.
    ///
    /// # Errors
    /// What is wrong with the options, or why it could not be attached. Nothing is left of it then.
    pub fn attach(self: &Arc<Self>, options: AttachOptions) -> Result<Vec<String>, NvmeError> {
        options.check()?;
        let _change = self.change();
        if self.find(&options.name).is_ok() {
            return Err(NvmeError::Exists(options.name));
        }
        let news = self.news()?;
        let no = {
            let mut list = self.list();
            list.next += 1;
            list.next - 1
        };
        let controller = Arc::new(Controller::new(no, options, &self.reactors, news));
        for reactor in self.reactors.iter() {
            let of = controller.clone();
            reactor.call(move |reactor| Node::open(reactor.cx()).map(|node| node.know(&of)))??;
        }
        self.list().all.push(controller.clone());
        let of = controller.clone();
        controller.home.call(move |reactor| Node::open(reactor.cx()).map(|node| node.begin(&of)))??;
        let settled = controller
            .wait(PATIENCE, |state| state.phase == Phase::Failed || (state.listed > 0 && state.applied > 0));
        let (failed, why) = {
            let state = controller.state();
            (!settled || state.applied == 0, state.last_error.clone())
        };
        if !failed {
            return Ok(self.names(&controller));
        }
        self.forget(&controller)?;
        let why = why.unwrap_or_else(|| format!("it was not ready within {PATIENCE:?}"));
        let (name, address) = (controller.options.name.clone(), controller.options.address);
        Err(NvmeError::Attach { name, address, why })
    }

    /// The bdevs of a controller.
    pub(crate) fn names(&self, controller: &Arc<Controller>) -> Vec<String> {
        self.bdevs_of(controller).iter().map(|bdev| bdev.name().to_owned()).collect()
    }

    fn bdevs_of(&self, controller: &Arc<Controller>) -> Vec<Arc<Bdev>> {
        let is_its = |bdev: &Arc<Bdev>| {
            device_of(bdev).is_some_and(|device| Arc::ptr_eq(&device.controller, controller))
        };
        self.bdevs.all().into_iter().filter(is_its).collect()
    }

    /// Removes a controller's bdevs, and ends its connection.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`]; [`NvmeError::InUse`] if somebody does not let go of a bdev: it is removed, the controller stays.
    pub fn detach(&self, name: &str) -> Result<(), NvmeError> {
        let _change = self.change();
        let controller = self.find(name)?;
        self.detach_this(&controller)
    }

    fn detach_this(&self, controller: &Arc<Controller>) -> Result<(), NvmeError> {
        if controller.state().phase != Phase::Live {
            // What waits for it would keep its openers from letting go.
            controller.set_failing(true);
            for reactor in self.reactors.iter() {
                let no = controller.no;
                reactor.call(move |reactor| Node::fail(reactor.cx(), no))?;
            }
        }
        for bdev in self.bdevs_of(controller) {
            match self.bdevs.remove_this(&bdev) {
                Ok(()) | Err(RemoveError::NotFound(_)) => {}
                Err(error @ RemoveError::StillOpen { .. }) => return Err(NvmeError::InUse(error)),
            }
        }
        self.forget(controller)
    }

    /// Ends the connection and takes the controller off the list.
    fn forget(&self, controller: &Arc<Controller>) -> Result<(), NvmeError> {
        let no = controller.no;
        controller.home.call(move |reactor| Node::drive(reactor.cx(), no, true))?;
        if !controller.wait(PATIENCE, |state| state.phase == Phase::Ended) {
            tracing::error!(
                controller = controller.options.name.as_str(),
                "a reactor does not let go of an NVMe controller"
            );
        }
        self.list().all.retain(|other| !Arc::ptr_eq(other, controller));
        Ok(())
    }

    /// Ends the association and makes a new one; what is under way is sent again in it.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::Reset`] if it did not come back: what its timeouts say goes on.
    pub fn reset(&self, name: &str) -> Result<(), NvmeError> {
        let _change = self.change();
        let controller = self.find(name)?;
        let before = controller.state().generation;
        let no = controller.no;
        controller.change(|state| state.phase = Phase::Connecting);
        controller.home.call(move |reactor| Node::drive(reactor.cx(), no, false))?;
        let came = controller.wait(PATIENCE, |state| match state.phase {
            Phase::Live => state.generation > before,
            phase => phase == Phase::Failed,
        });
        if came && controller.state().phase == Phase::Live {
            return Ok(());
        }
        let why = controller.state().last_error.clone().unwrap_or_else(|| "it does not answer".to_owned());
        Err(NvmeError::Reset { name: name.to_owned(), why })
    }

    /// Has the bdevs of a controller be what it lists.
    fn apply(&self, controller: &Arc<Controller>) {
        let (found, known, listed) = {
            let state = controller.state();
            (state.found.clone(), state.known.clone(), state.listed)
        };
        let gone = |known: &Arc<Namespace>| known.is_gone() || !found.iter().any(|found| known.is(found));
        for bdev in self.bdevs_of(controller) {
            let Some(device) = device_of(&bdev) else { continue };
            if !gone(&device.namespace) {
                continue;
            }
            if let Err(error) = self.bdevs.remove_this(&bdev) {
                tracing::warn!("a namespace is gone: {error}");
            }
        }
        let mut kept: Vec<Arc<Namespace>> = known.into_iter().filter(|known| !gone(known)).collect();
        for found in &found {
            match kept.iter().find(|known| known.is(found)) {
                Some(known) => self.resize(controller, known, found),
                None => kept.extend(self.make(controller, found)),
            }
        }
        controller.change(|state| (state.known, state.applied) = (kept, listed));
    }

    fn resize(&self, controller: &Arc<Controller>, known: &Arc<Namespace>, found: &Found) {
        known.blocks.store(found.blocks, Release);
        for bdev in self.bdevs_of(controller) {
            let its = device_of(&bdev).is_some_and(|device| Arc::ptr_eq(&device.namespace, known));
            if its && bdev.num_blocks() != found.blocks {
                bdev.resize(found.blocks);
            }
        }
    }

    fn make(&self, controller: &Arc<Controller>, found: &Found) -> Option<Arc<Namespace>> {
        let namespace = Arc::new(Namespace::new(found));
        let abilities = controller.state().abilities.clone();
        let device = NvmeDevice { controller: controller.clone(), namespace: namespace.clone() };
        let max_rw_blocks = (abilities.max_bytes / found.block_size).clamp(1, 65_536);
        let spec = BdevSpec {
            name: format!("{}n{}", controller.options.name, found.nsid),
            aliases: Vec::new(),
            product_name: "NVMe disk",
            uuid: found.uuid,
            block_size: found.block_size,
            num_blocks: found.blocks,
            ops: ops(abilities.oncs),
            limits: Limits {
                max_rw_blocks,
                max_unmap_blocks: UNMAP_MAX_BLOCKS,
                max_write_zeroes_blocks: max_rw_blocks,
                ..Limits::default()
            },
            numa_node: None,
            device: Arc::new(device),
        };
        match self.bdevs.register(spec) {
            Ok(_) => Some(namespace),
            Err(error) => {
                let name = controller.options.name.as_str();
                tracing::error!(
                    controller = name,
                    nsid = found.nsid,
                    "a namespace did not become a bdev: {error}"
                );
                None
            }
        }
    }
}

/// What a bdev can do with these optional commands.
fn ops(oncs: u16) -> OpSet {
    let optional = [(0, Op::Compare), (2, Op::Unmap), (3, Op::WriteZeroes)];
    let has = optional.into_iter().filter(|(bit, _)| oncs >> bit & 1 == 1);
    has.fold(OpSet::of(&[Op::Read, Op::Write, Op::Flush]), |ops, (_, op)| ops.with(op))
}

fn device_of(bdev: &Bdev) -> Option<&NvmeDevice> {
    let device: &dyn std::any::Any = bdev.device().as_ref();
    device.downcast_ref()
}

/// Until nobody has anything to tell any more.
fn follow(of: &std::sync::Weak<Controllers>, news: &Receiver<Arc<Controller>>) {
    while let Ok(controller) = news.recv() {
        let Some(controllers) = of.upgrade() else { return };
        controllers.apply(&controller);
        // By itself: a guard in the condition below would be held while it is detached.
        let given_up = std::mem::take(&mut controller.state().given_up);
        if given_up && let Err(error) = controllers.detach(&controller.options.name) {
            tracing::warn!("an NVMe controller was lost for too long, and could not be detached: {error}");
        }
    }
}

/// What of the controllers is saved.
struct Saved(std::sync::Weak<Controllers>);

impl Module for Saved {
    fn config(&self) -> Vec<ConfigEntry> {
        let all = self.0.upgrade().map_or_else(Vec::new, |controllers| controllers.all());
        all.iter().map(|controller| crate::rpc::saved(&controller.options)).collect()
    }
}
