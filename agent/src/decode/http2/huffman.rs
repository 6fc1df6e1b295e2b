//! HPACK's Huffman code (RFC 7541 §5.2, Appendix B).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols. So the lengths say all,
//! and the tables are made of them when this is compiled.

/// The end of a string, which must never be written out.
const EOS: u16 = 256;
const LENGTH_MAX: usize = 30;
/// Bits that are looked up at once: most of text is shorter.
const FAST_BITS: usize = 9;

/// Bits of each symbol's code, the last one of `EOS`.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6,
    6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6,
    6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22,
    25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

struct Tables {
    /// Symbols by length, then by value.
    symbols: [u16; 257],
    /// For each length: its first code, and where its symbols begin.
    first_code: [u32; LENGTH_MAX + 2],
    first_symbol: [u16; LENGTH_MAX + 2],
    /// By the next bits: symbol and length; length 0: longer than that.
    fast: [(u8, u8); 1 << FAST_BITS],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        symbols: [0; 257],
        first_code: [0; LENGTH_MAX + 2],
        first_symbol: [0; LENGTH_MAX + 2],
        fast: [(0, 0); 1 << FAST_BITS],
    };
    let mut code = 0u32;
    let mut placed = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        tables.first_code[length] = code;
        tables.first_symbol[length] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[placed] = symbol as u16;
                if length <= FAST_BITS {
                    let spare = FAST_BITS - length;
                    let mut low = 0;
                    while low < 1 << spare {
                        tables.fast[((code as usize) << spare) | low] = (symbol as u8, length as u8);
                        low += 1;
                    }
                }
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    tables.first_code[LENGTH_MAX + 1] = code << 1;
    tables.first_symbol[LENGTH_MAX + 1] = placed as u16;
    tables
}

/// Decodes `bytes` onto `out`. `None`: it is invalid (RFC 7541 §5.2: `EOS` inside, padding that is no beginning of `EOS` or
/// longer than 7 bits). The shortest code has 5 bits, so `out` grows by at most 8/5 of the input.
pub fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut bits: u64 = 0;
    let mut count = 0usize;
    let mut input = bytes.iter();
    loop {
        while count <= 56 {
            let Some(byte) = input.next() else { break };
            bits = (bits << 8) | u64::from(*byte);
            count += 8;
        }
        if count == 0 {
            return Some(());
        }
        // The next bits, from the top, with ones behind the end: the padding is made of them.
        let window = |length: usize| -> u32 {
            let value = if count >= length {
                bits >> (count - length)
            } else {
                let missing = length - count;
                (bits << missing) | ((1 << missing) - 1)
            };
            (value & ((1 << length) - 1)) as u32
        };
        let (symbol, length) = TABLES.fast[window(FAST_BITS) as usize];
        if length > 0 {
            if length as usize > count {
                // It reaches behind the end, so what is left must be padding.
                return is_padding(bits, count);
            }
            out.push(symbol);
            count -= length as usize;
            continue;
        }
        let mut length = FAST_BITS + 1;
        let symbol = loop {
            if length > LENGTH_MAX {
                return None;
            }
            let code = window(length);
            let offset = code.wrapping_sub(TABLES.first_code[length]) as usize;
            let number = (TABLES.first_symbol[length + 1] - TABLES.first_symbol[length]) as usize;
            if offset < number {
                break TABLES.symbols[TABLES.first_symbol[length] as usize + offset];
            }
            length += 1;
        };
        if length > count {
            return is_padding(bits, count);
        }
        if symbol == EOS {
            return None;
        }
        out.push(symbol as u8);
        count -= length;
    }
}

fn is_padding(bits: u64, count: usize) -> Option<()> {
    let ones = (1u64 << count) - 1;
    (count < 8 && bits & ones == ones).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(bytes, &mut out)?;
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn strings_of_the_rfc() {
        for (bytes, expected) in [
            (&b""[..], Some("")),
            (
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                Some("www.example.com"),
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", Some("no-cache")),
            (b"\x64\x02", Some("302")),
            (b"\xae\xc3\x77\x1a\x4b", Some("private")),
            (b"\x1f", Some("a")),
            // Padding of zeros, of a whole byte, and `EOS` itself.
            (b"\x18", None),
            (b"\x1f\xff", None),
            (b"\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xfc", None),
        ] {
            assert_eq!(text(bytes).as_deref(), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let mut code = vec![(0u32, 0u8); 257];
        for length in 1..=LENGTH_MAX {
            let (from, to) = (
                TABLES.first_symbol[length] as usize,
                TABLES.first_symbol[length + 1] as usize,
            );
            for (at, symbol) in TABLES.symbols[from..to].iter().enumerate() {
                code[*symbol as usize] = (TABLES.first_code[length] + at as u32, length as u8);
            }
        }
        for symbol in 0..=255u8 {
            let mut bits = String::new();
            for symbol in [symbol, b'a', symbol] {
                let (code, length) = code[symbol as usize];
                bits += &format!("{code:0width$b}", width = length as usize);
            }
            while !bits.len().is_multiple_of(8) {
                bits.push('1');
            }
            let bytes: Vec<u8> = bits
                .as_bytes()
                .chunks(8)
                .map(|byte| byte.iter().fold(0, |value, bit| value << 1 | (bit - b'0')))
                .collect();
            let mut out = Vec::new();
            assert_eq!(decode(&bytes, &mut out), Some(()), "{symbol}");
            assert_eq!(out, [symbol, b'a', symbol]);
        }
    }
}
