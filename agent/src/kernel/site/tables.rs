//! How functions of a library of the OpenSSL family are found that have no symbol.
//!
//! An object has a table of functions, one for each version of the protocol, and each operation goes through it twice:
//! - the inner function of an operation hands its arguments on to one slot of the object's table;
//! - what the tables that `TLS_method` and its like return have there, hands them on to another slot, with content type 23,
//!   application data (`ssl3_read` and `ssl3_write` do);
//! - all tables of TLS that have the first function have the same one in the second slot: what works with records.
//!
//! That one may shake hands first, which no probe at records would show. It calls what the object has from
//! `SSL_set_accept_state` or `SSL_set_connect_state`: there are probes around that call. No return probe: a library may do
//! it on a stack that it leaves and comes back to (`SSL_MODE_ASYNC`).
//!
//! It must not know what is done with records.

use std::collections::BTreeSet;

use apiward_common::site::{Kind, Op, Reg, ResultIn, SiteCookie};
use iced_x86::{Instruction, Register};

use super::code::{Call, Destination, Function, stub_slot};
use super::plan::Told;
use super::values::{State, Value};
use super::{FUNCTION_BYTES_MAX, Inner, Planner, Site};
use crate::kernel::elf::ElfError;

/// The exported functions that return a table; of one for both ends first.
const METHODS: [&str; 3] = ["TLS_method", "TLS_server_method", "TLS_client_method"];
/// Those that choose what shakes hands.
const SETTERS: [&str; 2] = ["SSL_set_accept_state", "SSL_set_connect_state"];
/// A linkage stub is shorter.
pub(super) const STUB_BYTES: usize = 16;
/// A table's first number: the versions SSL 3.0 to TLS 1.3, and `TLS_ANY_VERSION`.
const VERSIONS: std::ops::RangeInclusive<u32> = 0x0300..=0x0304;
const ANY_VERSION: u32 = 0x0001_0000;
/// Tables of one library; OpenSSL 3 has some twenty.
const TABLES_MAX: usize = 256;
/// Parts of a function that compilers put elsewhere.
const PARTS_MAX: usize = 16;
/// Functions between the first slot and the second.
const STEPS_MAX: usize = 3;
/// `ContentType` of records that carry what the application says (RFC 8446, appendix B.3.1).
pub(super) const APPLICATION_DATA: i64 = 23;

/// A slot of a table: where the object has the table, and where that has the function.
type Slot = (i64, i64);

/// What works with the records of one operation.
pub(super) struct Records {
    pub function: Function,
    /// What can be reached in it, and what is known there.
    pub reached: Vec<(Instruction, State)>,
    /// Where the object has what shakes its hands.
    pub shaking: Value,
    /// A table that leads there, and the slot.
    table: u64,
    slot: Slot,
}

/// Why something could not be proved.
pub(super) enum Unproven {
    Because(String),
    Unreadable(ElfError),
}

impl From<ElfError> for Unproven {
    fn from(error: ElfError) -> Self {
        Unproven::Unreadable(error)
    }
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unproven::Because(why) => f.write_str(why),
            Unproven::Unreadable(error) => error.fmt(f),
        }
    }
}

pub(super) fn because<T>(why: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven::Because(why.into()))
}

impl Planner<'_> {
    /// What works with the records of an operation; `copies` as of [`Function::reached`].
    pub(super) fn records(
        &mut self,
        op: Op,
        copies: impl Fn(Destination) -> bool,
    ) -> Result<Records, Unproven> {
        let Some(inner) = self.inner_function(op)? else {
            return because("no inner function of theirs could be proved");
        };
        if let Some(name) = self.passes_by(op, inner)? {
            return because(format!("{name} passes their inner function by"));
        }
        let Some(first) = self.slot_of(inner.vaddr)? else {
            return because("they lead to no slot of a table");
        };
        let Some(table) = self.tables_returned()?.into_iter().next() else {
            return because("no table of functions is returned by TLS_method");
        };
        let at = |table: u64, slot: Slot| table.wrapping_add_signed(slot.1);
        let Some(by_table) = self.pointer(at(table, first))? else {
            return because("its table has nothing for them");
        };
        let Some(slot) = self.slot_behind(by_table)?.filter(|slot| slot.0 == first.0) else {
            return because("what is there for them leads to no other slot");
        };
        let tables: BTreeSet<u64> = self
            .elf
            .pointers(|_, value| value == by_table)?
            .into_keys()
            .map(|slot| slot.wrapping_add_signed(first.1.wrapping_neg()))
            .filter(|table| self.is_table(*table))
            .take(TABLES_MAX)
            .collect();
        let slots: BTreeSet<u64> = tables.iter().map(|table| at(*table, slot)).collect();
        let found = self.elf.pointers(|slot, _| slots.contains(&slot))?;
        let Some(vaddr) = only(found.values().copied()) else {
            return because("its tables differ in what works with records");
        };
        if found.len() != tables.len() || !tables.contains(&table) {
            return because("not all of its tables have what works with records");
        }
        let Some(function) = self.whole_function(vaddr)? else {
            return because("what works with records has too many parts");
        };
        let reached = function.reached(copies);
        if !function.is_followed(&reached) {
            return because("what works with records cannot be followed to its end");
        }
        let Some(shaking) = self.shaking_field()? else {
            return because("it is not known what shakes hands");
        };
        Ok(Records {
            function,
            reached,
            shaking: Value::Field(shaking),
            table,
            slot,
        })
    }

    /// Whether another operation ends there, too.
    pub(super) fn is_shared(&self, records: &Records, inner: Inner) -> Result<bool, ElfError> {
        let Some(first) = self.slot_of(inner.vaddr)? else {
            return Ok(false);
        };
        let Some(by_table) = self.pointer(records.table.wrapping_add_signed(first.1))? else {
            return Ok(false);
        };
        Ok(self.slot_behind(by_table)? == Some(records.slot))
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
    pub(super) fn whole_function(&self, vaddr: u64) -> Result<Option<Function>, ElfError> {
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

    /// The calls of the function at `vaddr`; none if it cannot be followed to its end.
    fn calls_in(&self, vaddr: u64) -> Result<Vec<Call>, ElfError> {
        let Some(function) = self.whole_function(vaddr)? else {
            return Ok(Vec::new());
        };
        let reached = function.reached(|_| false);
        if !function.is_followed(&reached) {
            return Ok(Vec::new());
        }
        let calls = reached
            .iter()
            .filter_map(|(instruction, state)| function.call(instruction, state));
        Ok(calls.collect())
    }

    /// The one slot of a table that the function at `vaddr` hands its arguments on to.
    fn slot_of(&self, vaddr: u64) -> Result<Option<Slot>, ElfError> {
        let calls = self.calls_in(vaddr)?;
        Ok(only(
            calls.iter().filter(|call| is_handed_on(call)).filter_map(slot),
        ))
    }

    /// The slot that what a table has leads to, itself or by functions that it hands its arguments on to.
    fn slot_behind(&self, by_table: u64) -> Result<Option<Slot>, ElfError> {
        let mut at = by_table;
        for _ in 0..STEPS_MAX {
            let calls = self.calls_in(at)?;
            if let Some(slot) = only(calls.iter().filter(|call| asks_for_data(call)).filter_map(slot)) {
                return Ok(Some(slot));
            }
            let next = only(calls.iter().filter_map(|call| match call.destination {
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

    /// Where the object has what shakes its hands: both setters store it there.
    fn shaking_field(&self) -> Result<Option<i64>, ElfError> {
        let mut fields = BTreeSet::new();
        for name in SETTERS {
            let symbols = self.elf.functions(|found| found == name)?;
            let Some(symbol) = symbols.first() else {
                return Ok(None);
            };
            let Some(function) = self.whole_function(symbol.vaddr)? else {
                return Ok(None);
            };
            let reached = function.reached(|_| false);
            let stored = reached.iter().filter_map(|(instruction, state)| {
                let (field, value) = state.stored(instruction)?;
                matches!(value, Value::Behind(..)).then_some(field)
            });
            match only(stored) {
                Some(field) => fields.insert(field),
                None => return Ok(None),
            };
        }
        Ok(only(fields.into_iter()))
    }

    /// The probes around the handshakes that are made there.
    pub(super) fn handshakes(&self, records: &Records) -> Result<Vec<Site>, Unproven> {
        let mut sites = Vec::new();
        for (instruction, state) in &records.reached {
            let call = records.function.call(instruction, state);
            if let Some(call) = call.filter(|call| call.pointer == records.shaking) {
                sites.extend(self.handshake(&records.function, instruction, &call)?);
            }
        }
        match sites.is_empty() {
            true => because("it is not known where hands are shaken first"),
            false => Ok(sites),
        }
    }

    fn handshake(
        &self,
        function: &Function,
        call: &Instruction,
        known: &Call,
    ) -> Result<[Site; 2], Unproven> {
        if known.arguments[0] != Value::Entry(Register::RDI) || !call.is_call_near_indirect() {
            return because(format!("it is not known whose hands {:#x} shakes", known.at));
        }
        let cookie = |kind| SiteCookie {
            op: Op::HandshakeWithin,
            kind,
            result: ResultIn::Count32,
            ssl: Some(Reg::Rdi),
            buf: None,
            len: None,
            out: None,
            library: 0,
        };
        let at = |place, kind| {
            let site = self
                .site(function, place, Told::Usual(cookie(kind)))
                .map(|site| Site {
                    why: format!("handshake in the middle, {}", site.why),
                    ..site
                });
            site.ok_or_else(|| Unproven::Because(format!("the kernel takes no probe at {place:#x}")))
        };
        let behind = function.exit_after(known.at).unwrap_or_default();
        Ok([at(behind, Kind::Exit)?, at(known.at, Kind::Enter)?])
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
pub(super) fn only<T: Ord>(found: impl Iterator<Item = T>) -> Option<T> {
    let mut found: BTreeSet<T> = found.collect();
    let one = found.pop_first()?;
    found.is_empty().then_some(one)
}

/// Object, buffer and length, as they came.
fn is_handed_on(call: &Call) -> bool {
    let [object, buffer, length, ..] = call.arguments;
    object == Value::Entry(Register::RDI)
        && buffer == Value::Entry(Register::RSI)
        && length == Value::Entry(Register::RDX)
}

/// `(object, application data, …)`, and buffer and length as they came: a read with nothing for the type before them, a
/// write with where to count behind.
fn asks_for_data(call: &Call) -> bool {
    let [object, content_type, third, fourth, fifth, _] = call.arguments;
    let (buffer, length) = (Value::Entry(Register::RSI), Value::Entry(Register::RDX));
    object == Value::Entry(Register::RDI)
        && content_type == Value::Constant(APPLICATION_DATA)
        && ([third, fourth, fifth] == [Value::Constant(0), buffer, length]
            || [third, fourth, fifth] == [buffer, length, Value::Entry(Register::RCX)])
}

/// So many of its low bytes are those that `register` held at the entry.
pub(super) fn is_at_least(value: Value, register: Register, bytes: usize) -> bool {
    value == Value::Entry(register)
        || value == Value::Low(register)
        || (bytes == 1 && value == Value::Byte(register))
}
