//! A listener of a subsystem: an address, and how good the path over it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use tgt_nvme::log::ana;
use tgt_nvme::status;
use tgt_status::IoStatus;

/// State of asymmetric access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnaState {
    /// Use this path.
    Optimized,
    /// This path works; others are better.
    NonOptimized,
    /// This path does not work.
    Inaccessible,
}

impl AnaState {
    /// All of them.
    pub const ALL: [AnaState; 3] = [AnaState::Optimized, AnaState::NonOptimized, AnaState::Inaccessible];

    /// SPDK's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AnaState::Optimized => "optimized",
            AnaState::NonOptimized => "non_optimized",
            AnaState::Inaccessible => "inaccessible",
        }
    }

    /// Its number in a log page.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            AnaState::Optimized => ana::OPTIMIZED,
            AnaState::NonOptimized => ana::NON_OPTIMIZED,
            AnaState::Inaccessible => ana::INACCESSIBLE,
        }
    }

    fn of_code(code: u8) -> AnaState {
        AnaState::ALL.into_iter().find(|state| state.code() == code).unwrap_or(AnaState::Inaccessible)
    }
}

/// A listener of one subsystem.
#[derive(Debug)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// By group, from 1.
    states: Box<[AtomicU8]>,
}

impl Listener {
    /// All groups in `state`.
    #[must_use]
    pub fn new(address: SocketAddr, groups: u32, state: AnaState) -> Listener {
        Listener { address, states: (0..groups).map(|_| AtomicU8::new(state.code())).collect() }
    }

    /// State of a group; one that is not there is inaccessible.
    #[inline]
    #[must_use]
    pub fn state(&self, group: u32) -> AnaState {
        let state = (group as usize).checked_sub(1).and_then(|index| self.states.get(index));
        state.map_or(AnaState::Inaccessible, |state| AnaState::of_code(state.load(Relaxed)))
    }

    /// Sets the state of one group, or of all.
    pub fn set(&self, group: Option<u32>, state: AnaState) {
        for (index, place) in self.states.iter().enumerate() {
            if group.is_none_or(|group| group as usize == index + 1) {
                place.store(state.code(), Relaxed);
            }
        }
    }

    /// Groups there are.
    #[must_use]
    pub fn groups(&self) -> u32 {
        self.states.len() as u32
    }

    /// What a command to a namespace of `group` over this path ends with, if it may not go on.
    ///
    /// # Errors
    /// The status.
    #[inline]
    pub fn admits(&self, group: u32) -> Result<(), IoStatus> {
        match self.state(group) {
            AnaState::Optimized | AnaState::NonOptimized => Ok(()),
            AnaState::Inaccessible => Err(status::ANA_INACCESSIBLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_its_own_state_and_an_unknown_one_is_inaccessible() {
        let listener = Listener::new(([127, 0, 0, 1], 4420).into(), 3, AnaState::Optimized);
        listener.set(Some(2), AnaState::Inaccessible);
        assert_eq!([1, 2, 3].map(|group| listener.admits(group).is_ok()), [true, false, true]);
        assert_eq!([0, 4].map(|group| listener.state(group)), [AnaState::Inaccessible; 2]);
        listener.set(None, AnaState::NonOptimized);
        assert_eq!([1, 2, 3].map(|group| listener.state(group)), [AnaState::NonOptimized; 3]);
    }
}
