//! How a library's call is made to fail from a probe site, where the kernel lets programs write registers.
//!
//! A call that is about to write is left out: the machine goes on behind it, or, at the entry of a function, at the
//! nearest `ret`, with the return address where it was. A call that has read returns nothing. Where that cannot be
//! proved for a site, there is no way.

use apiward_common::site::{Kind, Op};

use super::code::CALL_BYTES;
use super::{Cost, Site};
use crate::kernel::elf::{Elf, ElfError};

/// How far a `ret` is looked for.
const REACH_BYTES: usize = 64 * 1024;
const RET: u8 = 0xc3;
/// Of a `call` with a distance of 32 bits.
const CALL: u8 = 0xe8;
/// `test eax, eax`.
const TEST: [u8; 2] = [0x85, 0xc0];

/// For each site, what the program there is told: the distance to go on at; 0 at a site behind its call.
pub fn refusals(elf: &Elf, sites: &[Site]) -> Result<Vec<Option<i64>>, ElfError> {
    sites.iter().map(|site| refusal(elf, sites, site)).collect()
}

fn refusal(elf: &Elf, sites: &[Site], site: &Site) -> Result<Option<i64>, ElfError> {
    let writes = matches!(site.op(), Op::Write | Op::WriteEarly);
    let reads = matches!(site.op(), Op::Read | Op::ReadEarly | Op::Peek);
    Ok(match site.kind() {
        Kind::Enter if writes => {
            let code = elf.code_at(site.file_offset, REACH_BYTES)?;
            let is_entry = sites
                .iter()
                .any(|other| other.cost == Cost::Return && other.file_offset == site.file_offset);
            if is_entry {
                // A return probe goes there too: the return address is on top of the stack.
                code.iter()
                    .position(|byte| *byte == RET)
                    .and_then(|at| i64::try_from(at).ok())
            } else if code.first() == Some(&CALL) {
                Some(CALL_BYTES as i64)
            } else {
                None
            }
        }
        Kind::Uretprobe if reads => Some(0),
        Kind::Exit if reads => is_right_behind(elf, site)?.then_some(0),
        _ => None,
    })
}

/// Nothing but a look at the result stands between the call and the site.
fn is_right_behind(elf: &Elf, site: &Site) -> Result<bool, ElfError> {
    let before = CALL_BYTES + TEST.len();
    let Some(start) = site.file_offset.checked_sub(before as u64) else {
        return Ok(false);
    };
    let code = elf.code_at(start, before)?;
    let called = |bytes: Option<&[u8]>| bytes.and_then(<[u8]>::first) == Some(&CALL);
    Ok(called(code.get(TEST.len()..)) || (code.ends_with(&TEST) && called(Some(&code))))
}
