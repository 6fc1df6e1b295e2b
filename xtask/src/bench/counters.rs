//! What is read before and after a load: CPU time of cgroups, the agent's own status, its memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Since their start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub nginx_us: u64,
    pub agent_us: u64,
    pub collector_us: u64,
    /// Calls that the agent has told of.
    pub calls: u64,
    /// Its loss counters, by name.
    pub losses: BTreeMap<String, u64>,
}

impl Counters {
    /// Adds what the agent says of itself.
    pub fn add_status(&mut self, status: &Value) {
        self.calls = status["calls"].as_u64().unwrap_or(0);
        let losses = status["losses"].as_object().into_iter().flatten();
        self.losses = losses
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect();
    }

    /// What the loss counters gained since `before`.
    pub fn losses_since(&self, before: &Counters) -> BTreeMap<String, u64> {
        self.losses
            .iter()
            .map(|(name, count)| {
                (
                    name.clone(),
                    count - before.losses.get(name).unwrap_or(&0).min(count),
                )
            })
            .filter(|(_, gained)| *gained > 0)
            .collect()
    }
}

/// Bytes that a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident, and the most that ever was.
    pub rss: u64,
    pub peak: u64,
    /// The kernel's memory of its BPF maps, the ring among them.
    pub maps: u64,
}

/// The memory of a process, by /proc.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .map(|kib| kib << 10)
            .with_context(|| format!("/proc/{pid}/status has no {name}"))
    };
    let (rss, peak) = (field("VmRSS:")?, field("VmHWM:")?);
    let (mut maps, mut seen) = (0, BTreeSet::new());
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some((id, bytes)) = map_memory(&text)
            && seen.insert(id)
        {
            maps += bytes;
        }
    }
    Ok(Memory { rss, peak, maps })
}

/// Id and bytes of a BPF map, by what /proc says of its descriptor; `None` of anything else.
fn map_memory(fdinfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let found = fdinfo.lines().find_map(|line| line.strip_prefix(name))?;
        found.trim().parse::<u64>().ok()
    };
    Some((field("map_id:")?, field("memlock:")?))
}

/// CPU time that a cgroup has used, µs. In the base accounting, which is there without the controller.
pub fn cpu_us(cgroup: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(cgroup.join("cpu.stat"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("{} has no usage_usec", cgroup.join("cpu.stat").display()))
}

/// Established connections whose own end is this port, in this network namespace.
pub fn connections(port: u16) -> Result<usize> {
    Ok(established(&std::fs::read_to_string("/proc/net/tcp")?, port))
}

fn established(table: &str, port: u16) -> usize {
    let local = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some("01")
    };
    table.lines().filter(is_one).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_told_from_a_program() {
        let map =
            "pos:\t0\nmap_type:\t27\nmax_entries:\t4194304\nmemlock:\t4202608\nmap_id:\t7\nfrozen:\t0\n";
        assert_eq!(map_memory(map), Some((7, 4_202_608)));
        let program = "pos:\t0\nprog_type:\t1\nmemlock:\t4096\nprog_id:\t9\n";
        assert_eq!(map_memory(program), None);
    }

    #[test]
    fn connections_are_counted_at_their_own_end() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                        0: 0100007F:1F90 00000000:0000 0A 0\n\
                        1: 0100007F:1F90 0100007F:C001 01 0\n\
                        2: 0100007F:C001 0100007F:1F90 01 0\n\
                        3: 0100007F:1F90 0100007F:C002 06 0\n";
        assert_eq!(established(table, 8080), 1);
    }

    #[test]
    fn losses_are_what_was_gained() {
        let of = |pairs: &[(&str, u64)]| Counters {
            losses: pairs
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
            ..Counters::default()
        };
        let gained = of(&[("a", 3), ("b", 2), ("c", 0)]).losses_since(&of(&[("a", 1), ("b", 2)]));
        assert_eq!(gained, of(&[("a", 2)]).losses);
    }
}
