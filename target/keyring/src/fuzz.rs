//! Entry point for the fuzzer: any bytes as the content of a key file.

use crate::material::{MAX_BYTES, MIN_BYTES};
use crate::{Key, KeyFault};
use zeroize::Zeroizing;

/// Takes `data` as a key. Never panics; what is a key is the front of `data`, and only the end of a line is cut off it.
pub fn key_file(data: &[u8]) {
    match Key::parse(Zeroizing::new(data.to_vec())) {
        Ok(key) => {
            let bytes = key.expose();
            assert!((MIN_BYTES..=MAX_BYTES).contains(&bytes.len()));
            let cut = data.strip_prefix(bytes).expect("the front of it");
            assert!(matches!(cut, b"" | b"\n" | b"\r\n"), "cut off: {cut:?}");
            let mac = key.hmac_sha256(&[data]);
            assert!(key.verify_hmac_sha256(&[data], &mac));
            assert_eq!(format!("{key:?}"), "Key(\"\", redacted)");
        }
        Err(KeyFault::Short { bytes }) => assert!(bytes < MIN_BYTES && data.len() < MIN_BYTES + 2),
        Err(KeyFault::Long { bytes }) => {
            assert_eq!((bytes, data.len() > MAX_BYTES), (data.len() as u64, true))
        }
        Err(KeyFault::Uniform) => assert!(data[..MIN_BYTES].iter().all(|byte| *byte == data[0])),
    }
}
