//! Ended calls → the list of APIs: who serves them, who calls them, and what is in them.
//!
//! An endpoint is workload × direction × protocol × host × method × path template (× operation, where the path does not
//! tell). Templates are learnt (`tree`). It works on raw paths, which never leave: what is shown of a template is
//! vocabulary, what the redactor shows, or a word that many different calls have proven to be the API's own; every other
//! word is `{word-…}` with a keyed hash. Pure and bounded: counts are configured, what finds no room is counted.
//!
//! It must not know policy, exporters or files: they get [`Endpoint`]s.

mod blind;
mod facts;
mod histogram;
mod note;
mod outline;
mod plane;
mod snapshot;
mod tree;
mod types;

use std::sync::Arc;

use hashbrown::HashMap;
use smol_str::{SmolStr, format_smolstr};

pub use self::blind::PROTOCOL as BLIND_PROTOCOL;
pub use self::facts::{DataFact, Facts, Parameter, PeerGroup, Words};
pub use self::histogram::Histogram;
pub(super) use self::note::is_private;
use self::note::{address_bit, exposure, host_key, note, operation, shown_host};
pub use self::outline::{BodyField, BodyFields};
pub use self::plane::{Plane, Recognised};
pub use self::snapshot::{Kept, KeptPlace, KeptService};
use self::tree::{Found, Merges, Place, Tree, Way};
pub use self::types::{Endpoint, Limits, Settings, Stats, Workload};
use crate::call::{Api, ApiCall, CallDirection, CallState, ThirdParty};
use crate::capture::Process;
use crate::detect::Finding;

/// What a call proves about its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Something answered: 1xx to 3xx, but for what sends elsewhere.
    Success,
    /// Something may be there: refused, wrong arguments, a fault. Or sent elsewhere: to a login or to HTTPS, as many servers
    /// do whatever they are asked for.
    Weak,
    /// Nothing is there: 404, 405, 410, 501; or nobody answered.
    None,
}

impl Proof {
    fn of(call: &ApiCall) -> Proof {
        match call.response.as_ref().map(|response| response.status) {
            Some(301 | 302 | 303 | 307 | 308) => Proof::Weak,
            Some(100..=399) => Proof::Success,
            Some(404 | 405 | 410 | 501) => Proof::None,
            Some(_) => Proof::Weak,
            None if call.state == CallState::Switched => Proof::Success,
            None => Proof::None,
        }
    }

    /// The call was one that this server takes, wherever its answer sends.
    fn is_taken(call: &ApiCall) -> bool {
        match &call.response {
            Some(response) => (100..400).contains(&response.status),
            None => call.state == CallState::Switched,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ServiceKey {
    workload: u32,
    inbound: bool,
    protocol: &'static str,
    /// As sent; empty: any.
    host: SmolStr,
}

struct Service {
    key: ServiceKey,
    tree: Tree,
    /// What is shown of the host.
    shown_host: SmolStr,
    /// Calls that led nowhere.
    unmatched: Option<u32>,
}

struct Entry {
    method: SmolStr,
    operation: SmolStr,
    id: u64,
    recognised: Recognised,
    third_party: Option<ThirdParty>,
    facts: Facts,
    /// It has changed since [`Inventory::take_changed`].
    changed: bool,
}

/// The inventory of a host.
pub struct Inventory {
    settings: Settings,
    workloads: HashMap<Workload, u32>,
    workload_list: Vec<Workload>,
    /// What each is called.
    workload_names: Vec<String>,
    /// Processes that were asked about last, by where they are in memory.
    recent: Vec<Option<(Arc<Process>, u32)>>,
    services: HashMap<ServiceKey, u32>,
    service_list: Vec<Service>,
    hosts: HashMap<(u32, bool), usize>,
    /// Keys of bodies, of all endpoints.
    fields: usize,
    /// The endpoint of the last call, if its bodies are worth a look.
    told_last: Option<u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    places: usize,
    /// Who called from where, of connections within this host.
    callers: HashMap<(std::net::SocketAddr, std::net::SocketAddr), u32>,
    /// Ids of endpoints that are no more, since [`Inventory::take_changed`].
    gone: Vec<u64>,
    paths_raw: bool,
    merges: Merges,
    /// Endpoints ever made.
    made: u64,
    /// Of some hosts only the hash is known.
    hosts_hashed: bool,
    stats: Stats,
}

/// Processes that are told apart without a look at their names; a power of two.
const RECENT_PROCESSES: usize = 64;
/// Ids of gone endpoints that are kept until somebody asks.
const GONE_MAX: usize = 16_384;

impl Inventory {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        Inventory {
            settings,
            workloads: HashMap::new(),
            workload_list: Vec::new(),
            workload_names: Vec::new(),
            recent: vec![None; RECENT_PROCESSES],
            services: HashMap::new(),
            service_list: Vec::new(),
            hosts: HashMap::new(),
            fields: 0,
            told_last: None,
            entries: Vec::new(),
            free: Vec::new(),
            places: 0,
            callers: HashMap::new(),
            gone: Vec::new(),
            paths_raw: false,
            merges: Merges::new(),
            made: 0,
            hosts_hashed: false,
            stats: Stats::default(),
        }
    }

    /// While paths are shown as sent, the redactor's word on them proves nothing.
    pub fn set_paths_raw(&mut self, paths_raw: bool) {
        self.paths_raw = paths_raw;
    }

    /// A call begins: who makes it to a neighbour on this host is remembered.
    pub fn begin(&mut self, call: &ApiCall) {
        if call.direction != CallDirection::Outbound {
            return;
        }
        let (Some(local), Some(remote)) = (call.flow.local, call.flow.remote) else {
            return;
        };
        if self.group(call) != PeerGroup::SameHost {
            return;
        }
        let Some(workload) = self.workload(&call.process) else {
            return;
        };
        if self.callers.len() >= self.settings.limits.callers_max {
            // Connections end; whoever calls again is remembered again.
            self.callers.clear();
        }
        self.callers.insert((local, remote), workload);
    }

    /// A call has ended. `at_ns`: when it began, wall clock. `denied`: a policy said so.
    pub fn ended(&mut self, call: &ApiCall, findings: &[Finding], denied: bool, at_ns: u64) {
        self.told_last = None;
        let proof = Proof::of(call);
        let Some(workload) = self.workload(&call.process) else {
            self.stats.not_learnt += 1;
            return;
        };
        let Some(service) = self.service(workload, call, proof) else {
            self.stats.not_learnt += 1;
            return;
        };
        let number = match self.endpoint(service, call, proof, at_ns) {
            Some(number) => Some(number),
            None => self.unmatched(service, at_ns),
        };
        let Some(number) = number else {
            self.stats.not_learnt += 1;
            return;
        };
        let group = self.group(call);
        let caller = match (call.direction, call.flow.remote, call.flow.local) {
            (CallDirection::Inbound, Some(remote), Some(local)) => {
                self.callers.get(&(remote, local)).copied()
            }
            _ => None,
        };
        let caller = caller.map(|caller| self.workload_names[caller as usize].as_str());
        let Some(Some(entry)) = self.entries.get_mut(number as usize) else {
            return;
        };
        entry.changed = true;
        let is_unmatched = self.service_list[service as usize].unmatched == Some(number);
        note(&mut entry.facts, call, findings, denied, at_ns, is_unmatched);
        let facts = &mut entry.facts;
        let peer = PeerGroup::ALL
            .iter()
            .position(|known| *known == group)
            .unwrap_or_default();
        facts.peers[peer] += 1;
        if let Some(caller) = caller {
            facts.callers.add(caller, 1);
        }
        if !is_unmatched && entry.recognised == Recognised::default() {
            entry.recognised = Recognised::of(call);
        }
        if !is_unmatched && Proof::is_taken(call) {
            self.told_last = Some(number);
        }
        if let Some(third) = &call.third_party {
            // The newest word: agreements end.
            entry.third_party = Some(ThirdParty::clone(third));
        }
    }

    /// Looks at the bodies of the call that was told last, for what the schemas of its endpoint are. `shows`: a key may be
    /// shown.
    pub fn outline(&mut self, call: &ApiCall, shows: &mut dyn FnMut(&[u8]) -> bool) {
        let number = self.told_last.take().map(|number| number as usize);
        if let Some(Some(entry)) = number.and_then(|number| self.entries.get_mut(number)) {
            let room = self.settings.limits.fields_max.saturating_sub(self.fields);
            let calls = entry.facts.calls();
            self.fields += entry.facts.fields.look(call, calls, room, shows);
        }
    }

    fn workload(&mut self, process: &Arc<Process>) -> Option<u32> {
        let slot = (Arc::as_ptr(process).addr() / size_of::<Process>()) % RECENT_PROCESSES;
        if let Some(Some((known, workload))) = self.recent.get(slot)
            && Arc::ptr_eq(known, process)
        {
            return Some(*workload);
        }
        let workload = self.known_workload(Workload::of(process))?;
        if let Some(slot) = self.recent.get_mut(slot) {
            *slot = Some((process.clone(), workload));
        }
        Some(workload)
    }

    fn known_workload(&mut self, workload: Workload) -> Option<u32> {
        if let Some(known) = self.workloads.get(&workload) {
            return Some(*known);
        }
        if self.workload_list.len() >= self.settings.limits.workloads_max {
            return None;
        }
        let number = self.workload_list.len() as u32;
        self.workload_names.push(workload.name());
        self.workload_list.push(workload.clone());
        self.workloads.insert(workload, number);
        Some(number)
    }

    /// A caller may write any host: only those that something answers to are told apart, and only so many.
    fn service(&mut self, workload: u32, call: &ApiCall, proof: Proof) -> Option<u32> {
        let inbound = call.direction == CallDirection::Inbound;
        let host = host_key(call, inbound);
        let mut key = ServiceKey {
            workload,
            inbound,
            protocol: call.protocol.as_str(),
            host,
        };
        if let Some(known) = self.services.get(&key) {
            let shown = shown_host(call);
            let service = &mut self.service_list[*known as usize];
            if !key.host.is_empty() && service.shown_host != shown {
                service.shown_host = shown.into();
            }
            return Some(*known);
        }
        if let Some(known) = self.recall_host(&key) {
            return Some(known);
        }
        let hosts = self.hosts.entry((workload, inbound)).or_default();
        if !key.host.is_empty() && (proof == Proof::None || *hosts >= self.settings.limits.hosts_max) {
            key.host = SmolStr::default();
            if let Some(known) = self.services.get(&key) {
                return Some(*known);
            }
        }
        if !key.host.is_empty() {
            *hosts += 1;
        }
        let shown_host = match key.host.is_empty() {
            true => SmolStr::default(),
            false => shown_host(call).into(),
        };
        Some(self.add_service(key, shown_host))
    }

    /// A service whose host's name was not kept over a restart, only what was learnt.
    fn recall_host(&mut self, key: &ServiceKey) -> Option<u32> {
        if !self.hosts_hashed || key.host.is_empty() {
            return None;
        }
        let hashed = ServiceKey {
            host: snapshot::hash_of(&self.settings.key, &key.host),
            ..key.clone()
        };
        let known = self.services.remove(&hashed)?;
        self.service_list[known as usize].key = key.clone();
        self.services.insert(key.clone(), known);
        Some(known)
    }

    fn add_service(&mut self, key: ServiceKey, shown_host: SmolStr) -> u32 {
        let number = self.service_list.len() as u32;
        self.service_list.push(Service {
            key: key.clone(),
            tree: Tree::new(&self.settings.key),
            shown_host,
            unmatched: None,
        });
        self.services.insert(key, number);
        number
    }

    /// The endpoint of a call; `None` where it leads nowhere.
    fn endpoint(&mut self, service: u32, call: &ApiCall, proof: Proof, at_ns: u64) -> Option<u32> {
        let limits = &self.settings.limits;
        let room = limits.places_max.saturating_sub(self.places);
        let tree = &mut self.service_list[service as usize].tree;
        let before = tree.len();
        let shown = (!self.paths_raw).then_some(call.request.path.as_str());
        let path = call.raw.path.as_deref().unwrap_or_default();
        let api = call.operation.as_ref().map(|operation| operation.api);
        let fhir = api == Some(Api::Fhir);
        let mut merges = std::mem::take(&mut self.merges);
        let key = self.settings.key;
        let hash_of = |word: &str| snapshot::hash_of(&key, word);
        let way = Way {
            path,
            shown,
            evidence: proof,
            room,
            fhir,
            hash_of: &hash_of,
        };
        let found = tree.walk(&way, &mut merges);
        self.places = (self.places + tree.len()).saturating_sub(before);
        for (kept, merged) in merges.drain(..) {
            self.merge(kept, merged);
        }
        self.merges = merges;
        let place = match found {
            Found::At(place) => place,
            Found::Unmatched => return None,
            Found::Full => {
                self.stats.not_learnt += 1;
                return None;
            }
        };
        let method = &call.request.method;
        let operation = operation(call);
        let tree = &self.service_list[service as usize].tree;
        if let Some(number) = tree.end(place, method, &operation) {
            return Some(number);
        }
        let ends = &tree.node(place).ends;
        let operations = ends.iter().filter(|(known, _, _)| known == method).count();
        let operation = match operations >= self.settings.limits.operations_max {
            true => SmolStr::new_static("{other}"),
            false => operation,
        };
        if let Some(number) = tree.end(place, method, &operation) {
            return Some(number);
        }
        if !self.has_room() {
            return None;
        }
        // Eviction may have taken places away.
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        let tree = &mut self.service_list[service as usize].tree;
        if !tree.make_end(
            place,
            method.clone(),
            operation.clone(),
            proof,
            &self.settings.limits,
            number,
        ) {
            if (number as usize) < self.entries.len() {
                self.free.push(number);
            }
            return None;
        }
        let id = self.new_id(service, method, &operation, at_ns);
        self.put(
            number,
            Entry {
                id,
                method: method.clone(),
                operation,
                recognised: Recognised::of(call),
                third_party: None,
                facts: Facts::default(),
                changed: true,
            },
        );
        Some(number)
    }

    /// The endpoint that such a call counts to, without counting it; `None`: it leads nowhere, or was never seen.
    pub fn endpoint_of(&self, call: &ApiCall) -> Option<u64> {
        let inbound = call.direction == CallDirection::Inbound;
        let mut key = ServiceKey {
            workload: *self.workloads.get(&Workload::of(&call.process))?,
            inbound,
            protocol: call.protocol.as_str(),
            host: host_key(call, inbound),
        };
        let mut number = self.services.get(&key);
        if number.is_none() {
            key.host = SmolStr::default();
            number = self.services.get(&key);
        }
        let service = self.service_list.get(*number? as usize)?;
        let fhir = call.operation.as_ref().map(|operation| operation.api) == Some(Api::Fhir);
        let path = call.raw.path.as_deref().unwrap_or_default();
        let Found::At(place) = service.tree.find(path, fhir) else {
            return None;
        };
        let end = service.tree.end(place, &call.request.method, &operation(call))?;
        let entry = self.entries.get(end as usize)?.as_ref()?;
        Some(entry.id)
    }

    fn put(&mut self, number: u32, entry: Entry) {
        match self.entries.get_mut(number as usize) {
            Some(slot) => *slot = Some(entry),
            None => self.entries.push(Some(entry)),
        }
    }

    fn has_room(&self) -> bool {
        self.entries.len() - self.free.len() < self.settings.limits.endpoints_max
    }

    /// What leads nowhere is counted in one place a service.
    fn unmatched(&mut self, service: u32, at_ns: u64) -> Option<u32> {
        if let Some(number) = self.service_list[service as usize].unmatched {
            return Some(number);
        }
        if !self.has_room() {
            self.evict(at_ns);
            // One a service: few, and what they count must not be lost for want of room.
        }
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        let id = self.new_id(service, "*", "", at_ns);
        self.put(
            number,
            Entry {
                id,
                method: SmolStr::new_static("*"),
                operation: SmolStr::default(),
                recognised: Recognised::default(),
                third_party: None,
                facts: Facts::default(),
                changed: true,
            },
        );
        self.service_list[service as usize].unmatched = Some(number);
        Some(number)
    }

    fn merge(&mut self, kept: u32, merged: u32) {
        let Some(entry) = self.entries.get_mut(merged as usize).and_then(Option::take) else {
            return;
        };
        self.forget(entry.id);
        self.free.push(merged);
        self.stats.merged += 1;
        if let Some(Some(into)) = self.entries.get_mut(kept as usize) {
            let before = into.facts.fields.list.len() + entry.facts.fields.list.len();
            into.facts.merge(entry.facts);
            into.changed = true;
            self.fields = (self.fields + into.facts.fields.list.len()).saturating_sub(before);
        }
    }

    fn forget(&mut self, id: u64) {
        if self.gone.len() < GONE_MAX {
            self.gone.push(id);
        }
    }

    /// Forgets what was not called for long, if there is no room. Asked now and then by the owner.
    pub fn evict(&mut self, at_ns: u64) {
        if self.has_room() {
            return;
        }
        let before = at_ns.saturating_sub(self.settings.limits.idle_ns);
        let mut idle: Vec<(usize, Place, u32)> = Vec::new();
        for (index, service) in self.service_list.iter().enumerate() {
            idle.extend(service.tree.ends().filter_map(|(place, _, _, number)| {
                let entry = self.entries.get(number as usize)?.as_ref()?;
                (entry.facts.last_ns < before).then_some((index, place, number))
            }));
        }
        for (service, place, number) in idle {
            let Some(entry) = self.entries[number as usize].take() else {
                continue;
            };
            let tree = &mut self.service_list[service].tree;
            let places = tree.len();
            tree.remove_end(place, number);
            self.places = (self.places + tree.len()).saturating_sub(places);
            self.fields = self.fields.saturating_sub(entry.facts.fields.list.len());
            self.forget(entry.id);
            self.free.push(number);
            self.stats.evicted += 1;
        }
    }

    /// How much is held, and what was given up.
    pub fn stats(&self) -> Stats {
        Stats {
            endpoints: (self.entries.len() - self.free.len()) as u64,
            places: self.places as u64,
            ..self.stats
        }
    }

    /// Every endpoint, as it may leave.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.list(false)
    }

    /// Those that have changed since the last time, and the ids of those that are no more.
    pub fn take_changed(&mut self) -> (Vec<Endpoint>, Vec<u64>) {
        let changed = self.list(true);
        for entry in self.entries.iter_mut().flatten() {
            entry.changed = false;
        }
        (changed, std::mem::take(&mut self.gone))
    }

    fn list(&self, only_changed: bool) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for service in &self.service_list {
            let ends = service
                .tree
                .ends()
                .map(|(place, _, _, number)| (Some(place), number));
            let unmatched = service.unmatched.map(|number| (None, number));
            for (place, number) in ends.chain(unmatched) {
                if let Some(Some(entry)) = self.entries.get(number as usize)
                    && (entry.changed || !only_changed)
                {
                    endpoints.push(self.told(service, place, entry));
                }
            }
        }
        endpoints
    }

    fn told(&self, service: &Service, place: Option<Place>, entry: &Entry) -> Endpoint {
        let hide = |word: &str| self.hidden("word", word);
        let direction = match service.key.inbound {
            true => CallDirection::Inbound,
            false => CallDirection::Outbound,
        };
        let third = entry.third_party.as_ref();
        let mut facts = entry.facts.clone();
        facts.parameters.retain(|parameter| {
            let shows = parameter.shows();
            facts.parameters_others += if shows { 0 } else { parameter.calls };
            shows
        });
        Endpoint {
            id: entry.id,
            workload: self.workload_list[service.key.workload as usize].clone(),
            direction,
            protocol: service.key.protocol,
            host: service.shown_host.clone(),
            method: entry.method.clone(),
            path: match place {
                Some(place) => service.tree.template(place, &hide),
                None if service.key.protocol == blind::PROTOCOL => blind::PATH.to_owned(),
                None => "{unmatched}".to_owned(),
            },
            operation: entry.operation.clone(),
            unmatched: place.is_none(),
            exposure: exposure(direction, third.is_some(), &facts),
            recognised: entry.recognised.clone(),
            domain: third
                .filter(|third| third.shows)
                .map(|third| third.domain.clone())
                .unwrap_or_default(),
            vendor: third.and_then(|third| third.vendor.clone()),
            agreement: third.map(|third| third.agreement),
            path_values: place
                .map(|place| service.tree.value_shapes(place))
                .unwrap_or_default(),
            facts,
        }
    }

    fn hidden(&self, what: &str, word: &str) -> SmolStr {
        let hash = match word.starts_with('#') {
            true => SmolStr::new(word),
            false => snapshot::hash_of(&self.settings.key, word),
        };
        format_smolstr!("{{{what}-{}}}", hash.get(1..7).unwrap_or_default())
    }

    /// It stays the same while the template is still learnt.
    fn new_id(&mut self, service: u32, method: &str, operation: &str, at_ns: u64) -> u64 {
        self.made += 1;
        let service = &self.service_list[service as usize];
        let workload = &self.workload_list[service.key.workload as usize];
        let mut hasher = blake3::Hasher::new_keyed(&self.settings.key);
        for part in [
            workload.exe.as_str(),
            service.key.host.as_str(),
            method,
            operation,
        ] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        hasher.update(&at_ns.to_le_bytes());
        hasher.update(&self.made.to_le_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(id)
    }

    fn group(&self, call: &ApiCall) -> PeerGroup {
        self.group_of(call.flow.local, call.flow.remote)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use blind::sample as blind_sample;
#[cfg(test)]
pub(super) use tests::sample_call;
