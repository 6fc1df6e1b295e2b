//! Answering in a server's place: through a copy of its socket (`pidfd_getfd`, Linux 5.6).
//!
//! The socket's own sequence numbers, window and retransmission do the rest; nothing is forged. The application sees
//! its connection end.

use std::fs;
use std::os::fd::OwnedFd;

use hashbrown::HashMap;
use rustix::net::{SendFlags, Shutdown, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::super::GateError;
use crate::capture::Process;
use crate::kernel::{cgroup, listener};

/// Processes of a cgroup that are looked at.
const PROCESSES_MAX: usize = 4_096;
/// Servers of which it is known who held their sockets last.
const HOLDERS_MAX: usize = 1_024;
/// Numbers of descriptors to either side of the one that was found last.
const BESIDE: i32 = 4;

/// What a client is told. `event` names the call, for whoever asks why.
fn text(event: u128) -> String {
    let body = format!("{{\"error\":\"denied by policy\",\"event\":\"{event:032x}\"}}\n");
    format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Who held the sockets that were answered last: the next one is most often beside them, and a server may have
/// thousands.
#[derive(Default)]
pub(super) struct Holders {
    /// By the process that the connection was told of: the one that had it, and under which number.
    last: HashMap<u32, (u32, i32)>,
}

impl Holders {
    /// Sends the answer and closes the sending direction; returns the answer's bytes. [`GateError::Gone`]: no process has the
    /// socket open (yet).
    pub fn answer(
        &mut self,
        process: &Process,
        inode: u32,
        cookie: u64,
        event: u128,
    ) -> Result<u32, GateError> {
        let socket = self.copy_of(process, inode, cookie)?;
        let text = text(event);
        let sent = rustix::net::send(
            &socket,
            text.as_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
        .map_err(|errno| GateError::Failed(format!("the answer was not taken: {errno}")))?;
        if sent < text.len() {
            return Err(GateError::Failed(
                "the connection has no room for an answer".to_owned(),
            ));
        }
        rustix::net::shutdown(&socket, Shutdown::Write)
            .map_err(|errno| GateError::Failed(format!("the connection does not close: {errno}")))?;
        Ok(sent as u32)
    }

    /// Lets a listener take connections in before their first bytes, where it does not.
    pub fn hurry(&mut self, process: &Process, inode: u32, cookie: u64) -> Result<bool, GateError> {
        // The next answer is not beside it.
        let last = self.last.get(&process.pid).copied();
        let socket = self.copy_of(process, inode, cookie)?;
        if let Some(last) = last {
            self.last.insert(process.pid, last);
        }
        listener::accept_at_once(&socket)
            .map_err(|errno| GateError::Failed(format!("the listener goes on waiting for bytes: {errno}")))
    }

    /// A descriptor of the same socket, from the process that should have it or another one of its cgroup.
    fn copy_of(&mut self, process: &Process, inode: u32, cookie: u64) -> Result<OwnedFd, GateError> {
        let last = self.last.get(&process.pid).copied();
        let beside = last.into_iter().flat_map(|(pid, fd)| {
            let numbers = (fd - BESIDE).max(0)..=fd + BESIDE;
            numbers.filter_map(move |fd| is_socket(pid, fd, inode).then_some((pid, fd)))
        });
        let likely = last.map(|(pid, _)| pid).into_iter().chain([process.pid]);
        // Only asked for where those do not have it.
        let others =
            std::iter::once(()).flat_map(|()| cgroup::processes(&process.cgroup_path, PROCESSES_MAX));
        let listed = likely
            .chain(others)
            .filter(|pid| *pid != 0)
            .filter_map(|pid| Some((pid, descriptor_of(pid, inode, last.map(|(_, fd)| fd))?)));
        let mut refused = None;
        for (pid, fd) in beside.chain(listed) {
            match copy(pid, fd) {
                // The descriptor may be another socket's by now.
                Ok(socket) if sockopt::socket_cookie(&socket).is_ok_and(|found| found == cookie) => {
                    if self.last.len() >= HOLDERS_MAX {
                        self.last.clear();
                    }
                    self.last.insert(process.pid, (pid, fd));
                    return Ok(socket);
                }
                Ok(_) => {}
                Err(errno) => refused = Some(errno),
            }
        }
        Err(match refused {
            Some(errno) => GateError::Failed(format!("the socket cannot be copied: {errno}")),
            None => GateError::Gone,
        })
    }
}

fn copy(pid: u32, fd: i32) -> rustix::io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_getfd(&process, fd, PidfdGetfdFlags::empty())
}

fn is_socket(pid: u32, fd: i32, inode: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/fd/{fd}"))
        .is_ok_and(|target| target.as_os_str() == format!("socket:[{inode}]").as_str())
}

/// Those near the one that was found last are looked at first, else the newest.
fn descriptor_of(pid: u32, inode: u32, last: Option<i32>) -> Option<i32> {
    let mut descriptors: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    descriptors.sort_unstable_by_key(|fd| fd.abs_diff(last.unwrap_or(i32::MAX)));
    descriptors.into_iter().find(|fd| is_socket(pid, *fd, inode))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::fs::MetadataExt;

    use super::*;

    fn own() -> Process {
        Process {
            pid: std::process::id(),
            tid: 0,
            uid: 0,
            comm: "test".into(),
            exe: "/test".into(),
            cgroup_id: 0,
            cgroup_path: Default::default(),
            container: None,
        }
    }

    fn inode_of(socket: &TcpStream) -> u32 {
        let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
        fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().st_ino() as u32
    }

    #[test]
    fn the_client_gets_an_answer_and_the_server_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let cookie = sockopt::socket_cookie(&server).unwrap();
        let mut holders = Holders::default();
        assert!(matches!(
            holders.answer(&own(), inode_of(&server), cookie + 1, 1),
            Err(GateError::Gone)
        ));
        match holders.answer(&own(), inode_of(&server), cookie, 0xabc) {
            Ok(_) => {}
            // Where tracing is forbidden, copying is.
            Err(error) => return assert!(error.to_string().contains("cannot be copied"), "{error}"),
        }
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(body.contains("00000000000000000000000000000abc"), "{body}");
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
        // The next one, beside it and far away.
        for away in [0, 3 * BESIDE] {
            let _between: Vec<_> = (0..away).map(|_| listener.try_clone().unwrap()).collect();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (next, _) = listener.accept().unwrap();
            let cookie = sockopt::socket_cookie(&next).unwrap();
            assert!(
                holders.answer(&own(), inode_of(&next), cookie, 2).is_ok(),
                "{away} between"
            );
            drop(client);
        }
    }
}
