//! Which words stand in a text: each is looked for only where a word begins, by its first three letters.
//!
//! An automaton over a thousand words is larger than the caches near a core, and most of its work is within words, where
//! none may begin. The table of first letters is 4 KiB, and most words of a text end at it.

use super::is_word;

/// Ranks of bits: words of 64.
const BLOCKS: usize = (1 << 15) / 64;

/// Built once. Words count in any case.
pub(super) struct Vocabulary {
    /// By the first three letters, five bits each: some word begins so.
    begins: Box<[u64; BLOCKS]>,
    /// Bits set in the blocks before.
    ranks: Box<[u16; BLOCKS]>,
    /// By rank: from where its words are in `words`; one more than there are ranks.
    groups: Vec<u16>,
    /// In lower case, with their number; the longest of a group first.
    words: Vec<(Box<[u8]>, u16)>,
}

/// A word in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// Its number, in the order that [`Vocabulary::new`] was given them.
    pub word: usize,
    pub start: usize,
    pub end: usize,
}

impl Vocabulary {
    /// `words`: in lower case, two letters or more each, a letter at their beginning.
    pub fn new(words: &[&str]) -> Vocabulary {
        let mut by_letters: Vec<(usize, &[u8], u16)> = Vec::new();
        for (number, word) in words.iter().enumerate() {
            let word = word.as_bytes();
            match *word {
                [first, second] => {
                    let any = (0..32).map(|third| (letters(first, second, third), word, number as u16));
                    by_letters.extend(any);
                }
                [first, second, third, ..] => {
                    by_letters.push((letters(first, second, third), word, number as u16));
                }
                _ => {}
            }
        }
        by_letters.sort_by_key(|(letters, word, _)| (*letters, std::cmp::Reverse(word.len())));
        let mut vocabulary = Vocabulary {
            begins: Box::new([0; BLOCKS]),
            ranks: Box::new([0; BLOCKS]),
            groups: Vec::new(),
            words: Vec::with_capacity(by_letters.len()),
        };
        for (letters, word, number) in by_letters {
            let (block, bit) = (letters / 64, 1 << (letters % 64));
            if vocabulary.begins[block] & bit == 0 {
                vocabulary.begins[block] |= bit;
                vocabulary.groups.push(vocabulary.words.len() as u16);
            }
            vocabulary.words.push((word.into(), number));
        }
        vocabulary.groups.push(vocabulary.words.len() as u16);
        let mut rank = 0;
        for (block, begins) in vocabulary.begins.iter().enumerate() {
            vocabulary.ranks[block] = rank;
            rank += begins.count_ones() as u16;
        }
        vocabulary
    }

    /// Those in `text[from..to]`, which stand apart from what is before them and end before another letter: the longest at
    /// each place, none within another.
    pub fn find<'v, 't>(&'v self, text: &'t [u8], from: usize, to: usize) -> Found<'v, 't> {
        let text = &text[..to.min(text.len())];
        Found {
            vocabulary: self,
            text,
            over: from,
            next: from,
            from,
            begins: 0,
            is_within: from
                .checked_sub(1)
                .and_then(|before| text.get(before))
                .is_some_and(|before| is_word(*before)),
        }
    }

    /// The longest word that is at `start`.
    fn at(&self, text: &[u8], start: usize) -> Option<Occurrence> {
        let rest = &text[start..];
        let [first, second, ..] = *rest else {
            return None;
        };
        let letters = letters(first, second, rest.get(2).copied().unwrap_or(0));
        let (begins, bit) = (self.begins[letters / 64], 1u64 << (letters % 64));
        if begins & bit == 0 {
            return None;
        }
        let rank = usize::from(self.ranks[letters / 64]) + (begins & (bit - 1)).count_ones() as usize;
        let (from, to) = (usize::from(self.groups[rank]), usize::from(self.groups[rank + 1]));
        self.words[from..to].iter().find_map(|(word, number)| {
            // Those of a group begin alike: their ends tell them apart.
            let last = |text: &[u8]| text.last().map(|byte| byte | 0x20);
            let is = rest
                .get(..word.len())
                .is_some_and(|text| last(text) == last(word) && text.eq_ignore_ascii_case(word))
                && rest
                    .get(word.len())
                    .is_none_or(|next| !next.is_ascii_alphabetic());
            is.then(|| Occurrence {
                word: usize::from(*number),
                start,
                end: start + word.len(),
            })
        })
    }
}

/// The place of three letters in the table, in any case; other bytes fall where letters do.
fn letters(first: u8, second: u8, third: u8) -> usize {
    usize::from(first & 31) << 10 | usize::from(second & 31) << 5 | usize::from(third & 31)
}

/// [`is_word`] of eight bytes at once, a bit each.
fn words_of(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low = bytes & !HIGH;
    // The high bit of a byte is set if that is `least` or more: a sum of seven bits each carries nothing into the next.
    let at_least = |bytes: u64, least: u8| bytes + u64::from(0x80 - least) * ONES;
    let within = |bytes, from, to| at_least(bytes, from) & !at_least(bytes, to + 1);
    let letters = within(low | (0x20 * ONES), b'a', b'z');
    let others = within(low, b'0', b'9') | within(low, b'_', b'_') | bytes;
    let is = (letters | others) & HIGH;
    // Gathers the high bits: that of byte `i` goes to bit `56 + i`, and no two to one.
    (is >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Walks over the words of a text, in their order.
pub(super) struct Found<'v, 't> {
    vocabulary: &'v Vocabulary,
    text: &'t [u8],
    /// The end of what was found.
    over: usize,
    /// What is looked at next.
    next: usize,
    /// Where the part begins that is looked at, and where words begin in it, a bit each.
    from: usize,
    begins: u64,
    /// The byte before `next` is one of a word.
    is_within: bool,
}

impl Found<'_, '_> {
    /// The next 64 bytes. Without a branch for each: where words end is what a processor cannot foretell.
    fn advance(&mut self) {
        let rest = &self.text[self.next..];
        let part = &rest[..rest.len().min(64)];
        let mut words = 0;
        for (at, eight) in part.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..eight.len()].copy_from_slice(eight);
            words |= words_of(u64::from_le_bytes(bytes)) << (8 * at);
        }
        self.begins = words & !(words << 1 | u64::from(self.is_within));
        self.is_within = part.last().is_some_and(|last| is_word(*last));
        (self.from, self.next) = (self.next, self.next + part.len());
    }
}

impl Iterator for Found<'_, '_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        loop {
            while self.begins != 0 {
                let start = self.from + self.begins.trailing_zeros() as usize;
                self.begins &= self.begins - 1;
                if start >= self.over
                    && let Some(found) = self.vocabulary.at(self.text, start)
                {
                    self.over = found.end;
                    return Some(found);
                }
            }
            if self.next >= self.text.len() {
                return None;
            }
            self.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 7] = [
        "dr",
        "dob",
        "date",
        "date of birth",
        "patient",
        "patient's",
        "geboren am",
    ];

    fn found(text: &str) -> Vec<&'static str> {
        let vocabulary = Vocabulary::new(&WORDS);
        let found = vocabulary.find(text.as_bytes(), 0, text.len());
        found
            .inspect(|found| {
                let word = &text[found.start..found.end];
                assert_eq!(word.to_lowercase(), WORDS[found.word]);
            })
            .map(|found| WORDS[found.word])
            .collect()
    }

    #[test]
    fn words_stand_apart_and_the_longest_counts() {
        assert_eq!(found("DOB: 1.2.1980, Date of Birth"), ["dob", "date of birth"]);
        assert_eq!(
            found("update of birthday, date_of, ddob, DOBs, dobé"),
            ["date", "dob"]
        );
        assert_eq!(found("the date of births"), ["date"]);
        assert_eq!(found("Patient's dr. Dr"), ["patient's", "dr", "dr"]);
        assert_eq!(found("dr"), ["dr"]);
        assert_eq!(found("d"), [""; 0]);
        assert_eq!(found("date of birth date"), ["date of birth", "date"]);
        assert_eq!(found("DOB1980"), ["dob"]);
    }

    /// What is before the part that is looked at counts; what is behind it does not.
    #[test]
    fn a_part_of_a_text_has_its_own_ends() {
        let vocabulary = Vocabulary::new(&WORDS);
        let text = b"update of birth";
        assert_eq!(vocabulary.find(text, 2, text.len()).count(), 0);
        assert_eq!(vocabulary.find(b"my date of birth", 3, 7).count(), 1);
        assert_eq!(vocabulary.find(b"my date of birth", 3, 6).count(), 0);
    }

    #[test]
    fn bytes_of_words_are_told_apart_at_every_place() {
        for byte in 0..=255u8 {
            for at in 0..8 {
                for around in [0, b'z', b'{', 0xff] {
                    let mut bytes = [around; 8];
                    bytes[at] = byte;
                    let expected = bytes
                        .iter()
                        .enumerate()
                        .fold(0, |bits, (at, byte)| bits | u64::from(is_word(*byte)) << at);
                    assert_eq!(words_of(u64::from_le_bytes(bytes)), expected, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_found_is_what_a_search_at_each_place_finds() {
        let vocabulary = Vocabulary::new(&WORDS);
        let parts = [
            "dr",
            " ",
            "date",
            " of",
            "birth",
            "x",
            ".",
            "Patient",
            "'s",
            "\u{e9}",
            "1",
            "_",
            "DOB",
            "geboren  am",
        ];
        let mut state = 7u64;
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                text.push_str(parts[(state >> 33) as usize % parts.len()]);
            }
            let bytes = text.as_bytes();
            let (mut expected, mut over) = (Vec::new(), 0);
            for start in 0..bytes.len() {
                let apart = start == 0 || !is_word(bytes[start - 1]);
                let longest = WORDS
                    .iter()
                    .enumerate()
                    .filter(|(_, word)| {
                        let end = start + word.len();
                        bytes
                            .get(start..end)
                            .is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()))
                            && bytes.get(end).is_none_or(|next| !next.is_ascii_alphabetic())
                    })
                    .max_by_key(|(_, word)| word.len());
                if let Some((word, length)) = longest.map(|(at, word)| (at, word.len()))
                    && apart
                    && start >= over
                {
                    over = start + length;
                    expected.push(Occurrence {
                        word,
                        start,
                        end: over,
                    });
                }
            }
            let found: Vec<Occurrence> = vocabulary.find(bytes, 0, bytes.len()).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
