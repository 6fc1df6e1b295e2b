//! `apiward doctor`: what this host allows, what is missing and how to get it, which TLS code its processes run and
//! what a probe costs here.
//!
//! It asks the kernel, not an agent: it works before one is installed, and without root as far as that goes. It
//! leaves nothing behind. Exit codes: 0 all that is promised can be given · 1 some of it cannot, or could not be
//! told · 2 the agent cannot run here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Output, print};
use crate::kernel::cost::{self, ProbeCosts};
use crate::kernel::elf::{Elf, ElfError};
use crate::kernel::mapped::{self, MappedFile};
use crate::kernel::probe::{self, Answer, Feature, Need};
use crate::kernel::returns;
use crate::kernel::site::{self, Cost, LibraryPlan, Prefer, UnknownTls, Ways};

/// Processes named for each library.
const PROCESSES_SHOWN_MAX: usize = 5;

#[derive(clap::Args)]
pub struct Args {
    /// Table for people, JSON for machines.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Everything that was found.
#[derive(Serialize)]
struct Report {
    verdict: Verdict,
    /// The verdict in one line.
    summary: String,
    kernel: String,
    lockdown: Option<String>,
    features: Vec<FeatureReport>,
    libraries: Vec<LibraryReport>,
    processes: u32,
    processes_unreadable: u32,
    other_programs: BTreeMap<&'static str, Vec<String>>,
    probe_costs: Option<CostReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ready,
    Partly,
    NotReady,
    /// Not enough may be looked at.
    Untold,
}

#[derive(Serialize)]
struct FeatureReport {
    name: &'static str,
    need: &'static str,
    /// `yes`, `no`, `unknown`.
    available: &'static str,
    /// Why, where the answer is not yes.
    reason: String,
    without: &'static str,
    fix: &'static str,
}

/// A file with TLS code that some process runs.
#[derive(Serialize)]
struct LibraryReport {
    path: String,
    inode: u64,
    /// `openssl` …; for those that cannot be read, which it is.
    library: &'static str,
    version: String,
    /// `full`, `partial`, `none`.
    coverage: &'static str,
    sites: Vec<String>,
    explanations: Vec<String>,
    uncovered: Vec<String>,
    /// `emulated` or `single-stepped`: the dearest that a read or write may meet.
    cost: &'static str,
    processes: Vec<ProcessReport>,
    processes_total: u32,
}

#[derive(Serialize)]
struct ProcessReport {
    pid: u32,
    comm: String,
}

#[derive(Serialize)]
struct CostReport {
    emulated_ns: u64,
    stepped_ns: u64,
    return_ns: u64,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let report = look();
    match args.output {
        Output::Json => print::out(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Output::Table => print::out(&render(&report))?,
    }
    Ok(match report.verdict {
        Verdict::Ready => ExitCode::SUCCESS,
        Verdict::Partly | Verdict::Untold => ExitCode::from(1),
        Verdict::NotReady => ExitCode::from(2),
    })
}

fn look() -> Report {
    let features = probe::probe();
    let mapped = mapped::all();
    let refuses = features
        .iter()
        .any(|feature| feature.name == "probe-registers" && matches!(feature.answer, Answer::Yes));
    let ways = Ways {
        prefer: Prefer::default().where_calls(refuses),
        returns: returns::are_survived().is_ok() || !rustix::process::geteuid().is_root(),
    };
    let files = mapped.files.iter();
    let libraries: Vec<LibraryReport> = files.filter_map(|file| library(file, ways)).collect();
    let mut other_programs: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for program in probe::other_programs() {
        let name = if program.name.is_empty() {
            format!("#{}", program.id)
        } else {
            program.name
        };
        let names = other_programs.entry(program.hook).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let root = rustix::process::geteuid().is_root();
    let (verdict, summary) = judge(root, &features, &libraries);
    let uname = rustix::system::uname();
    Report {
        verdict,
        summary,
        kernel: format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
        lockdown: probe::lockdown(),
        features: features.into_iter().map(FeatureReport::from).collect(),
        libraries,
        processes: mapped.processes,
        processes_unreadable: mapped.processes_unreadable,
        other_programs,
        probe_costs: cost::measure().map(CostReport::from),
    }
}

/// The verdict and its line.
fn judge(root: bool, features: &[Feature], libraries: &[LibraryReport]) -> (Verdict, String) {
    let of = |need, wanted: fn(&Answer) -> bool| -> Vec<&str> {
        features
            .iter()
            .filter(|f| f.need == need && wanted(&f.answer))
            .map(|f| f.name)
            .collect()
    };
    let is_no: fn(&Answer) -> bool = |answer| matches!(answer, Answer::No(_));
    let is_unknown: fn(&Answer) -> bool = |answer| matches!(answer, Answer::Unknown(_));
    let mut required = of(Need::Required, is_no);
    if !root {
        // Without it, whoever asks is not root; the agent will be.
        required.retain(|name| *name != "privileges");
    }
    if !required.is_empty() {
        return (
            Verdict::NotReady,
            format!(
                "not ready: the agent cannot run here without {}",
                required.join(", ")
            ),
        );
    }
    if !root {
        let unknown = of(Need::Required, is_unknown).len() + of(Need::Wanted, is_unknown).len();
        let text = format!(
            "undecided: nothing speaks against it, but {unknown} questions need root (sudo apiward doctor)"
        );
        return (Verdict::Untold, text);
    }
    let mut wanting = of(Need::Wanted, is_no);
    wanting.extend(of(Need::Wanted, is_unknown));
    if !wanting.is_empty() {
        return (
            Verdict::Partly,
            format!("partly ready: the agent runs, without {}", wanting.join(", ")),
        );
    }
    let blind = libraries
        .iter()
        .filter(|library| library.coverage == "none")
        .count();
    let text = match blind {
        0 => "ready: calls can be seen, in clear and in OpenSSL's TLS, and the connections of denied ones withheld and reset".to_owned(),
        1 => "ready, with one blind spot: a running program has TLS code that cannot be read".to_owned(),
        count => {
            format!("ready, with {count} blind spots: running programs have TLS code that cannot be read")
        }
    };
    (Verdict::Ready, text)
}

/// What is to be said of a file that processes run, if it has TLS code.
fn library(file: &MappedFile, ways: Ways) -> Option<LibraryReport> {
    let mut report = match Elf::open(&file.open) {
        Ok(elf) => match site::plan_by(&file.open, ways) {
            Ok(plan) => readable(plan),
            Err(site::PlanError::NotTls) => unreadable(site::unknown_tls(&elf).ok()??),
            Err(error) => {
                let found = site::identify(&elf).ok()??;
                let mut report = LibraryReport::new(found.family.as_str(), found.version, "none");
                report.explanations.push(error.to_string());
                report
            }
        },
        // Of those that may not be opened, only libraries are told, by their names.
        Err(ElfError::Io(error)) => {
            let name = file.path.file_name()?.to_str()?;
            name.starts_with("libssl.so.").then_some(())?;
            let mut report = LibraryReport::new("openssl", String::new(), "none");
            report.explanations.push(format!("it cannot be opened: {error}"));
            report
        }
        Err(_) => return None,
    };
    // Whoever runs a program chooses its name and its libraries' paths.
    report.path = print::harmless(&file.path.display().to_string());
    report.inode = file.key.inode;
    report.processes_total = file.processes.len() as u32;
    report.processes = file
        .processes
        .iter()
        .take(PROCESSES_SHOWN_MAX)
        .map(|pid| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            ProcessReport {
                pid: *pid,
                comm: print::harmless(comm.strip_suffix('\n').unwrap_or(&comm)),
            }
        })
        .collect();
    Some(report)
}

fn readable(plan: LibraryPlan) -> LibraryReport {
    use apiward_common::site::Op;
    let coverage = if plan.uncovered.is_empty() {
        "full"
    } else {
        "partial"
    };
    let mut report = LibraryReport::new(plan.library.family.as_str(), plan.library.version, coverage);
    let moves = |op| matches!(op, Op::Read | Op::Write);
    let costs = || {
        plan.sites
            .iter()
            .filter(|site| moves(site.op()))
            .map(|site| site.cost)
    };
    report.cost = if costs().any(|cost| cost == Cost::Stepped) {
        "single-stepped"
    } else {
        "emulated"
    };
    report.sites = plan.sites.into_iter().map(|site| site.why).collect();
    report.explanations = plan.explanations;
    report.uncovered = plan.uncovered;
    report
}

fn unreadable(kind: UnknownTls) -> LibraryReport {
    let mut report = LibraryReport::new(kind.as_str(), String::new(), "none");
    let why = "the agent cannot read this kind of TLS: bytes are counted, calls are not seen, policies apply `onUnseen`";
    report.explanations.push(why.to_owned());
    report
}

impl LibraryReport {
    fn new(library: &'static str, version: String, coverage: &'static str) -> Self {
        LibraryReport {
            path: String::new(),
            inode: 0,
            library,
            version,
            coverage,
            sites: Vec::new(),
            explanations: Vec::new(),
            uncovered: Vec::new(),
            cost: "",
            processes: Vec::new(),
            processes_total: 0,
        }
    }
}

impl From<Feature> for FeatureReport {
    fn from(feature: Feature) -> Self {
        let (available, reason) = match feature.answer {
            Answer::Yes => ("yes", String::new()),
            Answer::No(why) => ("no", why),
            Answer::Unknown(why) => ("unknown", why),
        };
        let need = match feature.need {
            Need::Required => "required",
            Need::Wanted => "wanted",
            Need::Bonus => "bonus",
        };
        let Feature {
            name, without, fix, ..
        } = feature;
        FeatureReport {
            name,
            need,
            available,
            reason,
            without,
            fix,
        }
    }
}

impl From<ProbeCosts> for CostReport {
    fn from(costs: ProbeCosts) -> Self {
        CostReport {
            emulated_ns: costs.emulated_ns,
            stepped_ns: costs.stepped_ns,
            return_ns: costs.return_ns,
        }
    }
}

fn render(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        let _ = writeln!(out, "{text}");
    };
    line(&report.summary);
    let lockdown = report
        .lockdown
        .as_deref()
        .map_or(String::new(), |mode| format!(", lockdown {mode}"));
    line(&format!("{}{lockdown}", report.kernel));

    let missing: Vec<_> = report.features.iter().filter(|f| f.available != "yes").collect();
    if !missing.is_empty() {
        let needed = missing.iter().any(|feature| feature.need != "bonus");
        line(if needed {
            "\nMissing"
        } else {
            "\nMissing, and not needed"
        });
    }
    for feature in missing {
        line(&format!(
            "  {} ({}): {}",
            feature.name, feature.need, feature.reason
        ));
        line(&format!("    without it: {}", feature.without));
        if feature.available == "no" {
            line(&format!("    to get it:  {}", feature.fix));
        }
    }
    let there: Vec<&str> = report
        .features
        .iter()
        .filter(|f| f.available == "yes")
        .map(|f| f.name)
        .collect();
    line(&format!("\nAvailable\n  {}", there.join(", ")));

    line("\nTLS code of running processes");
    if report.libraries.is_empty() {
        line("  none was found");
    }
    for library in &report.libraries {
        let version = if library.version.is_empty() {
            String::new()
        } else {
            format!(" {}", library.version)
        };
        line(&format!(
            "  {}  {}{version}, coverage {}",
            library.path, library.library, library.coverage
        ));
        let processes: Vec<String> = library
            .processes
            .iter()
            .map(|process| format!("{} ({})", process.comm, process.pid))
            .collect();
        let more = (library.processes_total as usize).saturating_sub(processes.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        line(&format!("    run by {}{more}", processes.join(", ")));
        for explanation in &library.explanations {
            line(&format!("    {explanation}"));
        }
        if !library.uncovered.is_empty() {
            line(&format!("    not covered: {}", library.uncovered.join(", ")));
        }
    }
    if report.processes_unreadable > 0 {
        line(&format!(
            "  processes that could not be looked at: {}",
            report.processes_unreadable
        ));
    }

    line("\nCost of one probe here");
    match &report.probe_costs {
        Some(costs) => line(&format!(
            "  {} ns where the kernel emulates the instruction, {} ns where it steps over it, {} ns more for a return",
            costs.emulated_ns, costs.stepped_ns, costs.return_ns
        )),
        None => line("  not measured: it needs root and user probes"),
    }
    line("\nOther programs on the hooks that the agent uses");
    if report.other_programs.is_empty() {
        line("  none are known");
    }
    for (hook, names) in &report.other_programs {
        line(&format!("  {hook}: {}", names.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests;
