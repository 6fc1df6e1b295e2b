//! What bodies tell of an endpoint's schemas, and what they never do.

use super::*;

/// Tells of an answer, and gives the fields by then. Keys that begin with `x` may not be shown.
fn answer(inventory: &mut Inventory, body: &str) -> Vec<String> {
    let mut call = call_from(2, "GET", "/api/orders", 200);
    call.raw.response_body = body.to_owned().into();
    if let Some(response) = &mut call.response {
        response.body.media_type = "application/json".into();
    }
    inventory.ended(&call, &[], false, 1);
    inventory.outline(&call, &mut |name| name.first() != Some(&b'x'));
    let endpoints = inventory.endpoints();
    let fields = &endpoints[0].facts.fields;
    let mut told: Vec<String> = fields
        .list
        .iter()
        .map(|one| {
            let kinds: Vec<_> = one.kind_names().collect();
            let always = if one.always { " always" } else { "" };
            format!("{} {}{always}", one.location, kinds.join("|"))
        })
        .collect();
    told.sort();
    told
}

#[test]
fn keys_and_what_is_at_them() {
    let mut inventory = inventory();
    let first = answer(
        &mut inventory,
        r#"{"total": 2, "items": [{"id": "7f1c0d0e-7a52-4c1f-9d8e-3b1f5a0c2d4e", "note": null, "at": "2026-01-02"}, {"id": 4.5}]}"#,
    );
    assert_eq!(
        first,
        [
            "$ object always",
            "$.items array always",
            "$.items[] object always",
            "$.items[].at date",
            "$.items[].id number|uuid always",
            "$.items[].note null",
            "$.total integer always",
        ]
    );
    // What is missing once is not required; what comes late was not either.
    let second = answer(
        &mut inventory,
        r#"{"items": [], "next": true, "xSecret": {"total": 1}}"#,
    );
    assert_eq!(
        second[..3],
        [
            "$ object always",
            "$.items array always",
            "$.items[] object always"
        ]
    );
    assert!(second.contains(&"$.next boolean".to_owned()));
    assert!(second.contains(&"$.total integer".to_owned()));
    assert!(second.contains(&"$.items[].id number|uuid always".to_owned()));
    assert!(!format!("{second:?}").contains("Secret"));
    assert_eq!(inventory.endpoints()[0].facts.fields.others, 1);
}

#[test]
fn fields_are_bounded_and_bodies_sampled() {
    let mut inventory = Inventory::new(Settings {
        limits: Limits {
            fields_max: 10,
            ..Limits::default()
        },
        ..Settings::default()
    });
    for round in 0..200 {
        let fields: Vec<String> = (0..8)
            .map(|at| format!("\"k{}\": {at}", round * 8 + at))
            .collect();
        answer(&mut inventory, &format!("{{{}}}", fields.join(",")));
    }
    let fields = inventory.endpoints()[0].facts.fields.clone();
    assert_eq!(fields.list.len(), 10);
    assert!(fields.others > 0);
    // The first 32, and each 64th.
    assert_eq!(fields.bodies, [0, 32 + 3]);
}
