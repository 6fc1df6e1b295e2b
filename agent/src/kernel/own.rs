//! A user probe on a function of this very program, seen by this process alone and gone with its descriptor: for trying
//! what the kernel can do, and what that costs.
//!
//! It must not know what is probed elsewhere.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};
use std::{fs, io};

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `PERF_ATTR_SIZE_VER5`.
const ATTRIBUTE_BYTES: usize = 112;

/// Attaches one at the entry of the function at `address`, or where it `returns`.
pub(super) fn own_uprobe(address: u64, returns: bool) -> io::Result<OwnedFd> {
    let missing = || io::Error::other("the kernel has no uprobe events");
    let kind: u32 = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?
        .trim()
        .parse()
        .map_err(|_| missing())?;
    let offset = file_offset(address).ok_or_else(missing)?;
    let path = c"/proc/self/exe";
    // include/uapi/linux/perf_event.h: type, size, config (bit 0: at the return); path and offset of the probe share
    // their places with config1 and config2.
    let mut attribute = [0u8; ATTRIBUTE_BYTES];
    attribute[0..4].copy_from_slice(&kind.to_ne_bytes());
    attribute[4..8].copy_from_slice(&(ATTRIBUTE_BYTES as u32).to_ne_bytes());
    attribute[8..16].copy_from_slice(&u64::from(returns).to_ne_bytes());
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
