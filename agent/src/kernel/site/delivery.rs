//! Where a library of the OpenSSL family hands plaintext to the application.
//!
//! Every read ends in one function, `ssl3_read_bytes` in OpenSSL's source, which waits for a record and copies what it
//! says into the application's buffer. It has no symbol, and is reached through tables of functions, one for each
//! version of the protocol. A probe at that copy is passed once for each record, and by no read that has to wait.
//!
//! The proof, by what the machine code does:
//! - the inner function of all reads hands its object, buffer and length on to one slot of the object's table;
//! - what the tables that `TLS_method` and its like return have there, hands them on to another slot, as content of
//!   type 23, application data (`ssl3_read` does);
//! - all tables of TLS that have the first function have the same one in the second slot;
//! - that one copies by calls of `memcpy` alone, each with a destination that comes from its buffer or from its object;
//!   where object, type and the flag for peeks are at the former, is known by whatever way they are reached.
//!
//! Reads may shake hands first, which no probe on reads would show any more: so what the tables have for
//! `SSL_set_accept_state` and `SSL_set_connect_state` gets probes as well.

use std::collections::{BTreeMap, BTreeSet};

use apiward_common::site::{DeliveryCookie, Kind, Op, Place, Reg, ResultIn, STACK_PLACE_MAX, SiteCookie};
use iced_x86::Register;

use super::code::{Call, Destination, Function, moves_bytes, stub_slot};
use super::values::{State, Value};
use super::{Cost, FUNCTION_BYTES_MAX, Planner, Site, unchanged};
use crate::kernel::elf::ElfError;

/// The exported functions that return a table; of one for both ends first.
const METHODS: [&str; 3] = ["TLS_method", "TLS_server_method", "TLS_client_method"];
/// Those that choose what shakes hands.
const SETTERS: [&str; 2] = ["SSL_set_accept_state", "SSL_set_connect_state"];
/// What copies bytes: `(to, from, length)`.
const COPIES: [&str; 4] = ["memcpy", "memmove", "__memcpy_chk", "__memmove_chk"];
/// A linkage stub is shorter.
const STUB_BYTES: usize = 16;
/// A table's first number: the versions SSL 3.0 to TLS 1.3, and `TLS_ANY_VERSION`.
const VERSIONS: std::ops::RangeInclusive<u32> = 0x0300..=0x0304;
const ANY_VERSION: u32 = 0x0001_0000;
/// Tables of one library; OpenSSL 3 has some twenty.
const TABLES_MAX: usize = 256;
/// Parts of a function that compilers put elsewhere.
const PARTS_MAX: usize = 16;
/// Functions between the first slot and the second.
const STEPS_MAX: usize = 3;
const APPLICATION_DATA: i64 = 23;

/// A slot of a table: where the object has the table, and where that has the function.
type Slot = (i64, i64);

impl Planner<'_> {
    /// The probes that see all reads, or why there are none.
    pub(super) fn delivery_sites(&mut self) -> Result<Result<Vec<Site>, String>, ElfError> {
        let Some(inner) = self.inner_function(Op::Read)? else {
            return Ok(Err("no inner function of reads could be proved".to_owned()));
        };
        if let Some(name) = self.passes_by(Op::Read, inner)? {
            return Ok(Err(format!("{name} passes their inner function by")));
        }
        let Some(first) = self.slot_of(inner.vaddr, is_handed_on)? else {
            return Ok(Err("they lead to no slot of a table".to_owned()));
        };
        let Some(table) = self.tables_returned()?.into_iter().next() else {
            return Ok(Err("no table of functions is returned by TLS_method".to_owned()));
        };
        let at = |table: u64, slot: Slot| table.wrapping_add_signed(slot.1);
        let Some(reads) = self.pointer(at(table, first))? else {
            return Ok(Err("its table has nothing for reads".to_owned()));
        };
        let Some(second) = self.slot_behind(reads)?.filter(|second| second.0 == first.0) else {
            return Ok(Err("what is there for reads leads to no other slot".to_owned()));
        };
        let tables: BTreeSet<u64> = self
            .elf
            .pointers(|_, value| value == reads)?
            .into_keys()
            .map(|slot| slot.wrapping_add_signed(first.1.wrapping_neg()))
            .filter(|table| self.is_table(*table))
            .take(TABLES_MAX)
            .collect();
        let slots: BTreeSet<u64> = tables.iter().map(|table| at(*table, second)).collect();
        let found = self.elf.pointers(|slot, _| slots.contains(&slot))?;
        let records: BTreeSet<u64> = found.values().copied().collect();
        let mut records = records.into_iter();
        let (Some(records), None) = (records.next(), records.next()) else {
            return Ok(Err("its tables differ in how records are read".to_owned()));
        };
        if found.len() != tables.len() || !tables.contains(&table) {
            return Ok(Err("not all of its tables have what reads records".to_owned()));
        }
        let mut sites = match self.copies(records)? {
            Ok(sites) => sites,
            Err(why) => return Ok(Err(why)),
        };
        for setter in SETTERS {
            let Some(slot) = self.slot_stored(setter)?.filter(|slot| slot.0 == first.0) else {
                return Ok(Err(format!("{setter} takes nothing from a table")));
            };
            let Some(shakes) = self.pointer(at(table, slot))? else {
                return Ok(Err(format!("its table has nothing for {setter}")));
            };
            let Some(probes) = self.handshake_sites(shakes)? else {
                return Ok(Err(format!(
                    "there is no place for a probe in what {setter} takes"
                )));
            };
            sites.splice(0..0, probes);
        }
        Ok(Ok(sites))
    }

    /// The tables that are returned without further ado.
    fn tables_returned(&self) -> Result<Vec<u64>, ElfError> {
        let mut tables = Vec::new();
        let mut symbols = self.elf.functions(|name| METHODS.contains(&name))?;
        symbols.sort_by_key(|symbol| METHODS.iter().position(|name| *name == symbol.name));
        for symbol in symbols {
            let code = self.elf.code(symbol.vaddr, self.extent(&symbol) as usize)?;
            let function = Function::decode(symbol.vaddr, code);
            tables.extend(function.address_returned().filter(|table| self.is_table(*table)));
        }
        Ok(tables)
    }

    fn is_table(&self, vaddr: u64) -> bool {
        self.elf
            .number(vaddr)
            .is_some_and(|version| VERSIONS.contains(&version) || version == ANY_VERSION)
    }

    fn pointer(&self, vaddr: u64) -> Result<Option<u64>, ElfError> {
        let found = self.elf.pointers(|slot, _| slot == vaddr)?;
        Ok(found.get(&vaddr).copied())
    }

    /// The function that starts at `vaddr`, with the parts of it that are elsewhere.
    fn whole_function(&self, vaddr: u64) -> Result<Option<Function>, ElfError> {
        let Some(mut function) = self.function_from(vaddr)? else {
            return Ok(None);
        };
        let mut asked = BTreeSet::new();
        while let Some(target) = function
            .elsewhere()
            .into_iter()
            .find(|target| !asked.contains(target))
        {
            // More would be another kind of function; then what comes from there is not known.
            if asked.len() >= PARTS_MAX {
                return Ok(None);
            }
            asked.insert(target);
            let after = self.starts.partition_point(|start| *start <= target);
            let start = after.checked_sub(1).and_then(|at| self.starts.get(at)).copied();
            let start = start.filter(|start| target - start < FUNCTION_BYTES_MAX as u64);
            let end = self.starts.get(after).copied().unwrap_or(u64::MAX);
            let from = start.unwrap_or(target);
            let bytes = (end - from).min(FUNCTION_BYTES_MAX as u64) as usize;
            // A linkage stub is no part of anything.
            if let Ok(code) = self.elf.code(from, bytes)
                && stub_slot(target, &self.elf.code(target, STUB_BYTES)?).is_none()
            {
                function.add(from, code);
            }
        }
        Ok(Some(function))
    }

    /// The one slot of a table that the function at `vaddr` leaves by, where `accept` takes what it hands on.
    fn slot_of(&self, vaddr: u64, accept: fn(&Call) -> bool) -> Result<Option<Slot>, ElfError> {
        let Some(function) = self.whole_function(vaddr)? else {
            return Ok(None);
        };
        Ok(only(
            function
                .calls()
                .iter()
                .filter(|call| accept(call))
                .filter_map(slot),
        ))
    }

    /// The slot that what reads by a table leads to, itself or by functions that it hands its arguments on to.
    fn slot_behind(&self, reads: u64) -> Result<Option<Slot>, ElfError> {
        let mut at = reads;
        for _ in 0..STEPS_MAX {
            if let Some(slot) = self.slot_of(at, asks_for_data)? {
                return Ok(Some(slot));
            }
            let Some(function) = self.whole_function(at)? else {
                return Ok(None);
            };
            let next = only(function.calls().iter().filter_map(|call| match call.destination {
                Destination::Direct(vaddr) if is_handed_on(call) => Some(vaddr),
                _ => None,
            }));
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The slot whose content an exported function stores.
    fn slot_stored(&self, name: &str) -> Result<Option<Slot>, ElfError> {
        let symbols = self.elf.functions(|found| found == name)?;
        let Some(symbol) = symbols.first() else {
            return Ok(None);
        };
        let Some(function) = self.whole_function(symbol.vaddr)? else {
            return Ok(None);
        };
        Ok(only(function.reached(|_| false).iter().filter_map(
            |(instruction, state)| match state.stored(instruction) {
                Value::Behind(field, slot) => Some((field, slot)),
                _ => None,
            },
        )))
    }

    /// The probes at the copies to the application; or why there are none.
    fn copies(&self, vaddr: u64) -> Result<Result<Vec<Site>, String>, ElfError> {
        let copies = self.elf.import_slots(|name| COPIES.contains(&name))?;
        let Some(function) = self.whole_function(vaddr)? else {
            return Ok(Err("what reads records has too many parts".to_owned()));
        };
        let is_copy = |destination| match destination {
            Destination::Slot(slot) => copies.contains_key(&slot),
            Destination::Direct(stub) => {
                let code = self.elf.code(stub, STUB_BYTES).unwrap_or_default();
                stub_slot(stub, &code).is_some_and(|slot| copies.contains_key(&slot))
            }
            Destination::Indirect => false,
        };
        let mut sites = Vec::new();
        for (instruction, state) in function.reached(is_copy) {
            if moves_bytes(&instruction) {
                return Ok(Err("what reads records copies them without a call".to_owned()));
            }
            let Some(call) = function
                .call(&instruction, state)
                .filter(|call| is_copy(call.destination))
            else {
                continue;
            };
            match call.arguments[0] {
                Value::Entry(Register::RCX) | Value::From(Register::RCX) => {
                    match self.copy(&function, &call) {
                        Ok(site) => sites.push(site),
                        Err(why) => return Ok(Err(why)),
                    }
                }
                // Parts of the handshake, which the object keeps.
                Value::From(Register::RDI) => {}
                _ => return Ok(Err(format!("it is not known where {:#x} copies to", call.at))),
            }
        }
        if sites.is_empty() {
            return Ok(Err(
                "what reads records copies nothing to the application".to_owned()
            ));
        }
        Ok(Ok(sites))
    }

    /// The probe at one of them.
    fn copy(&self, function: &Function, call: &Call) -> Result<Site, String> {
        let unknown = |what| format!("at {:#x} it is not known where {what} is", call.at);
        let ssl = place(&call.state, |value| value == Value::Entry(Register::RDI));
        let content_type = place(&call.state, |value| is_at_least(value, Register::RSI, 1));
        let peek = place(&call.state, |value| is_at_least(value, Register::R9, 4));
        let delivery = DeliveryCookie {
            ssl: ssl.ok_or_else(|| unknown("the object"))?,
            content_type: content_type.ok_or_else(|| unknown("the type of the record"))?,
            peek: peek.ok_or_else(|| unknown("the flag for peeks"))?,
            library: 0,
        };
        let cookie = SiteCookie {
            op: Op::Read,
            kind: Kind::Delivery,
            result: ResultIn::Count32,
            ssl: None,
            buf: Some(Reg::Rsi),
            len: Some(Reg::Rdx),
            out: None,
            library: 0,
        };
        self.site(function, call.at, cookie)
            .filter(|site| site.cost == Cost::Emulated)
            .map(|site| Site {
                why: format!("copy to the application, {}", site.why),
                delivery: Some(delivery),
                ..site
            })
            .ok_or_else(|| format!("the kernel does not emulate the call at {:#x}", call.at))
    }

    /// Probes around a function that shakes hands; `None` if there is no place for them.
    fn handshake_sites(&self, vaddr: u64) -> Result<Option<Vec<Site>>, ElfError> {
        let Some(function) = self.function_from(vaddr)? else {
            return Ok(None);
        };
        let needed = [Register::RDI, Register::RSP];
        let at = function
            .cheap_entry(&unchanged())
            .or_else(|| function.cheap_entry(&needed))
            .unwrap_or(vaddr);
        let cookie = |kind| SiteCookie {
            op: Op::Handshake,
            kind,
            result: ResultIn::Count32,
            ssl: Some(Reg::Rdi),
            buf: None,
            len: None,
            out: None,
            library: 0,
        };
        Ok(self.site(&function, at, cookie(Kind::Enter)).map(|enter| {
            let leave = Site {
                cookie: cookie(Kind::Uretprobe),
                cost: Cost::Return,
                why: format!("handshake {vaddr:#x} return"),
                ..enter.clone()
            };
            let enter = Site {
                why: format!("handshake {}", enter.why),
                ..enter
            };
            vec![leave, enter]
        }))
    }
}

/// The slot that a call goes by.
fn slot(call: &Call) -> Option<Slot> {
    match call.pointer {
        Value::Behind(field, slot) => Some((field, slot)),
        _ => None,
    }
}

/// The only one, however often.
fn only<T: Ord>(found: impl Iterator<Item = T>) -> Option<T> {
    let mut found: BTreeMap<T, ()> = found.map(|one| (one, ())).collect();
    let (one, ()) = found.pop_first()?;
    found.is_empty().then_some(one)
}

/// Object, buffer and length, as they came.
fn is_handed_on(call: &Call) -> bool {
    let [object, buffer, length, ..] = call.arguments;
    object == Value::Entry(Register::RDI)
        && buffer == Value::Entry(Register::RSI)
        && length == Value::Entry(Register::RDX)
}

/// `(object, application data, nothing, buffer, length, …)`.
fn asks_for_data(call: &Call) -> bool {
    call.arguments[..5]
        == [
            Value::Entry(Register::RDI),
            Value::Constant(APPLICATION_DATA),
            Value::Constant(0),
            Value::Entry(Register::RSI),
            Value::Entry(Register::RDX),
        ]
}

/// So many of its low bytes are those that `register` held at the entry.
fn is_at_least(value: Value, register: Register, bytes: usize) -> bool {
    value == Value::Entry(register)
        || value == Value::Low(register)
        || (bytes == 1 && value == Value::Byte(register))
}

/// Where a value is that `wanted` takes: best in a register.
fn place(state: &State, wanted: impl Fn(Value) -> bool) -> Option<Place> {
    match state.holding(wanted) {
        (Some(register), _) => named(register).map(Place::Register),
        (None, Some(above)) => u16::try_from(above)
            .ok()
            .filter(|above| *above <= STACK_PLACE_MAX)
            .map(Place::Stack),
        (None, None) => None,
    }
}

fn named(register: Register) -> Option<Reg> {
    Some(match register {
        Register::RAX => Reg::Rax,
        Register::RBX => Reg::Rbx,
        Register::RCX => Reg::Rcx,
        Register::RDX => Reg::Rdx,
        Register::RSI => Reg::Rsi,
        Register::RDI => Reg::Rdi,
        Register::RBP => Reg::Rbp,
        Register::R8 => Reg::R8,
        Register::R9 => Reg::R9,
        Register::R10 => Reg::R10,
        Register::R11 => Reg::R11,
        Register::R12 => Reg::R12,
        Register::R13 => Reg::R13,
        Register::R14 => Reg::R14,
        Register::R15 => Reg::R15,
        _ => return None,
    })
}
