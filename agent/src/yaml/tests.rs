//! Places, limits and suggestions.

use super::*;

fn read(text: &str) -> (Vec<Node>, Vec<String>) {
    let reader = Reader::new("a.yaml");
    let documents = reader.documents(text);
    (
        documents,
        reader.into_problems().iter().map(Problem::to_string).collect(),
    )
}

#[test]
fn keys_and_values_know_their_places() {
    let (documents, problems) = read("a: 1\nb:\n  - x\n  - {c: y}\n---\nz: ~\n");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(documents.len(), 2);
    let Value::Mapping(entries) = &documents[0].value else {
        panic!("a mapping")
    };
    assert_eq!(entries[1].key_place, Place { line: 2, column: 1 });
    let Value::Sequence(items) = &entries[1].value.value else {
        panic!("a sequence")
    };
    let Value::Mapping(inner) = &items[1].value else {
        panic!("a mapping")
    };
    assert_eq!(inner[0].key_place, Place { line: 4, column: 6 });
    assert_eq!(inner[0].value.place, Place { line: 4, column: 9 });
}

#[test]
fn syntax_errors_keep_what_came_before() {
    let (documents, problems) = read("a: 1\n---\nb: [1, 2\nc: d\n");
    assert_eq!(documents.len(), 1);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("a.yaml:"), "{problems:?}");
    assert!(problems[0].ends_with("[AW1001]"), "{problems:?}");
}

#[test]
fn a_key_written_twice_is_told() {
    let (_, problems) = read("a: 1\na: 2\n");
    insta::assert_snapshot!(problems.join("\n"), @"a.yaml:2:1: `a` is written twice, first in line 1 — keep one of them [AW1006]");
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        text += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
    }
    let (_, problems) = read(&text);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("AW1009"), "{problems:?}");
}

#[test]
fn deep_nesting_is_refused() {
    let (_, problems) = read(&"[".repeat(10_000));
    assert!(problems[0].contains("AW1001"), "{problems:?}");
}

#[test]
fn sizes_and_durations() {
    assert_eq!(parse_bytes("64KiB"), Some(65_536));
    assert_eq!(parse_bytes("64 KiB"), Some(65_536));
    assert_eq!(parse_bytes("7"), Some(7));
    assert_eq!(parse_bytes("99999999999GiB"), None);
    assert_eq!(parse_bytes("-1"), None);
    assert_eq!(parse_duration("30s"), Some(std::time::Duration::from_secs(30)));
    assert_eq!(parse_duration("30"), None);
    assert_eq!(
        parse_cidr("::ffff:10.1.2.3")
            .map(|net| net.to_string())
            .as_deref(),
        Some("10.1.2.3/32")
    );
    assert_eq!(
        parse_cidr("::ffff:10.0.0.0/104")
            .map(|net| net.to_string())
            .as_deref(),
        Some("10.0.0.0/8")
    );
    assert_eq!(
        parse_cidr("::ffff:10.0.0.0/8"),
        None,
        "it would be a network of IPv6"
    );
    assert_eq!(
        parse_cidr("10.1.2.3/8").map(|net| net.to_string()).as_deref(),
        Some("10.0.0.0/8")
    );
    for bytes in [0, 1, 1024, 65_536, 3 << 20, 5 << 30] {
        assert_eq!(parse_bytes(&show_bytes(bytes)), Some(bytes));
    }
}

#[test]
fn suggestions_are_near() {
    let names = ["policies", "export", "trusted_proxies"];
    assert_eq!(nearest("polcies", names.into_iter()), Some("policies"));
    assert_eq!(
        nearest("trustedProxies", names.into_iter()),
        Some("trusted_proxies")
    );
    assert_eq!(nearest("exprot", names.into_iter()), Some("export"));
    assert_eq!(nearest("volume", names.into_iter()), None);
}
