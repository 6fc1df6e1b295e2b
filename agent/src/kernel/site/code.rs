//! x86-64 machine code, as far as the choice of a probe site needs it: what the kernel does when it traps at an
//! instruction, and which of a function's arguments are still in which registers when it calls another.
//!
//! Everything errs on the side of "unknown": a value that is not followed, or a path that cannot be, leads to a
//! plainer site, never to a wrong one.

use std::collections::BTreeSet;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

/// Instructions of one function that are looked at; the longest one of interest has about 300.
const INSTRUCTIONS_MAX: usize = 20_000;

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

/// What is known of a register's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Unknown,
    /// What this register held when the function was entered.
    Entry(Register),
    /// The low 32 bits of that, extended.
    Low(Register),
    /// An address in the function's own stack frame.
    Stack,
    Zero,
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
    pub destination: Destination,
    /// In the order of the calling convention: rdi, rsi, rdx, rcx, r8, r9.
    pub arguments: [Value; 6],
}

/// The registers that arguments are passed in (System V AMD64 ABI, 3.2.3).
pub const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// The registers that a call may change.
const CALLER_SAVED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

type State = [Value; 16];

fn slot(register: Register) -> Option<usize> {
    let full = register.full_register();
    (full.is_gpr64()).then(|| full.number())
}

/// One function's code, decoded in a straight line.
pub struct Function {
    pub start: u64,
    bytes: Vec<u8>,
    instructions: Vec<Instruction>,
    branch_targets: BTreeSet<u64>,
}

impl Function {
    /// Decodes `bytes` as the function at `start`, up to the first byte that is no instruction.
    pub fn decode(start: u64, bytes: Vec<u8>) -> Function {
        let mut decoder = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder
            .iter()
            .take_while(|i| !i.is_invalid())
            .take(INSTRUCTIONS_MAX)
            .collect();
        let branch_targets = instructions
            .iter()
            .filter(|i| {
                matches!(
                    i.flow_control(),
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                )
            })
            .map(Instruction::near_branch_target)
            .collect();
        Function {
            start,
            bytes,
            instructions,
            branch_targets,
        }
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
        let from = (address - self.start) as usize;
        trap(self.bytes.get(from..from + instruction.len()).unwrap_or_default())
    }

    /// Every call that can be reached from the entry, with what its arguments are then.
    pub fn calls(&self) -> Vec<Call> {
        let states = self.states();
        let mut calls = Vec::new();
        for (index, instruction) in self.instructions.iter().enumerate() {
            let Some(state) = &states[index] else { continue };
            let Some(destination) = self.leaves(instruction) else {
                continue;
            };
            let arguments = ARGUMENTS.map(|r| slot(r).map_or(Value::Unknown, |i| state[i]));
            calls.push(Call {
                destination,
                arguments,
            });
        }
        calls
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

    fn states(&self) -> Vec<Option<State>> {
        let mut states: Vec<Option<State>> = vec![None; self.instructions.len()];
        let mut entry = [Value::Unknown; 16];
        for register in ARGUMENTS {
            if let Some(index) = slot(register) {
                entry[index] = Value::Entry(register);
            }
        }
        if let Some(index) = slot(Register::RSP) {
            entry[index] = Value::Stack;
        }
        let mut factory = InstructionInfoFactory::new();
        let mut work = vec![(0usize, entry)];
        // Every register of every instruction can change at most twice, so this ends.
        while let Some((index, incoming)) = work.pop() {
            let Some(known) = states.get_mut(index) else {
                continue;
            };
            let merged = match known {
                None => incoming,
                Some(known) => std::array::from_fn(|i| {
                    if known[i] == incoming[i] {
                        known[i]
                    } else {
                        Value::Unknown
                    }
                }),
            };
            if *known == Some(merged) {
                continue;
            }
            *known = Some(merged);
            let instruction = &self.instructions[index];
            let after = transfer(&mut factory, instruction, merged);
            match instruction.flow_control() {
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Exception => {}
                FlowControl::UnconditionalBranch => {
                    work.extend(self.index(instruction.near_branch_target()).map(|to| (to, after)));
                }
                FlowControl::ConditionalBranch => {
                    work.extend(self.index(instruction.near_branch_target()).map(|to| (to, after)));
                    work.push((index + 1, after));
                }
                _ => work.push((index + 1, after)),
            }
        }
        states
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
            let stores = info.used_memory().iter().any(|m| {
                !matches!(
                    m.access(),
                    OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
                )
            });
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

/// Registers that the instruction changes, or may change, in full width.
fn writes(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> Vec<Register> {
    factory
        .info(instruction)
        .used_registers()
        .iter()
        .filter(|used| {
            !matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead
            )
        })
        .map(|used| used.register().full_register())
        .collect()
}

fn transfer(factory: &mut InstructionInfoFactory, instruction: &Instruction, before: State) -> State {
    let mut after = before;
    let value = |register: Register| slot(register).map_or(Value::Unknown, |i| before[i]);
    let low = |value| match value {
        Value::Entry(register) | Value::Low(register) => Value::Low(register),
        Value::Zero => Value::Zero,
        _ => Value::Unknown,
    };
    for register in writes(factory, instruction) {
        // The stack pointer moves, and still points into the frame.
        if register != Register::RSP
            && let Some(index) = slot(register)
        {
            after[index] = Value::Unknown;
        }
    }
    if matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    ) {
        for index in CALLER_SAVED.into_iter().filter_map(slot) {
            after[index] = Value::Unknown;
        }
    }
    let registers = instruction.op_count() == 2
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register;
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    let result = match instruction.mnemonic() {
        Mnemonic::Mov if registers && to.is_gpr64() => Some(value(from)),
        Mnemonic::Mov if registers && to.is_gpr32() => Some(low(value(from))),
        Mnemonic::Movsxd if registers && to.is_gpr64() => Some(low(value(from))),
        Mnemonic::Xor | Mnemonic::Sub if registers && to == from && (to.is_gpr32() || to.is_gpr64()) => {
            Some(Value::Zero)
        }
        Mnemonic::Lea if to.is_gpr64() && instruction.memory_index() == Register::None => {
            (value(instruction.memory_base()) == Value::Stack).then_some(Value::Stack)
        }
        _ => None,
    };
    if let (Some(result), Some(index)) = (result, slot(to)) {
        after[index] = result;
    }
    if instruction.code() == Code::Cdqe
        && let Some(index) = slot(Register::RAX)
    {
        after[index] = low(before[index]);
    }
    after
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
