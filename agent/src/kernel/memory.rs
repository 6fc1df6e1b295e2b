//! How the C library gives memory back.
//!
//! At the start the kernel's type information and whole libraries are read, once: some 15 MiB that glibc would keep for
//! ever, because the threads' own arenas and a threshold that grows with what was freed hold on to them.
#![allow(unsafe_code)]

use procfs::process::{MMPermissions, MMapPath};

/// From now on: few arenas, and large pieces that go back to the system when they are freed. Where the C library is not
/// glibc it does nothing.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    {
        const ARENAS_MAX: i32 = 2;
        const LARGE_BYTES: i32 = 128 << 10;
        // What a batch of events needs and the next one needs again: else every batch is a round of page faults.
        const TOP_BYTES: i32 = 2 << 20;
        for (parameter, value) in [
            (libc::M_ARENA_MAX, ARENAS_MAX),
            (libc::M_MMAP_THRESHOLD, LARGE_BYTES),
            (libc::M_TRIM_THRESHOLD, TOP_BYTES),
        ] {
            // SAFETY: only sets a number; called before there are other threads. What it returns does not matter: memory
            // is then kept as it always was.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// What was needed to start and is free now goes back to the system: the allocator's memory, and pages of this program that
/// were read and may never be again.
pub fn give_back() {
    let Ok(program) = std::fs::read_link("/proc/self/exe") else {
        return trim();
    };
    let maps = procfs::process::Process::myself().and_then(|process| process.smaps());
    for map in maps.into_iter().flatten() {
        // This program's own, which nobody maps again, and as it is in its file: what the loader has changed, and perhaps
        // swapped out since, would be lost.
        let untouched = |what| map.extension.map.get(what) == Some(&0);
        let is_as_in_file = matches!(&map.pathname, MMapPath::Path(path) if *path == program)
            && !map.perms.contains(MMPermissions::WRITE)
            && !map.perms.contains(MMPermissions::SHARED)
            && untouched("Anonymous")
            && untouched("Swap");
        if is_as_in_file {
            let (start, end) = map.address;
            // SAFETY: a private mapping of a file that nothing was ever written to: what is asked for again is read from the
            // file again. What it returns does not matter: the pages stay then.
            unsafe {
                libc::madvise(
                    start as *mut libc::c_void,
                    (end - start) as usize,
                    libc::MADV_DONTNEED,
                )
            };
        }
    }
    trim();
}

fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: looks through the allocator's own lists; nothing that is in use is touched.
        unsafe { libc::malloc_trim(0) };
    }
}
