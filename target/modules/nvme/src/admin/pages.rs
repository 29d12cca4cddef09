//! Identify pages, read with suspicion. Pure.

use crate::controller::{Abilities, Controller, Found};
use tgt_nvme::identify::{self, PAGE, descriptor};
use tgt_nvme::zerocopy::FromBytes;
use uuid::Uuid;

/// Longest transfer that is asked for, whatever the controller takes, bytes.
const MAX_BYTES: u32 = 1 << 20;
/// Bytes of a command in its capsule.
const COMMAND: u32 = 64;

/// What the controller can do, and the most data in an IO capsule.
pub(super) fn controller(page: &[u8; PAGE], of: &Controller) -> Result<(Abilities, u32), String> {
    let read = identify::Controller::read_from_bytes(page).map_err(|_| "a page that is no page")?;
    if read.cntrltype > 1 {
        return Err("it is no IO controller; a discovery controller has no namespaces".to_owned());
    }
    let max_bytes = match u32::from(read.mdts) {
        0 => MAX_BYTES,
        shift => {
            4096_u32.checked_shl(shift).filter(|bytes| *bytes >= 4096).unwrap_or(MAX_BYTES).min(MAX_BYTES)
        }
    };
    let before = of.state().abilities.max_bytes;
    if max_bytes < before {
        return Err(format!("it takes transfers of {max_bytes} bytes now, and took {before}"));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_owned();
    let capsule = read.ioccsz.get().saturating_mul(16).saturating_sub(COMMAND).min(65_536);
    // Data that does not begin at once behind the command is not sent in capsules.
    let capsule = if read.icdoff.get() == 0 { capsule } else { 0 };
    let abilities = Abilities {
        serial: text(&read.sn),
        model: text(&read.mn),
        firmware: text(&read.fr),
        version: read.ver.get(),
        max_bytes: if before == 0 { max_bytes } else { before },
        oncs: read.oncs.get(),
        volatile_cache: read.vwc & 1 != 0,
        namespaces_max: read.nn.get(),
    };
    Ok((abilities, capsule))
}

/// Active namespaces: ascending, ended by 0.
pub(super) fn list(page: &[u8; PAGE]) -> Result<Vec<u32>, String> {
    let mut all = Vec::new();
    for bytes in page.chunks_exact(4) {
        let nsid = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if nsid == 0 {
            break;
        }
        if nsid > 0xffff_fffe || all.last().is_some_and(|last| *last >= nsid) {
            return Err(format!("its list of namespaces is out of order at {nsid}"));
        }
        all.push(nsid);
    }
    Ok(all)
}

/// A namespace that can be a bdev.
pub(super) fn namespace(page: &[u8; PAGE], nsid: u32, of: &Controller) -> Option<Found> {
    let read = identify::Namespace::read_from_bytes(page).ok()?;
    let format = read.lbaf[usize::from(read.flbas & 15)].get();
    let (metadata, shift) = (format & 0xffff, format >> 16 & 0xff);
    let blocks = read.nsze.get();
    if blocks == 0 || metadata != 0 || !(9..=16).contains(&shift) || read.dps & 7 != 0 {
        let name = &of.options.name;
        tracing::warn!(
            controller = name.as_str(),
            nsid,
            "a namespace cannot be a bdev: {blocks} blocks of 2^{shift} bytes with {metadata} bytes of metadata; accepted: blocks of 512 bytes to 64 KiB without metadata"
        );
        return None;
    }
    let uuid = if read.nguid != [0; 16] {
        Uuid::from_bytes(read.nguid)
    } else {
        let serial = of.state().abilities.serial.clone();
        let name = format!("{} {serial} {nsid} {:?}", of.options.subnqn, read.eui64);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
    };
    Some(Found { nsid, uuid, block_size: 1 << shift, blocks })
}

/// The UUID among the descriptors of a namespace.
pub(super) fn uuid(page: &[u8; PAGE]) -> Option<Uuid> {
    let mut at = 0;
    while let Some([kind, len, ..]) = page.get(at..at + 4) {
        let len = usize::from(*len);
        if len == 0 {
            return None;
        }
        let body = page.get(at + 4..at + 4 + len)?;
        if *kind == descriptor::UUID {
            return Uuid::from_slice(body).ok().filter(|uuid| !uuid.is_nil());
        }
        at += 4 + len;
    }
    None
}
