//! A key in memory, and the one thing that sessions do with it.

use crate::keyring::KeyRef;
use crate::material::{KeyFault, key_in};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a message authentication code.
pub const MAC_BYTES: usize = 32;

/// The bytes of a key, shared by all clones, overwritten with zeros when the last of them goes.
///
/// Cheap to clone, and read without a lock: a session takes one at its handshake and keeps it, on a reactor as on any
/// thread. It stays what it was when it was read, whatever becomes of the file and of the keyring.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    bytes: Zeroizing<Vec<u8>>,
    /// The reference that it was read through: while it lives, its user is counted.
    of: Option<KeyRef>,
}

impl Key {
    /// A key of no keyring, from the bytes of a file; the rules of a key file's content hold ([`KeyFault`]).
    ///
    /// `bytes` must have been made at their full size: what a growing buffer leaves behind is not overwritten.
    pub fn parse(bytes: Zeroizing<Vec<u8>>) -> Result<Key, KeyFault> {
        Key::with(bytes, None)
    }

    pub(crate) fn of(reference: &KeyRef, bytes: Zeroizing<Vec<u8>>) -> Result<Key, KeyFault> {
        Key::with(bytes, Some(reference.clone()))
    }

    fn with(mut bytes: Zeroizing<Vec<u8>>, of: Option<KeyRef>) -> Result<Key, KeyFault> {
        let range = key_in(&bytes)?;
        // Nothing moves: the key stands at the front. What is cut off is overwritten with the rest.
        bytes.truncate(range.end);
        Ok(Key(Arc::new(Inner { bytes, of })))
    }

    /// HMAC-SHA-256 (RFC 2104, FIPS 198-1) of `parts`, one after the other.
    ///
    /// Where one part ends and the next begins is not part of the code: at most one of them may be of a length that the
    /// other side can choose, unless lengths are parts themselves. Any thread; a few microseconds, never per IO.
    #[must_use]
    pub fn hmac_sha256(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `mac` is the code of `parts`. Takes as long for a wrong one as for the right one.
    #[must_use]
    pub fn verify_hmac_sha256(&self, parts: &[&[u8]], mac: &[u8; MAC_BYTES]) -> bool {
        self.mac(parts).verify(mac.into()).is_ok()
    }

    /// The bytes, for protocols that make other things of them than a code. Never to be printed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Its name in the keyring; none for a key of no keyring.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.of.as_ref().map(KeyRef::name)
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0.bytes).expect("HMAC takes keys of every length");
        parts.iter().fold(mac, |mac, part| mac.chain_update(part))
    }
}

// Sessions on any reactor share one.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Key>();
    shared::<KeyRef>();
};

/// Its name and nothing else, not even its length.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, redacted)", self.name().unwrap_or_default())
    }
}
