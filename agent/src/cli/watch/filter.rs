//! What the person at the terminal wants to see of the calls. Losses and the agent's own state are shown in any case:
//! who looks for one process's calls has to know that some of them may be missing.

use apiward_proto::v1;
use globset::{GlobBuilder, GlobMatcher};

/// Which calls are shown. All that is given has to hold.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Filter {
    /// Calls of executables whose path matches; without a `/`, of those whose file name does.
    #[arg(long, value_name = "GLOB", value_parser = exe_glob)]
    exe: Option<Glob>,
    /// Calls of this process.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Calls whose path template matches; `*` is one segment, `**` any number.
    #[arg(long, value_name = "GLOB", value_parser = path_glob)]
    path: Option<Glob>,
    /// Calls answered with this status (404) or class (5xx); several with commas.
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    status: Vec<Status>,
    /// Calls that a policy denied, or in observe mode would have denied.
    #[arg(long)]
    denied: bool,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    matcher: GlobMatcher,
    /// The pattern is of a file name.
    is_name: bool,
}

/// A status or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    One(u32),
    /// 5 for 5xx.
    Class(u32),
}

fn exe_glob(text: &str) -> Result<Glob, String> {
    compile(text, false)
}

fn path_glob(text: &str) -> Result<Glob, String> {
    // `{id}` in a path template is itself, not a choice.
    compile(&text.replace('{', "[{]").replace('}', "[}]"), true)
}

fn compile(text: &str, is_segmented: bool) -> Result<Glob, String> {
    GlobBuilder::new(text)
        .literal_separator(is_segmented)
        .build()
        .map(|glob| Glob {
            matcher: glob.compile_matcher(),
            is_name: !text.contains('/'),
        })
        .map_err(|error| error.kind().to_string())
}

fn status(text: &str) -> Result<Status, String> {
    let wrong = || "write a status such as 404, or a class such as 5xx".to_owned();
    let parsed = match text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        Some(class) => class.parse().map(Status::Class),
        None => text.parse().map(Status::One),
    };
    match parsed.map_err(|_| wrong())? {
        one @ Status::One(100..=599) => Ok(one),
        class @ Status::Class(1..=5) => Ok(class),
        _ => Err(wrong()),
    }
}

impl Filter {
    /// Is everything shown?
    pub fn is_open(&self) -> bool {
        self.exe.is_none()
            && self.pid.is_none()
            && self.path.is_none()
            && self.status.is_empty()
            && !self.denied
    }

    /// Is this event shown?
    pub fn shows(&self, event: &v1::Event) -> bool {
        match &event.kind {
            Some(v1::event::Kind::Call(call)) => self.shows_call(call),
            Some(v1::event::Kind::FlowEnd(end)) => self.shows_process(end.process.as_ref()),
            _ => true,
        }
    }

    fn shows_process(&self, process: Option<&v1::Process>) -> bool {
        let empty = v1::Process::default();
        let process = process.unwrap_or(&empty);
        self.pid.is_none_or(|pid| process.pid == pid)
            && self.exe.as_ref().is_none_or(|glob| match glob.is_name {
                true => glob
                    .matcher
                    .is_match(process.exe.rsplit('/').next().unwrap_or_default()),
                false => glob.matcher.is_match(&process.exe),
            })
    }

    fn shows_call(&self, call: &v1::Call) -> bool {
        let path = || call.request.as_ref().map_or("", |request| request.path.as_str());
        let status = || call.response.as_ref().map_or(0, |response| response.status);
        self.shows_process(call.process.as_ref())
            && self
                .path
                .as_ref()
                .is_none_or(|glob| glob.matcher.is_match(path()))
            && (self.status.is_empty()
                || self.status.iter().any(|wanted| match wanted {
                    Status::One(one) => *one == status(),
                    Status::Class(class) => *class == status() / 100,
                }))
            && (!self.denied || call.verdict.as_ref().is_some_and(is_denial))
    }
}

/// The call was denied, or would have been.
pub fn is_denial(verdict: &v1::Verdict) -> bool {
    matches!(verdict.action.as_str(), "deny" | "kill")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(arguments: &str) -> Result<Filter, clap::Error> {
        Line::try_parse_from(std::iter::once("watch").chain(arguments.split_whitespace()))
            .map(|line| line.filter)
    }

    fn call(exe: &str, path: &str, status: u32, action: &str) -> v1::Event {
        v1::Event {
            kind: Some(v1::event::Kind::Call(v1::Call {
                process: Some(v1::Process {
                    pid: 7,
                    exe: exe.into(),
                    ..Default::default()
                }),
                request: Some(v1::Request {
                    path: path.into(),
                    ..Default::default()
                }),
                response: (status != 0).then(|| v1::Response {
                    status,
                    ..Default::default()
                }),
                verdict: Some(v1::Verdict {
                    action: action.into(),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    #[test]
    fn all_that_is_given_has_to_hold() {
        let one = call("/usr/sbin/nginx", "/patients/{id}/notes", 404, "allow");
        let denied = call("/opt/app/python3", "/patients", 0, "deny");
        for (arguments, shows_one, shows_denied) in [
            ("", true, true),
            ("--exe nginx", true, false),
            ("--exe ngi*", true, false),
            ("--exe sbin", false, false),
            ("--exe /usr/**", true, false),
            ("--exe /opt/*", false, true),
            ("--pid 7", true, true),
            ("--pid 8", false, false),
            ("--path /patients", false, true),
            ("--path /patients/**", true, false),
            ("--path /patients/*", false, false),
            ("--path /patients/*/notes", true, false),
            ("--path /patients/{id}/notes", true, false),
            ("--status 404", true, false),
            ("--status 4xx", true, false),
            ("--status 5xx,404", true, false),
            ("--status 5xx", false, false),
            ("--denied", false, true),
            ("--denied --exe nginx", false, false),
        ] {
            let filter = filter(arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
            assert_eq!(
                (filter.shows(&one), filter.shows(&denied)),
                (shows_one, shows_denied),
                "{arguments}"
            );
            assert_eq!(filter.is_open(), arguments.is_empty());
            assert!(filter.shows(&v1::Event {
                kind: Some(v1::event::Kind::Audit(v1::Audit::default())),
                ..Default::default()
            }));
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for arguments in ["--status 99", "--status 6xx", "--status ok", "--exe [", "--pid x"] {
            assert!(filter(arguments).is_err(), "{arguments}");
        }
    }
}
