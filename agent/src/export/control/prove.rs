//! Canaries over the control socket: their policy is in force for as long as whoever sends them holds the stream.
//!
//! The agent ends a run by itself too, after a bounded time: here is only the way there.

use std::time::Duration;

use apiward_proto::v1;
use apiward_proto::v1::prove_request::Message as Asks;
use apiward_proto::v1::prove_response::Message as Says;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::super::collector::bounded;
use super::super::command::{Asked, Command, Prove};
use super::super::facts::{CanaryFacts, ProveReady};
use super::{COMMAND_TIMEOUT, Exports};

/// Quadrants that a report may have.
const QUADRANTS_MAX: usize = 16;
/// Between two attempts to tell the agent that a run is over, and how many there are: then its own time ends it.
const AGAIN: Duration = Duration::from_millis(50);
const ATTEMPTS_MAX: usize = 100;

type Sender = mpsc::Sender<Result<v1::ProveResponse, Status>>;

async fn say(sender: &Sender, message: Says) -> bool {
    let response = v1::ProveResponse {
        message: Some(message),
    };
    sender.send(Ok(response)).await.is_ok()
}

/// One run, until its end is asked for, or nobody is there any more.
pub(super) async fn serve(
    exports: Exports,
    who: String,
    mut requests: Streaming<v1::ProveRequest>,
    sender: Sender,
) {
    let Ok(Some(v1::ProveRequest {
        message: Some(Asks::Begin(begin)),
    })) = requests.message().await
    else {
        let _ = sender
            .send(Err(Status::invalid_argument("a run begins with `begin`")))
            .await;
        return;
    };
    let ready = match begun(&exports, &who, begin.reason).await {
        Ok(ready) => ready,
        Err(why) => {
            say(&sender, Says::Impossible(why)).await;
            return;
        }
    };
    let run = ready.cgroup.clone();
    let mut open = say(&sender, Says::Ready(ready.into_wire())).await;
    while open {
        let message = tokio::select! {
            message = requests.message() => message.ok().flatten().and_then(|request| request.message),
            () = sender.closed() => None,
        };
        match message {
            Some(Asks::Settle(_)) => {
                let (reply, told) = oneshot::channel();
                let run = run.clone();
                drop(exports.command(Command::Prove(Prove::Settle { run, reply })));
                open = match tokio::time::timeout(COMMAND_TIMEOUT, told).await {
                    Ok(Ok(told)) => say(&sender, Says::Settled(v1::ProveSettled { told })).await,
                    // Too busy, or the run is over by now: whoever waits for the answer sees the stream end.
                    _ => false,
                };
            }
            Some(Asks::End(end)) => {
                let canaries = end
                    .canaries
                    .into_iter()
                    .take(QUADRANTS_MAX)
                    .map(CanaryFacts::from_wire)
                    .collect();
                let result = ended(&exports, &who, &run, Some(canaries)).await;
                say(&sender, Says::Ended(result)).await;
                return;
            }
            Some(Asks::Begin(_)) | None => open = false,
        }
    }
    ended(&exports, &who, &run, None).await;
}

async fn begun(exports: &Exports, who: &str, reason: String) -> Result<ProveReady, String> {
    let (asked, _) = Asked::new(exports, "canary", who, bounded(reason));
    let (reply, ready) = oneshot::channel();
    // A full queue gives the command back, and dropping it records it as refused.
    drop(exports.command(Command::Prove(Prove::Begin { asked, reply })));
    match tokio::time::timeout(COMMAND_TIMEOUT, ready).await {
        Ok(Ok(ready)) => ready,
        _ => Err("the agent did not answer in time: it is starting, stopping, or overloaded".to_owned()),
    }
}

async fn ended(
    exports: &Exports,
    who: &str,
    run: &str,
    canaries: Option<Vec<CanaryFacts>>,
) -> v1::ControlResult {
    for _ in 0..ATTEMPTS_MAX {
        let reason = match canaries {
            Some(_) => "the canaries have been measured",
            None => "whoever sent the canaries has gone away",
        };
        let (asked, answer) = Asked::new(exports, "canary", who, reason);
        let command = Command::Prove(Prove::End {
            run: run.to_owned(),
            canaries: canaries.clone(),
            asked,
        });
        if exports.command(command).is_err() {
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        if let Ok(Ok(answer)) = tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
            return v1::ControlResult {
                accepted: answer.accepted,
                message: answer.message,
                audit: Some(answer.audit),
            };
        }
        break;
    }
    v1::ControlResult {
        accepted: false,
        message: "the agent did not answer in time; it ends the canaries by itself".to_owned(),
        audit: None,
    }
}
