//! Records made by hand, and the kernel's own.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use proptest::prelude::*;

use super::*;
use crate::kernel::mapped;

const MMAP2: u32 = perf_event_type::PERF_RECORD_MMAP2 as u32;
const LOST: u32 = perf_event_type::PERF_RECORD_LOST as u32;
const COMM: u32 = perf_event_type::PERF_RECORD_COMM as u32;

/// `body` lies between the header and the sample id.
fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
    let size = (HEADER_BYTES + body.len() + SAMPLE_ID_BYTES) as u16;
    let mut bytes = kind.to_ne_bytes().to_vec();
    bytes.extend(misc.to_ne_bytes());
    bytes.extend(size.to_ne_bytes());
    bytes.extend(body);
    bytes.extend(7u32.to_ne_bytes());
    bytes.extend(8u32.to_ne_bytes());
    bytes.extend(1_234_567u64.to_ne_bytes());
    bytes
}

fn mmap2(pid: u32, prot: u32, path: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(pid.to_ne_bytes());
    body.extend(8u32.to_ne_bytes());
    for field in [0x7F00_0000_0000u64, 0x5000, 0x1000] {
        body.extend(field.to_ne_bytes());
    }
    body.extend(0xFEu32.to_ne_bytes());
    body.extend(0x10u32.to_ne_bytes());
    body.extend(131u64.to_ne_bytes());
    body.extend(1u64.to_ne_bytes());
    body.extend(prot.to_ne_bytes());
    body.extend(2u32.to_ne_bytes());
    body.extend(path.as_bytes());
    body.push(0);
    body.resize(body.len().next_multiple_of(8), 0);
    record(MMAP2, 2, &body)
}

fn seen(bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    parse(bytes, &mut |one| seen.push(one));
    seen
}

fn libssl(name: &str) -> Seen {
    Seen::Mapped(Mapping {
        at_ns: 1_234_567,
        pid: 7,
        file: FileKey {
            inode: 131,
            device: 0xFE << 20 | 0x10,
            reserved: 0,
        },
        name: name.into(),
    })
}

#[test]
fn only_executable_mappings_of_libssl_are_handed_on() {
    for (pid, prot, path, expected) in [
        (7, 5, "/usr/lib/libssl.so.3", Some("libssl.so.3")),
        (7, 5, "/srv/libssl.so.3 (deleted)", Some("libssl.so.3 (deleted)")),
        // A name as long as fits without a byte of padding, and one without a directory.
        (7, 4, "/123456/libssl.so", Some("libssl.so")),
        (7, 5, "libssl", Some("libssl")),
        (7, 1, "/usr/lib/libssl.so.3", None),
        (7, 5, "/usr/lib/libcrypto.so.3", None),
        (7, 5, "/libssl/other.so", None),
        (7, 5, "//anon", None),
        (7, 5, "", None),
        (0, 5, "/usr/lib/libssl.so.3", None),
        (u32::MAX, 5, "/usr/lib/libssl.so.3", None),
    ] {
        let expected: Vec<Seen> = expected.map(libssl).into_iter().collect();
        assert_eq!(seen(&mmap2(pid, prot, path)), expected, "{pid} {prot} {path}");
    }
}

#[test]
fn others_are_skipped_and_losses_counted() {
    let mut bytes = record(COMM, 0, &[0; 24]);
    bytes.extend(record(LOST, 0, &[[9u8, 0, 0, 0, 0, 0, 0, 0]; 2].concat()));
    bytes.extend(record(0xFFFF_FFFF, 0xFFFF, &[]));
    bytes.extend(mmap2(7, 5, "/a/libssl.so.1.1"));
    assert_eq!(seen(&bytes), [Seen::Lost(9), libssl("libssl.so.1.1")]);
    // Where the inode should be stands something else.
    let mut other = mmap2(7, 5, "/a/libssl.so.1.1");
    other[4..6].copy_from_slice(&MISC_BUILD_ID.to_ne_bytes());
    assert_eq!(seen(&other), []);
}

#[test]
fn damage_is_a_loss_and_ends_the_look() {
    let whole = mmap2(7, 5, "/a/libssl.so.3");
    for cut in 1..whole.len() {
        assert_eq!(seen(&whole[..cut]), [Seen::Lost(1)], "{cut}");
    }
    for size in [0u16, 7] {
        let mut bytes = whole.clone();
        bytes[6..8].copy_from_slice(&size.to_ne_bytes());
        bytes.extend(&whole);
        assert_eq!(seen(&bytes), [Seen::Lost(1)], "{size}");
    }
    // Shorter than its kind has to be: nothing of it is believed, and the next one is found.
    for size in HEADER_BYTES..MMAP2_NAME + SAMPLE_ID_BYTES {
        let mut bytes = whole[..size].to_vec();
        bytes[6..8].copy_from_slice(&(size as u16).to_ne_bytes());
        bytes.extend(&whole);
        assert_eq!(seen(&bytes), [libssl("libssl.so.3")], "{size}");
    }
}

#[test]
fn pieces_go_round_the_end() {
    for (from, to, expected) in [
        (0, 0, Some([0..0, 0..0])),
        (0, 16, Some([0..16, 0..0])),
        (12, 20, Some([12..16, 0..4])),
        (160, 170, Some([0..10, 0..0])),
        (u64::MAX - 3, 4, Some([12..16, 0..4])),
        (0, 17, None),
        (1, 0, None),
    ] {
        assert_eq!(pieces(from, to, 16), expected, "{from} {to}");
    }
}

#[test]
fn lists_of_cpus_are_understood() {
    for (text, expected) in [
        ("0-3,5\n", &[0, 1, 2, 3, 5][..]),
        ("0", &[0]),
        ("", &[]),
        ("3-1,x,-,7", &[7]),
    ] {
        assert_eq!(cpu_list(text), expected, "{text}");
    }
    assert_eq!(cpu_list("0-4294967295").len(), CPUS_MAX);
}

proptest! {
    #[test]
    fn whatever_stands_there_is_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        kind in prop_oneof![Just(MMAP2), Just(LOST), any::<u32>()],
        size in 0u16..600,
    ) {
        seen(&bytes);
        // With a header that gets as far as the body.
        let mut framed = record(kind, 0, &bytes);
        framed[6..8].copy_from_slice(&size.to_ne_bytes());
        seen(&framed);
    }

    #[test]
    fn a_ring_gives_back_what_was_written(
        start in any::<u64>(),
        names in proptest::collection::vec("[a-z]{0,40}", 0..5),
    ) {
        const BYTES: usize = 1024;
        let written: Vec<u8> = names.iter().flat_map(|name| mmap2(7, 5, &format!("/libssl{name}"))).collect();
        let mut ring = [0u8; BYTES];
        for (index, byte) in written.iter().enumerate() {
            ring[(start.wrapping_add(index as u64) % BYTES as u64) as usize] = *byte;
        }
        let found = pieces(start, start.wrapping_add(written.len() as u64), BYTES).unwrap();
        let read: Vec<u8> = found.into_iter().flat_map(|piece| ring[piece].to_vec()).collect();
        let expected: Vec<Seen> = names.iter().map(|name| libssl(&format!("libssl{name}"))).collect();
        prop_assert_eq!(seen(&read), expected);
    }
}

#[test]
fn a_library_that_a_child_maps_is_told_at_once() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: following mappings of the whole host needs root");
        return;
    }
    // Any shared library will do: the name counts here.
    let Some(library) = mapped::of(std::process::id())
        .into_iter()
        .find(|file| file.path.to_string_lossy().contains("/libgcc_s.so"))
    else {
        eprintln!("skipped: this test is linked statically");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("libssl-copy.so.3");
    fs::copy(&library.path, &copy).unwrap();
    let inode = fs::metadata(&copy).unwrap().ino();
    let (sender, receiver) = channel();
    let watch = Mappings::open()
        .unwrap()
        .watch(move |seen| {
            let _ = sender.send(seen);
        })
        .unwrap();
    let before = now();
    let mut child = Command::new("cat")
        .env("LD_PRELOAD", &copy)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let found = loop {
        match receiver.recv_timeout(Duration::from_secs(10)).unwrap() {
            Seen::Mapped(mapping) if mapping.file.inode == inode => break mapping,
            _ => {}
        }
    };
    let after = now();
    // What the record says of the file is what /proc says of it.
    let listed = mapped::of(child.id())
        .into_iter()
        .find(|file| file.path == copy)
        .unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(found.pid, child.id());
    assert_eq!(found.name, "libssl-copy.so.3");
    assert_eq!(
        found.file.device,
        listed.key.device_major << 20 | listed.key.device_minor
    );
    assert!((before..after).contains(&found.at_ns));
    let stopping = Instant::now();
    drop(watch);
    assert!(stopping.elapsed() < Duration::from_secs(5));
}

/// Not a test of anything: prints what `docs/kernel-support.md` says. Rounds with and without take turns, so that the
/// machine's mood is in both.
#[test]
#[ignore = "a measurement, of the whole machine: run it alone"]
fn what_an_exec_costs() {
    const ROUNDS: usize = 101;
    const EXECS: u32 = 100;
    let round = || {
        let start = Instant::now();
        for _ in 0..EXECS {
            assert!(Command::new("/bin/true").status().unwrap().success());
        }
        start.elapsed() / EXECS
    };
    round();
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let without = round();
            let watch = Mappings::open().unwrap().watch(|_| {}).unwrap();
            let with = round();
            drop(watch);
            with.as_secs_f64() / without.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "time of an exec with to without: median {:.3}, quartiles {:.3} and {:.3}",
        ratios[ROUNDS / 2],
        ratios[ROUNDS / 4],
        ratios[ROUNDS * 3 / 4]
    );
}

fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
