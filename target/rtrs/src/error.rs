//! What can be wrong with bytes.

/// A frame that cannot be used. The stream it came from cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The checksum does not fit the bytes.
    #[error("{what}: crc32c is {got:#010x}, the bytes give {want:#010x}")]
    Checksum {
        /// Which part.
        what: &'static str,
        /// As it came.
        got: u32,
        /// Computed.
        want: u32,
    },
    /// A field holds a value that has no meaning here.
    #[error("{what}: {field} is {value}, accepted is {accepted}")]
    Field {
        /// Structure or kind of frame.
        what: &'static str,
        /// Field.
        field: &'static str,
        /// Value found.
        value: u64,
        /// What would be accepted.
        accepted: &'static str,
    },
}

pub(crate) fn field<T>(
    what: &'static str,
    field: &'static str,
    value: u64,
    accepted: &'static str,
) -> Result<T, FormatError> {
    Err(FormatError::Field { what, field, value, accepted })
}
