//! The gate's side of the policies: classes of processes, and tables that are put in force.
//!
//! A set of policies is compiled, written beside what is in force, and switched by one word. Where the mode is observe,
//! or no policy enforces, there is nothing in force, and the kernel asks nothing.

use std::collections::HashMap;
use std::sync::Arc;

use apiward_common::gate::Hash;
use apiward_common::owner::{Identity, Owner, Port};
use apiward_common::scope::FileKey;

use crate::capture::Process;
use crate::kernel::gate::{GateMaps, GateTables};
use crate::kernel::links::CgroupHook;
use crate::kernel::sends::Sends;
use crate::policy::gate::{self as compiler, Compiled};
use crate::policy::{Engine, Mode, PolicySet};

/// Classes that are kept; beyond it all are learnt again.
const CLASSES_MAX: usize = apiward_common::limits::CLASSES_MAX as usize;

/// What runs in the kernel on behalf of the policies.
pub struct Gate {
    maps: GateMaps,
    ingress: CgroupHook,
    sends: Option<Sends>,
    classes: HashMap<Identity, Class>,
    /// Numbers that an agent before this one has given, which the kernel goes by.
    given: HashMap<Identity, u32>,
    next_class: u32,
    number: u32,
    in_force: Option<Compiled>,
    /// Why there is no gate where there should be one; empty if there is.
    pub missing: String,
}

struct Class {
    number: u32,
    process: Arc<Process>,
}

impl Gate {
    pub fn new(maps: GateMaps, ingress: CgroupHook, sends: Option<Sends>) -> Self {
        let given: HashMap<Identity, u32> = maps.classes().into_iter().collect();
        Gate {
            next_class: given.values().copied().max().unwrap_or(0),
            number: maps.newest(),
            given,
            maps,
            ingress,
            sends,
            classes: HashMap::new(),
            in_force: None,
            missing: String::new(),
        }
    }

    /// Puts what of a set the gate can decide in force, at once; the engine then knows what its decisions mean. `true`:
    /// there was no gate before, and [`Gate::listens`] wants to know who listens. Asked after the switch: who begins to
    /// listen from here on is noted by the kernel itself.
    pub fn replace(&mut self, set: &PolicySet, mode: Mode, engine: &mut Engine) -> bool {
        let before = self.maps.active();
        engine.gate_counts_for(Vec::new());
        self.missing = match self.try_replace(set, mode, engine) {
            Ok(()) => String::new(),
            Err(why) => {
                tracing::error!("the gate is open, and the pipeline decides alone: {why}");
                self.in_force = None;
                let _ = self.maps.put_out_of_force();
                why
            }
        };
        before == 0 && self.maps.active() != 0
    }

    fn try_replace(&mut self, set: &PolicySet, mode: Mode, engine: &mut Engine) -> Result<(), String> {
        let number = self.number.wrapping_add(1).max(1);
        let keys = Hash {
            start: rand::random(),
            low: rand::random(),
            high: rand::random(),
        };
        let compiled = compiler::compile(set, mode, number, keys);
        if compiled.generation.stops.is_empty() {
            self.in_force = None;
            return self.maps.put_out_of_force().map_err(|error| error.to_string());
        }
        self.number = number;
        let workloads: Vec<_> = self
            .classes
            .values()
            .map(|class| (class.number, compiled.workload(&class.process)))
            .collect();
        let tables = GateTables {
            constants: compiled.generation,
            nodes: compiled.nodes.clone(),
            edges: compiled.edges.clone(),
            methods: compiled.methods.clone(),
            peers: compiled
                .peers
                .iter()
                .map(|prefix| (prefix.address, prefix.bits, prefix.rules))
                .collect(),
            rates: compiled.rates.clone(),
        };
        self.ingress
            .attach()
            .map_err(|error| format!("the gate for what comes does not attach: {error}"))?;
        if let Some(Err(error)) = self.sends.as_mut().map(Sends::attach) {
            // It gives a cleaner error, and nothing else.
            tracing::warn!(%error, "sends on denied connections fail later, by a reset");
        }
        engine.gate_goes_by(number, &compiled.rules);
        self.maps
            .put_in_force(number, &tables, &workloads)
            .map_err(|error| error.to_string())?;
        engine.gate_counts_for(compiled.counted());
        self.in_force = Some(compiled);
        Ok(())
    }

    /// Some policy is in force here.
    pub fn is_in_force(&self) -> bool {
        self.maps.active() != 0
    }

    /// The maps, for whoever carries over what an earlier agent has left.
    pub fn maps(&mut self) -> &mut GateMaps {
        &mut self.maps
    }

    /// The program for what comes.
    pub fn hook(&mut self) -> &mut CgroupHook {
        &mut self.ingress
    }

    /// A process has listened with this socket since before the gate.
    pub fn listens(&mut self, cookie: u64, port: Port, owner: Owner, process: &Arc<Process>) {
        self.learn(owner.identity(), process);
        if let Err(error) = self.maps.listens(cookie, port, owner) {
            tracing::warn!(%error, exe = %process.exe, "the gate leaves what comes to this listener to the agent");
        }
    }

    /// Gives processes of an identity a class.
    pub fn learn(&mut self, identity: Identity, process: &Arc<Process>) {
        if let Some(known) = self.classes.get(&identity) {
            // The kernel may have forgotten it: its table gives up what is used least.
            let _ = self.maps.name(identity, known.number);
            return;
        }
        if self.classes.len() >= CLASSES_MAX {
            self.classes.clear();
        }
        let number = self.given.remove(&identity).unwrap_or_else(|| {
            self.next_class = self.next_class.wrapping_add(1).max(1);
            self.next_class
        });
        let known = self.in_force.as_ref().map_or(Ok(()), |compiled| {
            self.maps.add_workload(number, &compiled.workload(process))
        });
        // The class last: once it is there, the kernel asks what it means.
        if let Err(error) = known.and_then(|()| self.maps.name(identity, number)) {
            tracing::warn!(%error, exe = %process.exe, "the gate leaves what this program does to the agent");
            return;
        }
        let process = process.clone();
        self.classes.insert(identity, Class { number, process });
    }
}

/// What the kernel tells a process's workload by.
pub fn identity_of(process: &Process, file: &FileKey) -> Identity {
    Identity {
        cgroup: process.cgroup_id,
        inode: file.inode,
        device: file.device,
        uid: process.uid,
    }
}
