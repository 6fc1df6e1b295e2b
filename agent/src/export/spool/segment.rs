//! One file of the spool: a header, then framed events. Knows bytes and files, not consumers.
//!
//! ```text
//! header  magic (8) · sequence number of the first event (8, little endian) · CRC-32 of both (4)
//! frame   length of the event (4) · CRC-32 of its sequence number and bytes (4) · the event, in protobuf
//! ```
//! The sequence number is in the checksum, not in the frame: a frame that a file system brought back in the wrong
//! place does not pass for another.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// First bytes of every segment; the digit is the layout's version.
const MAGIC: [u8; 8] = *b"APWDSPL1";

/// Length of a segment's header.
pub const HEADER_BYTES: u64 = 20;

/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 8;

/// An event that is longer than this is not ours: heads, paths and lists are all bounded far below.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Bytes read from a segment at a time.
const READ_BYTES: usize = 256 << 10;

/// What is known of a segment on disk.
#[derive(Clone, Debug)]
pub struct Segment {
    pub path: PathBuf,
    /// Sequence number of the first event.
    pub first: u64,
    /// Sequence number after the last event.
    pub next: u64,
    /// Length up to the end of the last good frame.
    pub bytes: u64,
}

/// Where a segment lies.
pub fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// Makes a new segment, for the owner alone.
pub fn create(dir: &Path, first: u64) -> io::Result<(Segment, File)> {
    let path = path(dir, first);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    let mut header = [0u8; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&first.to_le_bytes());
    let checksum = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    if let Err(error) = file.write_all_at(&header, 0) {
        // An empty file with a good name would be taken for a damaged segment at the next start.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok((
        Segment {
            path,
            first,
            next: first,
            bytes: HEADER_BYTES,
        },
        file,
    ))
}

/// Appends an event's frame to `buffer`. False, and nothing appended, if it is too long.
pub fn frame(buffer: &mut Vec<u8>, sequence: u64, event: &[u8]) -> bool {
    if event.len() > EVENT_BYTES_MAX {
        return false;
    }
    buffer.extend_from_slice(&(event.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&checksum(sequence, event).to_le_bytes());
    buffer.extend_from_slice(event);
    true
}

fn checksum(sequence: u64, event: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(event);
    hasher.finalize()
}

/// What stands at the start of some bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// An event, and the length of its frame.
    Event(&'a [u8], usize),
    /// The frame goes on after these bytes.
    Short,
    /// Not a frame, or not this one.
    Damaged,
}

/// Reads the frame of event `sequence` at the start of `bytes`.
pub fn parse(bytes: &[u8], sequence: u64) -> Parsed<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Parsed::Short;
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > EVENT_BYTES_MAX {
        return Parsed::Damaged;
    }
    match rest.get(..length) {
        None => Parsed::Short,
        Some(event) if checksum(sequence, event) == u32::from_le_bytes([c0, c1, c2, c3]) => {
            Parsed::Event(event, FRAME_HEADER_BYTES + length)
        }
        Some(_) => Parsed::Damaged,
    }
}

/// A segment as it was found at start.
#[derive(Debug)]
pub struct Recovered {
    pub segment: Segment,
    /// Bytes after the last good frame: a torn write, or damage.
    pub damaged_bytes: u64,
}

/// Reads a segment that an earlier run left. `None` if it has no good header.
pub fn recover(path: &Path) -> io::Result<Option<Recovered>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0u8; HEADER_BYTES as usize];
    if length < HEADER_BYTES {
        return Ok(None);
    }
    file.read_exact_at(&mut header, 0)?;
    let (body, sum) = header.split_at(16);
    if body[..8] != MAGIC || sum != crc32fast::hash(body).to_le_bytes() {
        return Ok(None);
    }
    let mut first = [0u8; 8];
    first.copy_from_slice(&body[8..]);
    let first = u64::from_le_bytes(first);
    let mut segment = Segment {
        path: path.to_owned(),
        first,
        next: first,
        bytes: HEADER_BYTES,
    };
    let mut cursor = Cursor::new(first);
    let mut chunk = Vec::new();
    loop {
        let read = cursor.read(&file, length, usize::MAX, &mut chunk, &mut |_, _| true)?;
        segment.next = cursor.sequence;
        segment.bytes = cursor.offset;
        if read.damaged || read.frames == 0 {
            break;
        }
    }
    let damaged_bytes = length - segment.bytes;
    Ok(Some(Recovered {
        segment,
        damaged_bytes,
    }))
}

/// A place in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Sequence number of the event that stands at `offset`.
    pub sequence: u64,
    pub offset: u64,
}

/// What one read gave.
#[derive(Debug, Default)]
pub struct Read {
    pub frames: usize,
    /// The frame at the cursor is not good.
    pub damaged: bool,
}

impl Cursor {
    /// At the first event of the segment that starts with `first`.
    pub fn new(first: u64) -> Self {
        Cursor {
            sequence: first,
            offset: HEADER_BYTES,
        }
    }

    /// Reads frames from here up to `end` (a length of the file) and hands them on until `take` says no. The
    /// cursor then stands after the last frame taken. `chunk` is memory to read into.
    pub fn read(
        &mut self,
        file: &File,
        end: u64,
        frames_max: usize,
        chunk: &mut Vec<u8>,
        take: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<Read> {
        let mut read = Read::default();
        let mut want = READ_BYTES;
        'chunk: while read.frames < frames_max && self.offset < end {
            let length = (end - self.offset).min(want as u64) as usize;
            chunk.resize(length, 0);
            file.read_exact_at(chunk, self.offset)?;
            let mut at = 0;
            while read.frames < frames_max {
                match parse(&chunk[at..], self.sequence) {
                    Parsed::Event(event, frame_bytes) => {
                        if !take(self.sequence, event) {
                            return Ok(read);
                        }
                        at += frame_bytes;
                        self.offset += frame_bytes as u64;
                        self.sequence += 1;
                        read.frames += 1;
                    }
                    // Cut by the chunk, not by the file: the next chunk starts with it, and has room for it.
                    Parsed::Short if self.offset + ((chunk.len() - at) as u64) < end => {
                        want = READ_BYTES.max(FRAME_HEADER_BYTES + EVENT_BYTES_MAX);
                        continue 'chunk;
                    }
                    Parsed::Short if at == chunk.len() => continue 'chunk,
                    Parsed::Short | Parsed::Damaged => {
                        read.damaged = true;
                        return Ok(read);
                    }
                }
            }
        }
        Ok(read)
    }
}
