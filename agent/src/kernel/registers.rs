//! Whether a probe's program may write a process's registers: Linux 6.18 and newer, not locked down. Found by doing it.
//!
//! A program of three instructions at the return of one of the agent's own functions puts another result there. It sees
//! this process alone, and is gone at once.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::links::{self, ProgLoad};
use super::own::own_uprobe;

/// `PERF_EVENT_IOC_SET_BPF`.
const SET_BPF: libc::c_ulong = 0x4004_2408;
/// `rax` in x86-64's `struct pt_regs`.
const RAX: u64 = 80;
const WRITTEN: u64 = 42;

/// `Err`: why not, in the kernel's words.
pub fn can_be_written() -> Result<(), String> {
    let program =
        load().map_err(|error| format!("a program that writes registers does not load: {error}"))?;
    let attached = attach(&program)
        .map_err(|error| format!("a program that writes registers does not attach: {error}"))?;
    let function: extern "C" fn() -> u64 = std::hint::black_box(untouched);
    let result = function();
    drop(attached);
    if result == WRITTEN {
        Ok(())
    } else {
        Err("a program that writes registers runs, and they stay as they were".to_owned())
    }
}

#[inline(never)]
extern "C" fn untouched() -> u64 {
    std::hint::black_box(0)
}

fn load() -> io::Result<OwnedFd> {
    // *(u64 *)(r1 + RAX) = WRITTEN; r0 = 0; exit
    let instruction = |code: u64, registers: u64, offset: u64, immediate: u64| {
        code | registers << 8 | offset << 16 | immediate << 32
    };
    let code = [
        instruction(0x7a, 1, RAX, WRITTEN),
        instruction(0xb7, 0, 0, 0),
        instruction(0x95, 0, 0, 0),
    ];
    links::load(&mut ProgLoad::of_probe("", &code))
}

/// At the return of [`untouched`], of this process.
fn attach(program: &OwnedFd) -> io::Result<OwnedFd> {
    let event = own_uprobe(untouched as *const () as u64, true)?;
    // SAFETY: both descriptors are open; the kernel looks at the program itself.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), SET_BPF, program.as_raw_fd()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(event)
}
