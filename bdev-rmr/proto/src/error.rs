//! What can be wrong with bytes.

/// A format that cannot be used. Names the field, the value found and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than the structure needs.
    #[error("{what}: {got} bytes, at least {need} are needed")]
    Short {
        /// Structure.
        what: &'static str,
        /// Bytes given.
        got: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The checksum does not fit the bytes.
    #[error("{what}: crc32c is {got:#010x}, the bytes give {want:#010x}")]
    Checksum {
        /// Structure.
        what: &'static str,
        /// Stored.
        got: u32,
        /// Computed.
        want: u32,
    },
    /// A field holds a value that has no meaning here.
    #[error("{what}: {field} is {value}, accepted is {accepted}")]
    Field {
        /// Structure.
        what: &'static str,
        /// Field.
        field: &'static str,
        /// Value found.
        value: u64,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// Neither copy can be read.
    #[error("{what}: both copies are unreadable; the store cannot prove what it missed and must be replaced")]
    BothCopies {
        /// Structure.
        what: &'static str,
    },
}
