//! What the command line may say instead of the file.

use std::path::PathBuf;

use super::{Collector, Config, Export, JsonlTarget, Otlp};
use crate::policy::Mode;
use crate::yaml::quote;

/// Flags that win over the file. Lists that are given replace the file's.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Overrides {
    /// observe or enforce.
    #[arg(long, value_parser = parse_mode)]
    pub mode: Option<Mode>,
    /// Policy file or glob; may be repeated.
    #[arg(long = "policy", value_name = "GLOB")]
    pub policies: Vec<String>,
    /// Where events go: jsonl=FILE, jsonl=-, ocsf=FILE, collector=ENDPOINT or otlp=ENDPOINT; may be repeated.
    #[arg(long, value_name = "KIND=TARGET", value_parser = parse_export)]
    pub export: Vec<Export>,
    /// What is seen: cgroup=DIR, netns=FILE, container=ID or exe=GLOB; may be repeated.
    #[arg(long, value_name = "KIND=VALUE", value_parser = parse_scope)]
    pub scope: Vec<ScopeItem>,
    /// Directory of the spool.
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// The local socket's path.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Address for metrics, or off.
    #[arg(long, value_name = "ADDR", value_parser = parse_metrics)]
    pub metrics: Option<Listen>,
}

/// One item of `--scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeItem {
    Cgroup(PathBuf),
    Netns(PathBuf),
    Container(String),
    Exe(String),
}

/// An address, or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<std::net::SocketAddr>);

impl Overrides {
    pub(super) fn apply(&self, config: &mut Config) {
        if let Some(mode) = self.mode {
            config.mode = mode;
        }
        if !self.policies.is_empty() {
            config.policies.clone_from(&self.policies);
            config.policies_explicit = true;
        }
        if !self.export.is_empty() {
            config.export.clone_from(&self.export);
        }
        if !self.scope.is_empty() {
            let scope = &mut config.capture.scope;
            *scope = super::Scope::default();
            for item in &self.scope {
                match item.clone() {
                    ScopeItem::Cgroup(dir) => scope.cgroups.push(dir),
                    ScopeItem::Netns(file) => scope.netns.push(file),
                    ScopeItem::Container(id) => scope.containers.push(id),
                    ScopeItem::Exe(glob) => scope.exes.push(glob),
                }
            }
        }
        if let Some(dir) = &self.spool {
            config.spool.dir.clone_from(dir);
        }
        if let Some(path) = &self.control {
            config.control.clone_from(path);
        }
        if let Some(Listen(address)) = self.metrics {
            config.metrics = address;
        }
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "observe" => Ok(Mode::Observe),
        "enforce" => Ok(Mode::Enforce),
        other => Err(format!(
            "{} is no mode: write `observe` or `enforce`",
            quote(other)
        )),
    }
}

fn parse_export(text: &str) -> Result<Export, String> {
    match text.split_once('=') {
        Some(("jsonl", "-")) => Ok(Export::Jsonl(JsonlTarget::Stdout)),
        Some(("ocsf", "-")) => Ok(Export::Ocsf(JsonlTarget::Stdout)),
        // Who types a path means it from where they are; the agent may move elsewhere.
        Some((form @ ("jsonl" | "ocsf"), file)) if !file.is_empty() => std::path::absolute(file)
            .map(|file| match form {
                "ocsf" => Export::Ocsf(JsonlTarget::File(file)),
                _ => Export::Jsonl(JsonlTarget::File(file)),
            })
            .map_err(|error| format!("{} is no file: {error}", quote(file))),
        Some(("collector", endpoint)) => super::parse_endpoint(endpoint, false)
            .map(|endpoint| {
                Export::Collector(Collector {
                    endpoint,
                    tls: None,
                    agent_id: None,
                })
            })
            .ok_or_else(|| format!("{} is no endpoint: write `http://host:port`", quote(endpoint))),
        Some(("otlp", endpoint)) => super::parse_endpoint(endpoint, false)
            .map(|endpoint| {
                Export::Otlp(Otlp {
                    endpoint,
                    tls: None,
                    headers: Vec::new(),
                    gzip: false,
                })
            })
            .ok_or_else(|| format!("{} is no endpoint: write `http://host:port`", quote(endpoint))),
        _ => Err(format!(
            "{} is no exporter: write `jsonl=FILE`, `ocsf=FILE`, `collector=http://host:port` or `otlp=http://host:port`",
            quote(text)
        )),
    }
}

fn parse_scope(text: &str) -> Result<ScopeItem, String> {
    match text.split_once('=') {
        Some(("cgroup", dir)) if dir.starts_with('/') => Ok(ScopeItem::Cgroup(dir.into())),
        Some(("netns", file)) if file.starts_with('/') => Ok(ScopeItem::Netns(file.into())),
        Some(("container", id))
            if (12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            Ok(ScopeItem::Container(id.to_ascii_lowercase()))
        }
        Some(("exe", glob)) if globset::Glob::new(glob).is_ok() => Ok(ScopeItem::Exe(glob.into())),
        _ => Err(format!(
            "{} is no scope: write `cgroup=/DIR`, `netns=/FILE`, `container=ID` (12 to 64 hex digits) or `exe=GLOB`",
            quote(text)
        )),
    }
}

fn parse_metrics(text: &str) -> Result<Listen, String> {
    match text {
        "off" => Ok(Listen(None)),
        address => address
            .parse()
            .map(|address| Listen(Some(address)))
            .map_err(|_| format!("{} is no address: write `127.0.0.1:9464` or `off`", quote(text))),
    }
}
