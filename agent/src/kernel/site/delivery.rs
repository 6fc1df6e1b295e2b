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
//! A read may shake hands first, which no probe on reads would show any more. That function calls what the object has
//! from `SSL_set_accept_state` or `SSL_set_connect_state`: there are probes around that call. No return probe: a library
//! may do it on a stack that it leaves and comes back to (`SSL_MODE_ASYNC`).

use std::collections::BTreeSet;

use apiward_common::site::{DeliveryCookie, Kind, Op, Place, Reg, ResultIn, STACK_PLACE_MAX, SiteCookie};
use iced_x86::{Instruction, Register};

use super::code::{Call, Destination, Function, moves_bytes, stub_slot};
use super::values::{State, Value};
use super::{Cost, FUNCTION_BYTES_MAX, Inner, Planner, Site};
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

/// The probes that see all reads, and whether they see all peeks.
pub(super) struct Deliveries {
    pub sites: Vec<Site>,
    pub peeks: bool,
}

/// Why there are none.
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

fn because<T>(why: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven::Because(why.into()))
}

impl Planner<'_> {
    pub(super) fn deliveries(&mut self) -> Result<Deliveries, Unproven> {
        let Some(inner) = self.inner_function(Op::Read)? else {
            return because("no inner function of reads could be proved");
        };
        if let Some(name) = self.passes_by(Op::Read, inner)? {
            return because(format!("{name} passes their inner function by"));
        }
        let Some(first) = self.slot_of(inner.vaddr)? else {
            return because("they lead to no slot of a table");
        };
        let Some(table) = self.tables_returned()?.into_iter().next() else {
            return because("no table of functions is returned by TLS_method");
        };
        let at = |table: u64, slot: Slot| table.wrapping_add_signed(slot.1);
        let Some(reads) = self.pointer(at(table, first))? else {
            return because("its table has nothing for reads");
        };
        let Some(second) = self.slot_behind(reads)?.filter(|second| second.0 == first.0) else {
            return because("what is there for reads leads to no other slot");
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
        let Some(records) = only(found.values().copied()) else {
            return because("its tables differ in how records are read");
        };
        if found.len() != tables.len() || !tables.contains(&table) {
            return because("not all of its tables have what reads records");
        }
        let peeks = match self.inner_function(Op::Peek)? {
            Some(inner) => self.peeks_by(inner, table, second)?,
            None => false,
        };
        Ok(Deliveries {
            sites: self.sites_in(records)?,
            peeks,
        })
    }

    /// Whether peeks end in the same slot as reads.
    fn peeks_by(&self, inner: Inner, table: u64, second: Slot) -> Result<bool, ElfError> {
        let Some(first) = self.slot_of(inner.vaddr)? else {
            return Ok(false);
        };
        let Some(peeks) = self.pointer(table.wrapping_add_signed(first.1))? else {
            return Ok(false);
        };
        Ok(self.slot_behind(peeks)? == Some(second))
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
            .into_iter()
            .filter_map(|(instruction, state)| function.call(&instruction, state));
        Ok(calls.collect())
    }

    /// The one slot of a table that the function at `vaddr` hands its arguments on to.
    fn slot_of(&self, vaddr: u64) -> Result<Option<Slot>, ElfError> {
        let calls = self.calls_in(vaddr)?;
        Ok(only(
            calls.iter().filter(|call| is_handed_on(call)).filter_map(slot),
        ))
    }

    /// The slot that what reads by a table leads to, itself or by functions that it hands its arguments on to.
    fn slot_behind(&self, reads: u64) -> Result<Option<Slot>, ElfError> {
        let mut at = reads;
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

    /// The probes in what reads records: at the copies to the application, and around its handshakes.
    fn sites_in(&self, vaddr: u64) -> Result<Vec<Site>, Unproven> {
        let copies = self.elf.import_slots(|name| COPIES.contains(&name))?;
        let Some(function) = self.whole_function(vaddr)? else {
            return because("what reads records has too many parts");
        };
        let Some(shaking) = self.shaking_field()? else {
            return because("it is not known what shakes hands");
        };
        let is_copy = |destination| match destination {
            Destination::Slot(slot) => copies.contains_key(&slot),
            Destination::Direct(stub) => {
                let code = self.elf.code(stub, STUB_BYTES).unwrap_or_default();
                stub_slot(stub, &code).is_some_and(|slot| copies.contains_key(&slot))
            }
            Destination::Indirect => false,
        };
        let reached = function.reached(is_copy);
        if !function.is_followed(&reached) {
            return because("what reads records cannot be followed to its end");
        }
        let (mut handshakes, mut sites) = (Vec::new(), Vec::new());
        for (instruction, state) in reached {
            if moves_bytes(&instruction) || state.stores_at(&instruction, Register::RCX) {
                return because("what reads records copies them without a call");
            }
            let Some(call) = function.call(&instruction, state) else {
                continue;
            };
            if is_copy(call.destination) {
                match call.arguments[0] {
                    Value::Entry(Register::RCX) | Value::From(Register::RCX) => {
                        sites.push(self.copy(&function, &call)?);
                    }
                    // Parts of the handshake, which the object keeps.
                    Value::From(Register::RDI) => {}
                    _ => return because(format!("it is not known where {:#x} copies to", call.at)),
                }
            } else if call.pointer == Value::Field(shaking) {
                handshakes.extend(self.handshake(&function, &instruction, &call)?);
            }
        }
        if sites.is_empty() {
            return because("what reads records copies nothing to the application");
        }
        if handshakes.is_empty() {
            return because("it is not known where a read shakes hands");
        }
        handshakes.append(&mut sites);
        Ok(handshakes)
    }

    /// The probe at one of them.
    fn copy(&self, function: &Function, call: &Call) -> Result<Site, Unproven> {
        let unknown = |what| Unproven::Because(format!("at {:#x} it is not known where {what} is", call.at));
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
            .ok_or_else(|| {
                Unproven::Because(format!("the kernel does not emulate the call at {:#x}", call.at))
            })
    }

    /// The probes around a handshake inside of a read.
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
            op: Op::HandshakeInRead,
            kind,
            result: ResultIn::Count32,
            ssl: Some(Reg::Rdi),
            buf: None,
            len: None,
            out: None,
            library: 0,
        };
        let at = |place, kind| {
            let site = self.site(function, place, cookie(kind)).map(|site| Site {
                why: format!("handshake inside of a read, {}", site.why),
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
fn only<T: Ord>(found: impl Iterator<Item = T>) -> Option<T> {
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
