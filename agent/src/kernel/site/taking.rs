//! Where a library of the OpenSSL family takes plaintext from the application.
//!
//! Every write of OpenSSL 1.1.1 to 3.1 ends in one function, `ssl3_write_bytes` in its source (`tables.rs` finds it), which
//! cuts what it is given into records. A probe where it has one made is passed once for each piece of plaintext, before any
//! of it leaves; by no write that is called again because it had to wait, and by nothing at its end.
//!
//! The proof, by its calls that are given its object, content type and buffer as they came, or that with something added:
//! - one is also given how much of a record is left to write, as the object says: what was taken before goes on, by a
//!   function that has no symbol either (`ssl3_write_pending`);
//! - one, or more, is given lengths in the caller's frame: a record is made (`do_ssl3_write`). What is called hands its own
//!   buffer on to the function that goes on;
//! - one may be given another length, by a call of the function that goes on: a cipher has made several records at once.
//!
//! OpenSSL 3.2 and newer have records made through a table, by a call that the kernel single-steps: nothing is gained there,
//! and this proof does not hold.

use apiward_common::site::{Op, Taken, TakingCookie};
use iced_x86::Register;

use super::code::{Call, Destination};
use super::plan::Told;
use super::tables::{APPLICATION_DATA, Records, Unproven, because, is_at_least, only};
use super::values::Value;
use super::{Cost, Planner, Site};
use crate::kernel::elf::ElfError;

impl Planner<'_> {
    /// The probes that see all writes.
    pub(super) fn takings(&mut self) -> Result<Vec<Site>, Unproven> {
        let records = self.records(Op::Write, |_| false)?;
        let calls = records
            .reached
            .iter()
            .filter_map(|(instruction, state)| records.function.call(instruction, state));
        let (about, others): (Vec<Call>, Vec<Call>) = calls.partition(is_about_plaintext);
        let is_left = |call: &&Call| matches!(call.arguments[3], Value::Field(_));
        let Some(goes_on) = only(about.iter().filter(is_left).map(|call| call.destination)) else {
            return because("it is not known where what was taken goes on");
        };
        let (mut sites, mut leading) = (Vec::new(), vec![goes_on]);
        for call in &about {
            let [_, _, buffer, length, ..] = call.arguments;
            let taken = match length {
                Value::Field(_) => Taken::Nothing,
                length if length.is_in_frame() && self.leads_on(call, goes_on)? => Taken::Parts,
                _ if call.destination == goes_on && is_buffer(buffer) => Taken::Counted,
                _ => return because(format!("it is not known what {:#x} does", call.at)),
            };
            leading.extend((taken == Taken::Parts).then_some(call.destination));
            sites.push(self.taking(&records, call, taken)?);
        }
        if leading.len() == 1 {
            return because("it is not known where records are made");
        }
        if let Some(call) = others.iter().find(|call| leading.contains(&call.destination)) {
            return because(format!("it is not known what {:#x} is given", call.at));
        }
        let mut all = self.handshakes(&records)?;
        all.append(&mut sites);
        Ok(all)
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

/// What registers hold at a call that is given nothing, right at the beginning.
const AS_THEY_CAME: [Value; 4] = [
    Value::Entry(Register::RDI),
    Value::Entry(Register::RSI),
    Value::Entry(Register::RDX),
    Value::Entry(Register::RCX),
];

fn is_buffer(value: Value) -> bool {
    matches!(value, Value::Entry(Register::RDX) | Value::From(Register::RDX))
}
