//! What of an inventory outlasts a restart of the agent: plain values, which `export` writes down.
//!
//! Words and hosts that may not be shown are kept as keyed hashes, so that a file on the disk holds no more than an
//! event; they get their text back when they are seen again. It must not know files.

use smol_str::SmolStr;

use super::tree::Tree;
use super::{Endpoint, Entry, Inventory, Service, ServiceKey, Workload};
use crate::call::{CallDirection, ThirdParty};

/// One place of a tree; its parent stands before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptPlace {
    pub parent: u32,
    /// A word, `{id}`, or `#` and the hash of a word.
    pub text: SmolStr,
    pub is_value: bool,
    pub is_known: bool,
    pub folded: bool,
    pub proven: bool,
    pub hits: u32,
    pub seen: u32,
    pub values: u64,
    pub shapes: u16,
    /// Short keyed hashes of known words that are values here.
    pub taken: Vec<u32>,
    /// Method, operation, and the place in [`Kept::endpoints`].
    pub ends: Vec<(SmolStr, SmolStr, u32)>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct KeptService {
    pub workload: Workload,
    pub direction: CallDirection,
    pub protocol: &'static str,
    /// A name that is shown, or `#` and its hash; empty: any.
    pub host: SmolStr,
    pub shown_host: SmolStr,
    pub places: Vec<KeptPlace>,
    /// Short keyed hashes of words that are values somewhere.
    pub names: Vec<u32>,
    /// In [`Kept::endpoints`].
    pub unmatched: Option<u32>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub services: Vec<KeptService>,
    pub endpoints: Vec<Endpoint>,
}

/// `#` and 16 hex digits.
pub(super) fn hash_of(key: &[u8; 32], word: &str) -> SmolStr {
    let hash = blake3::keyed_hash(key, word.as_bytes()).to_hex();
    "#".chars().chain(hash.chars().take(16)).collect()
}

impl Inventory {
    /// To be kept.
    pub fn keep(&self) -> Kept {
        let key = &self.settings.key;
        let mut kept = Kept::default();
        for service in &self.service_list {
            let mut places = service.tree.keep(&|word| hash_of(key, word));
            let mut number = |number: u32, place| {
                let entry = self.entries.get(number as usize)?.as_ref()?;
                kept.endpoints.push(self.told(service, place, entry));
                Some((kept.endpoints.len() - 1) as u32)
            };
            for place in &mut places {
                place.ends.retain_mut(|(_, _, end)| match number(*end, None) {
                    Some(now) => {
                        *end = now;
                        true
                    }
                    None => false,
                });
            }
            let unmatched = service.unmatched.and_then(|end| number(end, None));
            let host = &service.key.host;
            kept.services.push(KeptService {
                workload: self.workload_list[service.key.workload as usize].clone(),
                direction: match service.key.inbound {
                    true => CallDirection::Inbound,
                    false => CallDirection::Outbound,
                },
                protocol: service.key.protocol,
                host: match host.is_empty() || host.starts_with('#') || service.shown_host == *host {
                    true => host.clone(),
                    false => hash_of(key, host),
                },
                shown_host: service.shown_host.clone(),
                places,
                names: service.tree.names(),
                unmatched,
            });
        }
        kept
    }

    /// What an earlier run has kept; for an inventory that has seen nothing yet. What is beyond the limits is left out.
    pub fn restore(&mut self, kept: Kept) {
        let limits = self.settings.limits.clone();
        let mut endpoints: Vec<Option<Endpoint>> = kept.endpoints.into_iter().map(Some).collect();
        for service in kept.services {
            let Some(workload) = self.known_workload(service.workload) else {
                continue;
            };
            if self.places + service.places.len() > limits.places_max {
                continue;
            }
            let inbound = service.direction == CallDirection::Inbound;
            let key = ServiceKey {
                workload,
                inbound,
                protocol: service.protocol,
                host: service.host,
            };
            if self.services.contains_key(&key) {
                continue;
            }
            let mut put = |inventory: &mut Inventory, method: &SmolStr, operation: &SmolStr, end: u32| {
                let endpoint = endpoints.get_mut(end as usize)?.take()?;
                if !inventory.has_room() {
                    return None;
                }
                let number = inventory.entries.len() as u32;
                inventory.fields += endpoint.facts.fields.list.len();
                inventory.entries.push(Some(Entry {
                    id: endpoint.id,
                    method: method.clone(),
                    operation: operation.clone(),
                    recognised: endpoint.recognised,
                    third_party: endpoint.agreement.map(|agreement| ThirdParty {
                        domain: endpoint.domain.clone(),
                        shows: !endpoint.domain.is_empty(),
                        vendor: endpoint.vendor,
                        agreement,
                        disagrees: false,
                    }),
                    facts: endpoint.facts,
                    changed: false,
                }));
                Some(number)
            };
            let mut places = service.places;
            for place in &mut places {
                place.ends.retain_mut(
                    |(method, operation, end)| match put(self, method, operation, *end) {
                        Some(number) => {
                            *end = number;
                            true
                        }
                        None => false,
                    },
                );
            }
            let any = SmolStr::new_static("*");
            let unmatched = service
                .unmatched
                .and_then(|end| put(self, &any, &SmolStr::default(), end));
            let tree = Tree::restore(places, service.names, &self.settings.key);
            self.places += tree.len();
            if !key.host.is_empty() {
                *self.hosts.entry((workload, inbound)).or_default() += 1;
            }
            self.hosts_hashed |= key.host.starts_with('#');
            let number = self.service_list.len() as u32;
            self.service_list.push(Service {
                key: key.clone(),
                tree,
                shown_host: service.shown_host,
                unmatched,
            });
            self.services.insert(key, number);
        }
    }
}
