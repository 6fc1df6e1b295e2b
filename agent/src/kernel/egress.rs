//! The maps behind the program for what leaves: what it is to withhold, and what it has let through.

use std::collections::HashSet;

use apiward_common::flow::{Flow, Withhold};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};

use super::load::{LoadError, take};

/// What the egress program is told, and what it tells.
pub struct EgressMaps {
    flows: HashMap<MapData, u64, Flow>,
    some_withheld: Array<MapData, u32>,
    withheld: HashMap<MapData, u64, Withhold>,
    /// Cookies of flows that this agent withholds, and that one before it has. Their ends take them out of the map.
    own: HashSet<u64>,
    found: HashSet<u64>,
}

impl EgressMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<EgressMaps, LoadError> {
        let mut maps = EgressMaps {
            flows: take(ebpf, "FLOWS", HashMap::try_from)?,
            some_withheld: take(ebpf, "SOME_WITHHELD", Array::try_from)?,
            withheld: take(ebpf, "WITHHELD", HashMap::try_from)?,
            own: HashSet::new(),
            found: HashSet::new(),
        };
        maps.found = maps.withheld.keys().flatten().collect();
        Ok(maps)
    }

    /// Connections that an agent before this one knew. What the programs have noted themselves is newer.
    pub(super) fn know(&mut self, connections: Vec<(u64, Flow)>) -> Result<(), MapError> {
        const NO_EXIST: u64 = 1;
        for (cookie, flow) in connections {
            match self.flows.insert(cookie, flow, NO_EXIST) {
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() != Some(libc::EEXIST) => {
                    return Err(MapError::SyscallError(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Connections that were withheld before stay so.
    pub(super) fn keep_withheld(&mut self, withheld: &[(u64, Withhold)]) -> Result<(), MapError> {
        for (cookie, withhold) in withheld {
            self.withheld.insert(cookie, withhold, 0)?;
            self.found.insert(*cookie);
        }
        match withheld.is_empty() {
            true => Ok(()),
            false => self
                .some_withheld
                .set(0, 1, 0)
                .and_then(|()| self.some_withheld.set(1, 1, 0)),
        }
    }

    /// From now on no payload of this flow at or behind `from` leaves; with `None`, none at all.
    pub fn withhold(&mut self, cookie: u64, from: Option<u32>) -> Result<(), MapError> {
        // Where it has ended nothing leaves any more, and no end comes that would take this back.
        if self.flows.get(&cookie, 0).is_ok_and(|flow| flow.closed != 0) {
            return Ok(());
        }
        let known = self.withheld.get(&cookie, 0).ok();
        // What the gate did was earlier, and it knows from where.
        if known.is_some_and(|known| known.gate != 0) {
            return Ok(());
        }
        let value = Withhold {
            from: from.unwrap_or(0),
            everything: u32::from(from.is_none()),
            ..Withhold::default()
        };
        self.withheld.insert(cookie, value, 0)?;
        self.own.insert(cookie);
        self.some_withheld.set(0, 1, 0)
    }

    /// The flow is gone.
    pub fn release(&mut self, cookie: u64) {
        // Its end may have done so already.
        let _ = self.withheld.remove(&cookie);
        if !self.own.remove(&cookie) || !self.own.is_empty() {
            return;
        }
        let withheld = &self.withheld;
        self.found.retain(|cookie| withheld.get(cookie, 0).is_ok());
        if self.found.is_empty() {
            // Best effort: a flag that stays costs one look-up a packet.
            let _ = self.some_withheld.set(0, 0, 0);
        }
    }

    /// Sequence number behind the last payload that has passed, and when (ns, `CLOCK_MONOTONIC`; 0 if none has).
    /// `None`: no egress program has seen the flow.
    pub fn passed(&self, cookie: u64) -> Option<(u32, u64)> {
        let flow = self.flows.get(&cookie, 0).ok()?;
        match (flow.enforceable, flow.egress_seen) {
            (0, _) => None,
            (_, 0) => Some((flow.sent_start, 0)),
            _ => Some((flow.egress_end, flow.egress_at)),
        }
    }

    /// Sequence number of the first byte received; `None` if the connection was not seen from its beginning.
    pub fn received_start(&self, cookie: u64) -> Option<u32> {
        let flow = self.flows.get(&cookie, 0).ok()?;
        (flow.started != 0).then_some(flow.received_start)
    }

    /// Sequence number from which the gate itself withholds the flow.
    pub fn gate_from(&self, cookie: u64) -> Option<u32> {
        let withhold = self.withheld.get(&cookie, 0).ok()?;
        (withhold.gate != 0 && withhold.everything == 0).then_some(withhold.from)
    }
}
