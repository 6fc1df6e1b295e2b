//! What one user probe costs on this host, measured on two functions of this very program.
//!
//! In a virtual machine an instruction that the kernel must step over costs several times what one costs that it
//! emulates, and nobody knows how much before trying. The probes count and do nothing else, so this is the trap
//! alone; they see this process only, and are gone with their descriptors.
//!
//! It must not know what is probed elsewhere.

#![allow(unsafe_code)]

/// Nanoseconds of one pass, over those without a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeCosts {
    /// On an instruction that the kernel emulates.
    pub emulated_ns: u64,
    /// On one that it executes out of line.
    pub stepped_ns: u64,
    /// What a return probe adds to that of the entry.
    pub return_ns: u64,
}

#[cfg(not(target_arch = "x86_64"))]
/// Measures; `None` where it cannot be done.
pub fn measure() -> Option<ProbeCosts> {
    None
}

#[cfg(target_arch = "x86_64")]
pub use x86_64::measure;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::fs;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::time::Instant;

    use super::ProbeCosts;

    /// Passes of one round, and rounds; the fastest round counts.
    const PASSES: u64 = 500;
    const ROUNDS: usize = 7;

    /// Bytes of `struct perf_event_attr` in its version 5, which every kernel with uprobe events takes.
    const ATTRIBUTE_BYTES: usize = 112;

    /// `PERF_FLAG_FD_CLOEXEC`.
    const CLOSE_ON_EXEC: libc::c_ulong = 8;

    std::arch::global_asm!(
        ".pushsection .text",
        ".type apiward_cost_emulated, @function",
        "apiward_cost_emulated:",
        "push rbp",
        "pop rbp",
        "ret",
        ".size apiward_cost_emulated, . - apiward_cost_emulated",
        ".type apiward_cost_stepped, @function",
        "apiward_cost_stepped:",
        "sub rsp, 8",
        "add rsp, 8",
        "ret",
        ".size apiward_cost_stepped, . - apiward_cost_stepped",
        ".popsection",
    );

    unsafe extern "C" {
        fn apiward_cost_emulated();
        fn apiward_cost_stepped();
    }

    type Function = unsafe extern "C" fn();

    /// Measures; `None` where it cannot be done (not root, no uprobe events).
    pub fn measure() -> Option<ProbeCosts> {
        let base = time(apiward_cost_emulated);
        let with = |function: Function, returns: bool| -> Option<u64> {
            let _probe = attach(function, returns)?;
            Some(time(function).saturating_sub(base))
        };
        let emulated_ns = with(apiward_cost_emulated, false)?;
        let stepped_ns = with(apiward_cost_stepped, false)?;
        let return_ns = with(apiward_cost_emulated, true)?.saturating_sub(emulated_ns);
        Some(ProbeCosts {
            emulated_ns,
            stepped_ns,
            return_ns,
        })
    }

    fn time(function: Function) -> u64 {
        let round = || {
            let start = Instant::now();
            for _ in 0..PASSES {
                // SAFETY: the functions above touch nothing but the stack, and leave it as it was.
                unsafe { function() };
            }
            start.elapsed().as_nanos() as u64 / PASSES
        };
        (0..ROUNDS).map(|_| round()).min().unwrap_or(0)
    }

    fn attach(function: Function, returns: bool) -> Option<OwnedFd> {
        let kind: u32 = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let offset = file_offset(function as usize as u64)?;
        let path = c"/proc/self/exe";
        // include/uapi/linux/perf_event.h: type, size, config (bit 0: at the return); path and offset of the probe
        // share their places with config1 and config2.
        let mut attribute = [0u8; ATTRIBUTE_BYTES];
        attribute[0..4].copy_from_slice(&kind.to_ne_bytes());
        attribute[4..8].copy_from_slice(&(ATTRIBUTE_BYTES as u32).to_ne_bytes());
        attribute[8..16].copy_from_slice(&u64::from(returns).to_ne_bytes());
        attribute[56..64].copy_from_slice(&(path.as_ptr() as u64).to_ne_bytes());
        attribute[64..72].copy_from_slice(&offset.to_ne_bytes());
        let (this_process, any_cpu, no_group) = (0i32, -1i32, -1i32);
        // SAFETY: the attribute and the path live until the call returns; the kernel reads as many bytes as `size`
        // says. The descriptor that comes back is new and ours.
        unsafe {
            let fd = libc::syscall(
                libc::SYS_perf_event_open,
                attribute.as_ptr(),
                this_process,
                any_cpu,
                no_group,
                CLOSE_ON_EXEC,
            );
            i32::try_from(fd)
                .ok()
                .filter(|fd| *fd >= 0)
                .map(|fd| OwnedFd::from_raw_fd(fd))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_costs_something() {
        match measure() {
            Some(costs) => assert!(costs.emulated_ns > 0 && costs.stepped_ns > 0, "{costs:?}"),
            None => assert!(
                !rustix::process::geteuid().is_root()
                    || !std::path::Path::new("/sys/bus/event_source/devices/uprobe/type").exists()
                    || cfg!(not(target_arch = "x86_64")),
                "root can measure"
            ),
        }
    }
}
