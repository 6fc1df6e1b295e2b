//! A body as it is gathered: up to a limit, counted beyond it.

use bytes::Bytes;

use super::BodyFacts;

/// Without memory of its own while the body is empty or in one piece, which is nearly always.
#[derive(Default)]
pub(super) struct Body {
    whole: Bytes,
    parts: Vec<u8>,
    total: u64,
    missed: bool,
}

impl Body {
    /// Adds captured bytes; keeps them as far as `bytes_max` and `budget` (all bodies together) allow. Returns how
    /// many it kept.
    pub(super) fn add(&mut self, bytes: Bytes, bytes_max: usize, budget: usize) -> usize {
        self.total = self.total.saturating_add(bytes.len() as u64);
        let room = bytes_max.saturating_sub(self.captured()).min(budget);
        let keep = bytes.len().min(room);
        self.missed |= keep < bytes.len();
        if keep == 0 {
            return 0;
        }
        if self.captured() == 0 {
            self.whole = bytes.slice(..keep);
        } else {
            if self.parts.is_empty() {
                self.parts.extend_from_slice(&std::mem::take(&mut self.whole));
            }
            self.parts.extend_from_slice(&bytes[..keep]);
        }
        keep
    }

    /// So many bytes went by without being captured.
    pub(super) fn miss(&mut self, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        self.missed = true;
    }

    /// The end is missing, by an unknown number of bytes.
    pub(super) fn cut(&mut self) {
        self.missed = true;
    }

    pub(super) fn captured(&self) -> usize {
        self.whole.len() + self.parts.len()
    }

    pub(super) fn facts(&self, media_type: smol_str::SmolStr) -> BodyFacts {
        BodyFacts {
            bytes_total: self.total,
            bytes_captured: self.captured() as u64,
            truncated: self.missed,
            media_type,
        }
    }

    pub(super) fn bytes(&mut self) -> Bytes {
        if !self.parts.is_empty() {
            self.whole = Bytes::from(std::mem::take(&mut self.parts));
        }
        self.whole.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_up_to_the_limit_and_counts_beyond() {
        let mut body = Body::default();
        assert_eq!(body.add(Bytes::from_static(b"abc"), 5, 100), 3);
        assert_eq!(body.add(Bytes::from_static(b"defg"), 5, 100), 2);
        body.miss(10);
        let facts = body.facts("".into());
        assert_eq!(
            (facts.bytes_total, facts.bytes_captured, facts.truncated),
            (17, 5, true)
        );
        assert_eq!(body.bytes(), "abcde");
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from(vec![1, 2, 3]);
        let mut body = Body::default();
        body.add(piece.clone(), 10, 10);
        assert_eq!(body.bytes().as_ptr(), piece.as_ptr());
        assert!(!body.facts("".into()).truncated);
    }
}
