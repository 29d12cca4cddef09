//! Open handles, and the claims they hold.
//!
//! | claim | its holder | other descs |
//! |---|---|---|
//! | none | | open for reading or writing |
//! | exclusive_write | writes | may read |
//! | read_many_write_one | writes | may read |
//! | read_many_write_none | reads | may read; several hold it together |
//! | read_many_write_shared(key) | writes | may read; several hold it together, with one key |

use crate::bdev::{Bdev, Control};
use crate::io_channel::IoChannel;
use std::sync::Arc;
use std::time::Duration;
use tgt_reactor::Cx;

/// What an opener may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// A claim on a bdev, named as SPDK names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Nobody claims it.
    #[default]
    None,
    /// One writer; made by modules that stack on it.
    ExclusiveWrite,
    /// One writer, many readers.
    ReadManyWriteOne,
    /// Many readers, no writer.
    ReadManyWriteNone,
    /// Many writers that share this key.
    ReadManyWriteShared(u64),
}

impl Claim {
    /// SPDK's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Claim::None => "none",
            Claim::ExclusiveWrite => "exclusive_write",
            Claim::ReadManyWriteOne => "read_many_write_one",
            Claim::ReadManyWriteNone => "read_many_write_none",
            Claim::ReadManyWriteShared(_) => "read_many_write_shared",
        }
    }

    fn lets_its_holder_write(self) -> bool {
        !matches!(self, Claim::ReadManyWriteNone)
    }
}

/// An open handle as the control side knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescInfo {
    pub(crate) id: u64,
    /// Who opened it.
    pub opener: Arc<str>,
    /// What it may do.
    pub mode: Mode,
    /// The claim it holds.
    pub claim: Claim,
}

/// Why a bdev could not be opened. Nothing has changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// No bdev has this name.
    #[error("there is no bdev named {0:?}")]
    NotFound(String),
    /// It is being removed.
    #[error("bdev {0:?} is being removed")]
    Removed(String),
    /// A claim forbids what was asked for.
    #[error("bdev {bdev:?} cannot be opened for writing: {holder:?} claims it ({})", claim.name())]
    Claimed {
        /// The bdev.
        bdev: String,
        /// Who claims it.
        holder: String,
        /// How.
        claim: Claim,
    },
    /// Its module could not make a channel.
    #[error("bdev {bdev:?}: {why}")]
    Channel {
        /// The bdev.
        bdev: String,
        /// The module's words.
        why: String,
    },
}

/// Why a claim was not granted. Nothing has changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimError {
    /// Another desc holds one that does not go with it.
    #[error("bdev {bdev:?} is already claimed by {holder:?} ({})", claim.name())]
    Claimed {
        /// The bdev.
        bdev: String,
        /// Who claims it.
        holder: String,
        /// How.
        claim: Claim,
    },
    /// Another desc has it open for writing.
    #[error("bdev {bdev:?} cannot be claimed: {writer:?} has it open for writing")]
    OpenForWriting {
        /// The bdev.
        bdev: String,
        /// Who writes.
        writer: String,
    },
}

/// An open handle. Closing it (drop) gives its claim back. Send; control threads.
#[derive(Debug)]
pub struct Desc {
    shared: Arc<DescShared>,
}

/// Kept alive by the desc and by each of its channels.
#[derive(Debug)]
pub(crate) struct DescShared {
    pub(crate) bdev: Arc<Bdev>,
    pub(crate) opener: Arc<str>,
    pub(crate) mode: Mode,
    id: u64,
}

impl Desc {
    /// Opens `bdev` for `opener`, whose name appears in errors and listings.
    pub fn open(bdev: &Arc<Bdev>, opener: &str, mode: Mode) -> Result<Desc, OpenError> {
        let mut control = bdev.control();
        if bdev.is_removed() {
            return Err(OpenError::Removed(bdev.name().to_owned()));
        }
        if mode == Mode::Write && control.claim != Claim::None {
            let (bdev, claim) = (bdev.name().to_owned(), control.claim);
            return Err(OpenError::Claimed { bdev, holder: control.claim_holder(), claim });
        }
        let (id, opener) = (control.next_id(), Arc::<str>::from(opener));
        control.descs.push(DescInfo { id, opener: opener.clone(), mode, claim: Claim::None });
        drop(control);
        Ok(Desc { shared: Arc::new(DescShared { bdev: bdev.clone(), opener, mode, id }) })
    }

    /// The bdev behind it.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        &self.shared.bdev
    }

    /// Claims the bdev for this desc, until it is closed. See the table above.
    pub fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        let bdev = &self.shared.bdev;
        let mut control = bdev.control();
        let own = control.index_of(self.shared.id);
        let shared = matches!(claim, Claim::ReadManyWriteNone | Claim::ReadManyWriteShared(_));
        let held_by_others =
            control.descs.iter().any(|desc| desc.id != self.shared.id && desc.claim != Claim::None);
        if held_by_others && !(shared && control.claim == claim) {
            let (bdev, claim) = (bdev.name().to_owned(), control.claim);
            return Err(ClaimError::Claimed { bdev, holder: control.claim_holder(), claim });
        }
        let unclaimed_writer = |desc: &&DescInfo| {
            desc.id != self.shared.id && desc.mode == Mode::Write && desc.claim == Claim::None
        };
        if let Some(writer) = control.descs.iter().find(unclaimed_writer) {
            let (bdev, writer) = (bdev.name().to_owned(), writer.opener.to_string());
            return Err(ClaimError::OpenForWriting { bdev, writer });
        }
        control.descs[own].claim = claim;
        control.claim = claim;
        Ok(())
    }

    /// Opens an io channel on the reactor of `cx`.
    pub fn open_channel(&self, cx: &mut Cx) -> Result<IoChannel, OpenError> {
        self.open_channel_with(cx, None)
    }

    /// As [`Desc::open_channel`]; IO in flight for longer than `timeout` is reported as an event.
    pub fn open_channel_with(&self, cx: &mut Cx, timeout: Option<Duration>) -> Result<IoChannel, OpenError> {
        let bdev = &self.shared.bdev;
        if bdev.is_removed() {
            return Err(OpenError::Removed(bdev.name().to_owned()));
        }
        let channel = |why| OpenError::Channel { bdev: bdev.name().to_owned(), why };
        let module = bdev.device().open_channel(cx).map_err(channel)?;
        let may_write = self.shared.may_write();
        Ok(IoChannel::new(cx, self.shared.clone(), module, may_write, timeout))
    }
}

impl DescShared {
    fn may_write(&self) -> bool {
        let control = self.bdev.control();
        let claim = control.descs[control.index_of(self.id)].claim;
        claim.lets_its_holder_write() && (self.mode == Mode::Write || claim != Claim::None)
    }
}

impl Drop for DescShared {
    fn drop(&mut self) {
        let mut control = self.bdev.control();
        control.descs.retain(|desc| desc.id != self.id);
        control.claim =
            control.descs.iter().map(|desc| desc.claim).find(|c| *c != Claim::None).unwrap_or_default();
        drop(control);
        self.bdev.desc_closed();
    }
}

impl Control {
    fn index_of(&self, id: u64) -> usize {
        self.descs.iter().position(|desc| desc.id == id).expect("a desc is listed while it lives")
    }

    fn claim_holder(&self) -> String {
        let holder = self.descs.iter().find(|desc| desc.claim != Claim::None);
        holder.map_or_else(String::new, |desc| desc.opener.to_string())
    }
}
