//! Ended calls → the list of APIs: who serves them, who calls them, and what is in them.
//!
//! An endpoint is workload × direction × protocol × host × method × path template (× operation, where the path does not
//! tell). Templates are learnt (`tree`). It works on raw paths, which never leave: what is shown of a template is
//! vocabulary, what the redactor shows, or a word that many different calls have proven to be the API's own; every other
//! word is `{word-…}` with a keyed hash. Pure and bounded: counts are configured, what finds no room is counted.
//!
//! It must not know policy, exporters or files: they get [`Endpoint`]s.

mod facts;
mod histogram;
mod plane;
mod tree;

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;
use smol_str::{SmolStr, format_smolstr};

pub use self::facts::{DataFact, Facts, Parameter, PeerGroup, Words};
pub use self::histogram::Histogram;
pub use self::plane::{Plane, Recognised};
use self::tree::{Found, Merges, Place, Tree};
use crate::call::{Api, ApiCall, CallDirection, CallState, Learnable, Segment, Shape};
use crate::capture::Process;
use crate::detect::Finding;

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

/// What a call proves about its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Something answered: 1xx to 3xx.
    Success,
    /// Something may be there: refused, wrong arguments, a fault, or the answer was not seen.
    Weak,
    /// Nothing is there: 404, 405, 410, 501; or nobody answered.
    None,
}

impl Proof {
    fn of(call: &ApiCall) -> Proof {
        match call.response.as_ref().map(|response| response.status) {
            Some(100..=399) => Proof::Success,
            Some(404 | 405 | 410 | 501) => Proof::None,
            Some(_) => Proof::Weak,
            None if call.state == CallState::Switched => Proof::Success,
            None => Proof::None,
        }
    }
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ServiceKey {
    workload: u32,
    inbound: bool,
    protocol: &'static str,
    /// As sent; empty: any.
    host: SmolStr,
}

#[derive(Debug)]
struct Service {
    key: ServiceKey,
    tree: Tree,
    /// What is shown of the host.
    shown_host: SmolStr,
    /// Calls that led nowhere.
    unmatched: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    method: SmolStr,
    operation: SmolStr,
    id: u64,
    recognised: Recognised,
    facts: Facts,
    /// It has changed since [`Inventory::take_changed`].
    changed: bool,
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

/// The inventory of a host.
#[derive(Debug)]
pub struct Inventory {
    settings: Settings,
    workloads: HashMap<Workload, u32>,
    workload_list: Vec<Workload>,
    services: HashMap<ServiceKey, u32>,
    service_list: Vec<Service>,
    hosts: HashMap<(u32, bool), usize>,
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
    stats: Stats,
}

/// Ids of gone endpoints that are kept until somebody asks.
const GONE_MAX: usize = 16_384;

impl Inventory {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        Inventory {
            settings,
            workloads: HashMap::new(),
            workload_list: Vec::new(),
            services: HashMap::new(),
            service_list: Vec::new(),
            hosts: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            places: 0,
            callers: HashMap::new(),
            gone: Vec::new(),
            paths_raw: false,
            merges: Merges::new(),
            made: 0,
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
        let caller = caller.map(|caller| self.workload_list[caller as usize].name());
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
            facts.callers.add(&caller, 1);
        }
        if !is_unmatched && entry.recognised == Recognised::default() {
            entry.recognised = Recognised::of(call);
        }
    }

    fn workload(&mut self, process: &Process) -> Option<u32> {
        let workload = Workload::of(process);
        if let Some(known) = self.workloads.get(&workload) {
            return Some(*known);
        }
        if self.workload_list.len() >= self.settings.limits.workloads_max {
            return None;
        }
        let number = self.workload_list.len() as u32;
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
        let number = self.service_list.len() as u32;
        self.service_list.push(Service {
            key: key.clone(),
            tree: Tree::default(),
            shown_host,
            unmatched: None,
        });
        self.services.insert(key, number);
        Some(number)
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
        let found = tree.walk(path, shown, proof, room, fhir, &mut merges);
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
                facts: Facts::default(),
                changed: true,
            },
        );
        Some(number)
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
            into.facts.merge(entry.facts);
            into.changed = true;
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
                None => "{unmatched}".to_owned(),
            },
            operation: entry.operation.clone(),
            unmatched: place.is_none(),
            exposure: exposure(direction, &facts),
            recognised: entry.recognised.clone(),
            path_values: place
                .map(|place| service.tree.value_shapes(place))
                .unwrap_or_default(),
            facts,
        }
    }

    fn hidden(&self, what: &str, word: &str) -> SmolStr {
        let hash = blake3::keyed_hash(&self.settings.key, word.as_bytes()).to_hex();
        format_smolstr!("{{{what}-{}}}", &hash.as_str()[..6])
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
        let Some(remote) = call.flow.remote.map(|remote| remote.ip().to_canonical()) else {
            return PeerGroup::Unknown;
        };
        let local = call.flow.local.map(|local| local.ip().to_canonical());
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

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_link_local() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn exposure(direction: CallDirection, facts: &Facts) -> &'static str {
    let public = facts.peers[PeerGroup::ALL
        .iter()
        .position(|one| *one == PeerGroup::Public)
        .unwrap_or_default()];
    match (direction, public > 0) {
        (CallDirection::Inbound, true) => "north-south",
        (CallDirection::Outbound, true) => "third-party",
        (_, false) => "east-west",
    }
}

/// What a server is called by its address, or by `localhost`, is one host: any.
fn host_key(call: &ApiCall, inbound: bool) -> SmolStr {
    let host = call.raw.host.as_str();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty()
        || host.len() > 253
        || host == "localhost"
        || (inbound && bare.parse::<IpAddr>().is_ok())
    {
        return SmolStr::default();
    }
    SmolStr::new(host)
}

/// What the redactor shows of it, without the port.
fn shown_host(call: &ApiCall) -> &str {
    let shown = call.request.host.as_str();
    match shown.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => shown,
    }
}

/// The operation, where the path does not tell which it is.
fn operation(call: &ApiCall) -> SmolStr {
    match &call.operation {
        Some(operation)
            if matches!(
                operation.api,
                Api::GraphQl | Api::Soap | Api::JsonRpc | Api::Hl7v2 | Api::X12
            ) =>
        {
            operation.name.clone()
        }
        _ => SmolStr::default(),
    }
}

/// Counts a call at its endpoint.
fn note(
    facts: &mut Facts,
    call: &ApiCall,
    findings: &[Finding],
    denied: bool,
    at_ns: u64,
    is_unmatched: bool,
) {
    if facts.first_ns == 0 || at_ns < facts.first_ns {
        facts.first_ns = at_ns;
    }
    facts.last_ns = facts.last_ns.max(at_ns);
    let class = call
        .response
        .as_ref()
        .map_or(0, |response| usize::from(response.status / 100));
    facts.classes[if class > 5 { 0 } else { class }] += 1;
    facts.denied += u64::from(denied);
    facts.auth.add(call.request.auth.as_str(), 1);
    match &call.flow.tls {
        None => facts.tls.add("clear", 1),
        Some(tls) => facts
            .tls
            .add(format_smolstr!("{} {}", tls.library, tls.version).trim_end(), 1),
    }
    if let Some(remote) = call.flow.remote {
        facts.addresses |= 1 << (fnv(remote.ip().to_canonical().to_string().as_bytes()) & 63);
    }
    let served = match call.direction {
        CallDirection::Inbound => call.flow.local,
        CallDirection::Outbound => call.flow.remote,
    };
    if let Some(served) = served {
        facts.ports.add(&format_smolstr!("{}", served.port()), 1);
    }
    if let Some(operation) = &call.operation {
        facts.apis.add(operation.api.as_str(), 1);
    }
    for finding in findings {
        facts.findings.add(&finding.kind, 1);
    }
    facts.request_media.add(&call.request.body.media_type, 1);
    facts.request_bytes.add(call.request.body.bytes_total);
    if let Some(response) = &call.response {
        facts.response_media.add(&response.body.media_type, 1);
        facts.response_bytes.add(response.body.bytes_total);
        facts
            .latency_ns
            .add(response.last_byte_at.since(call.request.head_at));
    }
    for data in &call.data {
        facts.data(DataFact {
            class: data.class.clone(),
            group: SmolStr::new_static(data.group),
            part: data.part,
            location: data.location.clone(),
            evidence: data.evidence,
            calls: 1,
            count: u64::from(data.count),
        });
    }
    if is_unmatched || Proof::of(call) != Proof::Success {
        return;
    }
    for part in call
        .raw
        .query
        .split(|byte| matches!(byte, b'&' | b';'))
        .take(PARAMETERS_READ_MAX)
    {
        parameter(facts, part, "query");
    }
    if let Some(path) = call.raw.path.as_deref().filter(|path| path.contains(';')) {
        for segment in path.split('/') {
            let matrix = Segment::read(segment, false).matrix;
            for part in matrix.split(';').take(PARAMETERS_READ_MAX) {
                parameter(facts, part.as_bytes(), "matrix");
            }
        }
    }
}

/// Parameters of one call that are looked at.
const PARAMETERS_READ_MAX: usize = 64;
const PARAMETER_NAME_BYTES_MAX: usize = 48;

fn parameter(facts: &mut Facts, part: &[u8], place: &'static str) {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let name = halves
        .next()
        .and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or_default();
    let value = halves.next().unwrap_or_default();
    // `filter[name]`, `a.b`: the first part names it.
    let name = name.split(['[', '%']).next().unwrap_or_default();
    if name.is_empty() || name.len() > PARAMETER_NAME_BYTES_MAX {
        return;
    }
    let known = matches!(Shape::of(name), Shape::Known | Shape::Version);
    // What cannot ever be shown needs no room of its own.
    if !known && !Learnable::is(name) {
        facts.parameters_others += 1;
        return;
    }
    let shape = std::str::from_utf8(value).map_or(Shape::Text, Shape::value);
    facts.parameter(name, place, known, shape, 1 << (fnv(value) & 63));
}

fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests;
