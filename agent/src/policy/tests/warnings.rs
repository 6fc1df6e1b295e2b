//! What is valid, and will not do what it seems to.

use super::*;

/// The warnings of one policy, with what to write instead.
fn warned(spec: &str, trusted_proxies: &[&str]) -> String {
    let proxies: Vec<ipnet::IpNet> = trusted_proxies
        .iter()
        .map(|net| net.parse().expect("a network"))
        .collect();
    let warnings: Vec<String> = check::warnings(&set(spec), &proxies)
        .iter()
        .map(|warning| {
            let line = warning.place.map_or(0, |place| place.line);
            format!(
                "{line}: {} — {} [{}]\n",
                warning.what, warning.instead, warning.id
            )
        })
        .collect();
    warnings.concat()
}

/// The warnings of one rule of a policy that enforces.
fn of_rule(rule: &str) -> String {
    warned(&format!("mode: enforce\nrules:\n  - {{ name: r, {rule} }}"), &[])
}

#[test]
fn sound_rules_give_no_warning() {
    for rule in [
        "match: { direction: inbound, paths: [/admin/**] }, action: deny",
        "match: { direction: inbound, paths: [/fhir/**], auth: none }, action: deny, require: contained",
        "match: { direction: inbound, methods: [POST], paths: [/login] }, rate: { requests: 10, per: 1m, by: peer }, action: deny, require: cut",
        "match: { direction: outbound, hosts: { not: ['*.hospital.example'] } }, action: deny, require: cut",
        "match: { workload: { exe: /usr/bin/miner } }, action: kill, require: cut, allowStall: true",
        "match: { protocols: [http, websocket] }, when: call.tls.used, action: deny",
        "match: { direction: inbound, protocols: http }, when: \"call.request.body.truncated || call.request.body.text.contains('x')\", action: deny",
        "when: \"findings.exists(f, f.kind == 'smuggling-shape' && f.severity == 'high')\", action: alert",
        "when: \"call.request.headers['x-a'] == 'Y' && call.request.host == 'a.example' && call.state == 'reset'\", action: alert",
    ] {
        assert_eq!(of_rule(rule), "", "{rule}");
    }
}

#[test]
fn each_rule_is_asked_whether_it_means_what_it_says() {
    let table = [
        "match: { paths: [/a] }, action: deny, require: prevented",
        "match: { direction: outbound, paths: [/a] }, action: deny, require: contained",
        "match: { direction: inbound, methods: [GET, DELETE] }, action: deny",
        "action: deny",
        "match: { direction: inbound, paths: [/**] }, action: deny",
        "match: { hosts: [10.0.0.1] }, action: alert",
        "match: { hosts: { not: ['[2001:db8::1]'] } }, action: alert",
        "match: { direction: inbound, paths: [/a] }, action: kill",
        "match: { direction: outbound, workload: { uid: 33 } }, action: kill",
        "match: { peers: { not: [0.0.0.0/0, '::/0'] } }, action: alert",
        "match: { clients: [10.0.0.0/8] }, action: alert",
        "rate: { requests: 1, per: 1m, by: peer }, action: allow",
        "match: { direction: inbound }, when: \"call.response.status == 500\", action: deny",
        "when: \"call.request.body.text.contains('x')\", action: alert",
        "when: \"call.direction == 'in' || call.request.auth == 'Bearer'\", action: alert",
        "when: \"findings.exists(f, f.kind == 'smuggling-shap' || f.severity == 'critical')\", action: alert",
        "when: \"call.request.headers['X-Purpose'] == 'a' || 'Cookie' in call.request.headers || has(call.request.headers.Via)\", action: alert",
        "when: \"call.request.host == 'API.example' || call.request.path.startsWith('fhir/')\", action: alert",
        "when: \"call.state in ['answered', 'done']\", action: alert",
    ];
    let told: Vec<String> = table
        .iter()
        .map(|rule| format!("{rule}\n{}", of_rule(rule)))
        .collect();
    insta::assert_snapshot!(told.concat(), @r#"
    match: { paths: [/a] }, action: deny, require: prevented
    match: { direction: outbound, paths: [/a] }, action: deny, require: contained
    match: { direction: inbound, methods: [GET, DELETE] }, action: deny
    7: rule `r` denies DELETE, which may have taken effect by then: its denials are prevented or cut — write `require: contained` or `require: cut` if that is enough [AW1202]
    action: deny
    7: rule `r` denies every call of every process — narrow its `match`, or add a `workload` to the policy [AW1206]
    7: rule `r` only alerts on HL7 messages over MLLP: their senders retry in order, so a denied one would hold up the whole interface — write `allowStall: true` if that is wanted, or `protocols: [http, websocket]` in `match` if it is not about them [AW1216]
    match: { direction: inbound, paths: [/**] }, action: deny
    7: rule `r` denies every inbound call of every process — narrow its `match`, or add a `workload` to the policy [AW1206]
    match: { hosts: [10.0.0.1] }, action: alert
    7: rule `r` compares the Host header with 10.0.0.1; who calls the same machine by name writes that name there — write `peers` for the connection's other end [AW1209]
    match: { hosts: { not: ['[2001:db8::1]'] } }, action: alert
    7: rule `r` compares the Host header with 2001:db8::1; who calls the same machine by name writes that name there — write `peers` for the connection's other end [AW1209]
    match: { direction: inbound, paths: [/a] }, action: kill
    7: rule `r` kills whichever process serves the call, for everybody that it serves — limit it with `workload: { exe: … }`, or write `action: deny` [AW1210]
    match: { direction: outbound, workload: { uid: 33 } }, action: kill
    7: rule `r` kills whichever process makes the call — limit it with `workload: { exe: … }`, or write `action: deny` [AW1210]
    7: rule `r` only alerts on HL7 messages over MLLP: their senders retry in order, so a denied one would hold up the whole interface — write `allowStall: true` if that is wanted, or `protocols: [http, websocket]` in `match` if it is not about them [AW1216]
    match: { peers: { not: [0.0.0.0/0, '::/0'] } }, action: alert
    7: rule `r` excludes every address there is — leave out `0.0.0.0/0` and `::/0` [AW1212]
    match: { clients: [10.0.0.0/8] }, action: alert
    7: rule `r` goes by the client, and without trusted proxies the client is always the peer — name the proxies in `trusted_proxies` (configuration) or `trustedProxies` (policy) [AW1207]
    rate: { requests: 1, per: 1m, by: peer }, action: allow
    7: rule `r` allows what is beyond its rate, and lets the rest go on to later rules — write `action: deny` or `alert`, or remove `rate` [AW1205]
    match: { direction: inbound }, when: "call.response.status == 500", action: deny
    7: rule `r` reads the response, so the response has begun to leave when it is decided: its denials are cut at best — decide by the request if that can be done, or write `require: cut` [AW1208]
    when: "call.request.body.text.contains('x')", action: alert
    7: rule `r` looks into the request's body, of which only the first `capture.body_bytes_max` bytes are kept — say what becomes of longer ones: `call.request.body.truncated` [AW1213]
    when: "call.direction == 'in' || call.request.auth == 'Bearer'", action: alert
    7: rule `r` asks for what never is: `call.direction` is never `in` — write `inbound` or `outbound` [AW1212]
    7: rule `r` asks for what never is: `call.request.auth` is never `Bearer` — did you mean `bearer`? [AW1212]
    when: "findings.exists(f, f.kind == 'smuggling-shap' || f.severity == 'critical')", action: alert
    7: rule `r` asks for what never is: `f.kind` is never `smuggling-shap` — did you mean `smuggling-shape`? [AW1212]
    7: rule `r` asks for what never is: `f.severity` is never `critical` — write `info`, `low`, `medium` or `high` [AW1212]
    when: "call.request.headers['X-Purpose'] == 'a' || 'Cookie' in call.request.headers || has(call.request.headers.Via)", action: alert
    7: rule `r` asks for what never is: no header is called `X-Purpose`: names are in lower case — write `x-purpose` [AW1212]
    7: rule `r` asks for what never is: no header is called `Cookie`: names are in lower case — write `cookie` [AW1212]
    7: rule `r` asks for what never is: no header is called `Via`: names are in lower case — write `via` [AW1212]
    when: "call.request.host == 'API.example' || call.request.path.startsWith('fhir/')", action: alert
    7: rule `r` asks for what never is: `call.request.host` is never `API.example`: it is in lower case — write `api.example` [AW1212]
    7: rule `r` asks for what never is: no path starts like `fhir/` — start it with a slash: `/fhir/` [AW1212]
    when: "call.state in ['answered', 'done']", action: alert
    7: rule `r` asks for what never is: `call.state` is never `done` — write `answered`, `closed`, `reset`, `gap`, `timed-out` or `switched` [AW1212]
    "#);
}

#[test]
fn rules_are_looked_at_together() {
    let told = warned(
        "\
rules:
  - { name: public, match: { paths: [/public/**] }, action: allow }
  - { name: late, match: { paths: [/x/**] }, when: \"call.request.body.bytes_total > 9\", action: deny }
  - { name: under, match: { methods: [GET], paths: ['/public/{id}'] }, action: alert }
  - { name: apart, match: { workload: { exe: /bin/other } }, action: alert }
workload: { exe: [/usr/sbin/nginx, '/usr/bin/*'] }
onUnseen: alert",
        &[],
    );
    let more = warned(
        "\
mode: enforce
onUnseen: cut
rules:
  - { name: body, match: { direction: inbound, paths: [/a/**] }, when: \"call.request.body.bytes_total > 9\", action: alert }
  - { name: waits, match: { direction: inbound, paths: [/a/b] }, action: deny, require: cut }
  - { name: peers, match: { direction: inbound, peers: { not: [10.0.0.0/8] }, paths: [/c] }, action: deny }",
        &["10.0.0.0/24"],
    );
    insta::assert_snapshot!(format!("{told}---\n{more}"), @r#"
    7: rule `late` denies, and its policy `p` says no `mode`, so it only observes — write `mode: enforce` or `mode: observe` under `spec` [AW1211]
    8: rule `under` can never apply: rule `public` (0.yaml:6) matches all that it matches — move it up, give its policy a higher `priority`, or remove it [AW1201]
    9: rule `apart` has a workload that the policy's own excludes: both have to fit — remove one of them [AW1212]
    ---
    1: policy `p` has `onUnseen: cut` for every process: SSH and databases as well — add a `workload` to the policy [AW1215]
    9: rule `waits` has to wait for the request's body, which the earlier rule `body` (0.yaml:8) reads — put it first if it may decide first [AW1208]
    9: rule `waits` resets the proxy's connection, which the proxy may take for a failing server; so do other denials of this policy — enforce it on the edge proxy's own host, or have the proxy neither retry nor count failures [AW1214]
    10: rule `peers` goes by the peer, and behind a trusted proxy every peer is the proxy — write `clients` instead of `peers`, and `by: client` instead of `by: peer` [AW1204]
    "#);
}

#[test]
fn a_policy_may_choose_to_observe() {
    let rules = "rules:\n  - { name: r, match: { paths: [/a] }, action: deny, require: cut }";
    assert_eq!(warned(&format!("mode: observe\n{rules}"), &[]), "");
    assert!(warned(rules, &[]).contains("[AW1211]"));
}
