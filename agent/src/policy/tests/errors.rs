//! What is wrong with a policy is told at once, with its place.

use super::*;

#[test]
fn all_errors_of_a_policy_are_told_at_once() {
    let text = "\
apiVersion: apiward.io/v2
kind: ApiPolicy
metadata: { name: Bad Name }
spec:
  mode: on
  onAmbigous: deny
  workload: { namespace: ehr, labels: { app: records }, exe: nginx }
  trustedProxies: [10.0.0.0/8/8]
  rules:
    - name: a
      match:
        direction: inbund
        methods: []
        paths: [fhir, '/a/**/b', '/x*', '/a?b']
        hosts: { not: ['http://x', 'x:80', '*.*.x'] }
        peers: { nott: [10.0.0.0/8] }
        auth: [none, magic]
        path: /x
      action: block
    - name: a
      match: { workload: {} }
      rate: { requests: 0, per: 60 }
      require: prevented
      action: allow
    - match: x
      when: call.weather_in_springfield > 0
---
kind: Other
---
metadata: { name: x }
spec: { rules: [ { name: y, action: deny, when: 'call.request.methd == 1 &&' } ] }
";
    insta::assert_snapshot!(errors(text), @r#"
    p.yaml:1:13: `apiVersion` is `apiward.io/v2` — write `apiVersion: apiward.io/v1` [AW1101]
    p.yaml:3:19: `Bad Name` cannot be used here — write 1 to 63 lower-case letters, digits, `-`, `_` and `.`, starting with a letter or digit [AW1004]
    p.yaml:5:9: `on` cannot be used here — write `observe` or `enforce` [AW1004]
    p.yaml:6:3: `onAmbigous` is not a key here — did you mean `onAmbiguous`? [AW1002]
    p.yaml:7:15: `namespace` cannot be resolved by this build — select by `exe`, `uid`, `container` or `cgroup` [AW1103]
    p.yaml:7:31: `labels` cannot be resolved by this build — select by `exe`, `uid`, `container` or `cgroup` [AW1103]
    p.yaml:7:62: `nginx` is not a glob — start it with a slash or a wildcard: `/nginx` or `**/nginx` [AW1004]
    p.yaml:8:20: `10.0.0.0/8/8` cannot be used here — write a network such as `10.0.0.0/8` or `fd00::/8`, or an address [AW1004]
    p.yaml:12:20: `inbund` cannot be used here — did you mean `inbound`? Write `inbound` or `outbound` [AW1004]
    p.yaml:13:18: `methods` is an empty list — write 1 to 1024 values, or remove `methods` [AW1004]
    p.yaml:14:17: `fhir` is not a path — start it with a slash: `/fhir` [AW1004]
    p.yaml:14:23: `/a/**/b` is not a path — end it at `**`, which stands for all the rest [AW1004]
    p.yaml:14:34: `/x*` is not a path — let a wildcard stand for a whole segment: `/*/` or `/{id}/` [AW1004]
    p.yaml:14:41: `/a?b` is not a path — leave out `?` and what follows: only the path is compared [AW1004]
    p.yaml:15:24: `http://x` is not a host — write the host's name alone, without scheme and path [AW1004]
    p.yaml:15:36: `x:80` is not a host — write the host without a port [AW1004]
    p.yaml:15:44: `*.*.x` is not a host — write `*.` in front only: `*.example.com` [AW1004]
    p.yaml:16:16: `not` is missing — add `not:` with a list [AW1007]
    p.yaml:16:18: `nott` is not a key here — did you mean `not`? [AW1002]
    p.yaml:17:22: `magic` cannot be used here — write `none`, `basic`, `bearer`, `digest`, `negotiate`, `sigv4`, `api-key`, `cookie` or `other` [AW1004]
    p.yaml:18:9: `path` is not a key here — did you mean `paths`? [AW1002]
    p.yaml:19:15: `block` cannot be used here — write `allow`, `alert`, `deny` or `kill` [AW1004]
    p.yaml:20:7: the rule's name `a` is used twice, first in line 10 — give each rule of a policy a name of its own [AW1102]
    p.yaml:21:26: `workload` is empty — write `exe`, `uid`, `container` or `cgroup`, or remove it [AW1007]
    p.yaml:22:13: `by` is missing — add `by:` with `peer`, `client` or `workload` [AW1007]
    p.yaml:22:25: 0 is out of range — write a whole number from 1 to 1000000 [AW1005]
    p.yaml:22:33: `60` cannot be used here — write a duration from 1s to 1d [AW1004]
    p.yaml:23:16: `require` has no meaning with `action: allow` — remove it, or write `action: deny` [AW1004]
    p.yaml:25:7: `name` is missing — add `name:` with the rule's name [AW1007]
    p.yaml:25:7: `action` is missing — add `action:` with `allow`, `alert`, `deny` or `kill` [AW1007]
    p.yaml:25:14: a single value stands where keys with values should — write `key: value` lines [AW1003]
    p.yaml:26:13: `call.weather_in_springfield` is not part of a call in this build — see docs/policy.md for what an expression can read [AW1104]
    p.yaml:28:1: `apiVersion` is missing — add `apiVersion:` with `apiward.io/v1` [AW1007]
    p.yaml:28:1: `metadata` is missing — add `metadata:` with the policy's name: `{ name: … }` [AW1007]
    p.yaml:28:1: `spec` is missing — add `spec:` with the policy's rules [AW1007]
    p.yaml:28:7: `kind` is `Other` — write `kind: ApiPolicy` [AW1101]
    p.yaml:30:1: `apiVersion` is missing — add `apiVersion:` with `apiward.io/v1` [AW1007]
    p.yaml:30:1: `kind` is missing — add `kind:` with `ApiPolicy` [AW1007]
    p.yaml:31:49: the expression does not compile: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER} (line 1, character 27 of it) — write an expression in CEL [AW1104]
    "#);
}

#[test]
fn expressions_are_checked_when_they_are_loaded() {
    let table = [
        "call.weather_in_springfield > 0",
        "call.request.methd == 'GET'",
        "call.request",
        "call.request.method.x == 'a'",
        "request.method == 'GET'",
        "call.request.method > 3",
        "false && call.request.method > 3",
        "call.request.method",
        "call.request.method.frob()",
        "frob(1) == 2",
        "call.request.path.matches('(')",
        "call.request.path.matches(call.request.query)",
        "has(call.request.method)",
        "has(call.response)",
        "[1].all(a, [1].all(b, [1].all(c, true)))",
        "1 +",
        "",
        "((((((((((((((((((((((((((1))))))))))))))))))))))))))",
        "findings[0] == 1",
        "call.request.path.matches('^/a{1,100}$')",
        "call.request.headers.exists(a, call.request.headers.exists(b, a == b))",
        "call.request.headers.map(a, call.request.body.text).size() > 1",
        "call['request']",
    ];
    let told: Vec<String> = table
        .iter()
        .map(|when| {
            let text = format!(
                "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec: {{ rules: [{{ name: r, action: alert, when: \"{when}\" }}] }}"
            );
            match PolicySet::load(&[("p.yaml", text)]) {
                Ok(_) => format!("{when}\n  fine"),
                Err(problems) => {
                    let told: Vec<String> =
                        problems.0.iter().map(|p| format!("\n  {} — {} [{}]", p.what, p.instead, p.id)).collect();
                    format!("{when}{}", told.concat())
                }
            }
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    call.weather_in_springfield > 0
      `call.weather_in_springfield` is not part of a call in this build — see docs/policy.md for what an expression can read [AW1104]
    call.request.methd == 'GET'
      `call.request.methd` is not part of a call — did you mean `call.request.method`? [AW1104]
    call.request
      `call.request` is no value — write one of its fields, such as `call.request.method`, `call.request.path`, `call.request.target`, `call.request.query`, `call.request.query_parameters` or `call.request.host`; docs/policy.md lists all [AW1104]
    call.request.method.x == 'a'
      `call.request.method` has no field `x` — write `call.request.method` alone, it is of type string [AW1104]
    request.method == 'GET'
      `request.method` is not part of a call — did you mean `call.request.method`? [AW1104]
    call.request.method > 3
      the expression cannot work: found no matching overload for '_>_' applied to '(string, int)' — compare values of the same type; docs/policy.md lists the fields' types [AW1104]
    false && call.request.method > 3
      the expression cannot work: found no matching overload for '_>_' applied to '(string, int)' — compare values of the same type; docs/policy.md lists the fields' types [AW1104]
    call.request.method
      the expression gives a value of type string, not true or false — write a condition [AW1104]
    call.request.method.frob()
      the expression cannot work: Undeclared reference to 'frob' — compare values of the same type; docs/policy.md lists the fields' types [AW1104]
    frob(1) == 2
      the expression cannot work: Undeclared reference to 'frob' — compare values of the same type; docs/policy.md lists the fields' types [AW1104]
    call.request.path.matches('(')
      the pattern of `matches` is wrong: '(' not a valid regex: — compare values of the same type; docs/policy.md lists the fields' types [AW1104]
    call.request.path.matches(call.request.query)
      the pattern of `matches` is not written out — write it as a string: a pattern must not come from the call [AW1104]
    has(call.request.method)
      `has` asks for a field that is always there — use it for headers: `has(call.request.headers.host)` [AW1104]
    has(call.response)
      `has` asks for a field that is always there — use it for headers: `has(call.request.headers.host)` [AW1104]
    [1].all(a, [1].all(b, [1].all(c, true)))
      loops are nested deeper than 2 — split it over several rules [AW1104]
    1 +
      the expression does not compile: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER} (line 1, character 4 of it) — write an expression in CEL [AW1104]

      the expression is empty — write a condition such as `call.request.body.bytes_total > 1000` [AW1104]
    ((((((((((((((((((((((((((1))))))))))))))))))))))))))
      brackets are nested too deeply — split it over several rules [AW1104]
    findings[0] == 1
      fine
    call.request.path.matches('^/a{1,100}$')
      the pattern of `matches` counts repetitions — write `+` or `*`, or the parts one by one: a counted part is multiplied when it is compiled [AW1104]
    call.request.headers.exists(a, call.request.headers.exists(b, a == b))
      the expression may take 2693122 steps for one call, more than 100000 — loop over `findings` or a list of your own instead of headers, and outside of other loops [AW1104]
    call.request.headers.map(a, call.request.body.text).size() > 1
      the expression may hold 18874368 bytes at once, more than 4194304 — compare parts of the call one by one instead of joining them [AW1104]
    call['request']
      `call` is no value — write one of its fields, such as `call.direction`, `call.ambiguous`, `call.anomalies`, `call.state`, `call.process.pid` or `call.process.uid`; docs/policy.md lists all [AW1104]
    "#);
}

#[test]
fn an_error_in_a_long_expression_tells_its_line() {
    let text = "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: p }\nspec:\n  rules:\n  - name: r\n    action: alert\n    when: |\n      call.tls.used &&\n      call.request.pth == '/x'\n";
    insta::assert_snapshot!(errors(text), @r#"p.yaml:9:7: `call.request.pth` is not part of a call (line 2 of it) — did you mean `call.request.path`? [AW1104]"#);
}

#[test]
fn names_are_unique_over_files() {
    let text = "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: p }\nspec: { rules: [] }\n";
    let problems = PolicySet::load(&[("a.yaml", text), ("b.yaml", text)])
        .err()
        .expect("errors");
    insta::assert_snapshot!(problems, @r#"b.yaml:3:19: the policy's name `p` is used twice, first in a.yaml:1 — give each policy a name of its own [AW1102]"#);
}

#[test]
fn many_rules_are_bounded() {
    let rules: String = (0..5_000)
        .map(|i| format!("    - {{ name: r{i}, action: alert }}\n"))
        .collect();
    let text = format!(
        "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: p }}\nspec:\n  rules:\n{rules}"
    );
    assert!(errors(&text).contains("[AW1105]"));
}
