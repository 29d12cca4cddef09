//! Growth of the device: a new generation that is larger than the one before.
//!
//! A start already has what growth needs: everybody in the set is fenced, drained and flushed, and marks become durable in
//! the same commit as the epoch, before it on disk if one record does not hold them. A growth that is cut short is a
//! start that is cut short: whoever holds the new epoch goes on with it, the others join.

use super::{Client, ClientAction, Phase};
use crate::event::Now;
use rmr_proto::{DEVICE_BYTES_MAX, MemberId, RegionMisses};

/// Why a device was not made larger. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum ResizeError {
    /// It would not be larger.
    #[error("{blocks} blocks are not more than the {now} that the device has; it can only grow")]
    NotLarger {
        /// Asked for.
        blocks: u64,
        /// Blocks of the device.
        now: u64,
    },
    /// Larger than any device may be.
    #[error("{blocks} blocks are more than {most}, which are 1 PiB")]
    TooLarge {
        /// Asked for.
        blocks: u64,
        /// Most blocks.
        most: u64,
    },
    /// A store has no room.
    #[error(
        "member {member} has room for {capacity} blocks, {blocks} are asked for; give it a larger disk first"
    )]
    NoRoom {
        /// Which.
        member: MemberId,
        /// Blocks it has room for.
        capacity: u64,
        /// Asked for.
        blocks: u64,
    },
    /// No member has all of the device clean.
    #[error("no member is clean everywhere; wait until the resync has ended")]
    NotClean,
    /// Not mapped, a change of the set is under way, or another growth is.
    #[error("the pool is busy or not mapped; try again when it is active")]
    Busy,
    /// The pool was started without it: a member was lost meanwhile, or another client took over.
    #[error("the pool was started again before it grew; look at its size and try again")]
    Interrupted,
}

impl Client {
    pub(super) fn on_resize(&mut self, now: Now, blocks: u64, out: &mut Vec<ClientAction>) {
        let most = DEVICE_BYTES_MAX >> self.geometry.block_shift();
        let here = self.geometry.blocks();
        let error = if self.phase != Phase::Active || self.resize.is_some() {
            Some(ResizeError::Busy)
        } else if blocks <= here {
            Some(ResizeError::NotLarger { blocks, now: here })
        } else if blocks > most {
            Some(ResizeError::TooLarge { blocks, most })
        } else {
            None
        };
        if let Some(error) = error {
            out.push(ClientAction::Resized(Err(error)));
            return;
        }
        self.resize = Some(blocks);
        self.assemble(now, self.next_generation(), now, out);
    }

    /// Blocks to propose at a start, and, if that is more than there were, whose contents count in what is new.
    pub(super) fn growth(
        &mut self,
        verdicts: &[RegionMisses],
        out: &mut Vec<ClientAction>,
    ) -> (u64, Option<MemberId>) {
        let here = self.geometry.blocks();
        let Some(blocks) = self.resize else { return (here, None) };
        if blocks == here {
            return (here, None); // An earlier start of this growth has come far enough.
        }
        match self.reference_for(blocks, verdicts) {
            Ok(reference) => (blocks, Some(reference)),
            Err(error) => {
                self.resize = None;
                out.push(ClientAction::Resized(Err(error)));
                (here, None)
            }
        }
    }

    /// The lowest id that is clean everywhere, if everybody has room. It also has to hold what counts of the last chunk:
    /// if that is being settled by this very start, it has to be its source.
    fn reference_for(&self, blocks: u64, verdicts: &[RegionMisses]) -> Result<MemberId, ResizeError> {
        if blocks < self.geometry.blocks() {
            return Err(ResizeError::Interrupted);
        }
        let last = self.geometry.chunk_of(self.geometry.blocks() - 1);
        let (region, index) = (self.geometry.region_of(last), self.geometry.index_in_region(last));
        let ahead = self.verdicts_ahead();
        let verdict = verdicts.iter().chain(ahead).find(|verdict| verdict.region == region);
        let mut reference = None;
        for member in self.assembly.start.iter() {
            let Some(report) = self.report(member) else { continue };
            if report.capacity < blocks {
                return Err(ResizeError::NoRoom { member, capacity: report.capacity, blocks });
            }
            let lost = verdict.is_some_and(|verdict| verdict.missed[member.index()].has(index));
            if report.dirty_chunks == 0 && !lost && reference.is_none() {
                reference = Some(member);
            }
        }
        reference.ok_or(ResizeError::NotClean)
    }

    /// The pool is somebody else's.
    pub(super) fn interrupt_resize(&mut self, out: &mut Vec<ClientAction>) {
        if self.resize.take().is_some() {
            out.push(ClientAction::Resized(Err(ResizeError::Interrupted)));
        }
    }

    /// A start is over: so is the growth it was for.
    pub(super) fn settle_size(&mut self, blocks: u64, out: &mut Vec<ClientAction>) {
        if let Ok(geometry) = self.geometry.with_blocks(blocks) {
            self.geometry = geometry;
        }
        if let Some(wanted) = self.resize.take() {
            let done = if blocks == wanted { Ok(blocks) } else { Err(ResizeError::Interrupted) };
            out.push(ClientAction::Resized(done));
        }
    }
}
