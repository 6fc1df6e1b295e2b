//! HPACK (RFC 7541): header blocks of one direction → fields.
//!
//! Its table can be joined in the middle: of what was inserted before nothing is known. An index counts from the newest
//! entry, so one that points at an entry inserted since then is exact whatever the table's size is, because no encoder
//! refers to what it has evicted; every other one is unknown, and stays so. It is never guessed.

use std::collections::VecDeque;

use bytes::Bytes;

use super::huffman;

/// Size of the table before anything else is said (RFC 9113 §6.5.2).
const SIZE_DEFAULT: usize = 4096;
/// What each entry counts beyond its bytes (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;
/// Integers beyond are invalid here: no length or index of a bounded block is larger.
const INTEGER_MAX: usize = 1 << 28;

/// One field as far as it is known. `None`: its entry was inserted before anybody here looked.
#[derive(Clone)]
pub struct Field {
    pub name: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// The block breaks the rules of RFC 7541: the receiver gives the connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// Decoder of one direction's header blocks.
pub struct Hpack {
    /// Newest first.
    entries: VecDeque<Field>,
    /// Of the entries that are held, by §4.1.
    size: usize,
    /// As the encoder has it; `None`: it is not known.
    size_max: Option<usize>,
    /// Nothing is in the encoder's table that is not in `entries`.
    whole: bool,
    /// Bytes of entries that may be held.
    held_bytes_max: usize,
}

impl Hpack {
    /// `from_start` is false where header blocks may have gone by.
    pub fn new(from_start: bool, held_bytes_max: usize) -> Self {
        Hpack {
            entries: VecDeque::new(),
            size: 0,
            size_max: from_start.then_some(SIZE_DEFAULT),
            whole: from_start,
            held_bytes_max,
        }
    }

    /// Header blocks have gone by, or could not be read.
    pub fn lose(&mut self) {
        *self = Hpack::new(false, self.held_bytes_max);
    }

    /// Bytes of the entries.
    pub fn held_bytes(&self) -> usize {
        self.size
    }

    /// Decodes one whole block. After [`Invalid`], what was told before it stands, and the table is lost.
    pub fn decode(&mut self, block: &[u8], out: &mut dyn FnMut(Field)) -> Result<(), Invalid> {
        let result = self.block(block, out);
        if result.is_err() {
            self.lose();
        }
        result
    }

    fn block(&mut self, block: &[u8], out: &mut dyn FnMut(Field)) -> Result<(), Invalid> {
        let mut rest = block;
        let mut fields_seen = false;
        while let Some(first) = rest.first().copied() {
            match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    out(self.indexed(index)?);
                }
                0x40.. => {
                    let field = self.literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    out(field);
                }
                0x20.. => {
                    // Only at a block's beginning (§4.2).
                    if fields_seen {
                        return Err(Invalid);
                    }
                    let size_max = integer(&mut rest, 5)?;
                    self.resize(size_max);
                    continue;
                }
                _ => out(self.literal(&mut rest, 4)?),
            }
            fields_seen = true;
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Field, Invalid> {
        if index == 0 {
            return Err(Invalid);
        }
        if let Some((name, value)) = STATIC.get(index - 1) {
            return Ok(Field {
                name: Some(Bytes::from_static(name.as_bytes())),
                value: Some(Bytes::from_static(value.as_bytes())),
            });
        }
        match self.entries.get(index - 1 - STATIC.len()) {
            Some(field) => Ok(field.clone()),
            None if self.whole => Err(Invalid),
            None => Ok(Field {
                name: None,
                value: None,
            }),
        }
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<Field, Invalid> {
        let index = integer(rest, prefix)?;
        let name = match index {
            0 => Some(string(rest)?),
            index => self.indexed(index)?.name,
        };
        let value = Some(string(rest)?);
        Ok(Field { name, value })
    }

    fn insert(&mut self, field: Field) {
        let size = size_of(&field);
        if self.size_max.is_some_and(|size_max| size > size_max) && field.name.is_some() {
            // It empties the table, and is not inserted itself (§4.4).
            self.entries.clear();
            self.size = 0;
            self.whole = true;
            return;
        }
        self.entries.push_front(field);
        self.size += size;
        self.evict();
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = Some(size_max);
        self.evict();
        if size_max < ENTRY_OVERHEAD {
            // No entry fits, so none is left.
            self.entries.clear();
            self.size = 0;
            self.whole = true;
        }
    }

    fn evict(&mut self) {
        while self.size_max.is_some_and(|size_max| self.size > size_max) {
            let Some(oldest) = self.entries.pop_back() else {
                break;
            };
            self.size -= size_of(&oldest);
            // What was inserted before it is gone too.
            self.whole = true;
        }
        while self.size > self.held_bytes_max {
            let Some(oldest) = self.entries.pop_back() else {
                break;
            };
            self.size -= size_of(&oldest);
            self.whole = false;
        }
    }
}

/// At least what the entry counts: of an unknown name nothing is known.
fn size_of(field: &Field) -> usize {
    let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    ENTRY_OVERHEAD + length(&field.name) + length(&field.value)
}

/// §5.1
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Invalid> {
    let mask = (1usize << prefix) - 1;
    let (first, mut tail) = rest.split_first().ok_or(Invalid)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, after) = tail.split_first().ok_or(Invalid)?;
            tail = after;
            // Four bytes of seven bits; zeros beyond are no reason to go on for ever.
            if shift > 28 {
                return Err(Invalid);
            }
            value += usize::from(byte & 0x7f) << shift;
            if value > INTEGER_MAX {
                return Err(Invalid);
            }
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Ok(value)
}

/// §5.2
fn string(rest: &mut &[u8]) -> Result<Bytes, Invalid> {
    let huffman = rest.first().ok_or(Invalid)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    if length > rest.len() {
        return Err(Invalid);
    }
    let (bytes, tail) = rest.split_at(length);
    *rest = tail;
    if !huffman {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len() * 3 / 2);
    huffman::decode(bytes, &mut decoded).ok_or(Invalid)?;
    Ok(Bytes::from(decoded))
}

/// Appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests;
