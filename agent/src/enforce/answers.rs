//! Requests that the gate has kept from a server of this host, and what their clients get instead.
//!
//! The application never had the whole request, so nothing can come of it, and nobody has to be cut off in the middle of
//! a response: the client is answered, and the connection closed in good order. Answers of the application to earlier
//! requests go out first; an answer that cannot be given becomes a reset, which says so.
//!
//! Pure: time comes in the records. It must not do anything itself.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{GateError, Outcome, Stats, note};
use crate::call::{ApiCall, CallId};
use crate::capture::{FlowEnd, FlowId, FlowInfo, KernelTime, Process};
use crate::policy::{Action, Guarantee, Verdict};

/// Connections that wait for their answer or their end. Beyond it, the oldest is reset.
const CONNECTIONS_MAX: usize = 8_192;
/// How long answers of the application to earlier requests are waited for.
const EARLIER_WAIT_NS: u64 = 5_000_000_000;
/// How long the client may take to close an answered connection.
const CLOSE_WAIT_NS: u64 = 1_000_000_000;
/// How long a connection is remembered whose end nobody tells.
const END_WAIT_NS: u64 = 60_000_000_000;
/// How long it is looked for who holds a connection that nobody has accepted yet.
const ACCEPT_WAIT_NS: u64 = 200_000_000;

/// How long the first look for him is waited with, and later ones at most: each time twice as long.
const RETRY_FIRST_NS: u64 = 250_000;
const RETRY_MAX_NS: u64 = 8_000_000;

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Step {
    /// Tell the client, and close the sending direction.
    Answer {
        call: CallId,
        flow: Arc<FlowInfo>,
        process: Arc<Process>,
    },
    Destroy {
        flow: Arc<FlowInfo>,
    },
    Kill {
        flow: FlowId,
        process: Arc<Process>,
        seen_at: KernelTime,
    },
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Earlier requests are being answered.
    Behind,
    /// Nobody has the socket open yet.
    Unaccepted,
    Asked,
    Answered,
    Reset,
}

struct Connection {
    call: CallId,
    flow: Arc<FlowInfo>,
    process: Arc<Process>,
    require: Option<Guarantee>,
    /// Behind the head's last byte: as long as TCP has not taken that in, nobody has the request.
    head_end: Option<u32>,
    /// Why the client gets no answer; empty if it does.
    unanswered: String,
    /// What the answer took of the server's direction.
    answer_bytes: u32,
    state: State,
    /// Requests before it whose answers go out first.
    earlier: u32,
    /// Allowed requests that were lost with it.
    collateral: u32,
    since: KernelTime,
    /// When it is looked for again who holds it, and how long after that the next time (ns).
    retry_at: KernelTime,
    retry_ns: u64,
    /// What became of the kill that the rule asks for.
    killed: Option<Result<(), GateError>>,
    told: bool,
}

/// The connections that the gate has stopped on their way in.
#[derive(Default)]
pub struct Answers {
    connections: HashMap<FlowId, Connection>,
    order: VecDeque<FlowId>,
    /// Those that nobody has open yet.
    unaccepted: Vec<FlowId>,
    finished: Vec<(CallId, Outcome)>,
    stats: Stats,
}

impl Answers {
    /// Takes a request in that was stopped.
    pub fn on_stopped(&mut self, at: KernelTime, call: &ApiCall, verdict: &Verdict) -> Vec<Step> {
        let mut steps = self.make_room();
        self.stats.denied += 1;
        let flow = call.flow.id;
        let has_socket = call.flow.carrier.is_some();
        if has_socket && self.connections.contains_key(&flow) {
            return steps;
        }
        let earlier = call.stopped.map_or(0, |decision| decision.earlier);
        let state = match earlier {
            0 => State::Asked,
            _ => State::Behind,
        };
        let connection = Connection {
            call: call.id,
            flow: call.flow.clone(),
            process: call.process.clone(),
            require: verdict.require,
            head_end: call.head_end,
            unanswered: String::new(),
            answer_bytes: 0,
            state,
            earlier,
            collateral: call.stopped.map_or(0, |decision| decision.collateral),
            since: at,
            retry_at: at,
            retry_ns: RETRY_FIRST_NS,
            killed: None,
            told: false,
        };
        if !has_socket {
            let mut connection = connection;
            connection.unanswered =
                "the connection was not established yet, and ends by its own timeouts".to_owned();
            self.finish(connection.call, connection.outcome(None));
            return steps;
        }
        if state == State::Asked {
            steps.push(connection.answer());
        }
        // After the answer: it takes the process's socket.
        if verdict.action == Action::Kill {
            steps.push(Step::Kill {
                flow,
                process: call.process.clone(),
                seen_at: call.request.head_at,
            });
        }
        self.order.push_back(flow);
        self.connections.insert(flow, connection);
        steps
    }

    /// The application has answered a request on the connection.
    pub fn on_application(&mut self, flow: FlowId) -> Option<Step> {
        let connection = self.connections.get_mut(&flow)?;
        if connection.state != State::Behind {
            return None;
        }
        connection.earlier = connection.earlier.saturating_sub(1);
        (connection.earlier == 0).then(|| {
            connection.state = State::Asked;
            connection.answer()
        })
    }

    /// What became of an answer.
    pub fn on_answered(
        &mut self,
        at: KernelTime,
        flow: FlowId,
        result: Result<u32, GateError>,
    ) -> Option<Step> {
        let connection = self.connections.get_mut(&flow)?;
        match result {
            Ok(bytes) => {
                connection.answer_bytes = bytes;
                connection.state = State::Answered;
                connection.since = at;
                None
            }
            // It will be, unless the application is stuck.
            Err(GateError::Gone) if connection.state == State::Asked => {
                connection.state = State::Unaccepted;
                connection.look_later(at);
                self.unaccepted.push(flow);
                None
            }
            Err(GateError::Gone) if at.since(connection.since) < ACCEPT_WAIT_NS => {
                connection.look_later(at);
                None
            }
            Err(error) => {
                connection.unanswered = match error {
                    GateError::Gone => "no process has accepted the connection".to_owned(),
                    GateError::Failed(why) => why,
                };
                connection.state = State::Reset;
                Some(connection.destroy())
            }
        }
    }

    /// Bytes that went out on a connection in its server's place.
    pub fn bytes_on(&self, flow: FlowId) -> u32 {
        self.connections
            .get(&flow)
            .map_or(0, |connection| connection.answer_bytes)
    }

    /// What became of a kill.
    pub fn on_killed(&mut self, flow: FlowId, result: Result<(), GateError>) {
        if let Some(connection) = self.connections.get_mut(&flow) {
            self.stats.killed += u64::from(result.is_ok());
            connection.killed = Some(result);
        }
    }

    /// The client has its answer, and closes: the server, which can never take that in, need not wait any longer.
    pub fn on_parted(&mut self, at: KernelTime, flow: FlowId) -> Option<Step> {
        let connection = self.connections.get_mut(&flow)?;
        if connection.state != State::Answered {
            return None;
        }
        connection.state = State::Reset;
        connection.since = at;
        Some(connection.destroy())
    }

    /// The connection has ended.
    pub fn on_closed(&mut self, flow: FlowId, end: &FlowEnd) {
        if let Some(connection) = self.connections.remove(&flow)
            && !connection.told
        {
            self.finish(connection.call, connection.outcome(end.accepted_end));
        }
    }

    /// Time has passed: what should have happened by now is helped along.
    pub fn on_tick(&mut self, at: KernelTime) -> Vec<Step> {
        let mut steps = Vec::new();
        for connection in self.connections.values_mut() {
            let waited = at.since(connection.since);
            match connection.state {
                State::Behind if waited >= EARLIER_WAIT_NS => {
                    connection.state = State::Reset;
                    connection.unanswered =
                        "an earlier request on the connection was not answered in time".to_owned();
                    steps.push(connection.destroy());
                }
                State::Answered if waited >= CLOSE_WAIT_NS => {
                    connection.state = State::Reset;
                    steps.push(connection.destroy());
                }
                _ => {}
            }
        }
        self.connections
            .retain(|_, connection| !connection.told || at.since(connection.since) < END_WAIT_NS);
        steps
    }

    /// Connections whose outcome has waited long enough for their end, or `all`: see [`Answers::tell`].
    pub fn due(&self, at: KernelTime, all: bool) -> Vec<Arc<FlowInfo>> {
        let decided = |state| matches!(state, State::Asked | State::Answered | State::Reset);
        self.connections
            .values()
            .filter(|connection| !connection.told)
            .filter(|connection| {
                all || (decided(connection.state) && at.since(connection.since) >= CLOSE_WAIT_NS)
            })
            .map(|connection| connection.flow.clone())
            .collect()
    }

    /// Tells a connection's outcome before its end. `accepted`: how far TCP has taken bytes in.
    pub fn tell(&mut self, flow: FlowId, accepted: Option<u32>) {
        if let Some(connection) = self.connections.get_mut(&flow) {
            connection.told = true;
            let (call, outcome) = (connection.call, connection.outcome(accepted));
            self.finish(call, outcome);
        }
    }

    /// Connections that nobody has open yet are looked for again, if it is time.
    pub fn retry(&mut self, at: KernelTime) -> Vec<Step> {
        let connections = &self.connections;
        self.unaccepted.retain(|flow| {
            connections
                .get(flow)
                .is_some_and(|connection| connection.state == State::Unaccepted)
        });
        self.waiting()
            .filter(|connection| connection.retry_at <= at)
            .map(Connection::answer)
            .collect()
    }

    /// Nanoseconds until somebody should [`Answers::retry`].
    pub fn retry_in(&self, at: KernelTime) -> Option<u64> {
        self.waiting()
            .map(|connection| connection.retry_at.since(at))
            .min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Connection> {
        self.unaccepted
            .iter()
            .filter_map(|flow| self.connections.get(flow))
            .filter(|connection| connection.state == State::Unaccepted)
    }

    /// Outcomes that have become known.
    pub fn finished(&mut self) -> Vec<(CallId, Outcome)> {
        std::mem::take(&mut self.finished)
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn finish(&mut self, call: CallId, outcome: Outcome) {
        self.stats.count(outcome.guarantee);
        self.finished.push((call, outcome));
    }

    fn make_room(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while self.connections.len() >= CONNECTIONS_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(mut connection) = self.connections.remove(&oldest) {
                connection.unanswered = "too many connections are being closed at once".to_owned();
                steps.push(connection.destroy());
                if !connection.told {
                    self.finish(connection.call, connection.outcome(None));
                }
            }
        }
        if self.order.len() >= 2 * CONNECTIONS_MAX {
            let connections = &self.connections;
            self.order.retain(|flow| connections.contains_key(flow));
        }
        steps
    }
}

impl Connection {
    fn look_later(&mut self, at: KernelTime) {
        self.retry_at = KernelTime(at.0.saturating_add(self.retry_ns));
        self.retry_ns = (2 * self.retry_ns).min(RETRY_MAX_NS);
    }

    fn answer(&self) -> Step {
        Step::Answer {
            call: self.call,
            flow: self.flow.clone(),
            process: self.process.clone(),
        }
    }

    fn destroy(&self) -> Step {
        Step::Destroy {
            flow: self.flow.clone(),
        }
    }

    /// Whoever takes the head in has to take its last byte in, so TCP's own number decides: `prevented` is said only if
    /// it has not come so far. The gate drops what comes on a dead connection, so it never will.
    fn outcome(&self, accepted: Option<u32>) -> Outcome {
        let mut shortfall = String::new();
        let guarantee = match (accepted, self.head_end) {
            (Some(accepted), Some(head_end)) if (accepted.wrapping_sub(head_end) as i32) < 0 => {
                Guarantee::Prevented
            }
            (Some(_), Some(_)) => {
                note(&mut shortfall, "all that the client had sent of it was taken in");
                Guarantee::Cut
            }
            _ => {
                note(
                    &mut shortfall,
                    "the gate dropped it, and how much TCP had taken in could not be measured",
                );
                Guarantee::Observed
            }
        };
        if !self.unanswered.is_empty() {
            note(
                &mut shortfall,
                &format!("the client got no answer: {}", self.unanswered),
            );
        }
        if let Some(Err(error)) = &self.killed {
            note(&mut shortfall, &format!("the process was not killed: {error}"));
        }
        if let Some(require) = self.require.filter(|require| guarantee < *require) {
            note(&mut shortfall, &format!("the rule requires {}", require.as_str()));
        }
        Outcome {
            guarantee,
            would_be: None,
            killed: matches!(self.killed, Some(Ok(()))),
            collateral: self.collateral,
            shortfall,
        }
    }
}
