//! User probes: the event that stands for one, which runs what is attached to it.
//!
//! It must not know which program that is, nor what is at the place.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::{fs, io};

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `PERF_ATTR_SIZE_VER5`.
const ATTRIBUTE_BYTES: usize = 112;
/// What the kernel says of these events: their type, and which bit of `config` asks for the return.
const KIND: &str = "/sys/bus/event_source/devices/uprobe/type";

/// Which processes a probe is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    ThisProcess,
    /// All that map the file.
    Everybody,
}

/// A probe at a file's offset, or where what begins there `returns`; it is gone with its descriptor.
pub(super) fn open(file: &CStr, offset: u64, returns: bool, whose: Whose) -> io::Result<OwnedFd> {
    let kind: u32 = fs::read_to_string(KIND)?
        .trim()
        .parse()
        .map_err(|_| io::Error::other("the kernel has no uprobe events"))?;
    // include/uapi/linux/perf_event.h: type, size, config (bit 0: at the return); path and offset of the probe share
    // their places with config1 and config2.
    let mut attribute = [0u8; ATTRIBUTE_BYTES];
    attribute[0..4].copy_from_slice(&kind.to_ne_bytes());
    attribute[4..8].copy_from_slice(&(ATTRIBUTE_BYTES as u32).to_ne_bytes());
    attribute[8..16].copy_from_slice(&u64::from(returns).to_ne_bytes());
    attribute[56..64].copy_from_slice(&(file.as_ptr() as u64).to_ne_bytes());
    attribute[64..72].copy_from_slice(&offset.to_ne_bytes());
    // Of everybody's, the CPU is only the one that would count it.
    let (process, cpu) = match whose {
        Whose::ThisProcess => (0i32, -1i32),
        Whose::Everybody => (-1, 0),
    };
    let no_group = -1i32;
    // SAFETY: the attribute and the path live until the call returns; the kernel reads as many bytes as `size` says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attribute.as_ptr(),
            process,
            cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(result) {
        // SAFETY: the call has returned a descriptor that nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
