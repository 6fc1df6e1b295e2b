//! `apiward policy draft`: from what a workload serves to an allow-list of it, in observe mode, with its tests.
//!
//! What was observed or documented is allowed, all else denied by the last rule: in observe mode that is reported and
//! nothing more. A person reads it before it enforces. It must not know how policies are judged: the tests that it writes
//! are run by `apiward policy test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiward_proto::v1;

use crate::cli::AgentArgs;
use crate::cli::client::{self, Agent};
use crate::cli::inventory::{diff, is_of};
use crate::export::clock;
use crate::yaml::parse_duration;

/// Bytes of a policy's name.
const NAME_BYTES_MAX: usize = 48;
/// Path patterns of one draft: a set of policies has at most 4,096 rules.
const PATHS_MAX: usize = 2_000;

#[derive(clap::Args)]
#[command(after_help = "\
Writes NAME.yaml and NAME.test.yaml; read them, run `apiward policy test`, and see with `apiward policy replay` what would \
have been denied. Exit codes: 0 written · 1 no agent answers, nothing was seen, or a file is there already · 2 the \
command line or the configuration is wrong.")]
pub(super) struct Args {
    /// The workload: part of its name, its executable or its cgroup; it has to be one.
    #[arg(long, value_name = "TEXT")]
    workload: String,
    /// From what was called within this time, such as 24h; without it, from all that the inventory holds.
    #[arg(long, value_name = "TIME", conflicts_with = "openapi")]
    from: Option<String>,
    /// From an OpenAPI document instead of the inventory; the workload is then the executable's path or name.
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
    /// The directory to write to.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

/// What the draft is of.
struct Subject {
    name: String,
    exe: String,
    cgroup: String,
    /// Path pattern → methods.
    paths: BTreeMap<String, BTreeSet<String>>,
    /// For the head of the file.
    origin: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(document) = &args.openapi {
        return write(args, &of_document(args, document)?);
    }
    client::block_on(async {
        let mut agent = Agent::connect(&args.agent).await?;
        let endpoints = agent.inventory().await?;
        write(args, &of_inventory(args, &endpoints)?)
    })
}

fn of_document(args: &Args, document: &Path) -> Result<Subject> {
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in diff::read(document)? {
        paths.entry(pattern(&one.path)).or_default().insert(one.method);
    }
    Ok(Subject {
        name: args.workload.rsplit('/').next().unwrap_or_default().to_owned(),
        exe: match args.workload.starts_with('/') {
            true => args.workload.clone(),
            false => format!("**/{}", args.workload),
        },
        cgroup: String::new(),
        paths,
        origin: "an OpenAPI document".to_owned(),
    })
}

fn of_inventory(args: &Args, endpoints: &[v1::Endpoint]) -> Result<Subject> {
    let since = match &args.from {
        None => 0,
        Some(text) => {
            let span: Duration = parse_duration(text)
                .with_context(|| format!("`{text}` is no time: write `24h`, `7d` or `30m`"))?;
            clock::wall_ns().saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
        }
    };
    let served: Vec<&v1::Endpoint> = endpoints
        .iter()
        .filter(|one| one.direction == v1::Direction::Inbound as i32 && !one.unmatched)
        .filter(|one| one.last_ns >= since && is_of(one, Some(&args.workload)))
        .collect();
    let workloads: BTreeMap<(&str, &str), &v1::Workload> = served
        .iter()
        .filter_map(|one| one.workload.as_ref())
        .map(|one| ((one.exe.as_str(), one.cgroup_path.as_str()), one))
        .collect();
    let mut workloads = workloads.into_values();
    let (workload, others) = (workloads.next(), workloads.next());
    let Some(workload) = workload else {
        bail!(
            "nothing was seen that a workload called `{}` serves: `apiward inventory` lists what was",
            args.workload
        );
    };
    if others.is_some() {
        bail!(
            "`{}` is more than one workload: name one by its cgroup, as `apiward inventory --output json` has it",
            args.workload
        );
    }
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in served {
        // What never succeeded is nothing to allow.
        let statuses = one.statuses.unwrap_or_default();
        if one.path.starts_with('/') && statuses.success + statuses.redirection + statuses.informational > 0 {
            paths
                .entry(pattern(&one.path))
                .or_default()
                .insert(one.method.clone());
        }
    }
    Ok(Subject {
        name: workload.name.clone(),
        exe: workload.exe.clone(),
        // A container's cgroup is new with every start.
        cgroup: match workload.container_id.is_empty() {
            true => workload.cgroup_path.clone(),
            false => String::new(),
        },
        paths,
        origin: match &args.from {
            Some(span) => format!("the calls of the last {span}"),
            None => "the agent's inventory".to_owned(),
        },
    })
}

/// A template as a pattern: a segment with a value in it is one that may be anything.
fn pattern(template: &str) -> String {
    let segments = template
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| match segment.contains(['{', '*']) {
            false => segment.to_owned(),
            true if segment.starts_with("{word-") => "{word}".to_owned(),
            true => "{id}".to_owned(),
        });
    format!("/{}", segments.collect::<Vec<_>>().join("/"))
}

fn write(args: &Args, subject: &Subject) -> Result<ExitCode> {
    if subject.paths.is_empty() {
        bail!("nothing has succeeded yet that could be allowed: wait for more calls");
    }
    if subject.paths.len() > PATHS_MAX {
        bail!(
            "{} paths are more than a policy should have: name a smaller workload",
            subject.paths.len()
        );
    }
    let name = format!("draft-{}", slug(&subject.name, NAME_BYTES_MAX));
    let policy = args.out.join(format!("{name}.yaml"));
    let tests = args.out.join(format!("{name}.test.yaml"));
    let rules = rules(subject);
    for (file, text) in [
        (&policy, policy_text(&name, subject, &rules)),
        (&tests, tests_text(subject, &rules)),
    ] {
        let mut options = fs::OpenOptions::new();
        options.write(true).truncate(true);
        match args.force {
            true => options.create(true),
            false => options.create_new(true),
        };
        let mut opened = options
            .open(file)
            .with_context(|| format!("{} cannot be written; --force writes over it", file.display()))?;
        opened.write_all(text.as_bytes())?;
    }
    println!("{}\n{}", policy.display(), tests.display());
    Ok(ExitCode::SUCCESS)
}

/// One rule: a set of methods, and the paths that have just these.
struct Draft {
    name: String,
    methods: BTreeSet<String>,
    paths: Vec<String>,
}

fn rules(subject: &Subject) -> Vec<Draft> {
    let mut by_methods: BTreeMap<&BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for (path, methods) in &subject.paths {
        by_methods.entry(methods).or_default().push(path.clone());
    }
    by_methods
        .into_iter()
        .map(|(methods, paths)| Draft {
            name: format!(
                "allow-{}",
                slug(
                    &methods.iter().cloned().collect::<Vec<_>>().join("-"),
                    NAME_BYTES_MAX
                )
            ),
            methods: methods.clone(),
            paths,
        })
        .collect()
}

fn policy_text(name: &str, subject: &Subject, rules: &[Draft]) -> String {
    let mut text = format!(
        "# Drafted from {}. Read it before it enforces: what was not called is not in it.\n\
         apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: {} }}\nspec:\n  mode: observe\n  workload:\n    exe: {}\n",
        subject.origin,
        quoted(name),
        quoted(&subject.exe)
    );
    if !subject.cgroup.is_empty() {
        let _ = writeln!(text, "    cgroup: {}", quoted(&subject.cgroup));
    }
    text.push_str("  rules:\n");
    for rule in rules {
        let methods: Vec<String> = rule.methods.iter().map(|method| quoted(method)).collect();
        let _ = write!(
            text,
            "    - name: {}\n      match:\n        direction: inbound\n        methods: [{}]\n        paths:\n",
            quoted(&rule.name),
            methods.join(", ")
        );
        for path in &rule.paths {
            let _ = writeln!(text, "          - {}", quoted(path));
        }
        text.push_str("      action: allow\n");
    }
    text.push_str("    - name: nothing-else\n      match: { direction: inbound }\n      action: deny\n");
    text
}

fn tests_text(subject: &Subject, rules: &[Draft]) -> String {
    let exe = subject.exe.replace("**", "/usr/bin").replace("//", "/");
    let process = format!(
        "process: {{ exe: {}, cgroup: {} }}",
        quoted(&exe),
        quoted(&subject.cgroup)
    );
    let mut text = String::from("cases:\n");
    let mut case = |name: &str, method: &str, path: &str, expect: &str| {
        let _ = write!(
            text,
            "  - name: {}\n    call: {{ method: {}, path: {}, {process} }}\n    expect: {expect}\n",
            quoted(name),
            quoted(method),
            quoted(path)
        );
    };
    for rule in rules {
        for path in &rule.paths {
            let sample = path.replace("{id}", "1").replace("{word}", "word");
            for method in &rule.methods {
                case(
                    &format!("{method} {path} is allowed"),
                    method,
                    &sample,
                    &format!("{{ action: allow, rule: {} }}", quoted(&rule.name)),
                );
            }
        }
    }
    if let Some((path, methods)) = subject.paths.first_key_value() {
        let sample = path.replace("{id}", "1").replace("{word}", "word");
        let other = ["TRACE", "DELETE", "PATCH", "PUT"]
            .into_iter()
            .find(|method| !methods.contains(*method));
        if let Some(method) = other {
            case(
                "a method that is not in use is denied",
                method,
                &sample,
                "{ action: deny, rule: nothing-else }",
            );
        }
    }
    case(
        "a path that nobody uses is denied",
        "GET",
        "/apiward-draft/not/in/use/by/anybody",
        "{ action: deny, rule: nothing-else }",
    );
    text
}

/// A JSON string is a YAML one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Lower-case letters, digits and `-`.
fn slug(text: &str, bytes_max: usize) -> String {
    let mut slug = String::new();
    for one in text.chars() {
        let one = one.to_ascii_lowercase();
        if one.is_ascii_alphanumeric() {
            slug.push(one);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(bytes_max);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "workload".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicySet;

    #[test]
    fn a_draft_passes_its_own_tests() {
        let dir = tempfile::tempdir().expect("a directory");
        let methods = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>();
        let subject = Subject {
            name: "app.service/python3".into(),
            exe: "/usr/bin/python3".into(),
            cgroup: "/system.slice/app.service".into(),
            paths: [
                (pattern("/api/orders/{id}"), methods(&["GET", "DELETE"])),
                (pattern("/api/{word-a1b2c3}/{id}"), methods(&["GET"])),
                (pattern("/odata/Patients({id})"), methods(&["GET"])),
                ("/".to_owned(), methods(&["GET"])),
            ]
            .into(),
            origin: "a test".into(),
        };
        let rules = rules(&subject);
        let policy = policy_text("draft-app", &subject, &rules);
        PolicySet::load(&[("draft-app.yaml", &policy)])
            .unwrap_or_else(|problems| panic!("{problems}\n{policy}"));
        fs::write(dir.path().join("draft-app.yaml"), &policy).expect("written");
        fs::write(
            dir.path().join("draft-app.test.yaml"),
            tests_text(&subject, &rules),
        )
        .expect("written");
        let told = super::super::cases::told(&[dir.path().join("draft-app.yaml")]);
        assert!(told.contains("as expected, 0 not"), "{told}");
    }
}
