//! TLS connections that nobody reads: that they are, whose they are, and where they go. One entry a workload and name.
//!
//! What is counted of them are connections, not calls. Over a restart a name that may not be shown is kept as its hash, and
//! known again when it is seen.

use smol_str::{SmolStr, format_smolstr};

use super::note::is_private;
use super::{Inventory, PeerGroup, ServiceKey, address_bit};
use crate::call::{BlindTls, ThirdParty};
use crate::capture::SocketRole;

/// The protocol's name in the inventory.
pub const PROTOCOL: &str = "tls";
/// What stands in the place of a path.
pub(super) const PATH: &str = "{encrypted}";

impl Inventory {
    /// A handshake was seen. `third_party`: whom it goes to, if that is somebody else; `at_ns`: wall clock.
    pub fn blind(&mut self, blind: &BlindTls, third_party: Option<ThirdParty>, at_ns: u64) {
        let known = self
            .workload(&blind.process)
            .map(|workload| self.blind_service(workload, blind));
        let Some(number) = known.and_then(|service| self.unmatched(service, at_ns)) else {
            self.stats.not_learnt += 1;
            return;
        };
        let group = self.group_of(blind.flow.local, blind.flow.remote);
        let Some(Some(entry)) = self.entries.get_mut(number as usize) else {
            return;
        };
        entry.changed = true;
        let facts = &mut entry.facts;
        if facts.first_ns == 0 || at_ns < facts.first_ns {
            facts.first_ns = at_ns;
        }
        facts.last_ns = facts.last_ns.max(at_ns);
        facts.classes[0] += 1;
        match blind.facts.version {
            "" => facts.tls.add("tls", 1),
            version => facts.tls.add(&format_smolstr!("tls {version}"), 1),
        }
        let served = match blind.flow.role {
            SocketRole::Server => blind.flow.local,
            _ => blind.flow.remote,
        };
        if let Some(served) = served {
            facts.ports.add(&format_smolstr!("{}", served.port()), 1);
        }
        if let Some(remote) = blind.flow.remote {
            facts.addresses |= address_bit(remote.ip());
        }
        let peer = PeerGroup::ALL
            .iter()
            .position(|known| *known == group)
            .unwrap_or_default();
        facts.peers[peer] += 1;
        if third_party.is_some() {
            // The newest word: agreements end.
            entry.third_party = third_party;
        }
    }

    fn blind_service(&mut self, workload: u32, blind: &BlindTls) -> u32 {
        let inbound = blind.flow.role == SocketRole::Server;
        let mut key = ServiceKey {
            workload,
            inbound,
            protocol: PROTOCOL,
            host: blind.names.server_name.clone(),
        };
        let shown_host = &blind.facts.server_name;
        if let Some(known) = self.services.get(&key) {
            let service = &mut self.service_list[*known as usize];
            if service.shown_host != *shown_host && !key.host.is_empty() {
                service.shown_host = shown_host.clone();
            }
            return *known;
        }
        if let Some(known) = self.recall_host(&key) {
            return known;
        }
        let hosts = self.hosts.entry((workload, inbound)).or_default();
        if !key.host.is_empty() && *hosts >= self.settings.limits.hosts_max {
            key.host = SmolStr::default();
            if let Some(known) = self.services.get(&key) {
                return *known;
            }
        }
        let shown_host = match key.host.is_empty() {
            true => SmolStr::default(),
            false => {
                *hosts += 1;
                shown_host.clone()
            }
        };
        self.add_service(key, shown_host)
    }

    /// Where the other end is.
    pub(super) fn group_of(
        &self,
        local: Option<std::net::SocketAddr>,
        remote: Option<std::net::SocketAddr>,
    ) -> PeerGroup {
        let Some(remote) = remote.map(|remote| remote.ip().to_canonical()) else {
            return PeerGroup::Unknown;
        };
        let local = local.map(|local| local.ip().to_canonical());
        match () {
            () if remote.is_loopback() || Some(remote) == local => PeerGroup::SameHost,
            () if self
                .settings
                .cluster
                .iter()
                .any(|network| network.contains(&remote)) =>
            {
                PeerGroup::Cluster
            }
            () if is_private(remote) => PeerGroup::Private,
            () => PeerGroup::Public,
        }
    }
}

/// A client's connection to this name, for tests.
#[cfg(test)]
pub(in crate::detect) fn sample(server_name: &str, shown: &str, remote: [u8; 4]) -> BlindTls {
    use std::sync::Arc;
    let call = super::sample_call();
    let mut flow = (*call.flow).clone();
    flow.role = SocketRole::Client;
    flow.remote = Some((remote, 443).into());
    BlindTls {
        at: crate::capture::KernelTime(1),
        flow: Arc::new(flow),
        process: call.process.clone(),
        facts: Arc::new(crate::call::Tls {
            version: "1.3",
            server_name: shown.into(),
            ..Default::default()
        }),
        names: Arc::new(crate::call::TlsNames {
            server_name: server_name.into(),
            ..Default::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::call::Agreement;

    #[test]
    fn a_connection_that_nobody_reads_is_one_entry_a_name() {
        let mut inventory = Inventory::new(Settings::default());
        for remote in [[93, 1, 1, 1], [93, 1, 1, 2]] {
            let third = ThirdParty {
                domain: "vendor.example".into(),
                shows: false,
                vendor: None,
                agreement: Agreement::Unlisted,
                disagrees: false,
            };
            let blind = sample("api.vendor.example", "host-0123abcd", remote);
            inventory.blind(&blind, Some(third), 5);
        }
        inventory.blind(&sample("", "", [10, 0, 0, 1]), None, 6);
        let endpoints = inventory.endpoints();
        assert_eq!(endpoints.len(), 2);
        let one = endpoints
            .iter()
            .find(|one| one.host == "host-0123abcd")
            .expect("it has a name");
        assert_eq!(
            (one.protocol, one.path.as_str(), one.unmatched),
            (PROTOCOL, PATH, true)
        );
        assert_eq!(
            (one.exposure, one.agreement),
            ("third-party", Some(Agreement::Unlisted))
        );
        assert_eq!((one.facts.calls(), one.facts.address_count()), (2, 2));
        assert!(one.domain.is_empty());
        // After a restart, each counts on where it was.
        let mut restarted = Inventory::new(Settings::default());
        restarted.restore(inventory.keep());
        assert!(
            restarted
                .keep()
                .services
                .iter()
                .all(|one| !one.host.contains("vendor"))
        );
        restarted.blind(
            &sample("api.vendor.example", "host-0123abcd", [93, 1, 1, 1]),
            None,
            7,
        );
        let again = restarted.endpoints();
        let again_one = again
            .iter()
            .find(|one| one.host == "host-0123abcd")
            .expect("it is there");
        assert_eq!(
            (again.len(), again_one.facts.calls(), again_one.facts.last_ns),
            (2, 3, 7)
        );
    }

    #[test]
    fn names_are_bounded() {
        let mut inventory = Inventory::new(Settings::default());
        for number in 0..1_000 {
            inventory.blind(
                &sample(&format!("a{number}.example"), "host-1", [93, 1, 1, 1]),
                None,
                5,
            );
        }
        let hosts_max = Settings::default().limits.hosts_max;
        assert_eq!(inventory.endpoints().len(), hosts_max + 1);
    }
}
