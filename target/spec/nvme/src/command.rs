//! Submission queue entries and completions (base 3.3.3), opcodes, and the fields that commands share.

use crate::layout;
use tgt_status::IoStatus;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Opcodes of admin commands (base figure 138).
pub mod admin {
    /// Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request.
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    /// Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;
}

/// Opcodes of the NVM command set (nvm figure 20).
pub mod nvm {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// Verify.
    pub const VERIFY: u8 = 0x0c;
}

/// Opcode of all Fabrics commands (base 6); the type stands in byte 4.
pub const FABRICS: u8 = 0x7f;

/// The namespace that stands for all.
pub const NSID_ALL: u32 = u32::MAX;

/// The two bits of fused operations in `flags` (base figure 87).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// A command by itself.
    None,
    /// First of two.
    First,
    /// Second of two.
    Second,
    /// No such value.
    Reserved,
}

/// A scatter-gather list descriptor, 16 bytes (base 4.1.2): where a command's data is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Sgl {
    /// Offset or address; its meaning depends on the type.
    pub address: U64,
    /// Bytes.
    pub length: U32,
    /// Reserved, or a key.
    pub reserved: [u8; 3],
    /// Type in the upper, subtype in the lower four bits.
    pub kind: u8,
}
layout!(Sgl, 16, kind @ 15);

impl Sgl {
    /// Data block at an offset in the capsule.
    pub const IN_CAPSULE: u8 = 0x01;
    /// Data block that the transport moves: by R2T and H2CData, or C2HData.
    pub const TRANSPORT: u8 = 0x5a;

    /// One of these kinds, for `length` bytes.
    #[must_use]
    pub fn new(kind: u8, length: u32) -> Sgl {
        Sgl { address: U64::ZERO, length: U32::new(length), reserved: [0; 3], kind }
    }
}

/// A submission queue entry, 64 bytes (base figure 88).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Command {
    /// What to do.
    pub opcode: u8,
    /// Fused operation in bits 1:0, kind of data pointer in bits 7:6.
    pub flags: u8,
    /// The host's number for it.
    pub cid: U16,
    /// Namespace. Fabrics commands: the type, in the first byte.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer; not used by fabrics.
    pub mptr: U64,
    /// Where its data is.
    pub sgl: Sgl,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}
layout!(Command, 64, nsid @ 4, sgl @ 24, cdw10 @ 40, cdw15 @ 60);

impl Command {
    /// Data is named by scatter-gather lists, the only way over fabrics (`flags`).
    pub const SGL: u8 = 0x40;
    /// Force unit access (cdw12 of reads and writes).
    pub const FUA: u32 = 1 << 30;
    /// Deallocate (cdw11 of Dataset Management).
    pub const DEALLOCATE: u32 = 1 << 2;

    /// One with nothing but an opcode, a number and a namespace.
    #[must_use]
    pub fn new(opcode: u8, cid: u16, nsid: u32) -> Command {
        let mut command = Command::new_zeroed();
        (command.opcode, command.flags) = (opcode, Command::SGL);
        (command.cid, command.nsid) = (U16::new(cid), U32::new(nsid));
        command
    }

    /// Its place in a fused operation.
    #[must_use]
    pub const fn fuse(&self) -> Fuse {
        match self.flags & 3 {
            0 => Fuse::None,
            1 => Fuse::First,
            2 => Fuse::Second,
            _ => Fuse::Reserved,
        }
    }

    /// Type of a Fabrics command.
    #[must_use]
    pub fn fabrics_type(&self) -> u8 {
        self.nsid.as_bytes()[0]
    }

    /// First block of reads, writes and their like.
    #[must_use]
    pub fn lba(&self) -> u64 {
        u64::from(self.cdw11.get()) << 32 | u64::from(self.cdw10.get())
    }

    /// Sets [`Command::lba`] and [`Command::blocks`].
    pub fn set_range(&mut self, lba: u64, blocks: u32) {
        (self.cdw10, self.cdw11) = (U32::new(lba as u32), U32::new((lba >> 32) as u32));
        self.cdw12 = U32::new(self.cdw12.get() & !0xffff | blocks.wrapping_sub(1) & 0xffff);
    }

    /// Blocks of reads, writes and their like: 1 to 65536.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        (self.cdw12.get() & 0xffff) + 1
    }
}

/// A completion, 16 bytes (base figure 92).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Completion {
    /// What the command answers.
    pub dw0: U32,
    /// What the command answers, second half.
    pub dw1: U32,
    /// How far the submission queue was read.
    pub sq_head: U16,
    /// Submission queue; reserved over fabrics.
    pub sq_id: U16,
    /// The host's number.
    pub cid: U16,
    /// Status in bits 15:1, see [`Completion::status`].
    pub status_field: U16,
}
layout!(Completion, 16, cid @ 12);

impl Completion {
    /// Do not retry.
    pub const DNR: u16 = 1 << 15;

    /// A completion.
    #[must_use]
    pub fn new(cid: u16, status: IoStatus, do_not_retry: bool) -> Completion {
        let mut field = u16::from(status.sct()) << 9 | u16::from(status.sc()) << 1;
        if do_not_retry {
            field |= Completion::DNR;
        }
        let mut completion = Completion::new_zeroed();
        (completion.cid, completion.status_field) = (U16::new(cid), U16::new(field));
        completion
    }

    /// How the command ended.
    pub fn status(&self) -> IoStatus {
        let field = self.status_field.get();
        IoStatus::new((field >> 9 & 7) as u8, (field >> 1) as u8)
    }

    /// Whether a retry is useless.
    #[must_use]
    pub fn do_not_retry(&self) -> bool {
        self.status_field.get() & Completion::DNR != 0
    }
}

/// A range of Dataset Management, 16 bytes (nvm figure 40).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DsmRange {
    /// Hints.
    pub attributes: U32,
    /// Blocks.
    pub blocks: U32,
    /// First block.
    pub lba: U64,
}
layout!(DsmRange, 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_status_come_back_as_they_went_in() {
        let mut command = Command::new(nvm::WRITE, 7, 1);
        command.cdw12 = U32::new(Command::FUA);
        command.set_range(0x1_2345_6789, 65_536);
        assert_eq!((command.lba(), command.blocks()), (0x1_2345_6789, 65_536));
        assert_eq!(command.cdw12.get() & Command::FUA, Command::FUA);
        for status in IoStatus::ALL {
            let completion = Completion::new(9, *status, true);
            assert_eq!((completion.status(), completion.do_not_retry()), (*status, true));
            assert!(!Completion::new(9, *status, false).do_not_retry());
        }
    }

    #[test]
    fn a_read_looks_as_the_specification_draws_it() {
        let mut command = Command::new(nvm::READ, 0x0102, 3);
        command.set_range(8, 4);
        command.sgl = Sgl::new(Sgl::TRANSPORT, 2048);
        let bytes = command.as_bytes();
        assert_eq!(bytes[..8], [2, 0x40, 2, 1, 3, 0, 0, 0]);
        assert_eq!((bytes[32..36].to_vec(), bytes[39]), (vec![0, 8, 0, 0], 0x5a));
        assert_eq!((bytes[40], bytes[48]), (8, 3));
    }
}
