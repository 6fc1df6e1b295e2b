//! Events as JSON lines, into a file or to standard output.
//!
//! A line is whole or not there: what a full disk, or the end of an agent, cut off is taken back, or ended with a line
//! feed where it cannot be. A file that was moved away (log rotation) is opened anew. Whatever could not be written is
//! counted, and tried no second time: the spool is for what must arrive, this is for what is looked at.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use apiward_proto::ocsf;
use prost::Message;

use super::Event;
use super::batch::Batch;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Stdout,
    /// Appended to; made for its owner alone.
    File(PathBuf),
}

/// What a line is.
#[derive(Debug)]
enum Form {
    /// The agent's own, one for each event: as the batch has it.
    Own,
    /// Of the Open Cybersecurity Schema Framework: records, of which an event can have several.
    Ocsf {
        agent: String,
        host: String,
        lines: Vec<u8>,
    },
}

/// Bytes written at once, about.
const WRITE_BYTES: usize = 64 << 10;

/// No line is longer: an event has a mebibyte at most, and its line repeats the names of what it holds.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// How often a file is looked at, and a refusing one tried again.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Writes lines to one target.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    form: Form,
    out: Option<Out>,
    /// The last write was cut off and could not be taken back.
    mid_line: bool,
    looked_at: Instant,
    pub written: u64,
    pub lost: u64,
    /// Why nothing can be written at the moment.
    pub error: Option<String>,
    /// That events are lost stands in the log already.
    told: bool,
}

#[derive(Debug)]
enum Out {
    Stdout(io::Stdout),
    File(File),
}

impl Writer {
    /// Opens the target. A file that cannot be opened now is tried again, and `error` says so.
    pub fn new(target: Target) -> Self {
        Writer::open_as(target, Form::Own)
    }

    /// The same, in OCSF's form. `agent`: the agent's id.
    pub fn ocsf(target: Target, agent: &str) -> Self {
        let form = Form::Ocsf {
            agent: agent.to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            lines: Vec::new(),
        };
        Writer::open_as(target, form)
    }

    fn open_as(target: Target, form: Form) -> Self {
        let mut writer = Writer {
            target,
            form,
            out: None,
            mid_line: false,
            looked_at: Instant::now(),
            written: 0,
            lost: 0,
            error: None,
            told: false,
        };
        writer.open();
        writer
    }

    /// For the status: `jsonl /var/log/apiward.jsonl`, `jsonl stdout`.
    pub fn name(&self) -> String {
        let form = match self.form {
            Form::Own => "jsonl",
            Form::Ocsf { .. } => "ocsf",
        };
        match &self.target {
            Target::Stdout => format!("{form} stdout"),
            Target::File(path) => format!("{form} {}", path.display()),
        }
    }

    /// Writes a line for each event, and everything out before it returns.
    pub fn write(&mut self, batch: &Batch) {
        self.look();
        let Form::Ocsf { agent, host, lines } = &mut self.form else {
            for (lines, count) in batch.lines(WRITE_BYTES) {
                self.write_lines(lines, count);
            }
            return;
        };
        let (agent, host) = (agent.clone(), host.clone());
        let reporter = ocsf::Reporter {
            agent: &agent,
            host: &host,
        };
        let mut lines = std::mem::take(lines);
        let mut count = 0;
        for event in batch.iter().filter_map(|bytes| Event::decode(bytes).ok()) {
            ocsf::lines(&event, reporter, &mut lines);
            count += 1;
            if lines.len() >= WRITE_BYTES {
                self.write_lines(&lines, count);
                lines.clear();
                count = 0;
            }
        }
        if count > 0 {
            self.write_lines(&lines, count);
            lines.clear();
        }
        if let Form::Ocsf { lines: kept, .. } = &mut self.form {
            *kept = lines;
        }
    }

    fn write_lines(&mut self, lines: &[u8], count: u64) {
        match self.write_out(lines) {
            Ok(()) => {
                self.written += count;
                self.error = None;
                if std::mem::take(&mut self.told) {
                    tracing::info!(
                        exporter = self.name(),
                        lost = self.lost,
                        "events are written again"
                    );
                }
            }
            Err(error) => {
                self.lost += count;
                if !std::mem::replace(&mut self.told, true) {
                    tracing::error!(
                        exporter = self.name(),
                        %error,
                        "events cannot be written and are lost until they can: make room, or name another path"
                    );
                }
                self.error = Some(error.to_string());
                self.out = None;
            }
        }
    }

    fn write_out(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Err(io::Error::other(self.error.clone().unwrap_or_default()));
        };
        let ended;
        let lines = match self.mid_line {
            true => {
                ended = [b"\n", lines].concat();
                &ended
            }
            false => lines,
        };
        let result = match out {
            Out::Stdout(stdout) => {
                let mut lock = stdout.lock();
                lock.write_all(lines).and_then(|()| lock.flush())
            }
            Out::File(file) => {
                let length = file
                    .metadata()
                    .ok()
                    .filter(|found| found.is_file())
                    .map(|found| found.len());
                let result = file.write_all(lines);
                // Not for what is no regular file (a pipe, /dev/null): there the length means nothing.
                if result.is_err() && length.is_some_and(|length| file.set_len(length).is_ok()) {
                    return result;
                }
                result
            }
        };
        self.mid_line = result.is_err();
        result
    }

    fn look(&mut self) {
        if self.looked_at.elapsed() < LOOK_AFTER {
            return;
        }
        self.looked_at = Instant::now();
        let moved = match (&self.out, &self.target) {
            (None, _) => true,
            (Some(Out::File(file)), Target::File(path)) => match (file.metadata(), std::fs::metadata(path)) {
                (Ok(open), Ok(there)) => (open.dev(), open.ino()) != (there.dev(), there.ino()),
                (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
                (Err(_), _) => true,
            },
            _ => false,
        };
        if moved {
            self.open();
        }
    }

    fn open(&mut self) {
        self.out = match &self.target {
            Target::Stdout => Some(Out::Stdout(io::stdout())),
            Target::File(path) => {
                match OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .open(path)
                {
                    Ok(file) => {
                        match take_back_torn(&file, path) {
                            // One that was cut off by a full disk was counted then.
                            Ok(true) => self.lost += u64::from(!std::mem::take(&mut self.mid_line)),
                            Ok(false) => {}
                            // Ended with a line feed, then.
                            Err(_) => self.mid_line = true,
                        }
                        Some(Out::File(file))
                    }
                    Err(error) => {
                        self.error = Some(error.to_string());
                        None
                    }
                }
            }
        };
        if self.out.is_some() {
            self.error = None;
        }
    }
}

/// Takes back the line that an agent was killed in the middle of, and says whether there was one. An error: there may be
/// the half of a line that is none of ours.
fn take_back_torn(file: &File, path: &Path) -> io::Result<bool> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(false);
    }
    // Lines are shorter than this.
    let from = found.len().saturating_sub(LINE_BYTES_MAX);
    let mut tail = Vec::new();
    let mut reader = File::open(path)?;
    reader.seek(SeekFrom::Start(from))?;
    reader.take(LINE_BYTES_MAX).read_to_end(&mut tail)?;
    if tail.last() == Some(&b'\n') {
        return Ok(false);
    }
    let begins = match tail.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None if from == 0 => 0,
        None => return Err(io::ErrorKind::InvalidData.into()),
    };
    if !tail[begins..].starts_with(b"{\"") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.set_len(from + begins as u64)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::wire;

    fn batch(states: &[(&'static str, &str)]) -> Batch {
        let mut batch = Batch::new(true);
        for (state, detail) in states {
            batch.push(&wire::agent_state(state, *detail));
        }
        batch
    }

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn one_event_one_line_and_the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut writer = Writer::new(Target::File(path.clone()));
        writer.write(&batch(&[("started", "a\nb"), ("stopping", "")]));
        let found = lines(&path);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["agent_state"]["detail"], "a\nb");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!((writer.written, writer.lost), (2, 0));
    }

    #[test]
    fn a_line_that_an_agent_was_killed_in_is_taken_back_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        Writer::new(Target::File(path.clone())).write(&batch(&[("started", "1"), ("started", "2")]));
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, 20, 40] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut writer = Writer::new(Target::File(path.clone()));
            writer.write(&batch(&[("started", "3")]));
            assert_eq!(lines(&path).len(), 2);
            assert_eq!(writer.lost, 1);
        }
        // What others have left in the file stays.
        std::fs::write(&path, "a note").unwrap();
        let mut writer = Writer::new(Target::File(path.clone()));
        writer.write(&batch(&[("started", "3")]));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("a note\n{"), "{text}");
        assert_eq!(writer.lost, 0);
    }

    #[test]
    fn a_rotated_file_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut writer = Writer::new(Target::File(path.clone()));
        writer.write(&batch(&[("one", "")]));
        std::fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
        writer.looked_at -= LOOK_AFTER;
        writer.write(&batch(&[("two", "")]));
        assert_eq!(lines(&path).len(), 1);
        assert_eq!(lines(&path)[0]["agent_state"]["state"], "two");
    }

    #[test]
    fn a_full_disk_is_counted_and_said() {
        let mut writer = Writer::new(Target::File("/dev/full".into()));
        writer.write(&batch(&[("one", ""), ("two", "")]));
        assert_eq!((writer.written, writer.lost), (0, 2));
        assert!(writer.error.is_some());
        // It goes on as soon as there is room again.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        writer.target = Target::File(path.clone());
        writer.looked_at -= LOOK_AFTER;
        writer.write(&batch(&[("three", "")]));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 1);
        assert_eq!(writer.error, None);
    }

    #[test]
    fn a_missing_directory_does_not_stop_the_agent() {
        let mut writer = Writer::new(Target::File("/nowhere/at/all/events.jsonl".into()));
        writer.write(&batch(&[("one", "")]));
        assert_eq!(writer.lost, 1);
        assert!(writer.error.is_some());
    }
}
