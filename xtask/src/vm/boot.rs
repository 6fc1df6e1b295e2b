//! Boots a kernel in QEMU, listens to its console, and reads the verdict.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernels::Kernel;
use crate::sh;

/// What the first process prints before the tests' exit code.
pub const VERDICT: &str = "apiward-vm: verdict ";
/// What a test prints that skips: `SKIPPED name: needs feature`.
const SKIPPED: &str = "SKIPPED ";
/// `no_timer_check`, `nowatchdog`: where the host is busy an emulated timer is late, which the kernel would take for
/// broken hardware, and panic. `mitigations=off`: no processor to be guarded against is emulated, and every indirect jump
/// and system call pays for the guards.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 loglevel=4 no_timer_check nowatchdog mitigations=off";
/// Memory of the test machine; its files are in it.
const MEMORY_MIB: &str = "3072";

/// What the console said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The tests' exit code; `None` if the machine never said.
    pub code: Option<i32>,
    pub passed: u64,
    pub skips: Vec<Skip>,
}

/// A test that did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub test: String,
    pub feature: String,
}

impl Outcome {
    fn add(&mut self, line: &str) {
        if let Some((_, code)) = line.split_once(VERDICT) {
            self.code = code.trim().parse().ok();
        } else if let Some((_, skip)) = line.split_once(SKIPPED) {
            let (test, need) = skip
                .split_once(": needs ")
                .unwrap_or((skip, "nothing that it named"));
            self.skips.push(Skip {
                test: test.trim().to_owned(),
                feature: need.trim().to_owned(),
            });
        } else if let Some((_, counts)) = line.split_once("test result:")
            && let Some(passed) = counts
                .split(". ")
                .nth(1)
                .and_then(|counts| counts.split(' ').next())
        {
            self.passed += passed.parse().unwrap_or(0);
        }
    }
}

/// Boots and waits for the end, for at most `limit`. The console goes to `log`; the tests' lines, or all, to the screen.
pub fn boot(kernel: &Kernel, initrd: &Path, log: &Path, limit: Duration, show_all: bool) -> Result<Outcome> {
    let qemu = sh::which("qemu-system-x86_64").context("QEMU is missing: `cargo xtask setup --vm`")?;
    // Ended by the kernel if we are killed.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(qemu)
        // Emulated: hardware acceleration is missing in most places that build, and results must not differ. Both processors
        // take turns on one thread: on two of them one may still run what the other has just patched, and kernels patch
        // themselves wherever a program is attached (seen on 7.3: a panic on a breakpoint that was gone; on 6.1: no end).
        .args([
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            MEMORY_MIB,
        ])
        .args([
            "-nographic",
            "-no-reboot",
            "-nic",
            "none",
            "-append",
            KERNEL_ARGUMENTS,
        ])
        // Asked by hand what a machine that hangs is doing: `info registers -a`, with the image's System.map beside it.
        .arg("-monitor")
        .arg(format!(
            "unix:{},server=on,wait=off",
            log.with_extension("monitor").display()
        ))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("QEMU could not be started")?;
    let output = child.stdout.take().context("QEMU has no console")?;
    let (lines, incoming) = channel();
    let reader = std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    let mut log = std::fs::File::create(log).with_context(|| log.display().to_string())?;
    let start = Instant::now();
    let deadline = start + limit;
    let mut outcome = Outcome::default();
    loop {
        match incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                log.write_all(line.as_bytes())?;
                if show_all
                    || line.starts_with("test ")
                    || line.contains(SKIPPED)
                    || line.contains("panicked at")
                {
                    print!("    {:>5} s  {line}", start.elapsed().as_secs());
                }
                outcome.add(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                sh::say(&format!("no end after {}: switched off", sh::seconds(limit)));
                break;
            }
        }
    }
    // It has ended, or is to: its console is closed, or its time is over.
    let _ = child.kill();
    child.wait()?;
    let _ = reader.join();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_read() {
        let mut outcome = Outcome::default();
        for line in [
            "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.1s\r\n",
            "SKIPPED tls::prevented: needs uprobe_write_registers\r\n",
            "apiward-vm: verdict 0\r\n",
        ] {
            outcome.add(line);
        }
        assert_eq!(outcome.code, Some(0));
        assert_eq!(outcome.passed, 7);
        assert_eq!(
            outcome.skips,
            [Skip {
                test: "tls::prevented".to_owned(),
                feature: "uprobe_write_registers".to_owned()
            }]
        );
    }
}
