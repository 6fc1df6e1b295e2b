//! What was measured with what: figures without it cannot be compared with anything.

use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::build::Built;
use crate::sh;

/// Cores that the specification speaks of.
const CORES: usize = 2;

/// Kernel, processor and versions.
#[derive(Clone, Debug, Default)]
pub struct About {
    kernel: String,
    processor: String,
    cores: usize,
    agent: String,
    nginx: String,
    wrk: String,
    openssl: String,
    /// Where the agent probes the TLS libraries it met; filled in once it has met them.
    pub sites: Vec<String>,
}

impl About {
    /// Asks everybody.
    pub fn of(built: &Built, cores: usize) -> About {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        About {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processor: processor.to_owned(),
            cores,
            agent: said(Command::new(&built.agent).arg("--version")),
            nginx: by_name("nginx", "-v"),
            wrk: by_name("wrk", "-v"),
            openssl: by_name("openssl", "version"),
            sites: Vec::new(),
        }
    }

    /// For people.
    pub fn print(&self) {
        println!(
            "{}; Linux {} on {} core(s) of {}",
            self.agent, self.kernel, self.cores, self.processor
        );
        println!("{}; {}; {}", self.nginx, self.wrk, self.openssl);
        for site in &self.sites {
            println!("probed: {site}");
        }
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        json!({
            "agent": self.agent,
            "kernel": self.kernel,
            "processor": self.processor,
            "cores": self.cores,
            "nginx": self.nginx,
            "wrk": self.wrk,
            "openssl": self.openssl,
            "sites": self.sites,
        })
    }
}

/// From now on this process, and what it starts, runs on two cores, or on the one there is. Returns on how many.
pub fn keep_to_two_cores() -> usize {
    let Ok(allowed) = sched_getaffinity(None) else {
        return 0;
    };
    let mut wanted = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .take(CORES)
    {
        wanted.set(cpu);
    }
    match sched_setaffinity(None, &wanted) {
        Ok(()) => wanted.count() as usize,
        Err(_) => allowed.count() as usize,
    }
}

fn by_name(program: &str, flag: &str) -> String {
    sh::which(program).map_or_else(String::new, |path| said(Command::new(path).arg(flag)))
}

/// The first line of what it says of itself, on whichever output; some of them fail in saying it.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return String::new();
    };
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all);
    let line = text.lines().next().unwrap_or_default();
    // wrk names its author behind its version.
    line.split(" Copyright")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}
