//! Messages as the engine sees them; `wire` gives them bytes.

use crate::{
    BlockRange, BufId, ChunkBits, ChunkNo, Epoch, EpochRecord, Incarnation, MEMBERS_MAX, MemberId, MemberSet,
    Origin, Promise, RegionMisses, RegionNo, Seq, Stamp,
};

/// Finds the client's slot again, and tells one sending of a request from another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tag {
    /// Slot in the client.
    pub slot: u32,
    /// Number of the sending.
    pub sending: u32,
}

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum IoOp {
    /// Read a range.
    #[default]
    Read,
    /// Write a range.
    Write,
    /// Write, durable before the answer.
    WriteFua,
    /// Zero a range; with `unmap` the store may give the space back if it then reads zero.
    Zero {
        /// May give space back.
        unmap: bool,
    },
    /// Everything answered before is durable afterwards.
    Flush,
}

impl IoOp {
    /// Does it change the device?
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::WriteFua | Self::Zero { .. })
    }
}

/// A request of the client to one leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct IoRequest {
    /// Accepted only in exactly this epoch.
    pub epoch: Epoch,
    /// Given back with the answer.
    pub tag: Tag,
    /// Counts requests to this leg in this epoch: a second copy never executes.
    pub number: u64,
    /// What to do.
    pub op: IoOp,
    /// Where.
    pub range: BlockRange,
    /// Order among writes of the generation; 0 for reads and flushes.
    pub seq: Seq,
    /// Every leg of the set has answered all writes up to here.
    pub answered: Seq,
    /// … and flushed them.
    pub flushed: Seq,
    /// A leg that is clean there has executed this write: execute it on chunks that you have missed, too.
    pub proved: bool,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum IoStatus {
    /// Executed.
    #[default]
    Done,
    /// Not executed: this leg has missed some chunk of the range.
    NotClean,
    /// The disk failed.
    DiskError,
    /// Not executed: not the epoch of this leg, or a change of epoch is under way.
    WrongEpoch,
    /// Not executed: a newer client has the promise.
    Fenced,
    /// Not executed: the leg is not in the set since it was opened.
    NotServing,
}

/// Why a chunk is not handed over to a peer that wants to copy it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NoCopy {
    /// Not in this epoch yet, or too much to do: to be asked again.
    #[default]
    NotNow,
    /// It is not clean here.
    Unclean,
    /// The disk could not read it.
    Unreadable,
}

/// Answer to an [`IoRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct IoReply {
    /// Epoch of the request.
    pub epoch: Epoch,
    /// Tag of the request.
    pub tag: Tag,
    /// How it ended.
    pub status: IoStatus,
    /// Writes: bit n = the n-th chunk of the range is not durably clean here.
    pub missed: u64,
    /// Chunks of the device that this leg has missed, 0 = clean everywhere; a hint for the read policy.
    pub dirty_chunks: u64,
    /// More live intent entries than the leg wants: please flush.
    pub pressure: bool,
    /// Metadata counter of the leg.
    pub counter: u64,
}

/// A live intent entry in a [`Report`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SuspectRegion {
    /// Which region.
    pub region: RegionNo,
    /// Chunks that may differ: those written while the recorder lived, else the whole region.
    pub written: ChunkBits,
    /// Chunks written in the adopted epoch: every member outside its set has missed them.
    pub proved: ChunkBits,
}

/// How much of what a store held may be gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Continuity {
    /// Never closed since it was last in the set.
    Unbroken,
    /// The process died, the host did not: the disk has all it was given.
    SameBoot,
    /// The host lost power or a flush failed: what was not flushed may be gone.
    #[default]
    Broken,
}

/// State of a store, given with a promise: no request of an older promise executes after it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Report {
    /// The promise answered.
    pub promise: Promise,
    /// The epoch record, with the promise in it.
    pub record: EpochRecord,
    /// Which disk.
    pub incarnation: Incarnation,
    /// Its data area read zero when it was made.
    pub zeroed: bool,
    /// Blocks that it has room for.
    pub capacity: u64,
    /// Chunks not clean on it.
    pub dirty_chunks: u64,
    /// What may be gone.
    pub continuity: Continuity,
    /// Regions with a live intent entry or suspect chunks, ascending.
    pub suspects: Vec<SuspectRegion>,
    /// Where the list goes on, if one message does not hold it; asked for with [`Msg::SuspectPull`].
    pub next: Option<RegionNo>,
}

/// A set proposed for adoption.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Proposal {
    /// Its epoch: proposed once.
    pub epoch: Epoch,
    /// How it came to be.
    pub origin: Origin,
    /// First epoch of a pool: all of its stores read zero, so nobody has missed anything.
    pub zeroed: bool,
    /// Members up to date.
    pub set: MemberSet,
    /// All members of the pool.
    pub members: MemberSet,
    /// Blocks of the device.
    pub blocks: u64,
    /// The device grows: this member's contents count in the last chunk, if it was cut, and in all new ones.
    pub reference: Option<MemberId>,
    /// Last active epoch.
    pub base: Epoch,
    /// What is known of each member's disk.
    pub peers: [Stamp; MEMBERS_MAX],
    /// Members in maintenance.
    pub resting: MemberSet,
    /// By member: newest epoch of this history in whose set it was.
    pub last_in: [Epoch; MEMBERS_MAX],
    /// Adopts only if every chunk is durably clean there, and is asked before the others: who leaves may be wiped.
    pub keeper: Option<MemberId>,
    /// Assembly by force: of the chunks that a verdict settles, members of the set have missed exactly what it says.
    pub forced: bool,
    /// Assembly: marks that settle every suspect chunk.
    pub verdicts: Vec<RegionMisses>,
    /// So many [`Msg::Verdicts`] have gone ahead, because one message does not hold them.
    pub parts: u32,
}

/// A slice of a donor's maps for a joiner.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MapSlice {
    /// Active epoch of the donor.
    pub epoch: Epoch,
    /// Of the pull.
    pub attempt: u64,
    /// The donor's change counter when it cut the slice.
    pub at: u64,
    /// First region of this slice.
    pub cursor: RegionNo,
    /// Where the next slice begins; `None` = this was the last.
    pub next: Option<RegionNo>,
    /// The joiner's disk is not the one the donor knew, or went back in time: it has missed everything.
    pub all_missed: bool,
    /// Regions, ascending.
    pub regions: Vec<RegionMisses>,
}

/// Everything that goes between engines. A payload travels as a [`BufId`] of the driver on either side.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Msg {
    /// Client: promise me this, refuse everything older, tell me your state.
    Promise {
        /// Wanted.
        promise: Promise,
        /// Even though another client's lease lives.
        takeover: bool,
    },
    /// Store: promised.
    Promised(Box<Report>),
    /// Store: a greater promise stands, or a lease lives.
    Refused {
        /// What was asked.
        asked: Promise,
        /// What stands.
        stands: Promise,
        /// Nanoseconds for which the lease of its holder lives; 0 = none.
        lease_ns: u64,
    },
    /// Client: which chunks of these regions have you missed yourself?
    Query {
        /// Of the assembly.
        promise: Promise,
        /// Regions, ascending.
        regions: Vec<RegionNo>,
    },
    /// Store: what it has missed itself, and what is suspect, of the regions asked that have any.
    QueryReply {
        /// Of the assembly.
        promise: Promise,
        /// All that the sender records; of itself, what is suspect stands apart.
        misses: Vec<RegionMisses>,
    },
    /// Client: more of the suspect regions, please.
    SuspectPull {
        /// Of the assembly.
        promise: Promise,
        /// First region wanted.
        cursor: RegionNo,
    },
    /// Store: more of them.
    Suspects {
        /// Of the assembly.
        promise: Promise,
        /// Of the question.
        cursor: RegionNo,
        /// Where the list goes on; `None` = this was the last.
        next: Option<RegionNo>,
        /// Ascending.
        suspects: Vec<SuspectRegion>,
    },
    /// Client: verdicts that belong to a proposal still to come.
    Verdicts {
        /// Of the proposal.
        epoch: Epoch,
        /// Number of the part, from 0.
        part: u32,
        /// As in [`Proposal`].
        verdicts: Vec<RegionMisses>,
    },
    /// Store: has them.
    VerdictsAck {
        /// Of the part.
        epoch: Epoch,
        /// Of the part.
        part: u32,
    },
    /// Client: adopt this set.
    Adopt(Box<Proposal>),
    /// Store: adopted, durably.
    Adopted {
        /// Which.
        epoch: Epoch,
        /// Metadata counter.
        counter: u64,
    },
    /// Store: cannot adopt (not promised since it was opened, not in the set since then, …).
    AdoptRefused {
        /// Which.
        epoch: Epoch,
    },
    /// Client: fetch the maps of these members (`last` = under the freeze: only what changed).
    Join {
        /// Active epoch.
        epoch: Epoch,
        /// Members to fetch from.
        set: MemberSet,
        /// Number of the attempt.
        attempt: u64,
        /// Under the freeze.
        last: bool,
        /// The joiner has missed everything: what it took for clean, it did in another history.
        anew: bool,
        /// Blocks of the device.
        blocks: u64,
    },
    /// Joiner: maps fetched and durable.
    JoinReady {
        /// Its disk.
        stamp: Stamp,
        /// Active epoch.
        epoch: Epoch,
        /// Number of the attempt.
        attempt: u64,
        /// Under the freeze.
        last: bool,
    },
    /// Client: a request; writes carry a payload.
    Io(IoRequest, Option<BufId>),
    /// Store: its answer; reads carry a payload.
    IoReply(IoReply, Option<BufId>),
    /// Client: still here.
    Beat {
        /// Active epoch.
        epoch: Epoch,
        /// As in [`IoRequest`].
        answered: Seq,
        /// As in [`IoRequest`].
        flushed: Seq,
        /// Metadata counters of the members, as last heard.
        counters: [u64; MEMBERS_MAX],
    },
    /// Store: heard.
    BeatReply {
        /// Epoch of the beat.
        epoch: Epoch,
        /// Is the store in the set and serving?
        serving: bool,
        /// As in [`IoReply`].
        dirty_chunks: u64,
        /// As in [`IoReply`].
        pressure: bool,
        /// Some chunk is suspect here and clean nowhere in the set.
        stuck: bool,
        /// As in [`IoReply`].
        counter: u64,
    },
    /// Joiner to donor: next slice please.
    MapPull {
        /// Active epoch.
        epoch: Epoch,
        /// Number of the attempt.
        attempt: u64,
        /// The joiner's disk, as it was when opened.
        stamp: Stamp,
        /// Only regions changed after this count of the donor; 0 = all.
        since: u64,
        /// First region wanted.
        cursor: RegionNo,
    },
    /// Donor to joiner.
    MapSlice(Box<MapSlice>),
    /// Target to source: read this chunk for me.
    CopyRead {
        /// Both must be in it.
        epoch: Epoch,
        /// Number of the copy.
        copy: u64,
        /// Which chunk.
        chunk: ChunkNo,
    },
    /// Source to target; no payload = refused.
    CopyReply {
        /// Of the request.
        epoch: Epoch,
        /// Of the request.
        copy: u64,
        /// Last write into the chunk's region that the source has executed, or begun: the bytes may have it.
        last: Seq,
        /// Why it was refused, if it was.
        why: NoCopy,
        /// The chunk's bytes.
        buf: Option<BufId>,
    },
    /// Client: what is the checksum of this chunk on your disk? Nothing is in flight there.
    Check {
        /// Active epoch.
        epoch: Epoch,
        /// Of the scrub.
        tag: Tag,
        /// Which chunk.
        chunk: ChunkNo,
    },
    /// Store: its answer; only `Done` brings a checksum.
    Checked {
        /// Of the request.
        epoch: Epoch,
        /// Of the request.
        tag: Tag,
        /// How it ended.
        status: IoStatus,
        /// CRC32C of the chunk's bytes.
        crc: u32,
    },
    /// Client: your bytes of this chunk are wrong, others hold them right. Nothing is in flight there.
    Repair {
        /// Active epoch.
        epoch: Epoch,
        /// Of the scrub.
        tag: Tag,
        /// As in [`IoRequest`]: a second copy does nothing.
        number: u64,
        /// As in [`IoRequest`].
        answered: Seq,
        /// Which chunk.
        chunk: ChunkNo,
    },
    /// Store: `Done` = the chunk is marked as missed here, durably; the copy follows by itself.
    Repaired {
        /// Of the request.
        epoch: Epoch,
        /// Of the request.
        tag: Tag,
        /// How it ended.
        status: IoStatus,
    },
    /// To peers of the set: I hold these chunks, durably.
    Cleared {
        /// The sender's epoch.
        epoch: Epoch,
        /// Region of the chunks.
        region: RegionNo,
        /// Chunks.
        chunks: ChunkBits,
    },
    /// Answer to [`Msg::Cleared`].
    ClearedAck {
        /// Of the message.
        epoch: Epoch,
        /// Of the message.
        region: RegionNo,
        /// Of the message.
        chunks: ChunkBits,
    },
}
