//! Identify (base 5.17).

use super::{Around, EVENT_REQUESTS_MAX, oaes, part};
use crate::model::{Controller as Model, ControllerKind, Namespace as Space};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tgt_bdev::Op;
use tgt_nvme::identify::{Controller, Namespace, PAGE, cns, descriptor};
use tgt_nvme::register::VERSION_1_4;
use tgt_nvme::zerocopy::little_endian::{U16, U32, U64};
use tgt_nvme::zerocopy::{FromZeros, IntoBytes};
use tgt_nvme::{Command, put_text, status};
use tgt_status::IoStatus;

/// Longest time a change of asymmetric access takes, seconds.
const ANA_TRANSITION: u8 = 10;
/// Longest time a shutdown takes, us: what Linux waits for at least.
const SHUTDOWN_US: u32 = 10_000_000;
/// Largest number of a namespace.
const NSID_LIMIT: u32 = 0xffff_fffe;

pub(super) fn answer(around: Around<'_>, command: &Command) -> Result<Vec<u8>, IoStatus> {
    let (what, nsid) = (command.cdw10.get() as u8, command.nsid.get());
    if around.controller.kind == ControllerKind::Discovery && what != cns::CONTROLLER {
        return Err(IoStatus::INVALID_FIELD);
    }
    let set = (command.cdw11.get() >> 24) as u8;
    let by_set = matches!(
        what,
        cns::COMMAND_SET_NAMESPACE | cns::COMMAND_SET_CONTROLLER | cns::COMMAND_SET_NAMESPACES
    );
    if by_set && set != 0 {
        // The NVM command set is the only one.
        return Err(IoStatus::INVALID_FIELD);
    }
    let page = match what {
        cns::NAMESPACE => namespace_page(around, nsid)?,
        cns::CONTROLLER => controller(around).as_bytes().to_vec(),
        cns::NAMESPACES | cns::COMMAND_SET_NAMESPACES => list(around.controller, nsid)?,
        cns::DESCRIPTORS => descriptors(active(around.controller, nsid)?.as_ref()),
        cns::COMMAND_SET_NAMESPACE => active(around.controller, nsid).map(|_| Vec::new())?,
        // Zero: no limits beyond the longest transfer.
        cns::COMMAND_SET_CONTROLLER => Vec::new(),
        cns::ANY_NAMESPACE => any_namespace(around, active(around.controller, nsid)?.as_ref()),
        _ => return Err(IoStatus::INVALID_FIELD),
    };
    Ok(part(&page, 0, PAGE.min(command.sgl.length.get() as usize)))
}

fn active(controller: &Model, nsid: u32) -> Result<Arc<Space>, IoStatus> {
    controller.subsystem.namespace(nsid).ok_or(status::INVALID_NAMESPACE)
}

/// A namespace; zeroes for a number that nothing has and something could have.
fn namespace_page(around: Around<'_>, nsid: u32) -> Result<Vec<u8>, IoStatus> {
    if nsid == 0 || nsid > around.controller.subsystem.spec.max_namespaces {
        return Err(status::INVALID_NAMESPACE);
    }
    let space = around.controller.subsystem.namespace(nsid);
    Ok(space.map_or_else(Vec::new, |space| namespace(around, &space).as_bytes().to_vec()))
}

fn namespace(around: Around<'_>, space: &Space) -> Namespace {
    let bdev = space.bdev();
    let mut page = Namespace::new_zeroed();
    let blocks = U64::new(bdev.num_blocks());
    (page.nsze, page.ncap, page.nuse) = (blocks, blocks, blocks);
    page.lbaf[0] = U32::new(bdev.block_size().ilog2() << 16);
    page.nmic = 1;
    page.noiob = U16::new(u16::try_from(bdev.limits().boundary_blocks).unwrap_or(0));
    page.nsattr = u8::from(!bdev.ops().contains(Op::Write));
    page.nguid = space.identity.nguid;
    page.eui64 = space.identity.eui64;
    if around.controller.subsystem.spec.ana_reporting {
        page.anagrpid = U32::new(space.ana_group.load(Relaxed));
    }
    page
}

/// What all command sets share of a namespace (base figure 280).
fn any_namespace(around: Around<'_>, space: &Space) -> Vec<u8> {
    let full = namespace(around, space);
    let mut page = vec![0; 16];
    page[1] = full.nmic;
    page[4..8].copy_from_slice(full.anagrpid.as_bytes());
    page[8] = full.nsattr;
    // It is ready.
    page[14] = 1;
    page
}

/// Numbers of active namespaces above `nsid`.
fn list(controller: &Model, nsid: u32) -> Result<Vec<u8>, IoStatus> {
    if nsid >= NSID_LIMIT {
        return Err(status::INVALID_NAMESPACE);
    }
    let spaces = controller.subsystem.namespaces();
    let above = spaces.iter().map(|space| space.nsid).filter(|other| *other > nsid);
    Ok(above.take(PAGE / 4).flat_map(u32::to_le_bytes).collect())
}

fn descriptors(space: &Space) -> Vec<u8> {
    let identity = &space.identity;
    let mut page = Vec::new();
    let mut put = |kind: u8, id: &[u8]| {
        page.extend([kind, id.len() as u8, 0, 0]);
        page.extend(id);
    };
    if identity.eui64 != [0; 8] {
        put(descriptor::EUI64, &identity.eui64);
    }
    if identity.nguid != [0; 16] {
        put(descriptor::NGUID, &identity.nguid);
    }
    if !identity.uuid.is_nil() {
        put(descriptor::UUID, identity.uuid.as_bytes());
    }
    put(descriptor::COMMAND_SET, &[0]);
    page
}

fn controller(around: Around<'_>) -> Controller {
    let (model, options) = (around.controller, around.options);
    let spec = &model.subsystem.spec;
    let mut page = Controller::new_zeroed();
    put_text(&mut page.fr, env!("CARGO_PKG_VERSION"), b' ');
    page.mdts = options.mdts();
    page.cntlid = U16::new(model.cntlid);
    page.ver = U32::new(VERSION_1_4);
    page.oaes = U32::new(oaes(around));
    // Host ids of 128 bits.
    page.ctratt = U32::new(1);
    page.aerl = EVENT_REQUESTS_MAX as u8 - 1;
    page.maxcmd = U16::new(options.max_queue_depth);
    // Scatter-gather lists, addresses that are offsets, data blocks that the transport moves.
    page.sgls = U32::new(1 | 1 << 20 | 1 << 21);
    page.kas = U16::new((options.kas_ms / 100) as u16);
    // Extended data of log pages; pages longer than one transfer are read in parts.
    page.lpa = 1 << 2;
    put_text(&mut page.subnqn, model.subsystem.nqn(), 0);
    put_text(&mut page.sn, &spec.serial, b' ');
    put_text(&mut page.mn, &spec.model, b' ');
    page.ioccsz = U32::new((64 + options.in_capsule_data_size) / 16);
    page.iorcsz = U32::new(1);
    page.msdbd = 1;
    if model.kind == ControllerKind::Discovery {
        page.cntrltype = 2;
        return page;
    }
    page.cntrltype = 1;
    // Several ports, several controllers.
    page.cmic = 0b11;
    page.rtd3e = U32::new(SHUTDOWN_US);
    page.acl = 3;
    // One slot, read only.
    page.frmw = 0b11;
    page.lpa |= 1 << 1;
    page.elpe = crate::model::ERRORS_MAX as u8 - 1;
    (page.sqes, page.cqes) = (0x66, 0x44);
    page.nn = U32::new(spec.max_namespaces);
    page.mnan = page.nn;
    page.oncs = U16::new(optional_commands(model));
    page.fuses = U16::new(1);
    // A cache; a flush names one namespace.
    page.vwc = 0b101;
    if spec.ana_reporting {
        page.cmic |= 1 << 3;
        page.anatt = ANA_TRANSITION;
        // Three states; groups of namespaces stay.
        page.anacap = 0b100_0111;
        (page.anagrpmax, page.nanagrpid) = (page.nn, page.nn);
    }
    page
}

/// Compare and verify; dataset management if some namespace gains by it, write zeroes if all can do it.
fn optional_commands(model: &Model) -> u16 {
    let spaces = model.subsystem.namespaces();
    let unmap = spaces.iter().any(|space| space.bdev().ops().contains(Op::Unmap));
    let zeroes = spaces.iter().all(|space| space.bdev().ops().contains(Op::WriteZeroes));
    1 | u16::from(unmap) << 2 | u16::from(zeroes) << 3 | 1 << 7
}
