//! On machine code written for the purpose, and on the libraries of the machine where there are some.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::code::trap;
use super::*;

/// As much of an assembler as the tests need: bytes, and 4-byte distances to labels.
#[derive(Default)]
struct Assembler {
    base: u64,
    bytes: Vec<u8>,
    labels: HashMap<&'static str, u64>,
    distances: Vec<(usize, &'static str)>,
}

impl Assembler {
    fn label(&mut self, name: &'static str) -> &mut Self {
        self.labels.insert(name, self.base + self.bytes.len() as u64);
        self
    }

    fn code(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An opcode and the distance to `to`.
    fn to(&mut self, opcode: &[u8], to: &'static str) -> &mut Self {
        self.code(opcode);
        self.distances.push((self.bytes.len(), to));
        self.code(&[0; 4])
    }

    fn finish(mut self) -> (Vec<u8>, HashMap<&'static str, u64>) {
        for (at, name) in self.distances {
            let distance = self.labels[name].wrapping_sub(self.base + at as u64 + 4) as i32;
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        (self.bytes, self.labels)
    }
}

const CALL: &[u8] = &[0xE8];
const JUMP: &[u8] = &[0xE9];
const JUMP_IF_NEGATIVE: &[u8] = &[0x0F, 0x88];
const JUMP_IF_NOT_POSITIVE: &[u8] = &[0x0F, 0x8E];
const TEST_EDX: &[u8] = &[0x85, 0xD2];
const TEST_EAX: &[u8] = &[0x85, 0xC0];
const SUB_RSP_24: &[u8] = &[0x48, 0x83, 0xEC, 0x18];
const ADD_RSP_24: &[u8] = &[0x48, 0x83, 0xC4, 0x18];
const MOV_RCX_RSP: &[u8] = &[0x48, 0x89, 0xE1];
const LEA_R8_FRAME: &[u8] = &[0x4C, 0x8D, 0x44, 0x24, 0x08];
const MOVSXD_RDX: &[u8] = &[0x48, 0x63, 0xD2];
const XOR_ECX: &[u8] = &[0x31, 0xC9];
const XOR_EDX: &[u8] = &[0x31, 0xD2];
const XOR_EAX: &[u8] = &[0x31, 0xC0];
const CMOVS_EAX_EDX: &[u8] = &[0x0F, 0x48, 0xC2];
const MOV_EAX_FRAME: &[u8] = &[0x8B, 0x04, 0x24];
const MOV_R8_RCX: &[u8] = &[0x49, 0x89, 0xC8];
const PUSH_R13: &[u8] = &[0x41, 0x55];
const POP_R13: &[u8] = &[0x41, 0x5D];
const ENDBR64: &[u8] = &[0xF3, 0x0F, 0x1E, 0xFA];
const PADDING: &[u8] = &[0x66, 0x2E, 0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0];
const RET: &[u8] = &[0xC3];

/// `SSL_read` and `SSL_read_ex` as gcc compiles OpenSSL 3.0, with a third caller, as BIO_f_ssl is, and the inner
/// function right behind padding whose zeros look like a distance to it.
fn reads(a: &mut Assembler, inner: &'static str, names: [&'static str; 3], flags: bool) {
    a.label(names[0])
        .code(SUB_RSP_24)
        .code(TEST_EDX)
        .to(JUMP_IF_NEGATIVE, "error");
    if flags {
        a.code(LEA_R8_FRAME).code(XOR_ECX);
    } else {
        a.code(MOV_RCX_RSP);
    }
    a.code(MOVSXD_RDX)
        .to(CALL, inner)
        .code(TEST_EAX)
        .to(JUMP_IF_NOT_POSITIVE, names[2]);
    a.code(MOV_EAX_FRAME).label(names[2]).code(ADD_RSP_24).code(RET);
    a.label(names[1]).code(SUB_RSP_24);
    if flags {
        a.code(MOV_R8_RCX).code(XOR_ECX);
    }
    a.to(CALL, inner)
        .code(XOR_EDX)
        .code(TEST_EAX)
        .code(CMOVS_EAX_EDX)
        .code(ADD_RSP_24)
        .code(RET);
}

fn openssl_like(odd: impl FnOnce(&mut Assembler)) -> (Vec<u8>, HashMap<&'static str, u64>) {
    let mut a = Assembler {
        base: TEXT,
        ..Assembler::default()
    };
    reads(&mut a, "inner_read", ["SSL_read", "SSL_read_ex", "end"], false);
    reads(&mut a, "inner_write", ["SSL_write", "SSL_write_ex", "end2"], true);
    a.label("error").code(XOR_EAX).code(RET);
    a.label("SSL_write_early_data")
        .code(PUSH_R13)
        .to(CALL, "SSL_write_ex")
        .code(POP_R13)
        .code(RET);
    a.label("SSL_do_handshake")
        .code(ENDBR64)
        .code(PUSH_R13)
        .code(POP_R13)
        .code(RET);
    a.label("SSL_connect").to(JUMP, "SSL_do_handshake");
    a.label("SSL_accept").code(XOR_EAX).code(RET);
    a.label("SSL_free")
        .code(&[0x48, 0x85, 0xFF])
        .to(&[0x0F, 0x84], "error")
        .code(RET);
    a.label("bio_read")
        .code(PUSH_R13)
        .to(CALL, "inner_read")
        .code(&[0x89, 0xC5])
        .to(CALL, "error")
        .code(RET);
    odd(&mut a);
    a.code(PADDING)
        .label("inner_read")
        .code(PUSH_R13)
        .code(POP_R13)
        .code(RET);
    a.code(PADDING)
        .label("inner_write")
        .code(PUSH_R13)
        .code(POP_R13)
        .code(RET);
    a.finish()
}

const TEXT: u64 = 0x1000;

/// A library with this code at 0x1000 that exports every label in capitals.
fn library(code: Vec<u8>, labels: &HashMap<&'static str, u64>) -> Vec<u8> {
    fn words(to: &mut Vec<u8>, words: &[u64]) {
        words
            .iter()
            .for_each(|word| to.extend_from_slice(&word.to_le_bytes()));
    }
    let mut exported: Vec<_> = labels
        .iter()
        .filter(|(name, _)| name.starts_with("SSL_"))
        .collect();
    exported.sort();
    let (mut strings, mut table) = (vec![0u8], vec![0u8; 24]);
    for (name, address) in exported {
        table.extend_from_slice(&(strings.len() as u32).to_le_bytes());
        table.extend_from_slice(&[0x12, 0, 2, 0]);
        words(&mut table, &[*address, 0]);
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let rodata = b"\0OpenSSL 3\0OpenSSL 3.3.1 4 Jun 2024\0";
    let names = b"\0.dynsym\0.text\0.dynstr\0.rodata\0";
    let mut file = vec![0u8; TEXT as usize];
    file.extend_from_slice(&code);
    let mut place = |bytes: &[u8]| {
        let at = file.len() as u64;
        file.extend_from_slice(bytes);
        (at, bytes.len() as u64)
    };
    let (table, strings, rodata, names) = (place(&table), place(&strings), place(rodata), place(names));
    let sections_at = file.len() as u64;
    let mut section = |name: u64, kind: u64, (at, size): (u64, u64), vaddr: u64, link: u64| {
        words(&mut file, &[name | kind << 32, 0, vaddr, at, size, link, 0, 24]);
    };
    section(0, 0, (0, 0), 0, 0);
    section(1, 11, table, table.0, 3);
    section(9, 1, (TEXT, code.len() as u64), TEXT, 0);
    section(15, 3, strings, strings.0, 0);
    section(23, 1, rodata, rodata.0, 0);
    section(1, 3, names, 0, 0);
    let mut head = vec![0x7F, b'E', b'L', b'F', 2, 1, 1, 0];
    words(&mut head, &[0, 3 | 62 << 16 | 1 << 32, 0, 64, sections_at]);
    head.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 6, 0, 5, 0]);
    // One executable segment over everything, loaded where it is in the file.
    words(
        &mut head,
        &[1 | 5 << 32, 0, 0, 0, sections_at, sections_at, 0x1000],
    );
    file[..head.len()].copy_from_slice(&head);
    file
}

fn plan_of(file: Vec<u8>, ways: impl Into<Ways>) -> LibraryPlan {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libssl.so.3");
    std::fs::write(&path, file).unwrap();
    plan_by(&path, ways).unwrap()
}

fn shown(plan: &LibraryPlan) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.push(format!(
        "{} {}",
        plan.library.family.as_str(),
        plan.library.version
    ));
    for site in &plan.sites {
        let how = match site.told {
            Told::Usual(SiteCookie { result, out, .. }) => format!("{result:?} out {out:?}"),
            other => format!("{other:?}"),
        };
        lines.push(format!(
            "{:?} {:?} {how} {:#x} {}",
            site.op(),
            site.kind(),
            site.file_offset,
            site.why
        ));
    }
    lines.extend(plan.explanations.iter().cloned());
    lines.push(format!("uncovered: {:?}", plan.uncovered));
    lines.join("\n")
}

#[test]
fn a_library_gets_probes_at_its_inner_functions() {
    let (code, labels) = openssl_like(|_| {});
    insta::assert_snapshot!(shown(&plan_of(library(code, &labels), Prefer::Entry)));
}

#[test]
fn or_around_the_calls_of_them() {
    let (code, labels) = openssl_like(|_| {});
    insta::assert_snapshot!(shown(&plan_of(library(code, &labels), Prefer::Calls)));
}

/// Where a probe at a return could end a process, there is none: calls are looked at around the inner function's, and
/// what has no other way is not covered.
#[test]
fn or_without_any_at_returns() {
    let (code, labels) = openssl_like(|_| {});
    let without = |prefer| Ways {
        prefer,
        returns: false,
    };
    let plan = plan_of(library(code, &labels), without(Prefer::Entry));
    assert!(plan.sites.iter().all(|site| site.kind() != Kind::Uretprobe));
    for op in [Op::Read, Op::Write] {
        let found = kinds(&plan, op);
        assert!(
            found.contains(&Kind::Enter) && found.contains(&Kind::Exit),
            "{op:?}"
        );
    }
    assert_eq!(kinds(&plan, Op::Handshake), []);
    assert_eq!(plan.uncovered, ["SSL_do_handshake", "SSL_connect", "SSL_accept"]);
}

fn kinds(plan: &LibraryPlan, op: Op) -> Vec<Kind> {
    plan.sites
        .iter()
        .filter(|s| s.op() == op)
        .map(|s| s.kind())
        .collect()
}

fn places(plan: &LibraryPlan, op: Op) -> Vec<u64> {
    plan.sites
        .iter()
        .filter(|s| s.op() == op)
        .map(|s| s.file_offset)
        .collect()
}

/// Each of these leads to the inner function without a call: probes at calls would miss it, one at the entry does not.
#[test]
fn the_calls_have_to_be_all() {
    let tail_call: fn(&mut Assembler) = |a| {
        a.label("odd").to(JUMP, "inner_read");
    };
    let address_taken: fn(&mut Assembler) = |a| {
        a.label("odd").to(&[0x48, 0x8D, 0x3D], "inner_read").code(RET);
    };
    let conditional: fn(&mut Assembler) = |a| {
        a.label("odd").to(&[0x0F, 0x84], "inner_read").code(RET);
    };
    for odd in [tail_call, address_taken, conditional] {
        let (code, labels) = openssl_like(odd);
        let plan = plan_of(library(code, &labels), Prefer::Calls);
        assert_eq!(
            kinds(&plan, Op::Read),
            [Kind::Uretprobe, Kind::Enter],
            "{}",
            shown(&plan)
        );
        assert_eq!(places(&plan, Op::Read), [labels["inner_read"]; 2]);
        // Writes do not suffer from it.
        assert!(kinds(&plan, Op::Write).contains(&Kind::Exit));
    }
}

/// Each of these breaks the proof; the probes then go to the exported functions, and nothing is missed.
#[test]
fn without_proof_there_is_the_plain_way() {
    type Break = fn(&mut Vec<u8>, &HashMap<&'static str, u64>);
    let other_length: Break = |code, labels| {
        let at = (labels["SSL_read_ex"] - TEXT) as usize;
        // xor edx, edx; nop; nop
        code[at..at + 4].copy_from_slice(&[0x31, 0xD2, 0x90, 0x90]);
    };
    let other_function: Break = |code, labels| {
        let at = (labels["SSL_read_ex"] - TEXT) as usize + 5;
        let distance = labels["error"].wrapping_sub(TEXT + at as u64 + 4) as i32;
        code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    };
    for break_it in [other_length, other_function] {
        for prefer in [Prefer::Entry, Prefer::Calls] {
            let (mut code, labels) = openssl_like(|_| {});
            break_it(&mut code, &labels);
            let plan = plan_of(library(code, &labels), prefer);
            let expected = [Kind::Uretprobe, Kind::Enter, Kind::Uretprobe, Kind::Enter];
            assert_eq!(kinds(&plan, Op::Read), expected, "{}", shown(&plan));
            let at = ["SSL_read", "SSL_read", "SSL_read_ex", "SSL_read_ex"].map(|name| labels[name]);
            assert_eq!(places(&plan, Op::Read), at);
        }
    }
}

#[test]
fn a_peek_inside_a_read_is_left_alone() {
    let mut a = Assembler {
        base: TEXT,
        ..Assembler::default()
    };
    a.label("SSL_read")
        .code(PUSH_R13)
        .to(CALL, "SSL_peek")
        .code(POP_R13)
        .code(RET);
    a.label("SSL_peek").code(PUSH_R13).code(POP_R13).code(RET);
    for name in ["SSL_write", "SSL_do_handshake", "SSL_free"] {
        a.label(name).code(PUSH_R13).code(POP_R13).code(RET);
    }
    let (code, labels) = a.finish();
    let plan = plan_of(library(code, &labels), Prefer::Entry);
    assert_eq!(kinds(&plan, Op::Read), [Kind::Uretprobe, Kind::Enter]);
    assert_eq!(kinds(&plan, Op::Peek), []);
}

#[test]
fn the_entry_is_where_everything_still_is() {
    let entry = |code: &[&[u8]]| {
        let function = Function::decode(0x1000, code.concat());
        function
            .cheap_entry(&[Register::RDI, Register::RSP])
            .map(|at| at - 0x1000)
    };
    assert_eq!(entry(&[PUSH_R13, RET]), Some(0));
    assert_eq!(entry(&[ENDBR64, PUSH_R13, RET]), Some(4));
    assert_eq!(entry(&[TEST_EDX, &[0x74, 0x00], RET]), Some(2));
    // The stack pointer moved, the argument changed, the function left, jumped back into.
    assert_eq!(entry(&[SUB_RSP_24, PUSH_R13, RET]), None);
    assert_eq!(entry(&[&[0x31, 0xFF], PUSH_R13, RET]), None);
    assert_eq!(entry(&[RET, PUSH_R13]), None);
    assert_eq!(entry(&[TEST_EDX, TEST_EDX, PUSH_R13, &[0x75, 0xFA], RET]), None);
}

#[test]
fn arguments_are_followed_through_the_code() {
    use Register::*;
    let value_at_call = |code: &[&[u8]]| {
        let mut a = Assembler {
            base: 0x1000,
            ..Assembler::default()
        };
        code.iter().for_each(|bytes| {
            a.code(bytes);
        });
        a.to(CALL, "far").code(RET);
        a.labels.insert("far", 0x9000);
        let (bytes, _) = a.finish();
        let calls = Function::decode(0x1000, bytes).calls();
        assert_eq!(calls[0].destination, Destination::Direct(0x9000));
        calls[0].arguments
    };
    let entry = [RDI, RSI, RDX, RCX, R8, R9].map(Value::Entry);
    assert_eq!(value_at_call(&[]), entry);
    // Saved over a call and put back: mov rbx, rdi; call +0; mov rdi, rbx.
    let saved = value_at_call(&[&[0x48, 0x89, 0xFB], &[0x48, 0x89, 0xDF]]);
    assert_eq!(saved[0], Value::Entry(RDI));
    assert_eq!(value_at_call(&[MOVSXD_RDX])[2], Value::Low(RDX));
    assert_eq!(value_at_call(&[&[0x89, 0xD2]])[2], Value::Low(RDX));
    assert_eq!(value_at_call(&[MOV_RCX_RSP])[3], Value::Frame(Some(0)));
    assert_eq!(value_at_call(&[XOR_ECX])[3], Value::Constant(0));
    assert_eq!(value_at_call(&[LEA_R8_FRAME])[4], Value::Frame(Some(8)));
    // Changed on one of two ways: test edx, edx; je +2; xor ecx, ecx.
    assert_eq!(
        value_at_call(&[TEST_EDX, &[0x74, 0x02], XOR_ECX])[3],
        Value::OrZero(RCX)
    );
    assert_eq!(
        value_at_call(&[TEST_EDX, &[0x74, 0x03], &[0x48, 0x89, 0xC1]])[3],
        Value::Unknown
    );
    // Part of it changed: mov dl, 1; something added: add rsi, 8.
    assert_eq!(value_at_call(&[&[0xB2, 0x01]])[2], Value::Unknown);
    assert_eq!(value_at_call(&[&[0x48, 0x83, 0xC6, 0x08]])[1], Value::From(RSI));
    // Behind the first argument: mov rdi, [rdi+8]; and behind that: mov rsi, [rdi+0x38].
    let behind = value_at_call(&[&[0x48, 0x8B, 0x7F, 0x08], &[0x48, 0x8B, 0x77, 0x38]]);
    assert_eq!(behind[..2], [Value::Field(8), Value::Behind(8, 0x38)]);
    // Gone with another call: call rax.
    let mut a = Assembler {
        base: 0x1000,
        ..Assembler::default()
    };
    a.code(&[0xFF, 0xD0])
        .to(CALL, "far")
        .code(RET)
        .labels
        .insert("far", 0x9000);
    let calls = Function::decode(0x1000, a.finish().0).calls();
    assert_eq!(calls[1].arguments, [Value::Unknown; 6]);
}

#[test]
fn the_exit_is_where_the_result_still_is() {
    let exit = |behind: &[&[u8]]| {
        let mut a = Assembler {
            base: 0x1000,
            ..Assembler::default()
        };
        a.to(CALL, "far").labels.insert("far", 0x9000);
        behind.iter().for_each(|bytes| {
            a.code(bytes);
        });
        Function::decode(0x1000, a.finish().0).exit_after(0x1000).unwrap() - 0x1005
    };
    let jle = &[0x7E, 0x00][..];
    assert_eq!(exit(&[TEST_EAX, jle, RET]), 2);
    assert_eq!(exit(&[&[0x89, 0xC5], TEST_EAX, jle, RET]), 4);
    // Result overwritten, stored over, frame given up, returned, jumped into: right behind the call.
    assert_eq!(exit(&[XOR_EAX, jle, RET]), 0);
    assert_eq!(exit(&[CMOVS_EAX_EDX, jle, RET]), 0);
    assert_eq!(exit(&[&[0x89, 0x04, 0x24], jle, RET]), 0);
    assert_eq!(exit(&[ADD_RSP_24, jle, RET]), 0);
    assert_eq!(exit(&[RET, jle]), 0);
    assert_eq!(exit(&[TEST_EAX, TEST_EAX, jle, &[0x75, 0xFA], RET]), 0);
    assert_eq!(exit(&[jle, RET]), 0);
}

#[test]
fn the_kernel_emulates_these() {
    use Trap::*;
    for (bytes, expected) in [
        (&[0x53][..], Emulated),
        (&[0x41, 0x55], Emulated),
        (&[0x90], Emulated),
        (&[0xE8, 1, 2, 3, 4], Emulated),
        (&[0xF2, 0xE8, 1, 2, 3, 4], Emulated),
        (&[0xE9, 1, 2, 3, 4], Emulated),
        (&[0xEB, 1], Emulated),
        (&[0x7E, 1], Emulated),
        (&[0x0F, 0x8E, 1, 2, 3, 4], Emulated),
        // endbr64, sub rsp, long nop, push imm, ret, xchg r8/rax, call rax, jmp rax.
        (ENDBR64, Stepped),
        (SUB_RSP_24, Stepped),
        (&[0x0F, 0x1F, 0x44, 0, 0], Stepped),
        (&[0x66, 0x90], Stepped),
        (&[0x68, 1, 2, 3, 4], Stepped),
        (RET, Stepped),
        (&[0x41, 0x90], Stepped),
        (&[0xFF, 0xD0], Stepped),
        (&[0xFF, 0xE0], Stepped),
        // 16-bit branches, notrack, lock.
        (&[0x66, 0xE8, 1, 2], Refused),
        (&[0x66, 0x0F, 0x8E, 1, 2], Refused),
        (&[0x3E, 0xFF, 0xE0], Refused),
        (&[0xF0, 0x0F, 0xC1, 0x07], Refused),
    ] {
        assert_eq!(trap(bytes).0, expected, "{bytes:02x?}");
    }
}

proptest! {
    /// A library out of a hostile container may make no plan, or a strange one, and nothing else.
    #[test]
    fn damage_is_survived(at in 0usize..6000, with in any::<u64>(), cut in 0usize..7000) {
        let (code, labels) = openssl_like(|_| {});
        let mut file = library(code, &labels);
        let len = file.len();
        file[at % (len - 8)..][..8].copy_from_slice(&with.to_le_bytes());
        file.truncate(len.saturating_sub(cut.saturating_sub(3000)));
        if let Ok(elf) = Elf::parse(file.clone()) {
            let _ = unknown_tls(&elf);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("damaged");
        std::fs::write(&path, file).unwrap();
        let _ = plan_by(&path, if at % 2 == 0 { Prefer::Entry } else { Prefer::Calls });
    }

    /// Any bytes are some code.
    #[test]
    fn any_bytes_are_survived(code in proptest::collection::vec(any::<u8>(), 0..200)) {
        let function = Function::decode(0x1000, code);
        prop_assert!(function.calls().len() <= 200);
        prop_assert!(function.cheap_entry(&[Register::RDI]).is_none_or(|at| (0x1000..0x10C8).contains(&at)));
        for address in 0x1000..0x10C8 {
            prop_assert!(function.exit_after(address).is_none_or(|exit| exit > address));
        }
    }
}

const DEBIAN: &str = "/usr/lib/x86_64-linux-gnu";

fn on_this_machine(name: &str) -> Option<std::path::PathBuf> {
    let path = Path::new(DEBIAN).join(name);
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_systems_openssl_is_covered() {
    for name in ["libssl.so.3", "libssl.so.1.1"] {
        let Some(path) = on_this_machine(name) else {
            continue;
        };
        let calls = plan_by(&path, Prefer::Calls).unwrap();
        assert!(
            kinds(&calls, Op::Write).contains(&Kind::Exit),
            "{}",
            shown(&calls)
        );
        assert_eq!(calls.uncovered, Vec::<String>::new());
        let plan = plan_by(&path, Prefer::Entry).unwrap();
        assert_eq!(plan.library.family, Family::OpenSsl);
        assert_eq!(plan.library.soname, name);
        assert!(
            plan.library
                .version
                .starts_with(if name.ends_with('3') { "3." } else { "1.1." })
        );
        assert_eq!(plan.uncovered, Vec::<String>::new());
        for op in [Op::Read, Op::Write, Op::Handshake, Op::Free] {
            let of = |kind| {
                plan.sites
                    .iter()
                    .filter(|s| s.op() == op && s.kind() == kind)
                    .count()
            };
            assert!(of(Kind::Enter) > 0, "{op:?}");
            if op != Op::Free {
                assert_eq!(of(Kind::Enter), of(Kind::Exit) + of(Kind::Uretprobe), "{op:?}");
            }
        }
        for site in &plan.sites {
            let Told::Usual(cookie) = site.told else {
                panic!("{}", site.why)
            };
            assert_eq!(SiteCookie::decode(cookie.encode()), Some(cookie));
        }
        // Every way to the plaintext can be refused.
        let elf = Elf::open(&path).unwrap();
        for plan in [&plan, &calls] {
            for (site, refusal) in plan.sites.iter().zip(refusals(&elf, &plan.sites).unwrap()) {
                let asked = match (site.op(), site.kind()) {
                    (Op::Write, kind) => kind == Kind::Enter,
                    (Op::Read | Op::Peek, kind) => kind == Kind::Uretprobe,
                    _ => false,
                };
                assert!(!asked || refusal.is_some(), "{}", site.why);
                if let (Op::Write, Some(to @ 6..)) = (site.op(), refusal) {
                    let code = elf.code_at(site.file_offset + to as u64, 1).unwrap();
                    assert_eq!(code, [0xc3], "{}", site.why);
                }
            }
        }
        assert_eq!(scan(&path).unwrap(), Some(plan.library));
    }
}

#[test]
fn a_library_that_is_held_open_has_its_version_from_beside_its_name() {
    let Some(path) = on_this_machine("libssl.so.3") else {
        return;
    };
    let held = std::fs::File::open(&path).unwrap();
    let open = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let plan = plan_named(Path::new(&open), &path, Prefer::default().into()).unwrap();
    assert_eq!(scan(&path).unwrap(), Some(plan.library.clone()));
    assert!(plan.library.version.starts_with("3."), "{:?}", plan.library);
}

#[test]
fn names_do_not_decide_what_a_file_is() {
    // NSS's libssl3.so has nothing to do with libssl.so.3, and GnuTLS ships a layer with some of its names.
    for (name, unknown) in [
        ("libssl3.so", Some(UnknownTls::Nss)),
        ("libgnutls.so.30", Some(UnknownTls::GnuTls)),
        ("libgnutls-openssl.so.27", None),
        ("libcrypto.so.3", None),
        ("libc.so.6", None),
    ] {
        let Some(path) = on_this_machine(name) else {
            continue;
        };
        assert_eq!(scan(&path).unwrap(), None, "{name}");
        assert_eq!(
            unknown_tls(&Elf::open(&path).unwrap()).unwrap(),
            unknown,
            "{name}"
        );
    }
    assert!(matches!(scan(Path::new("/etc/passwd")), Ok(None)));
    assert!(matches!(scan(Path::new("/dev/zero")), Ok(None)));
    assert!(matches!(scan(Path::new("/")), Ok(None)));
}

/// For a look at any file: `LOOK="a b" cargo test -p apiward --lib site::tests::look -- --ignored --nocapture`.
#[test]
#[ignore = "prints, and asserts nothing"]
fn look() {
    for path in std::env::var("LOOK").unwrap_or_default().split_whitespace() {
        println!("{path}\n{}\n", shown(&plan(Path::new(path)).unwrap()));
    }
}

mod delivered;
