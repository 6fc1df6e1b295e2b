//! Where to probe a TLS library, so that every way to the plaintext is seen at the least cost.
//!
//! A probe costs several times more on an instruction that the kernel must single-step than on one that it
//! emulates, and a return probe costs an extra trap. Libraries of the OpenSSL family funnel `SSL_read`,
//! `SSL_read_ex` and BIO_f_ssl through one inner function, `(ssl, buffer, length, &count)`, and the same for peeking
//! and writing. Where the machine code proves which one that is, there are two ways to probe it:
//! - at an emulated instruction of its entry, with a return probe: whatever way leads to it is seen;
//! - at every `call` of it in the whole file, where all arguments are in their registers, and at an emulated
//!   instruction behind, where the result is: a call can be skipped there.
//!
//! Where it cannot be proved: entry and return probes on the exported functions, at the higher price. Never a guess.
//!
//! Reads have a third, where plaintext is handed over, and so have writes, where it is taken: `delivery.rs`, `taking.rs`.
//!
//! The proof: in `SSL_x_ex`, the four arguments arrive at the call untouched; in `SSL_x`, a call of the same function
//! has the first two untouched, the third extended from 32 bits, and an address of its own frame as the fourth; and,
//! for the second way, nothing but direct calls in the whole file leads to that function.
//!
//! One write of Debian's libssl, measured with probes that only count, in a virtual machine with Linux 6.18, added
//! time: inner entry and return 1.3 µs, inner call and jump behind it 1.6 µs (`SSL_write_ex`, which has no emulated
//! instruction behind it: 14 µs), entry and return of `SSL_write` itself 13 µs.
//!
//! It must not know what is done at a site.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use apiward_common::site::{Kind, Op, Reg, ResultIn, SiteCookie};
use iced_x86::Register;

use super::elf::{Elf, ElfError, Symbol};
use code::{Call, Destination, Function, Trap};
use exports::{EXPORTS, Export};
pub use identify::{Family, TlsLibrary, UnknownTls, identify, scan, unknown_tls};
pub use plan::{Cost, LibraryPlan, PlanError, Prefer, Site, Told, Ways};
pub use refusal::refusals;
use values::{ARGUMENTS, Value};

mod code;
mod delivery;
mod exports;
mod identify;
mod plan;
mod refusal;
mod tables;
mod taking;
mod values;

/// Functions without a size are decoded up to the next one, and at most this far.
const FUNCTION_BYTES_MAX: usize = 64 << 10;
/// Call sites of one inner function; OpenSSL has three of each. More would be another kind of program.
const CALL_SITES_MAX: usize = 32;

/// The plan for the file at `path`.
pub fn plan(path: &Path) -> Result<LibraryPlan, PlanError> {
    plan_by(path, Prefer::default())
}

/// The plan for the file at `path`, with a say in how.
pub fn plan_by(path: &Path, ways: impl Into<Ways>) -> Result<LibraryPlan, PlanError> {
    plan_named(path, path, ways.into())
}

/// As [`plan_by`], of a file that is held open: `name` is where it lies, with what belongs to it beside it.
pub fn plan_named(path: &Path, name: &Path, ways: Ways) -> Result<LibraryPlan, PlanError> {
    let elf = &Elf::open(path)?;
    let library = identify::identify_at(elf, name)?.ok_or(PlanError::NotTls)?;
    if !elf.is_x86_64() {
        return Err(PlanError::Machine);
    }
    let exports = elf.functions(|name| name == "BIO_f_ssl" || EXPORTS.iter().any(|e| e.name == name))?;
    let mut planner = Planner {
        elf,
        starts: function_starts(elf)?,
        slots: elf.import_slots(|name| EXPORTS.iter().any(|e| e.name == name))?,
        exports: exports
            .into_iter()
            .map(|symbol| (symbol.name.clone(), symbol))
            .collect(),
        calls: HashMap::new(),
        covered: Vec::new(),
        in_the_middle: Vec::new(),
        ways,
        plan: LibraryPlan {
            library,
            sites: Vec::new(),
            uncovered: Vec::new(),
            explanations: Vec::new(),
        },
    };
    planner.run()?;
    Ok(planner.plan)
}

/// Where functions are known to start. Between two of them there may be more, and padding: decoded in a straight
/// line from the one before, compilers' code stays in step.
fn function_starts(elf: &Elf) -> Result<Vec<u64>, ElfError> {
    let mut starts = elf.function_starts()?;
    starts.extend(elf.function_addresses()?);
    starts.extend(elf.section_start(".text"));
    starts.sort_unstable();
    starts.dedup();
    Ok(starts)
}

/// The inner function that all forms of an operation share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inner {
    vaddr: u64,
    out: Reg,
}

impl Inner {
    fn cookie(self, op: Op, kind: Kind) -> SiteCookie {
        SiteCookie {
            op,
            kind,
            result: ResultIn::Flag,
            ssl: Some(Reg::Rdi),
            buf: Some(Reg::Rsi),
            len: Some(Reg::Rdx),
            out: Some(self.out),
            library: 0,
        }
    }
}

struct Planner<'a> {
    elf: &'a Elf,
    /// Where functions start, ascending.
    starts: Vec<u64>,
    slots: HashMap<u64, String>,
    exports: BTreeMap<String, Symbol>,
    /// By name of the exported function.
    calls: HashMap<String, Vec<Call>>,
    /// Operations all of whose functions are seen in their inner one.
    covered: Vec<Op>,
    /// Operations that are seen where plaintext is handed over or taken, whatever function leads there.
    in_the_middle: Vec<Op>,
    ways: Ways,
    plan: LibraryPlan,
}

impl Planner<'_> {
    fn run(&mut self) -> Result<(), PlanError> {
        for (op, what) in [(Op::Read, "reads"), (Op::Peek, "peeks"), (Op::Write, "writes")] {
            if self.exports_of(op).is_empty() || self.covered.contains(&op) {
                continue;
            }
            if self.ways.prefer == Prefer::Delivery && self.is_seen_in_the_middle(op) {
                continue;
            }
            match self.inner_sites(op)? {
                Ok((sites, how)) => {
                    self.plan.explanations.push(format!("{what}: {how}"));
                    self.plan.sites.extend(sites);
                    self.covered.push(op);
                }
                Err(_) if op == Op::Peek && self.reads_by_peeking()? => {
                    // A probe on the peek would end the read that it is part of.
                    self.plan
                        .explanations
                        .push(format!("{what}: left out, as reads pass through them"));
                }
                Err(why) => {
                    let text = format!("{what}: entry and return probes on the exported functions, as {why}");
                    self.plan.explanations.push(text);
                    self.functions_of(op)?;
                    // It reads and writes by the inner functions, and never peeks.
                    if op != Op::Peek && self.exports.contains_key("BIO_f_ssl") {
                        self.plan.uncovered.push(format!("BIO_f_ssl ({what})"));
                    }
                }
            }
        }
        for op in [Op::ReadEarly, Op::WriteEarly, Op::Sendfile, Op::Handshake] {
            self.functions_of(op)?;
        }
        self.free()
    }

    /// Probes in the middle of an operation, or the reason why there are none in the plan.
    fn is_seen_in_the_middle(&mut self, op: Op) -> bool {
        let (what, where_, found) = match op {
            Op::Read => (
                "reads",
                "where a record's plaintext is copied to the application",
                self.deliveries().map(|found| {
                    self.covered.extend(found.peeks.then_some(Op::Peek));
                    found.sites
                }),
            ),
            Op::Write => (
                "writes",
                "where a record is made of the application's plaintext",
                self.takings(),
            ),
            _ => return false,
        };
        match found {
            Ok(sites) => {
                let peeks = if self.covered.contains(&Op::Peek) && op == Op::Read {
                    ", as are peeks"
                } else {
                    ""
                };
                self.plan
                    .explanations
                    .push(format!("{what}: seen {where_}{peeks}"));
                self.plan.sites.extend(sites);
                self.covered.push(op);
                self.in_the_middle.push(op);
                true
            }
            Err(why) => {
                self.plan
                    .explanations
                    .push(format!("{what}: not {where_}, as {why}"));
                false
            }
        }
    }

    /// Whether a read is a peek and a step forward, as in BoringSSL.
    fn reads_by_peeking(&self) -> Result<bool, ElfError> {
        for export in self.exports_of(Op::Read) {
            let Some(function) = self.exported(export.name)? else {
                continue;
            };
            for destination in function.destinations() {
                if self
                    .name_of(destination)?
                    .is_some_and(|name| name.starts_with("SSL_peek"))
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Probes on the inner function of an operation and how they are, or why there are none.
    fn inner_sites(&mut self, op: Op) -> Result<Result<(Vec<Site>, String), String>, ElfError> {
        if self.ways.prefer == Prefer::Functions {
            return Ok(Err("they were asked for".to_owned()));
        }
        let Some(inner) = self.inner_function(op)? else {
            return Ok(Err(
                "no inner function that all its forms share could be proved".to_owned()
            ));
        };
        if let Some(name) = self.passes_by(op, inner)? {
            return Ok(Err(format!("{name} passes its inner function by")));
        }
        let entry = self.entry_sites(op, inner)?;
        if self.ways.prefer != Prefer::Calls
            && let Some(sites) = entry
        {
            let how = "entry and return probes on the inner function that all its forms share";
            return Ok(Ok((sites, how.to_owned())));
        }
        Ok(match (self.call_sites(op, inner)?, entry) {
            (Ok(sites), _) => {
                let count = sites.iter().filter(|s| s.kind() == Kind::Enter).count();
                let stepped = sites.iter().filter(|s| s.cost == Cost::Stepped).count();
                let how = format!(
                    "probes around the {count} calls of the inner function, {stepped} single-stepped"
                );
                Ok((sites, how))
            }
            (Err(why), Some(sites)) => Ok((
                sites,
                format!("entry and return probes on the inner function, as {why}"),
            )),
            (Err(why), None) => Err(why),
        })
    }

    /// The first exported function of an operation that neither calls the inner one nor another that does.
    fn passes_by(&self, op: Op, inner: Inner) -> Result<Option<&'static str>, ElfError> {
        let exports = self.exports_of(op);
        for export in &exports {
            let Some(function) = self.exported(export.name)? else {
                continue;
            };
            let mut reaches = false;
            for destination in function.destinations() {
                reaches |= destination == Destination::Direct(inner.vaddr);
                let name = if reaches { None } else { self.name_of(destination)? };
                reaches |=
                    name.is_some_and(|name| name != export.name && exports.iter().any(|e| e.name == name));
            }
            if !reaches {
                return Ok(Some(export.name));
            }
        }
        Ok(None)
    }

    /// Probes at an emulated instruction of the inner function's entry, where arguments and return address are as
    /// the call left them; `None` if it has none.
    fn entry_sites(&self, op: Op, inner: Inner) -> Result<Option<Vec<Site>>, ElfError> {
        let function = self.function_from(inner.vaddr)?;
        let Some(function) = function.filter(|_| self.ways.returns) else {
            return Ok(None);
        };
        let enter = function.cheap_entry(&unchanged());
        let enter = enter.and_then(|at| self.site(&function, at, Told::Usual(inner.cookie(op, Kind::Enter))));
        Ok(enter.map(|enter| {
            let leave = Site {
                told: Told::Usual(inner.cookie(op, Kind::Uretprobe)),
                cost: Cost::Return,
                why: format!("{:#x} return", inner.vaddr),
                ..enter.clone()
            };
            vec![leave, enter]
        }))
    }

    fn exports_of(&self, op: Op) -> Vec<&'static Export> {
        EXPORTS
            .iter()
            .filter(|e| e.op == op && self.exports.contains_key(e.name))
            .collect()
    }

    /// The function that contains `vaddr`, decoded.
    fn function_at(&self, vaddr: u64) -> Result<Option<Function>, ElfError> {
        let at = self.starts.partition_point(|start| *start <= vaddr);
        let Some(start) = at
            .checked_sub(1)
            .and_then(|index| self.starts.get(index))
            .copied()
        else {
            return Ok(None);
        };
        let end = self.starts.get(at).copied().unwrap_or(u64::MAX);
        let len = (end - start).min(FUNCTION_BYTES_MAX as u64) as usize;
        Ok(Some(Function::decode(start, self.elf.code(start, len)?)))
    }

    /// The function that starts at `vaddr`, decoded.
    fn function_from(&self, vaddr: u64) -> Result<Option<Function>, ElfError> {
        let next = self
            .starts
            .get(self.starts.partition_point(|start| *start <= vaddr));
        let len = next
            .map_or(u64::MAX, |next| next - vaddr)
            .min(FUNCTION_BYTES_MAX as u64);
        Ok(Some(Function::decode(vaddr, self.elf.code(vaddr, len as usize)?)))
    }

    /// An exported function, decoded.
    fn exported(&self, name: &str) -> Result<Option<Function>, ElfError> {
        let Some(symbol) = self.exports.get(name) else {
            return Ok(None);
        };
        let code = self.elf.code(symbol.vaddr, self.extent(symbol) as usize)?;
        Ok(Some(Function::decode(symbol.vaddr, code)))
    }

    /// Bytes of an exported function: as its symbol says, else up to the next function.
    fn extent(&self, symbol: &Symbol) -> u64 {
        let next = self
            .starts
            .get(self.starts.partition_point(|start| *start <= symbol.vaddr));
        let len = match (symbol.size, next) {
            (0, None) => u64::MAX,
            (0, Some(next)) => next - symbol.vaddr,
            (size, _) => size,
        };
        len.min(FUNCTION_BYTES_MAX as u64)
    }

    fn calls_of(&mut self, name: &str) -> Result<&[Call], ElfError> {
        if !self.calls.contains_key(name) {
            let calls = self
                .exported(name)?
                .map(|function| function.calls())
                .unwrap_or_default();
            self.calls.insert(name.to_owned(), calls);
        }
        Ok(self.calls.get(name).map(Vec::as_slice).unwrap_or_default())
    }

    /// See the proof in the module's documentation; this is its first two parts.
    fn inner_function(&mut self, op: Op) -> Result<Option<Inner>, ElfError> {
        let mut by_form: [Vec<Inner>; 2] = Default::default();
        for export in self.exports_of(op) {
            let form = usize::from(export.result == ResultIn::Flag);
            let found: Vec<Inner> = self
                .calls_of(export.name)?
                .iter()
                .filter_map(|c| inner_of(c, export))
                .collect();
            by_form[form].extend(found);
        }
        let [counted, flagged] = by_form;
        let mut shared: Vec<Inner> = counted
            .into_iter()
            .filter(|inner| flagged.contains(inner))
            .collect();
        shared.sort_unstable_by_key(|inner| inner.vaddr);
        shared.dedup();
        // An exported function is no inner one: SSL_write_ex may just call SSL_write_ex2.
        shared.retain(|inner| !self.exports.values().any(|symbol| symbol.vaddr == inner.vaddr));
        Ok(match shared[..] {
            [one] => Some(one),
            _ => None,
        })
    }

    /// The last part of the proof, and the probes around every call.
    fn call_sites(&self, op: Op, inner: Inner) -> Result<Result<Vec<Site>, String>, ElfError> {
        let distances = self.elf.references(inner.vaddr)?;
        if distances.len() > CALL_SITES_MAX {
            return Ok(Err(format!(
                "its inner function is called from {} places",
                distances.len()
            )));
        }
        if self.elf.is_address_in_data(inner.vaddr)? {
            return Ok(Err(
                "its inner function may also be called through a pointer".to_owned()
            ));
        }
        let mut sites = Vec::new();
        for distance in &distances {
            let Some(function) = self.function_at(*distance)? else {
                return Ok(Err(format!("the code at {distance:#x} cannot be told")));
            };
            let Some(instruction) = function.covering(*distance) else {
                return Ok(Err(format!("the code at {distance:#x} cannot be told")));
            };
            if !code::refers_to(instruction, inner.vaddr) {
                // Four bytes of something else, padding mostly, that happen to be the distance.
                continue;
            }
            let address = instruction.ip();
            if !instruction.is_call_near() {
                return Ok(Err(format!(
                    "its inner function is also reached without a call, at {address:#x}"
                )));
            }
            let exit = function.exit_after(address).unwrap_or_default();
            for (kind, at) in [(Kind::Enter, address), (Kind::Exit, exit)] {
                match self.site(&function, at, Told::Usual(inner.cookie(op, kind))) {
                    Some(site) => sites.push(site),
                    None => {
                        return Ok(Err(format!(
                            "there is no place for a probe at the call at {address:#x}"
                        )));
                    }
                }
            }
        }
        if sites.is_empty() {
            return Ok(Err("no call of its inner function was found".to_owned()));
        }
        Ok(Ok(sites))
    }

    /// Entry and return probes on the exported functions of an operation, except on those that only call one that
    /// has its probes already: its bytes would be seen twice.
    fn functions_of(&mut self, op: Op) -> Result<(), ElfError> {
        // What early data ends up in, once the handshake allows.
        let through = match op {
            Op::ReadEarly => Op::Read,
            Op::WriteEarly => Op::Write,
            other => other,
        };
        for export in self.exports_of(op) {
            if through != op && self.in_the_middle.contains(&through) {
                let text = format!("{}: seen in the middle of what it does, as above", export.name);
                self.plan.explanations.push(text);
                continue;
            }
            if let Some(by) = self.covered_by(export, through)? {
                self.plan
                    .explanations
                    .push(format!("{}: seen in {by}, which it calls", export.name));
                continue;
            }
            let Some(function) = self.exported(export.name)? else {
                continue;
            };
            if !self.ways.returns {
                let text = format!(
                    "{}: not seen, as a probe at its return could end whoever calls it",
                    export.name
                );
                self.plan.explanations.push(text);
                self.plan.uncovered.push(export.name.to_owned());
                continue;
            }
            let at = function.cheap_entry(&unchanged()).unwrap_or(function.start);
            let Some(enter) = self.site(&function, at, Told::Usual(export.cookie(Kind::Enter))) else {
                self.plan.uncovered.push(export.name.to_owned());
                continue;
            };
            self.plan.sites.push(Site {
                told: Told::Usual(export.cookie(Kind::Uretprobe)),
                cost: Cost::Return,
                why: format!("{} return", export.name),
                ..enter.clone()
            });
            self.plan.sites.push(enter);
        }
        Ok(())
    }

    /// The function with probes through which everything that `export` moves goes.
    fn covered_by(&self, export: &Export, through: Op) -> Result<Option<String>, ElfError> {
        let probed: Vec<u64> = self
            .plan
            .sites
            .iter()
            .filter(|s| s.op() == through && s.kind() == Kind::Enter)
            .map(|s| s.file_offset)
            .collect();
        let Some(function) = self.exported(export.name)? else {
            return Ok(None);
        };
        let calls = function.destinations();
        let names = self.exports_of(through);
        for destination in calls {
            let Some(name) = self.name_of(destination)? else {
                continue;
            };
            if name == export.name || !names.iter().any(|e| e.name == name) {
                continue;
            }
            if self.covered.contains(&through) {
                return Ok(Some(name));
            }
            // Probed at its entry, or by way of a third one in the same manner.
            let Some(symbol) = self.exports.get(&name) else {
                continue;
            };
            let Some(from) = self.elf.file_offset(symbol.vaddr) else {
                continue;
            };
            if probed
                .iter()
                .any(|at| (from..from.saturating_add(self.extent(symbol))).contains(at))
            {
                return Ok(Some(name));
            }
            let further = EXPORTS.iter().find(|e| e.name == name && e.op == through);
            if let Some(further) = further.filter(|f| f.name != export.name)
                && export.op != through
                && let Some(by) = self.covered_by(further, through)?
            {
                return Ok(Some(by));
            }
        }
        Ok(None)
    }

    /// The exported function that a call leads to, directly or through the linkage table.
    fn name_of(&self, destination: Destination) -> Result<Option<String>, ElfError> {
        let slot = match destination {
            Destination::Direct(vaddr) => {
                if let Some(symbol) = self.exports.values().find(|s| s.vaddr == vaddr) {
                    return Ok(Some(symbol.name.clone()));
                }
                match self.elf.code(vaddr, 16) {
                    Ok(code) => code::stub_slot(vaddr, &code),
                    Err(_) => None,
                }
            }
            Destination::Slot(vaddr) => Some(vaddr),
            Destination::Indirect => None,
        };
        Ok(slot.and_then(|slot| self.slots.get(&slot).cloned()))
    }

    fn free(&mut self) -> Result<(), PlanError> {
        for export in self.exports_of(Op::Free) {
            let Some(function) = self.exported(export.name)? else {
                continue;
            };
            let at = function.cheap_entry(&[Register::RDI]).unwrap_or(function.start);
            self.plan
                .sites
                .extend(self.site(&function, at, Told::Usual(export.cookie(Kind::Enter))));
        }
        Ok(())
    }

    /// A probe at `vaddr`; `None` where the kernel would refuse it.
    fn site(&self, function: &Function, vaddr: u64, told: Told) -> Option<Site> {
        let (cost, how) = match function.trap_at(vaddr) {
            (Trap::Emulated, name) => (Cost::Emulated, format!("{name} (emulated)")),
            (Trap::Stepped, _) => (Cost::Stepped, "(single-stepped)".to_owned()),
            (Trap::Refused, _) => return None,
        };
        let symbol = self.exports.values().find(|s| s.vaddr == function.start);
        let place = match symbol {
            Some(symbol) => format!("{}+{:#x}", symbol.name, vaddr - function.start),
            None => format!("{vaddr:#x}"),
        };
        let why = format!("{place} {how}");
        Some(Site {
            told,
            file_offset: self.elf.file_offset(vaddr)?,
            cost,
            why,
        })
    }
}

/// What has to be as at the entry where an entry and a return probe are: all arguments, and the return address.
fn unchanged() -> Vec<Register> {
    ARGUMENTS.into_iter().chain([Register::RSP]).collect()
}

/// Whether a call in `export` hands its arguments on to an inner function, and in which form.
fn inner_of(call: &Call, export: &Export) -> Option<Inner> {
    let Destination::Direct(vaddr) = call.destination else {
        return None;
    };
    // Which place of the frame does not matter.
    let [ssl, buf, len, fourth, fifth, _] = call.arguments.map(|value| match value {
        value if value.is_in_frame() => Value::Frame(None),
        other => other,
    });
    if ssl != Value::Entry(Register::RDI) || buf != Value::Entry(Register::RSI) {
        return None;
    }
    let out = match export.out {
        None => Value::Frame(None),
        Some(Reg::Rcx) => Value::Entry(Register::RCX),
        Some(Reg::R8) => Value::Entry(Register::R8),
        Some(_) => return None,
    };
    let len_fits = match export.result {
        ResultIn::Flag => len == Value::Entry(Register::RDX),
        _ => len == Value::Low(Register::RDX),
    };
    // Flags come before the count since OpenSSL 3.3: zero, or those of SSL_write_ex2.
    let flags = match export.out {
        Some(Reg::R8) => Value::Entry(Register::RCX),
        _ => Value::Constant(0),
    };
    if !len_fits {
        None
    } else if fourth == out && export.out != Some(Reg::R8) {
        Some(Inner { vaddr, out: Reg::Rcx })
    } else if fourth == flags && fifth == out {
        Some(Inner { vaddr, out: Reg::R8 })
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
