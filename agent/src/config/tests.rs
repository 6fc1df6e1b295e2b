//! Defaults, errors and the reference.

use std::collections::BTreeSet;

use super::*;

fn now() -> jiff::Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a date")
}

fn read(text: &str) -> Result<Config, String> {
    resolve("agent.yaml", text, &Overrides::default(), now()).map_err(|problems| problems.to_string())
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = read("").expect("valid");
    assert_eq!(
        config,
        Config {
            source: "agent.yaml".into(),
            ..Config::default()
        }
    );
}

#[test]
fn every_documented_default_is_the_default() {
    for key in file::KEYS.iter().filter(|key| !key.default.is_empty()) {
        let mut text = String::new();
        for (depth, part) in key.path.split('.').enumerate() {
            if depth > 0 {
                text += "\n";
            }
            text += &"  ".repeat(depth);
            text += part;
            text += ":";
        }
        text += " ";
        text += key.default;
        let mut config = read(&text).unwrap_or_else(|error| panic!("{}: {error}", key.path));
        config.policies_explicit = false;
        assert_eq!(
            config,
            Config {
                source: "agent.yaml".into(),
                ..Config::default()
            },
            "{}",
            key.path
        );
    }
}

const FULL: &str = r#"
mode: enforce
policies: [/p/*.yaml, /q/one.yaml]
export:
  - jsonl: { path: "-" }
  - ocsf: { path: "-" }
  - collector:
      endpoint: https://collector.example:7443
      agent_id: ward-3
      tls: { ca: /ca.pem, cert: /c.pem, key: /k.pem, server_name: collector }
  - otlp:
      endpoint: https://otel.example:4317
      headers: { Authorization: "Bearer hidden-token", x-tenant: { file: /tenant } }
      compression: gzip
      tls: { ca: /ca.pem }
spool: { dir: /spool, bytes_max: 1GiB }
capture:
  scope: { cgroup: [/sys/fs/cgroup/x], netns: [/run/netns/b], containers: [0123456789ab], exes: ["/usr/sbin/*"] }
  head_bytes_max: 32KiB
  body_bytes_max: 0
  ring_bytes: 5MiB
  flows_max: 1000
  call_timeout: 30s
exempt: { exes: [/usr/bin/curl], cgroups: [/sys/fs/cgroup/y], defaults: false }
trusted_proxies: [10.0.0.0/8, "::ffff:192.168.0.0/112"]
remote: policies
decode: { grpc: { descriptors: [/etc/apiward/hospital.binpb] } }
detect:
  phi:
    enabled: true
    off: [ip]
    keys: [{ names: [chartRef], class: mrn }]
    patterns: [{ class: badge-number, regex: 'B-[0-9]{6}', words: [badge] }]
redact:
  paths: { raw: { reason: debugging, until: 2026-03-31 } }
  literals: [ward, bed]
on_exit: keep
keep_for: 10m
pins: /sys/fs/bpf/x
prove: { at_start: true, every: 1d }
inventory: { endpoints_max: 500, cluster_networks: [10.42.0.0/16], own_networks: [198.51.100.0/24] }
vendors:
  - { name: labs, domains: [Labs.example], owner: it, agreement: true, agreement_until: 2027-06-30, allowed_data: [name, phi] }
control: /run/x.sock
metrics: { listen: off }
"#;

#[test]
fn every_key_can_be_written() {
    let config = read(FULL).expect("valid");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.export.len(), 4);
    assert_eq!(config.capture.ring_bytes, 8 << 20, "rounded up to a power of two");
    assert_eq!(config.capture.scope.cgroups, [PathBuf::from("/sys/fs/cgroup/x")]);
    assert_eq!(config.trusted_proxies[1].to_string(), "192.168.0.0/16");
    assert_eq!(config.metrics, None);
    assert_eq!(config.phi.keys, [("chartRef".to_owned(), "mrn".to_owned())]);
    assert_eq!(config.phi.patterns[0].class, "badge-number");
    assert_eq!(config.descriptors, [PathBuf::from("/etc/apiward/hospital.binpb")]);
    assert_eq!(config.inventory.endpoints_max, 500);
    assert_eq!(config.vendors[0].domains, ["labs.example"]);
    // 2027-07-01T00:00:00Z
    assert_eq!(
        config.vendors[0].agreement_until_ns,
        Some(1_814_400_000_000_000_000)
    );
    assert_eq!(
        (config.prove.at_start, config.prove.every),
        (true, Some(std::time::Duration::from_secs(86_400)))
    );
    assert_eq!(read("prove: { every: off }").expect("valid").prove.every, None);
    assert!(config.redact.paths.is_raw(now()));
    assert!(
        !config
            .redact
            .paths
            .is_raw("2026-04-01T00:00:00Z".parse().expect("a date"))
    );
    assert!(
        !format!("{config:?}").contains("hidden-token"),
        "secrets are not shown"
    );
}

#[test]
fn the_digest_names_what_is_in_force() {
    let config = read(FULL).expect("valid");
    assert_eq!(config.digest(), read(FULL).expect("valid").digest());
    assert_ne!(config.digest(), read("").expect("valid").digest());
    let other = read(&FULL.replace("hidden-token", "other-token")).expect("valid");
    assert_ne!(config.digest(), other.digest());
}

#[test]
fn all_errors_are_told_at_once() {
    let text = "\
mode: enfroce
polices: [a]
export:
  - jsonl: {}
  - colector: { endpoint: x }
  - collector: { endpoint: 'ftp://x', tls: { ca: relative.pem, cert: /c.pem } }
  - otlp: { endpoint: 'http://x:1', tls: {}, headers: { 'a b': c, d-bin: e } }
spool: { bytes_max: 3 }
capture:
  scope: { containers: [zzz], exes: ['[a'] }
  call_timeout: 30
  flows_max: many
trusted_proxies: [10.0.0.0/40]
redact: { paths: raw, literals: [a/b] }
on_exit: never
control: here.sock
metrics: yes
mode: observe
";
    insta::assert_snapshot!(read(text).expect_err("errors"), @r#"
    agent.yaml:1:7: `enfroce` cannot be used here — did you mean `enforce`? Write `observe` or `enforce` [AW1004]
    agent.yaml:2:1: `polices` is not a key here — did you mean `policies`? [AW1002]
    agent.yaml:4:12: `path` is missing — add `path:` with a file, or `-` for standard output [AW1007]
    agent.yaml:5:5: `colector` is not a key here — did you mean `collector`? [AW1002]
    agent.yaml:6:28: `ftp://x` cannot be used here — write `https://host:port` or `http://host:port` [AW1004]
    agent.yaml:6:44: `cert` and `key` belong together, one of them is missing — write both, or none [AW1007]
    agent.yaml:6:50: `relative.pem` cannot be used here — write an absolute path of a PEM file [AW1004]
    agent.yaml:7:23: `tls` is configured, but the endpoint says `http` — write `https://host:port`, or remove `tls` [AW1004]
    agent.yaml:7:57: `a b` cannot be a header's name here — write letters, digits, `-`, `_` and `.`, not ending in `-bin` [AW1004]
    agent.yaml:7:67: `d-bin` cannot be a header's name here — write letters, digits, `-`, `_` and `.`, not ending in `-bin` [AW1004]
    agent.yaml:8:21: 3 is out of range — write a size from 1MiB to 64GiB [AW1005]
    agent.yaml:10:25: `zzz` is not a container id — write 12 to 64 hex digits, as the container runtime lists them [AW1004]
    agent.yaml:10:38: `[a` is not a glob — write a path in which `*`, `**`, `?` and `[…]` stand for what varies [AW1004]
    agent.yaml:11:17: `30` cannot be used here — write a duration from 1s to 1d [AW1004]
    agent.yaml:12:14: `many` cannot be used here — write a whole number from 64 to 1048576 [AW1004]
    agent.yaml:13:19: `10.0.0.0/40` cannot be used here — write a network such as `10.0.0.0/8` or `fd00::/8`, or an address [AW1004]
    agent.yaml:14:18: raw paths need a reason and an end — write `paths: { raw: { reason: TEXT, until: 2026-12-31 } }` [AW1007]
    agent.yaml:14:34: `a/b` is more than one path segment — write the segments one by one, without `/` [AW1004]
    agent.yaml:15:10: `never` cannot be used here — write `release` or `keep` [AW1004]
    agent.yaml:16:10: `here.sock` cannot be used here — write an absolute path for the socket [AW1004]
    agent.yaml:17:10: `yes` cannot be used here — write `off` [AW1004]
    agent.yaml:18:1: `mode` is written twice, first in line 1 — keep one of them [AW1006]
    "#);
}

#[test]
fn raw_paths_need_reason_and_a_near_end() {
    let errors = read("redact: { paths: { raw: { until: 2027-03-01 } } }").expect_err("errors");
    insta::assert_snapshot!(errors, @r#"agent.yaml:1:25: `reason` is missing — add `reason:` with why raw paths are needed [AW1007]"#);
    let errors = read("redact: { paths: { raw: { reason: x, until: 2026-08-01 } } }").expect_err("errors");
    insta::assert_snapshot!(errors, @r#"agent.yaml:1:45: raw paths are asked for until 2026-08-01, which is too long — write a day at most 90 days ahead, and renew it [AW1005]"#);
    let config = read("redact: { paths: { raw: { reason: x, until: 2026-02-01 } } }").expect("valid");
    insta::assert_snapshot!(config.warnings[0], @r#"agent.yaml:1:45: raw paths have expired on 2026-02-01; paths are shown as templates — remove `redact.paths`, or write a later day [AW1302]"#);
    assert!(!config.redact.paths.is_raw(now()));
}

#[test]
fn clear_text_export_is_warned_of_unless_local() {
    let config = read("export: [{ collector: { endpoint: '127.0.0.1:7443' } }]").expect("valid");
    assert!(config.warnings.is_empty());
    assert_eq!(
        config.export,
        [Export::Collector(Collector {
            endpoint: "http://127.0.0.1:7443".into(),
            tls: None,
            agent_id: None
        })]
    );
    let config = read("export: [{ collector: { endpoint: 'http://x.example:7443' } }]").expect("valid");
    insta::assert_snapshot!(config.warnings[0], @r#"agent.yaml: events go to http://x.example:7443 in clear text — write `https://` and configure `tls` [AW1301]"#);
}

#[test]
fn missing_files() {
    let errors =
        load(Some(Path::new("/nonexistent/agent.yaml")), &Overrides::default()).expect_err("missing");
    assert!(errors.to_string().contains("[AW1008]"), "{errors}");
}

#[test]
fn a_pipe_is_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let pipe = dir.path().join("agent.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let errors = load(Some(&pipe), &Overrides::default()).expect_err("nobody writes");
    assert!(errors.to_string().contains("a pipe or a socket"), "{errors}");
}

#[test]
fn flags_win() {
    use clap::Parser;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        overrides: Overrides,
    }
    let line = Line::try_parse_from([
        "apiward",
        "--mode",
        "enforce",
        "--policy",
        "/a.yaml",
        "--export",
        "jsonl=-",
        "--export",
        "collector=127.0.0.1:7443",
        "--scope",
        "cgroup=/sys/fs/cgroup/t",
        "--scope",
        "exe=/usr/bin/*",
        "--spool",
        "/s",
        "--control",
        "/c.sock",
        "--metrics",
        "off",
    ])
    .unwrap_or_else(|error| panic!("{error}"));
    let config = resolve("", "mode: observe\n", &line.overrides, now()).expect("valid");
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.policies, ["/a.yaml"]);
    assert!(config.policies_explicit);
    assert_eq!(config.export.len(), 2);
    assert_eq!(config.capture.scope.exes, ["/usr/bin/*"]);
    assert_eq!(config.metrics, None);
    assert!(Line::try_parse_from(["apiward", "--scope", "cgroup=relative"]).is_err());
    assert!(Line::try_parse_from(["apiward", "--export", "collector=nonsense"]).is_err());
    assert!(Line::try_parse_from(["apiward", "--export", "otlp=http://[::1]:4317"]).is_ok());
    assert!(Line::try_parse_from(["apiward", "--export", "otlp="]).is_err());
}

#[test]
fn the_reference_lists_exactly_the_keys_that_are_read() {
    let reader = Reader::new("agent.yaml");
    file::read(&reader, FULL);
    // `raw` hides behind a mapping; the TLS keys are written once for both exporters.
    let asked: BTreeSet<String> = reader
        .asked
        .borrow()
        .iter()
        .map(|key| {
            key.replace("export[].collector.tls.", "export[].*.tls.")
                .replace("export[].otlp.tls.", "export[].*.tls.")
        })
        .collect();
    let listed: BTreeSet<String> = file::KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(asked, listed);
}

#[test]
fn the_reference_is_rendered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, reference::render()).expect("written");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == reference::render(),
        "docs/configuration.md differs: UPDATE_DOCS=1 cargo test -p apiward config::"
    );
}

#[test]
fn policy_files_are_found() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["b.yaml", "a.yaml", "a.test.yaml", ".hidden.yaml", "c.txt"] {
        std::fs::write(dir.path().join(name), name).expect("written");
    }
    let pattern = dir.path().join("*.yaml").display().to_string();
    let files = policies::read(std::slice::from_ref(&pattern), true).expect("found");
    let texts: Vec<&str> = files.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["a.yaml", "b.yaml"]);
    let none = dir.path().join("*.none").display().to_string();
    assert!(
        policies::read(std::slice::from_ref(&none), false)
            .expect("none needed")
            .is_empty()
    );
    let errors =
        policies::read(&[none, format!("{}/*/x.yaml", dir.path().display())], true).expect_err("missing");
    assert_eq!(errors.0.len(), 2, "{errors}");
}
