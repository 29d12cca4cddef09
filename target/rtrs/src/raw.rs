//! The structs that travel, byte for byte. `docs/111-sessions.md` holds the same tables; a test compares them. All
//! integers are little-endian; reserved bytes are zero.

use std::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
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
    /// Before everything: one cache line.
    RawHead: 64 {
        /// `RTS1`.
        magic: U32 = 0,
        /// Kind of frame.
        kind: u8 = 4,
        /// 1: the data has a digest; 2: a read; 4: refused, or the end of a life.
        flags: u8 = 5,
        /// Bytes of user header or hand-shake body that follow.
        user_len: U16 = 6,
        /// Bytes of data that follow those.
        data_len: U32 = 8,
        /// CRC32C of these 64 bytes with this field zero.
        crc: U32 = 12,
        /// CRC32C of the user header or body.
        user_crc: U32 = 16,
        /// CRC32C of the data, or zero.
        data_crc: U32 = 20,
        slot: U16 = 24,
        status: U16 = 26,
        use_no: U32 = 28,
        sending: U32 = 32,
        user: U32 = 36,
        asked: U32 = 40,
        seen: U32 = 44,
        stamp: U64 = 48,
        echo: U64 = 56,
    }
}
raw! {
    /// First frame of a client.
    RawHello: 168 {
        version_min: U16 = 0,
        version_max: U16 = 2,
        lane: U16 = 4,
        lanes: U16 = 6,
        connection: U32 = 8,
        options: U32 = 12,
        incarnation: U64 = 16,
        session: [u8; 16] = 24,
        path: [u8; 16] = 40,
        host: [u8; 16] = 56,
        nonce: [u8; 32] = 72,
        key: [u8; 64] = 104,
    }
}
raw! {
    /// First frame of a server.
    RawChallenge: 64 {
        version: U16 = 0,
        reserved: U16 = 2,
        options: U32 = 4,
        host: [u8; 16] = 8,
        nonce: [u8; 32] = 24,
        stamp: U64 = 56,
    }
}
raw! {
    /// The client proves that it has the key, now.
    RawProof: 48 { life: U64 = 0, create: U32 = 8, reserved: U32 = 12, mac: [u8; 32] = 16, }
}
raw! {
    /// The server proves the same and says its limits.
    RawWelcome: 64 {
        life: U64 = 0,
        stamp: U64 = 8,
        lease_ns: U64 = 16,
        data_max: U32 = 24,
        user_max: U16 = 28,
        depth: U16 = 30,
        mac: [u8; 32] = 32,
    }
}
raw! {
    /// The server does not take the connection.
    RawRefuse: 40 { code: U16 = 0, low: U16 = 2, high: U16 = 4, reserved: U16 = 6, mac: [u8; 32] = 8, }
}
