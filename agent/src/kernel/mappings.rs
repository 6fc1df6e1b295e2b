//! Executable mappings of TLS libraries, told by the kernel's own side records of profiling (`PERF_RECORD_MMAP2`).
//!
//! They cost where something is mapped executable, and nothing anywhere else: a program on `sys_exit` would be paid
//! by every system call of the host. There is no filter in the kernel, so each exec writes a few records; a name that
//! is not libssl's is dropped here before anything else is done.
//!
//! A record that wakes somebody costs the process that maps more than the record itself. So there are two events per
//! CPU: one that records and wakes nobody, and a bell, which the next record rings and which is off as long as the
//! rings are looked at every [`PAUSE`] anyway. An idle host wakes nobody; a storm of execs costs a look every
//! [`PAUSE`].
//!
//! What the rings could not hold is counted by the kernel and handed on as
//! [`Seen::Lost`]: whoever listens looks at the running processes again. The same holds for CPUs that come online
//! later; they are found within [`CPU_CHECK`], and until then what they map is not seen.
//!
//! It must not know what is done about a library.

#![allow(unsafe_code)]

use std::io;
use std::mem::{offset_of, size_of};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apiward_common::scope::FileKey;
use aya_obj::generated::{
    perf_event_attr, perf_event_mmap_page, perf_event_sample_format, perf_event_type, perf_sw_ids,
    perf_type_id,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Data pages of one CPU's ring; a power of two. A record has some 150 bytes: one [`PAUSE`] of execs back to back
/// fills a tenth.
const RING_PAGES: usize = 16;
/// CPUs that are followed.
const CPUS_MAX: usize = 4_096;
/// Longest name that is handed on: that of a file, and what the kernel adds to a deleted one's.
const NAME_BYTES_MAX: usize = 255 + " (deleted)".len();
/// Data pages of a bell's ring, which nobody reads.
const BELL_PAGES: usize = 1;
/// Between two looks at the rings while there are records.
const PAUSE: Duration = Duration::from_millis(5);
/// So long after the last record the rings are looked at on their own; then the bells are switched on.
const LINGER: Duration = Duration::from_millis(100);
/// How often the list of CPUs is read.
const CPU_CHECK: Duration = Duration::from_secs(30);
const ONLINE: &str = "/sys/devices/system/cpu/online";

// include/uapi/linux/perf_event.h. A record: type u32, misc u16, size u16; then its body; then, because of
// `sample_id_all`, pid u32, tid u32 and time u64.
const HEADER_BYTES: usize = 8;
const SAMPLE_ID_BYTES: usize = 16;
/// pid, tid, addr, len, pgoff, maj, min, ino, ino_generation, prot, flags, name.
const MMAP2_PID: usize = 8;
const MMAP2_MAJOR: usize = 40;
const MMAP2_MINOR: usize = 44;
const MMAP2_INODE: usize = 48;
const MMAP2_PROT: usize = 64;
const MMAP2_NAME: usize = 72;
/// id u64, lost u64.
const LOST_COUNT: usize = 16;
/// In `misc`: a build id stands where device and inode do. It is never asked for.
const MISC_BUILD_ID: u16 = 1 << 14;
const PROT_EXEC: u32 = 4;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_DISABLE`: `_IO('$', 0)` and `_IO('$', 1)`.
const ENABLE: libc::Ioctl = 0x2400;
const DISABLE: libc::Ioctl = 0x2401;
/// Bits of a minor number in the kernel's encoding of a device.
const MINOR_BITS: u32 = 20;

/// A process mapped a file executable whose name is libssl's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Nanoseconds of CLOCK_MONOTONIC, as records of the kernel programs have them.
    pub at_ns: u64,
    /// As the agent's own process namespace counts.
    pub pid: u32,
    /// As the file system under the mapping has it; for overlayfs that is, on kernels before 6.18, the layer's own.
    pub file: FileKey,
    /// The last part of its path.
    pub name: String,
}

/// What the rings told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Mapped(Mapping),
    /// So many records had no room, or were not understood: mappings may have been missed.
    Lost(u64),
    /// CPUs came that nobody listened to: mappings may have been missed.
    Cpus,
}

/// Why mappings cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum MappingsError {
    #[error(
        "the kernel does not let the agent follow executable mappings: give it CAP_PERFMON; in a container, allow perf_event_open"
    )]
    NotPermitted,
    #[error(
        "the kernel has no event for executable mappings (perf_event_open: {0}): use one with CONFIG_PERF_EVENTS=y"
    )]
    Refused(io::Error),
    #[error(
        "no memory for the ring of mappings: {0}. Give the agent CAP_IPC_LOCK, or raise kernel.perf_event_mlock_kb"
    )]
    Memory(io::Error),
    #[error("{ONLINE} names no CPU: mount sysfs")]
    NoCpus,
}

/// The events of all CPUs.
pub struct Mappings {
    rings: Vec<Ring>,
    buffer: Vec<u8>,
}

impl Mappings {
    /// Begins to record on every CPU that is online.
    pub fn open() -> Result<Mappings, MappingsError> {
        let mut mappings = Mappings {
            rings: Vec::new(),
            buffer: Vec::new(),
        };
        let cpus = online();
        for cpu in cpus {
            match Ring::open(cpu) {
                Ok(ring) => mappings.rings.push(ring),
                // Gone since the list was read.
                Err(MappingsError::Refused(error)) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        if mappings.rings.is_empty() {
            return Err(MappingsError::NoCpus);
        }
        Ok(mappings)
    }

    /// Hands on everything that is there. Whether there were records, of whatever.
    pub fn drain(&mut self, each: &mut impl FnMut(Seen)) -> bool {
        let mut any = false;
        for ring in &mut self.rings {
            match ring.take(&mut self.buffer) {
                Ok(()) => parse(&self.buffer, each),
                Err(Damaged) => each(Seen::Lost(1)),
            }
            any |= !self.buffer.is_empty();
        }
        any
    }

    /// Calls `each` on a thread of its own until the handle is dropped.
    pub fn watch(self, each: impl FnMut(Seen) + Send + 'static) -> io::Result<Watch> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let thread = std::thread::Builder::new().name("apiward-maps".into()).spawn({
            let stop = stop.clone();
            move || self.serve(stop.as_fd(), each)
        })?;
        Ok(Watch {
            stop,
            thread: Some(thread),
        })
    }

    fn serve(mut self, stop: BorrowedFd<'_>, mut each: impl FnMut(Seen)) {
        let mut checked = Instant::now();
        let mut linger_until = checked;
        loop {
            let (mut pause, mut ended) = (PAUSE, false);
            let mut found = self.drain(&mut each);
            if !found && Instant::now() >= linger_until {
                self.set_bells(true);
                // What came before they were on has rung none.
                found = self.drain(&mut each);
                if !found {
                    let woken = self.wait(stop, CPU_CHECK);
                    if woken.stop {
                        return;
                    }
                    // The bell may be heard before the record is there: it is looked for a while.
                    found = woken.rung;
                    ended = woken.ended;
                    pause = Duration::ZERO;
                }
                self.set_bells(false);
            }
            if found {
                linger_until = Instant::now() + LINGER;
            }
            if ended || checked.elapsed() >= CPU_CHECK {
                checked = Instant::now();
                if self.follow_cpus() {
                    each(Seen::Cpus);
                }
            }
            if stops_within(stop, pause) {
                return;
            }
        }
    }

    fn set_bells(&self, on: bool) {
        for ring in &self.rings {
            let request = if on { ENABLE } else { DISABLE };
            // SAFETY: takes a number, and touches no memory of ours. It fails for a CPU that went offline.
            unsafe { libc::ioctl(ring.bell.fd.as_raw_fd(), request, 0) };
        }
    }

    /// Waits for a bell. Rings that have ended are let go of.
    fn wait(&mut self, stop: BorrowedFd<'_>, limit: Duration) -> Woken {
        let mut fds: Vec<PollFd<'_>> = std::iter::once(stop)
            .chain(self.rings.iter().map(|ring| ring.bell.fd.as_fd()))
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        if let Err(error) = poll(&mut fds, Some(&timespec(limit))) {
            // Interrupted, or no memory: as if one had rung, which has a pause after it.
            tracing::debug!(%error, "waiting for mappings");
            return Woken {
                rung: true,
                ..Woken::default()
            };
        }
        let ended: Vec<bool> = fds[1..]
            .iter()
            .map(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
            .collect();
        let woken = Woken {
            stop: !fds[0].revents().is_empty(),
            rung: fds[1..].iter().any(|fd| fd.revents().contains(PollFlags::IN)),
            ended: ended.contains(&true),
        };
        // Its CPU went offline. It would be ready for ever.
        let mut each = ended.iter();
        self.rings.retain(|_| each.next() != Some(&true));
        woken
    }

    /// Lets go of CPUs that went offline, takes up those that came. Whether any came.
    fn follow_cpus(&mut self) -> bool {
        let online = online();
        self.rings.retain(|ring| online.contains(&ring.cpu));
        let mut came = false;
        for cpu in online {
            if self.rings.iter().all(|ring| ring.cpu != cpu) {
                match Ring::open(cpu) {
                    Ok(ring) => {
                        self.rings.push(ring);
                        came = true;
                    }
                    Err(error) => tracing::warn!(cpu, %error, "libraries mapped on this CPU are not seen"),
                }
            }
        }
        came
    }
}

/// What ended a wait; nothing: its limit.
#[derive(Default)]
struct Woken {
    stop: bool,
    /// There is, or will be at once, a record.
    rung: bool,
    /// A ring has ended, and is gone.
    ended: bool,
}

/// Ends the thread when it is dropped, at once.
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It counts to 2^64: there is always room.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn stops_within(stop: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timespec(limit))), Ok(ready) if ready > 0)
}

fn timespec(limit: Duration) -> Timespec {
    Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    }
}

fn online() -> Vec<u32> {
    cpu_list(&std::fs::read_to_string(ONLINE).unwrap_or_default())
}

/// Numbers and ranges, as in `0-3,5`. At most [`CPUS_MAX`].
fn cpu_list(text: &str) -> Vec<u32> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .take(CPUS_MAX)
        .collect()
}

/// What stands in the ring cannot be a sequence of records.
#[derive(Debug, PartialEq, Eq)]
struct Damaged;

/// One CPU's two events.
struct Ring {
    cpu: u32,
    records: Event,
    /// Off as long as nobody waits for it.
    bell: Event,
}

/// An event, and the memory that the kernel writes its records to: a page of bookkeeping, then the data.
struct Event {
    fd: OwnedFd,
    memory: NonNull<u8>,
    page_bytes: usize,
    data_pages: usize,
}

// SAFETY: the memory is this value's alone on this side, and goes with it.
unsafe impl Send for Event {}

impl Event {
    /// `is_bell`: it is off at first, each record wakes whoever polls it, and none has to be taken.
    fn open(cpu: u32, data_pages: usize, is_bell: bool) -> Result<Event, MappingsError> {
        // SAFETY: it is plain integers, for which zero is a value.
        let mut attribute: perf_event_attr = unsafe { std::mem::zeroed() };
        attribute.type_ = perf_type_id::PERF_TYPE_SOFTWARE as u32;
        attribute.size = size_of::<perf_event_attr>() as u32;
        // It never counts anything: only the side records are wanted.
        attribute.config = perf_sw_ids::PERF_COUNT_SW_DUMMY as u64;
        attribute.sample_type = perf_event_sample_format::PERF_SAMPLE_TID as u64
            | perf_event_sample_format::PERF_SAMPLE_TIME as u64;
        attribute.set_mmap(1);
        attribute.set_mmap2(1);
        attribute.set_sample_id_all(1);
        attribute.set_use_clockid(1);
        attribute.clockid = libc::CLOCK_MONOTONIC;
        if is_bell {
            attribute.set_disabled(1);
            // Side records wake by bytes only, `wakeup_events` is for samples.
            attribute.set_watermark(1);
            attribute.__bindgen_anon_2.wakeup_watermark = 1;
        }
        let (every_process, no_group) = (-1i32, -1i32);
        // SAFETY: the attribute lives until the call returns, and the kernel reads as many bytes as its size says.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attribute,
                every_process,
                cpu as i32,
                no_group,
                CLOSE_ON_EXEC,
            )
        };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::ACCESS | Errno::PERM) => MappingsError::NotPermitted,
                _ => MappingsError::Refused(error),
            });
        }
        // SAFETY: the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: asks for a number.
        let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .map_err(|_| MappingsError::Memory(io::Error::last_os_error()))?;
        // Where we may write, the kernel waits for us to take; where not, it goes round and round.
        let access = if is_bell {
            libc::PROT_READ
        } else {
            libc::PROT_READ | libc::PROT_WRITE
        };
        // SAFETY: a new mapping at a place of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page_bytes * (1 + data_pages),
                access,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(memory.cast::<u8>()) {
            Some(start) if memory != libc::MAP_FAILED => Ok(Event {
                fd,
                memory: start,
                page_bytes,
                data_pages,
            }),
            _ => Err(MappingsError::Memory(io::Error::last_os_error())),
        }
    }
}

impl Ring {
    fn open(cpu: u32) -> Result<Ring, MappingsError> {
        Ok(Ring {
            cpu,
            records: Event::open(cpu, RING_PAGES, false)?,
            bell: Event::open(cpu, BELL_PAGES, true)?,
        })
    }

    /// Moves everything that is there into `buffer`.
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<(), Damaged> {
        buffer.clear();
        let head = self.position(offset_of!(perf_event_mmap_page, data_head));
        let tail = self.position(offset_of!(perf_event_mmap_page, data_tail));
        // What is acquired here was written before the kernel moved the head.
        let (from, to) = (tail.load(Ordering::Relaxed), head.load(Ordering::Acquire));
        let Event {
            memory,
            page_bytes,
            data_pages,
            ..
        } = &self.records;
        let pieces = pieces(from, to, page_bytes * data_pages);
        for piece in pieces.iter().flatten() {
            let start = buffer.len();
            buffer.resize(start + piece.len(), 0);
            // SAFETY: the piece lies within the data pages, and the kernel does not write there before the tail moves.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    memory.as_ptr().add(page_bytes + piece.start),
                    buffer[start..].as_mut_ptr(),
                    piece.len(),
                );
            }
        }
        // The copy is done before the kernel may write there again.
        tail.store(to, Ordering::Release);
        pieces.map(|_| ()).ok_or(Damaged)
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both positions are aligned, lie in the first page, and are only ever accessed atomically.
        unsafe { AtomicU64::from_ptr(self.records.memory.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing of it is borrowed any more.
        unsafe {
            libc::munmap(
                self.memory.as_ptr().cast(),
                self.page_bytes * (1 + self.data_pages),
            )
        };
    }
}

/// Where in the data, of a power of two in length, the bytes between two positions lie: at its end, then at its start.
fn pieces(from: u64, to: u64, bytes: usize) -> Option<[Range<usize>; 2]> {
    let length = usize::try_from(to.wrapping_sub(from)).ok()?;
    if length > bytes {
        return None;
    }
    let start = (from % bytes as u64) as usize;
    let first = length.min(bytes - start);
    Some([start..start + first, 0..length - first])
}

fn parse(mut records: &[u8], each: &mut impl FnMut(Seen)) {
    while !records.is_empty() {
        let size = u16_at(records, 6).map_or(0, usize::from);
        if size < HEADER_BYTES || size > records.len() {
            // Where the next one would begin is not known.
            each(Seen::Lost(1));
            return;
        }
        let (record, rest) = records.split_at(size);
        records = rest;
        match u32_at(record, 0) {
            Some(kind) if kind == perf_event_type::PERF_RECORD_MMAP2 as u32 => {
                if let Some(mapping) = mapping(record) {
                    each(Seen::Mapped(mapping));
                }
            }
            Some(kind) if kind == perf_event_type::PERF_RECORD_LOST as u32 => {
                each(Seen::Lost(u64_at(record, LOST_COUNT).unwrap_or(1)));
            }
            _ => {}
        }
    }
}

/// A record of a mapping, if it is executable and of a libssl.
fn mapping(record: &[u8]) -> Option<Mapping> {
    let body = record.get(..record.len().checked_sub(SAMPLE_ID_BYTES)?)?;
    let path = body.get(MMAP2_NAME..)?;
    let path = &path[..memchr::memchr(0, path).unwrap_or(path.len())];
    let name = &path[memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..];
    if !name.starts_with(b"libssl")
        || u32_at(body, MMAP2_PROT)? & PROT_EXEC == 0
        || u16_at(body, 4)? & MISC_BUILD_ID != 0
    {
        return None;
    }
    Some(Mapping {
        at_ns: u64_at(record, record.len() - 8)?,
        // 0 and -1 are not processes of this namespace.
        pid: u32_at(body, MMAP2_PID).filter(|pid| (1..=i32::MAX as u32).contains(pid))?,
        file: FileKey {
            inode: u64_at(body, MMAP2_INODE)?,
            device: u32_at(body, MMAP2_MAJOR)?.wrapping_shl(MINOR_BITS) | u32_at(body, MMAP2_MINOR)?,
            reserved: 0,
        },
        name: String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES_MAX)]).into_owned(),
    })
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests;
