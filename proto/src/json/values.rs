//! Identifiers and times as JSON has them.
//!
//! They are placed digit by digit: a call has a dozen of them, and formatting them through `fmt` was half of the line's cost.

use std::cell::Cell;

use serde::{Serialize, Serializer};

/// Bytes as lower-case hex digits.
pub(super) struct Hex<'a>(pub &'a [u8]);

/// Bytes of an identifier that are shown; ours have 16.
const HEX_BYTES_MAX: usize = 32;

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        quoted_hex(&self.0[..self.0.len().min(HEX_BYTES_MAX)], serializer)
    }
}

/// A 64-bit identifier as 16 hex digits.
pub(super) struct Number64(pub u64);

impl Serialize for Number64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        quoted_hex(&self.0.to_be_bytes(), serializer)
    }
}

fn quoted_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut buffer = [b'"'; 2 * HEX_BYTES_MAX + 2];
    let length = hex_digits(bytes, &mut buffer[1..]).len();
    buffer[1 + length] = b'"';
    serializer.serialize_bytes(&buffer[..length + 2])
}

fn hex<'b>(bytes: &[u8], buffer: &'b mut [u8; 2 * HEX_BYTES_MAX]) -> &'b str {
    std::str::from_utf8(hex_digits(bytes, buffer)).unwrap_or_default()
}

fn hex_digits<'b>(bytes: &[u8], buffer: &'b mut [u8]) -> &'b [u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in buffer.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    &buffer[..2 * bytes.len().min(HEX_BYTES_MAX)]
}

/// An event's id as lower-case hex digits, as it is printed everywhere.
pub fn id_text(id: &[u8]) -> String {
    let mut buffer = [0u8; 2 * HEX_BYTES_MAX];
    hex(&id[..id.len().min(HEX_BYTES_MAX)], &mut buffer).to_owned()
}

/// Unix nanoseconds, written as RFC 3339 in UTC with nine digits.
pub(super) struct Time(u64);

/// 0 is how proto3 says "not known".
pub(super) fn time(ns: u64) -> Option<Time> {
    (ns != 0).then_some(Time(ns))
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [b'"'; TIME_BYTES + 2];
        if let Some(digits) = buffer.get_mut(1..).and_then(|rest| rest.first_chunk_mut()) {
            rfc3339_digits(self.0, digits);
        }
        serializer.serialize_bytes(&buffer)
    }
}

/// Length of `2026-11-24T09:57:43.123456789Z`. u64 nanoseconds end in the year 2554: always four digits.
const TIME_BYTES: usize = 30;

/// Unix nanoseconds as RFC 3339 in UTC with nine digits.
pub fn time_text(ns: u64) -> String {
    let mut buffer = [0u8; TIME_BYTES];
    rfc3339(ns, &mut buffer).to_owned()
}

/// The calendar is jiff's, asked once a second; only the digits are placed by hand, because a call has six times and
/// formatting them through `fmt` was half of the line's cost.
fn rfc3339(ns: u64, buffer: &mut [u8; TIME_BYTES]) -> &str {
    rfc3339_digits(ns, buffer);
    std::str::from_utf8(buffer).unwrap_or_default()
}

fn rfc3339_digits(ns: u64, buffer: &mut [u8; TIME_BYTES]) {
    const SECOND: u64 = 1_000_000_000;
    thread_local! {
        /// The second that was written last, and how: of a call's times most are in one.
        static LAST: Cell<(u64, [u8; TIME_BYTES])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000000Z")) };
    }
    let second = ns / SECOND;
    let (known, text) = LAST.get();
    *buffer = text;
    if known != second {
        to_the_second(second, buffer);
        LAST.set((second, *buffer));
    }
    // In 32 bits: it is nine divisions.
    let mut rest = (ns % SECOND) as u32;
    for digit in buffer[20..29].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn to_the_second(second: u64, buffer: &mut [u8; TIME_BYTES]) {
    const DAY: u64 = 86_400;
    buffer[..10].copy_from_slice(&date_of(second / DAY));
    digits(&mut buffer[11..13], second % DAY / 3600);
    digits(&mut buffer[14..16], second / 60 % 60);
    digits(&mut buffer[17..19], second % 60);
}

/// The date so many days after the first of January 1970.
fn date_of(day: u64) -> [u8; 10] {
    let mut text = *b"0000-00-00";
    let seconds = i64::try_from(day * 86_400).unwrap_or(i64::MAX);
    if let Ok(timestamp) = jiff::Timestamp::from_second(seconds) {
        let civil = jiff::tz::Offset::UTC.to_datetime(timestamp);
        digits(&mut text[0..4], civil.year().unsigned_abs().into());
        digits(&mut text[5..7], civil.month().unsigned_abs().into());
        digits(&mut text[8..10], civil.day().unsigned_abs().into());
    }
    text
}

#[inline]
fn digits(places: &mut [u8], mut number: u64) {
    for digit in places.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
