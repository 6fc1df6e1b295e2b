//! Pairs of a query or of an urlencoded form, decoded.
//!
//! Bounded in their number; a value that needs no decoding is not copied. It must not know what a name means.

use std::borrow::Cow;

/// Pairs of one query that are looked at.
const PAIRS_MAX: usize = 256;

/// Names and values, in order.
pub(in crate::call) fn pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    query
        .split(|byte| *byte == b'&')
        .take(PAIRS_MAX)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            (
                decoded(&pair[..at]),
                decoded(pair.get(at + 1..).unwrap_or_default()),
            )
        })
}

/// `%41+` → `A `; what is no escape stays.
fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        at += 1;
        let code = || {
            let digits = std::str::from_utf8(value.get(at..at + 2)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        match (byte, code()) {
            (b'+', _) => plain.push(b' '),
            (b'%', Some(code)) => {
                plain.push(code);
                at += 2;
            }
            (byte, _) => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let all: Vec<String> = pairs(b"a=1&b%5B%5D=x+y&&c&d=%zz%4")
            .map(|(name, value)| {
                format!(
                    "{}={}",
                    String::from_utf8_lossy(&name),
                    String::from_utf8_lossy(&value)
                )
            })
            .collect();
        assert_eq!(all, ["a=1", "b[]=x y", "c=", "d=%zz%4"]);
    }
}
