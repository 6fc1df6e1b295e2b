//! Targets that two servers may read differently.

use super::*;

/// The call as `call` makes it of this target, which is not in normal form.
fn tricky(path: &str) -> ApiCall {
    let mut call = call("GET", path);
    call.ambiguous = true;
    call
}

#[test]
fn ambiguous_targets() {
    let spec = |ambiguous: &str| {
        set(&format!(
            "mode: enforce\nonAmbiguous: {ambiguous}\nrules:\n  - {{ name: public, match: {{ paths: [/public/**] }}, action: allow }}\n  - {{ name: admin, match: {{ methods: [GET], paths: [/admin/**] }}, action: deny }}"
        ))
    };
    let mut tricky = call("GET", "/public/x");
    tricky.ambiguous = true;
    assert_eq!(rule(&mut engine(&spec("agent")), &tricky), "public");
    assert_eq!(rule(&mut engine(&spec("deny")), &tricky), "onAmbiguous");
    let mut post = tricky.clone();
    post.raw.method = Bytes::from_static(b"POST");
    assert_eq!(
        rule(&mut engine(&spec("deny")), &post),
        "",
        "the rest of the denial has to fit"
    );
    tricky.raw.path = None;
    tricky.raw.target = Bytes::from_static(b"%zz");
    assert_eq!(rule(&mut engine(&spec("deny")), &tricky), "onAmbiguous");
    assert_eq!(rule(&mut engine(&spec("agent")), &tricky), "");
}

#[test]
fn the_agent_judges_every_usual_reading() {
    let set = set(
        "mode: enforce\nrules:\n  - { name: public, match: { paths: [/public/**] }, action: allow }\n  - { name: admin, match: { paths: [/admin/**, '/fhir/{type}/$export'] }, action: deny }",
    );
    for (path, expected) in [
        ("/admin;x=1", "admin"),
        ("/admin;x=1/users", "admin"),
        ("/x/..;/admin", "admin"),
        ("/x/..%2Fadmin", "admin"),
        ("/x\\..\\admin", "admin"),
        ("/%2561dmin", "admin"),
        ("/fhir/Patient/%24export", "admin"),
        ("/public/..%2Fadmin", "admin"),
        ("/public/..;/admin", "admin"),
        ("/public/a%20b", "public"),
        ("/public;x=1/a", ""),
        ("/patients/a%20b", ""),
        ("/administration;x=1", ""),
    ] {
        assert_eq!(rule(&mut engine(&set), &tricky(path)), expected, "{path}");
    }
}
