//! Keyed hash of path segments, host labels and methods.
//!
//! Each word is the product of its halves with secret numbers added (NH, RFC 4418 §5.2), chained by a multiplication.
//! Whoever does not know the keys of the generation cannot aim at a collision: to cancel a difference he has to guess
//! 32 bits, and learns nothing from a miss.

/// Multiplier of the chain: odd, its bits as mixed as any (2^64 divided by the golden ratio).
const CHAIN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Keys of one generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    pub start: u64,
    pub low: u32,
    pub high: u32,
}

impl Hash {
    /// Takes in eight bytes.
    #[inline(always)]
    pub fn word(&self, hash: u64, word: u64) -> u64 {
        let low = (word as u32).wrapping_add(self.low);
        let high = ((word >> 32) as u32).wrapping_add(self.high);
        let product = (low as u64).wrapping_mul(high as u64);
        let mixed = (hash ^ product).wrapping_mul(CHAIN).wrapping_add(word);
        mixed ^ (mixed >> 32)
    }

    /// Takes in the last, at most seven, bytes and how many they are.
    #[inline(always)]
    pub fn end(&self, hash: u64, word: u64, bytes: u32) -> u64 {
        let hash = self.word(hash, word | ((bytes as u64 + 1) << 56));
        let mixed = hash.wrapping_mul(CHAIN);
        mixed ^ (mixed >> 29)
    }

    /// Of a whole text, for tables.
    pub fn of(&self, text: &[u8]) -> u64 {
        let mut hash = self.start;
        let mut words = text.chunks_exact(8);
        for word in words.by_ref() {
            hash = self.word(hash, super::words::word(word));
        }
        let rest = words.remainder();
        self.end(hash, super::words::word(rest), rest.len() as u32)
    }
}
