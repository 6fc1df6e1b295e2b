//! Eight bytes at once: where in a word the first byte of a kind stands.
//!
//! A *mark* has the highest bit of each such byte set. It is exact for the lowest one and may be wrong above it
//! (a borrow runs upwards), so only the lowest is ever used. Words are little-endian: the lowest byte comes first.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

const fn each(byte: u8) -> u64 {
    byte as u64 * ONES
}

#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let x = word ^ each(byte);
    x.wrapping_sub(ONES) & !x
}

/// Bytes below a bound of at most 0x80.
#[inline(always)]
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(each(bound)) & !word
}

/// DEL and all bytes that are not ASCII.
#[inline(always)]
fn from_del(word: u64) -> u64 {
    word | ((word & !HIGHS) + ONES)
}

/// The first marked byte; 8 if there is none.
#[inline(always)]
pub fn first(mark: u64) -> u32 {
    let mark = mark & HIGHS;
    let below = mark.wrapping_sub(1) & !mark;
    ((((below >> 7) & ONES).wrapping_mul(ONES)) >> 56) as u32
}

/// No byte is marked: what is less to find out than which is the first.
#[inline(always)]
pub fn is_none(mark: u64) -> bool {
    mark & HIGHS == 0
}

#[inline(always)]
pub fn line_or_slash(word: u64) -> u64 {
    equal(word, b'\n') | equal(word, b'/')
}

/// The lowest `count` bytes, of 0 to 8.
#[inline(always)]
pub fn low(word: u64, count: u32) -> u64 {
    if count == 0 {
        0
    } else {
        word & (u64::MAX >> ((8u32.wrapping_sub(count) & 7) * 8))
    }
}

/// What ends a plain stretch of a path: slash, query, fragment, and everything that is not in normal form.
#[inline(always)]
pub fn path_ends(word: u64) -> u64 {
    // `;` and `?` differ in one bit.
    equal(word, b'/')
        | equal(word & !each(0x04), b';')
        | equal(word, b'#')
        | equal(word, b'%')
        | equal(word, b'\\')
        | below(word, 0x21)
        | from_del(word)
}

/// What ends a plain stretch of a query: a fragment, and what is not graphic.
#[inline(always)]
pub fn query_ends(word: u64) -> u64 {
    equal(word, b'#') | below(word, 0x21) | from_del(word)
}

/// What ends a plain stretch of a field's value: control bytes.
#[inline(always)]
pub fn value_ends(word: u64) -> u64 {
    below(word, 0x20) | equal(word, 0x7f)
}

/// What some parser splits a request line at: RFC 9112 §3 allows several, and Python's take whatever Unicode has for white
/// space in Latin-1.
#[inline(always)]
pub fn is_blank(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | 0x0b | 0x0c | b'\r' | 0x1c..=0x1f | 0x85 | 0xa0
    )
}

/// The first bytes of a TLS record that begins with a ClientHello: its length and the message's fit (RFC 8446 §4, §5.1).
#[inline(always)]
pub fn is_client_hello(word: u64) -> bool {
    let byte = |at: u32| (word >> (8 * at)) as u8;
    let length = (byte(3) as u32) << 8 | byte(4) as u32;
    word as u16 == 0x0316
        && byte(2) <= 4
        && byte(5) == 1
        && byte(6) == 0
        && length >= 4
        && byte(7) as u32 == length.wrapping_sub(4) >> 8
}

/// What is neither a letter nor a digit nor a hyphen, exactly.
#[inline(always)]
pub fn name_ends(word: u64) -> u64 {
    let seven = word & !HIGHS;
    let folded = seven | each(0x20);
    let from = |bytes: u64, bound: u8| bytes + each(0x80 - bound);
    let letter = from(folded, b'a') & !from(folded, b'z' + 1);
    let digit = from(seven, b'0') & !from(seven, b'9' + 1);
    let hyphen = from(seven, b'-') & !from(seven, b'-' + 1);
    !((letter | digit | hyphen) & !word)
}

/// Letters in lower case; other bytes as they are.
#[inline(always)]
pub fn lower(word: u64) -> u64 {
    let seven = word & !HIGHS;
    let from = |bound: u8| seven + each(0x80 - bound);
    let capital = from(b'A') & !from(b'Z' + 1) & !word & HIGHS;
    word | (capital >> 2)
}

/// A letter in lower case is among them.
#[inline(always)]
pub fn has_small(word: u64) -> bool {
    let seven = word & !HIGHS;
    let from = |bound: u8| seven + each(0x80 - bound);
    from(b'a') & !from(b'z' + 1) & !word & HIGHS != 0
}

/// What ends a stretch without white space and control bytes.
#[inline(always)]
pub fn blank_ends(word: u64) -> u64 {
    below(word, 0x21)
}

/// A token character (RFC 9110 §5.6.2).
#[inline(always)]
pub fn is_token(byte: u8) -> bool {
    // Bit for bit the table of the RFC, for bytes below 64 and from 64 on.
    const LOW: u64 = token_bits(0);
    const HIGH: u64 = token_bits(64);
    let bits = if byte < 64 { LOW } else { HIGH };
    byte < 128 && (bits >> (byte & 63)) & 1 != 0
}

const fn token_bits(from: u8) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < 64 {
        let byte = from + at;
        let token = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if token {
            bits |= 1 << at;
        }
        at += 1;
    }
    bits
}

/// Up to eight bytes of text as a word.
pub const fn word(text: &[u8]) -> u64 {
    let mut word = 0;
    let mut at = 0;
    while at < text.len() && at < 8 {
        word |= (text[at] as u64) << (8 * at);
        at += 1;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place, among neighbours that borrow and carry.
    fn check(mark: fn(u64) -> u64, ends: fn(u8) -> bool) {
        for plain in [b'a', b'0'] {
            for byte in 0..=255u8 {
                for place in 0..8 {
                    for behind in [plain, 0, 1, 0x7f, 0x80, 0xff, b'/', b'0', b'"'] {
                        let mut bytes = [plain; 8];
                        bytes[place] = byte;
                        bytes.iter_mut().skip(place + 1).for_each(|at| *at = behind);
                        let expected = bytes.iter().position(|byte| ends(*byte)).unwrap_or(8);
                        let found = first(mark(u64::from_le_bytes(bytes)));
                        assert_eq!(found as usize, expected, "{bytes:?}");
                        assert_eq!(is_none(mark(u64::from_le_bytes(bytes))), expected == 8);
                    }
                }
            }
        }
    }

    #[test]
    fn stretches_end_where_they_should() {
        check(
            path_ends,
            |byte| matches!(byte, b'/' | b';' | b'?' | b'#' | b'%' | b'\\' | 0..=b' ' | 0x7f..),
        );
        check(query_ends, |byte| matches!(byte, b'#' | 0..=b' ' | 0x7f..));
        check(blank_ends, |byte| byte <= b' ');
        check(value_ends, |byte| matches!(byte, 0..b' ' | 0x7f));
        check(name_ends, |byte| !byte.is_ascii_alphanumeric() && byte != b'-');
    }

    #[test]
    fn words_are_folded_and_cut() {
        for byte in 0..=255u8 {
            let folded = lower(each(byte));
            assert_eq!(folded, each(byte.to_ascii_lowercase()));
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(byte), token, "{byte}");
            let among = u64::from_le_bytes([b'-', 0xff, byte, b'A', 0, 1, b'Z', 0x80]);
            assert_eq!(has_small(among), byte.is_ascii_lowercase());
        }
        assert_eq!(low(u64::MAX, 0), 0);
        assert_eq!(low(u64::MAX, 1), 0xff);
        assert_eq!(low(u64::MAX, 8), u64::MAX);
        assert_eq!(word(b"host"), u64::from_le_bytes(*b"host\0\0\0\0"));
    }
}
