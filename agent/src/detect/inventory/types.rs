//! What the inventory is told, what it gives, and what it counts. Plain values; it must not know how anything is learnt.

use std::sync::Arc;

use ipnet::IpNet;
use smol_str::SmolStr;

use super::{Facts, Recognised};
use crate::call::{Agreement, CallDirection, Shape, Vendor};
use crate::capture::Process;

/// How much is remembered.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Endpoints altogether.
    pub endpoints_max: usize,
    /// Places of all trees together.
    pub places_max: usize,
    pub workloads_max: usize,
    /// Hosts of one workload and direction; further ones are taken together.
    pub hosts_max: usize,
    /// Operations at one method and path; further ones are taken together.
    pub operations_max: usize,
    /// Endpoints of one service that no call has proven (`401` and its kin).
    pub unproven_endpoints_max: usize,
    /// Keys of bodies, of all endpoints.
    pub fields_max: usize,
    /// Connections of callers on this host that are remembered, to name who calls.
    pub callers_max: usize,
    /// Where there is no room, what was not called for so long is forgotten.
    pub idle_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            endpoints_max: 10_000,
            places_max: 65_536,
            workloads_max: 512,
            hosts_max: 32,
            operations_max: 64,
            unproven_endpoints_max: 96,
            fields_max: 65_536,
            callers_max: 8_192,
            idle_ns: 24 * 3_600 * 1_000_000_000,
        }
    }
}

/// What the inventory needs to know.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub limits: Limits,
    /// Key of the hashes of words that are not shown.
    pub key: [u8; 32],
    /// Networks of the cluster, besides the private ones.
    pub cluster: Vec<IpNet>,
}

/// Who serves or makes calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    pub exe: SmolStr,
    pub cgroup_path: SmolStr,
    pub container: Option<SmolStr>,
}

impl Workload {
    /// Of a process.
    pub fn of(process: &Process) -> Workload {
        Workload {
            exe: match process.exe.is_empty() {
                true => process.comm.clone(),
                false => process.exe.clone(),
            },
            cgroup_path: process.cgroup_path.clone(),
            container: process.container.clone(),
        }
    }

    /// For people: the container's id or the unit, and the program.
    pub fn name(&self) -> String {
        let program = self.exe.rsplit('/').next().unwrap_or_default();
        let place = match &self.container {
            Some(id) => id.get(..12).unwrap_or(id),
            None => self.cgroup_path.rsplit('/').next().unwrap_or_default(),
        };
        match place {
            "" => program.to_owned(),
            place => format!("{place}/{program}"),
        }
    }
}

/// One endpoint, fit to leave.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Stable for as long as it is the same endpoint on this host.
    pub id: u64,
    pub workload: Workload,
    pub direction: CallDirection,
    pub protocol: &'static str,
    /// Empty: whatever name it was called by.
    pub host: SmolStr,
    pub method: SmolStr,
    pub path: String,
    /// Empty: the path tells.
    pub operation: SmolStr,
    /// Calls to paths where nothing was found.
    pub unmatched: bool,
    pub exposure: &'static str,
    pub recognised: Recognised,
    /// Of a third party, as far as it may be shown; empty else.
    pub domain: SmolStr,
    pub vendor: Option<Arc<Vendor>>,
    pub agreement: Option<Agreement>,
    /// Shapes of the values in the path, in order.
    pub path_values: Vec<Vec<Shape>>,
    pub facts: Facts,
}

/// Counters since the start, but for those of what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub endpoints: u64,
    pub places: u64,
    /// Endpoints that turned out to be another one.
    pub merged: u64,
    /// Calls whose endpoint found no room.
    pub not_learnt: u64,
    /// Endpoints forgotten to make room.
    pub evicted: u64,
}
