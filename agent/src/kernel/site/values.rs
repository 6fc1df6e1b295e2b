//! What is known of registers and of the stack frame at each instruction of a function: an abstract interpretation of its
//! machine code.
//!
//! Everything errs on the side of "unknown". It rests on what the calling convention promises (System V AMD64 ABI, 3.2),
//! and on what every compiler keeps to: nobody writes into a frame but by an address that was taken of it.

use std::collections::BTreeMap;

use iced_x86::{
    Code, ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

/// What is known of a register's content, or of a slot in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Unknown,
    /// What this register held when the function was entered.
    Entry(Register),
    /// Its low 32 bits are those of that.
    Low(Register),
    /// Its low 8 bits are.
    Byte(Register),
    /// It is that, or 0.
    OrZero(Register),
    /// That, or 0, and something added or taken away.
    From(Register),
    /// An address in the function's own frame: bytes from where the stack pointer was at the entry, if that is known.
    Frame(Option<i64>),
    /// One there or above: in an array that begins there.
    Above(i64),
    Constant(i64),
    /// A number that is not negative: it was counted up.
    Count,
    /// What is behind the first argument, so many bytes on.
    Field(i64),
    /// What is behind [`Value::Field`] of the first number, bytes on of the second.
    Behind(i64, i64),
}

impl Value {
    /// What is sure of a value that is one or the other.
    fn or(self, other: Value) -> Value {
        use Value::{Above, Byte, Entry, Frame, From, Low, OrZero};
        let zero = Value::Constant(0);
        match (self, other) {
            (a, b) if a == b => a,
            // An object, if it is of the kind that is wanted.
            (Entry(a) | OrZero(a), b) | (b, Entry(a) | OrZero(a))
                if b == zero || b == Entry(a) || b == OrZero(a) =>
            {
                OrZero(a)
            }
            (Entry(a), Low(b)) | (Low(a), Entry(b)) if a == b => Low(a),
            (Entry(a) | Low(a) | Byte(a), Byte(b)) | (Byte(a), Entry(b) | Low(b)) if a == b => Byte(a),
            (Entry(a) | OrZero(a) | From(a), Entry(b) | OrZero(b) | From(b)) if a == b => From(a),
            (Frame(Some(a)), Frame(Some(b)) | Above(b)) => Above(a.min(b)),
            // Only up: what is lower each time would never end.
            (Above(a), Frame(Some(b)) | Above(b)) if a <= b => Above(a),
            (Frame(_) | Above(_), Frame(_) | Above(_)) => Frame(None),
            (a, b) if a.is_counted() && b.is_counted() => Value::Count,
            _ => Value::Unknown,
        }
    }

    pub fn is_in_frame(self) -> bool {
        matches!(self, Value::Frame(_) | Value::Above(_))
    }

    /// With a number added that is not negative, if it is an address in the frame.
    fn upwards(self) -> Option<Value> {
        match self {
            Value::Frame(Some(at)) | Value::Above(at) => Some(Value::Above(at)),
            Value::Frame(None) => Some(self),
            _ => None,
        }
    }

    /// From where on a frame may be written by whoever has this address.
    fn given_away(self) -> Option<Option<i64>> {
        match self {
            Value::Frame(at) => Some(at),
            Value::Above(at) => Some(Some(at)),
            _ => None,
        }
    }

    fn is_counted(self) -> bool {
        matches!(self, Value::Count | Value::Constant(0..))
    }

    /// After it went through so many bytes.
    fn cut(self, bytes: usize) -> Value {
        use Value::{Byte, Entry, Low};
        match (self, bytes) {
            (value, 8) => value,
            (Value::Constant(number), 4) => Value::Constant(i64::from(number as u32)),
            (Entry(register) | Low(register), 4) => Low(register),
            (Byte(register), 4) | (Entry(register) | Low(register) | Byte(register), 1) => Byte(register),
            _ => Value::Unknown,
        }
    }

    /// After its low 32 bits were extended by their sign.
    fn extended(self) -> Value {
        match self.cut(4) {
            Value::Constant(number) => Value::Constant(i64::from(number as i32)),
            other => other,
        }
    }

    /// With something added or taken away.
    fn moved(self, distance: Option<i64>) -> Value {
        match (self, distance) {
            (Value::Frame(Some(at)), Some(distance)) => Value::Frame(at.checked_add(distance)),
            (Value::Above(at), Some(distance)) => {
                at.checked_add(distance).map_or(Value::Frame(None), Value::Above)
            }
            (Value::Frame(_) | Value::Above(_), _) => Value::Frame(None),
            (value, Some(0)) => value,
            (value, Some(1..)) if value.is_counted() => Value::Count,
            (Value::Entry(register) | Value::OrZero(register) | Value::From(register), _) => {
                Value::From(register)
            }
            _ => Value::Unknown,
        }
    }
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

fn slot(register: Register) -> Option<usize> {
    let full = register.full_register();
    (full.is_gpr64()).then(|| full.number())
}

/// Slots of a frame that are followed at once; compilers' code has some tens.
const SLOTS_MAX: usize = 64;

/// What is known of a place in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    bytes: usize,
    value: Value,
    /// It was pushed: an argument perhaps, which the function that is called may change.
    pushed: bool,
}

impl Slot {
    fn end(self, at: i64) -> i64 {
        at.saturating_add(self.bytes as i64)
    }
}

/// Everything that is known at one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    registers: [Value; 16],
    /// By distance from where the stack pointer was at the entry; at most [`SLOTS_MAX`].
    frame: BTreeMap<i64, Slot>,
    /// From here on upwards the frame may be written by others: addresses in it were given away.
    escaped: Option<i64>,
}

impl State {
    /// At a function's entry.
    pub fn entry() -> State {
        let mut registers = [Value::Unknown; 16];
        for register in ARGUMENTS {
            if let Some(index) = slot(register) {
                registers[index] = Value::Entry(register);
            }
        }
        if let Some(index) = slot(Register::RSP) {
            registers[index] = Value::Frame(Some(0));
        }
        State {
            registers,
            frame: BTreeMap::new(),
            escaped: None,
        }
    }

    pub fn get(&self, register: Register) -> Value {
        slot(register).map_or(Value::Unknown, |index| self.registers[index])
    }

    /// A register as an operand: of `ah` and its like nothing is known.
    fn operand(&self, register: Register) -> Value {
        match register {
            Register::AH | Register::BH | Register::CH | Register::DH => Value::Unknown,
            register => self.get(register),
        }
    }

    pub fn arguments(&self) -> [Value; 6] {
        ARGUMENTS.map(|register| self.get(register))
    }

    /// What is known of where an indirect call or jump leads.
    pub fn target(&self, instruction: &Instruction) -> Value {
        match (instruction.flow_control(), instruction.op0_kind()) {
            (FlowControl::IndirectCall | FlowControl::IndirectBranch, OpKind::Register) => {
                self.get(instruction.op0_register())
            }
            (FlowControl::IndirectCall | FlowControl::IndirectBranch, OpKind::Memory) => {
                self.load(instruction, 8)
            }
            _ => Value::Unknown,
        }
    }

    /// What an instruction stores behind the first argument, and how far behind.
    pub fn stored(&self, instruction: &Instruction) -> Option<(i64, Value)> {
        let is_store = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Memory
            && instruction.op1_kind() == OpKind::Register
            && instruction.memory_index() == Register::None;
        let behind = matches!(
            self.get(instruction.memory_base()),
            Value::Entry(Register::RDI) | Value::OrZero(Register::RDI)
        );
        (is_store && behind).then(|| {
            (
                instruction.memory_displacement64() as i64,
                self.operand(instruction.op1_register()),
            )
        })
    }

    /// It stores more than a byte at an address that comes from this argument.
    pub fn stores_at(&self, instruction: &Instruction, argument: Register) -> bool {
        let by =
            |value| matches!(value, Value::Entry(r) | Value::OrZero(r) | Value::From(r) if r == argument);
        instruction.op0_kind() == OpKind::Memory
            && instruction.memory_size().size() > 1
            && by(self.address(instruction))
    }

    /// A register that holds what `wanted` takes, and how far above the stack pointer a slot is that does.
    pub fn holding(&self, wanted: impl Fn(Value) -> bool) -> (Option<Register>, Option<i64>) {
        let register = ARGUMENTS.into_iter().chain(SAVED).find(|r| wanted(self.get(*r)));
        let Value::Frame(Some(top)) = self.get(Register::RSP) else {
            return (register, None);
        };
        let at = self
            .frame
            .range(top..)
            // The lowest may be arguments that are passed on.
            .rfind(|(_, slot)| wanted(slot.value))
            .and_then(|(at, _)| at.checked_sub(top));
        (register, at)
    }

    /// What is known where two ways meet.
    pub fn or(&self, other: &State) -> State {
        let mut both = State {
            registers: std::array::from_fn(|i| self.registers[i].or(other.registers[i])),
            frame: self
                .frame
                .iter()
                .filter_map(|(at, mine)| {
                    let theirs = other.frame.get(at).filter(|theirs| theirs.bytes == mine.bytes)?;
                    let slot = Slot {
                        value: mine.value.or(theirs.value),
                        pushed: mine.pushed || theirs.pushed,
                        ..*mine
                    };
                    (slot.value != Value::Unknown).then_some((*at, slot))
                })
                .collect(),
            escaped: match (self.escaped, other.escaped) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        };
        // An address that is not followed any more may be written by.
        for (index, value) in both.registers.into_iter().enumerate() {
            for lost in [self.registers[index], other.registers[index]] {
                if let (Some(at), false) = (lost.given_away(), value.is_in_frame()) {
                    both.escapes(at);
                }
            }
        }
        both
    }

    fn set(&mut self, register: Register, value: Value) {
        let Some(index) = slot(register) else { return };
        self.registers[index] = value;
        // What is below the stack pointer is nobody's.
        if register.full_register() == Register::RSP {
            match value {
                Value::Frame(Some(top)) => self.frame = self.frame.split_off(&top),
                _ => self.frame.clear(),
            }
        }
    }

    /// The address that a memory operand names.
    fn address(&self, instruction: &Instruction) -> Value {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        if instruction.segment_prefix() != Register::None || !base.is_gpr64() {
            return Value::Unknown;
        }
        let distance = instruction.memory_displacement64() as i64;
        match index {
            Register::None => self.get(base).moved(Some(distance)),
            index if self.get(index).is_counted() && self.get(base).is_in_frame() => {
                let base = self.get(base).moved(Some(distance));
                base.upwards().unwrap_or(Value::Frame(None))
            }
            index => match (self.get(base).moved(None), self.get(index)) {
                (base, index) if base.is_in_frame() || index.is_in_frame() => Value::Frame(None),
                (Value::Unknown, index) if instruction.memory_index_scale() == 1 => index.moved(None),
                (base, _) => base,
            },
        }
    }

    fn load(&self, instruction: &Instruction, bytes: usize) -> Value {
        let distance = instruction.memory_displacement64() as i64;
        let plain =
            instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None;
        match (self.get(instruction.memory_base()), self.address(instruction)) {
            (_, Value::Frame(Some(at))) => match self.frame.get(&at) {
                Some(slot) if slot.bytes >= bytes => slot.value.cut(bytes),
                _ => Value::Unknown,
            },
            // There is nothing behind 0.
            (Value::Entry(Register::RDI) | Value::OrZero(Register::RDI), _) if plain && bytes == 8 => {
                Value::Field(distance)
            }
            (Value::Field(field), _) if plain && bytes == 8 => Value::Behind(field, distance),
            _ => Value::Unknown,
        }
    }

    fn store(&mut self, address: Value, bytes: usize, value: Value, pushed: bool) {
        if let Some(at) = value.given_away() {
            self.escapes(at);
        }
        match address {
            Value::Frame(Some(at)) => {
                let slot = Slot { bytes, value, pushed };
                self.frame
                    .retain(|from, other| *from >= slot.end(at) || other.end(*from) <= at);
                // What is below the stack pointer is nobody's.
                let is_own = matches!(self.get(Register::RSP), Value::Frame(Some(top)) if at >= top);
                if value != Value::Unknown && is_own && self.frame.len() < SLOTS_MAX {
                    self.frame.insert(at, slot);
                }
            }
            Value::Above(at) => self.frame.retain(|from, slot| slot.end(*from) <= at),
            Value::Frame(None) => self.frame.clear(),
            _ => self.others_write(),
        }
    }

    fn escapes(&mut self, at: Option<i64>) {
        let at = at.unwrap_or(i64::MIN);
        self.escaped = Some(self.escaped.map_or(at, |known| known.min(at)));
    }

    fn others_write(&mut self) {
        if let Some(from) = self.escaped {
            self.frame.retain(|at, slot| slot.end(*at) <= from);
        }
    }

    fn push(&mut self, value: Value) {
        let top = self.get(Register::RSP).moved(Some(-8));
        self.set(Register::RSP, top);
        self.store(top, 8, value, true);
    }

    fn pop(&mut self) -> Value {
        let top = self.get(Register::RSP);
        let value = match top {
            Value::Frame(Some(at)) => self
                .frame
                .get(&at)
                .filter(|slot| slot.bytes == 8)
                .map(|slot| slot.value),
            _ => None,
        };
        self.set(Register::RSP, top.moved(Some(8)));
        value.unwrap_or(Value::Unknown)
    }

    /// Addresses of the frame that the instruction works with in a way that is not followed.
    fn gives_away(&mut self, read: &[Register], instruction: &Instruction) {
        let addressing = [instruction.memory_base(), instruction.memory_index()];
        let operands: Vec<Register> = (0..instruction.op_count())
            .filter(|operand| instruction.op_kind(*operand) == OpKind::Register)
            .map(|operand| instruction.op_register(operand).full_register())
            .collect();
        for register in read.iter().copied() {
            let is_operand = operands.contains(&register);
            if let Some(at) = self.get(register).given_away()
                && register != Register::RSP
                && (is_operand || !addressing.contains(&register))
            {
                self.escapes(at);
            }
        }
    }

    /// The state behind an instruction that was reached with this one. `copies`: it is a call of `memcpy` or its like,
    /// which returns where it has copied to, and writes nowhere else.
    pub fn behind(
        mut self,
        factory: &mut InstructionInfoFactory,
        instruction: &Instruction,
        copies: bool,
    ) -> State {
        let result = self.result(instruction);
        let to = instruction.op0_register();
        let info = factory.info(instruction);
        let of = |wanted: fn(OpAccess) -> bool| -> Vec<Register> {
            let used = info.used_registers().iter().filter(|used| wanted(used.access()));
            used.map(|used| used.register().full_register()).collect()
        };
        let (written, read) = (of(changes), of(|access| access != OpAccess::Write));
        let stores = info.used_memory().iter().any(|memory| changes(memory.access()));
        match instruction.mnemonic() {
            Mnemonic::Push => {
                let value = match instruction.op0_kind() {
                    OpKind::Register => self.get(to),
                    OpKind::Memory => self.load(instruction, 8),
                    _ => Value::Unknown,
                };
                self.push(value);
                return self;
            }
            Mnemonic::Pop if instruction.op0_kind() == OpKind::Register => {
                let value = self.pop();
                self.set(to, value);
                return self;
            }
            Mnemonic::Leave => {
                let frame = self.get(Register::RBP);
                self.set(Register::RSP, frame);
                let value = self.pop();
                self.set(Register::RBP, value);
                return self;
            }
            _ => {}
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                for value in self.arguments() {
                    if let Some(at) = value.given_away() {
                        self.escapes(at);
                    }
                }
                self.others_write();
                self.frame.retain(|_, slot| !slot.pushed);
                let returned = match copies {
                    true => self.get(Register::RDI),
                    false => Value::Unknown,
                };
                for register in CALLER_SAVED {
                    self.set(register, Value::Unknown);
                }
                self.set(Register::RAX, returned);
                return self;
            }
            _ => {}
        }
        let is_followed = !matches!(result, None | Some(Value::Unknown));
        if !is_followed && (stores || !written.is_empty()) {
            self.gives_away(&read, instruction);
        }
        if stores {
            self.stores(instruction);
        }
        for register in written {
            let value = match register {
                // It moves, and still points into the frame.
                Register::RSP => Value::Frame(None),
                _ => Value::Unknown,
            };
            match result {
                Some(result) if register == to.full_register() => self.set(register, result),
                _ => self.set(register, value),
            }
        }
        self
    }

    fn stores(&mut self, instruction: &Instruction) {
        let bytes = instruction.memory_size().size();
        let address = match instruction.op0_kind() {
            OpKind::Memory => self.address(instruction),
            // String instructions.
            _ => {
                if let Some(at) = self.get(Register::RDI).given_away() {
                    self.escapes(at);
                }
                Value::Unknown
            }
        };
        let value = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Mov, OpKind::Register) => self.operand(instruction.op1_register()).cut(bytes),
            _ => Value::Unknown,
        };
        // A size of 0: of nobody knows how many bytes.
        match (address, bytes) {
            (Value::Frame(_), 0) => self.store(Value::Frame(None), 0, value, false),
            _ => self.store(address, bytes, value, false),
        }
    }

    /// What an instruction leaves in its first operand, a register.
    fn result(&self, instruction: &Instruction) -> Option<Value> {
        let to = instruction.op0_register();
        if instruction.op0_kind() != OpKind::Register || instruction.op_count() == 0 {
            return None;
        }
        let bytes = to.size();
        let from = || match instruction.op1_kind() {
            OpKind::Register => self.operand(instruction.op1_register()),
            OpKind::Memory => self.load(instruction, instruction.memory_size().size()),
            _ => instruction
                .try_immediate(1)
                .map_or(Value::Unknown, |number| Value::Constant(number as i64)),
        };
        let wide = bytes == 8 || bytes == 4;
        let same = instruction.op_count() == 2
            && instruction.op1_kind() == OpKind::Register
            && instruction.op1_register() == to;
        match instruction.mnemonic() {
            Mnemonic::Mov if wide => Some(from().cut(bytes)),
            Mnemonic::Movsxd if wide => Some(from().extended()),
            Mnemonic::Movzx if instruction.op1_kind() == OpKind::Register => {
                Some(from().cut(instruction.op1_register().size()))
            }
            Mnemonic::Movzx => Some(from()),
            Mnemonic::Xor | Mnemonic::Sub if same && wide => Some(Value::Constant(0)),
            Mnemonic::Lea if bytes == 8 => Some(self.address(instruction)),
            Mnemonic::Add | Mnemonic::Sub if bytes == 8 => {
                let distance = match from() {
                    Value::Constant(number) if instruction.mnemonic() == Mnemonic::Add => Some(number),
                    Value::Constant(number) => number.checked_neg(),
                    frame if frame.is_in_frame() => {
                        let is_up = instruction.mnemonic() == Mnemonic::Add && self.get(to).is_counted();
                        return Some(frame.upwards().filter(|_| is_up).unwrap_or(Value::Frame(None)));
                    }
                    Value::Count if instruction.mnemonic() == Mnemonic::Add && self.get(to).is_in_frame() => {
                        return self.get(to).upwards();
                    }
                    other => {
                        // A count, and an address that is added to it.
                        return Some(match (self.get(to).moved(None), instruction.mnemonic()) {
                            (Value::Unknown, Mnemonic::Add) => other.moved(None),
                            (value, _) => value,
                        });
                    }
                };
                Some(self.get(to).moved(distance))
            }
            _ if instruction.code() == Code::Cdqe => Some(self.get(Register::RAX).extended()),
            _ if is_conditional_move(instruction) && wide => Some(self.get(to).or(from()).cut(bytes)),
            _ => None,
        }
    }
}

/// What a call leaves as it is, and what it does not, besides arguments.
const SAVED: [Register; 9] = [
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
    Register::RAX,
    Register::R10,
    Register::R11,
];

/// `cmov` in any of its kinds. `setcc` and jumps, which have conditions too, have one operand.
fn is_conditional_move(instruction: &Instruction) -> bool {
    instruction.condition_code() != ConditionCode::None && instruction.op_count() == 2
}

/// Whether what is accessed so is another thing afterwards, or may be.
pub fn changes(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}
