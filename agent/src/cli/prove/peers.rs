//! Two processes with a connection between them: a canary's server and client, one of them protected. This process is the
//! application of both: it writes what they send, and reads what they were given.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tls::OpenSsl;

/// Bytes of either end that are kept: more than all heads of one connection.
const HEARD_BYTES_MAX: usize = 1 << 20;
/// How long a server may take until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(2);

/// The canaries' two cgroups.
#[derive(Clone, Debug)]
pub struct Places {
    pub near: PathBuf,
    pub far: PathBuf,
}

/// What the two ends are made of.
#[derive(Clone, Copy, Debug)]
pub enum Tools<'t> {
    Clear,
    Tls(&'t OpenSsl),
}

/// What one end was given.
#[derive(Debug, Default)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub ended: bool,
}

#[derive(Debug, Default)]
pub struct Both {
    pub server: Heard,
    pub client: Heard,
}

#[derive(Debug, Default)]
struct Monitor {
    both: Mutex<Both>,
    changed: Condvar,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, Both> {
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process of ours. Dropping it ends it.
#[derive(Debug)]
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Peer {
    /// The port that the server has been given.
    fn port(&mut self) -> Result<u16, String> {
        let deadline = Instant::now() + LISTEN_LIMIT;
        loop {
            if let Some(port) = listens(self.child.id()) {
                return Ok(port);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the canary's server ended ({status})"));
            }
            if Instant::now() > deadline {
                return Err("the canary's server does not listen".to_owned());
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server and a client of it, connected.
#[derive(Debug)]
pub struct Pair {
    // The client ends first: then the server has a whole conversation to look back at.
    client: Peer,
    server: Peer,
    monitor: Arc<Monitor>,
}

impl Pair {
    /// Starts both ends. `inbound`: the server is the one that is protected.
    pub fn open(tools: Tools<'_>, places: &Places, inbound: bool) -> Result<Pair, String> {
        let (server_at, client_at) = match inbound {
            true => (&places.near, &places.far),
            false => (&places.far, &places.near),
        };
        let monitor = Arc::new(Monitor::default());
        let mut server = start(server_command(tools, server_at), monitor.clone(), |both| {
            &mut both.server
        })?;
        let port = server.port()?;
        let client = start(client_command(tools, client_at, port), monitor.clone(), |both| {
            &mut both.client
        })?;
        Ok(Pair {
            client,
            server,
            monitor,
        })
    }

    /// The server's process id.
    pub fn server_pid(&self) -> u32 {
        self.server.child.id()
    }

    /// The client's process id.
    pub fn client_pid(&self) -> u32 {
        self.client.child.id()
    }

    pub fn client_writes(&mut self, bytes: &[u8]) -> bool {
        write(&mut self.client, bytes)
    }

    pub fn server_writes(&mut self, bytes: &[u8]) -> bool {
        write(&mut self.server, bytes)
    }

    /// Waits until what both have heard satisfies; `None` if it does not in time.
    pub fn wait<T>(&self, limit: Duration, mut holds: impl FnMut(&Both) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut both = self.monitor.lock();
        loop {
            if let Some(value) = holds(&both) {
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            both = self
                .monitor
                .changed
                .wait_timeout(both, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the client, waits for the server to have ended by itself, and gives what both have heard.
    pub fn close(mut self, limit: Duration) -> Both {
        self.client.stdin = None;
        let _ = self.client.child.kill();
        let _ = self.client.child.wait();
        let monitor = self.monitor.clone();
        self.wait(limit, |both| {
            (both.client.ended && both.server.ended).then_some(())
        });
        drop(self);
        std::mem::take(&mut *monitor.lock())
    }
}

fn write(peer: &mut Peer, bytes: &[u8]) -> bool {
    let Some(stdin) = &mut peer.stdin else {
        return false;
    };
    stdin.write_all(bytes).and_then(|()| stdin.flush()).is_ok()
}

/// The port that a process listens on.
fn listens(pid: u32) -> Option<u16> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    let own: Vec<u64> = process
        .fd()
        .ok()?
        .flatten()
        .filter_map(|fd| match fd.target {
            procfs::process::FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    process
        .tcp()
        .ok()?
        .into_iter()
        .find(|entry| entry.state == procfs::net::TcpState::Listen && own.contains(&entry.inode))
        .map(|entry| entry.local_address.port())
}

/// This program, as one end in a cgroup.
fn canary(cgroup: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("canary").arg("--cgroup").arg(cgroup);
    command
}

fn server_command(tools: Tools<'_>, cgroup: &Path) -> Command {
    let mut command = canary(cgroup);
    match tools {
        Tools::Clear => command.arg("listen"),
        Tools::Tls(openssl) => openssl.exec(&mut command).args([
            "s_server",
            "-quiet",
            "-naccept",
            "1",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &openssl.certificate,
            "-key",
            &openssl.key,
        ]),
    };
    command
}

fn client_command(tools: Tools<'_>, cgroup: &Path, port: u16) -> Command {
    let mut command = canary(cgroup);
    match tools {
        Tools::Clear => command.arg("connect").arg(port.to_string()),
        Tools::Tls(openssl) => openssl.exec(&mut command).args([
            "s_client",
            "-quiet",
            "-connect",
            &format!("127.0.0.1:{port}"),
            "-servername",
            "canary",
        ]),
    };
    command
}

fn start(
    mut command: Command,
    monitor: Arc<Monitor>,
    side: fn(&mut Both) -> &mut Heard,
) -> Result<Peer, String> {
    let failed = |error: std::io::Error| format!("a canary cannot be started: {error}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    // Ends with the process.
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        let mut stdout = stdout;
        while let Some(from) = &mut stdout {
            let count = from.read(&mut chunk).unwrap_or(0);
            let mut both = monitor.lock();
            let heard = side(&mut both);
            let room = HEARD_BYTES_MAX.saturating_sub(heard.bytes.len());
            heard.bytes.extend_from_slice(&chunk[..count.min(room)]);
            if count == 0 {
                heard.ended = true;
                stdout = None;
            }
            drop(both);
            monitor.changed.notify_all();
        }
    });
    Ok(Peer { child, stdin })
}
