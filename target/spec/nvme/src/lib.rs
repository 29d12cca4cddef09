//! # NVMe structures
//!
//! **What it is, and is not.** The structures and numbers of NVMe, NVMe over Fabrics and NVMe/TCP that the target and an
//! initiator exchange: sized, little-endian, with the section of the specification beside each. No IO, no decisions, no state.
//!
//! **Words.** As in the specifications. *base*: NVM Express Base Specification 2.0c. *nvm*: NVM Command Set Specification
//! 1.0c. *tcp*: NVMe over TCP Transport Specification 1.0c. *capsule*: a command or a completion on its way. *dword*: 4 bytes.
//!
//! **Who may call it, on which thread.** Anybody; values only.
//!
//! **Invariants.** The size of every structure, and the offset of what stands late in it, is checked when it is compiled. All of them may
//! hold any bytes: what the bytes mean is judged by whoever reads them. Reserved bytes are named as such and are zero in
//! what `zeroed` makes.
//!
//! **Map of files.** `command.rs` submission entries, completions, opcodes · `fabrics.rs` connect and properties · `identify.rs` · `log.rs` log
//! pages · `pdu.rs` NVMe/TCP · `register.rs` controller properties · `status.rs` status codes beyond those of `tgt-status` · `feature.rs` numbers of features.
//!
//! **Where the tests are.** Sizes beside each structure; what has bits, in its file.

pub mod command;
pub mod fabrics;
pub mod feature;
pub mod identify;
pub mod log;
pub mod pdu;
pub mod register;
pub mod status;

pub use command::{Command, Completion, Sgl};
pub use zerocopy;

/// Asserts a structure's size and the offsets of some of its fields.
macro_rules! layout {
    ($type:ty, $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use layout;

/// Copies text into a field of fixed size, the rest filled with `fill`; what does not fit is cut off.
pub fn put_text(field: &mut [u8], text: &str, fill: u8) {
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
    field[len..].fill(fill);
}

/// The text of a field that ends with its first zero byte; `None` if it has no end or is no UTF-8.
#[must_use]
pub fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0)?;
    str::from_utf8(&field[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_padded_cut_and_read_back() {
        let mut field = [9; 8];
        put_text(&mut field, "abc", 0);
        assert_eq!((field, text(&field)), (*b"abc\0\0\0\0\0", Some("abc")));
        put_text(&mut field, "much too long", b' ');
        assert_eq!((&field, text(&field)), (b"much too", None));
        assert_eq!(text(b"\xff\0"), None);
    }
}
