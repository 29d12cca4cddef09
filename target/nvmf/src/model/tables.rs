//! All there is: the transport, subsystems, referrals. Shared by control threads and reactors.

use super::Subsystem;
use crate::error::NvmfError;
use crate::options::TransportOptions;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tgt_nvme::fabrics::DISCOVERY_NQN;

/// Most subsystems, unless it is said.
const SUBSYSTEMS_USUAL: u32 = 1024;

/// Another discovery subsystem that hosts are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referral {
    /// Where.
    pub address: SocketAddr,
    /// Its name.
    pub subnqn: String,
    /// Whether it wants a secure channel.
    pub secure_channel: bool,
}

/// The tables.
#[derive(Debug)]
pub struct Tables {
    state: Mutex<State>,
    discovery: Arc<Subsystem>,
    max_subsystems: AtomicU32,
    /// Connections on each reactor.
    loads: Vec<AtomicU32>,
}

#[derive(Debug, Default)]
struct State {
    options: Option<TransportOptions>,
    subsystems: Vec<Arc<Subsystem>>,
    referrals: Vec<Referral>,
    /// Counts changes of what discovery tells.
    generation: u64,
}

impl Tables {
    /// Empty ones, for as many reactors.
    #[must_use]
    pub fn new(reactors: usize) -> Arc<Tables> {
        let loads = (0..reactors).map(|_| AtomicU32::new(0)).collect();
        let (discovery, max_subsystems) = (Subsystem::discovery(), AtomicU32::new(SUBSYSTEMS_USUAL));
        Arc::new(Tables { state: Mutex::default(), discovery, max_subsystems, loads })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport's options, once there is one.
    #[must_use]
    pub fn options(&self) -> Option<TransportOptions> {
        self.state().options.clone()
    }

    pub(crate) fn set_options(&self, options: TransportOptions) {
        self.state().options = Some(options);
    }

    /// Most subsystems, if somebody has said how many.
    #[must_use]
    pub fn max_subsystems(&self) -> Option<u32> {
        Some(self.max_subsystems.load(Relaxed)).filter(|most| *most != SUBSYSTEMS_USUAL)
    }

    pub(crate) fn set_max_subsystems(&self, most: u32) {
        self.max_subsystems.store(most, Relaxed);
    }

    /// The discovery subsystem.
    #[must_use]
    pub fn discovery(&self) -> &Arc<Subsystem> {
        &self.discovery
    }

    /// A subsystem by name, the discovery subsystem included.
    #[must_use]
    pub fn subsystem(&self, nqn: &str) -> Option<Arc<Subsystem>> {
        if nqn == DISCOVERY_NQN {
            return Some(self.discovery.clone());
        }
        self.state().subsystems.iter().find(|subsystem| subsystem.nqn() == nqn).cloned()
    }

    /// All but the discovery subsystem, in the order they were made.
    #[must_use]
    pub fn subsystems(&self) -> Vec<Arc<Subsystem>> {
        self.state().subsystems.clone()
    }

    pub(crate) fn add_subsystem(&self, subsystem: Arc<Subsystem>) -> Result<(), NvmfError> {
        let mut state = self.state();
        if state.subsystems.iter().any(|other| other.nqn() == subsystem.nqn()) {
            return Err(NvmfError::SubsystemExists(subsystem.nqn().to_owned()));
        }
        let most = self.max_subsystems.load(Relaxed);
        if state.subsystems.len() >= most as usize {
            return Err(NvmfError::TooManySubsystems { most });
        }
        state.subsystems.push(subsystem);
        Ok(())
    }

    pub(crate) fn remove_subsystem(&self, nqn: &str) {
        self.state().subsystems.retain(|subsystem| subsystem.nqn() != nqn);
    }

    /// Referrals.
    #[must_use]
    pub fn referrals(&self) -> Vec<Referral> {
        self.state().referrals.clone()
    }

    pub(crate) fn add_referral(&self, referral: Referral) -> Result<(), NvmfError> {
        let mut state = self.state();
        if state.referrals.iter().any(|other| other.is_same(&referral)) {
            return Err(NvmfError::ReferralExists(referral.address.to_string()));
        }
        state.referrals.push(referral);
        Ok(())
    }

    pub(crate) fn remove_referral(&self, address: SocketAddr, subnqn: &str) -> Result<(), NvmfError> {
        let mut state = self.state();
        let before = state.referrals.len();
        state.referrals.retain(|other| other.address != address || other.subnqn != subnqn);
        if state.referrals.len() == before {
            return Err(NvmfError::NoReferral(address.to_string()));
        }
        Ok(())
    }

    /// Changes of what discovery tells, so far.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    pub(crate) fn discovery_changed(&self) {
        self.state().generation += 1;
    }

    /// The reactor with the fewest connections; `after` and those behind it first among equals. It is counted there.
    pub(crate) fn place(&self, after: usize) -> usize {
        let count = self.loads.len();
        let least = (1..=count)
            .map(|step| (after + step) % count)
            .min_by_key(|reactor| self.loads[*reactor].load(Relaxed))
            .unwrap_or(after);
        self.loads[least].fetch_add(1, Relaxed);
        least
    }

    /// A connection has left a reactor.
    pub(crate) fn leave(&self, reactor: usize) {
        self.loads[reactor].fetch_sub(1, Relaxed);
    }
}

impl Referral {
    fn is_same(&self, other: &Referral) -> bool {
        self.address == other.address && self.subnqn == other.subnqn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_go_where_others_left() {
        let tables = Tables::new(3);
        let mut last = 0;
        let mut counts = [0; 3];
        for _ in 0..9 {
            last = tables.place(last);
            counts[last] += 1;
        }
        assert_eq!(counts, [3, 3, 3]);
        tables.leave(1);
        assert_eq!(tables.place(last), 1);
    }
}
