//! Numbers of payment cards.
//!
//! Source: ISO/IEC 7812-1 (Luhn, issuer ranges).

use crate::detect::phi::checks::{checked, digits_of, is_dummy, luhn, modulo};
use crate::detect::phi::class::{Class, Detector, Fit, Group, Shape};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Card,
    name: "card",
    group: Group::Financial,
    about: "Numbers of payment cards.",
    source: "ISO/IEC 7812-1 (Luhn, issuer ranges)",
    identifies: true,
    keys: &[
        "cardnumber",
        "creditcard",
        "creditcardnumber",
        "debitcard",
        "debitcardnumber",
        "ccnumber",
        "ccnum",
        "pan",
        "paymentcard",
        "cardno",
        "creditcardno",
        "creditcardnum",
        "ccno",
        "cardnum",
        "kreditkartennummer",
        "numerocarte",
        "numerotarjeta",
        "kaartnummer",
        "primaryaccountnumber",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &["card", "visa", "mastercard", "amex", "credit"],
    fits: own_fits,
    shape: Some(Shape {
        digits: &[
            (&[4, 4, 4, 4], b"- "),
            (&[4, 6, 5], b"- "),
            (&[16], b""),
            (&[15], b""),
            (&[14], b""),
            (&[13], b""),
            (&[19], b""),
        ],
        word: None,
        check,
        alone: 80,
        alone_grouped: 95,
        beside: 97,
    }),
    examples: &[
        "Card:4111111111111111 is on file.",
        r#"{"card_number":"4111111111111111"}"#,
        "Paid with 5555 5555 5555 4444 today.",
        r#"{"note":"378282246310005"}"#,
    ],
    counter_examples: &[
        r#"{"cells":["1234567"]}"#,
        r#"{"card_number":"4111111111111112"}"#,
        r#"{"trace":"1234567890123456"}"#,
        r#"{"cardType":"visa"}"#,
    ],
};

fn check(digits: &[u8]) -> Fit {
    if digits.len() < 13 || is_dummy(digits) {
        return Fit::No;
    }
    let start = |length: usize| modulo(&digits[..length], 1_000_000);
    let issuer = match digits.len() {
        13 => digits[0] == b'4',
        14 => matches!(start(3), 300..=305 | 309) || matches!(start(2), 36 | 38 | 39),
        15 => matches!(start(2), 34 | 37) || matches!(start(4), 1800 | 2131),
        16 => {
            digits[0] == b'4'
                || matches!(start(2), 51..=55 | 65)
                || matches!(start(4), 2221..=2720 | 3528..=3589 | 6011)
                || matches!(start(3), 644..=649)
                || matches!(start(6), 622_126..=622_925)
        }
        19 => digits[0] == b'4' || matches!(start(2), 62 | 65),
        _ => false,
    };
    checked(issuer && luhn(digits))
}

/// Where the name of the place says so, the check digit suffices: issuers are given new ranges all the time.
fn own_fits(value: &[u8]) -> bool {
    digits_of(value).is_some_and(|(digits, length)| {
        (12..=19).contains(&length) && !is_dummy(&digits[..length]) && luhn(&digits[..length])
    })
}
