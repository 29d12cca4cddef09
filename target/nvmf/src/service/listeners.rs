//! Where hosts come in. Subsystems share an address: it is listened at as long as one of them wants it.

use super::Nvmf;
use crate::error::NvmfError;
use crate::model::{AnaState, Listener};
use std::net::SocketAddr;
use std::sync::Arc;
use tgt_nvme::feature::event;
use tgt_reactor::ReactorId;

/// Addresses that are listened at.
#[derive(Default)]
pub(super) struct Doors(Vec<Door>);

struct Door {
    address: SocketAddr,
    reactor: ReactorId,
    /// Subsystems that want it.
    users: u32,
}

impl Nvmf {
    /// Listens for a subsystem; where, with the port it got.
    ///
    /// # Errors
    /// No transport yet, a listener that exists, or what the system refused.
    pub fn add_listener(
        &self,
        nqn: &str,
        address: SocketAddr,
        state: AnaState,
    ) -> Result<SocketAddr, NvmfError> {
        let mut doors = self.change();
        self.options()?;
        let subsystem = self.nvm_subsystem(nqn)?;
        if subsystem.listener_at(address).is_some() {
            return Err(NvmfError::ListenerExists { nqn: nqn.to_owned(), address });
        }
        let bound = self.open_door(&mut doors, address)?;
        let listener = Arc::new(Listener::new(bound, subsystem.spec.max_namespaces, state));
        subsystem.state().listeners.push(listener);
        self.discovery_changed()?;
        Ok(bound)
    }

    /// Listens there no more for a subsystem; its controllers that came in there end.
    ///
    /// # Errors
    /// [`NvmfError::NoListener`].
    pub fn remove_listener(&self, nqn: &str, address: SocketAddr) -> Result<(), NvmfError> {
        let mut doors = self.change();
        let subsystem = self.nvm_subsystem(nqn)?;
        let gone = self.listener(nqn, address)?;
        subsystem.state().listeners.retain(|listener| !Arc::ptr_eq(listener, &gone));
        self.end_controllers(&subsystem, |controller| {
            controller.listener.as_ref().is_some_and(|listener| Arc::ptr_eq(listener, &gone))
        })?;
        self.close_door(&mut doors, address)?;
        self.discovery_changed()
    }

    /// Sets how good the path over a listener is, for one group of namespaces or for all, and tells hosts.
    ///
    /// # Errors
    /// [`NvmfError::NoAna`], [`NvmfError::NoListener`], [`NvmfError::Value`].
    pub fn set_ana_state(
        &self,
        nqn: &str,
        address: SocketAddr,
        group: Option<u32>,
        state: AnaState,
    ) -> Result<(), NvmfError> {
        let _change = self.change();
        let subsystem = self.nvm_subsystem(nqn)?;
        if !subsystem.spec.ana_reporting {
            return Err(NvmfError::NoAna(nqn.to_owned()));
        }
        let listener = self.listener(nqn, address)?;
        if let Some(group) = group.filter(|group| !(1..=listener.groups()).contains(group)) {
            let accepted = format!("1 to {} (max_namespaces)", listener.groups());
            return Err(NvmfError::value("anagrpid", group, accepted));
        }
        listener.set(group, state);
        subsystem.state().ana_changes += 1;
        Ok(self.tell(&subsystem, event::ANA, None)?)
    }

    fn listener(&self, nqn: &str, address: SocketAddr) -> Result<Arc<Listener>, NvmfError> {
        let unknown = || NvmfError::NoListener { nqn: nqn.to_owned(), address };
        self.nvm_subsystem(nqn)?.listener_at(address).ok_or_else(unknown)
    }

    fn open_door(&self, doors: &mut Doors, address: SocketAddr) -> Result<SocketAddr, NvmfError> {
        if let Some(door) = doors.0.iter_mut().find(|door| door.address == address) {
            door.users += 1;
            return Ok(address);
        }
        // Where hosts are accepted; their connections go to all reactors.
        let reactor = ReactorId((doors.0.len() % self.reactors.len()) as u32);
        let bound = self.on(reactor, move |portal, _| portal.listen(address))?;
        let bound = bound.ok_or(NvmfError::NoTransport)??;
        doors.0.push(Door { address: bound, reactor, users: 1 });
        Ok(bound)
    }

    pub(super) fn close_door(&self, doors: &mut Doors, address: SocketAddr) -> Result<(), NvmfError> {
        let Some(index) = doors.0.iter().position(|door| door.address == address) else { return Ok(()) };
        doors.0[index].users -= 1;
        if doors.0[index].users == 0 {
            let door = doors.0.swap_remove(index);
            self.on(door.reactor, move |portal, _| portal.unlisten(address))?;
        }
        Ok(())
    }
}
