//! `apiward watch`: the local agent's calls as they happen.
//!
//! Everything that has come is printed in one write, so a busy host costs a write a batch and not one a line. The
//! agent waits for nobody: where this terminal is slower than the traffic, it counts what it leaves out, and the
//! count stands in the line of losses. `line` makes the lines, `view` what stands below them, `filter` chooses; here
//! is what moves.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use apiward_proto::v1;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{self, Agent};
use super::print::{self, Color, Paper, Style};
use super::{AgentArgs, Output};
use filter::Filter;
use view::Before;

pub mod filter;
pub mod line;
mod view;

/// Messages printed together: a bound for the memory, above what waits at any time.
const BATCH_MESSAGES_MAX: usize = 64;
/// Without a call for so long it is quiet, and the reason is told.
const QUIET_AFTER: Duration = Duration::from_secs(3);

/// Show live calls of the local agent.
#[derive(clap::Args)]
#[command(after_help = "\
→ a call that the process made, ← one that it served. Ends with Ctrl-C (exit code 0), or with exit code 1 when the \
agent stops. JSON lines are those of the agent's `jsonl` exporter; losses and blind spots then go to standard error.")]
pub struct Args {
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    filter: Filter,
    /// When to colour.
    #[arg(long, value_enum, default_value_t)]
    color: Color,
}

pub fn run(args: Args) -> Result<ExitCode> {
    client::block_on(async {
        let mut agent = Agent::connect(&args.agent).await?;
        let mut stream = agent.watch().await?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut screen = Screen::new(args.agent.output, args.color.is_on(), args.filter);
        let end = loop {
            let message = tokio::select! {
                biased;
                _ = interrupt.recv() => break End::Asked,
                _ = terminate.recv() => break End::Asked,
                message = stream.message() => message,
            };
            let mut next = Some(message);
            let mut ended = None;
            // What has come already belongs to the same write.
            for _ in 0..BATCH_MESSAGES_MAX {
                match next.take() {
                    Some(Ok(Some(message))) => screen.take(message),
                    Some(Ok(None) | Err(_)) => {
                        ended = Some(End::AgentGone);
                        break;
                    }
                    None => break,
                }
                next = tokio::select! {
                    biased;
                    message = stream.message() => Some(message),
                    () = std::future::ready(()) => None,
                };
            }
            match screen.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                Err(error) => return Err(error.into()),
            }
            if let Some(end) = ended {
                break end;
            }
        };
        let _ = screen.close();
        Ok(match end {
            End::Asked => ExitCode::SUCCESS,
            End::AgentGone => {
                let _ = writeln!(
                    io::stderr(),
                    "apiward: the agent has stopped; `apiward watch` shows calls again once it runs"
                );
                ExitCode::FAILURE
            }
        })
    })
}

enum End {
    /// By Ctrl-C or SIGTERM.
    Asked,
    AgentGone,
}

/// What has been shown, and what is about to be.
struct Screen {
    output: Output,
    filter: Filter,
    zone: TimeZone,
    /// A line at the bottom can be redrawn.
    is_live: bool,
    is_colored: bool,
    /// To be written.
    paper: Paper,
    json: Vec<u8>,
    /// The line of losses and blind spots, as last told.
    standing: String,
    status: Option<v1::Status>,
    /// The bottom line is on the screen now.
    is_drawn: bool,
    shown_at: Instant,
    before: Before,
    /// The reason for silence, as last told.
    quiet: String,
    /// For the rate.
    rated: Option<(Instant, u64)>,
    rate: f64,
}

impl Screen {
    fn new(output: Output, is_colored: bool, filter: Filter) -> Self {
        let is_live = output == Output::Table
            && io::stdout().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let mut paper = Paper::new(is_colored);
        if output == Output::Table {
            line::heading(&mut paper);
        }
        Screen {
            output,
            filter,
            zone: TimeZone::system(),
            is_live,
            is_colored,
            paper,
            json: Vec::new(),
            standing: String::new(),
            status: None,
            is_drawn: false,
            shown_at: Instant::now(),
            before: Before::default(),
            quiet: String::new(),
            rated: None,
            rate: 0.0,
        }
    }

    fn take(&mut self, message: v1::WatchResponse) {
        match message.message {
            Some(v1::watch_response::Message::Events(batch)) => {
                for event in &batch.events {
                    self.event(event);
                }
            }
            Some(v1::watch_response::Message::Status(status)) => self.status(status),
            None => {}
        }
    }

    fn event(&mut self, event: &v1::Event) {
        if !self.filter.shows(event) {
            return;
        }
        if matches!(event.kind, Some(v1::event::Kind::Call(_))) {
            self.shown_at = Instant::now();
            self.quiet.clear();
        }
        match self.output {
            Output::Table => line::event(&mut self.paper, event, &self.zone),
            Output::Json => apiward_proto::json::line(event, &mut self.json),
        }
    }

    fn status(&mut self, status: v1::Status) {
        let now = Instant::now();
        if let Some((at, calls)) = self.rated {
            let passed = now.duration_since(at).as_secs_f64();
            if passed > 0.0 {
                self.rate = status.calls.saturating_sub(calls) as f64 / passed;
            }
        }
        self.rated = Some((now, status.calls));
        let standing = view::standing(&status);
        if !self.is_live && standing != self.standing {
            self.aside(&standing);
        }
        self.standing = standing;
        let is_first = self.status.is_none();
        if is_first || self.shown_at.elapsed() < QUIET_AFTER {
            self.before = Before::of(&status);
        }
        // At once at the start, so that nobody looks at an empty screen and wonders.
        if is_first || self.shown_at.elapsed() >= QUIET_AFTER {
            let reason = view::quiet(&status, self.before, !self.filter.is_open());
            // Numbers in it change; the same words are not told again.
            let words: String = reason.chars().filter(|one| !one.is_ascii_digit()).collect();
            if words != self.quiet && !(is_first && status.calls > 0) {
                self.aside(&reason);
                self.quiet = words;
            }
        }
        self.status = Some(status);
    }

    /// A remark between the calls; beside them where they are for machines.
    fn aside(&mut self, text: &str) {
        match self.output {
            Output::Table => {
                self.paper
                    .styled(Style::Dim, "-- ")
                    .styled(Style::Dim, text)
                    .end();
            }
            Output::Json => {
                let mut paper = Paper::new(false);
                paper.line(text);
                // Who reads the lines alone may have closed it.
                let _ = io::stderr().write_all(paper.as_str().as_bytes());
            }
        }
    }

    /// Everything in one write, with the bottom line below it.
    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.output == Output::Json {
            out.write_all(&self.json)?;
            self.json.clear();
            return out.flush();
        }
        let mut text = String::with_capacity(self.paper.as_str().len() + 256);
        if self.is_drawn {
            text.push_str(ERASE_LINE);
        }
        text.push_str(self.paper.as_str());
        self.paper.clear();
        if let Some(status) = self.status.as_ref().filter(|_| self.is_live) {
            let mut bottom = Paper::new(self.is_colored);
            let words = format!(
                "{} · {:.0}/s · {}",
                print::plural(status.calls, "call"),
                self.rate,
                self.standing
            );
            let width = print::terminal_width().saturating_sub(1);
            bottom.styled(Style::Bold, &print::shortened(&words, width));
            text.push_str(bottom.as_str());
            self.is_drawn = true;
        }
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The bottom line goes, and stays once as a line of its own.
    fn close(&mut self) -> io::Result<()> {
        if self.is_drawn {
            self.is_drawn = false;
            io::stdout().lock().write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Back to the start of the line, and nothing on it.
const ERASE_LINE: &str = "\r\x1b[2K";
