//! How far a consumer has come, kept over restarts: the last event that it has committed elsewhere.
//!
//! Two slots, written in turn, each with a checksum: a torn write leaves the other one. Losing the newest slot
//! only means that some events are sent twice, which the contract allows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SLOT_BYTES: usize = 20;

/// The last acknowledged sequence number of one consumer, and its file.
#[derive(Debug)]
pub struct Acked {
    /// 0: nothing yet (sequence numbers start at 1).
    pub sequence: u64,
    writes: u64,
    /// Not there while the disk refuses it; tried again at every acknowledgement.
    file: Option<File>,
    path: std::path::PathBuf,
}

impl Acked {
    /// Reads what an earlier run left; starts from nothing where there is nothing good.
    pub fn open(dir: &Path, consumer: &str) -> Self {
        let path = dir.join(format!("{consumer}.acked"));
        let mut acked = Acked {
            sequence: 0,
            writes: 0,
            file: super::private_file(&path).ok(),
            path,
        };
        let mut slots = [0u8; 2 * SLOT_BYTES];
        if let Some(file) = &acked.file {
            let length = file.read_at(&mut slots, 0).unwrap_or(0);
            for slot in slots[..length].chunks_exact(SLOT_BYTES) {
                if let Some((writes, sequence)) = parse(slot)
                    && writes >= acked.writes
                {
                    acked.writes = writes;
                    acked.sequence = sequence;
                }
            }
        }
        acked
    }

    /// Moves forward, never back, and writes it down. False if it could not be written.
    pub fn advance(&mut self, sequence: u64) -> bool {
        if sequence <= self.sequence {
            return true;
        }
        self.sequence = sequence;
        self.writes += 1;
        if self.file.is_none() {
            self.file = super::private_file(&self.path).ok();
        }
        let Some(file) = &self.file else { return false };
        let mut slot = [0u8; SLOT_BYTES];
        slot[..8].copy_from_slice(&self.writes.to_le_bytes());
        slot[8..16].copy_from_slice(&sequence.to_le_bytes());
        let checksum = crc32fast::hash(&slot[..16]);
        slot[16..].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&slot, (self.writes % 2) * SLOT_BYTES as u64)
            .is_ok()
    }
}

fn parse(slot: &[u8]) -> Option<(u64, u64)> {
    let (body, sum) = slot.split_at_checked(16)?;
    if sum != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    let (writes, sequence) = body.split_at(8);
    Some((
        u64::from_le_bytes(writes.try_into().ok()?),
        u64::from_le_bytes(sequence.try_into().ok()?),
    ))
}
