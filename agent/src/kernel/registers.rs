//! Whether a probe's program may write a process's registers: Linux 6.18 and newer, not locked down. Found by doing it.
//!
//! A program of three instructions at the return of one of the agent's own functions puts another result there. It sees
//! this process alone, and is gone at once.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::own::own_uprobe;

/// `BPF_PROG_LOAD` of `enum bpf_cmd`, and `BPF_PROG_TYPE_KPROBE` of `enum bpf_prog_type`.
const PROG_LOAD: libc::c_long = 5;
const PROG_TYPE_KPROBE: u32 = 2;
/// `PERF_EVENT_IOC_SET_BPF`.
const SET_BPF: libc::c_ulong = 0x4004_2408;
/// `rax` in x86-64's `struct pt_regs`.
const RAX: u64 = 80;
const WRITTEN: u64 = 42;

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    more: [u64; 12],
}

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
    let attributes = ProgLoad {
        kind: PROG_TYPE_KPROBE,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: the attributes and what they point to live as long as the call, and are as long as is said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const attributes,
            size_of::<ProgLoad>(),
        )
    };
    descriptor(result)
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

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the call has returned a descriptor that nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
