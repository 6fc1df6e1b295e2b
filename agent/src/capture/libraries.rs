//! TLS libraries: found when a process maps one, probed once per file, let go when nobody can use them any more.
//!
//! On a thread of its own, because attaching waits for every CPU: the ring must be drained meanwhile. The inode
//! counts, not the path: a container's own copy is another library.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use apiward_common::scope::FileKey;
use smol_str::SmolStr;

use super::{KernelTime, TlsInfo};
use crate::kernel::load::file_key;
use crate::kernel::mappings::{Mappings, Seen, Watch};
use crate::kernel::probes::{self, ProbeLink, Probes};
use crate::kernel::{descriptors, mapped, site, turns};

mod attach;
mod listed;

use listed::Listed;
pub use listed::{Library, Report};

/// Libraries and programs with TLS inside that are probed at once.
const LIBRARIES_MAX: usize = 512;
/// Files that were looked at and are no TLS library.
const REFUSED_MAX: usize = 8_192;
/// Files that wait to be looked at. One that is not asked for is asked for again by the next process that maps it.
const REQUESTS_MAX: usize = 4_096;
/// Mappings were missed: between two looks at all running processes, each of which reads what they map.
const RESCAN_PAUSE: Duration = Duration::from_secs(10);
/// How often libraries are checked for being deleted and unused.
const SWEEP: Duration = Duration::from_secs(30);
/// Where the system's own libssl lies: probed at once, so that a program that lives for milliseconds is seen.
const SYSTEM_DIRECTORIES: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
];

/// Something to look at.
#[derive(Clone, Debug)]
pub enum Request {
    /// A process mapped this file.
    Mapped {
        at: KernelTime,
        pid: u32,
        file: FileKey,
        name: SmolStr,
    },
    /// A process runs this program, which may have the library inside.
    Executed {
        at: KernelTime,
        pid: u32,
        file: FileKey,
        exe: SmolStr,
    },
    /// Mappings were missed: the running processes are looked at again.
    Missed,
}

/// The processes around the agent that are in scope.
pub struct Neighbours {
    pub running: Box<dyn Fn() -> Vec<u32> + Send>,
    /// This one is. Asked for each mapping of a libssl.
    pub in_scope: Box<dyn Fn(u32) -> bool + Send>,
    /// Where mappings are told, if no kernel program reports them.
    pub mappings: Option<Mappings>,
    /// An earlier run's probes are there, and are taken off as soon as this one's are.
    pub takes_over: bool,
}

/// Handle of the thread; it ends, and detaches everything that is not kept, when this is dropped.
pub struct Libraries {
    requests: Option<Requests>,
    mappings_lost: Arc<AtomicU64>,
    requests_dropped: Arc<AtomicU64>,
    shared: Arc<Mutex<Listed>>,
    watch: Option<Watch>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The way to the thread.
#[derive(Clone)]
struct Requests {
    sender: SyncSender<Request>,
    dropped: Arc<AtomicU64>,
    missed: Arc<AtomicBool>,
}

impl Requests {
    fn send(&self, request: Request) {
        // The thread ends only after every sender: what cannot be sent has no room.
        if self.sender.try_send(request).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Cannot be dropped: where there is no room, the thread is awake and looks at the flag.
    fn missed(&self) {
        self.missed.store(true, Ordering::Release);
        let _ = self.sender.try_send(Request::Missed);
    }
}

impl Libraries {
    /// Starts the thread, which first probes the system's own libraries and those of `running` processes.
    /// Returns when the system's own are done, and the others too where it takes over.
    pub fn start(probes: Probes, neighbours: Neighbours, ways: site::Ways) -> std::io::Result<Libraries> {
        let Neighbours {
            running,
            in_scope,
            mappings,
            takes_over,
        } = neighbours;
        let (sender, receiver) = sync_channel(REQUESTS_MAX);
        let requests = Requests {
            sender,
            dropped: Arc::default(),
            missed: Arc::default(),
        };
        let mappings_lost = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(Mutex::new(Listed::default()));
        let (ready, started) = channel();
        let started_at = now();
        let thread = std::thread::Builder::new().name("apiward-tls".into()).spawn({
            let (shared, missed) = (shared.clone(), requests.missed.clone());
            move || {
                // What a library's first user does before the probes are there is not seen.
                turns::go_at_once();
                let mut keeper = Keeper {
                    probes,
                    shared,
                    known: HashMap::new(),
                    refused: HashSet::new(),
                    aliases: HashMap::new(),
                    gone: HashSet::new(),
                    missed,
                    running,
                    ways,
                };
                keeper.system();
                if !takes_over {
                    let _ = ready.send(());
                }
                keeper.rescan(started_at);
                keeper.probes.are_there();
                // Nobody waits any more if the start was given up, or was told before.
                let _ = ready.send(());
                keeper.serve(&receiver);
                let links = keeper.known.into_values().flat_map(|attached| attached.links);
                probes::end(links.collect());
            }
        })?;
        let mut libraries = Libraries {
            requests_dropped: requests.dropped.clone(),
            requests: Some(requests),
            mappings_lost,
            shared,
            watch: None,
            thread: Some(thread),
        };
        if let Some(mappings) = mappings {
            libraries.watch(mappings, in_scope)?;
        }
        let _ = started.recv();
        Ok(libraries)
    }

    fn watch(
        &mut self,
        mappings: Mappings,
        in_scope: Box<dyn Fn(u32) -> bool + Send>,
    ) -> std::io::Result<()> {
        let Some(requests) = self.requests.clone() else {
            return Ok(());
        };
        let lost = self.mappings_lost.clone();
        self.watch = Some(mappings.watch(move |seen| match seen {
            Seen::Mapped(mapping) if in_scope(mapping.pid) => requests.send(Request::Mapped {
                at: KernelTime(mapping.at_ns),
                pid: mapping.pid,
                file: mapping.file,
                name: mapping.name.into(),
            }),
            Seen::Mapped(_) => {}
            Seen::Lost(records) => {
                lost.fetch_add(records, Ordering::Relaxed);
                requests.missed();
            }
            Seen::Cpus => requests.missed(),
        })?);
        Ok(())
    }

    /// Asks for something to be looked at.
    pub fn request(&mut self, request: Request) {
        if let Some(requests) = &self.requests {
            requests.send(request);
        }
    }

    /// Requests that found no room.
    pub fn requests_dropped(&self) -> u64 {
        self.requests_dropped.load(Ordering::Relaxed)
    }

    /// Records of mappings, of whatever file, that found no room in the kernel's rings.
    pub fn mappings_lost(&self) -> u64 {
        self.mappings_lost.load(Ordering::Relaxed)
    }

    /// What was done so far.
    pub fn shared(&self) -> std::sync::MutexGuard<'_, Listed> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Libraries {
    fn drop(&mut self) {
        // Every sender first: the thread ends when there is none.
        drop((self.watch.take(), self.requests.take()));
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

struct Attached {
    links: Vec<ProbeLink>,
    /// What the programs know its sites by.
    cookies: Vec<u64>,
    /// Keeps the inode, so that its number is not used again while it is known by it.
    file: File,
    number: usize,
}

struct Keeper {
    probes: Probes,
    shared: Arc<Mutex<Listed>>,
    known: HashMap<FileKey, Attached>,
    refused: HashSet<FileKey>,
    /// Files that mappings and `/proc` know by different devices, to what `/proc` says: before Linux 6.18 the side
    /// records name overlayfs's layer, `/proc` the overlay.
    aliases: HashMap<FileKey, FileKey>,
    /// Not found before their process ended, or beyond the bound: said once.
    gone: HashSet<FileKey>,
    /// Mappings were missed.
    missed: Arc<AtomicBool>,
    running: Box<dyn Fn() -> Vec<u32> + Send>,
    ways: site::Ways,
}

impl Keeper {
    fn serve(&mut self, requests: &Receiver<Request>) {
        let (mut swept, mut scanned) = (Instant::now(), Instant::now());
        let mut scanned_at = now();
        loop {
            let limit = if self.missed.load(Ordering::Acquire) {
                RESCAN_PAUSE.saturating_sub(scanned.elapsed())
            } else {
                SWEEP
            };
            match requests.recv_timeout(limit) {
                Ok(Request::Mapped { at, pid, file, name }) => self.mapped(at, pid, file, &name),
                Ok(Request::Executed { at, pid, file, exe }) => {
                    if !self.is_known(&file)
                        && let Some(path) = executable(pid, &exe, &file)
                    {
                        self.consider(&path, file, Some(at), false);
                    }
                }
                Ok(Request::Missed) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if scanned.elapsed() >= RESCAN_PAUSE && self.missed.swap(false, Ordering::Acquire) {
                self.rescan(scanned_at);
                (scanned, scanned_at) = (Instant::now(), now());
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep();
            }
        }
    }

    fn is_known(&self, file: &FileKey) -> bool {
        let file = self.aliases.get(file).unwrap_or(file);
        self.known.contains_key(file) || self.refused.contains(file)
    }

    fn mapped(&mut self, at: KernelTime, pid: u32, file: FileKey, name: &str) {
        if self.is_known(&file) {
            return;
        }
        let Some((path, found)) = resolve(pid, &file, name) else {
            self.not_found(name.to_owned(), file, Some(at));
            return;
        };
        if found != file {
            if self.aliases.len() >= REFUSED_MAX {
                self.aliases.clear();
            }
            self.aliases.insert(file, found);
        }
        if !self.is_known(&found) {
            self.consider(&path, found, Some(at), true);
        }
    }

    /// Looks at every process that runs. What it finds may have been in use since `since`, and was not seen.
    fn rescan(&mut self, since: KernelTime) {
        for pid in (self.running)() {
            self.process(pid, since);
        }
    }

    fn system(&mut self) {
        for directory in SYSTEM_DIRECTORIES {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if name.to_string_lossy().starts_with("libssl") && name.to_string_lossy().contains(".so") {
                    self.found(&entry.path());
                }
            }
        }
    }

    fn found(&mut self, path: &Path) {
        if let Ok(metadata) = fs::metadata(path) {
            let file = file_key(&metadata);
            if metadata.is_file() && !self.is_known(&file) {
                self.consider(path, file, None, true);
            }
        }
    }

    /// A process that was running before.
    fn process(&mut self, pid: u32, since: KernelTime) {
        for mapped in mapped::of(pid) {
            let named = mapped
                .path
                .file_name()
                .is_some_and(|name| name.as_bytes().starts_with(b"libssl"));
            let file = key_of(&mapped);
            if named && !self.is_known(&file) {
                self.consider(&mapped.open, file, Some(since), true);
            }
        }
        self.found_executable(pid, since);
    }

    fn found_executable(&mut self, pid: u32, since: KernelTime) {
        let path = PathBuf::from(format!("/proc/{pid}/exe"));
        if let Ok(metadata) = fs::metadata(&path) {
            let file = file_key(&metadata);
            if !self.is_known(&file) {
                self.consider(&path, file, Some(since), false);
            }
        }
    }

    /// Probes the file if it has an OpenSSL inside. `named`: its name says that it should.
    fn consider(&mut self, path: &Path, file: FileKey, mapped_at: Option<KernelTime>, named: bool) {
        let shown = shown_path(path);
        if self.known.len() >= LIBRARIES_MAX {
            make_room(&mut self.gone);
            // Every process that maps it would say the same.
            if !self.gone.insert(file) {
                return;
            }
            self.report(Report {
                path: shown,
                attached: false,
                detail: format!("{LIBRARIES_MAX} libraries are probed already"),
                mapped_at,
                attached_at: None,
                file,
            });
            return;
        }
        // Held from here on: a process that lives for milliseconds takes its names of the file with it.
        let opened = match descriptors::open(path) {
            Ok(opened) => opened,
            Err(Some(why)) if named && self.gone.insert(file) => {
                return self.refuse(shown, file, mapped_at, why);
            }
            Err(None) if named => return self.not_found(shown, file, mapped_at),
            Err(_) => return,
        };
        let (path, name) = (
            &PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())),
            path,
        );
        let plan = match site::plan_named(path, name, self.ways) {
            Ok(plan) => plan,
            Err(error) => {
                make_room(&mut self.refused);
                self.refused.insert(file);
                // NSS has a libssl3.so that is none; most programs have nothing of the kind.
                if named && !matches!(error, site::PlanError::NotTls) {
                    self.refuse(shown, file, mapped_at, error.to_string());
                }
                return;
            }
        };
        let number = self.shared().next_number();
        let probed = attach::attach(&mut self.probes, path, &plan, number as u32);
        let info = TlsInfo {
            library: SmolStr::new(plan.library.family.as_str()),
            version: SmolStr::new(&plan.library.version),
        };
        let attached = probed.is_ok();
        let reason = match (&probed, plan.uncovered.is_empty()) {
            (Err(error), _) => error.clone(),
            (Ok(_), true) => String::new(),
            (Ok(_), false) => format!("not covered: {}", plan.uncovered.join(", ")),
        };
        self.shared().list(Library {
            path: shown.clone(),
            info,
            inode: file.inode,
            attached,
            sites: probed
                .as_ref()
                .map_or_else(|_| Vec::new(), |probed| probed.sites.clone()),
            reason: reason.clone(),
        });
        match probed {
            Ok(probed) => {
                self.known.insert(
                    file,
                    Attached {
                        links: probed.links,
                        cookies: probed.cookies,
                        file: opened,
                        number,
                    },
                );
            }
            Err(_) => {
                make_room(&mut self.refused);
                self.refused.insert(file);
            }
        }
        self.report(Report {
            path: shown,
            attached,
            detail: reason,
            mapped_at,
            attached_at: Some(now()),
            file,
        });
    }

    /// It is looked for again when the next process maps it.
    fn not_found(&mut self, path: String, file: FileKey, mapped_at: Option<KernelTime>) {
        make_room(&mut self.gone);
        // Every process that lives too short would say the same.
        if mapped_at.is_some() && self.gone.insert(file) {
            self.report(Report {
                path,
                attached: false,
                detail: "the process that mapped it ended before it was found".to_owned(),
                mapped_at,
                attached_at: None,
                file,
            });
        }
    }

    fn refuse(&mut self, path: String, file: FileKey, mapped_at: Option<KernelTime>, reason: String) {
        self.shared().list(Library {
            path: path.clone(),
            info: TlsInfo {
                library: SmolStr::new_static("unknown"),
                version: SmolStr::default(),
            },
            inode: file.inode,
            attached: false,
            sites: Vec::new(),
            reason: reason.clone(),
        });
        self.report(Report {
            path,
            attached: false,
            detail: reason,
            mapped_at,
            attached_at: None,
            file,
        });
    }

    /// Lets go of files that are deleted and that no process maps.
    fn sweep(&mut self) {
        let is_gone = |attached: &Attached| attached.file.metadata().is_ok_and(|file| file.nlink() == 0);
        let gone = self.known.iter().filter(|(_, attached)| is_gone(attached));
        let deleted: Vec<FileKey> = gone.map(|(key, _)| *key).collect();
        if deleted.is_empty() {
            return;
        }
        let used = inodes_in_use();
        for key in deleted {
            if !used.contains(&key.inode)
                && let Some(attached) = self.known.remove(&key)
            {
                self.shared()
                    .detached(attached.number, "deleted, and no process maps it any more");
                self.probes.forget(&attached.cookies);
                probes::take_away_beside(attached.links);
                // Its number may be another file's now.
                self.aliases.retain(|_, known| *known != key);
            }
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Listed> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&mut self, report: Report) {
        self.shared().report(report);
    }
}

/// The kernel's clock, which records are stamped with.
fn now() -> KernelTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    KernelTime(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// What is looked at through a process's root is named as that process names it.
fn shown_path(path: &Path) -> String {
    if let Ok(below) = path.strip_prefix("/proc") {
        let mut parts = below.components();
        parts.next();
        if let Ok(inside) = parts.as_path().strip_prefix("root") {
            return Path::new("/").join(inside).to_string_lossy().into_owned();
        }
        if let Ok(target) = fs::read_link(path) {
            return target.to_string_lossy().into_owned();
        }
    }
    path.to_string_lossy().into_owned()
}

/// The file that a process maps, as a path that opens it whatever the process's mount namespace, and also once its
/// name is gone. Told by what the kernel says of the mapping: `stat` has other devices on some file systems (btrfs).
///
/// On overlayfs the mapping may be told by the layer's device: then it is the only one of that name on another
/// device, and the answer has the key that `/proc` knows it by.
fn resolve(pid: u32, file: &FileKey, name: &str) -> Option<(PathBuf, FileKey)> {
    choose(mapped::of(pid), file, name)
}

fn choose(mapped: Vec<mapped::MappedFile>, file: &FileKey, name: &str) -> Option<(PathBuf, FileKey)> {
    let mut named = Vec::new();
    for mapped in mapped {
        let key = key_of(&mapped);
        if key == *file {
            return Some((mapped.open, key));
        }
        if key.device != file.device && mapped.path.file_name().is_some_and(|found| found == name) {
            named.push((mapped.open, key));
        }
    }
    named.pop().filter(|_| named.is_empty())
}

/// Makes room in a set of files. What was forgotten is looked at once more.
fn make_room(files: &mut HashSet<FileKey>) {
    if files.len() >= REFUSED_MAX {
        files.clear();
    }
}

fn key_of(mapped: &mapped::MappedFile) -> FileKey {
    FileKey {
        inode: mapped.key.inode,
        device: mapped.key.device_major << 20 | mapped.key.device_minor,
        reserved: 0,
    }
}

fn executable(pid: u32, exe: &str, file: &FileKey) -> Option<PathBuf> {
    [PathBuf::from(format!("/proc/{pid}/exe")), PathBuf::from(exe)]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|metadata| file_key(&metadata) == *file))
}

fn inodes_in_use() -> HashSet<u64> {
    let mut used = HashSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let maps = fs::read_to_string(entry.path().join("maps")).unwrap_or_default();
        for line in maps.lines() {
            if let Some(inode) = line
                .split_ascii_whitespace()
                .nth(4)
                .and_then(|inode| inode.parse().ok())
            {
                used.insert(inode);
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(path: &str, device_minor: u32, inode: u64) -> mapped::MappedFile {
        mapped::MappedFile {
            key: mapped::FileKey {
                device_major: 0,
                device_minor,
                inode,
            },
            path: path.into(),
            open: format!("/open/{inode}").into(),
            processes: Vec::new(),
        }
    }

    fn key(device: u32, inode: u64) -> FileKey {
        FileKey {
            inode,
            device,
            reserved: 0,
        }
    }

    #[test]
    fn the_mapped_file_is_found_by_its_number_or_as_the_only_one_of_its_name() {
        let one = || vec![mapped("/lib/libc.so", 40, 1), mapped("/lib/libssl.so.3", 40, 2)];
        let two = || [one(), vec![mapped("/opt/libssl.so.3", 41, 3)]].concat();
        for (files, file, name, expected) in [
            (one(), key(40, 2), "libssl.so.3", Some(2)),
            // As a layer of an overlay.
            (one(), key(8, 77), "libssl.so.3", Some(2)),
            (two(), key(41, 3), "libssl.so.3", Some(3)),
            (two(), key(8, 77), "libssl.so.3", None),
            // Another file of the same file system: not mapped any more.
            (one(), key(40, 9), "libssl.so.3", None),
            (one(), key(8, 77), "libssl.so.1.1", None),
        ] {
            let found = choose(files, &file, name).map(|(_, key)| key.inode);
            assert_eq!(found, expected, "{file:?} {name}");
        }
    }
}
