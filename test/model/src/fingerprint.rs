//! 128 bits that stand for a value.

use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Two lanes of multiply and rotate; a collision of both hides a state, at about one in 2^127 pairs.
struct Lanes(u64, u64);

impl Lanes {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.1 = (self.1.rotate_left(23) ^ word).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    }

    fn done(mut self) -> u128 {
        for _ in 0..2 {
            self.word(0x1656_67b1);
            self.0 ^= self.1 >> 31;
            self.1 ^= self.0 >> 29;
        }
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

impl Hasher for Lanes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, i: u8) {
        self.word(i.into());
    }

    fn write_u32(&mut self, i: u32) {
        self.word(i.into());
    }

    fn write_u64(&mut self, i: u64) {
        self.word(i);
    }

    fn write_usize(&mut self, i: usize) {
        self.word(i as u64);
    }
}

pub(crate) fn of(value: &impl Hash) -> u128 {
    let mut lanes = Lanes(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
    value.hash(&mut lanes);
    lanes.done()
}

/// A value and its fingerprint, taken once.
#[derive(Clone, Debug)]
pub(crate) struct Printed<T> {
    value: T,
    pub(crate) print: u128,
}

impl<T: Hash> Printed<T> {
    pub(crate) fn new(value: T) -> Self {
        let print = of(&value);
        Self { value, print }
    }
}

impl<T> Deref for Printed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
