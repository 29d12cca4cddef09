//! What an IO command comes to, judged before anything is moved. Pure.

use tgt_bdev::{Op, OpSet};
use tgt_nvme::command::{Fuse, nvm};
use tgt_nvme::{Command, Sgl, status};
use tgt_status::IoStatus;

/// Bytes of a range of Dataset Management.
pub(super) const RANGE: u32 = 16;
/// Most bytes of ranges.
const RANGES_MAX: u32 = 256 * RANGE;
/// Kinds of data pointers, in `flags`.
const POINTER_BITS: u8 = 0xc0;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Compare,
    Zeroes,
    Flush,
    /// So many ranges; to be deallocated, or only hints.
    Ranges {
        count: u16,
        deallocate: bool,
    },
    Verify,
    /// The compare of a fused pair.
    FusedCompare,
    /// The write of a fused pair.
    FusedWrite,
}

/// Where the host's data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inflow {
    /// There is none.
    None,
    /// The capsule.
    Capsule,
    /// Units of data that have to be asked for.
    Requested,
}

/// A command, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) inflow: Inflow,
    /// Data to or from the host.
    pub(super) bytes: u32,
    pub(super) lba: u64,
    pub(super) blocks: u32,
    pub(super) fua: bool,
}

/// What a plan has to know of its namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) block_size: u32,
    pub(super) num_blocks: u64,
    pub(super) ops: OpSet,
    /// Longest transfer, bytes.
    pub(super) max_bytes: u32,
}

/// Judges a command with so many bytes of data in its capsule.
///
/// # Errors
/// The status it ends with.
pub(super) fn plan(command: &Command, of: Geometry, capsule: u32) -> Result<Plan, IoStatus> {
    check_flags(command)?;
    let fused = command.fuse() != Fuse::None;
    let kind = match command.opcode {
        nvm::READ => Kind::Read,
        nvm::WRITE if fused => Kind::FusedWrite,
        nvm::WRITE => Kind::Write,
        nvm::COMPARE if fused => Kind::FusedCompare,
        nvm::COMPARE => Kind::Compare,
        nvm::WRITE_ZEROES => Kind::Zeroes,
        nvm::FLUSH => Kind::Flush,
        nvm::VERIFY => Kind::Verify,
        nvm::DATASET_MANAGEMENT => {
            let count = (command.cdw10.get() & 0xff) as u16 + 1;
            Kind::Ranges { count, deallocate: command.cdw11.get() & Command::DEALLOCATE != 0 }
        }
        _ => return Err(IoStatus::INVALID_OPCODE),
    };
    if let Some(op) = needed(kind)
        && !of.ops.contains(op)
    {
        return Err(IoStatus::INVALID_OPCODE);
    }
    let fua = command.cdw12.get() & Command::FUA != 0;
    let (lba, blocks) = match kind {
        Kind::Flush | Kind::Ranges { .. } => (0, 0),
        _ => (command.lba(), command.blocks()),
    };
    if lba.checked_add(blocks.into()).is_none_or(|end| end > of.num_blocks) {
        return Err(IoStatus::LBA_OUT_OF_RANGE);
    }
    let bytes = data_bytes(command, kind, blocks, of)?;
    let inflow = match kind {
        Kind::Write | Kind::Compare | Kind::FusedCompare | Kind::FusedWrite | Kind::Ranges { .. } => {
            inflow(&command.sgl, bytes, capsule)?
        }
        Kind::Read => {
            outflow(&command.sgl, bytes)?;
            no_data(capsule)?
        }
        Kind::Zeroes | Kind::Flush | Kind::Verify => no_data(capsule)?,
    };
    Ok(Plan { kind, inflow, bytes, lba, blocks, fua })
}

fn check_flags(command: &Command) -> Result<(), IoStatus> {
    let fits = match (command.fuse(), command.opcode) {
        (Fuse::None, _) | (Fuse::First, nvm::COMPARE) | (Fuse::Second, nvm::WRITE) => true,
        (Fuse::First | Fuse::Second | Fuse::Reserved, _) => false,
    };
    if fits && command.flags & POINTER_BITS == Command::SGL { Ok(()) } else { Err(IoStatus::INVALID_FIELD) }
}

/// What the bdev must be able to do. A flush of what has no cache succeeds; deallocation is a hint.
fn needed(kind: Kind) -> Option<Op> {
    match kind {
        Kind::Read | Kind::Verify => Some(Op::Read),
        Kind::Write => Some(Op::Write),
        Kind::Compare => Some(Op::Compare),
        Kind::Zeroes => Some(Op::WriteZeroes),
        Kind::FusedCompare | Kind::FusedWrite => Some(Op::CompareAndWrite),
        Kind::Flush | Kind::Ranges { .. } => None,
    }
}

/// Data to or from the host.
fn data_bytes(command: &Command, kind: Kind, blocks: u32, of: Geometry) -> Result<u32, IoStatus> {
    let most = match kind {
        Kind::Zeroes | Kind::Flush | Kind::Verify => return Ok(0),
        Kind::Ranges { count, .. } => {
            // Hosts may send the whole table, whatever they use of it.
            let sent = command.sgl.length.get();
            let fits = (u32::from(count) * RANGE..=RANGES_MAX).contains(&sent) && sent <= of.max_bytes;
            return if fits { Ok(sent) } else { Err(status::DATA_SGL_LENGTH_INVALID) };
        }
        // Both halves lie in one buffer.
        Kind::FusedCompare | Kind::FusedWrite => of.max_bytes / 2,
        Kind::Read | Kind::Write | Kind::Compare => of.max_bytes,
    };
    let bytes = u64::from(blocks) * u64::from(of.block_size);
    if bytes > most.into() { Err(IoStatus::INVALID_FIELD) } else { Ok(bytes as u32) }
}

fn inflow(sgl: &Sgl, bytes: u32, capsule: u32) -> Result<Inflow, IoStatus> {
    let (there, inflow) = match sgl.kind {
        Sgl::IN_CAPSULE if sgl.address.get() != 0 => return Err(status::SGL_OFFSET_INVALID),
        Sgl::IN_CAPSULE => (bytes, Inflow::Capsule),
        Sgl::TRANSPORT => (0, Inflow::Requested),
        _ => return Err(status::SGL_TYPE_INVALID),
    };
    if sgl.length.get() == bytes && capsule == there {
        return Ok(inflow);
    }
    Err(status::DATA_SGL_LENGTH_INVALID)
}

fn outflow(sgl: &Sgl, bytes: u32) -> Result<(), IoStatus> {
    match sgl.kind {
        Sgl::TRANSPORT if sgl.length.get() == bytes => Ok(()),
        Sgl::TRANSPORT => Err(status::DATA_SGL_LENGTH_INVALID),
        _ => Err(status::SGL_TYPE_INVALID),
    }
}

fn no_data(capsule: u32) -> Result<Inflow, IoStatus> {
    if capsule == 0 { Ok(Inflow::None) } else { Err(status::DATA_SGL_LENGTH_INVALID) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tgt_nvme::zerocopy::little_endian::{U32, U64};

    fn of() -> Geometry {
        Geometry { block_size: 512, num_blocks: 1000, ops: OpSet::all(), max_bytes: 131_072 }
    }

    fn command(opcode: u8, lba: u64, blocks: u32, sgl: Sgl) -> Command {
        let mut command = Command::new(opcode, 1, 1);
        command.set_range(lba, blocks);
        command.sgl = sgl;
        command
    }

    fn sgl(length: u32) -> Sgl {
        Sgl::new(Sgl::TRANSPORT, length)
    }

    #[test]
    fn data_comes_from_where_the_pointer_says() {
        let requested = plan(&command(nvm::WRITE, 992, 8, sgl(4096)), of(), 0).expect("a plan");
        assert_eq!((requested.inflow, requested.bytes, requested.lba), (Inflow::Requested, 4096, 992));
        let inside = command(nvm::WRITE, 0, 8, Sgl::new(Sgl::IN_CAPSULE, 4096));
        assert_eq!(plan(&inside, of(), 4096).map(|plan| plan.inflow), Ok(Inflow::Capsule));
        let read = plan(&command(nvm::READ, 0, 8, sgl(4096)), of(), 0).expect("a plan");
        assert_eq!((read.kind, read.inflow, read.bytes), (Kind::Read, Inflow::None, 4096));
    }

    #[test]
    fn every_wrong_pointer_has_its_status() {
        let write = |sgl| command(nvm::WRITE, 0, 8, sgl);
        let refused = |command: Command, capsule| plan(&command, of(), capsule).expect_err("refused");
        for (sgl, capsule) in [
            (sgl(4095), 0),
            (sgl(4608), 0),
            (sgl(4096), 4096),
            (Sgl::new(Sgl::IN_CAPSULE, 4096), 0),
            (Sgl::new(Sgl::IN_CAPSULE, 512), 512),
        ] {
            assert_eq!(refused(write(sgl), capsule), status::DATA_SGL_LENGTH_INVALID, "{sgl:?}");
        }
        let offset = Sgl { address: U64::new(8), ..Sgl::new(Sgl::IN_CAPSULE, 4096) };
        assert_eq!(refused(write(offset), 4096), status::SGL_OFFSET_INVALID);
        assert_eq!(refused(write(Sgl::new(0, 4096)), 0), status::SGL_TYPE_INVALID);
        let read_into_capsule = command(nvm::READ, 0, 8, Sgl::new(Sgl::IN_CAPSULE, 4096));
        assert_eq!(refused(read_into_capsule, 0), status::SGL_TYPE_INVALID);
        assert_eq!(refused(command(nvm::FLUSH, 0, 1, sgl(0)), 16), status::DATA_SGL_LENGTH_INVALID);
    }

    #[test]
    fn ranges_and_lengths_are_checked_to_the_last_block() {
        let read = |lba, blocks: u32| plan(&command(nvm::READ, lba, blocks, sgl(blocks * 512)), of(), 0);
        assert!(read(992, 8).is_ok());
        for (lba, blocks) in [(993, 8), (1000, 1), (u64::MAX, 1), (u64::MAX - 7, 8)] {
            assert_eq!(read(lba, blocks), Err(IoStatus::LBA_OUT_OF_RANGE), "{lba}");
        }
        assert!(read(0, 256).is_ok());
        assert_eq!(read(0, 257), Err(IoStatus::INVALID_FIELD), "longer than the longest transfer");
        let zeroes = command(nvm::WRITE_ZEROES, 0, 1000, sgl(0));
        assert_eq!(plan(&zeroes, of(), 0).map(|plan| (plan.kind, plan.bytes)), Ok((Kind::Zeroes, 0)));
    }

    #[test]
    fn what_is_not_there_is_refused_and_hints_are_not() {
        let refused = |opcode| plan(&command(opcode, 0, 8, sgl(4096)), of(), 0);
        for opcode in [0x04, 0x0d, 0x11, 0x19, 0x7f, 0xff] {
            assert_eq!(refused(opcode), Err(IoStatus::INVALID_OPCODE), "{opcode:#x}");
        }
        let read_only = Geometry { ops: OpSet::of(&[Op::Read, Op::Compare]), ..of() };
        let write = command(nvm::WRITE, 0, 8, sgl(4096));
        assert_eq!(plan(&write, read_only, 0), Err(IoStatus::INVALID_OPCODE));
        assert!(plan(&command(nvm::FLUSH, 0, 1, sgl(0)), read_only, 0).is_ok());
        let mut hints = command(nvm::DATASET_MANAGEMENT, 0, 1, sgl(4096));
        (hints.cdw10, hints.cdw11) = (U32::new(1), U32::new(Command::DEALLOCATE));
        let kind = Kind::Ranges { count: 2, deallocate: true };
        assert_eq!(plan(&hints, read_only, 0).map(|plan| (plan.kind, plan.bytes)), Ok((kind, 4096)));
        hints.sgl = sgl(31);
        assert_eq!(plan(&hints, of(), 0), Err(status::DATA_SGL_LENGTH_INVALID));
    }

    #[test]
    fn flags_must_fit_the_command() {
        let with = |opcode, flags| {
            let mut command = command(opcode, 0, 8, sgl(4096));
            command.flags = flags;
            plan(&command, of(), 0)
        };
        assert_eq!(with(nvm::COMPARE, 0x41).map(|plan| plan.kind), Ok(Kind::FusedCompare));
        assert_eq!(with(nvm::WRITE, 0x42).map(|plan| plan.kind), Ok(Kind::FusedWrite));
        for (opcode, flags) in
            [(nvm::WRITE, 0x41), (nvm::COMPARE, 0x42), (nvm::READ, 0x41), (nvm::WRITE, 0x43)]
        {
            assert_eq!(with(opcode, flags), Err(IoStatus::INVALID_FIELD), "{opcode} {flags:#x}");
        }
        for flags in [0, 0x80, 0xc0] {
            assert_eq!(with(nvm::READ, flags), Err(IoStatus::INVALID_FIELD), "{flags:#x}");
        }
        let mut half = command(nvm::COMPARE, 0, 129, sgl(129 * 512));
        half.flags = 0x41;
        assert_eq!(plan(&half, of(), 0), Err(IoStatus::INVALID_FIELD), "a pair shares one buffer");
    }
}
