//! The structs that travel and that lie on disk, byte for byte. `docs/101-replication-protocol.md` holds the same
//! tables; a test compares them. All integers are little-endian; reserved bytes are zero.

use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Declares a wire struct, checks its size at compile time and lists its fields for the test of the docs.
macro_rules! raw {
    ($(#[$meta:meta])* $name:ident: $size:literal { $($(#[$fmeta:meta])* $field:ident: $ty:ty = $offset:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name { $(
            $(#[$fmeta])*
            #[doc = concat!("`", stringify!($field), "`, at byte ", stringify!($offset), ".")]
            pub $field: $ty,
        )* }
        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(offset_of!($name, $field) == $offset);)*
        impl $name {
            /// Name, offset and size of every field.
            pub const FIELDS: &'static [(&'static str, usize, usize)] =
                &[$((stringify!($field), offset_of!($name, $field), size_of::<$ty>()),)*];
            /// Bytes.
            pub const SIZE: usize = $size;
        }
    };
}

raw! {
    /// Before every message.
    RawHeader: 40 {
        /// `RMR1`.
        magic: U32 = 0,
        /// Version of this protocol.
        version: U16 = 4,
        /// Kind of message.
        kind: U16 = 6,
        /// Bytes after the header, without payload.
        length: U32 = 8,
        /// CRC32C of header (with this field zero) and body.
        crc: U32 = 12,
        /// Pool UUID.
        pool: [u8; 16] = 16,
        /// Elements in the list after the fixed part.
        count: U32 = 32,
        /// Flags of the kind.
        flags: U32 = 36,
    }
}
raw! {
    /// A promise.
    RawPromise: 16 { generation: U64 = 0, nonce: U64 = 8, }
}
raw! {
    /// An epoch.
    RawEpoch: 24 { generation: U64 = 0, nonce: U64 = 8, version: U64 = 16, }
}
raw! {
    /// What is known of a member's disk.
    RawStamp: 16 { incarnation: U64 = 0, counter: U64 = 8, }
}
raw! {
    /// The epoch record: in the journal, on its home page and in reports.
    RawEpochRecord: 464 {
        promise: RawPromise = 0,
        adopted: RawEpoch = 16,
        base: RawEpoch = 40,
        boot: U64 = 64,
        counter: U64 = 72,
        origin: u8 = 80,
        origin_member: u8 = 81,
        set: u8 = 82,
        members: u8 = 83,
        resting: u8 = 84,
        learning: u8 = 85,
        reserved: [u8; 2] = 86,
        blocks: U64 = 88,
        peers: [RawStamp; 8] = 96,
        wrote: RawEpoch = 224,
        last_in: [RawEpoch; 8] = 248,
        decided: RawEpoch = 440,
    }
}
raw! {
    /// Misses of one region: on map pages, in the journal, in proposals and slices.
    RawRegionMisses: 168 { region: U64 = 0, missed: [U128; 8] = 8, suspect: U128 = 136, lost: U128 = 152, }
}
raw! {
    /// A region and some of its chunks.
    RawRegionChunks: 24 { region: U64 = 0, chunks: U128 = 8, }
}
raw! {
    /// A live intent entry in a report.
    RawSuspect: 40 { region: U64 = 0, written: U128 = 8, proved: U128 = 24, }
}
raw! {
    /// What every request of the replication service begins with: docs/120.
    RawEnvelope: 32 {
        /// `RMRL`.
        magic: U32 = 0,
        kind: u8 = 4,
        from: u8 = 5,
        status: U16 = 6,
        length: U32 = 8,
        to: u8 = 12,
        reserved: [u8; 3] = 13,
        sender: U64 = 16,
        reserved_end: [u8; 8] = 24,
    }
}
raw! {
    /// A request.
    RawIo: 88 {
        epoch: RawEpoch = 0,
        slot: U32 = 24,
        sending: U32 = 28,
        number: U64 = 32,
        first: U64 = 40,
        seq: U64 = 48,
        answered: U64 = 56,
        flushed: U64 = 64,
        count: U32 = 72,
        op: u8 = 76,
        proved: u8 = 77,
        reserved: [u8; 10] = 78,
    }
}
raw! {
    /// An answer.
    RawIoReply: 64 {
        epoch: RawEpoch = 0,
        slot: U32 = 24,
        sending: U32 = 28,
        missed: U64 = 32,
        dirty_chunks: U64 = 40,
        counter: U64 = 48,
        status: u8 = 56,
        pressure: u8 = 57,
        reserved: [u8; 6] = 58,
    }
}
raw! {
    /// The fixed part of every other message; each kind uses the fields it names in the docs.
    RawControl: 144 {
        epoch: RawEpoch = 0,
        promise: RawPromise = 24,
        a: U64 = 40,
        b: U64 = 48,
        c: U64 = 56,
        d: U64 = 64,
        set: u8 = 72,
        members: u8 = 73,
        origin: u8 = 74,
        origin_member: u8 = 75,
        small: U32 = 76,
        counters: [U64; 8] = 80,
    }
}
raw! {
    /// First block of a store, twice.
    RawSuperblock: 128 {
        /// `RMRSTORE`.
        magic: [u8; 8] = 0,
        version: U32 = 8,
        /// CRC32C of all 128 bytes with this field zero.
        crc: U32 = 12,
        pool: [u8; 16] = 16,
        incarnation: U64 = 32,
        blocks: U64 = 40,
        block_shift: u8 = 48,
        chunk_shift: u8 = 49,
        region_shift: u8 = 50,
        member: u8 = 51,
        /// 1: the data area reads zero.
        flags: u8 = 52,
        reserved: [u8; 3] = 53,
        capacity: U64 = 56,
        reserved_end: [u8; 64] = 64,
    }
}
raw! {
    /// Before every metadata page and every journal record.
    RawPage: 32 {
        /// `RMRP`.
        magic: U32 = 0,
        /// 1 epoch, 2 intent, 3 map, 4 journal.
        kind: U16 = 4,
        version: U16 = 6,
        /// CRC32C of header (with this field zero) and the `length` bytes after it.
        crc: U32 = 8,
        /// Bytes used after the header.
        length: U32 = 12,
        /// Number of the page within its kind.
        number: U64 = 16,
        /// Commit that wrote it.
        commit: U64 = 24,
    }
}
raw! {
    /// Before every item of a journal record.
    RawItem: 16 {
        /// 1 epoch record follows; 2 region `region` has a live entry; 3 has none; 4 misses of a region follow.
        kind: U32 = 0,
        reserved: U32 = 4,
        region: U64 = 8,
    }
}
