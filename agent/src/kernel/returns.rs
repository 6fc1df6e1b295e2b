//! Whether whoever runs under a seccomp filter survives a probe at a function's return. Found by doing it.
//!
//! Since Linux 6.11 such a probe ends in a system call, `uretprobe`, that the program never made. Kernels of that time hold
//! it against the program's filter, which has never heard of it: every container's is refused, and the program crashes.
//! Linux 6.14 lets it pass, and later releases of 6.12 and 6.13 do. A child of this process tries it, under such a filter.

#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;

use super::own;

/// Of x86-64, the only one that has it.
const SYS_URETPROBE: u32 = 335;
const RETURNED: u64 = 42;

/// `Err`: why probes at returns must not be used.
pub fn are_survived() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(try_it).clone()
}

fn try_it() -> Result<(), String> {
    // Everybody's, for the child is another process: that is, whoever runs this very program and comes by.
    let event = own::everybodys_return(returning as *const () as u64)
        .map_err(|error| format!("a probe at a return cannot be tried: {error}"))?;
    let status = in_a_child(filtered_call).map_err(|error| format!("no process can be made: {error}"))?;
    drop(event);
    match status {
        // Where there are no filters, nobody has one.
        0 | NO_FILTER => Ok(()),
        _ => Err(
            "the kernel holds what ends a probe at a return against the program's seccomp filter: \
                  who has one would crash"
                .to_owned(),
        ),
    }
}

#[inline(never)]
extern "C" fn returning() -> u64 {
    std::hint::black_box(RETURNED)
}

/// What the child ends with where it can have no filter.
const NO_FILTER: i32 = 2;

/// Comes back from the function under a filter.
fn filtered_call() -> i32 {
    if !put_on_filter(SYS_URETPROBE) {
        return NO_FILTER;
    }
    let function: extern "C" fn() -> u64 = std::hint::black_box(returning);
    i32::from(function() != RETURNED)
}

/// From now on this process is refused one system call, as container runtimes refuse what they do not know.
fn put_on_filter(refused: u32) -> bool {
    let instruction = |code, if_not, k| libc::sock_filter {
        code,
        jt: 0,
        jf: if_not,
        k,
    };
    // Loads the call's number; another one skips an instruction; returns.
    let mut filter = [
        instruction(0x20, 0, 0),
        instruction(0x15, 1, refused),
        instruction(0x06, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(0x06, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let (no, yes): (libc::c_ulong, libc::c_ulong) = (0, 1);
    // SAFETY: plain numbers, and a program that lives until the call returns. Who crashes leaves no core.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, no, no, no, no);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, no, no, no) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    }
}

/// Runs `work` in a child, and says how that ended: its status, or -1 by a signal.
fn in_a_child(work: fn() -> i32) -> io::Result<i32> {
    // Whoever is told to ignore its children's ends never hears of them. The agent has no other children.
    // SAFETY: the default's own value.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: the child of a process with threads may do nothing but system calls; `work` makes such alone, and it ends
    // without what a process does at its end.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = work();
            // SAFETY: ends the child.
            unsafe { libc::_exit(status) }
        }
        child => {
            let mut status = 0;
            loop {
                // SAFETY: the status is ours, and the child nobody else's.
                if unsafe { libc::waitpid(child, &raw mut status, 0) } >= 0 {
                    break;
                }
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            Ok(if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                -1
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_tells_how_it_ended() {
        assert_eq!(in_a_child(|| 7).expect("a child"), 7);
        assert_eq!(
            // SAFETY: ends the child, by a signal.
            in_a_child(|| unsafe { libc::kill(libc::getpid(), libc::SIGKILL) }).expect("a child"),
            -1
        );
    }

    #[test]
    fn what_the_filter_refuses_is_refused() {
        let status = in_a_child(|| {
            let parent = || {
                // SAFETY: a call without arguments.
                let result = unsafe { libc::syscall(libc::SYS_getppid) };
                (result < 0).then(|| io::Error::last_os_error().raw_os_error())
            };
            let before = parent();
            let filtered = put_on_filter(libc::SYS_getppid as u32);
            i32::from(before.is_none() && filtered && parent() == Some(Some(libc::EPERM)))
        });
        assert_eq!(status.expect("a child"), 1);
    }

    /// Else nothing would be tried.
    #[test]
    fn a_child_has_the_probe() {
        let Ok(event) = own::everybodys_return(returning as *const () as u64) else {
            eprintln!("not tried: only root may attach probes");
            return;
        };
        const BREAKPOINT: u8 = 0xcc;
        // SAFETY: the function's first byte.
        let status = in_a_child(|| i32::from(unsafe { *(returning as *const u8) }));
        assert_eq!(status.expect("a child"), i32::from(BREAKPOINT));
        drop(event);
    }
}
