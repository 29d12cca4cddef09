//! What goes into a store and what comes out; words shared with the client side.

use rmr_proto::{BlockRange, BufId, FormatError, MemberId, Msg};

/// Nanoseconds from a start that the driver chose.
pub type Now = u64;

/// The caller's name for one of its requests.
pub type UserTag = u64;

/// Who is at the other end of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Party {
    /// A compute client, by the driver's number of its session.
    Client(u32),
    /// A storage node.
    Member(MemberId),
}

/// Names an operation of a store on its disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DiskOp {
    /// For the request in this slot.
    Request(u32),
    /// Drains the cache before a promise or an adoption.
    Fence,
    /// Metadata.
    Meta,
    /// Data of a copy.
    Copy(u64),
    /// Makes a copy durable.
    CopyFlush(u64),
    /// Reads a chunk for a peer, by slot.
    Source(u32),
    /// Takes the checksum of a chunk for a scrub, by slot.
    Check(u32),
}

/// Something happened to a store.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StoreEvent {
    /// A message came.
    Msg(Party, Msg),
    /// The disk is done; reads hand their buffer over.
    Disk {
        /// Which operation.
        op: DiskOp,
        /// Did it succeed?
        ok: bool,
        /// Reads: the bytes.
        buf: Option<BufId>,
    },
    /// The answer to [`StoreAction::Checksum`].
    Checksum {
        /// Which operation.
        op: DiskOp,
        /// CRC32C of the range; `None` = the disk could not read it.
        crc: Option<u32>,
    },
    /// Time has passed.
    Tick,
}

/// What a store wants done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StoreAction {
    /// Send this; a payload goes with it and its buffer back to the driver.
    Send(Party, Msg),
    /// Write a range, or zero it if `buf` is `None`. The buffer goes back to the driver when done.
    Write {
        /// Names it.
        op: DiskOp,
        /// Where.
        range: BlockRange,
        /// What; `None` = zeroes.
        buf: Option<BufId>,
        /// Durable before done.
        fua: bool,
        /// Zeroes may give space back.
        unmap: bool,
    },
    /// Read a range into a buffer of the driver.
    Read {
        /// Names it.
        op: DiskOp,
        /// Where.
        range: BlockRange,
    },
    /// Read a range from the medium, past every cache, and tell its CRC32C by [`StoreEvent::Checksum`].
    Checksum {
        /// Names it.
        op: DiskOp,
        /// Where.
        range: BlockRange,
    },
    /// Make durable what is done.
    Flush {
        /// Names it.
        op: DiskOp,
    },
    /// Write metadata, durable before done. Several may be under way at a time; they do not overlap, and may end in any
    /// order.
    MetaWrite {
        /// Bytes from the start of the metadata area.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A buffer that came with a message is not needed.
    Release(BufId),
}

/// Why a request of the caller failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum IoError {
    /// The deadline passed. A write may or may not have happened, and does not happen any more once a later request on
    /// the same blocks has ended.
    #[error("the deadline of the request passed")]
    Deadline,
    /// A newer client has the pool.
    #[error("another client has taken the pool over")]
    Fenced,
    /// No leg could read it.
    #[error("every up-to-date leg failed to read the range")]
    Unreadable,
    /// Not inside the device, or too large.
    #[error("the range is outside the device or larger than one request may be")]
    BadRange,
}

/// How a request of the caller ended.
pub type Completion = Result<(), IoError>;

/// How fast chunks are copied. Can be changed while the store runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ResyncLimits {
    /// Never faster, bytes a second; 0 = no limit.
    pub bytes_per_sec: u64,
    /// Not slower because of clients, bytes a second (of what the disks and peers give).
    pub min_bytes_per_sec: u64,
    /// Share of the time that copies may take while clients are busy, per cent, 1 to 100; one chunk at a time then.
    pub busy_share_pct: u8,
    /// Clients are busy until this long after their last request, ns.
    pub busy_ns: Now,
}

impl Default for ResyncLimits {
    fn default() -> Self {
        Self { bytes_per_sec: 0, min_bytes_per_sec: 8 << 20, busy_share_pct: 25, busy_ns: 20_000_000 }
    }
}

/// Knobs of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StoreConfig {
    /// Room for one journal record, bytes, a multiple of 4096.
    pub journal_bytes: u64,
    /// How often [`StoreEvent::Tick`] is wanted, ns.
    pub tick_ns: Now,
    /// An intent entry not used for this long may be cleared, ns.
    pub intent_idle_ns: Now,
    /// Live entries are kept at about this number: from three quarters of it on the least recently used are cleared, and
    /// the client is asked for flushes so that they can be.
    pub intents_soft_max: usize,
    /// With four times as many, a write that needs another waits this long for one to be cleared, ns; less than what
    /// the client waits for a leg.
    pub intent_wait_ns: Now,
    /// Chunks copied at a time.
    pub resync_depth: usize,
    /// How fast chunks are copied.
    pub resync: ResyncLimits,
    /// A peer that has not answered after this is asked again or passed over, ns.
    pub peer_timeout_ns: Now,
    /// A client not heard for this long has no lease, ns.
    pub lease_ns: Now,
    /// Suspect regions in one message; at most [`rmr_proto::wire::LIST_MAX`].
    pub report_suspects: usize,
    /// Regions in one slice of a map.
    pub slice_regions: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        const MS: Now = 1_000_000;
        Self {
            journal_bytes: 1 << 20,
            tick_ns: 10 * MS,
            intent_idle_ns: 1_000 * MS,
            intents_soft_max: 1024,
            intent_wait_ns: 50 * MS,
            resync_depth: 4,
            resync: ResyncLimits::default(),
            peer_timeout_ns: 200 * MS,
            lease_ns: 1_500 * MS,
            report_suspects: rmr_proto::wire::LIST_MAX as usize,
            slice_regions: 256,
        }
    }
}

/// Why a store cannot be opened. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Its metadata cannot be read; what it missed is unknown, so it counts as having missed everything.
    #[error("metadata cannot be used: {0}")]
    Format(#[from] FormatError),
    /// The area is smaller than the layout needs.
    #[error("metadata area is {got} bytes, {need} are needed")]
    Area {
        /// Given.
        got: u64,
        /// Needed.
        need: u64,
    },
}
