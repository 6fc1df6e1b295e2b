//! TLS libraries: found when a process maps one, probed once per file, let go when nobody can use them any more.
//!
//! On a thread of its own, because attaching waits for every CPU: the ring must be drained meanwhile. The inode
//! counts, not the path: a container's own copy is another library.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use apiward_common::scope::FileKey;
use smol_str::SmolStr;

use super::{KernelTime, TlsInfo};
use crate::kernel::load::{ProbeLink, Probes, file_key};
use crate::kernel::{mapped, site};

/// Libraries and programs with TLS inside that are probed at once.
const LIBRARIES_MAX: usize = 512;
/// Files that were looked at and are no TLS library.
const REFUSED_MAX: usize = 8_192;
/// Files that wait to be looked at. One that is not asked for is asked for again by the next process that maps it.
const REQUESTS_MAX: usize = 4_096;
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
}

/// What was done about a library.
#[derive(Clone, Debug)]
pub struct Report {
    pub path: String,
    pub attached: bool,
    /// Why not; or what is not covered.
    pub detail: String,
    /// When it was mapped; `None` for what was found at the start.
    pub mapped_at: Option<KernelTime>,
    /// When this was known, by the same clock.
    pub attached_at: Option<KernelTime>,
    pub file: FileKey,
}

/// A library, for the status.
#[derive(Clone, Debug)]
pub struct Library {
    pub path: String,
    pub info: TlsInfo,
    pub inode: u64,
    pub attached: bool,
    /// One line a site, with its reason.
    pub sites: Vec<String>,
    /// Why it is not attached, or which ways to the plaintext are not covered.
    pub reason: String,
}

/// What the thread has done so far.
#[derive(Default)]
pub struct Shared {
    /// By the number in the probes' cookies: index 0 is number 1.
    pub libraries: Vec<Library>,
    /// Taken by whoever makes events of them.
    pub reports: Vec<Report>,
}

/// Handle of the thread; it ends, and detaches everything, when this is dropped.
pub struct Libraries {
    requests: Option<SyncSender<Request>>,
    /// Requests that found no room.
    pub requests_dropped: u64,
    shared: Arc<Mutex<Shared>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Libraries {
    /// Starts the thread, which first probes the system's own libraries and those of `running` processes.
    /// `attach_first` waits for the system's own.
    pub fn start(probes: Probes, running: Vec<u32>, prefer: site::Prefer) -> std::io::Result<Libraries> {
        let (requests, receiver) = sync_channel(REQUESTS_MAX);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (ready, started) = channel();
        let thread = std::thread::Builder::new().name("apiward-tls".into()).spawn({
            let shared = shared.clone();
            move || {
                let mut keeper = Keeper {
                    probes,
                    shared,
                    known: HashMap::new(),
                    refused: HashSet::new(),
                    prefer,
                };
                keeper.system();
                // Nobody waits any more if the start was given up.
                let _ = ready.send(());
                for pid in running {
                    keeper.process(pid);
                }
                keeper.serve(&receiver);
            }
        })?;
        let _ = started.recv();
        Ok(Libraries {
            requests: Some(requests),
            requests_dropped: 0,
            shared,
            thread: Some(thread),
        })
    }

    /// Asks for something to be looked at.
    pub fn request(&mut self, request: Request) {
        // The thread ends only after this handle: what cannot be sent has no room.
        if self
            .requests
            .as_ref()
            .is_some_and(|requests| requests.try_send(request).is_err())
        {
            self.requests_dropped += 1;
        }
    }

    /// What was done so far.
    pub fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Libraries {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

struct Attached {
    links: Vec<ProbeLink>,
    /// Keeps the inode, so that its number is not used again while it is known by it.
    file: File,
    number: usize,
}

struct Keeper {
    probes: Probes,
    shared: Arc<Mutex<Shared>>,
    known: HashMap<FileKey, Attached>,
    refused: HashSet<FileKey>,
    prefer: site::Prefer,
}

impl Keeper {
    fn serve(&mut self, requests: &Receiver<Request>) {
        let mut swept = Instant::now();
        loop {
            match requests.recv_timeout(SWEEP) {
                Ok(Request::Mapped { at, pid, file, name }) => {
                    if !self.is_known(&file) {
                        match resolve(pid, &file) {
                            Some(path) => self.consider(&path, file, Some(at), true),
                            None => self.report(Report {
                                path: name.to_string(),
                                attached: false,
                                detail: format!("process {pid} was gone before the file could be found"),
                                mapped_at: Some(at),
                                attached_at: None,
                                file,
                            }),
                        }
                    }
                }
                Ok(Request::Executed { at, pid, file, exe }) => {
                    if !self.is_known(&file)
                        && let Some(path) = executable(pid, &exe, &file)
                    {
                        self.consider(&path, file, Some(at), false);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep();
            }
        }
    }

    fn is_known(&self, file: &FileKey) -> bool {
        self.known.contains_key(file) || self.refused.contains(file)
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

    /// A process that was running before the agent.
    fn process(&mut self, pid: u32) {
        for mapped in mapped::of(pid) {
            let named = mapped
                .path
                .file_name()
                .is_some_and(|name| name.as_bytes().starts_with(b"libssl"));
            let file = key_of(&mapped);
            if named && !self.is_known(&file) {
                self.consider(&mapped.open, file, None, true);
            }
        }
        self.found_executable(pid);
    }

    fn found_executable(&mut self, pid: u32) {
        let path = PathBuf::from(format!("/proc/{pid}/exe"));
        if let Ok(metadata) = fs::metadata(&path) {
            let file = file_key(&metadata);
            if !self.is_known(&file) {
                self.consider(&path, file, None, false);
            }
        }
    }

    /// Probes the file if it has an OpenSSL inside. `named`: its name says that it should.
    fn consider(&mut self, path: &Path, file: FileKey, mapped_at: Option<KernelTime>, named: bool) {
        let shown = shown_path(path);
        if self.known.len() >= LIBRARIES_MAX {
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
        let plan = match site::plan_preferring(path, self.prefer) {
            Ok(plan) => plan,
            Err(error) => {
                if self.refused.len() >= REFUSED_MAX {
                    self.refused.clear();
                }
                self.refused.insert(file);
                // NSS has a libssl3.so that is none; most programs have nothing of the kind.
                if named && !matches!(error, site::PlanError::NotTls) {
                    self.refuse(shown, file, mapped_at, error.to_string());
                }
                return;
            }
        };
        let number = self.shared().libraries.len() + 1;
        let mut links = Vec::new();
        let mut sites = Vec::new();
        let mut failed = None;
        // What ends a call before what begins it: a call is never begun that nothing would end.
        let mut order: Vec<&site::Site> = plan.sites.iter().collect();
        order.sort_by_key(|site| std::cmp::Reverse(site.cookie.kind));
        for site in order {
            let mut cookie = site.cookie;
            cookie.library = number as u32;
            match self
                .probes
                .attach(path, site.file_offset, cookie.kind, cookie.encode())
            {
                Ok(link) => links.push(link),
                Err(error) => {
                    failed = Some(format!("{}: {error}", site.why));
                    break;
                }
            }
            sites.push(site.why.clone());
        }
        let info = TlsInfo {
            library: SmolStr::new(plan.library.family.as_str()),
            version: SmolStr::new(&plan.library.version),
        };
        let opened = File::open(path);
        let attached = failed.is_none();
        let reason = match (&failed, plan.uncovered.is_empty()) {
            (Some(error), _) => error.clone(),
            (None, true) => String::new(),
            (None, false) => format!("not covered: {}", plan.uncovered.join(", ")),
        };
        self.shared().libraries.push(Library {
            path: shown.clone(),
            info,
            inode: file.inode,
            attached,
            sites,
            reason: reason.clone(),
        });
        match opened {
            Ok(opened) if attached => {
                self.known.insert(
                    file,
                    Attached {
                        links,
                        file: opened,
                        number,
                    },
                );
            }
            _ => {
                self.detach(links);
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

    fn refuse(&mut self, path: String, file: FileKey, mapped_at: Option<KernelTime>, reason: String) {
        self.shared().libraries.push(Library {
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

    fn detach(&mut self, links: Vec<ProbeLink>) {
        for link in links {
            if let Err(error) = self.probes.detach(link) {
                tracing::warn!(
                    error,
                    "a probe could not be taken away; it goes when the agent ends"
                );
            }
        }
    }

    /// Lets go of files that are deleted and that no process maps.
    fn sweep(&mut self) {
        let deleted: Vec<FileKey> = self
            .known
            .iter()
            .filter(|(_, attached)| {
                attached
                    .file
                    .metadata()
                    .is_ok_and(|metadata| metadata.nlink() == 0)
            })
            .map(|(key, _)| *key)
            .collect();
        if deleted.is_empty() {
            return;
        }
        let used = inodes_in_use();
        for key in deleted {
            if !used.contains(&key.inode)
                && let Some(attached) = self.known.remove(&key)
            {
                if let Some(library) = self.shared().libraries.get_mut(attached.number - 1) {
                    library.attached = false;
                    library.reason = "deleted, and no process maps it any more".into();
                }
                self.detach(attached.links);
            }
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&mut self, report: Report) {
        self.shared().reports.push(report);
    }
}

/// The kernel's clock, which records are stamped with.
fn now() -> KernelTime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    KernelTime(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// `/proc/<pid>/root/usr/lib/x` is `/usr/lib/x` to whoever reads it.
fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if let Some(rest) = text.strip_prefix("/proc/") {
        if let Some((_, inside)) = rest.split_once("/root/") {
            return format!("/{inside}");
        }
        if let Ok(target) = fs::read_link(path) {
            return target.to_string_lossy().into_owned();
        }
    }
    text.into_owned()
}

/// The file that a process maps, as a path that opens it whatever the process's mount namespace, and also once its
/// name is gone. Told by what the kernel says of the mapping: `stat` has other devices on some file systems (btrfs).
fn resolve(pid: u32, file: &FileKey) -> Option<PathBuf> {
    mapped::of(pid)
        .into_iter()
        .find(|mapped| key_of(mapped) == *file)
        .map(|mapped| mapped.open)
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
