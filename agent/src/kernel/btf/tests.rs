//! A small synthetic kernel, hostile variations of it, and the real one where there is one.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;

#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn word(&mut self, word: u32) {
        self.types.extend_from_slice(&word.to_le_bytes());
    }

    fn add(&mut self, name: &str, kind: u32, vlen: u32, flag: bool, size_or_type: u32) -> u32 {
        let name = self.name(name);
        self.word(name);
        self.word(kind << 24 | vlen | u32::from(flag) << 31);
        self.word(size_or_type);
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, size: u32, bits: u32) -> u32 {
        let id = self.add(name, INT, 0, false, size);
        self.word(bits);
        id
    }

    fn composite(
        &mut self,
        name: &str,
        kind: u32,
        size: u32,
        flag: bool,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let names: Vec<u32> = members.iter().map(|(name, ..)| self.name(name)).collect();
        let id = self.add(name, kind, members.len() as u32, flag, size);
        for (name, (_, type_id, offset)) in names.into_iter().zip(members) {
            self.word(name);
            self.word(*type_id);
            self.word(*offset);
        }
        id
    }

    fn build(mut self) -> Vec<u8> {
        self.name("");
        let mut blob = MAGIC.to_le_bytes().to_vec();
        blob.extend_from_slice(&[1, 0]);
        for word in [
            24,
            0,
            self.types.len() as u32,
            self.types.len() as u32,
            self.strings.len() as u32,
        ] {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend(self.types);
        blob.extend(self.strings);
        blob
    }
}

/// The shape of `struct sock`: anonymous unions, a typedef, a bit-field of each kind, an array, a pointer.
fn small_kernel() -> Vec<u8> {
    let mut b = Builder::default();
    let u16_id = b.int("unsigned short", 2, 16);
    let u32_id = b.int("unsigned int", 4, 32);
    let old_bitfield = b.int("unsigned int", 4, 8 | 5 << 16);
    let be16 = b.add("__be16", TYPEDEF, 0, false, u16_id);
    let inner = b.composite(
        "",
        STRUCT,
        4,
        false,
        &[("skc_dport", be16, 0), ("skc_num", u16_id, 16)],
    );
    let either = b.composite(
        "",
        UNION,
        4,
        false,
        &[("skc_portpair", u32_id, 0), ("", inner, 0)],
    );
    let common = b.composite(
        "sock_common",
        STRUCT,
        12,
        false,
        &[("skc_daddr", u32_id, 0), ("", either, 64)],
    );
    let pointer = b.add("", PTR, 0, false, common);
    let array = b.add("", ARRAY, 0, false, 0);
    for word in [be16, u32_id, 6] {
        b.word(word);
    }
    b.composite(
        "sock",
        STRUCT,
        64,
        true,
        &[
            ("__sk_common", common, 64),
            ("sk_protocol", u32_id, 8 << 24 | (24 * 8 + 3)),
            ("sk_next", pointer, 32 * 8),
            ("sk_ports", array, 40 * 8),
        ],
    );
    b.composite("old_sock", STRUCT, 8, false, &[("sk_protocol", old_bitfield, 32)]);
    b.add("btf_trace_sys_exit", TYPEDEF, 0, false, pointer);
    b.add("tcp_sendmsg", FUNC, 0, false, u32_id);
    b.build()
}

#[test]
fn members_are_found_by_path() {
    let btf = Btf::parse(small_kernel()).unwrap();
    for (of, path, offset, size) in [
        ("sock", "__sk_common", 8, 12),
        ("sock", "__sk_common.skc_num", 18, 2),
        ("sock", "__sk_common.skc_dport", 16, 2),
        ("sock_common", "skc_portpair", 8, 4),
        ("sock_common", "skc_daddr", 0, 4),
        ("sock", "sk_next", 32, 8),
        ("sock", "sk_ports", 40, 12),
    ] {
        let field = btf.field(of, path).unwrap();
        assert_eq!(
            field,
            Field {
                offset,
                size,
                bits: None
            },
            "{of}.{path}"
        );
        assert_eq!(btf.offset(of, path).unwrap(), offset);
    }
    assert_eq!(btf.size_of("sock").unwrap(), 64);
}

#[test]
fn bit_fields_say_so() {
    let btf = Btf::parse(small_kernel()).unwrap();
    let field = btf.field("sock", "sk_protocol").unwrap();
    assert_eq!(
        field,
        Field {
            offset: 24,
            size: 4,
            bits: Some(Bits { shift: 3, width: 8 })
        }
    );
    assert_eq!(field.shift_and_mask(), (3, 0xFF));
    let old = btf.field("old_sock", "sk_protocol").unwrap();
    assert_eq!((old.offset, old.bits), (4, Some(Bits { shift: 5, width: 8 })));
    assert!(matches!(
        btf.offset("sock", "sk_protocol"),
        Err(BtfError::IsBitfield { .. })
    ));
    assert_eq!(
        btf.field("sock", "__sk_common.skc_num").unwrap().shift_and_mask(),
        (0, 0xFFFF)
    );
}

#[test]
fn what_is_not_there_is_named() {
    let btf = Btf::parse(small_kernel()).unwrap();
    for (of, path) in [
        ("sockets", "x"),
        ("sock", "skc_num"),
        ("sock", "sk_next.skc_num"),
        ("sock", ""),
        ("", ""),
    ] {
        let error = btf.field(of, path).unwrap_err().to_string();
        assert!(error.contains(of) && error.starts_with("this kernel"), "{error}");
    }
    assert!(btf.has_type("btf_trace_sys_exit") && btf.has_type("__be16"));
    assert!(!btf.has_type("tcp_sendmsg") && btf.has_function("tcp_sendmsg"));
    assert!(!btf.has_type("btf_trace_none") && !btf.has_function("sock"));
}

#[test]
fn loops_end() {
    let mut b = Builder::default();
    b.composite("a", STRUCT, 8, false, &[("", 1, 0), ("x", 2, 0)]);
    b.add("t", TYPEDEF, 0, false, 2);
    let btf = Btf::parse(b.build()).unwrap();
    assert!(matches!(btf.field("a", "y"), Err(BtfError::Malformed(_))));
}

proptest! {
    /// Whatever is done to the blob, the answer is a value or an error.
    #[test]
    fn damage_is_survived(cut in 0usize..900, at in 0usize..900, with in any::<u32>()) {
        let mut blob = small_kernel();
        let len = blob.len();
        blob[at % (len - 4)..][..4].copy_from_slice(&with.to_le_bytes());
        if cut < len { blob.truncate(len - cut); }
        if let Ok(btf) = Btf::parse(blob) {
            for path in ["__sk_common.skc_num", "sk_ports", "sk_protocol", "nothing"] {
                let _ = btf.field("sock", path);
            }
        }
    }
}

#[test]
fn the_running_kernel_is_understood() {
    if !Path::new(KERNEL_BTF).exists() {
        eprintln!("skipped: this kernel has no {KERNEL_BTF}");
        return;
    }
    let btf = Btf::from_kernel().unwrap();
    assert_eq!(btf.offset("sock_common", "skc_daddr").unwrap(), 0);
    assert_eq!(btf.offset("sock_common", "skc_rcv_saddr").unwrap(), 4);
    assert_eq!(btf.offset("sock", "__sk_common.skc_dport").unwrap(), 12);
    for (of, path) in [
        ("task_struct", "files"),
        ("files_struct", "fdt"),
        ("fdtable", "fd"),
        ("file", "private_data"),
        ("socket", "sk"),
        ("sock", "sk_protocol"),
        ("tcp_sock", "copied_seq"),
        ("tcp_sock", "write_seq"),
        ("sock_common", "skc_cookie"),
        ("sock_common", "skc_v6_daddr"),
        ("inet_sock", "inet_sport"),
    ] {
        let field = btf.field(of, path).unwrap();
        assert!(field.offset < btf.size_of(of).unwrap(), "{of}.{path}");
    }
    assert!(btf.has_function("tcp_sendmsg") && btf.has_type("btf_trace_sys_exit"));
}
