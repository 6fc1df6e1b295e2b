//! Where a library of the OpenSSL family hands plaintext to the application.
//!
//! Every read ends in one function, `ssl3_read_bytes` in OpenSSL's source, which waits for a record and copies what it
//! says into the application's buffer (`tables.rs` finds it). A probe at that copy is passed once for each record, and by no
//! read that has to wait.
//!
//! The proof: that function copies by calls of `memcpy` alone, each with a destination that comes from its buffer or from
//! its object; where object, type and the flag for peeks are at the former, is known by whatever way they are reached.

use apiward_common::site::{DeliveryCookie, Op, Place, Reg, STACK_PLACE_MAX};
use iced_x86::Register;

use super::code::{Call, Destination, Function, moves_bytes, stub_slot};
use super::plan::Told;
use super::tables::{STUB_BYTES, Unproven, because, is_at_least};
use super::values::{State, Value};
use super::{Cost, Planner, Site};

/// What copies bytes: `(to, from, length)`.
const COPIES: [&str; 4] = ["memcpy", "memmove", "__memcpy_chk", "__memmove_chk"];

/// The probes that see all reads, and whether they see all peeks.
pub(super) struct Deliveries {
    pub sites: Vec<Site>,
    pub peeks: bool,
}

impl Planner<'_> {
    pub(super) fn deliveries(&mut self) -> Result<Deliveries, Unproven> {
        let copies = self.elf.import_slots(|name| COPIES.contains(&name))?;
        let elf = self.elf;
        let is_copy = |destination| match destination {
            Destination::Slot(slot) => copies.contains_key(&slot),
            Destination::Direct(stub) => {
                let code = elf.code(stub, STUB_BYTES).unwrap_or_default();
                stub_slot(stub, &code).is_some_and(|slot| copies.contains_key(&slot))
            }
            Destination::Indirect => false,
        };
        let records = self.records(Op::Read, is_copy)?;
        let mut sites = Vec::new();
        for (instruction, state) in &records.reached {
            if moves_bytes(instruction) || state.stores_at(instruction, Register::RCX) {
                return because("what works with records copies them without a call");
            }
            let call = records.function.call(instruction, state);
            let Some(call) = call.filter(|call| is_copy(call.destination)) else {
                continue;
            };
            match call.arguments[0] {
                Value::Entry(Register::RCX) | Value::From(Register::RCX) => {
                    sites.push(self.copy(&records.function, &call, state)?);
                }
                // Parts of the handshake, which the object keeps.
                Value::From(Register::RDI) => {}
                _ => return because(format!("it is not known where {:#x} copies to", call.at)),
            }
        }
        if sites.is_empty() {
            return because("what works with records copies nothing to the application");
        }
        let mut all = self.handshakes(&records)?;
        all.append(&mut sites);
        let peeks = match self.inner_function(Op::Peek)? {
            Some(inner) => self.is_shared(&records, inner)?,
            None => false,
        };
        Ok(Deliveries { sites: all, peeks })
    }

    /// The probe at one of them.
    fn copy(&self, function: &Function, call: &Call, state: &State) -> Result<Site, Unproven> {
        let unknown = |what| Unproven::Because(format!("at {:#x} it is not known where {what} is", call.at));
        let ssl = place(state, |value| value == Value::Entry(Register::RDI));
        let content_type = place(state, |value| is_at_least(value, Register::RSI, 1));
        let peek = place(state, |value| is_at_least(value, Register::R9, 4));
        let delivery = DeliveryCookie {
            ssl: ssl.ok_or_else(|| unknown("the object"))?,
            content_type: content_type.ok_or_else(|| unknown("the type of the record"))?,
            peek: peek.ok_or_else(|| unknown("the flag for peeks"))?,
            library: 0,
        };
        self.site(function, call.at, Told::Delivery(delivery))
            .filter(|site| site.cost == Cost::Emulated)
            .map(|site| Site {
                why: format!("copy to the application, {}", site.why),
                ..site
            })
            .ok_or_else(|| {
                Unproven::Because(format!("the kernel does not emulate the call at {:#x}", call.at))
            })
    }
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
