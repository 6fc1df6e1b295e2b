//! `report inventory`: the endpoints of all hosts together, a page for each application that can be read without a
//! console, or JSON.
//!
//! An endpoint's newest word replaces the older ones of the same agent; the same endpoint on several hosts is added up.
//! `page` puts it on paper. It must not know how endpoints are learnt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use apiward_proto::{json, v1};

use super::duration;
use crate::store::now_ns;
use crate::store::query::{self, Filter};

mod page;

#[cfg(test)]
mod tests;

/// Endpoints that are held together.
const ENDPOINTS_MAX: usize = 200_000;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The endpoints of all hosts, by application.
    Inventory(InventoryArgs),
}

#[derive(clap::Args)]
pub struct InventoryArgs {
    #[command(flatten)]
    data: super::DataArgs,
    /// What was told within this time: 10m, 2h, 7d.
    #[arg(long, value_parser = duration)]
    since: Option<Duration>,
    /// Of this agent.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Applications whose name contains this.
    #[arg(long, value_name = "TEXT")]
    application: Option<String>,
    /// `html`: one page an application, and an index, into --out. `json`: one object.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where pages go; for JSON a file, or standard output without it.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Html,
    Json,
}

/// One application: what is called the same on every host.
#[derive(Default)]
struct Application {
    agents: BTreeSet<String>,
    endpoints: Vec<v1::Endpoint>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let Command::Inventory(args) = &args.command;
    let (applications, beyond) = read(args)?;
    match (args.format, &args.out) {
        (Format::Json, None) => say!("{}", as_json(&applications)),
        (Format::Json, Some(path)) => write(path, &as_json(&applications))?,
        (Format::Html, out) => {
            let out = out.as_deref().unwrap_or(Path::new("apiward-inventory"));
            fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
            let names = file_names(&applications);
            for (name, application) in &applications {
                write(&out.join(&names[name]), &page::application(name, application))?;
            }
            write(&out.join("index.html"), &page::index(&applications, &names))?;
            say!("{}", out.join("index.html").display());
        }
    }
    if beyond > 0 {
        eprintln!("apiward-collector: {beyond} endpoints found no room: ask for one agent, or less time");
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &InventoryArgs) -> Result<(BTreeMap<String, Application>, u64)> {
    let since = args
        .since
        .map(|since| now_ns().saturating_sub(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)));
    // By agent: ids are an agent's own, and so is what replaces what.
    let agents = query::agents(&crate::store::open_read_only(&args.data.data)?)?;
    let names = agents
        .into_iter()
        .filter_map(|agent| agent.hello)
        .map(|hello| hello.agent_id);
    let mut merged: BTreeMap<String, Application> = BTreeMap::new();
    let mut beyond = 0;
    for agent in names.filter(|name| args.agent.as_ref().is_none_or(|wanted| wanted == name)) {
        let filter = Filter {
            since_ns: since,
            agent: Some(agent.clone()),
            kinds: vec!["inventory".to_owned()],
            ..Filter::default()
        };
        let mut newest: HashMap<u64, v1::Endpoint> = HashMap::new();
        query::events(&args.data.data, &filter, &mut |event| {
            if let Some(v1::event::Kind::Inventory(told)) = event.kind {
                beyond += apply(&mut newest, told);
            }
            true
        })?;
        for endpoint in newest.into_values() {
            let name = application(&endpoint);
            if args
                .application
                .as_ref()
                .is_some_and(|wanted| !name.contains(wanted.as_str()))
            {
                continue;
            }
            let application = merged.entry(name).or_default();
            application.agents.insert(agent.clone());
            add(&mut application.endpoints, endpoint);
        }
    }
    for application in merged.values_mut() {
        application
            .endpoints
            .sort_by(|one, other| key(one).cmp(&key(other)));
    }
    Ok((merged, beyond))
}

/// Takes an event's word; how many endpoints found no room.
fn apply(newest: &mut HashMap<u64, v1::Endpoint>, told: v1::Inventory) -> u64 {
    for gone in &told.gone {
        newest.remove(gone);
    }
    let mut beyond = 0;
    for endpoint in told.endpoints {
        if newest.len() >= ENDPOINTS_MAX && !newest.contains_key(&endpoint.id) {
            beyond += 1;
        } else {
            newest.insert(endpoint.id, endpoint);
        }
    }
    beyond
}

/// What is the same on every host: the unit or the program, without a container's id.
fn application(endpoint: &v1::Endpoint) -> String {
    let Some(workload) = &endpoint.workload else {
        return "unknown".to_owned();
    };
    let program = workload.exe.rsplit('/').next().unwrap_or_default();
    match workload.container_id.is_empty() {
        true => workload.name.clone(),
        false => program.to_owned(),
    }
}

type Key<'a> = (i32, &'a str, &'a str, bool, &'a str, &'a str, &'a str);

fn key(endpoint: &v1::Endpoint) -> Key<'_> {
    (
        endpoint.direction,
        &endpoint.protocol,
        &endpoint.host,
        endpoint.unmatched,
        &endpoint.path,
        &endpoint.method,
        &endpoint.operation,
    )
}

/// The same endpoint of several hosts is one.
fn add(endpoints: &mut Vec<v1::Endpoint>, endpoint: v1::Endpoint) {
    match endpoints.iter_mut().find(|known| key(known) == key(&endpoint)) {
        Some(known) => merge(known, endpoint),
        None => endpoints.push(endpoint),
    }
}

/// What agents say is bounded by nothing but its type.
fn sum(known: &mut u64, more: u64) {
    *known = known.saturating_add(more);
}

fn merge(known: &mut v1::Endpoint, mut other: v1::Endpoint) {
    merge_fields(known, &mut other);
    known.first_ns = known.first_ns.min(other.first_ns);
    known.last_ns = known.last_ns.max(other.last_ns);
    sum(&mut known.denied, other.denied);
    known.addresses = known.addresses.max(other.addresses);
    sum(&mut known.parameters_hidden, other.parameters_hidden);
    sum(&mut known.data_others, other.data_others);
    let (ours, more) = (
        known.statuses.get_or_insert_default(),
        other.statuses.unwrap_or_default(),
    );
    sum(&mut ours.none, more.none);
    sum(&mut ours.informational, more.informational);
    sum(&mut ours.success, more.success);
    sum(&mut ours.redirection, more.redirection);
    sum(&mut ours.client_error, more.client_error);
    sum(&mut ours.server_error, more.server_error);
    for (ours, more) in [
        (&mut known.auth, other.auth),
        (&mut known.tls, other.tls),
        (&mut known.callers, other.callers),
        (&mut known.peers, other.peers),
        (&mut known.ports, other.ports),
        (&mut known.apis, other.apis),
        (&mut known.findings, other.findings),
        (&mut known.request_media, other.request_media),
        (&mut known.response_media, other.response_media),
    ] {
        for count in more {
            match ours.iter_mut().find(|one| one.name == count.name) {
                Some(one) => sum(&mut one.count, count.count),
                None => ours.push(count),
            }
        }
    }
    for parameter in other.parameters {
        match known
            .parameters
            .iter_mut()
            .find(|one| one.name == parameter.name && one.place == parameter.place)
        {
            Some(one) => {
                sum(&mut one.calls, parameter.calls);
                for kind in parameter.types {
                    if !one.types.contains(&kind) {
                        one.types.push(kind);
                    }
                }
            }
            None => known.parameters.push(parameter),
        }
    }
    for data in other.data {
        match known
            .data
            .iter_mut()
            .find(|one| one.class == data.class && one.part == data.part && one.location == data.location)
        {
            Some(one) => {
                sum(&mut one.calls, data.calls);
                sum(&mut one.count, data.count);
            }
            None => known.data.push(data),
        }
    }
    for (ours, more) in [
        (&mut known.request_bytes, other.request_bytes),
        (&mut known.response_bytes, other.response_bytes),
        (&mut known.latency_ns, other.latency_ns),
    ] {
        let ours = ours.get_or_insert_default();
        let more = more.unwrap_or_default();
        ours.sum = ours.sum.saturating_add(more.sum);
        let mut all: BTreeMap<u32, u64> = ours
            .buckets
            .iter()
            .copied()
            .zip(ours.counts.iter().copied())
            .collect();
        for (bucket, count) in more.buckets.into_iter().zip(more.counts) {
            sum(all.entry(bucket).or_default(), count);
        }
        (ours.buckets, ours.counts) = all.into_iter().unzip();
    }
}

fn merge_fields(known: &mut v1::Endpoint, other: &mut v1::Endpoint) {
    sum(&mut known.fields_others, other.fields_others);
    // What the one has in each of its bodies and the other in none is not always there.
    let bodies = |one: &v1::Endpoint, part: &str| match part {
        "request.body" => one.request_bodies,
        _ => one.response_bodies,
    };
    let lacks = |list: &[v1::BodyField], field: &v1::BodyField| {
        !list
            .iter()
            .any(|one| one.part == field.part && one.location == field.location)
    };
    let more = bodies(other, "request.body") > 0 || bodies(other, "response.body") > 0;
    for field in known.fields.iter_mut().filter(|_| more) {
        field.always &= !lacks(&other.fields, field) || bodies(other, &field.part) == 0;
    }
    for field in std::mem::take(&mut other.fields) {
        let same = |one: &&mut v1::BodyField| one.part == field.part && one.location == field.location;
        match known.fields.iter_mut().find(same) {
            Some(one) => {
                sum(&mut one.calls, field.calls);
                one.always &= field.always;
                for kind in field.types {
                    if !one.types.contains(&kind) {
                        one.types.push(kind);
                    }
                }
            }
            None => {
                let always = field.always && bodies(known, &field.part) == 0;
                known.fields.push(v1::BodyField { always, ..field });
            }
        }
    }
    sum(&mut known.request_bodies, other.request_bodies);
    sum(&mut known.response_bodies, other.response_bodies);
}

fn as_json(applications: &BTreeMap<String, Application>) -> String {
    let mut text = b"{\"applications\":[".to_vec();
    for (index, (name, application)) in applications.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        let head = serde_json::json!({ "application": name, "agents": application.agents });
        let mut head = head.to_string();
        head.pop();
        text.extend_from_slice(b"\n");
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(b",\"endpoints\":[");
        for (index, endpoint) in application.endpoints.iter().enumerate() {
            text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
            json::endpoint(endpoint, &mut text);
        }
        text.extend_from_slice(b"]}");
    }
    text.extend_from_slice(b"\n]}");
    String::from_utf8_lossy(&text).into_owned()
}

/// A file for each application: letters, digits and `-` of its name, and a number where two would be the same.
fn file_names(applications: &BTreeMap<String, Application>) -> BTreeMap<String, String> {
    let mut taken = BTreeSet::from(["index.html".to_owned()]);
    let mut names = BTreeMap::new();
    for name in applications.keys() {
        let slug: String = name
            .chars()
            .take(80)
            .map(|one| if one.is_ascii_alphanumeric() { one } else { '-' })
            .collect();
        let mut file = format!("{slug}.html");
        let mut number = 1;
        while !taken.insert(file.to_ascii_lowercase()) {
            number += 1;
            file = format!("{slug}-{number}.html");
        }
        names.insert(name.clone(), file);
    }
    names
}

/// For its owner: it tells who calls what.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
