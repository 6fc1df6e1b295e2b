//! The agent's configuration: one YAML file and the command line's overrides → [`Config`], with every error of
//! the file told at once.
//!
//! `file` is what was written, this is what it means. It must not know how the stages work; they take the parts
//! of it that they need.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::call::Vendor;
use crate::detect::PhiSettings;
use crate::errors;
use crate::kernel::site::Prefer;
use crate::policy::Mode;
use crate::yaml::{Problem, Problems, Reader};

pub mod descriptors;
mod detect;
pub mod file;
mod overrides;
pub mod policies;
pub mod reference;
mod vendors;

pub use overrides::Overrides;

/// Where the configuration is if nobody says otherwise. It may be missing: then the defaults hold.
pub const PATH_DEFAULT: &str = "/etc/apiward/agent.yaml";
/// Policy files if nobody says otherwise.
pub const POLICIES_DEFAULT: &str = "/etc/apiward/policies/*.yaml";
/// The local socket if nobody says otherwise.
pub const CONTROL_DEFAULT: &str = "/run/apiward/control.sock";
/// What is kept is here if nobody says otherwise.
pub const PINS_DEFAULT: &str = "/sys/fs/bpf/apiward";
/// How long denials hold that no agent confirms, if nobody says otherwise.
const KEEP_FOR_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// Longest time that raw paths can be asked for.
pub const RAW_PATHS_DAYS_MAX: i32 = 90;

/// What was wrong with a configuration: all of it.
pub type ConfigErrors = Problems;

/// The configuration in force. Plain values: nothing in it is optional that has a default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub mode: Mode,
    /// Files or globs.
    pub policies: Vec<String>,
    /// The patterns were written by somebody: each has to match a file.
    pub policies_explicit: bool,
    pub export: Vec<Export>,
    pub spool: Spool,
    pub capture: Capture,
    pub exempt: Exempt,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    pub remote: Remote,
    /// Files with the types of gRPC messages.
    pub descriptors: Vec<PathBuf>,
    /// What is looked for in calls.
    pub phi: PhiSettings,
    pub redact: Redact,
    pub on_exit: OnExit,
    /// How long denials hold that no agent confirms.
    pub keep_for: Duration,
    /// The directory, in the host's bpffs, of what is kept.
    pub pins: PathBuf,
    pub prove: Prove,
    pub inventory: Inventory,
    /// The register of third parties.
    pub vendors: Vec<Vendor>,
    /// The local socket's path.
    pub control: PathBuf,
    /// `None`: metrics are not served.
    pub metrics: Option<SocketAddr>,
    /// File that it came from; empty for the defaults.
    pub source: String,
    /// What works, but not as it seems to.
    pub warnings: Vec<Problem>,
}

/// Somewhere that events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    Jsonl(JsonlTarget),
    /// The same, in the form of the Open Cybersecurity Schema Framework.
    Ocsf(JsonlTarget),
    Collector(Collector),
    Otlp(Otlp),
}

/// Where JSON lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonlTarget {
    Stdout,
    File(PathBuf),
}

/// An Apiward collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// `http://host:port` or `https://host:port`, always with a port.
    pub endpoint: String,
    /// Present only with `https`.
    pub tls: Option<Tls>,
    /// `None`: the one kept in the spool directory.
    pub agent_id: Option<String>,
}

/// An OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// `http://host:port` or `https://host:port`, always with a port.
    pub endpoint: String,
    /// Present only with `https`.
    pub tls: Option<Tls>,
    /// Names in lower case.
    pub headers: Vec<(String, Header)>,
    pub gzip: bool,
}

/// The value of a header, or the file that it is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    Value(Secret),
    File(PathBuf),
}

/// PEM files of a TLS client. They are read where they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    /// With `key`: both or none.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub server_name: Option<String>,
}

/// A value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// The value, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Events that nobody has acknowledged yet, on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    pub dir: PathBuf,
    pub bytes_max: u64,
}

/// What is seen, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub scope: Scope,
    pub head_bytes_max: u32,
    pub body_bytes_max: u32,
    /// A power of two, at least a page.
    pub ring_bytes: u32,
    pub flows_max: u32,
    /// The account of every connection is an event, not only of those that lost something.
    pub flow_ends_all: bool,
    pub tls_probes: Prefer,
    /// A call without a response ends after this.
    pub call_timeout: Duration,
}

/// What is seen and enforced. All lists empty: the whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// cgroup2 directories, absolute.
    pub cgroups: Vec<PathBuf>,
    /// Files that stand for network namespaces.
    pub netns: Vec<PathBuf>,
    /// Container ids or their first 12 or more hex digits, lower case.
    pub containers: Vec<String>,
    /// Globs of executables; they compile.
    pub exes: Vec<String>,
}

impl Scope {
    /// Is it the whole host?
    pub fn is_host(&self) -> bool {
        *self == Scope::default()
    }

    /// For people and for the audit.
    pub fn words(&self) -> String {
        if self.is_host() {
            return "the whole host".into();
        }
        let mut words: Vec<String> = Vec::new();
        words.extend(
            self.cgroups
                .iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        words.extend(self.netns.iter().map(|path| format!("netns {}", path.display())));
        words.extend(self.containers.iter().map(|id| format!("container {id}")));
        words.extend(self.exes.iter().map(|glob| format!("exe {glob}")));
        words.join(", ")
    }
}

/// What is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exempt {
    pub exes: Vec<PathBuf>,
    pub cgroups: Vec<PathBuf>,
    /// sshd and kubelet too.
    pub defaults: bool,
}

/// The most that a collector may change here. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    #[default]
    None,
    /// The mode, to `observe`.
    Observe,
    /// Also policies.
    Policies,
    /// Also the mode, to `enforce`.
    Enforce,
}

impl Remote {
    /// The name in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Remote::None => "none",
            Remote::Observe => "observe",
            Remote::Policies => "policies",
            Remote::Enforce => "enforce",
        }
    }
}

/// What is hidden in what leaves the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redact {
    pub paths: PathRedaction,
    /// Path segments that may be shown, besides shipped vocabulary and the policies' own.
    pub literals: Vec<String>,
}

/// How paths are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRedaction {
    #[default]
    Template,
    /// As sent, up to and including a day (UTC).
    Raw {
        reason: String,
        until: jiff::civil::Date,
    },
}

impl PathRedaction {
    /// Are raw paths allowed at this moment? It has to be asked again as time passes.
    pub fn is_raw(&self, now: jiff::Timestamp) -> bool {
        match self {
            PathRedaction::Template => false,
            PathRedaction::Raw { until, .. } => today(now) <= *until,
        }
    }
}

/// What becomes of enforcement when the agent ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// Everything is detached.
    #[default]
    Release,
    /// The gate goes on, until the next agent takes over or nobody has renewed its lease.
    Keep,
}

/// When the agent sends canaries by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prove {
    pub at_start: bool,
    pub every: Option<Duration>,
}

/// What is remembered of the APIs that were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    pub endpoints_max: u32,
    /// Of pods and services.
    pub cluster_networks: Vec<IpNet>,
    /// Public, and no third party's.
    pub own_networks: Vec<IpNet>,
}

impl Default for Inventory {
    fn default() -> Self {
        Inventory {
            endpoints_max: 10_000,
            cluster_networks: Vec::new(),
            own_networks: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Observe,
            policies: vec![POLICIES_DEFAULT.into()],
            policies_explicit: false,
            export: Vec::new(),
            spool: Spool {
                dir: "/var/lib/apiward/spool".into(),
                bytes_max: 256 << 20,
            },
            capture: Capture {
                scope: Scope::default(),
                head_bytes_max: 64 << 10,
                body_bytes_max: 64 << 10,
                ring_bytes: 8 << 20,
                flows_max: 65_536,
                flow_ends_all: false,
                tls_probes: Prefer::default(),
                call_timeout: Duration::from_secs(300),
            },
            exempt: Exempt {
                exes: Vec::new(),
                cgroups: Vec::new(),
                defaults: true,
            },
            trusted_proxies: Vec::new(),
            remote: Remote::None,
            descriptors: Vec::new(),
            phi: PhiSettings::default(),
            redact: Redact::default(),
            on_exit: OnExit::Release,
            keep_for: KEEP_FOR_DEFAULT,
            pins: PINS_DEFAULT.into(),
            prove: Prove::default(),
            inventory: Inventory::default(),
            vendors: Vec::new(),
            control: CONTROL_DEFAULT.into(),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            source: String::new(),
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Names what is in force, for the audit: two configurations with the same digest do the same.
    pub fn digest(&self) -> String {
        let mut plain = self.clone();
        plain.source.clear();
        plain.warnings.clear();
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{plain:?}").as_bytes());
        for export in &self.export {
            if let Export::Otlp(otlp) = export {
                for (_, header) in &otlp.headers {
                    if let Header::Value(value) = header {
                        hasher.update(blake3::hash(value.reveal().as_bytes()).as_bytes());
                    }
                }
            }
        }
        hasher.finalize().to_hex().chars().take(16).collect()
    }
}

/// Reads the configuration. No path, or the default path without a file there, gives the defaults; any other
/// missing file is an error.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    let (path, optional) = match path {
        Some(path) => (path, path == Path::new(PATH_DEFAULT)),
        None => (Path::new(PATH_DEFAULT), true),
    };
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => resolve(&name, &text, overrides, jiff::Timestamp::now()),
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {
            resolve("", "", overrides, jiff::Timestamp::now())
        }
        Err(error) => Err(unreadable(&name, &error)),
    }
}

/// Configuration text → configuration. `name` is the file's, for messages.
pub fn resolve(
    name: &str,
    text: &str,
    overrides: &Overrides,
    now: jiff::Timestamp,
) -> Result<Config, ConfigErrors> {
    let reader = Reader::new(name);
    let file = file::read(&reader, text);
    let mut warnings = Vec::new();
    let paths = file
        .raw
        .map(|raw| raw_paths(&reader, raw, now, &mut warnings))
        .unwrap_or_default();
    let default = Config::default();
    let mut config = Config {
        mode: file.mode.unwrap_or(default.mode),
        policies_explicit: file.policies.is_some(),
        policies: file.policies.unwrap_or(default.policies),
        export: file.export.unwrap_or(default.export),
        spool: Spool {
            dir: file.spool_dir.unwrap_or(default.spool.dir),
            bytes_max: file.spool_bytes_max.unwrap_or(default.spool.bytes_max),
        },
        capture: Capture {
            scope: Scope {
                cgroups: file.scope_cgroups,
                netns: file.scope_netns,
                containers: file.scope_containers,
                exes: file.scope_exes,
            },
            head_bytes_max: narrow(file.head_bytes_max, default.capture.head_bytes_max),
            body_bytes_max: narrow(file.body_bytes_max, default.capture.body_bytes_max),
            ring_bytes: narrow(file.ring_bytes, default.capture.ring_bytes).next_power_of_two(),
            flows_max: narrow(
                file.flows_max.and_then(|flows| u64::try_from(flows).ok()),
                default.capture.flows_max,
            ),
            flow_ends_all: file.flow_ends_all.unwrap_or(default.capture.flow_ends_all),
            tls_probes: file.tls_probes.unwrap_or(default.capture.tls_probes),
            call_timeout: file.call_timeout.unwrap_or(default.capture.call_timeout),
        },
        exempt: Exempt {
            exes: file.exempt_exes,
            cgroups: file.exempt_cgroups,
            defaults: file.exempt_defaults.unwrap_or(default.exempt.defaults),
        },
        trusted_proxies: file.trusted_proxies,
        remote: file.remote.unwrap_or(default.remote),
        descriptors: file.descriptors,
        phi: file.phi,
        redact: Redact {
            paths,
            literals: file.literals,
        },
        on_exit: file.on_exit.unwrap_or(default.on_exit),
        keep_for: file.keep_for.unwrap_or(default.keep_for),
        pins: file.pins.unwrap_or(default.pins),
        prove: Prove {
            at_start: file.prove_at_start.unwrap_or(default.prove.at_start),
            every: file.prove_every.unwrap_or(default.prove.every),
        },
        inventory: Inventory {
            endpoints_max: narrow(
                file.endpoints_max.and_then(|count| u64::try_from(count).ok()),
                default.inventory.endpoints_max,
            ),
            cluster_networks: file.cluster_networks,
            own_networks: file.own_networks,
        },
        vendors: file.vendors,
        control: file.control.unwrap_or(default.control),
        metrics: file.metrics.unwrap_or(default.metrics),
        source: name.to_owned(),
        warnings: Vec::new(),
    };
    let problems = reader.into_problems();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    overrides.apply(&mut config);
    clear_text_warnings(&config, &mut warnings);
    config.warnings = warnings;
    Ok(config)
}

/// Only after the bounds were checked, so that nothing is cut off.
fn narrow(value: Option<u64>, default: u32) -> u32 {
    value
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or(default)
}

fn raw_paths(
    reader: &Reader,
    raw: file::RawPaths,
    now: jiff::Timestamp,
    warnings: &mut Vec<Problem>,
) -> PathRedaction {
    let today = today(now);
    let days = today.until(raw.until).map_or(i32::MAX, |span| span.get_days());
    if days > RAW_PATHS_DAYS_MAX {
        reader.problem(
            errors::OUT_OF_RANGE,
            raw.until_place,
            format!("raw paths are asked for until {}, which is too long", raw.until),
            format!("write a day at most {RAW_PATHS_DAYS_MAX} days ahead, and renew it"),
        );
    } else if days < 0 {
        warnings.push(Problem {
            id: errors::REDACTION_EXPIRED,
            file: reader.file().clone(),
            place: Some(raw.until_place),
            what: format!(
                "raw paths have expired on {}; paths are shown as templates",
                raw.until
            ),
            instead: "remove `redact.paths`, or write a later day".into(),
        });
    }
    PathRedaction::Raw {
        reason: raw.reason,
        until: raw.until,
    }
}

fn today(now: jiff::Timestamp) -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(now).date()
}

/// Events hold no captured value, but they tell who calls what.
fn clear_text_warnings(config: &Config, warnings: &mut Vec<Problem>) {
    for export in &config.export {
        let endpoint = match export {
            Export::Jsonl(_) | Export::Ocsf(_) => continue,
            Export::Collector(collector) => &collector.endpoint,
            Export::Otlp(otlp) => &otlp.endpoint,
        };
        if endpoint.starts_with("http://") && !is_loopback(endpoint) {
            warnings.push(Problem {
                id: errors::CLEAR_TEXT_EXPORT,
                file: Arc::from(config.source.as_str()),
                place: None,
                what: format!("events go to {endpoint} in clear text"),
                instead: "write `https://` and configure `tls`".into(),
            });
        }
    }
}

/// `http[s]://host:port`, completed where scheme or port are missing; `None` if it is no endpoint.
pub(crate) fn parse_endpoint(text: &str, has_tls: bool) -> Option<String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return None,
        None => (if has_tls { "https" } else { "http" }, text),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (format!("[{host}]"), port.strip_prefix(':')?)
        }
        None => {
            let (host, port) = authority.split_once(':')?;
            let fits = !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
            if !fits {
                return None;
            }
            (host.to_owned(), port)
        }
    };
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some(format!("{scheme}://{host}:{port}"))
}

fn is_loopback(endpoint: &str) -> bool {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    match authority.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => authority.split(':').next() == Some("localhost"),
    }
}

/// A file's text, bounded; not UTF-8 is an error too.
pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    use std::os::unix::fs::FileTypeExt;
    // Opening a pipe waits for its writer, and the agent waits for nobody. What a shell hands over is written already.
    let handed_over = path.starts_with("/dev") || path.starts_with("/proc");
    let kind = std::fs::metadata(path)?.file_type();
    if (kind.is_fifo() || kind.is_socket()) && !handed_over {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "it is a pipe or a socket, not a file",
        ));
    }
    let mut bytes = Vec::new();
    let limit = crate::yaml::FILE_BYTES_MAX as u64 + 1;
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    // Cut in the middle of a character, it would look as if it were not UTF-8 instead of too large.
    if bytes.len() as u64 == limit {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "the file is not UTF-8 text"))
}

pub(crate) fn unreadable(name: &str, error: &std::io::Error) -> Problems {
    Problems(vec![Problem {
        id: errors::UNREADABLE_FILE,
        file: name.into(),
        place: None,
        what: format!("the file cannot be read: {error}"),
        instead: "check the path, and that this user may read it".into(),
    }])
}

#[cfg(test)]
mod tests;
