//! Which tables judge: those that a head began under, or none that are left.

use super::*;

#[test]
fn a_forgotten_connection_is_denied_by_what_has_to_prevent() {
    let mut tables = Small::new();
    let facts = Facts::default();
    assert_eq!(strict(&mut Stream::default(), &facts, &tables), None);
    tables.generation.strict = bits(&[1]);
    assert_eq!(strict(&mut Stream::default(), &facts, &tables), Some(1));
    tables.generation.inbound = bits(&[0]);
    assert_eq!(strict(&mut Stream::default(), &facts, &tables), None);
}

/// Tables that are in force instead, and the only ones.
fn later(stops: &[u32]) -> Small {
    let mut tables = Small::new();
    tables.generation.number = 8;
    tables.generation.stops = bits(stops);
    tables.generation.matters = bits(stops);
    tables
}

/// The rule that denies a text of which the first bytes came under other tables.
fn denied_by(text: &str, before: usize, tables: &Small) -> Option<u32> {
    let (mut stream, mut scan) = (Stream::default(), Scan::default());
    run(&mut stream, &text.as_bytes()[..before], &Small::new(), &mut scan);
    assert!(!stream.is_over());
    (scan.at, scan.end) = (0, 0);
    run(&mut stream, &text.as_bytes()[before..], tables, &mut scan);
    assert_eq!(
        stream.state == state::DENIED,
        scan.decision == Decision::Deny as u8
    );
    let is_denied = stream.state == state::DENIED;
    assert!(!is_denied || (stream.has(flag::AMBIGUOUS) && stream.generation == 8));
    is_denied.then_some(scan.rule)
}

#[test]
fn a_head_does_not_get_past_its_rules_by_taking_its_time() {
    let text = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    for before in 1..text.len() {
        assert_eq!(denied_by(text, before, &later(&[0, 1])), Some(0), "{before}");
        // What the agent alone can tell is left to it, as is what counts.
        let mut tables = later(&[0, 1, 2]);
        tables.generation.leaves = bits(&[0]);
        assert_eq!(denied_by(text, before, &tables), Some(1), "{before}");
        tables.generation.leaves = bits(&[0, 1]);
        assert_eq!(denied_by(text, before, &tables), None, "{before}");
        // No denial is left that it could be meant by.
        assert_eq!(denied_by(text, before, &later(&[])), None, "{before}");
        let mut tables = later(&[0, 1]);
        tables.generation.inbound = bits(&[2]);
        assert_eq!(denied_by(text, before, &tables), None, "{before}");
    }
    // What follows a message whose end nobody can tell, also where the head concerned no rule.
    let text = "GET /x HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nabcd";
    let mut tables = later(&[1]);
    tables.generation.garbled = bits(&[1]);
    assert_eq!(denied_by(text, 30, &tables), Some(1));
    // The one before is over.
    let text = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let two = format!("GET /x HTTP/1.1\r\n\r\n{text}");
    assert_eq!(denied_by(&two, 19, &later(&[1])), None);
}

#[test]
fn what_begins_nowhere_is_denied_by_what_is_in_force_now() {
    let text = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n;\r\n";
    let mut tables = later(&[0, 1]);
    assert_eq!(denied_by(text, 50, &tables), None);
    tables.generation.garbled = bits(&[1]);
    assert_eq!(denied_by(text, 50, &tables), Some(1));
}
