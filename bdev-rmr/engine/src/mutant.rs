//! Test-only switches that bring old mistakes back, one at a time. In a build without the `mutants` feature
//! [`Mutant::on`] is constant false and the switches are gone.

/// A mistake that can be brought back. Named for what is left out or done wrongly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Mutant {
    /// Executes a write before its intent entry is durable (H1, H2, H22).
    WriteBeforeIntent = 1,
    /// Ignores that a metadata write failed (H3).
    IgnoreMetaError,
    /// A request is executed whatever its epoch (H4, H9, H10).
    AnyEpoch,
    /// A promise equal to the one given is given again to another client (H5, H26).
    PromiseNotStrict,
    /// A clear is accepted from any epoch (H7, H8).
    ClearFromAnyEpoch,
    /// A source does not look whether its chunk is clean (H9).
    DirtySource,
    /// All legs failing a write ends it; nothing is assembled again (H11).
    NoReassembly,
    /// Zeroes are not recorded as writes (H12).
    ZeroesUntracked,
    /// The last chunk is not clamped to the device (H18).
    NoClamp,
    /// A copied chunk is called clean before it is flushed (H19).
    ClearBeforeFlush,
    /// A store goes on in the same epoch after it was opened (H20, finding 4).
    ServeAfterOpen,
    /// A failed flush changes nothing (H21).
    FlushErrorIgnored,
    /// A write is acknowledged although a leg has not answered (H4).
    AckOnFirst,
    /// A request delivered twice executes twice (H25).
    NoDedup,
    /// A promise does not wait for requests on the disk (H25, finding 5).
    NoDrain,
    /// A promise or adoption does not flush (finding 7b).
    NoFenceFlush,
    /// Overlapping requests run together (H27).
    NoOverlapOrder,
    /// A disk that went back in time is believed (H45).
    BelieveOldImage,
    /// A set is proposed that is not contained in the one before (finding 2).
    DisjointProposal,
    /// An answer to an earlier sending ends a request (finding 5).
    AnySendingAnswers,
    /// Any member serves as the source of a suspect chunk (finding 7a).
    IgnoreContinuity,
    /// Entries are removed at a start without a verdict (finding 1a, H22).
    NoVerdict,
    /// Entries are cleared without marks against outsiders (finding 1b).
    ClearWithoutMarks,
    /// Entries are cleared when answered, not flushed (H20).
    ClearUnflushed,
    /// A joiner forgets its own marks (finding 8b, H15).
    JoinerForgetsOwn,
    /// A joiner drops its own entries without a mark (finding 8b).
    JoinerDropsEntries,
    /// After an abandoned join IO goes on in the old epoch (finding 8a).
    AbandonWithoutEpoch,
    /// An entry counts against chunks its holder missed itself (finding 9).
    EntryAgainstClean,
    /// A copy does not wait until writes are answered by all legs (finding 11).
    NoHorizon,
    /// A joiner takes no delta under the freeze (H4, H36).
    NoDelta,
    /// A join does not freeze (H35).
    NoFreeze,
    /// Writes do not wait for a copy of their chunk (H24).
    NoChunkLock,
    /// A partly written chunk counts as clean (H31).
    PartialWriteCleans,
    /// A new pool calls every store clean (rule N).
    FreshIsClean,
    /// Adopting a smaller set leaves the bitmaps where they are, in RAM (finding 1a).
    ShrinkWithoutMarks,
    /// Ignores misses in reads (H1).
    ReadMissed,
    /// A store calls a copied chunk clean before its peers know.
    ClearUntold,
    /// Home pages are not written again after a replay (rule D).
    ForgetReplay,
    /// A write is executed on chunks that its leg missed although no clean leg has it.
    ExecuteUnproved,
    /// A write that only some legs hold clean is not flushed there.
    NoFlushOfProved,
    /// What a member that leaves has not seen counts, what who was outside has not seen does not.
    OnlyLeaversMarked,
    /// A joiner is let in although a donor called chunks clean after its last word.
    StaleLastWord,
    /// A joiner's suspect chunks count as clean where nobody in the set is.
    UnsuspectAtJoin,
    /// A chunk is copied without an entry for what came along with it.
    CopyWithoutEntry,
    /// What is heard of peers' disks is written down only with something else (H45).
    PeersWithTheRest,
    /// A store does not record in which epoch it wrote (finding 13).
    WroteUnrecorded,
    /// A store that the pool does not name is let in because the client's configuration does.
    JoinStrangers,
    /// The last copy may be removed (H28).
    RemoveLastCopy,
    /// A start forgets who is in maintenance (H32).
    RestForgotten,
    /// Whose disk is given up is still known by its stamp (H39).
    KeepStamp,
    /// A member that wrote in another history is let in (finding 13).
    JoinForeign,
    /// A start forgets in which epoch outsiders were last in the set.
    ForgetLastIn,
    /// Another disk is let in although nobody in the set holds everything (H39).
    VoidLastCopy,
    /// A start by force takes whoever is named, stale or not.
    ForceStale,
    /// What a start by force decided does not count against members that are elsewhere.
    GivenUpElsewhere,
    /// The other side of a split brain, once given up, still counts for what it held.
    AcceptBoth,
    /// A stale chunk is marked before the writes executed on it were answered by all legs (finding 11).
    MarkBeforeHorizon,
    /// A write that covers only a part of a missed chunk cleans it (H31, finding 16).
    PartOverwriteCleans,
    /// A leg that cannot read leaves the set although no other is whole.
    EjectTheLast,
    /// A scrub does not wait for requests on its chunk.
    ScrubWithoutLanes,
    /// A scrub repairs whoever differs from the leg of the lowest id.
    ScrubBelievesFirst,
    /// An assembly settles the first piece of the suspect regions only.
    FirstPieceOnly,
    /// An answer about other regions than those asked about now counts.
    AnyBatch,
    /// A joiner's own entries count against members that have left since.
    JoinerSettlesEntries,
    /// One store that reads zero makes a new pool start clean (rule N).
    ZeroedByOne,
    /// What is new after a growth counts as clean everywhere.
    GrowWithoutMarks,
    /// The chunk that was cut by the old end counts as clean everywhere.
    GrowWithoutCutChunk,
    /// A client that serves one history starts the next generation from another that is newer.
    SwitchSides,
    /// A client that serves starts the next generation from an epoch that is older than its own.
    GoBack,
    /// What only a leg that has left executed is taken for executed by nobody.
    NobodyElse,
    /// What a store took for clean in another history counts in this one.
    TrustDecided,
    /// A client that comes back looks only for those who were members when it served.
    AskTheOldOnes,
    /// What a store says of others counts although it had begun to forget it.
    VoidIsKnown,
    /// What a disk said of itself in an epoch that is over counts for the one in its place (H45).
    AnyCounter,
    /// An empty or older disk adopts a start that was settled with the reports of the one before it.
    AnyDisk,
    /// Whatever becomes dirty where once nobody could deliver a suspect chunk counts as stuck.
    StuckForGood,
    /// Who has not answered, or is not in the epoch yet, counts as not having a chunk: the pool starts a new generation.
    SilenceIsUnclean,
    /// That a suspect copy lost its cache is forgotten when it is let in again.
    LossForgotten,
    /// Of a donor that has changed nothing since it was opened a joiner fetches everything again under the freeze.
    DeltaOfAll,
    /// A scrub says nothing of what the one before it had in hand.
    ScrubForgetsHand,
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<u8> = const { Cell::new(0) };
    }

    impl Mutant {
        /// Is this mistake switched on, on this thread?
        pub fn on(self) -> bool {
            ACTIVE.with(|active| active.get() == self as u8)
        }

        /// Switches one mistake on for this thread, or all off.
        pub fn activate(mutant: Option<Self>) {
            ACTIVE.with(|active| active.set(mutant.map_or(0, |m| m as u8)));
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl Mutant {
    /// Never, in this build.
    pub const fn on(self) -> bool {
        false
    }
}

impl Mutant {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::WriteBeforeIntent,
        Self::IgnoreMetaError,
        Self::AnyEpoch,
        Self::PromiseNotStrict,
        Self::ClearFromAnyEpoch,
        Self::DirtySource,
        Self::NoReassembly,
        Self::ZeroesUntracked,
        Self::NoClamp,
        Self::ClearBeforeFlush,
        Self::ServeAfterOpen,
        Self::FlushErrorIgnored,
        Self::AckOnFirst,
        Self::NoDedup,
        Self::NoDrain,
        Self::NoFenceFlush,
        Self::NoOverlapOrder,
        Self::BelieveOldImage,
        Self::DisjointProposal,
        Self::AnySendingAnswers,
        Self::IgnoreContinuity,
        Self::NoVerdict,
        Self::ClearWithoutMarks,
        Self::ClearUnflushed,
        Self::JoinerForgetsOwn,
        Self::JoinerDropsEntries,
        Self::AbandonWithoutEpoch,
        Self::EntryAgainstClean,
        Self::NoHorizon,
        Self::NoDelta,
        Self::NoFreeze,
        Self::NoChunkLock,
        Self::PartialWriteCleans,
        Self::FreshIsClean,
        Self::ShrinkWithoutMarks,
        Self::ReadMissed,
        Self::ClearUntold,
        Self::ForgetReplay,
        Self::ExecuteUnproved,
        Self::NoFlushOfProved,
        Self::OnlyLeaversMarked,
        Self::StaleLastWord,
        Self::UnsuspectAtJoin,
        Self::CopyWithoutEntry,
        Self::PeersWithTheRest,
        Self::WroteUnrecorded,
        Self::JoinStrangers,
        Self::RemoveLastCopy,
        Self::RestForgotten,
        Self::KeepStamp,
        Self::JoinForeign,
        Self::ForgetLastIn,
        Self::VoidLastCopy,
        Self::ForceStale,
        Self::GivenUpElsewhere,
        Self::AcceptBoth,
        Self::MarkBeforeHorizon,
        Self::PartOverwriteCleans,
        Self::EjectTheLast,
        Self::ScrubWithoutLanes,
        Self::ScrubBelievesFirst,
        Self::FirstPieceOnly,
        Self::AnyBatch,
        Self::JoinerSettlesEntries,
        Self::ZeroedByOne,
        Self::GrowWithoutMarks,
        Self::GrowWithoutCutChunk,
        Self::SwitchSides,
        Self::GoBack,
        Self::NobodyElse,
        Self::TrustDecided,
        Self::VoidIsKnown,
        Self::AskTheOldOnes,
        Self::AnyCounter,
        Self::AnyDisk,
        Self::StuckForGood,
        Self::SilenceIsUnclean,
        Self::LossForgotten,
        Self::DeltaOfAll,
        Self::ScrubForgetsHand,
    ];
}
