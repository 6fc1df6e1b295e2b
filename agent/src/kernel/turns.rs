//! Who goes first where the agent and what it watches want the same processor.
//!
//! While it only observes, nobody waits for the agent: its records lie in a ring, its events in queues. So it never goes
//! at once: it does not interrupt whoever runs when it wakes, and whoever wakes meanwhile interrupts it. A watched server's
//! slowest answers are else those that waited for the agent's turn to end. As long as there is much room left in ring and
//! queues, it takes a small share only; before there is little, the share that every thread gets.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Slices are the shorter, the sooner a thread that wakes is let in (EEVDF); the kernel's own is some 3 ms. The most that
/// it takes is 100 ms. Before Linux 6.12 it is not looked at.
const SLICE_LONG_NS: u64 = 20_000_000;
/// Niceness of a thread with time: a tenth of an ordinary thread's share.
const WITH_TIME: i32 = 10;
const NICENESS_MAX: i32 = 19;

/// From now on this thread, and every one that it starts, lets others go first.
pub fn give_way() {
    set(libc::SCHED_BATCH, SLICE_LONG_NS, own_niceness());
}

/// As [`give_way`], with a small share for whoever has time, until it has not.
pub fn with_time(has_time: bool) {
    let niceness = match has_time && may_return() {
        true => (own_niceness() + WITH_TIME).min(NICENESS_MAX),
        false => own_niceness(),
    };
    set(libc::SCHED_BATCH, SLICE_LONG_NS, niceness);
}

/// From now on this thread goes when it wakes, as threads do: a denial is worth what it comes early.
pub fn go_at_once() {
    set(libc::SCHED_OTHER, 0, own_niceness());
}

/// As the process was started.
fn own_niceness() -> i32 {
    static NICENESS: OnceLock<i32> = OnceLock::new();
    *NICENESS.get_or_init(niceness)
}

/// A thread that has made itself nicer may take it back (CAP_SYS_NICE): else it must never do it.
fn may_return() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let own = own_niceness();
        let tried = std::thread::spawn(move || {
            set(libc::SCHED_BATCH, SLICE_LONG_NS, (own + 1).min(NICENESS_MAX));
            set(libc::SCHED_BATCH, SLICE_LONG_NS, own);
            niceness() == own
        });
        tried.join().unwrap_or(false)
    })
}

/// The current thread's.
fn niceness() -> i32 {
    // SAFETY: plain numbers.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

fn set(policy: i32, slice_ns: u64, niceness: i32) {
    // SAFETY: plain numbers; the call reads as many bytes as `size` says. Refused (by seccomp, say), everything stays as
    // it was, which costs others some of their promptness.
    unsafe {
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_policy = policy as u32;
        attributes.sched_nice = niceness;
        attributes.sched_runtime = slice_ns;
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: only asks.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn whoever_has_time_is_nicer_and_takes_it_back() {
        std::thread::spawn(|| {
            let own = niceness();
            with_time(true);
            let nicer = niceness();
            assert_eq!(
                nicer,
                if may_return() {
                    (own + WITH_TIME).min(NICENESS_MAX)
                } else {
                    own
                }
            );
            with_time(false);
            assert_eq!((niceness(), policy()), (own, libc::SCHED_BATCH));
            with_time(true);
            go_at_once();
            assert_eq!((niceness(), policy()), (own, libc::SCHED_OTHER));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_gives_way_and_its_children_do_too() {
        std::thread::spawn(|| {
            give_way();
            assert_eq!(policy(), libc::SCHED_BATCH);
            assert_eq!(std::thread::spawn(policy).join().unwrap(), libc::SCHED_BATCH);
            go_at_once();
            assert_eq!(policy(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }
}
