//! `agents`, `mode`, `policy push`: through the socket of the running collector, or (agents) from its store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use apiward_proto::v1;
use apiward_proto::v1::collector_client::CollectorClient;
use comfy_table::{Table, presets};
use tonic::transport::{Channel, Endpoint};

use super::Output;
use super::run::SOCKET;
use crate::service::plain;
use crate::store::{self, query};

#[derive(clap::Args)]
pub struct AgentsArgs {
    #[command(flatten)]
    data: super::DataArgs,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::Args)]
pub struct ModeArgs {
    /// What the agents shall do.
    #[arg(value_parser = ["observe", "enforce"])]
    mode: String,
    #[command(flatten)]
    to: To,
}

#[derive(clap::Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(clap::Subcommand)]
enum PolicyCommand {
    /// Send policies; they replace what the agents have until they restart or reload their own files.
    Push {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: To,
    },
}

/// Whom a command is for, and why it is given.
#[derive(clap::Args)]
struct To {
    #[command(flatten)]
    data: super::DataArgs,
    /// This agent; may be repeated. Without it, every one that is connected.
    #[arg(long, value_name = "ID")]
    agent: Vec<String>,
    /// Goes into the audit.
    #[arg(long)]
    reason: String,
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl To {
    /// The same store and agents, for a command to paste.
    fn again(&self) -> String {
        let mut words = format!("--data {} ", self.data.data.display());
        for agent in &self.agent {
            words.push_str(&format!("--agent {} ", plain(agent)));
        }
        words
    }
}

/// Speaks to the collector that writes to `data`.
async fn connect(data: &Path) -> Result<CollectorClient<Channel>> {
    let socket = data.join(SOCKET);
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?
        .connect()
        .await
        .with_context(|| {
            format!(
                "no collector answers at {}: is it running, with --data {}, and may you read that directory?",
                socket.display(),
                data.display()
            )
        })?;
    Ok(CollectorClient::new(channel))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

pub fn agents(args: &AgentsArgs) -> Result<ExitCode> {
    let data = &args.data.data;
    let asked = runtime()?.block_on(async {
        let mut client = connect(data).await?;
        let response = client.list_agents(v1::ListAgentsRequest {}).await;
        anyhow::Ok(
            response
                .map_err(|status| anyhow::anyhow!("{}", status.message()))?
                .into_inner()
                .agents,
        )
    });
    let (agents, running) = match asked {
        Ok(agents) => (agents, true),
        // Without a collector the store still tells.
        Err(_) => (query::agents(&store::open_read_only(data)?)?, false),
    };
    match args.output {
        Output::Json => {
            for agent in &agents {
                super::say!("{}", as_json(agent));
            }
        }
        Output::Table => print_agents(&agents, running),
    }
    Ok(ExitCode::SUCCESS)
}

fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "never".to_owned(),
        _ => jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
            .map(|time| format!("{time:.0}"))
            .unwrap_or_default(),
    }
}

fn losses(agent: &v1::Agent) -> Vec<(String, u64)> {
    let mut losses: Vec<(String, u64)> = agent
        .heartbeat
        .iter()
        .flat_map(|heartbeat| heartbeat.losses.clone())
        .filter(|(_, count)| *count > 0)
        .collect();
    losses.sort();
    losses
}

fn print_agents(agents: &[v1::Agent], running: bool) {
    if !running {
        eprintln!("no collector runs here; this is what its store says");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "AGENT",
        "HOST",
        "KERNEL",
        "CONNECTED",
        "LAST SEEN",
        "MODE",
        "EVENTS",
        "LOSSES",
        "MISSING",
    ]);
    for agent in agents {
        let hello = agent.hello.clone().unwrap_or_default();
        let mode = agent
            .heartbeat
            .as_ref()
            .map_or(&hello.mode, |heartbeat| &heartbeat.mode);
        let losses: Vec<String> = losses(agent)
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let missing: Vec<&str> = hello
            .capabilities
            .iter()
            .filter(|one| !one.available)
            .map(|one| one.name.as_str())
            .collect();
        let none = |text: String| {
            if text.is_empty() {
                "none".to_owned()
            } else {
                plain(&text)
            }
        };
        table.add_row([
            plain(&hello.agent_id),
            plain(&hello.host),
            plain(&hello.kernel),
            if agent.connected { "yes" } else { "no" }.to_owned(),
            time(agent.last_seen_ns),
            plain(mode),
            agent.events.to_string(),
            none(losses.join(", ")),
            none(missing.join(", ")),
        ]);
    }
    super::say!("{table}");
}

fn as_json(agent: &v1::Agent) -> serde_json::Value {
    let hello = agent.hello.clone().unwrap_or_default();
    let heartbeat = agent.heartbeat.clone().unwrap_or_default();
    serde_json::json!({
        "agent_id": hello.agent_id,
        "host": hello.host,
        "kernel": hello.kernel,
        "version": hello.agent_version,
        "connected": agent.connected,
        "last_seen": time(agent.last_seen_ns),
        "mode": if heartbeat.mode.is_empty() { &hello.mode } else { &heartbeat.mode },
        "policy_digest": heartbeat.policy_digest,
        "events": agent.events,
        "acknowledged": agent.acknowledged,
        "losses": losses(agent).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "spool_bytes": heartbeat.spool_bytes,
        "guarantees": hello.guarantees.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "capabilities": hello.capabilities.iter().map(|one| serde_json::json!({
            "name": one.name, "available": one.available, "reason": one.reason,
        })).collect::<Vec<_>>(),
        "coverage": heartbeat.coverage.iter().map(|one| serde_json::json!({
            "policy": one.policy, "flows": one.flows, "flows_enforceable": one.flows_enforceable,
            "bytes": one.bytes, "bytes_enforceable": one.bytes_enforceable, "bytes_unseen": one.bytes_unseen,
        })).collect::<Vec<_>>(),
    })
}

pub fn mode(args: &ModeArgs) -> Result<ExitCode> {
    let to = &args.to;
    let results = runtime()?.block_on(async {
        let request = v1::SetAgentsModeRequest {
            agent_ids: to.agent.clone(),
            mode: args.mode.clone(),
            reason: to.reason.clone(),
        };
        told(connect(&to.data.data).await?.set_mode(request).await)
    })?;
    let undo = match args.mode.as_str() {
        "enforce" => format!(
            "to undo: apiward-collector mode observe {}--reason undo; on a host: apiward mode observe",
            to.again()
        ),
        _ => "enforcement is off where it says accepted".to_owned(),
    };
    print_results(&results, to.output, &undo)
}

pub fn policy(args: &PolicyArgs) -> Result<ExitCode> {
    let PolicyCommand::Push { files, to } = &args.command;
    let mut read = Vec::new();
    for path in files {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        read.push(v1::PolicyFile { name, text });
    }
    let results = runtime()?.block_on(async {
        let request = v1::PushPoliciesRequest {
            agent_ids: to.agent.clone(),
            files: read,
            reason: to.reason.clone(),
        };
        told(connect(&to.data.data).await?.push_policies(request).await)
    })?;
    print_results(
        &results,
        to.output,
        &format!(
            "to stop nothing any more: apiward-collector mode observe {}--reason undo; to undo: push the policies of \
             before; on a host: apiward policy undo (what was in force before), apiward policy reload (its own files)",
            to.again()
        ),
    )
}

fn told(
    response: Result<tonic::Response<v1::CommandResponse>, tonic::Status>,
) -> Result<Vec<v1::AgentResult>> {
    match response {
        Ok(response) => Ok(response.into_inner().results),
        Err(status) => bail!("{}", plain(status.message())),
    }
}

fn print_results(results: &[v1::AgentResult], output: Output, undo: &str) -> Result<ExitCode> {
    if results.is_empty() {
        bail!("no agent is connected: nothing was sent");
    }
    for result in results {
        match output {
            Output::Json => super::say!(
                "{}",
                serde_json::json!({ "agent_id": result.agent_id, "accepted": result.accepted, "reason": result.reason })
            ),
            Output::Table => super::say!(
                "{}  {}  {}",
                plain(&result.agent_id),
                if result.accepted { "accepted" } else { "REFUSED" },
                // Several lines, where a policy has several errors.
                result
                    .reason
                    .lines()
                    .map(plain)
                    .collect::<Vec<_>>()
                    .join("\n    ")
            ),
        }
    }
    let accepted = results.iter().filter(|result| result.accepted).count();
    if output == Output::Table {
        super::say!(
            "{accepted} of {} accepted{}{undo}",
            results.len(),
            if accepted > 0 { "; " } else { ". Nothing to undo; " }
        );
    }
    Ok(if accepted == results.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
