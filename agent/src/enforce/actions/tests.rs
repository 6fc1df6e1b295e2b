//! On connections and processes that the tests start themselves.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::capture::{FlowId, SocketRole};
use crate::kernel::netlink::{SockDiag, Sockets, own_namespace};

struct Nothing;

impl Withholding for Nothing {
    fn received_start(&mut self, _: u64) -> Option<u32> {
        None
    }
    fn withhold(&mut self, _: u64, _: Option<u32>) -> Result<(), GateError> {
        Ok(())
    }
    fn release(&mut self, _: u64) {}
    fn egress(&mut self, _: u64) -> Option<Egress> {
        None
    }
}

fn now() -> KernelTime {
    let time = clock_gettime(ClockId::Monotonic);
    KernelTime(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// A process that waits for its input to end, and what a record would say of it.
fn sleeper() -> (Child, Process) {
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it answers, it runs its own program.
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
    let exe = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
    let process = Process {
        pid: child.id(),
        tid: child.id(),
        uid: 0,
        comm: "cat".into(),
        exe: exe.to_str().unwrap().into(),
        cgroup_id: 0,
        cgroup_path: "".into(),
        container: None,
    };
    (child, process)
}

#[test]
fn the_process_that_was_seen_is_killed() {
    let (mut child, process) = sleeper();
    kill(&process, now()).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGKILL)
    );
    assert!(kill(&process, now()).is_err());
}

#[test]
fn no_other_process_is_killed() {
    let (mut child, process) = sleeper();
    let seen = now();
    let other_program = Process {
        exe: "/usr/bin/other".into(),
        ..process.clone()
    };
    let unknown_program = Process {
        exe: "".into(),
        ..process.clone()
    };
    let agent = Process {
        pid: std::process::id(),
        ..process.clone()
    };
    let init = Process {
        pid: 1,
        ..process.clone()
    };
    let nobody = Process {
        pid: 0,
        ..process.clone()
    };
    for wrong in [&other_program, &unknown_program, &agent, &init, &nobody] {
        assert!(
            matches!(kill(wrong, seen), Err(GateError::Failed(_))),
            "{wrong:?}"
        );
    }
    // Seen before this process began: the pid was another's then.
    let error = kill(&process, KernelTime(1)).unwrap_err();
    assert_eq!(error, GateError::Failed("the pid is another process now".into()));
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_flows_connection_is_reset() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: SOCK_DESTROY needs root");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, remote) = listener.accept().unwrap();
    let entries = SockDiag::current()
        .unwrap()
        .dump(Sockets::Connections, false)
        .unwrap();
    let entry = entries
        .iter()
        .find(|e| e.local == listener.local_addr().unwrap() && e.remote == remote)
        .unwrap();
    let flow = Arc::new(FlowInfo {
        id: FlowId::Socket(entry.cookie),
        carrier: Some(entry.cookie),
        local: Some(entry.local),
        remote: Some(entry.remote),
        role: SocketRole::Server,
        netns: own_namespace().unwrap(),
        tls: None,
        joined_late: false,
        starts: None,
        enforceable: true,
    });
    let mut actions = Actions::new(Nothing);
    assert_eq!(
        actions.destroy(&flow, entry.cookie + (1 << 40)),
        Err(GateError::Gone)
    );
    assert_eq!(actions.destroy(&flow, entry.cookie), Ok(()));
    assert_eq!(
        server.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionAborted
    );
    assert_eq!(
        (&client).read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(actions.destroy(&flow, entry.cookie), Err(GateError::Gone));
    let elsewhere = FlowInfo {
        netns: 1,
        ..FlowInfo::clone(&flow)
    };
    assert!(matches!(
        actions.destroy(&elsewhere, entry.cookie),
        Err(GateError::Failed(_))
    ));
}
