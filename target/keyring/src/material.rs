//! From the bytes of a file to those of a key.

use std::ops::Range;

/// The fewest bytes of a key: 128 bits. Who records one handshake can try keys against it for as long as they like;
/// fewer bits than these can be tried.
pub const MIN_BYTES: usize = 16;

/// The most bytes of a key file. The longest key of any protocol here is a line of under 200 characters, and a hash of
/// 256 bits makes no more of 4096 bytes than of 32: what is longer is some other file, and is not read.
pub const MAX_BYTES: usize = 4096;

/// Why bytes are no key. The bytes themselves are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Too short.
    #[error(
        "holds {bytes} bytes of key; accepted: {MIN_BYTES} to {MAX_BYTES}, and 32 random ones are best: \
         `head -c 32 /dev/urandom`"
    )]
    Short {
        /// How many, without the end of a line of text.
        bytes: usize,
    },
    /// Too long.
    #[error("holds {bytes} bytes; accepted: {MIN_BYTES} to {MAX_BYTES}")]
    Long {
        /// How many.
        bytes: u64,
    },
    /// A file of zeros is what a crash can leave of one that was just written.
    #[error("holds the same byte all through, which is no key: a crash may have emptied it; write it again")]
    Uniform,
}

/// Where in `bytes` the key stands.
///
/// One line of printable ASCII with its end (`\n` or `\r\n`) is a text key, and the end of the line is no part of it:
/// editors and `echo` write one and `printf` does not, and both must give the same key. Everything else is taken as it
/// is, to the last byte.
pub(crate) fn key_in(bytes: &[u8]) -> Result<Range<usize>, KeyFault> {
    if bytes.len() > MAX_BYTES {
        return Err(KeyFault::Long { bytes: bytes.len() as u64 });
    }
    let key = line(bytes).unwrap_or(bytes);
    if key.len() < MIN_BYTES {
        return Err(KeyFault::Short { bytes: key.len() });
    }
    // Stops at the first difference: in a key that tells the length of its first run, and of nothing else.
    if key.iter().all(|byte| *byte == key[0]) {
        return Err(KeyFault::Uniform);
    }
    Ok(0..key.len())
}

/// The line of printable ASCII that `bytes` is, without its end; none if it is anything else.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let text = bytes.strip_suffix(b"\n")?;
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    text.iter().all(|byte| matches!(byte, b' '..=b'~')).then_some(text)
}
