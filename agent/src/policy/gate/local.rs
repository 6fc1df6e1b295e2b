//! The gate's tables over ordinary collections: what tests, fuzzing and benchmarks run it with.

use std::cell::{Cell, RefCell};

use apiward_common::gate::{
    Bits, CHUNK_BYTES, Charge, EdgeKey, Facts, Generation, Method, MethodKey, Node, PeerKey, Rate, RateKey,
    Scan, Stream, Tables, Window, Workload, step,
};
use hashbrown::HashMap;

use super::{Compiled, Prefix};

/// One generation, and whoever is known of its workloads.
pub struct Local {
    generation: Generation,
    edges: HashMap<EdgeKey, u32>,
    nodes: Vec<Node>,
    methods: HashMap<MethodKey, Method>,
    peers: Vec<Prefix>,
    rates: Vec<Rate>,
    workloads: HashMap<u32, Workload>,
    accounts: RefCell<HashMap<RateKey, u64>>,
    now: Cell<u64>,
}

impl Local {
    /// The tables that were compiled.
    pub fn new(compiled: &Compiled) -> Local {
        let generation = compiled.generation;
        Local {
            generation,
            edges: compiled
                .edges
                .iter()
                .map(|(node, hash, to)| {
                    let key = EdgeKey {
                        generation: generation.number,
                        node: *node,
                        hash: *hash,
                    };
                    (key, *to)
                })
                .collect(),
            nodes: compiled.nodes.clone(),
            methods: compiled
                .methods
                .iter()
                .map(|(hash, method)| {
                    let key = MethodKey {
                        hash: *hash,
                        generation: generation.number,
                        reserved: 0,
                    };
                    (key, *method)
                })
                .collect(),
            peers: compiled.peers.clone(),
            rates: compiled.rates.clone(),
            workloads: HashMap::new(),
            accounts: RefCell::default(),
            now: Cell::new(1),
        }
    }

    /// Tells who a class of processes is.
    pub fn set_workload(&mut self, class: u32, workload: Workload) {
        self.workloads.insert(class, workload);
    }

    /// The time for rates, in nanoseconds.
    pub fn set_now(&self, now: u64) {
        self.now.set(now);
    }
}

impl Tables for Local {
    fn active(&self) -> u32 {
        self.generation.number
    }

    fn generation(&self, number: u32) -> Option<&Generation> {
        (number == self.generation.number).then_some(&self.generation)
    }

    fn edge(&self, key: &EdgeKey) -> Option<u32> {
        self.edges.get(key).copied()
    }

    fn node(&self, _: u32, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    fn method(&self, key: &MethodKey) -> Option<&Method> {
        self.methods.get(key)
    }

    fn peer(&self, key: &PeerKey) -> Option<&Bits> {
        let address = u128::from_be_bytes(key.address);
        self.peers
            .iter()
            .filter(|prefix| {
                let differs = address ^ u128::from_be_bytes(prefix.address);
                differs.leading_zeros() >= prefix.bits
            })
            .max_by_key(|prefix| prefix.bits)
            .map(|prefix| &prefix.rules)
    }

    fn workload(&self, _: u32, class: u32) -> Option<&Workload> {
        self.workloads.get(&class)
    }

    fn charge(&self, key: &RateKey) -> Charge {
        let Some(rate) = self.rates.get(key.rule as usize) else {
            return Charge::Unknown;
        };
        let mut accounts = self.accounts.borrow_mut();
        let whole_at = accounts.entry(*key).or_default();
        match rate.charge(*whole_at, self.now.get()) {
            Some(next) => {
                *whole_at = next;
                Charge::Within
            }
            None => Charge::Beyond,
        }
    }
}

/// A chunk of bytes with room behind it.
struct Chunk([u8; CHUNK_BYTES + 8]);

impl Window for Chunk {
    fn word(&self, at: u32) -> u64 {
        let at = at as usize & (CHUNK_BYTES - 1);
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(word)
    }
}

/// Feeds a stream bytes that follow each other, chunk by chunk, bodies passed over, as the hooks do.
pub fn judge<T: Tables>(stream: &mut Stream, bytes: &[u8], facts: &Facts, tables: &T) -> Scan {
    let mut scan = Scan::default();
    let mut chunk = Chunk([0; CHUNK_BYTES + 8]);
    let mut next = 0;
    while !stream.is_over() {
        if scan.at >= scan.end && stream.wants_bytes() {
            let pass = stream.skips().min((bytes.len() - next) as u64);
            stream.skipped(pass);
            next += pass as usize;
            if next == bytes.len() {
                break;
            }
            let fetched = (bytes.len() - next).min(CHUNK_BYTES);
            chunk.0[..fetched].copy_from_slice(&bytes[next..next + fetched]);
            scan.before = next as u32;
            next += fetched;
            (scan.at, scan.end) = (0, fetched as u32);
        }
        step(stream, &mut scan, &chunk, facts, tables);
    }
    scan
}
