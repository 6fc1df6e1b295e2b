//! The configuration as written: every key optional, every value typed, nothing decided yet.
//!
//! [`KEYS`] is the reference: `docs/configuration.md` is rendered from it, and tests hold it against what the
//! reader asks for and against the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::vendors;
use super::{Collector, Export, Header, JsonlTarget, OnExit, Otlp, Remote, Secret, Tls};
use crate::call::Vendor;
use crate::detect::PhiSettings;
use crate::errors;
use crate::kernel::site::Prefer;
use crate::policy::Mode;
use crate::yaml::{Fields, Key, Node, Place, Reader, Value, key, parse_cidr, quote};

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("mode", "`observe`, `enforce`", "observe", "Whether denials are carried out. A policy enforces only where this and its own `mode` say `enforce`."),
    key("policies", "list of globs", "[/etc/apiward/policies/*.yaml]", "Policy files. A pattern written here that matches no file is an error; the default may match none."),
    key("export", "list", "[]", "Where events go. Each item has one key: `jsonl`, `ocsf`, `collector` or `otlp`."),
    key("export[].jsonl", "mapping", "", "One event a line, as JSON."),
    key("export[].jsonl.path", "file, or `-`", "", "The file that lines are appended to (0600), or `-` for standard output."),
    key("export[].ocsf", "mapping", "", "The same in the form of the Open Cybersecurity Schema Framework 1.8, as a SIEM takes it: a record a line, of which an event can have several."),
    key("export[].ocsf.path", "file, or `-`", "", "As of `jsonl`."),
    key("export[].collector", "mapping", "", "An Apiward collector."),
    key("export[].collector.endpoint", "URL", "", "`https://host:port`, or `http://host:port` without TLS."),
    key("export[].collector.agent_id", "name", "", "The agent's name there; without it, a random one that is made once and kept in `spool.dir`."),
    key("export[].collector.tls", "mapping", "", "How the collector is verified, and what the agent shows it."),
    key("export[].otlp", "mapping", "", "An OpenTelemetry collector: logs by OTLP over gRPC."),
    key("export[].otlp.endpoint", "URL", "", "`https://host:port`, or `http://host:port` without TLS."),
    key("export[].otlp.headers", "mapping", "", "Sent with every request, such as `authorization`. Values are secrets: they are shown nowhere. A value is text, or `{ file: PATH }`."),
    key("export[].otlp.headers.*.file", "file", "", "Holds the value, on one line. It is read for every request, so that a token may be renewed there."),
    key("export[].otlp.compression", "`none`, `gzip`", "", "`none` if it is not written. `gzip` saves most of the bytes on the wire and costs several times the CPU time of sending them."),
    key("export[].otlp.tls", "mapping", "", "As for `collector`."),
    key("export[].*.tls.ca", "PEM file", "", "Authorities that the server's certificate may come from. Without it nothing is trusted but what the file names."),
    key("export[].*.tls.cert", "PEM file", "", "The agent's own certificate, for mutual TLS. Together with `key`."),
    key("export[].*.tls.key", "PEM file", "", "The key of `cert`."),
    key("export[].*.tls.server_name", "name", "", "The name in the server's certificate, if it is not the endpoint's host."),
    key("spool", "mapping", "", "Events that no exporter has acknowledged yet."),
    key("spool.dir", "directory", "/var/lib/apiward/spool", "Where they are kept (0700)."),
    key("spool.bytes_max", "size", "256MiB", "What is beyond is dropped, oldest first, counted and reported. 1MiB to 64GiB."),
    key("capture", "mapping", "", "What is seen, and how much of it."),
    key("capture.scope", "mapping", "", "What is seen and enforced; without it, the whole host. A process is in scope if any list has it."),
    key("capture.scope.cgroup", "list of directories", "[]", "cgroup2 directories, with all below them."),
    key("capture.scope.netns", "list of files", "[]", "Network namespaces, such as `/run/netns/blue` or `/proc/1234/ns/net`."),
    key("capture.scope.containers", "list of ids", "[]", "Container ids, at least their first 12 hex digits."),
    key("capture.scope.exes", "list of globs", "[]", "Executables by path."),
    key("capture.head_bytes_max", "size", "64KiB", "Longest head of a message. 1KiB to 1MiB."),
    key("capture.body_bytes_max", "size", "64KiB", "What is kept of a body, each way, while its call is judged. 0 to 16MiB."),
    key("capture.ring_bytes", "size", "8MiB", "The ring between kernel and agent; rounded up to a power of two. 256KiB to 256MiB."),
    key("capture.flows_max", "number", "65536", "Connections followed at a time; what is beyond is counted. 64 to 1048576."),
    key("capture.flow_ends", "`lossy`, `all`", "lossy", "Of which connections the account (bytes moved, seen, lost) is an event at their end: those that lost something, or all."),
    key("capture.tls_probes", "`delivery`, `inner`, `calls`, `functions`", "delivery", "Where TLS libraries are probed: reads where a record's plaintext is copied to the application, writes where a record is made of it, and all else as by `inner` (on a host where a program may write registers, reads and writes too: there a denied one is made to fail); at entry and return of the inner function that all ways share; around the calls of it (all of these only where they can be proved); or at entry and return of the exported functions, which costs several times more."),
    key("capture.call_timeout", "duration", "5m", "A call without a response ends as `timed-out` after this. 1s to 1d."),
    key("exempt", "mapping", "", "What is neither captured nor enforced, besides the agent's own connections."),
    key("exempt.exes", "list of files", "[]", "Executables by path, links followed; resolved to their inodes, so that a process cannot rename itself into the list."),
    key("exempt.cgroups", "list of directories", "[]", "cgroup2 directories, with all below them."),
    key("exempt.defaults", "`true`, `false`", "true", "Exempt sshd and kubelet too, so that a policy cannot lock the administrator out."),
    key("trusted_proxies", "list of CIDRs", "[]", "Peers whose Forwarded and X-Forwarded-For headers are believed. A policy may name more, for its own rules."),
    key("remote", "`none`, `observe`, `policies`, `enforce`", "none", "The most that a collector may change: nothing; the mode to observe; also policies; also the mode to enforce."),
    key("decode", "mapping", "", "How protocols are read."),
    key("decode.grpc", "mapping", "", "gRPC, gRPC-Web, and protobuf at the paths of their methods."),
    key("decode.grpc.descriptors", "list of files", "[]", "Protobuf descriptors, as `protoc --include_imports --descriptor_set_out=FILE` writes them. Fields of messages have their names then instead of numbers: in locations, and for what is personal by its name. Read when the agent starts."),
    key("detect", "mapping", "", "What is looked for in calls."),
    key("detect.phi", "mapping", "", "Personal data; [data-classes.md](data-classes.md) has every class."),
    key("detect.phi.enabled", "`true`, `false`", "true", "Look for it."),
    key("detect.phi.off", "list of classes", "[]", "Classes that are not told."),
    key("detect.phi.keys", "list", "[]", "Names of keys of one's own, with their classes. They win over the shipped ones."),
    key("detect.phi.keys[].names", "list of names", "", "Without regard to capitals and separators, also behind other words: `chartRef` is found in `patient_chart_ref`."),
    key("detect.phi.keys[].class", "class", "", "One of the reference, or one of one's own in lower case with `-`, which is of the group `phi`. At most 18 of one's own."),
    key("detect.phi.patterns", "list", "[]", "Regular expressions of one's own, matched in linear time."),
    key("detect.phi.patterns[].class", "class", "", "As for `keys`."),
    key("detect.phi.patterns[].regex", "regular expression", "", "In the syntax of Rust's `regex` crate: no look-around, no back-references."),
    key("detect.phi.patterns[].words", "list of words", "", "It counts only within 40 bytes behind one of these; without them, always."),
    key("redact", "mapping", "", "What is hidden in what leaves the host."),
    key("redact.paths", "`template`, `raw`", "template", "`template` shows path segments that are known words and `{id}` for the others. `raw`, which shows paths as sent, is written `paths: { raw: { reason: TEXT, until: DATE } }`, and is audited."),
    key("redact.paths.raw", "mapping", "", "Show paths as they were sent, for a time."),
    key("redact.paths.raw.reason", "text", "", "Why; it goes into the audit."),
    key("redact.paths.raw.until", "date", "", "The last day (UTC), as `2026-12-31`; at most 90 days ahead. After it, paths are templates again."),
    key("redact.literals", "list of words", "[]", "Path segments and hosts that may be shown, besides the words of FHIR, REST and the policies' own paths and hosts."),
    key("on_exit", "`release`, `keep`", "release", "What becomes of enforcement when the agent ends, however it ends: `release` takes it away; with `keep` the gate in the kernel goes on, until the next agent takes over or `keep_for` is over. It needs a bpffs of the host, and is refused where there is none."),
    key("keep_for", "duration", "15m", "How long denials hold that no living agent confirms: with `on_exit: keep` after its end, and when it hangs. Then everything passes. The agent renews it every quarter. 5s to 7d."),
    key("pins", "directory", "/sys/fs/bpf/apiward", "Where, in a bpffs of the host, is what `on_exit: keep` keeps. `apiward release` looks there."),
    key("prove", "mapping", "", "Canaries: whether what is promised of denials holds on this host is measured by the agent itself, as by `apiward prove`."),
    key("prove.at_start", "`true`, `false`", "false", "Measure once the agent runs."),
    key("prove.every", "duration, or `off`", "off", "Measure again each time so much has passed. 10m to 30d; `24h` is a good choice."),
    key("inventory", "mapping", "", "The list of APIs that were seen: `apiward inventory`."),
    key("inventory.endpoints_max", "number", "10000", "Endpoints that are remembered; what is beyond is counted. 100 to 100000."),
    key("inventory.cluster_networks", "list of CIDRs", "[]", "Networks of the cluster's pods and services: callers there are `cluster`."),
    key("inventory.own_networks", "list of CIDRs", "[]", "Public networks that are the house's own: what is called there is no third party."),
    key("vendors", "list", "[]", "The register of third parties. A call that goes out to one of their domains is theirs; policies read it as `call.third_party`."),
    key("vendors[].name", "name", "", "As it is shown."),
    key("vendors[].domains", "list of names", "", "Their domains; names below them are theirs too."),
    key("vendors[].owner", "text", "", "Who answers for the vendor in the house."),
    key("vendors[].agreement", "`true`, `false`", "", "Whether there is a business-associate agreement; `false` if it is not written. Patient data that goes out without one is the finding `phi-to-vendor-without-agreement`."),
    key("vendors[].agreement_until", "date", "", "Its last day (UTC), as `2027-06-30`; without it, it does not end."),
    key("vendors[].allowed_data", "list of words", "", "Classes (`name`, `mrn` …) or groups (`phi`, `pii`, `health`, `financial`, `credential`) of data that may go there under the agreement; without it, all."),
    key("control", "socket", "/run/apiward/control.sock", "The local socket that `apiward status`, `watch` and `mode` speak to (0600)."),
    key("metrics", "mapping, or `off`", "", "Prometheus metrics."),
    key("metrics.listen", "address, or `off`", "127.0.0.1:9464", "Where they are served."),
];

/// As written: `None` is "not written".
#[derive(Default)]
pub(super) struct File {
    pub mode: Option<Mode>,
    pub policies: Option<Vec<String>>,
    pub export: Option<Vec<Export>>,
    pub spool_dir: Option<PathBuf>,
    pub spool_bytes_max: Option<u64>,
    pub scope_cgroups: Vec<PathBuf>,
    pub scope_netns: Vec<PathBuf>,
    pub scope_containers: Vec<String>,
    pub scope_exes: Vec<String>,
    pub head_bytes_max: Option<u64>,
    pub body_bytes_max: Option<u64>,
    pub ring_bytes: Option<u64>,
    pub flows_max: Option<i64>,
    pub flow_ends_all: Option<bool>,
    pub tls_probes: Option<Prefer>,
    pub call_timeout: Option<Duration>,
    pub exempt_exes: Vec<PathBuf>,
    pub exempt_cgroups: Vec<PathBuf>,
    pub exempt_defaults: Option<bool>,
    pub trusted_proxies: Vec<IpNet>,
    pub remote: Option<Remote>,
    pub descriptors: Vec<PathBuf>,
    pub phi: PhiSettings,
    pub raw: Option<RawPaths>,
    pub literals: Vec<String>,
    pub on_exit: Option<OnExit>,
    pub keep_for: Option<Duration>,
    pub pins: Option<PathBuf>,
    pub endpoints_max: Option<i64>,
    pub cluster_networks: Vec<IpNet>,
    pub own_networks: Vec<IpNet>,
    pub vendors: Vec<Vendor>,
    pub prove_at_start: Option<bool>,
    pub prove_every: Option<Option<Duration>>,
    pub control: Option<PathBuf>,
    pub metrics: Option<Option<SocketAddr>>,
}

/// `redact.paths.raw` as written.
pub(super) struct RawPaths {
    pub reason: String,
    pub until: jiff::civil::Date,
    pub until_place: Place,
}

const MODES: &[(&str, Mode)] = &[("observe", Mode::Observe), ("enforce", Mode::Enforce)];

const REMOTES: &[(&str, Remote)] = &[
    ("none", Remote::None),
    ("observe", Remote::Observe),
    ("policies", Remote::Policies),
    ("enforce", Remote::Enforce),
];

/// The file's one document; problems are noted in the reader.
pub(super) fn read(reader: &Reader, text: &str) -> File {
    let documents = reader.documents(text);
    if let Some(second) = documents.get(1) {
        reader.problem(
            errors::WRONG_SHAPE,
            second.place,
            "a second document stands in this file",
            "keep one; policies go into files of their own",
        );
    }
    match documents.first() {
        Some(document) => root(reader, document).unwrap_or_default(),
        None => File::default(),
    }
}

fn root(reader: &Reader, document: &Node) -> Option<File> {
    let fields = reader.fields(document, "")?;
    let mut file = File {
        mode: fields.word("mode", MODES),
        policies: fields.texts("policies", "a file name or a glob").map(owned),
        remote: fields.word("remote", REMOTES),
        control: path(&fields, "control", "an absolute path for the socket"),
        ..File::default()
    };
    if let Some(node) = fields.take("export") {
        file.export = Some(
            reader
                .items(node)
                .iter()
                .filter_map(|item| export(reader, item))
                .collect(),
        );
    }
    if let Some(spool) = fields.mapping("spool") {
        file.spool_dir = path(&spool, "dir", "an absolute directory");
        file.spool_bytes_max = spool.bytes("bytes_max", 1 << 20..=64 << 30);
        spool.finish();
    }
    if let Some(capture) = fields.mapping("capture") {
        self::capture(&capture, &mut file);
        capture.finish();
    }
    if let Some(exempt) = fields.mapping("exempt") {
        file.exempt_exes = paths(&exempt, "exes", "the absolute path of an executable");
        file.exempt_cgroups = paths(&exempt, "cgroups", "an absolute cgroup2 directory");
        file.exempt_defaults = exempt.bool("defaults");
        exempt.finish();
    }
    if let Some(node) = fields.take("trusted_proxies") {
        file.trusted_proxies = cidrs(reader, node);
    }
    if let Some(decode) = fields.mapping("decode") {
        if let Some(grpc) = decode.mapping("grpc") {
            file.descriptors = paths(&grpc, "descriptors", "the absolute path of a file of descriptors");
            grpc.finish();
        }
        decode.finish();
    }
    super::detect::read(&fields, &mut file.phi);
    if let Some(redact) = fields.mapping("redact") {
        file.literals = redact
            .texts("literals", "a path segment")
            .map(owned)
            .unwrap_or_default();
        for (literal, place) in redact.texts("literals", "a path segment").unwrap_or_default() {
            if literal.contains('/') {
                reader.problem(
                    errors::BAD_VALUE,
                    place,
                    format!("{} is more than one path segment", quote(literal)),
                    "write the segments one by one, without `/`",
                );
            }
        }
        file.raw = raw_paths(&redact);
        redact.finish();
    }
    on_exit(&fields, &mut file);
    prove(&fields, &mut file);
    if let Some(inventory) = fields.mapping("inventory") {
        file.endpoints_max = inventory.number("endpoints_max", 100..=100_000);
        let networks = |key| {
            inventory
                .take(key)
                .map(|node| cidrs(reader, node))
                .unwrap_or_default()
        };
        file.cluster_networks = networks("cluster_networks");
        file.own_networks = networks("own_networks");
        inventory.finish();
    }
    if let Some(node) = fields.take("vendors") {
        file.vendors = reader
            .items(node)
            .iter()
            .filter_map(|item| vendors::read(reader, item))
            .collect();
    }
    file.metrics = metrics(&fields);
    fields.finish();
    Some(file)
}

fn capture(capture: &Fields<'_>, file: &mut File) {
    if let Some(scope) = capture.mapping("scope") {
        file.scope_cgroups = paths(&scope, "cgroup", "an absolute cgroup2 directory");
        file.scope_netns = paths(&scope, "netns", "an absolute path such as `/run/netns/blue`");
        file.scope_containers = containers(&scope);
        file.scope_exes = scope
            .texts("exes", "a glob of executables")
            .map(owned)
            .unwrap_or_default();
        for (glob, place) in scope.texts("exes", "a glob of executables").unwrap_or_default() {
            if globset::Glob::new(glob).is_err() {
                scope.reader().problem(
                    errors::BAD_VALUE,
                    place,
                    format!("{} is not a glob", quote(glob)),
                    "write a path in which `*`, `**`, `?` and `[…]` stand for what varies",
                );
            }
        }
        scope.finish();
    }
    file.head_bytes_max = capture.bytes("head_bytes_max", 1 << 10..=1 << 20);
    file.body_bytes_max = capture.bytes("body_bytes_max", 0..=16 << 20);
    file.ring_bytes = capture.bytes("ring_bytes", 256 << 10..=256 << 20);
    file.flows_max = capture.number("flows_max", 64..=1 << 20);
    file.flow_ends_all = capture.word("flow_ends", &[("lossy", false), ("all", true)]);
    file.tls_probes = capture.word(
        "tls_probes",
        &[
            ("delivery", Prefer::Delivery),
            ("inner", Prefer::Entry),
            ("calls", Prefer::Calls),
            ("functions", Prefer::Functions),
        ],
    );
    file.call_timeout = capture.duration(
        "call_timeout",
        Duration::from_secs(1)..=Duration::from_secs(86_400),
    );
}

fn containers(scope: &Fields<'_>) -> Vec<String> {
    let mut ids = Vec::new();
    for (id, place) in scope.texts("containers", "a container id").unwrap_or_default() {
        if (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            ids.push(id.to_ascii_lowercase());
        } else {
            scope.reader().problem(
                errors::BAD_VALUE,
                place,
                format!("{} is not a container id", quote(id)),
                "write 12 to 64 hex digits, as the container runtime lists them",
            );
        }
    }
    ids
}

fn raw_paths(redact: &Fields<'_>) -> Option<RawPaths> {
    let node = redact.take("paths")?;
    let reader = redact.reader();
    if let Value::Scalar { text, .. } = &node.value {
        if text == "raw" {
            reader.problem(
                errors::MISSING_KEY,
                node.place,
                "raw paths need a reason and an end",
                "write `paths: { raw: { reason: TEXT, until: 2026-12-31 } }`",
            );
        } else {
            reader.word(node, &[("template", ())]);
        }
        return None;
    }
    let paths = reader.fields(node, "redact.paths")?;
    let raw = paths.mapping("raw");
    let read = raw.as_ref().and_then(|raw| {
        let reason = raw.require("reason", "why raw paths are needed");
        let reason = reason.and_then(|node| reader.text(node, "why raw paths are needed"));
        let until = raw.require("until", "the last day, such as `2026-12-31`")?;
        let date = reader.parse(until, "a date such as `2026-12-31`", |text| text.parse().ok());
        Some(RawPaths {
            reason: reason?.into(),
            until: date?,
            until_place: until.place,
        })
    });
    if let Some(raw) = raw {
        raw.finish();
    }
    paths.finish();
    read
}

fn on_exit(fields: &Fields<'_>, file: &mut File) {
    file.on_exit = fields.word("on_exit", &[("release", OnExit::Release), ("keep", OnExit::Keep)]);
    file.keep_for = fields.duration(
        "keep_for",
        Duration::from_secs(5)..=Duration::from_secs(7 * 86_400),
    );
    file.pins = path(fields, "pins", "an absolute directory in a bpffs");
}

fn prove(fields: &Fields<'_>, file: &mut File) {
    let Some(prove) = fields.mapping("prove") else {
        return;
    };
    file.prove_at_start = prove.bool("at_start");
    let is_off = |node: &Node| matches!(&node.value, Value::Scalar { text, .. } if text == "off");
    file.prove_every = match prove.take("every") {
        Some(node) if is_off(node) => Some(None),
        _ => prove
            .duration(
                "every",
                Duration::from_secs(600)..=Duration::from_secs(30 * 86_400),
            )
            .map(Some),
    };
    prove.finish();
}

fn metrics(fields: &Fields<'_>) -> Option<Option<SocketAddr>> {
    let node = fields.take("metrics")?;
    let reader = fields.reader();
    if let Value::Scalar { .. } = &node.value {
        return reader.word(node, &[("off", ())]).map(|()| None);
    }
    let metrics = reader.fields(node, "metrics")?;
    let listen = metrics.take("listen").and_then(|node| {
        reader.parse(
            node,
            "an address such as `127.0.0.1:9464`, or `off`",
            |text| match text {
                "off" => Some(None),
                address => address.parse().ok().map(Some),
            },
        )
    });
    metrics.finish();
    listen
}

fn export(reader: &Reader, item: &Node) -> Option<Export> {
    let fields = reader.fields(item, "export[]")?;
    let before = reader.problems_len();
    let mut found = Vec::new();
    for (name, form) in [
        ("jsonl", Export::Jsonl as fn(JsonlTarget) -> Export),
        ("ocsf", Export::Ocsf),
    ] {
        let Some(lines) = fields.mapping(name) else {
            continue;
        };
        if let Some(node) = lines.require("path", "a file, or `-` for standard output") {
            let wanted = "an absolute path of a file, or `-` for standard output";
            let target = reader.parse(node, wanted, |text| match text {
                "-" => Some(JsonlTarget::Stdout),
                file => absolute(file).map(JsonlTarget::File),
            });
            found.extend(target.map(form));
        }
        lines.finish();
    }
    if let Some(collector) = fields.mapping("collector") {
        let endpoint = endpoint(&collector);
        let tls = collector.mapping("tls").and_then(self::tls);
        let agent_id = agent_id(&collector);
        found.extend(endpoint.map(|endpoint| {
            Export::Collector(Collector {
                endpoint,
                tls,
                agent_id,
            })
        }));
        collector.finish();
    }
    if let Some(otlp) = fields.mapping("otlp") {
        let endpoint = endpoint(&otlp);
        let tls = otlp.mapping("tls").and_then(self::tls);
        let headers = headers(&otlp);
        let gzip = otlp.word("compression", &[("none", false), ("gzip", true)]);
        found.extend(endpoint.map(|endpoint| {
            Export::Otlp(Otlp {
                endpoint,
                tls,
                headers,
                gzip: gzip.unwrap_or(false),
            })
        }));
        otlp.finish();
    }
    fields.finish();
    if found.len() != 1 && reader.problems_len() == before {
        reader.problem(
            errors::WRONG_SHAPE,
            item.place,
            format!("an item of `export` names {} exporters", found.len()),
            "give each exporter an item of its own: `- jsonl: {…}`, `- ocsf: {…}`, `- collector: {…}` or `- otlp: {…}`",
        );
    }
    found.pop()
}

/// `scheme://host:port`; the scheme follows from `tls` where it is not written.
fn endpoint(fields: &Fields<'_>) -> Option<String> {
    let wanted = "`https://host:port` or `http://host:port`";
    let node = fields.require("endpoint", wanted)?;
    let has_tls = fields.take("tls").is_some();
    let endpoint = fields
        .reader()
        .parse(node, wanted, |text| super::parse_endpoint(text, has_tls))?;
    if has_tls && endpoint.starts_with("http://") {
        fields.reader().problem(
            errors::BAD_VALUE,
            node.place,
            "`tls` is configured, but the endpoint says `http`",
            "write `https://host:port`, or remove `tls`",
        );
        return None;
    }
    Some(endpoint)
}

fn tls(fields: Fields<'_>) -> Option<Tls> {
    let tls = Tls {
        ca: path(&fields, "ca", "an absolute path of a PEM file"),
        cert: path(&fields, "cert", "an absolute path of a PEM file"),
        key: path(&fields, "key", "an absolute path of a PEM file"),
        server_name: fields
            .text("server_name", "the name in the server's certificate")
            .map(str::to_owned),
    };
    if tls.cert.is_some() != tls.key.is_some() {
        fields.reader().problem(
            errors::MISSING_KEY,
            fields.place(),
            "`cert` and `key` belong together, one of them is missing",
            "write both, or none",
        );
    }
    fields.finish();
    Some(tls)
}

fn agent_id(fields: &Fields<'_>) -> Option<String> {
    let wanted = "1 to 64 letters, digits, `.`, `_` and `-`";
    let node = fields.take("agent_id")?;
    fields.reader().parse(node, wanted, |text| {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        fits.then(|| text.to_owned())
    })
}

/// Header names are lower case in gRPC (HTTP/2); values never come up in a message.
fn headers(fields: &Fields<'_>) -> Vec<(String, Header)> {
    let Some(node) = fields.take("headers") else {
        return Vec::new();
    };
    let reader = fields.reader();
    let Value::Mapping(entries) = &node.value else {
        reader.problem(
            errors::WRONG_SHAPE,
            node.place,
            "`headers` is not a mapping",
            "write `name: value` lines",
        );
        return Vec::new();
    };
    let mut headers = Vec::new();
    for entry in entries {
        let name = entry.key.to_ascii_lowercase();
        let name_fits = (1..=128).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !name.ends_with("-bin");
        if !name_fits {
            reader.problem(
                errors::BAD_VALUE,
                entry.key_place,
                format!("{} cannot be a header's name here", quote(&entry.key)),
                "write letters, digits, `-`, `_` and `.`, not ending in `-bin`",
            );
            continue;
        }
        match &entry.value.value {
            Value::Scalar { text, .. } if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => {
                headers.push((name, Header::Value(Secret::new(text.clone()))));
            }
            Value::Mapping(_) => {
                headers.extend(header_file(reader, &entry.value).map(|path| (name, Header::File(path))))
            }
            _ => reader.problem(
                errors::BAD_VALUE,
                entry.value.place,
                format!("the value of the header {} cannot be sent", quote(&name)),
                "write one line of printable ASCII, or `{ file: PATH }`",
            ),
        }
    }
    headers
}

/// `{ file: PATH }`: a secret that something else keeps and renews.
fn header_file(reader: &Reader, node: &Node) -> Option<PathBuf> {
    let fields = reader.fields(node, "export[].otlp.headers.*")?;
    let wanted = "an absolute path of a file with one line";
    let path = fields.require("file", wanted);
    let path = path.and_then(|node| reader.parse(node, wanted, absolute));
    fields.finish();
    path
}

/// Networks of a list; used by policies too.
pub fn cidrs(reader: &Reader, node: &Node) -> Vec<IpNet> {
    let wanted = "a network such as `10.0.0.0/8` or `fd00::/8`, or an address";
    reader
        .items(node)
        .iter()
        .filter_map(|item| reader.parse(item, wanted, parse_cidr))
        .collect()
}

fn path(fields: &Fields<'_>, key: &'static str, wanted: &str) -> Option<PathBuf> {
    let node = fields.take(key)?;
    fields.reader().parse(node, wanted, absolute)
}

fn paths(fields: &Fields<'_>, key: &'static str, wanted: &str) -> Vec<PathBuf> {
    let Some(node) = fields.take(key) else {
        return Vec::new();
    };
    let reader = fields.reader();
    reader
        .items(node)
        .iter()
        .filter_map(|item| reader.parse(item, wanted, absolute))
        .collect()
}

/// A domain: labels of letters, digits and `-`, in lower case.
pub(super) fn absolute_name(name: &str) -> bool {
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// Relative paths would mean something else in every directory that the agent is started from.
fn absolute(text: &str) -> Option<PathBuf> {
    (text.starts_with('/') && !text.contains('\0')).then(|| PathBuf::from(text))
}

pub(super) fn owned(texts: Vec<(&str, Place)>) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text.to_owned()).collect()
}
