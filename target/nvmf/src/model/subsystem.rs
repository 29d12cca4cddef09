//! A subsystem: who may come in where, and what is there.

use super::controller::{Controller, ControllerKind};
use super::{AnaState, Fence, Listener, Namespace, nqn};
use crate::error::NvmfError;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tgt_nvme::fabrics::DISCOVERY_NQN;

/// Most namespaces that may be asked for.
pub(crate) const NAMESPACES_MAX: u32 = 1024;
/// Highest controller number: those above are reserved (base 3.1.1).
pub(crate) const CNTLID_MAX: u16 = 0xffef;

/// What a subsystem is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubsystemKind {
    /// IO.
    Nvm,
    /// Tells hosts of the others.
    Discovery,
}

/// What a subsystem is made of. Fixed.
#[derive(Clone, Debug)]
pub struct SubsystemSpec {
    /// Name.
    pub nqn: String,
    /// Serial number: at most 20 printable ASCII characters.
    pub serial: String,
    /// Model: at most 40 printable ASCII characters.
    pub model: String,
    /// Most namespaces; also the number of groups of asymmetric access.
    pub max_namespaces: u32,
    /// Least number of a controller.
    pub min_cntlid: u16,
    /// Greatest number of a controller.
    pub max_cntlid: u16,
    /// Hosts are told of asymmetric access.
    pub ana_reporting: bool,
}

impl SubsystemSpec {
    /// With SPDK's defaults.
    #[must_use]
    pub fn new(nqn: &str) -> SubsystemSpec {
        SubsystemSpec {
            nqn: nqn.to_owned(),
            serial: "00000000000000000000".to_owned(),
            model: "SPDK bdev Controller".to_owned(),
            max_namespaces: 32,
            min_cntlid: 1,
            max_cntlid: CNTLID_MAX,
            ana_reporting: false,
        }
    }

    fn check(&self) -> Result<(), NvmfError> {
        nqn::check("nqn", &self.nqn)?;
        printable("serial_number", &self.serial, 20)?;
        printable("model_number", &self.model, 40)?;
        if !(1..=NAMESPACES_MAX).contains(&self.max_namespaces) {
            let accepted = format!("1 to {NAMESPACES_MAX}, or 0 for 32");
            return Err(NvmfError::value("max_namespaces", self.max_namespaces, accepted));
        }
        let most = self.max_cntlid.min(CNTLID_MAX);
        if !(1..=most).contains(&self.min_cntlid) {
            return Err(NvmfError::value("min_cntlid", self.min_cntlid, format!("1 to max_cntlid, {most}")));
        }
        if self.max_cntlid > CNTLID_MAX {
            let accepted = format!("min_cntlid to {CNTLID_MAX}");
            return Err(NvmfError::value("max_cntlid", self.max_cntlid, accepted));
        }
        Ok(())
    }
}

fn printable(name: &'static str, text: &str, most: usize) -> Result<(), NvmfError> {
    if text.len() <= most && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(());
    }
    Err(NvmfError::value(name, format!("{text:?}"), format!("at most {most} printable ASCII characters")))
}

/// A subsystem.
#[derive(Debug)]
pub struct Subsystem {
    /// What it is for.
    pub kind: SubsystemKind,
    /// What it is made of.
    pub spec: SubsystemSpec,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// It is being deleted: nobody comes in.
    pub(crate) closed: bool,
    pub(crate) allow_any_host: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) namespaces: BTreeMap<u32, Arc<Namespace>>,
    pub(crate) controllers: Vec<Arc<Controller>>,
    fences: Vec<(String, Weak<Fence>)>,
    last_cntlid: u16,
    /// Changes of asymmetric access.
    pub(crate) ana_changes: u64,
}

impl State {
    fn admits(&self, host_nqn: &str) -> bool {
        !self.closed && (self.allow_any_host || self.hosts.iter().any(|host| host == host_nqn))
    }

    fn has(&self, listener: &Arc<Listener>) -> bool {
        self.listeners.iter().any(|other| Arc::ptr_eq(other, listener))
    }
}

impl Subsystem {
    /// An empty one.
    ///
    /// # Errors
    /// [`NvmfError::Value`].
    pub fn new(spec: SubsystemSpec, allow_any_host: bool) -> Result<Arc<Subsystem>, NvmfError> {
        spec.check()?;
        if spec.nqn == DISCOVERY_NQN {
            return Err(NvmfError::SubsystemExists(spec.nqn));
        }
        let state = State { allow_any_host, ..State::default() };
        let (kind, left) = (SubsystemKind::Nvm, Condvar::new());
        Ok(Arc::new(Subsystem { kind, spec, state: Mutex::new(state), left }))
    }

    /// The one that tells of the others.
    #[must_use]
    pub fn discovery() -> Arc<Subsystem> {
        let state = State { allow_any_host: true, ..State::default() };
        let (kind, spec) = (SubsystemKind::Discovery, SubsystemSpec::new(DISCOVERY_NQN));
        Arc::new(Subsystem { kind, spec, state: Mutex::new(state), left: Condvar::new() })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name.
    #[must_use]
    pub fn nqn(&self) -> &str {
        &self.spec.nqn
    }

    /// Whether it is the discovery subsystem.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        self.kind == SubsystemKind::Discovery
    }

    /// Whether a host may come in.
    #[must_use]
    pub fn admits(&self, host_nqn: &str) -> bool {
        self.state().admits(host_nqn)
    }

    /// Its listener at this address.
    #[must_use]
    pub fn listener_at(&self, address: SocketAddr) -> Option<Arc<Listener>> {
        self.state().listeners.iter().find(|listener| listener.address == address).cloned()
    }

    /// A namespace.
    #[must_use]
    pub fn namespace(&self, nsid: u32) -> Option<Arc<Namespace>> {
        self.state().namespaces.get(&nsid).cloned()
    }

    /// All namespaces, by number.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.state().namespaces.values().cloned().collect()
    }

    /// All controllers that have not gone.
    #[must_use]
    pub fn controllers(&self) -> Vec<Arc<Controller>> {
        self.state().controllers.clone()
    }

    /// A new controller for a host; `None`: all numbers are taken, or the subsystem, the listener or the host has gone meanwhile.
    #[must_use]
    pub fn add_controller(
        self: &Arc<Self>,
        host: (String, [u8; 16]),
        listener: Option<Arc<Listener>>,
    ) -> Option<Arc<Controller>> {
        let mut state = self.state();
        // Under the lock under which they go: a controller is made before that and ended with them, or not at all.
        if !state.admits(&host.0) || !listener.as_ref().is_none_or(|listener| state.has(listener)) {
            return None;
        }
        let (least, most) = (self.spec.min_cntlid, self.spec.max_cntlid);
        let count = u32::from(most - least) + 1;
        // Each number is used again as late as possible: a late message for an old controller meets no new one.
        let mut next = state.last_cntlid;
        let free = (0..count).find_map(|_| {
            next = if (least..most).contains(&next) { next + 1 } else { least };
            (!state.controllers.iter().any(|other| other.cntlid == next)).then_some(next)
        })?;
        state.last_cntlid = free;
        let kind = if self.is_discovery() { ControllerKind::Discovery } else { ControllerKind::Io };
        let controller = Arc::new(Controller::new(free, kind, self.clone(), host, listener));
        state.controllers.push(controller.clone());
        Some(controller)
    }

    /// A controller by its number.
    #[must_use]
    pub fn controller(&self, cntlid: u16) -> Option<Arc<Controller>> {
        self.state().controllers.iter().find(|controller| controller.cntlid == cntlid).cloned()
    }

    /// A controller of which nothing is left.
    pub fn remove_controller(&self, controller: &Arc<Controller>) {
        self.state().controllers.retain(|other| !Arc::ptr_eq(other, controller));
        self.left.notify_all();
    }

    /// What holds a host back here.
    #[must_use]
    pub fn fence(&self, host_nqn: &str) -> Arc<Fence> {
        let mut state = self.state();
        state.fences.retain(|(_, fence)| fence.strong_count() > 0);
        let known = state.fences.iter().find(|(host, _)| host == host_nqn);
        if let Some(fence) = known.and_then(|(_, fence)| fence.upgrade()) {
            return fence;
        }
        let fence = Arc::new(Fence::default());
        state.fences.push((host_nqn.to_owned(), Arc::downgrade(&fence)));
        fence
    }

    /// Waits until no controller for which `which` is true is left. False if some are after `patience`.
    #[must_use]
    pub fn wait_left(&self, patience: Duration, which: impl Fn(&Controller) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.controllers.iter().any(|controller| which(controller)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.left.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// State of a namespace over a listener, for log pages.
    #[must_use]
    pub fn ana_state(&self, listener: Option<&Listener>, group: u32) -> AnaState {
        listener.map_or(AnaState::Optimized, |listener| listener.state(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (String, [u8; 16]) {
        ("nqn.2014-08.org.example:host".to_owned(), [1; 16])
    }

    #[test]
    fn controller_numbers_stay_in_their_range_and_are_reused_late() {
        let mut spec = SubsystemSpec::new("nqn.2016-06.io.spdk:cnode1");
        (spec.min_cntlid, spec.max_cntlid) = (5, 7);
        let subsystem = Subsystem::new(spec, true).expect("a subsystem");
        let made: Vec<_> =
            (0..3).map(|_| subsystem.add_controller(host(), None).expect("a number")).collect();
        assert_eq!(made.iter().map(|one| one.cntlid).collect::<Vec<_>>(), [5, 6, 7]);
        assert!(subsystem.add_controller(host(), None).is_none(), "all are taken");
        subsystem.remove_controller(&made[1]);
        subsystem.remove_controller(&made[0]);
        assert_eq!(subsystem.add_controller(host(), None).expect("one is free").cntlid, 5);
        assert_eq!(subsystem.add_controller(host(), None).expect("one is free").cntlid, 6);
    }

    #[test]
    fn what_makes_no_subsystem_is_named() {
        let good = SubsystemSpec::new("nqn.2016-06.io.spdk:cnode1");
        for (spec, name) in [
            (SubsystemSpec { nqn: "cnode1".to_owned(), ..good.clone() }, "nqn"),
            (SubsystemSpec { serial: "x".repeat(21), ..good.clone() }, "serial_number"),
            (SubsystemSpec { model: "\u{e9}".to_owned(), ..good.clone() }, "model_number"),
            (SubsystemSpec { max_namespaces: 1025, ..good.clone() }, "max_namespaces"),
            (SubsystemSpec { min_cntlid: 9, max_cntlid: 8, ..good.clone() }, "min_cntlid"),
            (SubsystemSpec { max_cntlid: 0xfff0, ..good.clone() }, "max_cntlid"),
        ] {
            let error = Subsystem::new(spec, false).expect_err(name).to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn one_host_has_one_fence_while_somebody_holds_it() {
        let subsystem = Subsystem::discovery();
        let fence = subsystem.fence("a");
        assert!(Arc::ptr_eq(&fence, &subsystem.fence("a")));
        assert!(!Arc::ptr_eq(&fence, &subsystem.fence("b")));
    }
}
