//! Whether a probe's program may write a process's registers: Linux 6.18 and newer, not locked down. Found by doing it.
//!
//! A program of three instructions at the return of one of the agent's own functions puts another result there. It sees
//! this process alone, and is gone at once.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{fs, io};

/// `BPF_PROG_LOAD` of `enum bpf_cmd`, and `BPF_PROG_TYPE_KPROBE` of `enum bpf_prog_type`.
const PROG_LOAD: libc::c_long = 5;
const PROG_TYPE_KPROBE: u32 = 2;
/// `PERF_EVENT_IOC_SET_BPF`, and `PERF_FLAG_FD_CLOEXEC`.
const SET_BPF: libc::c_ulong = 0x4004_2408;
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `PERF_ATTR_SIZE_VER5`.
const ATTRIBUTE_BYTES: usize = 112;
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
    let missing = || io::Error::other("the kernel has no uprobe events");
    let kind: u32 = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?
        .trim()
        .parse()
        .map_err(|_| missing())?;
    let offset = file_offset(untouched as *const () as u64).ok_or_else(missing)?;
    let path = c"/proc/self/exe";
    // include/uapi/linux/perf_event.h: type, size, config (bit 0: at the return); path and offset of the probe share
    // their places with config1 and config2.
    let mut attribute = [0u8; ATTRIBUTE_BYTES];
    attribute[0..4].copy_from_slice(&kind.to_ne_bytes());
    attribute[4..8].copy_from_slice(&(ATTRIBUTE_BYTES as u32).to_ne_bytes());
    attribute[8..16].copy_from_slice(&1u64.to_ne_bytes());
    attribute[56..64].copy_from_slice(&(path.as_ptr() as u64).to_ne_bytes());
    attribute[64..72].copy_from_slice(&offset.to_ne_bytes());
    let (this_process, any_cpu, no_group) = (0i32, -1i32, -1i32);
    // SAFETY: the attribute and the path live until the call returns; the kernel reads as many bytes as `size` says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attribute.as_ptr(),
            this_process,
            any_cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    let event = descriptor(result)?;
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

/// Where in this program's file the code at `address` is.
fn file_offset(address: u64) -> Option<u64> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (hex(start)?, hex(end)?, hex(fields.nth(1)?)?);
        (start..end).contains(&address).then(|| address - start + offset)
    })
}
