//! RMR wire and on-disk formats.
//!
//! # What it is and is not
//! Identities, units, epochs, the messages of the replication protocol and the metadata of a store, with their bytes.
//! Pure functions over `&[u8]`: no IO, no state, no decisions (those are `rmr-engine`'s).
//!
//! # Words
//! *pool*, *member*, *incarnation*, *chunk*, *region*, *promise*, *epoch*, *set*, *missed*, *suspect*: as in
//! `docs/100-replication-contract.md`.
//!
//! # Who may call it
//! Anyone, on any thread.
//!
//! # Invariants
//! * Decoding never panics and never trusts a length, index or enum from outside: `decode` gives a value or a
//!   [`FormatError`] that names field, value and what is accepted.
//! * What `encode` writes, `decode` reads back equal; golden files are read for ever.
//! * Every raw struct has its size and offsets asserted at compile time and written in
//!   `docs/101-replication-protocol.md`; a test compares the two.
//!
//! # Map of files
//! `ids` identities and units · `geometry` blocks, chunks, regions · `epoch` promise, epoch, record · `msg` messages as
//! the engine sees them · `envelope` what sessions carry them in · `raw` the structs byte for byte · `wire` messages to bytes and back · `disk` superblock,
//! pages, journal record · `convert` raw to typed and back · `error`.
//!
//! # Where the tests are
//! `tests/`: round trips, golden files, mutilated bytes, the tables of the docs.

mod convert;
pub mod disk;
pub mod envelope;
mod epoch;
mod error;
mod geometry;
mod ids;
mod msg;
pub mod raw;
pub mod wire;

pub use epoch::{Epoch, EpochRecord, Origin, Promise, RegionMisses, Stamp};
pub use error::FormatError;
pub use geometry::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, DEVICE_BYTES_MAX, Geometry, MAP_BYTES_PER_TIB_MAX, REGION_BYTES,
};
pub use ids::{
    BlockRange, BufId, ChunkBits, ChunkNo, Incarnation, MEMBERS_MAX, MemberId, MemberSet, PoolId, RegionNo,
    Seq,
};
pub use msg::{
    Continuity, IoOp, IoReply, IoRequest, IoStatus, MapSlice, Msg, NoCopy, Proposal, Report, SuspectRegion,
    Tag,
};

/// CRC32C (Castagnoli), the checksum of everything here.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
