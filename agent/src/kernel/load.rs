//! Loads and attaches the kernel programs, and hands out their maps as typed handles.
//!
//! The agent never makes the host worse: a program that the verifier refuses is a capability that is missing,
//! with the verifier's words, and the rest runs on. What cannot be done without is said in [`LoadError`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use apiward_common::flow::Counters;
use apiward_common::offsets::Offsets;
use apiward_common::scope::{
    BY_CGROUP, BY_EXE, BY_NETNS, CGROUP_LEVEL_MAX, EXEMPT, FileKey, IN_SCOPE, Settings, TWICE_ALL,
};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::{BtfTracePoint, CgroupSkb, ProgramError};
use aya::{Ebpf, EbpfLoader};

use super::btf::{Btf, BtfError};
use super::cgroup::{self, Cgroup, CgroupError};
use super::descriptors;
use super::egress::EgressMaps;
use super::gate::GateMaps;
use super::links::{self, CgroupHook, Way};
use super::pins::{self, Keeper, Kept, Lease};
use super::probes::{self, Probes};
use super::ring::Ring;
use super::run_times::{RunTimes, SECOND, STATES};
use super::sends::Sends;
use super::{together, undisturbed};

/// The capability to withhold what a denied connection would still send.
pub const EGRESS_WITHHOLD: &str = "egress-withhold";
/// The capabilities to keep a request in clear from its receiver, and from leaving.
pub const GATE_INGRESS: &str = "gate-ingress";
pub const GATE_EGRESS: &str = "gate-egress";
/// The capability to make a TLS library's call fail.
pub const TLS_REFUSE: &str = "tls-refuse";
/// The capability to take a library's probes away together.
pub const PROBE_LINKS: &str = "probe-links";
/// The capability to make a send on a denied connection fail.
pub const SEND_REFUSE: &str = "send-refuse";
/// Enough descriptors for the libraries of a large host.
pub const DESCRIPTORS: &str = "descriptors";
/// The capability to reset a denied connection.
pub const SOCKET_DESTROY: &str = "socket-destroy";

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/apiward.o"));

/// Why the programs cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("this binary was built without the kernel programs: build it with `cargo xtask build`")]
    NoPrograms,
    #[error(
        "the agent needs root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE): kernel programs see every process"
    )]
    NotPermitted,
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("the kernel refuses the maps or the object: {0}. `apiward doctor` says what this kernel lacks")]
    Object(#[from] aya::EbpfError),
    #[error("the map {0} is missing from the object: rebuild with `cargo xtask build`")]
    MapMissing(&'static str),
    #[error("the map {name}: {source}")]
    Map { name: &'static str, source: MapError },
    #[error("the map {name} cannot be held: {source}")]
    Descriptor { name: &'static str, source: io::Error },
    #[error("{program} does not attach, and nothing can be seen without it: {reason}")]
    Program { program: &'static str, reason: String },
    #[error("scope: {0}")]
    Scope(String),
}

/// What is looked at, and what never is.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub cgroups: Vec<Cgroup>,
    /// Inode numbers of network namespaces.
    pub netns: Vec<u32>,
    /// Executables are limited: the files come by [`Maps::list_exe`].
    pub by_exe: bool,
    /// More cgroups will come, by [`Maps::list_cgroup`]: every level is compared, and egress is hooked at the root.
    pub more_cgroups: bool,
    pub exempt_cgroups: Vec<Cgroup>,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    pub scope: Scope,
    pub ring_bytes: u32,
    /// Connections, and TLS objects, that the kernel side knows; the least recently used gives way.
    pub flows_max: u32,
    /// Bytes of one operation that are captured.
    pub operation_bytes_max: u32,
    /// Where enforcement is kept that outlives its agent.
    pub pins: PathBuf,
    /// How long denials hold from now on; renewed by [`Lease::renew`].
    pub keep_for: Duration,
}

/// Something the programs can or cannot do here.
#[derive(Clone, Debug)]
pub struct Capability {
    pub name: &'static str,
    pub available: bool,
    /// Why not, in the kernel's words; empty if it is.
    pub reason: String,
}

/// Everything that is loaded. Dropping it detaches every program.
pub struct Loaded {
    pub ring: Ring,
    pub maps: Maps,
    pub egress: EgressMaps,
    /// Not attached yet where an agent before this one has left its own, which does the same.
    pub egress_hook: Option<CgroupHook>,
    /// Where the kernel takes its programs.
    pub gate: Option<(GateMaps, CgroupHook)>,
    /// Where the kernel has BPF LSM.
    pub sends: Option<Sends>,
    pub lease: Lease,
    pub keeper: Keeper,
    pub adopted: Option<Adopted>,
    pub probes: Probes,
    pub capabilities: Vec<Capability>,
    pub run_times: RunTimes,
    /// No program sees which libraries are mapped: `mappings` has to.
    pub mappings_needed: bool,
}

/// What an agent before this one has left in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// This one goes on with its maps. Otherwise only with what was denied: its layout is another.
    pub is_shared: bool,
}

/// Loads and attaches. Nothing stays behind if it fails.
pub fn load(options: &Options) -> Result<Loaded, LoadError> {
    if OBJECT.is_empty() {
        return Err(LoadError::NoPrograms);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(LoadError::NotPermitted);
    }
    let descriptors = descriptors::raise();
    let types = Btf::from_kernel()?;
    let offsets = Offsets::resolve(|structure, path| types.offset(structure, path))?;
    let number = pins::next_number(&options.pins);
    let twice = undisturbed::twice(&types);
    let is_twice = twice == TWICE_ALL;
    let settings = Settings {
        run: number,
        twice,
        ..settings(options)?
    };
    let btf = aya::Btf::from_sys_fs()
        .map_err(|error| LoadError::Scope(format!("the kernel's type information: {error}")))?;
    let kept = pins::newest(&options.pins);
    let mut loader = EbpfLoader::new();
    for name in pins::SHARED {
        if let Some(kept) = &kept {
            loader.map_pin_path(name, kept.path(name));
        }
    }
    let loader = loader
        .btf(Some(&btf))
        // Those that live with tasks and sockets: only programs use them.
        .allow_unsupported_maps()
        .override_global("OFFSETS", &offsets, true)
        .override_global("SETTINGS", &settings, true)
        .map_max_entries("RING", options.ring_bytes)
        .map_max_entries("FLOWS", options.flows_max)
        .map_max_entries("TLS_OBJECTS", options.flows_max);
    let functions = is_twice.then(|| undisturbed::functions(&types)).flatten();
    let mut ebpf = loader.load(&undisturbed::resolve(OBJECT, functions))?;
    if functions.is_some()
        && let Err(reason) = load_tracepoint(&mut ebpf, "apiward_exit", "sched_process_exit", &btf)
    {
        tracing::info!("programs at tracepoints are not kept from being preempted: {reason}");
        ebpf = loader.load(&undisturbed::resolve(OBJECT, None))?;
    }
    // While all maps are there.
    let together = together::are_there().and_then(|()| together::Programs::relocate(&ebpf));
    let mut keeper = Keeper::new(&options.pins, number, kept_maps(&ebpf)?);
    let mut lease = Lease::new(take(&mut ebpf, "GATE_LEASE", Array::try_from)?);
    let granted = match (&kept, pins::all(&options.pins).first()) {
        (Some(_), _) => lease.found(options.keep_for),
        (None, Some(other)) => lease.renew(other.lease().max(2 * pins::proving(options.keep_for))),
        (None, None) => lease.renew(options.keep_for),
    };
    let name = "GATE_LEASE";
    granted.map_err(|source| LoadError::Map { name, source })?;
    if kept.is_none() {
        let taken = lease.take_turn(number, !pins::all(&options.pins).is_empty());
        taken.map_err(|source| LoadError::Map { name, source })?;
    }
    let mut maps = Maps::take(&mut ebpf)?;
    maps.set_scope(&options.scope)?;
    let ring = Ring::take(&mut ebpf)?;
    let mut egress_maps = EgressMaps::take(&mut ebpf)?;
    let mut capabilities = vec![capability(DESCRIPTORS, descriptors)];
    // Where the socket layer itself tells what was moved, no system call but those on sockets pays for it.
    let sockets = attach_tracepoints(
        &mut ebpf,
        &[
            ("apiward_sock_send", "sock_send_length"),
            ("apiward_sock_recv", "sock_recv_length"),
        ],
        is_twice,
        &btf,
    )
    .map(|links| keeper.hold(links));
    let mappings_needed = sockets.is_ok();
    if let Err(reason) = sockets {
        tracing::info!("every system call is traced, which costs all of them a little: {reason}");
    }
    for (program, hook, vital) in [
        (STATES, "inet_sock_set_state", true),
        ("apiward_exec", "sched_process_exec", false),
        ("apiward_fork", "sched_process_fork", false),
        ("apiward_exit", "sched_process_exit", false),
        ("apiward_sys_exit", "sys_exit", true),
    ] {
        if hook == "sys_exit" && mappings_needed {
            continue;
        }
        let mut attach = |is_twice| {
            attach_tracepoints(&mut ebpf, &[(program, hook)], is_twice, &btf).map(|links| keeper.hold(links))
        };
        let is_twice = match hook {
            "inet_sock_set_state" => true,
            "sys_exit" => false,
            _ => is_twice,
        };
        let mut result = attach(is_twice);
        if let (true, true, Err(reason)) = (vital, is_twice, &result) {
            tracing::warn!(
                program,
                reason,
                "attached once: what the kernel skips there is lost, and program-runs-skipped may be too high"
            );
            result = attach(false);
        }
        if let (true, Err(reason)) = (vital, &result) {
            return Err(LoadError::Program {
                program,
                reason: reason.clone(),
            });
        }
        capabilities.push(capability(hook, result));
    }
    let gated = load_cgroup(&mut ebpf, "apiward_gated_egress");
    let program = if gated.is_ok() {
        "apiward_gated_egress"
    } else {
        "apiward_egress"
    };
    capabilities.push(capability(GATE_EGRESS, gated));
    let (sends, refuses) = match Sends::load(&mut ebpf, &btf) {
        Ok(sends) => (Some(sends), Ok(())),
        Err(reason) => (None, Err(reason)),
    };
    capabilities.push(capability(SEND_REFUSE, refuses));
    let (ingress, gate) = match cgroup_hook(&mut ebpf, "apiward_ingress", Way::Ingress, &options.scope) {
        Ok(hook) => (Ok(()), Some((GateMaps::take(&mut ebpf)?, hook))),
        Err(reason) => (Err(reason), None),
    };
    // The tracepoints are attached: who connects from here on is known to this agent's own maps.
    let mut gate = gate;
    let adopted = adopt(
        options,
        kept.as_ref(),
        &mut egress_maps,
        gate.as_mut().map(|(maps, _)| maps),
    )?;
    let mut egress_hook = cgroup_hook(&mut ebpf, program, Way::Egress, &options.scope);
    let egress = match &mut egress_hook {
        // The programs that are there do the same, and tell nobody: both for as short a time as can be.
        Ok(_) if adopted.is_some() && gate.is_some() => Ok(()),
        Ok(hook) => hook.attach().map_err(|error| error.to_string()),
        Err(reason) => Err(reason.clone()),
    };
    capabilities.push(capability(EGRESS_WITHHOLD, egress));
    capabilities.push(capability(GATE_INGRESS, ingress));
    let (probed, refuses) = probes::load(&mut ebpf, together);
    capabilities.push(capability(
        "uprobe",
        probed.as_ref().map(drop).map_err(String::clone),
    ));
    let is_refusing = refuses.is_ok();
    capabilities.push(capability(TLS_REFUSE, refuses));
    let together = match &probed {
        Ok(programs) => programs
            .why_one_by_one()
            .map_or(Ok(()), |why| Err(why.to_owned())),
        Err(reason) => Err(reason.clone()),
    };
    capabilities.push(capability(PROBE_LINKS, together));
    let programs = probed.unwrap_or_default();
    let run_times = RunTimes::of(&ebpf, programs.by_name(), &maps, is_twice);
    let probes = Probes::take(ebpf, programs, is_refusing, keeper.shelf())?;
    Ok(Loaded {
        mappings_needed,
        run_times,
        ring,
        maps,
        egress: egress_maps,
        egress_hook: egress_hook.ok(),
        gate,
        sends,
        lease,
        keeper,
        adopted,
        probes,
        capabilities,
    })
}

fn settings(options: &Options) -> Result<Settings, LoadError> {
    let scope = &options.scope;
    let mut settings = Settings {
        operation_bytes_max: options.operation_bytes_max,
        agent_pid: std::process::id(),
        exempt_exes: 1,
        ring_shift: options.ring_bytes.max(1).ilog2(),
        ..Settings::default()
    };
    let bit = |levels: &mut u32, cgroup: &Cgroup| {
        if cgroup.level > CGROUP_LEVEL_MAX {
            return Err(LoadError::Scope(format!(
                "{} is deeper than {CGROUP_LEVEL_MAX} levels: name a cgroup above it",
                cgroup.path.display()
            )));
        }
        *levels |= 1 << cgroup.level;
        Ok(())
    };
    for cgroup in &scope.cgroups {
        bit(&mut settings.cgroup_levels, cgroup)?;
    }
    for cgroup in &scope.exempt_cgroups {
        bit(&mut settings.exempt_levels, cgroup)?;
    }
    if !scope.cgroups.is_empty() || scope.more_cgroups {
        settings.scope |= BY_CGROUP;
    }
    if scope.more_cgroups {
        settings.cgroup_levels = u32::MAX;
    }
    if !scope.netns.is_empty() {
        settings.scope |= BY_NETNS;
    }
    if scope.by_exe {
        settings.scope |= BY_EXE;
    }
    Ok(settings)
}

fn capability(name: &'static str, result: Result<(), String>) -> Capability {
    Capability {
        name,
        available: result.is_ok(),
        reason: result.err().unwrap_or_default(),
    }
}

/// The verifier's log stays in the words: nobody can help without it.
pub(super) fn words(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            if log.is_empty() {
                // It was refused before anybody looked at it.
                return io_error.to_string();
            }
            last_words(io_error, &log)
        }
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            text
        }
    }
}

/// The error, and the end of the verifier's log, which says why.
pub(super) fn last_words(error: &io::Error, log: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("{error}; the verifier's last words:\n{last}")
}

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| format!("{name} is missing from the object"))?;
    program.try_into().map_err(|error: ProgramError| words(&error))
}

/// The maps that can be kept.
fn kept_maps(ebpf: &Ebpf) -> Result<Vec<(String, OwnedFd)>, LoadError> {
    let mut maps = Vec::new();
    for name in pins::names() {
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)) = ebpf.map(name).ok_or(LoadError::MapMissing(name))?
        else {
            return Err(LoadError::MapMissing(name));
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        let failed = |source| LoadError::Descriptor { name, source };
        maps.push((name.to_owned(), fd.map_err(failed)?));
    }
    Ok(maps)
}

/// Takes over what an agent before this one has left.
fn adopt(
    options: &Options,
    kept: Option<&Kept>,
    egress: &mut EgressMaps,
    gate: Option<&mut GateMaps>,
) -> Result<Option<Adopted>, LoadError> {
    let all = pins::all(&options.pins);
    let failed = |name| move |source| LoadError::Map { name, source };
    if let Some(newest) = all.first() {
        egress.know(newest.connections()).map_err(failed("FLOWS"))?;
    }
    let is_shared = kept.is_some();
    match gate {
        Some(gate) if is_shared => gate.go_on().map_err(failed("GATE_EDGES"))?,
        Some(gate) => {
            for one in &all {
                one.carry_over(gate).map_err(failed("GATE_DEAD"))?;
                egress.keep_withheld(&one.leaving()).map_err(failed("WITHHELD"))?;
            }
        }
        None => {}
    }
    Ok((!all.is_empty()).then_some(Adopted { is_shared }))
}

/// Attaches programs to their hooks, all or none; each a second time behind it where its runs may be skipped.
fn attach_tracepoints(
    ebpf: &mut Ebpf,
    programs: &[(&str, &str)],
    is_twice: bool,
    btf: &aya::Btf,
) -> Result<Vec<(String, OwnedFd)>, String> {
    let firsts = programs.iter().map(|(name, hook)| ((*name).to_owned(), *hook));
    let seconds = programs
        .iter()
        .map(|(name, hook)| (format!("{name}{SECOND}"), *hook));
    // The kernel runs what is attached to one hook in this order.
    let programs: Vec<_> = firsts.chain(seconds.filter(|_| is_twice)).collect();
    // Loading takes the verifier a quarter of a second each. Between the attachments there is nothing but a moment: else the
    // calls of that time would have a request and no answer, or the other way round.
    let load = |(name, hook): &(String, &str)| load_tracepoint(ebpf, name, hook, btf);
    let loaded: Result<Vec<_>, String> = programs.iter().map(load).collect();
    let attach = |loaded: Vec<OwnedFd>| {
        let links = loaded
            .iter()
            .map(|fd| links::attach_tracepoint(fd.as_fd()).map_err(|error| error.to_string()));
        links.collect::<Result<Vec<_>, String>>()
    };
    match loaded.and_then(attach) {
        Ok(links) => Ok(programs.into_iter().map(|(name, _)| name).zip(links).collect()),
        Err(reason) => {
            for (name, _) in programs {
                let program: &mut BtfTracePoint = program(ebpf, &name)?;
                // One that was not loaded needs nothing: nothing of them is wanted.
                let _ = program.unload();
            }
            Err(reason)
        }
    }
}

/// Loaded, and not attached.
fn load_tracepoint(ebpf: &mut Ebpf, name: &str, hook: &str, btf: &aya::Btf) -> Result<OwnedFd, String> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    if program.fd().is_err() {
        program.load(hook, btf).map_err(|error| words(&error))?;
    }
    let fd = program.fd().map_err(|error| words(&error))?;
    fd.as_fd().try_clone_to_owned().map_err(|error| error.to_string())
}

/// Where programs of cgroups belong.
fn cgroups(scope: &Scope) -> Result<Vec<PathBuf>, String> {
    if scope.cgroups.is_empty() || scope.more_cgroups {
        return Ok(vec![cgroup::root().map_err(|error| error.to_string())?]);
    }
    Ok(scope.cgroups.iter().map(|cgroup| cgroup.path.clone()).collect())
}

fn load_cgroup(ebpf: &mut Ebpf, name: &str) -> Result<(), String> {
    let program: &mut CgroupSkb = program(ebpf, name)?;
    program.load().map_err(|error| words(&error))
}

/// Loaded, and not attached.
fn cgroup_hook(ebpf: &mut Ebpf, name: &str, way: Way, scope: &Scope) -> Result<CgroupHook, String> {
    let program: &mut CgroupSkb = program(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(|error| words(&error))?;
    }
    let fd = program.fd().map_err(|error| words(&error))?;
    let fd = fd
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| error.to_string())?;
    Ok(CgroupHook::new(fd, way, cgroups(scope)?))
}

pub(super) fn take<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(Map) -> Result<T, MapError>,
) -> Result<T, LoadError> {
    let map = ebpf.take_map(name).ok_or(LoadError::MapMissing(name))?;
    convert(map).map_err(|source| LoadError::Map { name, source })
}

/// The maps that the agent reads and writes.
pub struct Maps {
    counters: PerCpuArray<MapData, Counters>,
    libraries: HashMap<MapData, FileKey, u32>,
    cgroups: HashMap<MapData, u64, u32>,
    netns: HashMap<MapData, u32, u32>,
    exes: HashMap<MapData, FileKey, u32>,
    processes: HashMap<MapData, u32, u32>,
}

impl Maps {
    fn take(ebpf: &mut Ebpf) -> Result<Maps, LoadError> {
        Ok(Maps {
            counters: take(ebpf, "COUNTERS", PerCpuArray::try_from)?,
            libraries: take(ebpf, "LIBRARIES", HashMap::try_from)?,
            cgroups: take(ebpf, "CGROUPS", HashMap::try_from)?,
            netns: take(ebpf, "NETNS", HashMap::try_from)?,
            exes: take(ebpf, "EXES", HashMap::try_from)?,
            processes: take(ebpf, "PROCESSES", HashMap::try_from)?,
        })
    }

    fn set_scope(&mut self, scope: &Scope) -> Result<(), LoadError> {
        let failed = |name| move |source| LoadError::Map { name, source };
        for cgroup in &scope.cgroups {
            self.cgroups
                .insert(cgroup.id, IN_SCOPE, 0)
                .map_err(failed("CGROUPS"))?;
        }
        for cgroup in &scope.exempt_cgroups {
            self.cgroups
                .insert(cgroup.id, EXEMPT, 0)
                .map_err(failed("CGROUPS"))?;
        }
        for netns in &scope.netns {
            self.netns.insert(netns, 1, 0).map_err(failed("NETNS"))?;
        }
        Ok(())
    }

    /// Sum over all CPUs.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let Ok(values) = self.counters.get(&0, 0) else {
            return sum;
        };
        for value in values.iter() {
            sum.sequence += value.sequence;
            sum.dropped_records += value.dropped_records;
            sum.dropped_bytes += value.dropped_bytes;
            sum.no_cookie += value.no_cookie;
            sum.mptcp += value.mptcp;
            sum.compat += value.compat;
            sum.exempt += value.exempt;
            sum.unreadable += value.unreadable;
            sum.shed_operations += value.shed_operations;
            sum.shed_bytes += value.shed_bytes;
            sum.other_carriers += value.other_carriers;
            sum.gate_heads += value.gate_heads;
            sum.gate_left += value.gate_left;
            sum.gate_denied += value.gate_denied;
            sum.gate_lost += value.gate_lost;
            sum.gate_unowned += value.gate_unowned;
            sum.gate_again += value.gate_again;
            sum.gate_full += value.gate_full;
            sum.gate_expired += value.gate_expired;
            sum.seconds_spared += value.seconds_spared;
            sum.firsts_told += value.firsts_told;
        }
        sum
    }

    /// Puts a cgroup into the scope that was not there at the start.
    pub fn list_cgroup(&mut self, id: u64) -> Result<(), MapError> {
        self.cgroups.insert(id, IN_SCOPE, 0)
    }

    /// Puts an executable into the scope, or exempts it; processes that run it already are asked about again.
    pub fn list_exe(&mut self, file: FileKey, exempt: bool) -> Result<(), MapError> {
        let value = self.exes.get(&file, 0).unwrap_or(0) | if exempt { EXEMPT } else { IN_SCOPE };
        self.exes.insert(file, value, 0)?;
        let known: Vec<u32> = self.processes.keys().flatten().collect();
        for pid in known {
            // It may have ended meanwhile.
            let _ = self.processes.remove(&pid);
        }
        Ok(())
    }

    /// The executable is exempt.
    pub fn is_exempt(&self, file: &FileKey) -> bool {
        self.exes.get(file, 0).is_ok_and(|value| value & EXEMPT != 0)
    }

    /// This library is dealt with: its mappings need not be reported again.
    pub fn library_known(&mut self, file: FileKey) {
        // Best effort: at worst it is reported once more.
        let _ = self.libraries.insert(file, 1, 0);
    }

    /// The library is detached: tell again when it is mapped.
    pub fn library_forgotten(&mut self, file: FileKey) {
        let _ = self.libraries.remove(&file);
    }
}

/// Device and inode of a file, as the programs see them.
pub fn file_key(metadata: &std::fs::Metadata) -> FileKey {
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    FileKey {
        inode: metadata.ino(),
        device: major << 20 | minor,
        reserved: 0,
    }
}
