//! What outlives the agent: maps and links that have names in the host's bpffs.
//!
//! Each run that keeps its enforcement has a directory of its own there, named by the layout of the maps and the run's
//! number: `v1-9d3c0f1a-7`. The next run goes on with the maps of the newest one whose layout it shares, attaches its own
//! programs beside the old ones, and then removes every directory but its own: a link ends with its last name. With
//! another layout nothing is shared; what was denied is copied, so that it stays so.
//!
//! It must not know a policy, nor when to keep or to let go.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use apiward_common::flow::{Counters, Flow, Withhold};
use apiward_common::life::{
    LEASE_DENIED, LEASE_RELEASED, LEASE_STARTS, LEASE_TURN, LEASE_UNTIL, MEANING, SHAPE, TURN_BEGINS,
};
use apiward_common::owner::Owner;
use apiward_common::record::role;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};

use super::gate::GateMaps;
use super::links::{self, CgroupHook};
use super::shelf::Shelf;
use super::{closing, probes};
use crate::errors;

/// Maps that the next agent goes on with: what is in force, and what is known of connections.
pub(super) const SHARED: [&str; 21] = [
    "GATE_ACTIVE",
    "GATE_GENERATIONS",
    "GATE_NODES",
    "GATE_EDGES",
    "GATE_METHODS",
    "GATE_PEERS",
    "GATE_WORKLOADS",
    "GATE_RATES",
    "GATE_ACCOUNTS",
    "GATE_LEASE",
    "GATE_FLOWS",
    "GATE_HANDSHAKES",
    "GATE_SYNS",
    "GATE_DEAD",
    "LISTENERS",
    "PORTS",
    "OWNERS",
    "CLASSES",
    "WITHHELD",
    "SOME_WITHHELD",
    "EXEMPT_PEERS",
];
/// Maps that it reads once: they also hold what only their own agent's pipeline knows.
const READ: [&str; 2] = ["FLOWS", "COUNTERS"];

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Why nothing can be kept here.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(
        "`on_exit: keep` needs a bpffs, and {path} is in none: mount it on the host (mount -t bpf bpf /sys/fs/bpf), or \
         say in `pins` where it is [{id}]", id = errors::NOTHING_KEPT
    )]
    NoBpffs { path: PathBuf },
    #[error(
        "`on_exit: keep` needs the host's own bpffs, and what is mounted at {path} is another: what is kept there ends \
         with this container. Mount the host's /sys/fs/bpf into it [{id}]", id = errors::NOTHING_KEPT
    )]
    NotTheHosts { path: PathBuf },
    #[error("{path} in the bpffs: {source} [{id}]", id = errors::NOTHING_KEPT)]
    Io { path: PathBuf, source: io::Error },
}

/// Says whether what is pinned below `root` outlives the agent, and the container that it may run in.
pub fn check(root: &Path) -> Result<(), PinError> {
    let Some(place) = root.ancestors().find(|path| path.is_dir()) else {
        return Err(PinError::NoBpffs { path: root.into() });
    };
    if !is_bpffs(place) {
        return Err(PinError::NoBpffs { path: place.into() });
    }
    // As the host's first process sees it; where the agent is kept from that, what it sees itself has to do.
    let host = Path::new("/proc/1/root").join(place.strip_prefix("/").unwrap_or(place));
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    let same = match (device(place), device(&host)) {
        (Ok(own), Ok(hosts)) => own == hosts,
        // It can be looked into, and there is no such place.
        (Ok(_), Err(error)) => error.kind() != io::ErrorKind::NotFound,
        _ => false,
    };
    match same {
        true => Ok(()),
        false => Err(PinError::NotTheHosts { path: place.into() }),
    }
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Agents in a row that may make a found lease a little longer without having served.
const UNPROVEN_STARTS_MAX: u64 = 3;

/// One run's pins.
#[derive(Clone, Debug)]
pub struct Kept {
    directory: PathBuf,
    /// The number of the run.
    number: u32,
    /// Its maps are as this build has them.
    is_shared: bool,
}

fn layout() -> String {
    format!("v{MEANING}-{SHAPE:08x}")
}

/// All that is kept below `root`, the newest first.
pub fn all(root: &Path) -> Vec<Kept> {
    let mut found: Vec<Kept> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let (layout_of, number) = name.to_str()?.rsplit_once('-')?;
            let directory = entry.path();
            let there = |name: &&str| directory.join(map_name(name)).exists();
            Some(Kept {
                number: number.parse().ok()?,
                is_shared: layout_of == layout() && SHARED.iter().chain(&READ).all(there),
                directory,
            })
        })
        .collect();
    found.sort_by_key(|kept| std::cmp::Reverse(kept.number));
    found
}

/// The newest whose maps this build can go on with.
pub fn newest(root: &Path) -> Option<Kept> {
    all(root).into_iter().find(|kept| kept.is_shared)
}

/// The number of the run that begins now.
pub(super) fn next_number(root: &Path) -> u32 {
    all(root).first().map_or(1, |kept| kept.number.wrapping_add(1))
}

fn map_name(name: &str) -> String {
    format!("map-{name}")
}

impl Kept {
    /// The number of the run.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where one of the shared maps is.
    pub(super) fn path(&self, map: &str) -> PathBuf {
        self.directory.join(map_name(map))
    }

    fn open<T>(&self, map: &str) -> Result<T, MapError>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        T::try_from(Map::from_map_data(MapData::from_pin(self.path(map))?)?)
    }

    /// How long its denials still hold.
    pub fn lease(&self) -> Duration {
        let until = self
            .open::<Array<MapData, u64>>("GATE_LEASE")
            .and_then(|lease| lease.get(&LEASE_UNTIL, 0))
            .unwrap_or(0);
        Duration::from_nanos(until.saturating_sub(now()))
    }

    /// Some policy is in force.
    pub fn is_in_force(&self) -> bool {
        self.open::<Array<MapData, u32>>("GATE_ACTIVE")
            .and_then(|active| active.get(&0, 0))
            .is_ok_and(|active| active != 0)
    }

    /// From now on nothing more is judged. What was denied stays so.
    pub fn put_out_of_force(&self) -> Result<(), MapError> {
        self.open::<Array<MapData, u32>>("GATE_ACTIVE")?.set(0, 0, 0)
    }

    /// Heads that were denied since its agent last looked.
    pub(super) fn denied_since(&self) -> u64 {
        let counted = self
            .open::<PerCpuArray<MapData, Counters>>("COUNTERS")
            .and_then(|counters| counters.get(&0, 0))
            .map_or(0, |values| values.iter().map(|value| value.gate_denied).sum());
        let looked = self
            .open::<Array<MapData, u64>>("GATE_LEASE")
            .and_then(|lease| lease.get(&LEASE_DENIED, 0))
            .unwrap_or(counted);
        counted.saturating_sub(looked)
    }

    /// The connections that it knew, as they are to a new agent: nothing was told of them. Of those that have moved
    /// bytes the beginning is out of sight.
    pub(super) fn connections(&self) -> Vec<(u64, Flow)> {
        let Ok(flows) = self.open::<HashMap<MapData, u64, Flow>>("FLOWS") else {
            return Vec::new();
        };
        let anew = |(cookie, flow): (u64, Flow)| {
            let is_fresh = flow.role == role::CLIENT && flow.enforceable != 0 && flow.egress_seen == 0;
            let anew = Flow {
                scope_cgroup: 0,
                scope_pid: 0,
                announced: 0,
                tls: 0,
                sniffed: 0,
                shed: 0,
                withheld_bytes: 0,
                started: u8::from(is_fresh && flow.started != 0),
                ..flow
            };
            (cookie, anew)
        };
        flows.iter().flatten().map(anew).collect()
    }

    /// Whose the connections are that it knew.
    fn owners(&self) -> Vec<(u64, Owner)> {
        let owners = self.open::<HashMap<MapData, u64, Owner>>("OWNERS");
        owners.map_or_else(|_| Vec::new(), |map| map.iter().flatten().collect())
    }

    /// Tells another layout's maps what is known of connections, as far as it is known by now.
    pub(super) fn carry_over(&self, gate: &mut GateMaps) -> Result<(), MapError> {
        gate.keep_dead(&self.coming())?;
        gate.keep_owners(&self.owners())
    }

    /// Connections that are dead, by their cookies.
    fn dead(&self) -> impl Iterator<Item = u64> {
        let coming = self.coming().into_iter().map(|(cookie, _)| cookie);
        coming.chain(self.leaving().into_iter().map(|(cookie, _)| cookie))
    }

    /// Connections whose requests were denied. Also of another layout: these two never change theirs.
    fn coming(&self) -> Vec<(u64, u32)> {
        let dead = self.open::<HashMap<MapData, u64, u32>>("GATE_DEAD");
        dead.map_or_else(|_| Vec::new(), |map| map.iter().flatten().collect())
    }

    /// Connections that nothing may leave by.
    pub(super) fn leaving(&self) -> Vec<(u64, Withhold)> {
        let withheld = self.open::<HashMap<MapData, u64, Withhold>>("WITHHELD");
        withheld.map_or_else(|_| Vec::new(), |map| map.iter().flatten().collect())
    }

    /// Lets go of everything: whatever nobody else holds is detached and gone. Links first: what is not attached does
    /// no harm. Those that end when they are closed are handed out.
    fn remove(&self, open: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut links = 0;
        let mut names: Vec<PathBuf> = fs::read_dir(&self.directory)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let is_link = |path: &Path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("link-"))
        };
        names.sort_by_key(|path| !is_link(path));
        for name in &names {
            if is_link(name) {
                links += 1;
                if let Ok(link) = links::open_pinned(name) {
                    // Of a tracepoint and of a probe it cannot be asked: theirs end with the last who holds them.
                    let _ = links::detach(link.as_fd());
                    open.push(link);
                }
            }
            fs::remove_file(name)?;
        }
        fs::remove_dir(&self.directory)?;
        Ok(links)
    }
}

/// What was kept and has no name any more.
#[derive(Debug, Default)]
pub struct Unpinned {
    /// How many links that were.
    pub links: usize,
    /// Those of tracepoints and probes, which end when they are closed. The kernel then waits until nobody is at a probe's place:
    /// some 80 ms, for single probes one after the other and once their programs are off, for links to many places beside
    /// each other and before.
    pub open: Vec<OwnedFd>,
}

/// Lets go of all that is kept below `root`. All of it is tried.
pub fn remove_all(root: &Path) -> Result<Unpinned, PinError> {
    remove(root, all(root))
}

fn remove(root: &Path, kept: Vec<Kept>) -> Result<Unpinned, PinError> {
    let mut unpinned = Unpinned::default();
    let mut failure = None;
    for one in kept {
        match one.remove(&mut unpinned.open) {
            Ok(count) => unpinned.links += count,
            Err(source) => {
                failure = Some(PinError::Io {
                    path: one.directory,
                    source,
                });
            }
        }
    }
    // It stays where something is left in it.
    let _ = fs::remove_dir(root);
    failure.map_or(Ok(unpinned), Err)
}

/// The kernel's clock (ns).
pub(super) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64)
}

/// Ends every lease there is, and tells whoever holds it to let go, also an agent that does not answer now.
pub fn end_leases() {
    const NAME: &str = "GATE_LEASE";
    for info in aya::maps::loaded_maps().flatten() {
        if info.name_as_str() != Some(NAME) {
            continue;
        }
        let lease = MapData::from_id(info.id())
            .and_then(Map::from_map_data)
            .and_then(Array::<MapData, u64>::try_from);
        // One that has just gone needs nothing any more; one of another version may have fewer words.
        if let Ok(mut lease) = lease {
            let _ = lease.set(LEASE_UNTIL, 0, 0);
            let _ = lease.set(LEASE_RELEASED, 1, 0);
        }
    }
}

/// What this run can keep: everything that the gate needs.
pub struct Keeper {
    root: PathBuf,
    number: u32,
    maps: Vec<(String, OwnedFd)>,
    /// The links of probes.
    shelf: Shelf,
    /// The links of tracepoints, by their programs' names: held here as long as the agent runs.
    tracepoints: Vec<(String, OwnedFd)>,
    is_pinned: bool,
}

impl Keeper {
    /// `maps`: everything of [`names`].
    pub(super) fn new(root: &Path, number: u32, maps: Vec<(String, OwnedFd)>) -> Self {
        Keeper {
            root: root.into(),
            number,
            maps,
            shelf: Shelf::default(),
            tracepoints: Vec::new(),
            is_pinned: false,
        }
    }

    pub(super) fn hold(&mut self, links: Vec<(String, OwnedFd)>) {
        self.tracepoints.extend(links);
    }

    /// The number of the run.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Probes that end with the agent although the rest is kept.
    pub fn probes_unkept(&self) -> u64 {
        self.shelf.unkept()
    }

    pub(super) fn shelf(&self) -> Shelf {
        self.shelf.clone()
    }

    fn directory(&self) -> PathBuf {
        self.root.join(format!("{}-{}", layout(), self.number))
    }

    /// Is it kept now?
    pub fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// From now on everything that is attached outlives the agent. Asked again, links that have changed are.
    pub fn keep(&mut self, hooks: &[&CgroupHook]) -> Result<(), PinError> {
        let result = self.try_keep(hooks);
        match result {
            Ok(()) => self.is_pinned = true,
            Err(_) => self.let_go(),
        }
        result
    }

    fn try_keep(&self, hooks: &[&CgroupHook]) -> Result<(), PinError> {
        let directory = self.directory();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PinError::Io { path, source }
        };
        if !self.is_pinned {
            check(&self.root)?;
            let mut private = fs::DirBuilder::new();
            private.recursive(true).mode(0o700);
            private.create(&directory).map_err(failed(&directory))?;
            for (name, map) in &self.maps {
                let path = directory.join(map_name(name));
                links::pin(map.as_fd(), &path).map_err(failed(&path))?;
            }
            for (name, link) in &self.tracepoints {
                let path = directory.join(format!("link-{name}"));
                links::pin(link.as_fd(), &path).map_err(failed(&path))?;
            }
            self.shelf.keep(&directory).map_err(failed(&directory))?;
        }
        for (name, link) in hooks.iter().flat_map(|hook| hook.links()) {
            let path = directory.join(format!("link-{name}"));
            // The one before may have been detached by somebody.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(error)),
                _ => links::pin(link, &path).map_err(failed(&path))?,
            }
        }
        Ok(())
    }

    /// From now on it ends with the agent. The agent's own links stay attached.
    pub fn let_go(&mut self) {
        self.is_pinned = false;
        self.shelf.let_go();
        let directory = self.directory();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let _ = fs::remove_dir(&directory);
        let _ = fs::remove_dir(&self.root);
    }

    /// Lets go of what earlier runs have kept, `others` of [`Keeper::others`]. To be called when this run's own programs are
    /// attached and judge.
    pub fn remove_others(&mut self, others: Vec<Kept>) -> Result<Removed, PinError> {
        let mut removed = Removed {
            links: 0,
            denied: others.iter().map(Kept::denied_since).sum(),
            dead: others.iter().flat_map(Kept::dead).collect(),
        };
        let Unpinned { links, open } = remove(&self.root, others)?;
        removed.links = links;
        if !open.is_empty() {
            // Nobody waits for the kernel now.
            closing::beside(move || probes::drop_together(open));
        }
        Ok(removed)
    }

    /// From now on no probe of an earlier run judges that goes by a lease of its own.
    pub fn end_other_turns(&self, others: &[Kept]) {
        for kept in others.iter().filter(|kept| !kept.is_shared) {
            // One of an older version has no such word, and no probes.
            if let Ok(mut lease) = kept.open::<Array<MapData, u64>>("GATE_LEASE") {
                let _ = lease.set(LEASE_TURN, 0, 0);
            }
        }
    }

    /// What earlier runs have kept.
    pub fn others(&self) -> Vec<Kept> {
        let own = self.directory();
        let mut kept = all(&self.root);
        kept.retain(|kept| kept.directory != own);
        kept
    }

    /// Connections that are dead by what earlier runs have kept, by their cookies. Where this run shares none of their
    /// maps, its own learn what there is to know first.
    pub fn dead_of_others(&self, gate: Option<&mut GateMaps>) -> Result<HashSet<u64>, MapError> {
        let others = self.others();
        if let Some(gate) = gate {
            for kept in others.iter().filter(|kept| !kept.is_shared) {
                kept.carry_over(gate)?;
            }
        }
        Ok(others.iter().flat_map(Kept::dead).collect())
    }
}

/// What earlier runs had kept.
#[derive(Debug, Default)]
pub struct Removed {
    pub links: usize,
    /// Heads that were denied while no agent ran.
    pub denied: u64,
    /// Connections that are dead by it, by their cookies. Nobody has told their peers.
    pub dead: HashSet<u64>,
}

/// The maps that a [`Keeper`] keeps.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SHARED.into_iter().chain(READ)
}

/// How long an agent has to serve before it renews a lease that it has found.
pub fn proving(keep_for: Duration) -> Duration {
    const MOST: Duration = Duration::from_secs(10);
    (keep_for / 4).min(MOST)
}

/// Until when denials hold.
pub struct Lease {
    words: Array<MapData, u64>,
}

impl Lease {
    pub(super) fn new(words: Array<MapData, u64>) -> Self {
        Lease { words }
    }

    /// Denials hold for this long from now on.
    pub fn renew(&mut self, span: Duration) -> Result<(), MapError> {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.words.set(LEASE_UNTIL, now().saturating_add(span), 0)?;
        self.words.set(LEASE_STARTS, 0, 0)
    }

    /// An agent begins with the lease of another, which it does not renew before it has served for a while: one that only
    /// crashes and starts would hold it up for ever. So that there is no gap until then it may be a little longer; that
    /// too only for the first few agents.
    pub(super) fn found(&mut self, keep_for: Duration) -> Result<(), MapError> {
        let starts = self.words.get(&LEASE_STARTS, 0)?.saturating_add(1);
        self.words.set(LEASE_STARTS, starts, 0)?;
        self.bridge(keep_for)
    }

    /// The agent is about to serve: what it has found is to hold until it may renew it, and no longer than it may hold
    /// at all.
    pub fn bridge(&mut self, keep_for: Duration) -> Result<(), MapError> {
        let after = |span: Duration| now().saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let found = self.words.get(&LEASE_UNTIL, 0)?;
        let starts = self.words.get(&LEASE_STARTS, 0)?;
        let mut until = found.min(after(keep_for));
        if starts <= UNPROVEN_STARTS_MAX {
            until = until.max(after(2 * proving(keep_for)));
        }
        match until == found {
            true => Ok(()),
            false => self.words.set(LEASE_UNTIL, until, 0),
        }
    }

    /// `apiward release` was asked for while the agent did not answer.
    pub fn is_released(&self) -> bool {
        self.words.get(&LEASE_RELEASED, 0).is_ok_and(|word| word != 0)
    }

    /// From now on the probes of this run judge, and no other's. `begins`: those of others may be in the middle of a look
    /// yet, so that no call is made to fail.
    pub fn take_turn(&mut self, run: u32, begins: bool) -> Result<(), MapError> {
        let word = u64::from(run) | if begins { TURN_BEGINS } else { 0 };
        self.words.set(LEASE_TURN, word, 0)
    }

    /// How long denials still hold.
    pub fn left(&self) -> Duration {
        let until = self.words.get(&LEASE_UNTIL, 0).unwrap_or(0);
        Duration::from_nanos(until.saturating_sub(now()))
    }

    /// Notes how many heads have been denied, for the next agent.
    pub fn note_denied(&mut self, heads: u64) {
        // Best effort: at worst the next one counts some twice.
        let _ = self.words.set(LEASE_DENIED, heads, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_a_bpffs_keeps_anything() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(&dir.path().join("apiward")).unwrap_err();
        assert!(
            matches!(&error, PinError::NoBpffs { .. }) && error.to_string().contains("mount -t bpf"),
            "{error}"
        );
    }

    #[test]
    fn runs_are_found_by_number_and_what_is_not_whole_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            &format!("{}-9", layout()),
            "v0-00000000-10",
            "v0-00000000-11",
            "else",
        ] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let numbers: Vec<u32> = all(dir.path()).iter().map(Kept::number).collect();
        assert_eq!(numbers, [11, 10, 9]);
        assert!(newest(dir.path()).is_none());
        let own = dir.path().join(format!("{}-9", layout()));
        for name in names() {
            fs::write(own.join(map_name(name)), "").unwrap();
        }
        assert_eq!(newest(dir.path()).unwrap().number(), 9);
        // As another build would see it: not its own, and gone all the same.
        fs::write(dir.path().join("v0-00000000-10/link-egress-0"), "").unwrap();
        assert_eq!(remove_all(dir.path()).unwrap().links, 1);
        assert!(dir.path().join("else").exists() && all(dir.path()).is_empty());
    }
}
