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
    use std::time::Instant;

    use super::ProbeCosts;
    use crate::kernel::own::own_uprobe;

    /// Passes of one round, and rounds; the fastest round counts.
    const PASSES: u64 = 500;
    const ROUNDS: usize = 7;

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
            let _probe = own_uprobe(function as usize as u64, returns).ok()?;
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
