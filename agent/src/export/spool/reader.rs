//! Reading the spool, from the disk and from memory, without holding up whoever writes.

use std::fs::File;
use std::io;

use bytes::Bytes;
use tokio::sync::watch;

use super::segment::{self, Cursor, Segment};
use super::{Spool, Spooled};

/// Reads the spool in order, for one consumer. Reading is not acknowledging.
#[derive(Debug)]
pub struct Reader {
    pub(super) spool: Spool,
    /// Sequence number of the next event to read.
    pub(super) next: u64,
    pub(super) file: Option<(u64, File, Cursor)>,
    /// Memory to read into: so large that the C library would ask the kernel for it anew each time.
    pub(super) chunk: Vec<u8>,
    pub(super) last: watch::Receiver<u64>,
}

/// What one look into the spool gave.
#[derive(Debug, Default)]
pub struct Batch {
    /// Consecutive; empty if nothing waits.
    pub events: Vec<Spooled>,
    /// Events that were found damaged and passed over.
    pub damaged: u64,
}

impl Reader {
    /// Sequence number of the next event that will be read.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next events: consecutive numbers, at most so many and about so many bytes. Does not wait.
    pub fn read(&mut self, events_max: usize, bytes_max: usize) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        // Events of a segment, one behind the other: each is a slice of one piece of memory.
        let mut whole: Vec<u8> = Vec::new();
        let mut ends: Vec<(u64, usize)> = Vec::new();
        while batch.events.is_empty() && ends.is_empty() {
            let found = match self.find() {
                Some(found) => found,
                None => break,
            };
            match found {
                Found::Memory(frames) => {
                    for frame in frames.into_iter().take(events_max) {
                        let event = frame.slice(segment::FRAME_HEADER_BYTES..);
                        bytes += event.len();
                        batch.events.push(Spooled {
                            sequence: self.next,
                            event,
                        });
                        self.next += 1;
                        if bytes >= bytes_max {
                            break;
                        }
                    }
                }
                Found::Segment(segment) => {
                    let read = self.read_segment(&segment, &mut |sequence, event| {
                        if ends.len() >= events_max || (bytes > 0 && bytes + event.len() > bytes_max) {
                            return false;
                        }
                        bytes += event.len();
                        whole.extend_from_slice(event);
                        ends.push((sequence, whole.len()));
                        true
                    });
                    if ends.is_empty() {
                        // Gone: dropped between the look and the read. Damaged: nothing behind it can be trusted.
                        tracing::debug!(
                            segment = segment.first,
                            ?read,
                            "nothing could be read from a segment"
                        );
                        self.file = None;
                        if self
                            .spool
                            .lock()
                            .segments
                            .iter()
                            .any(|other| other.first == segment.first)
                        {
                            batch.damaged += segment.next - self.next;
                            self.next = segment.next;
                        }
                    }
                }
            }
        }
        let whole = Bytes::from(whole);
        let mut start = 0;
        batch
            .events
            .extend(ends.into_iter().map(|(sequence, end)| Spooled {
                sequence,
                event: whole.slice(std::mem::replace(&mut start, end)..end),
            }));
        batch
    }

    /// Waits until there is something to read.
    pub async fn ready(&mut self) {
        let next = self.next;
        // The sender lives in the spool, which this reader holds: it cannot be gone.
        let _ = self.last.wait_for(|&last| last >= next).await;
    }

    fn find(&mut self) -> Option<Found> {
        let inner = self.spool.lock();
        if let Some(segment) = inner.segments.iter().find(|segment| segment.next > self.next) {
            // What was before is dropped, and was counted then.
            self.next = self.next.max(segment.first);
            return Some(Found::Segment(segment.clone()));
        }
        let first = inner.next - inner.memory.len() as u64;
        self.next = self.next.max(first);
        let skip = usize::try_from(self.next - first).unwrap_or(usize::MAX);
        let frames: Vec<Bytes> = inner
            .memory
            .iter()
            .skip(skip)
            .take(MEMORY_READ_LEN_MAX)
            .cloned()
            .collect();
        (!frames.is_empty()).then_some(Found::Memory(frames))
    }

    fn read_segment(
        &mut self,
        segment: &Segment,
        take: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        let (file, mut cursor) = match self.file.take() {
            Some((first, file, cursor)) if first == segment.first && cursor.sequence <= self.next => {
                (file, cursor)
            }
            _ => (File::open(&segment.path)?, Cursor::new(segment.first)),
        };
        if cursor.sequence < self.next {
            let skip = usize::try_from(self.next - cursor.sequence).unwrap_or(usize::MAX);
            cursor.read(&file, segment.bytes, skip, &mut self.chunk, &mut |_, _| true)?;
        }
        let read = cursor.read(&file, segment.bytes, usize::MAX, &mut self.chunk, take)?;
        if read.damaged || cursor.sequence < self.next {
            self.next = self.next.max(cursor.sequence);
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.next = cursor.sequence;
        self.file = Some((segment.first, file, cursor));
        Ok(())
    }
}

/// Events taken from memory at a time.
const MEMORY_READ_LEN_MAX: usize = 4096;

enum Found {
    Segment(Segment),
    Memory(Vec<Bytes>),
}
