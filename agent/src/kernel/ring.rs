//! The ring of records: drained in batches, waited for by event.
//!
//! The kernel side wakes the agent only if it has said that it sleeps, and then once. While there is work the
//! agent comes back on its own after a short pause, so that a busy host costs no wake-up per record.

mod records;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData, MapError};
use records::Records;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Pauses without a record after which the agent goes to sleep until it is woken.
const IDLE_PAUSES_MAX: u32 = 8;

/// The agent's end of the ring.
pub struct Ring {
    map: MapData,
    records: Records,
    sleeping: Array<MapData, u32>,
    idle_pauses: u32,
    waker: Option<Arc<OwnedFd>>,
}

/// Ends a wait from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Ends the wait that goes on now, or the next one.
    pub fn wake(&self) {
        // It fails only where a number this large is waiting to be read already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Ring {
    pub(super) fn new(map: Map, sleeping: Array<MapData, u32>) -> Result<Self, MapError> {
        let Map::RingBuf(map) = map else {
            return Err(MapError::IoError(io::Error::other("it is no ring")));
        };
        // As it is: one that was kept from an earlier run may have another size than is asked for now.
        let bytes = map.info()?.max_entries();
        let records = Records::new(map.fd().as_fd(), bytes).map_err(MapError::IoError)?;
        Ok(Ring {
            map,
            records,
            sleeping,
            idle_pauses: 0,
            waker: None,
        })
    }

    /// A way to end waits. `None`: the kernel gives no descriptor, and waits end by themselves.
    pub fn waker(&mut self) -> Option<Waker> {
        if self.waker.is_none() {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            self.waker = eventfd(0, flags).ok().map(Arc::new);
        }
        self.waker.clone().map(Waker)
    }

    /// Hands every record that is there to `each`, at most `records_max`. Returns how many there were.
    pub fn drain(&mut self, records_max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut records = 0;
        while records < records_max && self.records.next(&mut each) {
            records += 1;
        }
        if records > 0 {
            self.idle_pauses = 0;
        }
        records
    }

    /// Waits for records: for `pause` while there was work lately, else until the kernel wakes us or `limit` is
    /// over. Without a pause the next record wakes at once: what a denial is worth is a matter of microseconds.
    /// Returns whether it was but a pause.
    pub fn wait(&mut self, pause: Option<Duration>, limit: Duration) -> bool {
        if let Some(pause) = pause
            && self.idle_pauses < IDLE_PAUSES_MAX
        {
            self.idle_pauses += 1;
            std::thread::sleep(pause);
            return true;
        }
        if self.sleeping.set(0, 1, 0).is_err() {
            std::thread::sleep(Duration::from_millis(1));
            return true;
        }
        // What was written before the flag was seen would not wake us: poll tells whether the ring has data, and
        // does not sleep then.
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos() as i64,
            };
            let mut fds = vec![PollFd::from_borrowed_fd(self.map.fd().as_fd(), PollFlags::IN)];
            fds.extend(self.waker.iter().map(|waker| PollFd::new(waker, PollFlags::IN)));
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => break,
                _ => {
                    self.idle_pauses = 0;
                    break;
                }
            }
        }
        if let Some(waker) = &self.waker {
            // Nothing to be read is no failure.
            let _ = rustix::io::read(waker, &mut [0_u8; 8]);
        }
        // Best effort: a flag that stays costs one wake-up too many.
        let _ = self.sleeping.set(0, 0, 0);
        false
    }
}
