//! From a configuration to a running agent, step by step. Whatever fails says what to do.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};

use super::gate::Gate;
use super::life::Life;
use super::lock::{self, HostLock};
use super::{Agent, policies, scope};
use crate::call::redact::Earning;
use crate::call::{self, Calls};
use crate::capture::intake::Intake;
use crate::capture::libraries::{Libraries, Neighbours};
use crate::config::{Config, Export, Header, JsonlTarget, OnExit, PathRedaction, Remote, descriptors};
use crate::detect::{Detectors, Inventory, Vendors, inventory};
use crate::enforce::{self, Actions, Enforcement};
use crate::errors;
use crate::export::clock::Clock;
use crate::export::command::{Asked, Ceiling};
use crate::export::{self, Exports, aside, collector, control, jsonl, net, otlp, spool, wire};
use crate::flow::{self, Flows};
use crate::kernel::load;
use crate::kernel::mapped;
use crate::kernel::mappings::Mappings;
use crate::kernel::netlink::{Namespaces, Sockets, list_namespaces};
use crate::kernel::pins;
use crate::kernel::probe::{self, Answer};
use crate::pipeline::{Judge, Pipeline};
use crate::policy::{Engine, Mode, PolicySet};
use crate::telemetry::Telemetry;
use crate::yaml::Problems;

/// Bytes of events that wait in memory while the disk refuses them.
const SPOOL_MEMORY_BYTES_MAX: usize = 16 << 20;

/// Places of paths that are remembered for each endpoint.
const PLACES_PER_ENDPOINT: usize = 6;

/// Sets everything up, in the order in which it can fail without a trace.
pub fn start(config: Config) -> Result<Agent> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the agent needs root: it loads kernel programs that see every process. Run it with sudo [{}]",
        errors::NEEDS_ROOT
    );
    let policies = policies::read(&config);
    let scope = scope::resolve(&config);
    let schema = descriptors::read(&config.descriptors);
    let (policies, scope, schema) = match (policies, scope, schema) {
        (Ok(policies), Ok(scope), Ok(schema)) => (Arc::new(policies), scope, schema),
        (policies, scope, schema) => {
            let problems = [policies.err(), scope.err(), schema.err()].into_iter().flatten();
            return Err(Problems(problems.flat_map(|problems| problems.0).collect()).into());
        }
    };
    if config.on_exit == OnExit::Keep {
        pins::check(&config.pins)?;
    }
    let lock = HostLock::take(Path::new(lock::PATH))?;
    let bound = control::bind(&config.control)?;
    let telemetry = Arc::new(Telemetry::new());
    let export::Started { exports, commands } = Exports::start(export_settings(&config), telemetry.clone())?;
    let mut agent = attach(config, policies, scope, exports.clone(), commands, telemetry)?;
    if let Some(schema) = schema {
        agent.pipeline.judge.detectors.set_schema(Arc::new(schema));
    }
    let place = control::start(&exports, bound, Box::new(mappers))?;
    agent.held = Some(super::Held { place, lock });
    agent.replace_gate();
    // To start may have taken as long as denials hold.
    agent.life.begin_to_serve();
    agent.tell_unmet();
    Ok(agent)
}

/// How many processes map each file.
fn mappers() -> HashMap<u64, u32> {
    let mut counts = HashMap::new();
    for file in mapped::all().files {
        *counts.entry(file.key.inode).or_default() += file.processes.len() as u32;
    }
    counts
}

fn attach(
    config: Config,
    policies: Arc<PolicySet>,
    (kernel_scope, mut executables): (load::Scope, scope::Executables),
    exports: Exports,
    commands: tokio::sync::mpsc::Receiver<export::command::Command>,
    telemetry: Arc<Telemetry>,
) -> Result<Agent> {
    let ring_bytes = config.capture.ring_bytes;
    let listeners = learn_connections();
    // Before anything is attached: it makes a connection of its own.
    let resets = socket_destroy();
    let loaded = load::load(&load::Options {
        ring_bytes: config.capture.ring_bytes,
        flows_max: config.capture.flows_max,
        operation_bytes_max: config
            .capture
            .head_bytes_max
            .saturating_add(config.capture.body_bytes_max),
        scope: kernel_scope.clone(),
        pins: config.pins.clone(),
        keep_for: config.keep_for,
    })?;
    let load::Loaded {
        mut ring,
        mut maps,
        egress,
        gate,
        sends,
        probes,
        mut capabilities,
        run_times,
        mappings_needed,
        egress_hook,
        lease,
        keeper,
        adopted,
    } = loaded;
    let life = Life::new(&config, egress_hook, lease, keeper, adopted);
    if let Some(waker) = ring.waker() {
        exports.set_waker(move || waker.wake());
    }
    capabilities.extend([host_pids(), resets]);
    executables.list_running(&mut maps);
    let sight = scope::Sight::new(kernel_scope, &config, &executables);
    let gate = gate.map(|(maps, ingress)| Gate::new(maps, ingress, sends));
    // Before the running processes are looked at: what they map meanwhile waits in the rings. Where a kernel program
    // tells of mappings, they are not needed.
    let mappings = mappings_needed
        .then(|| follow_mappings(&mut capabilities))
        .flatten();
    let ways = probes.ways(config.capture.tls_probes);
    let neighbours = neighbours(sight.clone(), mappings, adopted.is_some());
    let libraries = Libraries::start(probes, neighbours, ways)
        .context("the thread for TLS libraries cannot be started")?;
    start_exporters(&config, &exports);
    if let Some(listen) = config.metrics {
        serve_metrics(&exports, telemetry.clone(), listen);
    }
    let call_options = call_options(&config, &policies)?;
    // Patterns were checked with the configuration; what is left are bounds on all of them together.
    let detectors = Detectors::new(&config.phi, call_options.key, &call_options.literals)
        .map_err(|error| anyhow::anyhow!("detect.phi: {error}"))?;
    let mut pipeline = Pipeline::new(
        Intake::new(listeners),
        Flows::new(flow::Limits {
            flows_max: config.capture.flows_max as usize,
            ledgers_all: config.capture.flow_ends_all,
            ..flow::Limits::default()
        }),
        Calls::new(call_options),
        Judge::new(
            detectors,
            Engine::new(policies.clone(), config.mode, config.trusted_proxies.clone()),
            Enforcement::new(
                enforce::Limits {
                    gate: gate.is_some(),
                    refuses: capabilities
                        .iter()
                        .any(|one| one.name == load::TLS_REFUSE && one.available),
                    ..enforce::Limits::default()
                },
                Actions::new(egress),
            ),
            Clock::measure(),
            Inventory::new(inventory_settings(&config)?),
            exports.batch(),
        ),
    );
    let proof = super::prove::Proof::new(&config);
    let paths_raw = config.redact.paths.is_raw(jiff::Timestamp::now());
    pipeline.calls.set_paths_raw(paths_raw);
    pipeline.judge.inventory.set_paths_raw(paths_raw);
    super::inventory::restore(&config.spool.dir, &mut pipeline.judge.inventory);
    let telling = super::inventory::Telling::new(&config.spool.dir);
    pipeline.judge.vendors = Vendors::new(config.vendors.clone(), config.inventory.own_networks.clone());
    pipeline.intake.set_flows_max(config.capture.flows_max as usize);
    audit_start(&config, &policies, &exports);
    tell_missing(&config, &capabilities, &exports);
    telemetry.set_enforcing(config.mode == Mode::Enforce);
    telemetry.set_ready(true);
    Ok(Agent {
        config,
        exports,
        telemetry,
        commands,
        pipeline,
        ring,
        maps,
        libraries,
        libraries_known: 0,
        executables,
        sight,
        gate,
        life,
        capabilities,
        policies,
        policies_from: super::Origin::Files,
        policies_before: None,
        drops: super::drops::Drops::new(ring_bytes),
        proof,
        operations_exempt: 0,
        held: None,
        paths_raw,
        telling,
        run_times,
        ticks: 0,
        overload: super::Overload::default(),
        ticked: Instant::now(),
        losses_told: Instant::now(),
        seen_noted: None,
        seeing: None,
        told_at: Instant::now(),
    })
}

/// Asks every network namespace for its sockets: that gives older connections their cookies, and tells by the
/// listeners which side of them is the server's.
fn learn_connections() -> HashSet<(u32, u16)> {
    let mut listeners = HashSet::new();
    let spaces = match list_namespaces() {
        Ok(spaces) => spaces,
        Err(error) => {
            tracing::warn!(%error, "older connections are not known");
            return listeners;
        }
    };
    let mut namespaces = Namespaces::default();
    for space in &spaces {
        let found = namespaces.open(space).and_then(|diag| {
            diag.dump(Sockets::Connections, false)?;
            diag.dump(Sockets::Listeners, false)
        });
        match found {
            Ok(entries) => listeners.extend(entries.iter().map(|entry| (space.inode, entry.local.port()))),
            Err(error) => tracing::debug!(namespace = space.inode, %error, "not asked for its sockets"),
        }
    }
    listeners
}

/// Libraries that are mapped from now on. Without them those of the system and of running processes remain.
fn follow_mappings(capabilities: &mut Vec<load::Capability>) -> Option<Mappings> {
    let opened = Mappings::open();
    capabilities.push(load::Capability {
        name: "exec-mappings",
        available: opened.is_ok(),
        reason: opened.as_ref().err().map(ToString::to_string).unwrap_or_default(),
    });
    opened.ok()
}

fn neighbours(sight: scope::Sight, mappings: Option<Mappings>, takes_over: bool) -> Neighbours {
    let running = sight.clone();
    Neighbours {
        running: Box::new(move || running.running()),
        in_scope: Box::new(move |pid| sight.has(pid)),
        mappings,
        takes_over,
    }
}

fn export_settings(config: &Config) -> export::Settings {
    let mut settings = export::Settings::default();
    for (index, one) in config.export.iter().enumerate() {
        match one {
            Export::Jsonl(target) => settings.jsonl.push(lines_to(target)),
            Export::Ocsf(target) => settings.ocsf.push(lines_to(target)),
            Export::Collector(_) => settings.consumers.push(consumer_name("collector", index)),
            Export::Otlp(_) => settings.consumers.push(consumer_name("otlp", index)),
        }
    }
    settings.state_dir = Some(config.spool.dir.clone());
    settings.with_time = Some(crate::kernel::turns::with_time);
    if !settings.consumers.is_empty() {
        settings.spool = Some(spool::Settings {
            dir: config.spool.dir.clone(),
            bytes_max: config.spool.bytes_max,
            memory_bytes_max: SPOOL_MEMORY_BYTES_MAX,
        });
    }
    settings
}

fn lines_to(target: &JsonlTarget) -> jsonl::Target {
    match target {
        JsonlTarget::Stdout => jsonl::Target::Stdout,
        JsonlTarget::File(path) => jsonl::Target::File(path.clone()),
    }
}

fn consumer_name(kind: &str, index: usize) -> String {
    format!("{kind}-{index}")
}

fn start_exporters(config: &Config, exports: &Exports) {
    for (index, one) in config.export.iter().enumerate() {
        match one {
            Export::Jsonl(_) | Export::Ocsf(_) => {}
            Export::Collector(settings) => collector::start(
                exports,
                collector::Settings {
                    consumer: consumer_name("collector", index),
                    endpoint: settings.endpoint.clone(),
                    tls: settings.tls.clone().map(net_tls),
                    agent_id: settings.agent_id.clone(),
                    ceiling: ceiling(config.remote),
                },
            ),
            Export::Otlp(settings) => otlp::start(
                exports,
                otlp::Settings {
                    consumer: consumer_name("otlp", index),
                    endpoint: settings.endpoint.clone(),
                    tls: settings.tls.clone().map(net_tls),
                    headers: settings.headers.iter().map(otlp_header).collect(),
                    gzip: settings.gzip,
                },
            ),
        }
    }
}

fn otlp_header((name, value): &(String, Header)) -> (String, otlp::HeaderValue) {
    let value = match value {
        Header::Value(secret) => otlp::HeaderValue::Text(secret.reveal().to_owned()),
        Header::File(path) => otlp::HeaderValue::File(path.clone()),
    };
    (name.clone(), value)
}

fn net_tls(tls: crate::config::Tls) -> net::Tls {
    net::Tls {
        ca: tls.ca,
        identity: tls.cert.zip(tls.key),
        server_name: tls.server_name,
    }
}

fn ceiling(remote: Remote) -> Ceiling {
    match remote {
        Remote::None => Ceiling::None,
        Remote::Observe => Ceiling::Observe,
        Remote::Policies => Ceiling::Policies,
        Remote::Enforce => Ceiling::Enforce,
    }
}

fn serve_metrics(exports: &Exports, telemetry: Arc<Telemetry>, listen: std::net::SocketAddr) {
    let told = exports.clone();
    exports.runtime().spawn(async move {
        if let Err(error) = telemetry.serve(listen).await {
            let what = format!("not served ({error}): set `metrics.listen` to a free address, or off");
            tracing::error!(%listen, "metrics are {what}");
            // In the status and as an event: who reads only dashboards sees nothing else of it.
            let name = format!("metrics {listen}");
            told.send(vec![wire::agent_state("degraded", format!("{name}: {what}"))]);
            told.add_exporter(&name, None).set_state("failing", what);
        }
    });
}

fn audit_start(config: &Config, policies: &PolicySet, exports: &Exports) {
    let detail = format!("apiward {} on {}", env!("CARGO_PKG_VERSION"), kernel_release());
    exports.send(vec![wire::agent_state("started", detail)]);
    exports.send(aside::take(&config.spool.dir));
    let redaction = match &config.redact.paths {
        PathRedaction::Raw { reason, until } if config.redact.paths.is_raw(jiff::Timestamp::now()) => {
            ("raw", format!("{reason} (until {until})"))
        }
        _ => ("template", "the agent started".to_owned()),
    };
    let started = || "the agent started".to_owned();
    for (what, now, why) in [
        ("configuration", config.digest(), started()),
        ("scope", config.capture.scope.words(), started()),
        ("policy", policies.digest().to_owned(), started()),
        ("mode", config.mode.as_str().to_owned(), started()),
        ("redaction", redaction.0.to_owned(), redaction.1),
    ] {
        let asked = Asked::unattended(exports, what, "start", why);
        // What was in force when the last run ended.
        let before = asked.in_force();
        asked.accept(before, now, "in force");
    }
}

/// What this host cannot do is said once, loudly; the status goes on saying it.
fn tell_missing(config: &Config, capabilities: &[load::Capability], exports: &Exports) {
    for missing in capabilities.iter().filter(|one| !one.available) {
        let (name, reason) = (missing.name, missing.reason.as_str());
        // What only some kernels have is in the status, with what a denial is worth here.
        if [load::TLS_REFUSE, load::SEND_REFUSE, load::PROBE_LINKS].contains(&name) {
            tracing::info!(
                "{name} is not to be had here: {}",
                reason.lines().next().unwrap_or_default()
            );
            continue;
        }
        tracing::warn!("{name} is missing, and the agent goes on without it: {reason}. See `apiward doctor`");
        exports.send(vec![wire::agent_state(
            "capability-missing",
            format!("{name}: {}", reason.lines().next().unwrap_or_default()),
        )]);
        if name == load::EGRESS_WITHHOLD && config.mode == Mode::Enforce {
            tracing::error!(
                "the mode is enforce, and nothing can be withheld on this host: no denial is contained"
            );
        }
    }
}

fn socket_destroy() -> load::Capability {
    let reason = match probe::destroys_sockets() {
        Answer::No(reason) => reason,
        // It will be seen when it is needed, and every outcome is measured.
        Answer::Yes | Answer::Unknown(_) => String::new(),
    };
    load::Capability {
        name: load::SOCKET_DESTROY,
        available: reason.is_empty(),
        reason,
    }
}

/// The kernel speaks of processes by the host's numbers. In a namespace of its own the agent would look up others,
/// and not know itself among them.
fn host_pids() -> load::Capability {
    /// `PROC_PID_INIT_INO` of the kernel's `proc_ns.h`: the same on every Linux.
    const HOST: u64 = 0xEFFF_FFFC;
    let is_host = fs::metadata("/proc/self/ns/pid").is_ok_and(|found| found.ino() == HOST);
    load::Capability {
        name: "host-pids",
        available: is_host,
        reason: if is_host {
            String::new()
        } else {
            "the agent runs in a process namespace of its own, so that processes get wrong names: give it the host's (hostPID: true)".into()
        },
    }
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn call_options(config: &Config, policies: &PolicySet) -> Result<call::Options> {
    let mut limits = call::Limits {
        body_bytes_max: config.capture.body_bytes_max as usize,
        flows_max: config.capture.flows_max as usize,
        answer_ns: u64::try_from(config.capture.call_timeout.as_nanos()).unwrap_or(u64::MAX),
        ..call::Limits::default()
    };
    limits.decode.head_bytes_max = config.capture.head_bytes_max as usize;
    Ok(call::Options {
        limits,
        key: installation_key(&config.spool.dir)?,
        boot_id: boot_id(),
        earning: Earning::default(),
        literals: literals(config, policies),
    })
}

fn inventory_settings(config: &Config) -> Result<inventory::Settings> {
    Ok(inventory::Settings {
        key: installation_key(&config.spool.dir)?,
        limits: inventory::Limits {
            endpoints_max: config.inventory.endpoints_max as usize,
            places_max: (config.inventory.endpoints_max as usize).saturating_mul(PLACES_PER_ENDPOINT),
            ..inventory::Limits::default()
        },
        cluster: config.inventory.cluster_networks.clone(),
    })
}

/// Words that may be shown in paths: the configuration's and the policies' own.
pub(super) fn literals(config: &Config, policies: &PolicySet) -> Vec<String> {
    let mut literals = config.redact.literals.clone();
    literals.extend(policies.literals().iter().map(ToString::to_string));
    literals
}

/// The key of the hashes that leave: made once, kept beside the spool for its owner alone. Where the directory
/// cannot be used the key is new at every start: hashes then compare within one run only.
fn installation_key(directory: &Path) -> Result<[u8; 32]> {
    let path = directory.join("hash.key");
    let mut key = [0; 32];
    if let Ok(mut file) = fs::File::open(&path)
        && file.read_exact(&mut key).is_ok()
    {
        return Ok(key);
    }
    for chunk in key.chunks_mut(16) {
        chunk.copy_from_slice(&rand::random::<u128>().to_ne_bytes()[..chunk.len()]);
    }
    let made = spool::make_private(directory).and_then(|()| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&key)?;
        file.sync_all()
    });
    if let Err(error) = made {
        tracing::warn!(path = %path.display(), %error, "the key of hashes cannot be kept: it is new at every start");
    }
    Ok(key)
}

fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}
