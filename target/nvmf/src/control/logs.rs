//! Get Log Page (base 5.16).

use super::{Around, discovery, part};
use crate::model::ControllerKind;
use std::sync::atomic::Ordering::Relaxed;
use tgt_nvme::command::FABRICS;
use tgt_nvme::command::{admin, nvm};
use tgt_nvme::log::{AnaGroup, AnaHead, Commands, ErrorEntry, Firmware, Smart, id};
use tgt_nvme::zerocopy::little_endian::{U16, U32, U64};
use tgt_nvme::zerocopy::{FromZeros, IntoBytes};
use tgt_nvme::{Command, put_text, status};
use tgt_status::IoStatus;

/// Bytes of the unit in which health counts what was moved.
const DATA_UNIT: u64 = 512_000;
/// 27 degrees, as nothing here measures any.
const KELVIN: u16 = 300;

pub(super) fn answer(around: Around<'_>, command: &Command) -> Result<Vec<u8>, IoStatus> {
    let wanted = wanted(around, command)?;
    let page = match (command.cdw10.get() as u8, around.controller.kind) {
        (id::DISCOVERY, ControllerKind::Discovery) => discovery::page(around),
        (id::ERROR, _) => errors(around),
        (_, ControllerKind::Discovery) => return Err(status::INVALID_LOG_PAGE),
        (id::SMART, _) => smart(around).as_bytes().to_vec(),
        (id::FIRMWARE, _) => firmware().as_bytes().to_vec(),
        (id::CHANGED_NAMESPACES, _) => changed(around, wanted.offset),
        (id::COMMANDS, _) => commands().as_bytes().to_vec(),
        (id::ANA, _) if around.controller.subsystem.spec.ana_reporting => ana(around, command),
        _ => return Err(status::INVALID_LOG_PAGE),
    };
    if wanted.offset > page.len() {
        return Err(IoStatus::INVALID_FIELD);
    }
    Ok(part(&page, wanted.offset, wanted.len))
}

struct Wanted {
    offset: usize,
    len: usize,
}

fn wanted(around: Around<'_>, command: &Command) -> Result<Wanted, IoStatus> {
    let dwords = (u64::from(command.cdw11.get() & 0xffff) << 16 | u64::from(command.cdw10.get() >> 16)) + 1;
    let offset = u64::from(command.cdw13.get()) << 32 | u64::from(command.cdw12.get());
    let len = dwords * 4;
    if len > u64::from(command.sgl.length.get()) {
        return Err(status::DATA_SGL_LENGTH_INVALID);
    }
    if len > u64::from(around.options.max_io_size) || !offset.is_multiple_of(4) {
        return Err(IoStatus::INVALID_FIELD);
    }
    let offset = usize::try_from(offset).map_err(|_| IoStatus::INVALID_FIELD)?;
    Ok(Wanted { offset, len: len as usize })
}

fn errors(around: Around<'_>) -> Vec<u8> {
    let entries = around.controller.errors();
    let mut page: Vec<u8> = entries.iter().flat_map(|entry| entry.as_bytes().iter().copied()).collect();
    page.resize(crate::model::ERRORS_MAX * size_of::<ErrorEntry>(), 0);
    page
}

fn smart(around: Around<'_>) -> Smart {
    let totals = around.controller.totals();
    let wide = |value: u64| [U64::new(value), U64::ZERO];
    let mut page = Smart::new_zeroed();
    page.temperature = U16::new(KELVIN);
    page.spare = 100;
    page.units_read = wide(totals.read_bytes.div_ceil(DATA_UNIT));
    page.units_written = wide(totals.written_bytes.div_ceil(DATA_UNIT));
    (page.reads, page.writes) = (wide(totals.reads), wide(totals.writes));
    page.errors = wide(totals.errors);
    page
}

fn firmware() -> Firmware {
    let mut page = Firmware::new_zeroed();
    page.active = 1;
    put_text(&mut page.revisions[0], env!("CARGO_PKG_VERSION"), b' ');
    page
}

/// Reading its first byte takes the list: what changes from there on is another list.
fn changed(around: Around<'_>, offset: usize) -> Vec<u8> {
    const LIST: usize = 4096;
    let changed = if offset == 0 { around.controller.take_changed() } else { Vec::new() };
    let mut page: Vec<u8> = changed.into_iter().flat_map(u32::to_le_bytes).collect();
    page.resize(LIST, 0);
    page
}

fn commands() -> Commands {
    const ADMIN: [u8; 8] = [
        admin::GET_LOG_PAGE,
        admin::IDENTIFY,
        admin::ABORT,
        admin::SET_FEATURES,
        admin::GET_FEATURES,
        admin::ASYNC_EVENT_REQUEST,
        admin::KEEP_ALIVE,
        FABRICS,
    ];
    const CHANGING: [u8; 3] = [nvm::WRITE, nvm::WRITE_ZEROES, nvm::DATASET_MANAGEMENT];
    const OTHERS: [u8; 4] = [nvm::FLUSH, nvm::READ, nvm::COMPARE, nvm::VERIFY];
    let mut page = Commands::new_zeroed();
    ADMIN.iter().for_each(|opcode| page.admin[usize::from(*opcode)] = U32::new(Commands::SUPPORTED));
    OTHERS.iter().for_each(|opcode| page.io[usize::from(*opcode)] = U32::new(Commands::SUPPORTED));
    let changes = U32::new(Commands::SUPPORTED | Commands::CHANGES_CONTENT);
    CHANGING.iter().for_each(|opcode| page.io[usize::from(*opcode)] = changes);
    page
}

fn ana(around: Around<'_>, command: &Command) -> Vec<u8> {
    let groups_only = command.cdw10.get() >> 8 & 1 == 1;
    let subsystem = &around.controller.subsystem;
    let (spaces, changes) = (subsystem.namespaces(), subsystem.state().ana_changes);
    let listener = around.controller.listener.as_deref();
    let mut groups: Vec<u32> = spaces.iter().map(|space| space.ana_group.load(Relaxed)).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut head = AnaHead::new_zeroed();
    (head.changes, head.groups) = (U64::new(changes), U16::new(groups.len() as u16));
    let mut page = head.as_bytes().to_vec();
    for group in groups {
        let members: Vec<u32> =
            spaces.iter().filter(|s| s.ana_group.load(Relaxed) == group).map(|s| s.nsid).collect();
        let mut entry = AnaGroup::new_zeroed();
        (entry.id, entry.changes) = (U32::new(group), U64::new(changes));
        entry.state = subsystem.ana_state(listener, group).code();
        entry.namespaces = U32::new(if groups_only { 0 } else { members.len() as u32 });
        page.extend(entry.as_bytes());
        if !groups_only {
            page.extend(members.into_iter().flat_map(u32::to_le_bytes));
        }
    }
    page
}
