//! x86-64 machine code, as far as the choice of a probe site needs it: what the kernel does when it traps at an
//! instruction, and which of a function's arguments are still in which registers when it calls another.
//!
//! Everything errs on the side of "unknown": a value that is not followed, or a path that cannot be, leads to a
//! plainer site, never to a wrong one.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, Register,
};

use super::values::{State, Value, changes};

/// Instructions of one function that are looked at; the longest one of interest has about 300.
const INSTRUCTIONS_MAX: usize = 20_000;
/// `call` with a distance of 32 bits.
pub const CALL_BYTES: usize = 5;
/// Steps that are followed in one function. OpenSSL's longest of interest takes some 5,000; a hostile one could take
/// millions.
const STEPS_MAX: usize = 30_000;

/// What the kernel does with the instruction that a probe has replaced (arch/x86/kernel/uprobes.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// It computes the effect itself: one trap.
    Emulated,
    /// It executes a copy out of line, one instruction long: two traps.
    Stepped,
    /// It does not accept a probe there.
    Refused,
}

/// What the kernel would do, and the instruction's name where it is emulated.
///
/// On every kernel since 4.18 that is: `push` of a general register, one-byte `nop`, direct `call` and `jmp`, and
/// conditional jumps. Longer nops are emulated since 6.18, `endbr64` is not: neither counts here. Branches with an
/// operand-size prefix and anything with a segment (other than fs, gs) or lock prefix are refused.
pub fn trap(bytes: &[u8]) -> (Trap, &'static str) {
    let prefixes = bytes.iter().take_while(|b| is_legacy_prefix(**b)).count();
    let (legacy, rest) = bytes.split_at(prefixes);
    if legacy
        .iter()
        .any(|b| matches!(b, 0x26 | 0x2E | 0x36 | 0x3E | 0xF0))
    {
        return (Trap::Refused, "");
    }
    let branch = |name| {
        if legacy.contains(&0x66) {
            (Trap::Refused, "")
        } else {
            (Trap::Emulated, name)
        }
    };
    match (legacy, rest) {
        ([], [0x50..=0x57] | [0x41, 0x50..=0x57]) => (Trap::Emulated, "push"),
        ([], [0x90]) => (Trap::Emulated, "nop"),
        (_, [0xE8, ..]) => branch("call"),
        (_, [0xE9 | 0xEB, ..]) => branch("jmp"),
        (_, [0x70..=0x7F, ..] | [0x0F, 0x80..=0x8F, ..]) => branch("conditional jump"),
        _ => (Trap::Stepped, ""),
    }
}

fn is_legacy_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 | 0x66 | 0x67 | 0xF0 | 0xF2 | 0xF3
    )
}

/// Where a call leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// To this address.
    Direct(u64),
    /// To what is in the slot at this address.
    Slot(u64),
    /// Nobody can tell.
    Indirect,
}

/// A call, or a jump that leaves the function for good.
#[derive(Clone, Debug)]
pub struct Call {
    /// The instruction's address.
    pub at: u64,
    pub destination: Destination,
    /// Of an indirect one: what is known of where it leads.
    pub pointer: Value,
    /// In the order of the calling convention: rdi, rsi, rdx, rcx, r8, r9.
    pub arguments: [Value; 6],
}

/// One function's code, decoded in straight lines.
pub struct Function {
    pub start: u64,
    /// By address of the first.
    bytes: BTreeMap<u64, Vec<u8>>,
    /// Every byte of it is part of an instruction that is known.
    whole: bool,
    /// In the order of their addresses.
    instructions: Vec<Instruction>,
    branch_targets: BTreeSet<u64>,
}

impl Function {
    /// Decodes `bytes` as the function at `start`, up to the first byte that is no instruction.
    pub fn decode(start: u64, bytes: Vec<u8>) -> Function {
        let mut function = Function {
            start,
            bytes: BTreeMap::new(),
            whole: true,
            instructions: Vec::new(),
            branch_targets: BTreeSet::new(),
        };
        function.add(start, bytes);
        function
    }

    /// Another part of it: compilers put what is seldom needed elsewhere.
    pub fn add(&mut self, start: u64, bytes: Vec<u8>) {
        if self.bytes.contains_key(&start) {
            return;
        }
        let mut decoder = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE);
        let mut read = 0;
        self.instructions.extend(
            decoder
                .iter()
                .take_while(|i| !i.is_invalid())
                .take(INSTRUCTIONS_MAX)
                .inspect(|i| read += i.len()),
        );
        self.whole &= read == bytes.len();
        self.instructions.sort_unstable_by_key(Instruction::ip);
        self.branch_targets = self
            .instructions
            .iter()
            .filter(|i| {
                matches!(
                    i.flow_control(),
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                )
            })
            .map(Instruction::near_branch_target)
            .collect();
        self.bytes.insert(start, bytes);
    }

    /// Whether it was decoded to its end, and nothing in it jumps to where nobody can tell.
    pub fn is_followed(&self, reached: &[(Instruction, State)]) -> bool {
        self.whole
            && !reached.is_empty()
            && reached.iter().all(|(instruction, state)| {
                instruction.flow_control() != FlowControl::IndirectBranch
                    || matches!(self.leaves(instruction), Some(Destination::Slot(_)))
                    || matches!(state.target(instruction), Value::Behind(..))
            })
    }

    /// Where jumps lead that leave what is decoded.
    pub fn elsewhere(&self) -> Vec<u64> {
        let known = |target: &u64| self.index(*target).is_some();
        self.branch_targets
            .iter()
            .filter(|target| !known(target))
            .copied()
            .collect()
    }

    fn index(&self, address: u64) -> Option<usize> {
        self.instructions
            .binary_search_by_key(&address, Instruction::ip)
            .ok()
    }

    /// The instruction at `address`, if one begins there.
    pub fn at(&self, address: u64) -> Option<&Instruction> {
        self.index(address).map(|index| &self.instructions[index])
    }

    /// The instruction that the byte at `address` belongs to.
    pub fn covering(&self, address: u64) -> Option<&Instruction> {
        let after = self.instructions.partition_point(|i| i.ip() <= address);
        let instruction = self.instructions.get(after.checked_sub(1)?)?;
        (address < instruction.next_ip()).then_some(instruction)
    }

    /// Where the function leads, reachable by a followed path or not.
    pub fn destinations(&self) -> Vec<Destination> {
        self.instructions.iter().filter_map(|i| self.leaves(i)).collect()
    }

    /// See [`trap`], for the instruction at `address`.
    pub fn trap_at(&self, address: u64) -> (Trap, &'static str) {
        let Some(instruction) = self.at(address) else {
            return (Trap::Refused, "");
        };
        let bytes = self
            .bytes
            .range(..=address)
            .next_back()
            .and_then(|(start, bytes)| {
                let from = (address - start) as usize;
                bytes.get(from..from + instruction.len())
            });
        trap(bytes.unwrap_or_default())
    }

    /// Every call that can be reached from the entry, with what is known then.
    pub fn calls(&self) -> Vec<Call> {
        let reached = self.reached(|_| false);
        reached
            .iter()
            .filter_map(|(instruction, state)| self.call(instruction, state))
            .collect()
    }

    /// The call that an instruction is.
    pub fn call(&self, instruction: &Instruction, state: &State) -> Option<Call> {
        Some(Call {
            at: instruction.ip(),
            destination: self.leaves(instruction)?,
            pointer: state.target(instruction),
            arguments: state.arguments(),
        })
    }

    /// A call of 5 bytes, behind which it comes back.
    pub fn is_plain_call(&self, address: u64) -> bool {
        self.at(address)
            .is_some_and(|i| i.flow_control() == FlowControl::Call && i.len() == CALL_BYTES)
    }

    /// Where an instruction leads if that is outside of the function.
    fn leaves(&self, instruction: &Instruction) -> Option<Destination> {
        let by_memory = || {
            if instruction.is_ip_rel_memory_operand() {
                Destination::Slot(instruction.ip_rel_memory_address())
            } else {
                Destination::Indirect
            }
        };
        match instruction.flow_control() {
            FlowControl::Call => Some(Destination::Direct(instruction.near_branch_target())),
            FlowControl::IndirectCall | FlowControl::IndirectBranch => Some(by_memory()),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let target = instruction.near_branch_target();
                // A jump to its own start is a loop or a self tail call; both stay.
                self.index(target)
                    .is_none()
                    .then_some(Destination::Direct(target))
            }
            _ => None,
        }
    }

    /// Every instruction that can be reached from the entry, with what is known before it. `copies` says
    /// which destinations are `memcpy` and its like.
    pub fn reached(&self, copies: impl Fn(Destination) -> bool) -> Vec<(Instruction, State)> {
        let mut states: Vec<Option<State>> = vec![None; self.instructions.len()];
        let mut factory = InstructionInfoFactory::new();
        let mut work: Vec<(Option<usize>, State)> = vec![(self.index(self.start), State::entry())];
        let mut steps = 0;
        // What is known only ever becomes less, and of each place in a few steps, so this ends.
        while let Some((index, incoming)) = work.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                return Vec::new();
            }
            let Some(index) = index else { continue };
            let Some(known) = states.get_mut(index) else {
                continue;
            };
            let merged = match known.as_ref() {
                None => incoming,
                Some(known) => known.or(&incoming),
            };
            if known.as_ref() == Some(&merged) {
                continue;
            }
            *known = Some(merged.clone());
            let instruction = &self.instructions[index];
            let copies = self.leaves(instruction).is_some_and(&copies);
            let after = merged.behind(&mut factory, instruction, copies);
            let next = || self.index(instruction.next_ip());
            match instruction.flow_control() {
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Exception => {}
                FlowControl::UnconditionalBranch => {
                    work.push((self.index(instruction.near_branch_target()), after));
                }
                FlowControl::ConditionalBranch => {
                    work.push((self.index(instruction.near_branch_target()), after.clone()));
                    work.push((next(), after));
                }
                _ => work.push((next(), after)),
            }
        }
        let reached = self.instructions.iter().zip(states);
        reached
            .filter_map(|(instruction, state)| Some((*instruction, state?)))
            .collect()
    }

    /// The address that it returns, if that is all that it does.
    pub fn address_returned(&self) -> Option<u64> {
        let mut rest = self.instructions.iter().filter(|i| i.code() != Code::Endbr64);
        let (first, second) = (rest.next()?, rest.next()?);
        (first.mnemonic() == Mnemonic::Lea
            && first.op0_register() == Register::RAX
            && first.is_ip_rel_memory_operand()
            && second.flow_control() == FlowControl::Return)
            .then(|| first.ip_rel_memory_address())
    }

    /// The first emulated instruction that every call of the function passes exactly once with `unchanged` as they
    /// were at the entry, if there is one. With the stack pointer among them, a return probe works there, too.
    pub fn cheap_entry(&self, unchanged: &[Register]) -> Option<u64> {
        let mut factory = InstructionInfoFactory::new();
        for instruction in &self.instructions {
            if self.branch_targets.contains(&instruction.ip()) {
                break;
            }
            // The probe comes before the instruction has any effect.
            if self.trap_at(instruction.ip()).0 == Trap::Emulated {
                return Some(instruction.ip());
            }
            let changed = writes(&mut factory, instruction);
            if instruction.flow_control() != FlowControl::Next
                || unchanged.iter().any(|r| changed.contains(r))
            {
                break;
            }
        }
        None
    }

    /// Where the result of the call at `address` is best read: an emulated instruction that always follows, while
    /// `rax` and memory are as the callee left them; else the instruction right behind the call.
    pub fn exit_after(&self, address: u64) -> Option<u64> {
        let first = self.index(address)? + 1;
        let behind = self.instructions.get(first)?.ip();
        let mut factory = InstructionInfoFactory::new();
        for instruction in self.instructions[first..].iter() {
            if self.branch_targets.contains(&instruction.ip()) {
                break;
            }
            if self.trap_at(instruction.ip()).0 == Trap::Emulated {
                return Some(instruction.ip());
            }
            let written = writes(&mut factory, instruction);
            let info = factory.info(instruction);
            let stores = info.used_memory().iter().any(|memory| changes(memory.access()));
            if instruction.flow_control() != FlowControl::Next
                || stores
                || written.contains(&Register::RAX)
                || written.contains(&Register::RSP)
            {
                break;
            }
        }
        (self.trap_at(behind).0 != Trap::Refused).then_some(behind)
    }
}

/// It moves bytes by itself: `rep movs` and its like.
pub fn moves_bytes(instruction: &Instruction) -> bool {
    use Mnemonic::{Movsb, Movsd, Movsq, Movsw};
    instruction.is_string_instruction() && matches!(instruction.mnemonic(), Movsb | Movsw | Movsd | Movsq)
}

/// Registers that the instruction changes, or may change, in full width.
fn writes(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> Vec<Register> {
    factory
        .info(instruction)
        .used_registers()
        .iter()
        .filter(|used| changes(used.access()))
        .map(|used| used.register().full_register())
        .collect()
}

/// Whether the instruction leads to `vaddr` or computes that address.
pub fn refers_to(instruction: &Instruction, vaddr: u64) -> bool {
    let branches = matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    );
    (branches && instruction.near_branch_target() == vaddr)
        || (instruction.is_ip_rel_memory_operand() && instruction.ip_rel_memory_address() == vaddr)
}

/// The slot that a linkage stub at `start` jumps through.
pub fn stub_slot(start: u64, bytes: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    for instruction in decoder.iter().take(3) {
        match instruction.code() {
            Code::Endbr64 => {}
            Code::Jmp_rm64 if instruction.is_ip_rel_memory_operand() => {
                return Some(instruction.ip_rel_memory_address());
            }
            _ => return None,
        }
    }
    None
}
