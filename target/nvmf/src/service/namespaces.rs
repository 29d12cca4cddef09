//! Namespaces come, go, and change their size.

use super::{Nvmf, PATIENCE};
use crate::error::NvmfError;
use crate::model::{Identity, Namespace, Subsystem};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use tgt_bdev::{Bdev, Claim, Mode};
use tgt_nvme::feature::event;
use uuid::Uuid;

/// A namespace to be added.
#[derive(Clone, Debug, Default)]
pub struct NamespaceSpec {
    /// Name, alias or UUID of the bdev.
    pub bdev: String,
    /// Its number; the lowest that is free without it.
    pub nsid: Option<u32>,
    /// Globally unique id; the UUID's bytes without it.
    pub nguid: Option<[u8; 16]>,
    /// Extended unique id.
    pub eui64: Option<[u8; 8]>,
    /// UUID; the bdev's without it.
    pub uuid: Option<Uuid>,
    /// Group of asymmetric access; its number without it.
    pub ana_group: Option<u32>,
}

impl Nvmf {
    /// Adds a namespace, and answers its number. Nobody else writes to its bdev from here on.
    ///
    /// # Errors
    /// A number or identity in use or out of range, or a bdev that cannot be had.
    pub fn add_namespace(&self, nqn: &str, spec: &NamespaceSpec) -> Result<u32, NvmfError> {
        let _change = self.change();
        let subsystem = self.nvm_subsystem(nqn)?;
        let nsid = free_number(&subsystem, spec.nsid)?;
        let most = subsystem.spec.max_namespaces;
        let group = spec.ana_group.unwrap_or(nsid);
        if !(1..=most).contains(&group) {
            return Err(NvmfError::value("anagrpid", group, format!("1 to {most} (max_namespaces)")));
        }
        let desc = self.bdevs.open(&spec.bdev, &format!("nvmf {nqn}"), Mode::Write)?;
        let bdev = desc.bdev().clone();
        check_blocks(&bdev, self.tables.options().map_or(4096, |options| options.max_io_size))?;
        let uuid = spec.uuid.unwrap_or_else(|| bdev.uuid());
        let nguid = spec.nguid.unwrap_or(*uuid.as_bytes());
        let identity = Identity { uuid, nguid, eui64: spec.eui64.unwrap_or_default() };
        check_identity(&subsystem, &identity)?;
        desc.claim(Claim::ExclusiveWrite)?;
        let namespace = Namespace::new(nsid, identity, group, desc);
        subsystem.state().namespaces.insert(nsid, namespace.clone());
        let of = subsystem.clone();
        self.on_all(move |portal, cx| portal.namespace_came(cx, &of, &namespace))?;
        self.tell(&subsystem, event::NAMESPACE, Some(nsid))?;
        Ok(nsid)
    }

    /// Removes a namespace: commands to it end, its bdev is let go.
    ///
    /// # Errors
    /// [`NvmfError::NoNamespace`].
    pub fn remove_namespace(&self, nqn: &str, nsid: u32) -> Result<(), NvmfError> {
        let _change = self.change();
        let subsystem = self.nvm_subsystem(nqn)?;
        let namespace = subsystem.namespace(nsid);
        let unknown = || NvmfError::NoNamespace { nqn: nqn.to_owned(), nsid };
        self.let_go(&subsystem, &namespace.ok_or_else(unknown)?)?;
        Ok(self.tell(&subsystem, event::NAMESPACE, Some(nsid))?)
    }

    /// Takes a namespace out of its subsystem and closes its channels.
    pub(super) fn let_go(&self, subsystem: &Subsystem, namespace: &Arc<Namespace>) -> Result<(), NvmfError> {
        subsystem.state().namespaces.remove(&namespace.nsid);
        let (key, (waiter, closed)) = (namespace.key, channel());
        self.on_all(move |portal, _| portal.namespace_goes(key, waiter.clone()))?;
        // Nothing is sent: it is over when all who could send have gone.
        if closed.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "{}: bdev {} has not given commands of namespace {} back within {PATIENCE:?}; it is let go when it does",
                subsystem.nqn(),
                namespace.bdev().name(),
                namespace.nsid
            );
        }
        Ok(())
    }

    /// A bdev is being removed, and its namespaces with it.
    pub(super) fn bdev_goes(&self, bdev: &Arc<Bdev>) {
        let _change = self.change();
        for (subsystem, namespace) in self.on_bdev(bdev) {
            let gone = self.let_go(&subsystem, &namespace);
            let told =
                gone.and_then(|()| Ok(self.tell(&subsystem, event::NAMESPACE, Some(namespace.nsid))?));
            if let Err(error) = told {
                tracing::error!("namespace {} of {}: {error}", namespace.nsid, subsystem.nqn());
            }
        }
    }

    /// A bdev has another size, and its namespaces with it.
    pub(super) fn bdev_resized(&self, bdev: &Bdev) {
        for (subsystem, namespace) in self.on_bdev(bdev) {
            if let Err(error) = self.tell(&subsystem, event::NAMESPACE, Some(namespace.nsid)) {
                tracing::error!("hosts of {} were not told of a new size: {error}", subsystem.nqn());
            }
        }
    }

    fn on_bdev(&self, bdev: &Bdev) -> Vec<(Arc<Subsystem>, Arc<Namespace>)> {
        let mut found = Vec::new();
        for subsystem in self.tables.subsystems() {
            let of = subsystem.namespaces().into_iter().filter(|n| std::ptr::eq(&**n.bdev(), bdev));
            found.extend(of.map(|namespace| (subsystem.clone(), namespace)));
        }
        found
    }
}

fn free_number(subsystem: &Subsystem, asked: Option<u32>) -> Result<u32, NvmfError> {
    let (most, nqn) = (subsystem.spec.max_namespaces, subsystem.nqn().to_owned());
    let taken = &subsystem.state().namespaces;
    match asked {
        Some(nsid) if !(1..=most).contains(&nsid) => {
            Err(NvmfError::value("nsid", nsid, format!("1 to {most} (max_namespaces)")))
        }
        Some(nsid) if taken.contains_key(&nsid) => Err(NvmfError::NamespaceExists { nqn, nsid }),
        Some(nsid) => Ok(nsid),
        None => {
            let free = (1..=most).find(|nsid| !taken.contains_key(nsid));
            free.ok_or(NvmfError::TooManyNamespaces { nqn, most })
        }
    }
}

/// Hosts know blocks of a power of two of bytes, and a block must fit into a transfer.
fn check_blocks(bdev: &Bdev, most: u32) -> Result<(), NvmfError> {
    let block_size = bdev.block_size();
    if block_size.is_power_of_two() && (512..=most).contains(&block_size) {
        return Ok(());
    }
    Err(NvmfError::BlockSize { bdev: bdev.name().to_owned(), block_size, most })
}

/// Two namespaces with one identity would be taken for two paths to one.
fn check_identity(subsystem: &Subsystem, identity: &Identity) -> Result<(), NvmfError> {
    let same =
        |what, value: String| Err(NvmfError::SameIdentity { nqn: subsystem.nqn().to_owned(), what, value });
    for other in subsystem.namespaces() {
        if other.identity.uuid == identity.uuid {
            return same("uuid", identity.uuid.to_string());
        }
        if other.identity.nguid == identity.nguid {
            return same("nguid", Uuid::from_bytes(identity.nguid).simple().to_string());
        }
        if identity.eui64 != [0; 8] && other.identity.eui64 == identity.eui64 {
            return same("eui64", format!("{:016x}", u64::from_be_bytes(identity.eui64)));
        }
    }
    Ok(())
}
