//! The target as control threads change it. What they change they tell all reactors before they return.
//!
//! One change at a time: `changes` is held for the whole of one, also while reactors are asked. `namespaces` bdevs under
//! numbers · `listeners` where hosts come in, and how good the paths are.

mod listeners;
mod namespaces;

pub use namespaces::NamespaceSpec;

use crate::error::NvmfError;
use crate::model::{Controller, QueueAt, Referral, Subsystem, SubsystemSpec, Tables, nqn};
use crate::options::TransportOptions;
use crate::portal::{Counts, Portal};
use listeners::Doors;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tgt_bdev::{Bdev, Bdevs, Cx, Module};
use tgt_nvme::feature::event;
use tgt_reactor::{CallError, Handle, ReactorId};

/// How long controllers and channels that are to go are waited for. What bdevs do not give back by then goes later.
const PATIENCE: Duration = Duration::from_secs(10);

/// The NVMe over Fabrics target of a process. Control threads.
pub struct Nvmf {
    bdevs: Arc<Bdevs>,
    reactors: Arc<Vec<Handle>>,
    tables: Arc<Tables>,
    changes: Mutex<Doors>,
}

impl Nvmf {
    /// Nothing is there, nothing listens. It hears of bdevs that are removed or resized.
    #[must_use]
    pub fn new(bdevs: &Arc<Bdevs>, reactors: &Arc<Vec<Handle>>) -> Arc<Nvmf> {
        let nvmf = Arc::new(Nvmf {
            bdevs: bdevs.clone(),
            reactors: reactors.clone(),
            tables: Tables::new(reactors.len()),
            changes: Mutex::default(),
        });
        bdevs.add_module(Arc::new(Ears(Arc::downgrade(&nvmf))));
        nvmf
    }

    /// The tables, to look at.
    #[must_use]
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    fn change(&self) -> MutexGuard<'_, Doors> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the transport: every reactor gets its portal.
    ///
    /// # Errors
    /// Options out of range, a second transport, or what a reactor cannot have.
    pub fn create_transport(&self, options: TransportOptions) -> Result<(), NvmfError> {
        options.check()?;
        let _change = self.change();
        if self.tables.options().is_some() {
            return Err(NvmfError::TransportExists);
        }
        for reactor in self.reactors.iter() {
            let (tables, options) = (self.tables.clone(), options.clone());
            // Those that were opened before one that fails stay, and are taken as they are by the next try.
            reactor.call(move |reactor| Portal::open(reactor.cx(), &tables, &options).map(drop))??;
        }
        self.tables.set_options(options);
        Ok(())
    }

    fn options(&self) -> Result<TransportOptions, NvmfError> {
        self.tables.options().ok_or(NvmfError::NoTransport)
    }

    /// Makes a subsystem.
    ///
    /// # Errors
    /// [`NvmfError::Value`], [`NvmfError::SubsystemExists`].
    pub fn create_subsystem(&self, spec: SubsystemSpec, allow_any_host: bool) -> Result<(), NvmfError> {
        let _change = self.change();
        self.tables.add_subsystem(Subsystem::new(spec, allow_any_host)?)?;
        self.discovery_changed()
    }

    /// Deletes a subsystem: its controllers end, its bdevs are let go.
    ///
    /// # Errors
    /// [`NvmfError::NoSubsystem`], [`NvmfError::Discovery`].
    pub fn delete_subsystem(&self, nqn: &str) -> Result<(), NvmfError> {
        let mut doors = self.change();
        let subsystem = self.nvm_subsystem(nqn)?;
        subsystem.state().closed = true;
        self.tables.remove_subsystem(nqn);
        self.end_controllers(&subsystem, |_| true)?;
        for namespace in subsystem.namespaces() {
            self.let_go(&subsystem, &namespace)?;
        }
        let listeners = std::mem::take(&mut subsystem.state().listeners);
        for listener in listeners {
            self.close_door(&mut doors, listener.address)?;
        }
        self.discovery_changed()
    }

    /// A subsystem, but not the discovery subsystem.
    fn nvm_subsystem(&self, nqn: &str) -> Result<Arc<Subsystem>, NvmfError> {
        let subsystem = self.tables.subsystem(nqn).ok_or_else(|| NvmfError::NoSubsystem(nqn.to_owned()))?;
        if subsystem.is_discovery() {
            return Err(NvmfError::Discovery(nqn.to_owned()));
        }
        Ok(subsystem)
    }

    /// Lets a host in.
    ///
    /// # Errors
    /// [`NvmfError::Value`], [`NvmfError::HostExists`].
    pub fn add_host(&self, nqn: &str, host: &str) -> Result<(), NvmfError> {
        let _change = self.change();
        nqn::check("host", host)?;
        let subsystem = self.nvm_subsystem(nqn)?;
        {
            let mut state = subsystem.state();
            if state.hosts.iter().any(|other| other == host) {
                return Err(NvmfError::HostExists { nqn: nqn.to_owned(), host: host.to_owned() });
            }
            state.hosts.push(host.to_owned());
        }
        self.discovery_changed()
    }

    /// Lets a host in no more; its controllers end, unless any host may come.
    ///
    /// # Errors
    /// [`NvmfError::NoHost`].
    pub fn remove_host(&self, nqn: &str, host: &str) -> Result<(), NvmfError> {
        let _change = self.change();
        let subsystem = self.nvm_subsystem(nqn)?;
        {
            let mut state = subsystem.state();
            let before = state.hosts.len();
            state.hosts.retain(|other| other != host);
            if state.hosts.len() == before {
                return Err(NvmfError::NoHost { nqn: nqn.to_owned(), host: host.to_owned() });
            }
        }
        if !subsystem.admits(host) {
            self.end_controllers(&subsystem, |controller| controller.host_nqn == host)?;
        }
        self.discovery_changed()
    }

    /// Lets any host in, or those of the list only. Controllers that are there stay.
    ///
    /// # Errors
    /// [`NvmfError::NoSubsystem`].
    pub fn allow_any_host(&self, nqn: &str, allow: bool) -> Result<(), NvmfError> {
        let _change = self.change();
        self.nvm_subsystem(nqn)?.state().allow_any_host = allow;
        self.discovery_changed()
    }

    /// Tells hosts of another discovery subsystem.
    ///
    /// # Errors
    /// [`NvmfError::Value`], [`NvmfError::ReferralExists`].
    pub fn add_referral(&self, referral: Referral) -> Result<(), NvmfError> {
        let _change = self.change();
        nqn::check("subnqn", &referral.subnqn)?;
        self.tables.add_referral(referral)?;
        self.discovery_changed()
    }

    /// Tells of it no more.
    ///
    /// # Errors
    /// [`NvmfError::NoReferral`].
    pub fn remove_referral(&self, address: SocketAddr, subnqn: &str) -> Result<(), NvmfError> {
        let _change = self.change();
        self.tables.remove_referral(address, subnqn)?;
        self.discovery_changed()
    }

    /// What each portal did.
    ///
    /// # Errors
    /// A reactor that does not answer.
    pub fn counts(&self) -> Result<Vec<(ReactorId, Counts)>, NvmfError> {
        let mut all = Vec::new();
        for reactor in self.reactors.iter() {
            let counts =
                reactor.call(|reactor| Portal::on(reactor.cx(), |portal, _: &mut Cx| portal.counts()))?;
            all.extend(counts.map(|counts| (reactor.id(), counts)));
        }
        Ok(all)
    }

    /// Where a queue's connection ends on this side; none if it has gone.
    ///
    /// # Errors
    /// A reactor that does not answer.
    pub fn local_end(&self, at: QueueAt) -> Result<Option<SocketAddr>, NvmfError> {
        let ends = self.on(at.reactor, move |portal, _| portal.ends_of(at.conn))?;
        Ok(ends.flatten().map(|(local, _)| local))
    }

    /// Runs something with the portal of a reactor, and waits for it. `None`: it has none.
    fn on<A: Send + 'static>(
        &self,
        reactor: ReactorId,
        what: impl FnOnce(&Portal, &mut Cx) -> A + Send + 'static,
    ) -> Result<Option<A>, CallError> {
        self.reactors[reactor.0 as usize].call(move |reactor| Portal::on(reactor.cx(), what))
    }

    /// The same on all reactors, one after the other.
    fn on_all(&self, what: impl Fn(&Portal, &mut Cx) + Clone + Send + 'static) -> Result<(), CallError> {
        self.reactors.iter().try_for_each(|reactor| self.on(reactor.id(), what.clone()).map(drop))
    }

    /// Tells all controllers of a subsystem that something has happened.
    fn tell(&self, subsystem: &Subsystem, event: u32, nsid: Option<u32>) -> Result<(), CallError> {
        for controller in subsystem.controllers() {
            controller.note(event, nsid);
            if let Some(at) = controller.admin_queue() {
                self.on(at.reactor, move |portal, _| portal.announce(at.conn))?;
            }
        }
        Ok(())
    }

    /// What discovery tells has changed.
    fn discovery_changed(&self) -> Result<(), NvmfError> {
        self.tables.discovery_changed();
        Ok(self.tell(self.tables.discovery(), event::DISCOVERY, None)?)
    }

    /// Ends some controllers of a subsystem, and waits until they have gone.
    fn end_controllers(
        &self,
        subsystem: &Subsystem,
        which: impl Fn(&Controller) -> bool,
    ) -> Result<(), NvmfError> {
        for controller in subsystem.controllers().iter().filter(|controller| which(controller)) {
            for at in controller.end() {
                self.on(at.reactor, move |portal, _| portal.end_conn(at.conn))?;
            }
        }
        if !subsystem.wait_left(PATIENCE, which) {
            tracing::warn!(
                "{}: bdevs have not given commands of its controllers back within {PATIENCE:?}; they go when they do",
                subsystem.nqn()
            );
        }
        Ok(())
    }
}

/// What hears of bdevs.
struct Ears(Weak<Nvmf>);

impl Module for Ears {
    fn removing(&self, _bdevs: &Bdevs, bdev: &Arc<Bdev>) {
        if let Some(nvmf) = self.0.upgrade() {
            nvmf.bdev_goes(bdev);
        }
    }

    fn resized(&self, bdev: &Bdev) {
        if let Some(nvmf) = self.0.upgrade() {
            nvmf.bdev_resized(bdev);
        }
    }
}
