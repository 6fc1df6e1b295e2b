//! The ring's memory, and the records in it.
//!
//! The kernel lays the data out twice, one behind the other, so that a record that wraps lies in one piece. Mapped like
//! that, every page of the ring counts twice as memory of the agent. Here the second half is left out: what wraps, one
//! record in a round of the ring, is put together in a buffer. It must not know what a record means.
//!
//! Source: Linux, kernel/bpf/ringbuf.c (layout of the pages, the bits of a record's length, who may write when).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Before each record: its length with two bits, and where its page is.
const HEADER_BYTES: usize = 8;
/// The record is still being written.
const BUSY: u32 = 1 << 31;
/// The record was given up.
const DISCARDED: u32 = 1 << 30;
/// The kernel is told of what was taken at least this often, in bytes, and so many times a round of the ring.
const TELL_BYTES: usize = 32 << 10;
const TELL_PART: usize = 16;

/// Part of the ring, in this process's memory.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(ring: BorrowedFd<'_>, bytes: usize, access: i32, offset: usize) -> io::Result<Mapping> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                libc::MAP_SHARED,
                ring.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(memory.cast::<u8>()) {
            Some(start) if memory != libc::MAP_FAILED => Ok(Mapping { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The position at the mapping's beginning.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: a page begins there, which is aligned; kernel and agent access it atomically only.
        unsafe { AtomicUsize::from_ptr(self.start.as_ptr().cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing of it is borrowed any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: the mapping is this value's alone, and goes where it goes.
unsafe impl Send for Mapping {}

/// Takes records, in order.
pub(super) struct Records {
    /// How far the agent has taken them; the kernel reads it.
    taken: Mapping,
    /// How far the kernel has written, and behind that page the data.
    written: Mapping,
    page_bytes: usize,
    /// Bytes of data, a power of two.
    bytes: usize,
    position: usize,
    /// As the kernel knows it; and how far behind it may stay.
    told_position: usize,
    tell_bytes: usize,
    /// As last seen, so that it is not asked for again while there is more.
    written_position: usize,
    joined: Vec<u8>,
}

impl Records {
    /// Of a ring with `bytes` of data.
    pub fn new(ring: BorrowedFd<'_>, bytes: u32) -> io::Result<Records> {
        // SAFETY: asks for a number.
        let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .map_err(|_| io::Error::last_os_error())?;
        let bytes = bytes as usize;
        if !bytes.is_power_of_two() || bytes < page_bytes {
            return Err(io::Error::other("the ring's size is no power of two"));
        }
        let taken = Mapping::new(ring, page_bytes, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let written = Mapping::new(ring, page_bytes + bytes, libc::PROT_READ, page_bytes)?;
        let position = taken.position().load(Ordering::Acquire);
        Ok(Records {
            written_position: written.position().load(Ordering::Acquire),
            taken,
            written,
            page_bytes,
            bytes,
            position,
            told_position: position,
            tell_bytes: TELL_BYTES.min(bytes / TELL_PART),
            joined: Vec::new(),
        })
    }

    /// Hands the next record to `each`. `false`: there is none that is whole.
    pub fn next(&mut self, each: &mut impl FnMut(&[u8])) -> bool {
        loop {
            if self.position == self.written_position {
                self.written_position = self.written.position().load(Ordering::Acquire);
                if self.position == self.written_position {
                    self.tell();
                    return false;
                }
            }
            let start = self.position & (self.bytes - 1);
            // What is acquired here was written before the kernel gave the record free.
            let header = self.header(start).load(Ordering::Acquire);
            if header & BUSY != 0 {
                self.tell();
                return false;
            }
            let length = ((header & !DISCARDED) as usize).min(self.bytes - HEADER_BYTES);
            let discarded = header & DISCARDED != 0;
            if !discarded {
                self.record(start + HEADER_BYTES, length, each);
            }
            self.position = self
                .position
                .wrapping_add((HEADER_BYTES + length).next_multiple_of(HEADER_BYTES));
            if self.position.wrapping_sub(self.told_position) >= self.tell_bytes {
                self.tell();
            }
            if !discarded {
                return true;
            }
        }
    }

    /// Gives the kernel back what was taken. Not at each record: every processor that writes one looks at that place, and a
    /// change is fetched from this one's cache. Before whoever takes records waits for more.
    pub fn tell(&mut self) {
        if self.told_position != self.position {
            // It was read before the kernel may write there again.
            self.taken.position().store(self.position, Ordering::Release);
            self.told_position = self.position;
        }
    }

    /// Records are laid out in steps of a header, so that one never wraps.
    fn header(&self, start: usize) -> &AtomicU32 {
        // SAFETY: `start` is a multiple of a header's length within the data; kernel and agent access it atomically only.
        unsafe { AtomicU32::from_ptr(self.data().add(start).cast()) }
    }

    fn record(&mut self, start: usize, length: usize, each: &mut impl FnMut(&[u8])) {
        let start = start & (self.bytes - 1);
        let first = length.min(self.bytes - start);
        // SAFETY: the part lies within the data, and the kernel does not write there before the position moves.
        let part = unsafe { std::slice::from_raw_parts(self.data().add(start), first) };
        if first == length {
            each(part);
            return;
        }
        // SAFETY: as above; it goes on at the data's beginning.
        let rest = unsafe { std::slice::from_raw_parts(self.data(), length - first) };
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        joined.extend_from_slice(part);
        joined.extend_from_slice(rest);
        each(&joined);
        self.joined = joined;
    }

    fn data(&self) -> *mut u8 {
        // SAFETY: the data lies behind the first page of the mapping.
        unsafe { self.written.start.as_ptr().add(self.page_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;

    const BYTES: usize = 4096;

    /// The kernel's part, in a file.
    struct Kernel {
        file: OwnedFd,
        position: usize,
        page: usize,
    }

    impl Kernel {
        fn new() -> Kernel {
            let file =
                rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).expect("a file in memory");
            // SAFETY: asks for a number.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            rustix::fs::ftruncate(&file, (2 * page + BYTES) as u64).expect("room");
            Kernel {
                file,
                position: 0,
                page,
            }
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            for (index, byte) in bytes.iter().enumerate() {
                let at = 2 * self.page + (at + index) % BYTES;
                rustix::io::pwrite(&self.file, &[*byte], at as u64).expect("written");
            }
        }

        /// Returns where the record's header is.
        fn write(&mut self, record: &[u8], bits: u32) -> usize {
            let at = self.position;
            self.put(at, &(record.len() as u32 | bits).to_ne_bytes());
            self.put(at + HEADER_BYTES, record);
            self.position += (HEADER_BYTES + record.len()).next_multiple_of(HEADER_BYTES);
            rustix::io::pwrite(&self.file, &self.position.to_ne_bytes(), self.page as u64).expect("written");
            at
        }

        fn taken(&self) -> usize {
            let mut bytes = [0; size_of::<usize>()];
            rustix::io::pread(&self.file, &mut bytes, 0).expect("read");
            usize::from_ne_bytes(bytes)
        }
    }

    fn take(records: &mut Records) -> Option<Vec<u8>> {
        let mut found = None;
        records
            .next(&mut |record| found = Some(record.to_vec()))
            .then_some(found)?
    }

    #[test]
    fn records_come_whole_and_in_order_round_after_round() {
        let mut kernel = Kernel::new();
        let mut records = Records::new(kernel.file.as_fd(), BYTES as u32).expect("a ring");
        assert_eq!(take(&mut records), None);
        for round in 0..60_u8 {
            let record: Vec<u8> = (0..usize::from(round) * 17).map(|at| at as u8 ^ round).collect();
            kernel.write(&record, 0);
            assert_eq!(take(&mut records), Some(record), "{round}");
            assert_eq!(take(&mut records), None);
            assert_eq!(kernel.taken(), kernel.position);
        }
        assert!(kernel.position > 4 * BYTES, "it went round");
    }

    #[test]
    fn the_kernel_is_told_now_and_then_and_before_more_is_waited_for() {
        let mut kernel = Kernel::new();
        let mut records = Records::new(kernel.file.as_fd(), BYTES as u32).expect("a ring");
        for _ in 0..12 {
            kernel.write(&[7; 40], 0);
        }
        let mut told = Vec::new();
        let mut taken = 0;
        while take(&mut records).is_some() {
            taken += 48;
            let behind = taken - kernel.taken();
            assert!(behind < BYTES / TELL_PART, "{behind}");
            told.push(kernel.taken());
        }
        assert_eq!(kernel.taken(), kernel.position);
        told.dedup();
        assert!(told.len() <= 3, "it was told at each record: {told:?}");
    }

    #[test]
    fn what_was_given_up_is_passed_over_and_what_is_not_whole_is_waited_for() {
        let mut kernel = Kernel::new();
        let mut records = Records::new(kernel.file.as_fd(), BYTES as u32).expect("a ring");
        kernel.write(b"given up", DISCARDED);
        let busy = kernel.write(b"being written", BUSY);
        kernel.write(b"behind", 0);
        assert_eq!(take(&mut records), None);
        assert_eq!(kernel.taken(), busy);
        kernel.put(busy, &13_u32.to_ne_bytes());
        assert_eq!(take(&mut records).as_deref(), Some(&b"being written"[..]));
        assert_eq!(take(&mut records).as_deref(), Some(&b"behind"[..]));
        assert_eq!(take(&mut records), None);
    }

    #[test]
    fn a_size_that_no_ring_has_is_refused() {
        let kernel = Kernel::new();
        for bytes in [0, 1000, 5000] {
            assert!(Records::new(kernel.file.as_fd(), bytes).is_err());
        }
    }
}
