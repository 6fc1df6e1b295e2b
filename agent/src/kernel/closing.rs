//! Probes whose places the kernel clears while nobody waits.
//!
//! A thread that dies in the middle leaves the place as it was, a breakpoint without a program in every process that maps
//! the library (the kernel says that it leaks a uprobe): so whoever ends this process waits for all of them before.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

static THREADS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Runs `close` beside everything else.
pub(super) fn beside(close: impl FnOnce() + Send + 'static) {
    // Where no thread is to be had, `close` is dropped here and now, and what it holds with it.
    let Ok(thread) = std::thread::Builder::new().spawn(close) else {
        return;
    };
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.retain(|thread| !thread.is_finished());
    threads.push(thread);
}

/// Waits at its end, also after a panic, until all is closed: the first value of a process that attaches probes.
pub struct WaitsAtEnd;

impl Drop for WaitsAtEnd {
    fn drop(&mut self) {
        loop {
            let threads = std::mem::take(&mut *THREADS.lock().unwrap_or_else(PoisonError::into_inner));
            if threads.is_empty() {
                return;
            }
            for thread in threads {
                // One that panicked has closed what it held. Another may have begun what is beside it.
                let _ = thread.join();
            }
        }
    }
}
