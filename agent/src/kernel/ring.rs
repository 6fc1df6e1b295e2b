//! The ring of records: drained in batches, waited for by event.
//!
//! The kernel side wakes the agent only if it has said that it sleeps, and then once. While there is work the
//! agent comes back on its own after a short pause, so that a busy host costs no wake-up per record. Where somebody may
//! wait for what it says to some of them, those end the pause.

mod records;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiward_common::asleep;
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use records::Records;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};

use super::load::{LoadError, take};

/// Pauses without a record after which the agent goes to sleep until it is woken.
const IDLE_PAUSES_MAX: u32 = 8;

/// The agent's end of the ring.
pub struct Ring {
    map: MapData,
    records: Records,
    sleeping: Array<MapData, u32>,
    hasty: HashMap<MapData, u64, u32>,
    some_hasty: Array<MapData, u32>,
    idle_pauses: u32,
    waker: Option<Arc<OwnedFd>>,
    /// Tells of wake-ups alone: that there is something in the ring does not end a wait for it.
    wakeups: Option<OwnedFd>,
    /// The kernel has been told that urgent records are waited for.
    listens: bool,
}

/// For what the agent waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// For the next record.
    Any,
    /// For this long, while there was work lately.
    Later(Duration),
    /// For this long, or the next record that somebody may wait for.
    Urgent(Duration),
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
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let sleeping = take(ebpf, "SLEEPING", Array::try_from)?;
        let hasty = take(ebpf, "HASTY", HashMap::try_from)?;
        let some_hasty = take(ebpf, "SOME_HASTY", Array::try_from)?;
        take(ebpf, "RING", |ring| Ring::new(ring, sleeping, hasty, some_hasty))
    }

    fn new(
        map: Map,
        sleeping: Array<MapData, u32>,
        hasty: HashMap<MapData, u64, u32>,
        some_hasty: Array<MapData, u32>,
    ) -> Result<Self, MapError> {
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
            hasty,
            some_hasty,
            idle_pauses: 0,
            waker: None,
            wakeups: None,
            listens: false,
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
        self.records.tell();
        if records > 0 {
            self.idle_pauses = 0;
        }
        records
    }

    /// Records of this connection (a socket's cookie) are urgent, although the gate is on: it is in a protocol that the
    /// gate does not judge.
    pub fn hasten(&mut self, carrier: u64) {
        // Best effort: else they wait for the end of a pause.
        let _ = self
            .hasty
            .insert(carrier, 1, 0)
            .and_then(|()| self.some_hasty.set(0, 1, 0));
    }

    /// Before records are drained: whether urgent ones are waited for after that. What is written from here on ends
    /// that wait, and what was written before is drained.
    pub fn listen(&mut self, until: Until) {
        self.listens =
            matches!(until, Until::Urgent(_)) && self.sleeping.set(0, asleep::UNTIL_URGENT, 0).is_ok();
    }

    /// Waits for records. Where there was no work lately, until the kernel tells of the next one or `limit` is over.
    /// Returns whether it was but a pause.
    pub fn wait(&mut self, until: Until, limit: Duration) -> bool {
        if self.idle_pauses < IDLE_PAUSES_MAX {
            match until {
                Until::Any => {}
                Until::Later(pause) => {
                    self.idle_pauses += 1;
                    std::thread::sleep(pause);
                    return true;
                }
                Until::Urgent(pause) => {
                    if self.listens && self.wait_for_urgent(pause).is_some() {
                        self.idle_pauses += 1;
                        return true;
                    }
                }
            }
        }
        if self.sleeping.set(0, asleep::UNTIL_ANY, 0).is_err() {
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
        let _ = self.sleeping.set(0, asleep::NOT, 0);
        false
    }

    /// `None`: the kernel gives no descriptor to wait with.
    fn wait_for_urgent(&mut self, pause: Duration) -> Option<()> {
        if self.wakeups.is_none() {
            let wakeups = epoll::create(epoll::CreateFlags::CLOEXEC).ok()?;
            // By edges: else records that are no reason to come would end the wait.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&wakeups, self.map.fd(), epoll::EventData::new_u64(0), flags).ok()?;
            self.wakeups = Some(wakeups);
        }
        let timeout = Timespec {
            tv_sec: pause.as_secs() as i64,
            tv_nsec: pause.subsec_nanos() as i64,
        };
        let mut events = [MaybeUninit::<epoll::Event>::uninit()];
        // A signal ends it as well.
        let _ = epoll::wait(self.wakeups.as_ref()?, &mut events[..], Some(&timeout));
        Some(())
    }
}
