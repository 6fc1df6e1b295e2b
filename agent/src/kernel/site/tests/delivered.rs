//! Reads that are seen where plaintext is handed over, and writes where it is taken: on code as the machine's own compiler makes it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use apiward_common::site::{DeliveryCookie, Place, STACK_PLACE_MAX, Taken};

use super::*;

/// The library of `like_openssl.c`, compiled with these options; the directory goes with it.
fn compiled(options: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libssl.so.3");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel/site/like_openssl.c");
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libssl.so.3", "-o"])
        .arg(&path)
        .args(options)
        .arg(source)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (directory, path)
}

fn deliveries(plan: &LibraryPlan) -> Vec<&Site> {
    let reads = plan.sites.iter().filter(|site| site.op() == Op::Read);
    reads.filter(|site| site.kind() == Kind::Delivery).collect()
}

#[test]
fn reads_are_seen_at_the_copies_to_the_application() {
    for level in ["-O1", "-O2", "-O3"] {
        let (_directory, path) = compiled(&[level]);
        let plan = plan(&path).unwrap();
        let found = deliveries(&plan);
        assert!(!found.is_empty(), "{level}: {}", shown(&plan));
        assert_eq!(found.len(), kinds(&plan, Op::Read).len());
        assert_eq!(kinds(&plan, Op::Peek), []);
        for site in found {
            assert_eq!(site.cost, Cost::Emulated);
            let cookie = site.attach_cookie(7).unwrap();
            let Told::Delivery(told) = site.told else {
                panic!("{}", site.why)
            };
            let expected = DeliveryCookie { library: 7, ..told };
            assert_eq!(DeliveryCookie::decode(cookie), Some(expected));
        }
        // Hands that are shaken inside of a read are seen by probes of its own, none of them at a return: it may be on a
        // stack that is left and come back to.
        let shaken = kinds(&plan, Op::HandshakeWithin);
        assert!(!shaken.is_empty() && shaken.len().is_multiple_of(2));
        assert!(shaken.iter().all(|kind| matches!(kind, Kind::Enter | Kind::Exit)));
        // Where calls can be made to fail, reads are looked at when they are over.
        let refusing = Prefer::default().where_calls(true);
        let plan = plan_by(&path, refusing).unwrap();
        assert_eq!(kinds(&plan, Op::Read), [Kind::Uretprobe, Kind::Enter]);
        assert_eq!(kinds(&plan, Op::Peek), [Kind::Uretprobe, Kind::Enter]);
    }
}

fn takings(plan: &LibraryPlan) -> Vec<Taken> {
    let told = plan.sites.iter().filter_map(|site| match site.told {
        Told::Taking(cookie) => Some(cookie.taken),
        _ => None,
    });
    told.collect()
}

#[test]
fn writes_are_seen_where_records_are_made() {
    // With -O3 an index of the lengths is computed in a way that is not followed, here: whatever it is.
    for level in ["-O1", "-O2"] {
        let (_directory, path) = compiled(&[level]);
        let plan = plan(&path).unwrap();
        let found = takings(&plan);
        for taken in [Taken::Nothing, Taken::Counted, Taken::Parts] {
            assert!(found.contains(&taken), "{level}: {}", shown(&plan));
        }
        assert_eq!(found.len(), kinds(&plan, Op::Write).len());
        let plan = plan_by(&path, Prefer::default().where_calls(true)).unwrap();
        assert_eq!(kinds(&plan, Op::Write), [Kind::Uretprobe, Kind::Enter]);
    }
}

/// As of reads.
#[test]
fn without_proof_they_are_seen_at_the_inner_function() {
    for (how, why) in [
        ("-DOTHERWISE", "it is not known where what was taken goes on"),
        ("-DNOT_ITS_OWN", "it is not known what"),
        ("-DJUMPS", "it is not known what"),
        ("-DWRITES_ITSELF", "it is not known what"),
    ] {
        let (_directory, path) = compiled(&["-O2", how]);
        let plan = plan(&path).unwrap();
        assert_eq!(takings(&plan), [], "{how}");
        assert_eq!(kinds(&plan, Op::Write), [Kind::Uretprobe, Kind::Enter], "{how}");
        assert!(!deliveries(&plan).is_empty(), "{how}");
        assert!(
            plan.explanations.iter().any(|line| line.contains(why)),
            "{}",
            shown(&plan)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// A library out of a hostile container may make no plan, or a strange one, and nothing else.
    #[test]
    fn damage_there_is_survived(at in any::<usize>(), with in any::<u64>(), cut in 0usize..20_000) {
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let (_directory, path) = compiled(&["-O2"]);
            std::fs::read(path).unwrap()
        });
        let mut file = WHOLE.clone();
        let len = file.len();
        file[at % (len - 8)..][..8].copy_from_slice(&with.to_le_bytes());
        file.truncate(len.saturating_sub(cut.saturating_sub(15_000)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("libssl.so.3");
        std::fs::write(&path, file).unwrap();
        // Where there is a plan without deliveries, there is one.
        prop_assert!(plan(&path).is_ok() || plan_by(&path, Prefer::Entry).is_err());
    }
}

/// Each of these breaks the proof; reads are then seen at the inner function, and the plan says why.
#[test]
fn without_proof_they_are_seen_where_they_were() {
    for (how, why) in [
        ("-DANOTHER", "its tables differ in what works with records"),
        (
            "-DBY_ITSELF",
            "what works with records copies them without a call",
        ),
        ("-DELSEWHERE", "it is not known where"),
    ] {
        let (_directory, path) = compiled(&["-O2", how]);
        let plan = plan(&path).unwrap();
        assert!(deliveries(&plan).is_empty(), "{how}");
        assert_eq!(kinds(&plan, Op::Read), [Kind::Uretprobe, Kind::Enter], "{how}");
        assert!(
            plan.explanations.iter().any(|line| line.contains(why)),
            "{}",
            shown(&plan)
        );
    }
}

#[test]
fn those_of_the_systems_openssl_are() {
    for name in ["libssl.so.3", "libssl.so.1.1"] {
        let Some(path) = on_this_machine(name) else {
            continue;
        };
        let plan = plan(&path).unwrap();
        assert!(!deliveries(&plan).is_empty(), "{}", shown(&plan));
        assert_eq!(plan.uncovered, Vec::<String>::new());
        // Newer ones have records made through a table.
        if ["1.1.1", "3.0.", "3.1."]
            .iter()
            .any(|series| plan.library.version.starts_with(series))
        {
            let all = [Taken::Nothing, Taken::Parts, Taken::Counted];
            assert!(
                all.iter().all(|taken| takings(&plan).contains(taken)),
                "{}",
                shown(&plan)
            );
        }
    }
}

/// What is spilled into the frame is known there, until something may have been written over it.
#[test]
fn the_frame_is_followed() {
    // sub rsp, 24; mov [rsp+8], rdi; mov [rsp+4], esi; mov [rsp+3], cl
    let spilled: [&[u8]; 4] = [
        SUB_RSP_24,
        &[0x48, 0x89, 0x7C, 0x24, 0x08],
        &[0x89, 0x74, 0x24, 0x04],
        &[0x88, 0x4C, 0x24, 0x03],
    ];
    // The places of rdi, esi and cl at the last call.
    let places = |code: &[&[u8]]| {
        let mut a = Assembler {
            base: 0x1000,
            ..Assembler::default()
        };
        for bytes in spilled.iter().chain(code) {
            a.code(bytes);
        }
        a.to(CALL, "far").code(RET).labels.insert("far", 0x9000);
        let function = Function::decode(0x1000, a.finish().0);
        let reached = function.reached(|_| false);
        let mut calls = reached
            .iter()
            .filter(|(i, state)| function.call(i, state).is_some());
        let state = &calls.next_back().unwrap().1;
        let at = |wanted: Value| state.holding(|value| value == wanted).1;
        [
            Value::Entry(Register::RDI),
            Value::Low(Register::RSI),
            Value::Byte(Register::RCX),
        ]
        .map(at)
    };
    const CALL_RAX: &[u8] = &[0xFF, 0xD0];
    assert_eq!(places(&[]), [Some(8), Some(4), Some(3)]);
    assert_eq!(places(&[CALL_RAX]), [Some(8), Some(4), Some(3)]);
    // push rax: everything is 8 bytes further.
    assert_eq!(places(&[&[0x50]]), [Some(16), Some(12), Some(11)]);
    // Written over: mov byte [rsp+9], 0; mov qword [rsp], rax.
    assert_eq!(
        places(&[&[0xC6, 0x44, 0x24, 0x09, 0x00]]),
        [None, Some(4), Some(3)]
    );
    assert_eq!(places(&[&[0x48, 0x89, 0x04, 0x24]]), [Some(8), None, None]);
    // An address of it was given away: lea rdi, [rsp+4]; call rax.
    assert_eq!(
        places(&[&[0x48, 0x8D, 0x7C, 0x24, 0x04], CALL_RAX]),
        [None, None, Some(3)]
    );
    // Or lost out of sight: lea rax, [rsp+4]; cmovne rax, rbx; call rcx. As vectors are: movq xmm0, rax.
    let lea: &[u8] = &[0x48, 0x8D, 0x44, 0x24, 0x04];
    assert_eq!(
        places(&[lea, &[0x48, 0x0F, 0x45, 0xC3], &[0xFF, 0xD1]]),
        [None, None, Some(3)]
    );
    assert_eq!(
        places(&[lea, &[0x66, 0x48, 0x0F, 0x6E, 0xC0], CALL_RAX]),
        [None, None, Some(3)]
    );
    // Added to another one: lea rdx, [rdx+rax]; call rcx.
    assert_eq!(
        places(&[lea, &[0x48, 0x8D, 0x14, 0x02], &[0xFF, 0xD1]]),
        [None; 3]
    );
    // An element of an array that begins there, which was counted up to: xor edx, edx; add rdx, 2; mov [rsp+rdx*8+4], rax.
    let counted: [&[u8]; 2] = [&[0x31, 0xD2], &[0x48, 0x83, 0xC2, 0x02]];
    let element: &[u8] = &[0x48, 0x89, 0x44, 0xD4, 0x04];
    assert_eq!(places(&[counted[0], counted[1], element]), [None, None, Some(3)]);
    // By an index that nobody knows, it may be anywhere.
    assert_eq!(places(&[element]), [None; 3]);
    // By a pointer that goes up: lea rax, [rsp+4]; test edx, edx; je +4; add rax, 8; mov [rax], rdx. And one that goes down.
    let up: &[&[u8]] = &[
        lea,
        TEST_EDX,
        &[0x74, 0x04],
        &[0x48, 0x83, 0xC0, 0x08],
        &[0x48, 0x89, 0x10],
    ];
    assert_eq!(places(up), [None, None, Some(3)]);
    let down: &[&[u8]] = &[
        lea,
        TEST_EDX,
        &[0x74, 0x04],
        &[0x48, 0x83, 0xE8, 0x08],
        &[0x48, 0x89, 0x10],
    ];
    assert_eq!(places(down), [None; 3]);
    // Again and again, downwards: dec rax in a loop ends, and knows nothing: lea rax, [rsp+4]; mov [rax], rdx; sub rax, 8;
    // test edx, edx; jne back.
    let looped: &[&[u8]] = &[
        lea,
        &[0x48, 0x89, 0x10],
        &[0x48, 0x83, 0xE8, 0x08],
        TEST_EDX,
        &[0x75, 0xF5],
    ];
    assert_eq!(places(looped), [None; 3]);
    // An argument that is passed on is the callee's: push rdi; call rax. Of two places the higher one is told.
    assert_eq!(places(&[&[0x57], CALL_RAX]), [Some(16), Some(12), Some(11)]);
    // What is written below the stack pointer is nobody's: mov [rsp-8], rdi; sub rsp, 16.
    let below: &[u8] = &[0x48, 0x89, 0x7C, 0x24, 0xF8];
    assert_eq!(
        places(&[below, &[0x48, 0x83, 0xEC, 0x10]]),
        [Some(24), Some(20), Some(19)]
    );
    // A high byte is another one: mov [rsp+3], ch.
    assert_eq!(places(&[&[0x88, 0x6C, 0x24, 0x03]]), [Some(8), Some(4), None]);
    // Below the stack pointer: add rsp, 24. Nobody knows where that is: and rsp, -64.
    assert_eq!(places(&[ADD_RSP_24]), [None; 3]);
    assert_eq!(places(&[&[0x48, 0x83, 0xE4, 0xC0]]), [None; 3]);
    // On one of two ways: test edx, edx; je +5; mov [rsp+8], rax.
    assert_eq!(
        places(&[TEST_EDX, &[0x74, 0x05], &[0x48, 0x89, 0x44, 0x24, 0x08]]),
        [None, Some(4), Some(3)]
    );
    // By an address that comes from elsewhere, nothing of a frame is written whose addresses nobody has: mov [rax], rdx.
    assert_eq!(places(&[&[0x48, 0x89, 0x10]]), [Some(8), Some(4), Some(3)]);
}

/// A number that is too great for its place is told, and none is cut off.
#[test]
fn what_cannot_be_packed_is_not() {
    let cookie = |place, library| DeliveryCookie {
        ssl: place,
        content_type: Place::Register(Reg::R15),
        peek: Place::Stack(0),
        library,
    };
    for (place, library) in [
        (Place::Stack(STACK_PLACE_MAX), 0),
        (Place::Register(Reg::Rdi), (1 << 20) - 1),
    ] {
        let packed = cookie(place, library).encode().unwrap();
        assert_eq!(DeliveryCookie::decode(packed), Some(cookie(place, library)));
        assert_eq!(SiteCookie::decode(packed), None);
    }
    assert_eq!(cookie(Place::Stack(STACK_PLACE_MAX + 1), 0).encode(), None);
    assert_eq!(cookie(Place::Stack(0), 1 << 20).encode(), None);
}
