//! Who goes first where the agent and what it watches want the same processor.
//!
//! While it only observes, nobody waits for the agent: its records lie in a ring, its events in queues. So it takes the
//! share that every thread gets, but never at once: it does not interrupt whoever runs when it wakes, and whoever wakes
//! meanwhile interrupts it. A watched server's slowest answers are else those that waited for the agent's turn to end.
#![allow(unsafe_code)]

/// Slices are the shorter, the sooner a thread that wakes is let in (EEVDF); the kernel's own is some 3 ms. The most that
/// it takes is 100 ms. Before Linux 6.12 it is not looked at.
const SLICE_LONG_NS: u64 = 20_000_000;

/// From now on this thread, and every one that it starts, lets others go first.
pub fn give_way() {
    set(libc::SCHED_BATCH, SLICE_LONG_NS);
}

/// From now on this thread goes when it wakes, as threads do: a denial is worth what it comes early.
pub fn go_at_once() {
    set(libc::SCHED_OTHER, 0);
}

fn set(policy: i32, slice_ns: u64) {
    // SAFETY: plain numbers; the call reads as many bytes as `size` says. Refused (by seccomp, say), everything stays as
    // it was, which costs others some of their promptness.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
        let mut attributes: libc::sched_attr = std::mem::zeroed();
        attributes.size = size_of::<libc::sched_attr>() as u32;
        attributes.sched_policy = policy as u32;
        attributes.sched_nice = nice;
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
