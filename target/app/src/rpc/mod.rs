//! The methods that belong to no other crate, one family a file, and the list of all subsystems.

mod cores;
mod framework;
mod instance;
mod iobuf;
mod load;
mod logs;
mod machine;
mod memory;
mod scheduler;
mod threads;
pub(crate) mod version;

use crate::claims::Claims;
use crate::init::Init;
use crate::log::LogControl;
use bdev_brmr::device::Devices;
use bdev_brmr::store::Stores;
use rpc_registry::{Registry, RpcError};
use std::path::PathBuf;
use std::sync::Arc;
use tgt_bdev::Bdevs;
use tgt_keyring::Keyring;
use tgt_nvmf::Nvmf;
use tgt_reactor::{CallError, Handle};
use tgt_rtrs::sessions::Sessions;
use tgt_vhost::Controllers;

/// What the methods work on.
pub(crate) struct Parts {
    pub(crate) devices: Arc<Devices>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) bdevs: Arc<Bdevs>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) reactors: Arc<Vec<Handle>>,
    pub(crate) init: Arc<Init>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) log: Arc<LogControl>,
    pub(crate) allow_load: bool,
    /// Where sockets of vhost controllers are made.
    pub(crate) vhost_directory: PathBuf,
}

/// All methods and subsystems, in SPDK's order of those that exist here. The order is that of a saved configuration.
pub(crate) fn registry(parts: &Parts) -> Registry {
    let mut registry = Registry::new();
    let r = &mut registry;
    version::register(r);
    instance::register(r);
    framework::register(r, parts);
    cores::register(r, &parts.claims);
    threads::register(r, parts);
    logs::register(r, &parts.log);
    memory::register(r);
    let keyring = tgt_keyring::rpc::register(r, &parts.keyring);
    let iobuf = iobuf::register(r);
    let bdev = tgt_bdev::rpc::register(r, &parts.bdevs);
    bdev_null::rpc::register(r, &parts.bdevs);
    bdev_malloc::rpc::register(r, &parts.bdevs);
    bdev_uring::rpc::register(r, &parts.bdevs);
    // Saved in this order, after what they stand on.
    bdev_nvme::rpc::register(r, &bdev_nvme::Controllers::new(&parts.bdevs, &parts.reactors));
    bdev_split::rpc::register(r, &parts.bdevs);
    bdev_passthru::rpc::register(r, &parts.bdevs);
    bdev_delay::rpc::register(r, &parts.bdevs);
    bdev_error::rpc::register(r, &parts.bdevs);
    bdev_brmr::device::rpc::register(r, &parts.devices);
    load::register(r, parts);
    let rtrs = tgt_rtrs::rpc::register(r, &parts.sessions);
    let brmr = bdev_brmr::store::register(r, &parts.stores);
    let vhost = Controllers::new(&parts.bdevs, &parts.reactors, parts.vhost_directory.clone());
    let vhost = tgt_vhost::rpc::register(r, &vhost);
    let scheduler = scheduler::register(r, &parts.reactors);
    let nvmf = tgt_nvmf::rpc::register(r, &Nvmf::new(&parts.bdevs, &parts.reactors));
    // Before all that may use keys.
    r.add_subsystem(keyring);
    r.add_subsystem(iobuf);
    r.add_subsystem(bdev.depends_on(&["iobuf"]));
    // Before all that may use sessions.
    r.add_subsystem(rtrs.depends_on(&["keyring"]));
    r.add_subsystem(brmr.depends_on(&["bdev", "rtrs"]));
    r.add_subsystem(scheduler);
    // Last: hosts and guests come in when all that they may use is there.
    r.add_subsystem(vhost.depends_on(&["bdev", "brmr"]));
    r.add_subsystem(nvmf.depends_on(&["bdev", "brmr"]));
    registry
}

/// A reactor's failure to answer, as an answer.
fn no_answer(error: CallError) -> RpcError {
    RpcError::internal(error.to_string())
}
