//! What the nodes say of the device.

use super::error::DemoError;
use super::process::CALL_BOUND;
use super::{DEVICE, NODES, Name};
use rmr_rpc::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One copy of the device.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Copy {
    /// Does the pool read from it and write to it?
    pub(super) up_to_date: bool,
    /// Why not, in the words of the compute node.
    pub(super) why: Option<String>,
    /// What its store says; none: it does not run.
    pub(super) store: Option<Sync>,
}

/// What a storage node says of its store. Bytes, since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sync {
    /// Still to be copied.
    pub(super) dirty: u64,
    /// Copied from others.
    pub(super) copied: u64,
    /// Would have been copied, but clients wrote it anew meanwhile.
    pub(super) overwritten: u64,
}

/// How the device stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Look {
    /// Of the device, in a word; none: the compute node does not run.
    pub(super) state: Option<String>,
    /// Bytes of the device, as far as it is known.
    pub(super) size: Option<u64>,
    /// By member.
    pub(super) copies: [Copy; NODES],
}

impl Look {
    /// Is every member up to date, and has all?
    pub(super) fn is_whole(&self) -> bool {
        self.copies.iter().all(Copy::is_whole)
    }
}

impl Copy {
    /// Is it up to date, and has all? One that was let in may still have to copy.
    pub(super) fn is_whole(&self) -> bool {
        self.up_to_date && self.store.is_some_and(|store| store.dirty == 0)
    }
}

/// Asks all that run. `sockets`: in the order of [`Name::ALL`], none for those that do not.
///
/// The compute node is asked first: a member that it calls up to date has heard by then what it missed.
pub(super) fn look(sockets: &[Option<PathBuf>]) -> Result<Look, DemoError> {
    let mut look = Look::default();
    if let Some(socket) = sockets.get(NODES).and_then(Option::as_ref) {
        device(socket, &mut look)?;
    }
    for (member, socket) in sockets.iter().take(NODES).enumerate() {
        let Some(socket) = socket else { continue };
        look.copies[member].store = store(socket, Name::ALL[member])?;
    }
    Ok(look)
}

fn device(socket: &Path, look: &mut Look) -> Result<(), DemoError> {
    let name = Name::Compute;
    let Some(answer) = call(socket, name, "bdev_brmr_get_devices", json!({"name": DEVICE}))? else {
        return Ok(());
    };
    let missing = |member| DemoError::Answer { name, method: "bdev_brmr_get_devices", member };
    let device = answer.get(0).ok_or_else(|| missing("device"))?;
    look.state = Some(device["state"].as_str().ok_or_else(|| missing("state"))?.to_owned());
    look.size =
        device["block_size"].as_u64().zip(device["num_blocks"].as_u64()).map(|(size, count)| size * count);
    for leg in device["legs"].as_array().ok_or_else(|| missing("legs"))? {
        let member = leg["member_id"].as_u64().ok_or_else(|| missing("member_id"))?;
        if let Some(copy) = look.copies.get_mut(member as usize) {
            copy.up_to_date = leg["up_to_date"] == json!(true);
            copy.why = leg["why"].as_str().map(str::to_owned);
        }
    }
    Ok(())
}

fn store(socket: &Path, name: Name) -> Result<Option<Sync>, DemoError> {
    let Some(answer) = call(socket, name, "rmr_get_server_pools", json!({}))? else { return Ok(None) };
    let sync = |member| {
        let value = answer.pointer(&format!("/0/sync/{member}")).and_then(Value::as_u64);
        value.ok_or(DemoError::Answer { name, method: "rmr_get_server_pools", member })
    };
    Ok(Some(Sync {
        dirty: sync("dirty_bytes")?,
        copied: sync("copied_bytes")?,
        overwritten: sync("overwritten_bytes")?,
    }))
}

/// None: it has just ended. It refuses: an error.
fn call(socket: &Path, name: Name, method: &str, params: Value) -> Result<Option<Value>, DemoError> {
    let answer = Client::connect(socket, CALL_BOUND).and_then(|mut to| to.call(method, Some(&params)));
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(rmr_rpc::Error::Unreachable { .. } | rmr_rpc::Error::Closed { .. }) => Ok(None),
        Err(source) => Err(DemoError::Call { name, source }),
    }
}
