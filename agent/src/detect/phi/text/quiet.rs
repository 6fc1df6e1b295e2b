//! Texts in which nothing was found: what bodies say again and again (a status, a unit, the address of a code system) is
//! looked at once.
//!
//! A text in which something was found is not remembered, and none longer than the body lasts that it is in.

use super::Around;

/// Shorter texts are looked at as quickly as they are looked up.
const BYTES_MIN: usize = 16;
/// What is longer is seldom said twice.
const BYTES_MAX: usize = 108;
/// A power of two. Each text has one place that it may be in; what stood there before is forgotten.
const LEN: usize = 256;

pub(super) struct Quiet {
    texts: Vec<Remembered>,
    /// The places that are taken.
    taken: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Remembered {
    around: Around,
    may_have_labels: bool,
    /// 0: none.
    length: u8,
    bytes: [u8; BYTES_MAX],
}

/// Where a text would be.
#[derive(Clone, Copy)]
pub(super) struct Place(usize);

impl Quiet {
    pub(super) fn new() -> Quiet {
        let none = Remembered {
            around: Around::default(),
            may_have_labels: false,
            length: 0,
            bytes: [0; BYTES_MAX],
        };
        Quiet {
            texts: vec![none; LEN],
            taken: Vec::with_capacity(LEN),
        }
    }

    /// Another body begins.
    pub(super) fn forget(&mut self) {
        for place in self.taken.drain(..) {
            if let Some(known) = self.texts.get_mut(place.0) {
                known.bytes.fill(0);
                known.length = 0;
            }
        }
    }

    /// None: it is not one that is remembered.
    pub(super) fn place(text: &[u8]) -> Option<Place> {
        if !(BYTES_MIN..=BYTES_MAX).contains(&text.len()) {
            return None;
        }
        let mut sum = text.len() as u64;
        let mut add = |eight: &[u8; 8]| {
            sum = (sum ^ u64::from_le_bytes(*eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 32;
        };
        let (eights, _) = text.as_chunks();
        eights.iter().for_each(&mut add);
        // The last ones, some of them once more.
        text.last_chunk().into_iter().for_each(add);
        Some(Place(sum as usize % LEN))
    }

    /// Whether labels may stand in a text in which nothing was found before.
    pub(super) fn get(&self, place: Place, text: &[u8], around: Around) -> Option<bool> {
        let known = self.texts.get(place.0)?;
        let is = known.bytes.get(..usize::from(known.length)) == Some(text) && known.around == around;
        is.then_some(known.may_have_labels)
    }

    pub(super) fn keep(&mut self, place: Place, text: &[u8], around: Around, may_have_labels: bool) {
        let Some(known) = self.texts.get_mut(place.0) else {
            return;
        };
        if known.length == 0 {
            self.taken.push(place);
        }
        if let Some(bytes) = known.bytes.get_mut(..text.len()) {
            bytes.copy_from_slice(text);
            known.around = around;
            known.may_have_labels = may_have_labels;
            known.length = text.len() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Around, Found, Text};
    use super::BYTES_MAX;

    fn found(text: &mut Text, value: &str, around: Around) -> usize {
        let mut count = 0;
        text.scan(value.as_bytes(), around, &mut |_: Found| count += 1);
        count
    }

    #[test]
    fn what_is_found_is_found_each_time() {
        let mut text = Text::new(Vec::new()).unwrap();
        for _ in 0..3 {
            assert_eq!(
                found(&mut text, "write to marta@mail.example", Around::default()),
                1
            );
            assert_eq!(
                found(&mut text, "write to nobody about this", Around::default()),
                0
            );
        }
    }

    #[test]
    fn nothing_is_kept_from_body_to_body() {
        let mut text = Text::new(Vec::new()).unwrap();
        for value in ["write to nobody about this", "nor of that to anybody"] {
            found(&mut text, value, Around::default());
        }
        let kept = |text: &Text| {
            text.quiet
                .texts
                .iter()
                .filter(|known| known.bytes != [0; BYTES_MAX])
                .count()
        };
        assert_eq!(kept(&text), 2);
        text.forget();
        assert_eq!(kept(&text), 0);
    }

    #[test]
    fn the_same_text_at_another_place_is_looked_at_anew() {
        let mut text = Text::new(Vec::new()).unwrap();
        let number = "and then 212-555-0142 as ever";
        let named = Around {
            context: super::super::bit(super::super::Class::Phone),
            ..Around::default()
        };
        let (unnamed, of_phones) = (
            found(&mut text, number, Around::default()),
            found(&mut text, number, named),
        );
        assert_eq!(unnamed, 0);
        assert!(of_phones > 0);
        assert_eq!(found(&mut text, number, Around::default()), 0);
    }
}
