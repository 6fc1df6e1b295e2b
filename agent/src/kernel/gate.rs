//! The tables behind the gate, as maps: filled beside the ones in force, then put in force by one word.
//!
//! It must not know a policy: what it is given are numbers.

use apiward_common::gate::{
    Bits, EdgeKey, Generation, Method, MethodKey, NODES_MAX, Node, PeerKey, RULES_MAX, Rate, SLOTS, Workload,
    WorkloadKey,
};
use apiward_common::owner::{Identity, Owner, Port};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};
use rustix::thread::{MembarrierCommand, membarrier};

use super::load::{LoadError, take};

/// Rules of one generation.
const RULES: u32 = RULES_MAX as u32;

/// One generation of tables. Every number in it is the generation's own; keys get it when they are written.
#[derive(Clone, Debug, Default)]
pub struct GateTables {
    pub constants: Generation,
    pub nodes: Vec<Node>,
    /// Node, hash of the segment, node behind it.
    pub edges: Vec<(u32, u64, u32)>,
    /// By hash.
    pub methods: Vec<(u64, Method)>,
    /// Network (IPv6, or IPv4 as `::ffff:a.b.c.d`), prefix length of 128, rules.
    pub peers: Vec<([u8; 16], u32, Bits)>,
    /// By rule.
    pub rates: Vec<Rate>,
}

/// Why tables cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("the map {map} takes no more: {source}")]
    Map { map: &'static str, source: MapError },
    #[error("{what}: {count}, more than {most}")]
    TooLarge {
        what: &'static str,
        count: usize,
        most: u32,
    },
}

/// The maps.
pub struct GateMaps {
    active: Array<MapData, u32>,
    generations: Array<MapData, Generation>,
    nodes: Array<MapData, Node>,
    edges: HashMap<MapData, EdgeKey, u32>,
    methods: HashMap<MapData, MethodKey, Method>,
    peers: LpmTrie<MapData, PeerKey, Bits>,
    workloads: HashMap<MapData, WorkloadKey, Workload>,
    rates: Array<MapData, Rate>,
    classes: HashMap<MapData, Identity, u32>,
    listeners: HashMap<MapData, u64, Owner>,
    ports: HashMap<MapData, Port, Owner>,
    dead: HashMap<MapData, u64, u32>,
    owners: HashMap<MapData, u64, Owner>,
    /// What each slot holds, to be cleared before it is used again.
    slots: [Written; SLOTS as usize],
}

#[derive(Default)]
struct Written {
    number: u32,
    edges: Vec<EdgeKey>,
    methods: Vec<MethodKey>,
    peers: Vec<Key<PeerKey>>,
    workloads: Vec<WorkloadKey>,
}

fn failed(map: &'static str) -> impl Fn(MapError) -> GateError {
    move |source| GateError::Map { map, source }
}

impl GateMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<GateMaps, LoadError> {
        Ok(GateMaps {
            active: take(ebpf, "GATE_ACTIVE", Array::try_from)?,
            generations: take(ebpf, "GATE_GENERATIONS", Array::try_from)?,
            nodes: take(ebpf, "GATE_NODES", Array::try_from)?,
            edges: take(ebpf, "GATE_EDGES", HashMap::try_from)?,
            methods: take(ebpf, "GATE_METHODS", HashMap::try_from)?,
            peers: take(ebpf, "GATE_PEERS", LpmTrie::try_from)?,
            workloads: take(ebpf, "GATE_WORKLOADS", HashMap::try_from)?,
            rates: take(ebpf, "GATE_RATES", Array::try_from)?,
            classes: take(ebpf, "CLASSES", HashMap::try_from)?,
            listeners: take(ebpf, "LISTENERS", HashMap::try_from)?,
            ports: take(ebpf, "PORTS", HashMap::try_from)?,
            dead: take(ebpf, "GATE_DEAD", HashMap::try_from)?,
            owners: take(ebpf, "OWNERS", HashMap::try_from)?,
            slots: Default::default(),
        })
    }

    /// The maps are another agent's: learns what they hold, to be cleared when its turn comes.
    pub(super) fn go_on(&mut self) -> Result<(), MapError> {
        for slot in 0..SLOTS {
            self.slots[slot as usize].number = self.generations.get(&slot, 0)?.number;
        }
        let slot = |number: u32| (number % SLOTS) as usize;
        for key in self.edges.keys() {
            let key = key?;
            self.slots[slot(key.generation)].edges.push(key);
        }
        for key in self.methods.keys() {
            let key = key?;
            self.slots[slot(key.generation)].methods.push(key);
        }
        for key in self.peers.keys() {
            let key = key?;
            let number = u32::from_be_bytes(key.data().generation);
            self.slots[slot(number)].peers.push(key);
        }
        for key in self.workloads.keys() {
            let key = key?;
            self.slots[slot(key.generation)].workloads.push(key);
        }
        Ok(())
    }

    /// Connections whose requests were denied before stay so.
    pub(super) fn keep_dead(&mut self, dead: &[(u64, u32)]) -> Result<(), MapError> {
        for (cookie, denied_at) in dead {
            self.dead.insert(cookie, denied_at, 0)?;
        }
        match dead.is_empty() {
            true => Ok(()),
            false => self.active.set(1, 1, 0),
        }
    }

    /// Whose connections are that were made before. What the kernel has noted itself is newer.
    pub(super) fn keep_owners(&mut self, owners: &[(u64, Owner)]) -> Result<(), MapError> {
        for (cookie, owner) in owners {
            if self.owners.get(cookie, 0).is_err() {
                self.owners.insert(cookie, owner, 0)?;
            }
        }
        Ok(())
    }

    /// The highest number that a generation in the maps has.
    pub fn newest(&self) -> u32 {
        self.slots.iter().map(|slot| slot.number).max().unwrap_or(0)
    }

    /// The classes that are known already.
    pub fn classes(&self) -> Vec<(Identity, u32)> {
        self.classes.iter().flatten().collect()
    }

    /// The generation in force; 0: none.
    pub fn active(&self) -> u32 {
        self.active.get(&0, 0).unwrap_or(0)
    }

    /// Writes tables under a number of their own and puts them in force, all at once: a head that has begun under the
    /// tables before is judged by those. `workloads`: what each known class of processes is to them.
    pub fn put_in_force(
        &mut self,
        number: u32,
        tables: &GateTables,
        workloads: &[(u32, Workload)],
    ) -> Result<(), GateError> {
        let too_large = |what, count: usize, most: u32| match count > most as usize {
            true => Err(GateError::TooLarge { what, count, most }),
            false => Ok(()),
        };
        too_large("states of paths and hosts", tables.nodes.len(), NODES_MAX)?;
        too_large("rules", tables.rates.len(), RULES)?;
        let slot = number % SLOTS;
        self.clear(slot);
        let result = self.write(slot, number, tables, workloads);
        if let Err(error) = result {
            self.clear(slot);
            return Err(error);
        }
        self.active.set(1, 1, 0).map_err(failed("GATE_ACTIVE"))?;
        // For good: connections that are followed are forgotten at what they send next.
        if tables.constants.outbound.meets(&tables.constants.matters) {
            self.active.set(2, 1, 0).map_err(failed("GATE_ACTIVE"))?;
        }
        self.active.set(0, number, 0).map_err(failed("GATE_ACTIVE"))
    }

    /// From now on nothing is judged by the gate. What it has stopped stays so.
    pub fn put_out_of_force(&mut self) -> Result<(), GateError> {
        self.active.set(0, 0, 0).map_err(failed("GATE_ACTIVE"))
    }

    fn write(
        &mut self,
        slot: u32,
        number: u32,
        tables: &GateTables,
        workloads: &[(u32, Workload)],
    ) -> Result<(), GateError> {
        let written = &mut self.slots[slot as usize];
        written.number = number;
        for (at, node) in (slot * NODES_MAX..).zip(&tables.nodes) {
            self.nodes.set(at, *node, 0).map_err(failed("GATE_NODES"))?;
        }
        for (node, hash, to) in &tables.edges {
            let key = EdgeKey {
                generation: number,
                node: *node,
                hash: *hash,
            };
            self.edges.insert(key, to, 0).map_err(failed("GATE_EDGES"))?;
            written.edges.push(key);
        }
        for (hash, method) in &tables.methods {
            let key = MethodKey {
                hash: *hash,
                generation: number,
                reserved: 0,
            };
            self.methods
                .insert(key, method, 0)
                .map_err(failed("GATE_METHODS"))?;
            written.methods.push(key);
        }
        for (address, prefix, bits) in &tables.peers {
            let key = Key::new(
                32 + prefix,
                PeerKey {
                    generation: number.to_be_bytes(),
                    address: *address,
                },
            );
            self.peers.insert(&key, bits, 0).map_err(failed("GATE_PEERS"))?;
            written.peers.push(key);
        }
        for (at, rate) in (slot * RULES..).zip(&tables.rates) {
            self.rates.set(at, *rate, 0).map_err(failed("GATE_RATES"))?;
        }
        for (class, workload) in workloads {
            let key = WorkloadKey {
                generation: number,
                class: *class,
            };
            self.workloads
                .insert(key, workload, 0)
                .map_err(failed("GATE_WORKLOADS"))?;
            written.workloads.push(key);
        }
        let constants = Generation {
            number,
            ..tables.constants
        };
        self.generations
            .set(slot, constants, 0)
            .map_err(failed("GATE_GENERATIONS"))
    }

    /// What is left of an older generation. Removing what is not there is no failure. It loses its number first, by which it
    /// is found, and the rest once no program goes by it any more: none that has begun reads half of two.
    fn clear(&mut self, slot: u32) {
        if let Ok(known) = self.generations.get(&slot, 0)
            && known.number != 0
        {
            let _ = self.generations.set(slot, Generation { number: 0, ..known }, 0);
            // Waits until every program that runs has ended. Refused where CPUs run without ticks; then what is left is
            // the chance that one is overtaken within its microseconds.
            let _ = membarrier(MembarrierCommand::Global);
        }
        let written = std::mem::take(&mut self.slots[slot as usize]);
        for key in &written.edges {
            let _ = self.edges.remove(key);
        }
        for key in &written.methods {
            let _ = self.methods.remove(key);
        }
        for key in &written.peers {
            let _ = self.peers.remove(key);
        }
        for key in &written.workloads {
            let _ = self.workloads.remove(key);
        }
    }

    /// A class of processes has become known: what it is to the tables in force.
    pub fn add_workload(&mut self, class: u32, workload: &Workload) -> Result<(), GateError> {
        let number = self.active();
        if number == 0 {
            return Ok(());
        }
        let key = WorkloadKey {
            generation: number,
            class,
        };
        self.workloads
            .insert(key, workload, 0)
            .map_err(failed("GATE_WORKLOADS"))?;
        let slot = &mut self.slots[(number % SLOTS) as usize];
        if slot.number == number {
            slot.workloads.push(key);
        }
        Ok(())
    }

    /// Processes of this identity are of this class.
    pub fn name(&mut self, identity: Identity, class: u32) -> Result<(), GateError> {
        self.classes.insert(identity, class, 0).map_err(failed("CLASSES"))
    }

    /// Whoever listened before the gate could see it. What the kernel has noted itself is newer.
    pub fn listens(&mut self, cookie: u64, port: Port, owner: Owner) -> Result<(), GateError> {
        if self.ports.get(&port, 0).is_err() {
            self.ports.insert(port, owner, 0).map_err(failed("PORTS"))?;
        }
        if self.listeners.get(&cookie, 0).is_ok() {
            return Ok(());
        }
        self.listeners
            .insert(cookie, owner, 0)
            .map_err(failed("LISTENERS"))
    }
}
