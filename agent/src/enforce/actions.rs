//! The hands of the agent: a map that the egress program looks into, `SOCK_DESTROY`, a pidfd.

use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use super::{Egress, FlowGate, GateError};
use crate::call::CallId;
use crate::capture::{FlowInfo, KernelTime, Process};
use crate::kernel::netlink::{DiagError, Namespaces, Sockets};

mod answer;

/// The egress program's maps: what it is to withhold, and what it has let through.
pub trait Withholding {
    /// See [`FlowGate::withhold`].
    fn withhold(&mut self, cookie: u64, from: Option<u32>) -> Result<(), GateError>;
    /// See [`FlowGate::release`].
    fn release(&mut self, cookie: u64);
    /// See [`FlowGate::egress`].
    fn egress(&mut self, cookie: u64) -> Option<Egress>;
    /// Sequence number of the first byte received; `None` if the connection's beginning was not seen.
    fn received_start(&mut self, cookie: u64) -> Option<u32>;
}

/// What this host's kernel does for enforcement.
pub struct Actions<W> {
    withholding: W,
    namespaces: Namespaces,
    holders: answer::Holders,
}

impl<W: Withholding> Actions<W> {
    /// With the egress program's maps.
    pub fn new(withholding: W) -> Self {
        Actions {
            withholding,
            namespaces: Namespaces::default(),
            holders: answer::Holders::default(),
        }
    }
}

impl<W: Withholding> FlowGate for Actions<W> {
    fn withhold(&mut self, cookie: u64, from: Option<u32>) -> Result<(), GateError> {
        self.withholding.withhold(cookie, from)
    }

    fn release(&mut self, cookie: u64) {
        self.withholding.release(cookie);
    }

    fn egress(&mut self, cookie: u64) -> Option<Egress> {
        self.withholding.egress(cookie)
    }

    fn destroy(&mut self, flow: &FlowInfo, cookie: u64) -> Result<(), GateError> {
        let (Some(local), Some(remote)) = (flow.local, flow.remote) else {
            return Err(GateError::Failed(
                "the socket's addresses are not known".to_owned(),
            ));
        };
        let diag = self.namespaces.get(flow.netns).map_err(from_diag)?;
        diag.destroy(local, remote, cookie).map_err(from_diag)
    }

    fn answer(&mut self, flow: &FlowInfo, process: &Process, event: CallId) -> Result<u32, GateError> {
        let (Some(cookie), Some(local), Some(remote)) = (flow.carrier, flow.local, flow.remote) else {
            return Err(GateError::Failed("the connection was not established".to_owned()));
        };
        let diag = self.namespaces.get(flow.netns).map_err(from_diag)?;
        let socket = diag.find(local, remote, cookie, false).map_err(from_diag)?;
        if socket.inode == 0 {
            return Err(GateError::Gone);
        }
        self.holders.answer(process, socket.inode, cookie, event.0)
    }

    fn hurry(&mut self, flow: &FlowInfo, process: &Process, listener: u64) -> Result<bool, GateError> {
        let diag = self.namespaces.get(flow.netns).map_err(from_diag)?;
        let listeners = diag.dump(Sockets::Listeners, false).map_err(from_diag)?;
        let known = listeners.iter().find(|entry| entry.cookie == listener);
        let inode = known.ok_or(GateError::Gone)?.inode;
        self.holders.hurry(process, inode, listener)
    }

    fn accepted(&mut self, flow: &FlowInfo) -> Option<u32> {
        let (cookie, local, remote) = (flow.carrier?, flow.local?, flow.remote?);
        let start = self.withholding.received_start(cookie)?;
        let diag = self.namespaces.get(flow.netns).ok()?;
        let counters = diag.find(local, remote, cookie, true).ok()?.counters?;
        // Sequence numbers have 32 bits, and wrap.
        Some(start.wrapping_add(counters.bytes_received as u32))
    }

    fn kill(&mut self, process: &Process, seen_at: KernelTime) -> Result<(), GateError> {
        kill(process, seen_at)
    }
}

fn from_diag(error: DiagError) -> GateError {
    match error {
        DiagError::Gone => GateError::Gone,
        other => GateError::Failed(other.to_string()),
    }
}

/// Kills a process by a descriptor of it, after making sure that the descriptor is of the process that was seen:
/// a pid alone may by now be another's.
fn kill(process: &Process, seen_at: KernelTime) -> Result<(), GateError> {
    let failed = |why: &str| Err(GateError::Failed(why.to_owned()));
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|pid| !pid.is_init() && *pid != rustix::process::getpid()) else {
        return failed("neither the first process nor the agent is ever killed");
    };
    if process.exe.is_empty() {
        return failed("which program it runs was not known");
    }
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Err(GateError::Gone),
        Err(errno) => return failed(&format!("it cannot be held on to: {errno}")),
    };
    // From here on /proc/PID is that process or gone, as long as the descriptor says it is alive when signalled.
    let directory = Path::new("/proc").join(process.pid.to_string());
    let Ok(exe) = std::fs::read_link(directory.join("exe")) else {
        return Err(GateError::Gone);
    };
    if exe.as_os_str() != std::ffi::OsStr::new(process.exe.as_str()) {
        return failed("the pid runs another program now");
    }
    let Some(started) = start_time(&directory) else {
        return Err(GateError::Gone);
    };
    if started > on_boot_clock(seen_at) {
        return failed("the pid is another process now");
    }
    match pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::SRCH) => Err(GateError::Gone),
        Err(errno) => failed(&format!("the kernel refused: {errno}")),
    }
}

/// Nanoseconds since boot, rounded down to the kernel's clock tick.
fn start_time(directory: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
    // proc_pid_stat(5): field 22, counted from the parenthesis that ends the name (field 2).
    let ticks: u64 = stat
        .rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    Some(ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Record times stand still while the host sleeps, start times do not.
fn on_boot_clock(at: KernelTime) -> u64 {
    let now = |clock| {
        let time = clock_gettime(clock);
        (time.tv_sec as u64)
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec as u64)
    };
    let monotonic = now(ClockId::Monotonic);
    at.0.saturating_add(now(ClockId::Boottime).saturating_sub(monotonic))
}

#[cfg(test)]
mod tests;
