//! Where a library of the OpenSSL family takes plaintext from the application.
//!
//! Every write of OpenSSL 1.1.1 to 3.1 ends in one function, `ssl3_write_bytes` in its source (`tables.rs` finds it), which
//! cuts what it is given into records. A probe where it has one made is passed once for each piece of plaintext, before any
//! of it leaves. A write that is called again because it had to wait goes on with the record, by another place.
//!
//! The proof, by its calls that are given its object, content type and buffer as they came, or that with something added:
//! - one is also given how much of a record is left to write, as the object says: what was taken before goes on, by a
//!   function that has no symbol either (`ssl3_write_pending`);
//! - one, or more, is given lengths in the caller's frame: a record is made (`do_ssl3_write`). What is called hands its own
//!   buffer on to the function that goes on;
//! - one may be given another length, by a call of the function that goes on: a cipher has made several records at once;
//! - no jump within the library leaves with them as they came, and it does not write to a BIO of another.
//!
//! OpenSSL 3.2 and newer have records made through a table, by a call that the kernel single-steps: nothing is gained there,
//! and this proof does not hold.

use std::collections::BTreeMap;

use apiward_common::site::{Op, Taken, TakingCookie};
use iced_x86::Register;

use super::code::{Call, Destination, stub_slot};
use super::plan::Told;
use super::tables::{APPLICATION_DATA, Records, STUB_BYTES, Unproven, because, is_at_least, only};
use super::values::Value;
use super::{Cost, Planner, Site};
use crate::kernel::elf::ElfError;

/// Calls that are given plaintext; OpenSSL has three. More would be another kind of program.
const CALLS_MAX: usize = 16;

impl Planner<'_> {
    /// The probes that see all writes.
    pub(super) fn takings(&mut self) -> Result<Vec<Site>, Unproven> {
        let records = self.records(Op::Write, |_| false)?;
        let calls = records
            .reached
            .iter()
            .filter_map(|(instruction, state)| records.function.call(instruction, state));
        let (about, others): (Vec<Call>, Vec<Call>) = calls.partition(is_about_plaintext);
        if about.len() > CALLS_MAX {
            return because("it hands plaintext on in too many places");
        }
        let is_left = |call: &&Call| matches!(call.arguments[3], Value::Field(_));
        let Some(goes_on) = only(about.iter().filter(is_left).map(|call| call.destination)) else {
            return because("it is not known where what was taken goes on");
        };
        let (mut sites, mut leading) = (Vec::new(), BTreeMap::from([(goes_on, false)]));
        for call in &about {
            let [_, _, buffer, length, ..] = call.arguments;
            let taken = match length {
                Value::Field(_) => Taken::Nothing,
                length if length.is_in_frame() && self.makes_records(call, goes_on, &mut leading)? => {
                    Taken::Parts
                }
                _ if call.destination == goes_on && is_buffer(buffer) => Taken::Counted,
                _ => return because(format!("it is not known what {:#x} does", call.at)),
            };
            sites.push(self.taking(&records, call, taken)?);
        }
        if !leading.values().any(|makes_records| *makes_records) {
            return because("it is not known where records are made");
        }
        let bios = self.elf.import_slots(|name| name.starts_with("BIO_write"))?;
        for call in &others {
            let import = self.import(call.destination)?;
            let writes = import.is_some_and(|slot| bios.contains_key(&slot));
            if leading.contains_key(&call.destination) || writes {
                return because(format!("it is not known what {:#x} is given", call.at));
            }
        }
        if let Some(at) = self.passed_on(&records) {
            return because(format!("it is not known what {at:#x} is given"));
        }
        let mut all = self.handshakes(&records)?;
        all.append(&mut sites);
        Ok(all)
    }

    /// Where another function goes on with all that this one was given: a jump to its start, the stack as it came. (A call may be
    /// given less than what registers still hold.)
    fn passed_on(&self, records: &Records) -> Option<u64> {
        let found = records.reached.iter().find(|(instruction, state)| {
            instruction.is_jmp_short_or_near()
                && self
                    .starts
                    .binary_search(&instruction.near_branch_target())
                    .is_ok()
                && instruction.near_branch_target() != records.function.start
                && state.get(Register::RSP) == Value::Frame(Some(0))
                && state.arguments()[..4] == AS_THEY_CAME
        });
        found.map(|(instruction, _)| instruction.ip())
    }

    /// As of [`Planner::leads_on`], asked once for each destination.
    fn makes_records(
        &self,
        call: &Call,
        goes_on: Destination,
        known: &mut BTreeMap<Destination, bool>,
    ) -> Result<bool, ElfError> {
        if let Some(known) = known.get(&call.destination) {
            return Ok(*known);
        }
        let leads_on = self.leads_on(call, goes_on)?;
        known.insert(call.destination, leads_on);
        Ok(leads_on)
    }

    /// The slot by which a call leaves for another library.
    fn import(&self, destination: Destination) -> Result<Option<u64>, ElfError> {
        Ok(match destination {
            Destination::Slot(slot) => Some(slot),
            Destination::Direct(stub) => stub_slot(stub, &self.elf.code(stub, STUB_BYTES)?),
            Destination::Indirect => None,
        })
    }

    /// Whether what is called hands object, type and buffer on to the function that goes on, by a call or a jump to it.
    fn leads_on(&self, call: &Call, goes_on: Destination) -> Result<bool, ElfError> {
        let (Destination::Direct(vaddr), Destination::Direct(next)) = (call.destination, goes_on) else {
            return Ok(false);
        };
        let Some(function) = self.whole_function(vaddr)?.filter(|_| vaddr != next) else {
            return Ok(false);
        };
        let reached = function.reached(|_| false);
        let leads = reached.iter().any(|(instruction, state)| {
            let calls = function.call(instruction, state).map(|call| call.destination);
            let [object, content_type, buffer, ..] = state.arguments();
            (calls == Some(goes_on) || instruction.ip() == next)
                && object == Value::Entry(Register::RDI)
                && is_at_least(content_type, Register::RSI, 1)
                && buffer == Value::Entry(Register::RDX)
        });
        Ok(leads && function.is_followed(&reached))
    }

    /// The probe at one of these calls.
    fn taking(&self, records: &Records, call: &Call, taken: Taken) -> Result<Site, Unproven> {
        let cookie = TakingCookie { taken, library: 0 };
        let what = match taken {
            Taken::Nothing => "what was taken goes on",
            Taken::Counted | Taken::Parts => "taken from the application",
        };
        self.site(&records.function, call.at, Told::Taking(cookie))
            // Its return address, by which the program knows that it goes on, is right behind.
            .filter(|site| site.cost == Cost::Emulated && records.function.is_plain_call(call.at))
            .map(|site| Site {
                why: format!("{what}, {}", site.why),
                ..site
            })
            .ok_or_else(|| {
                Unproven::Because(format!("the kernel does not emulate the call at {:#x}", call.at))
            })
    }
}

/// Object, content type and buffer as they came, or the buffer with something added, or something that is not known, in
/// whose place it may be.
fn is_about_plaintext(call: &Call) -> bool {
    let [object, content_type, buffer, length, ..] = call.arguments;
    let is_type =
        is_at_least(content_type, Register::RSI, 1) || content_type == Value::Constant(APPLICATION_DATA);
    object == Value::Entry(Register::RDI)
        && is_type
        && (is_buffer(buffer) || (buffer == Value::Unknown && length.is_in_frame()))
        && call.arguments[..4] != AS_THEY_CAME
}

/// What registers hold at a call that is given less, right at the beginning.
const AS_THEY_CAME: [Value; 4] = [
    Value::Entry(Register::RDI),
    Value::Entry(Register::RSI),
    Value::Entry(Register::RDX),
    Value::Entry(Register::RCX),
];

fn is_buffer(value: Value) -> bool {
    matches!(value, Value::Entry(Register::RDX) | Value::From(Register::RDX))
}
