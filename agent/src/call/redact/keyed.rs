//! Keyed hashes of values that may not be shown: equal values have equal hashes, and without the key nothing leads back.
//!
//! It must not know what is hashed, nor whether it may be shown.

use std::cell::RefCell;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use smol_str::SmolStr;

/// The beginning of a keyed hash, in hex digits.
#[derive(Clone, Copy)]
pub(super) struct Digits([u8; Digits::LEN]);

impl Digits {
    const LEN: usize = 16;

    fn of(key: &[u8; 32], domain: &[u8], value: &[u8]) -> Digits {
        /// What is no longer, with its domain, is hashed in one piece: nearly all values are.
        const PIECE_BYTES: usize = 192;
        let mut piece = [0; PIECE_BYTES];
        let length = domain.len() + 1 + value.len();
        let hash = match piece.get_mut(..length) {
            Some(piece) => {
                piece[..domain.len()].copy_from_slice(domain);
                piece[domain.len() + 1..].copy_from_slice(value);
                blake3::keyed_hash(key, piece)
            }
            None => {
                let mut hasher = blake3::Hasher::new_keyed(key);
                hasher.update(domain);
                hasher.update(&[0]);
                hasher.update(value);
                hasher.finalize()
            }
        };
        let mut digits = [0; Digits::LEN];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.as_bytes()) {
            let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Digits(digits)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Hashes that correlate and cannot be recomputed from a guess without the agent's key. Has no `Debug`.
///
/// The same few values come again and again: hosts, clients, the patient whose record is open. What was hashed last is
/// found by two other, cheaper hashes, whose keys are new with every start; the values are not kept.
#[derive(Clone)]
pub struct KeyedHash {
    key: [u8; 32],
    cheap: [DefaultHashBuilder; 2],
    recent: RefCell<Vec<Option<(u64, u64, Digits)>>>,
}

/// Hashes that are remembered; a power of two.
const RECENT_HASHES: usize = 512;

impl KeyedHash {
    /// With the agent's own key.
    pub fn new(key: [u8; 32]) -> Self {
        KeyedHash {
            key,
            cheap: [DefaultHashBuilder::default(), DefaultHashBuilder::default()],
            recent: RefCell::new(vec![None; RECENT_HASHES]),
        }
    }

    /// 16 hex digits. The same value in another domain has another one.
    pub fn of(&self, domain: &[u8], value: &[u8]) -> SmolStr {
        SmolStr::new(self.digits(domain, value).as_str())
    }

    pub(super) fn digits(&self, domain: &[u8], value: &[u8]) -> Digits {
        let [one, other] = &self.cheap;
        let (one, other) = (one.hash_one((domain, value)), other.hash_one((domain, value)));
        let mut recent = self.recent.borrow_mut();
        let slot = &mut recent[one as usize % RECENT_HASHES];
        match slot {
            Some((known, too, digits)) if (*known, *too) == (one, other) => *digits,
            _ => {
                let digits = Digits::of(&self.key, domain, value);
                *slot = Some((one, other, digits));
                digits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_in_one_piece_and_in_several() {
        for length in [0, 1, 63, 64, 180, 200, 3_000] {
            let value = vec![b'v'; length];
            let mut hasher = blake3::Hasher::new_keyed(&[9; 32]);
            for part in [&b"kind"[..], &[0], &value] {
                hasher.update(part);
            }
            let hex = hasher.finalize().to_hex();
            assert_eq!(
                Digits::of(&[9; 32], b"kind", &value).as_str(),
                &hex[..16],
                "{length}"
            );
        }
    }
}
