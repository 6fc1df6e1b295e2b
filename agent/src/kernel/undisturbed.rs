//! Puts the running kernel's own functions where the object only names them; see [`apiward_common::undisturbed`].

use std::borrow::Cow;

use apiward_common::scope::{TWICE_ALL, TWICE_STATES};
use apiward_common::undisturbed::{FUNCTIONS, MARKER};

use super::btf::Btf;

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// In the high half of the byte with the registers: what is called is a function of the kernel, by its type's number.
const OF_KERNEL: u8 = 2 << 4;
/// `BPF_ALU64 | BPF_MOV | BPF_K`, of 0 into r0: what a call leaves there, without the call.
const NOTHING: [u8; INSTRUCTION_BYTES] = [0xB7, 0, 0, 0, 0, 0, 0, 0];
const INSTRUCTION_BYTES: usize = 8;

/// The numbers of the functions' types.
pub type Functions = [u32; FUNCTIONS.len()];

/// Which programs at tracepoints are attached twice: a constant of [`apiward_common::scope`].
pub fn twice(types: &Btf) -> u32 {
    // A task that was preempted inside of a program keeps others from it: tracepoints are guarded by SRCU (Linux 7.0), not
    // by keeping preemption off.
    match types.has_type("class_srcu_fast_notrace_t") {
        true => TWICE_ALL,
        false => TWICE_STATES,
    }
}

/// Nothing where the kernel has them not, or would not let a program call functions of its own
/// between them: that came with the verifier's knowledge of which of these may sleep (Linux 6.15).
pub fn functions(types: &Btf) -> Option<Functions> {
    types.field("bpf_subprog_info", "might_sleep").ok()?;
    let mut numbers = Functions::default();
    for (number, name) in numbers.iter_mut().zip(FUNCTIONS) {
        *number = types.function(name)?;
    }
    Some(numbers)
}

/// The object with each of the calls that stand for something replaced.
pub fn resolve(object: &[u8], functions: Option<Functions>) -> Cow<'_, [u8]> {
    let mut object = Cow::Borrowed(object);
    // Sections of instructions begin at a multiple of their size.
    for at in (0..object.len()).step_by(INSTRUCTION_BYTES) {
        let Some(&[CALL, 0, 0, 0, a, b, c, d]) = object.get(at..at + INSTRUCTION_BYTES) else {
            continue;
        };
        let place = u32::from_le_bytes([a, b, c, d]).wrapping_sub(MARKER) as usize;
        if place >= FUNCTIONS.len() {
            continue;
        }
        let by = functions.map_or(NOTHING, |numbers| {
            let [a, b, c, d] = numbers[place].to_le_bytes();
            [CALL, OF_KERNEL, 0, 0, a, b, c, d]
        });
        object.to_mut()[at..at + INSTRUCTION_BYTES].copy_from_slice(&by);
    }
    object
}

#[cfg(test)]
mod tests {
    use aya_obj::Object;

    use super::super::load::OBJECT;
    use super::*;

    /// What each program at a tracepoint calls, of what stands for functions of the kernel and of these.
    fn calls(object: &[u8]) -> Vec<Vec<(u8, u32)>> {
        let object = Object::parse(object).expect("the object is ours");
        let tracepoints = object
            .programs
            .values()
            .filter(|program| matches!(program.section, aya_obj::ProgramSection::BtfTracePoint));
        let calls = tracepoints.map(|program| {
            let instructions = object.functions[&program.function_key()].instructions.iter();
            let calls = instructions
                .filter(|one| one.code == CALL && (one.src_reg() == 2 || one.imm >= MARKER.cast_signed()));
            calls
                .map(|one| (one.src_reg(), one.imm.cast_unsigned()))
                .collect()
        });
        calls.collect()
    }

    #[test]
    fn every_program_at_a_tracepoint_is_undisturbed_where_the_kernel_lets_it() {
        assert!(
            !OBJECT.is_empty(),
            "built without the kernel programs: `cargo xtask build` first"
        );
        let marked = calls(OBJECT);
        assert_eq!(marked.len(), 13);
        let numbers = [70, 71, 72, 73];
        let resolved = calls(&resolve(OBJECT, Some(numbers)));
        for (marked, resolved) in marked.iter().zip(&resolved) {
            assert_eq!(marked.first(), Some(&(0, MARKER)));
            assert_eq!(resolved.len(), marked.len());
            let [begin, .., save, end, restore] = resolved[..] else {
                panic!("{resolved:?}");
            };
            assert_eq!([begin, save, end, restore], [(2, 70), (2, 72), (2, 71), (2, 73)]);
        }
        assert!(calls(&resolve(OBJECT, None)).iter().all(Vec::is_empty));
    }
}
