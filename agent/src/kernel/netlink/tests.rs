//! On connections that the tests make themselves, on loopback.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

struct Pair {
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

fn pair(bind: &str, connect: &str) -> Pair {
    let listener = TcpListener::bind((bind, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((connect, port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    Pair {
        listener,
        client,
        server,
    }
}

fn entry_of(diag: &mut SockDiag, stream: &TcpStream) -> SocketEntry {
    let (local, remote) = (
        canonical(stream.local_addr().unwrap()),
        canonical(stream.peer_addr().unwrap()),
    );
    let entries = diag.dump(Sockets::Connections, true).unwrap();
    *entries
        .iter()
        .find(|e| e.local == local && e.remote == remote)
        .expect("the connection is listed")
}

/// Ending sockets takes CAP_NET_ADMIN: without it the kernel must refuse, and there is nothing more to test.
fn may_destroy() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: SOCK_DESTROY needs root");
    }
    root
}

fn ended(mut stream: &TcpStream) -> ErrorKind {
    stream
        .read(&mut [0; 1])
        .expect_err("an abort is an error, not an end")
        .kind()
}

#[test]
fn a_connection_is_listed_with_cookie_and_counters() {
    for (bind, connect) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")] {
        let mut p = pair(bind, connect);
        p.client.write_all(b"12345").unwrap();
        p.server.read_exact(&mut [0; 5]).unwrap();
        p.server.write_all(b"123").unwrap();
        p.client.read_exact(&mut [0; 3]).unwrap();
        let mut diag = SockDiag::current().unwrap();
        let server = entry_of(&mut diag, &p.server);
        assert_eq!(server.state, TcpState::Established);
        assert_eq!(server.counters.unwrap().bytes_received, 5);
        assert_eq!(server.uid, rustix::process::geteuid().as_raw());
        assert!(server.cookie != 0 && server.inode != 0);
        let again = diag
            .find(server.local, server.remote, server.cookie, true)
            .unwrap();
        assert_eq!(
            SocketEntry {
                counters: None,
                ..again
            },
            SocketEntry {
                counters: None,
                ..server
            }
        );
        let listener = canonical(p.listener.local_addr().unwrap());
        let listed = diag.dump(Sockets::Listeners, false).unwrap();
        let listed = listed.iter().find(|entry| entry.local == listener).unwrap();
        assert_eq!((listed.state, listed.remote.port()), (TcpState::Listen, 0));
    }
}

#[test]
fn a_connection_is_ended_by_its_cookie() {
    if !may_destroy() {
        return;
    }
    for (bind, connect) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")] {
        let p = pair(bind, connect);
        let mut diag = SockDiag::current().unwrap();
        let server = entry_of(&mut diag, &p.server);
        diag.destroy(server.local, server.remote, server.cookie).unwrap();
        assert_eq!(ended(&p.server), ErrorKind::ConnectionAborted);
        assert_eq!(ended(&p.client), ErrorKind::ConnectionReset);
        assert!(matches!(
            diag.destroy(server.local, server.remote, server.cookie),
            Err(DiagError::Gone)
        ));
        let client = TcpStream::connect((connect, p.listener.local_addr().unwrap().port()));
        assert!(client.is_ok(), "the listener lives on");
    }
}

#[test]
fn a_wrong_cookie_ends_nothing() {
    if !may_destroy() {
        return;
    }
    let mut p = pair("127.0.0.1", "127.0.0.1");
    let mut diag = SockDiag::current().unwrap();
    let server = entry_of(&mut diag, &p.server);
    let client = entry_of(&mut diag, &p.client);
    for cookie in [client.cookie, server.cookie + (1 << 40)] {
        assert!(matches!(
            diag.destroy(server.local, server.remote, cookie),
            Err(DiagError::Gone)
        ));
    }
    for cookie in [0, u64::MAX] {
        assert!(matches!(
            diag.destroy(server.local, server.remote, cookie),
            Err(DiagError::Refused(_))
        ));
    }
    p.client.write_all(b"x").unwrap();
    p.server.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn a_listener_is_never_ended() {
    if !may_destroy() {
        return;
    }
    let p = pair("127.0.0.1", "127.0.0.1");
    let mut diag = SockDiag::current().unwrap();
    let address = p.listener.local_addr().unwrap();
    let listener = *diag
        .dump(Sockets::Listeners, false)
        .unwrap()
        .iter()
        .find(|e| e.local == address)
        .unwrap();
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    assert!(matches!(
        diag.destroy(address, nobody, listener.cookie),
        Err(DiagError::Refused(_))
    ));
    assert!(matches!(
        diag.destroy(address, listener.remote, listener.cookie),
        Err(DiagError::Refused(_))
    ));
    assert!(TcpStream::connect(address).is_ok());
}

#[test]
fn sockets_of_another_namespace_are_reached() {
    if !may_destroy() {
        return;
    }
    // A thread in a network namespace of its own, as a container's process would be; it hands over its namespace
    // and waits until the test has looked.
    let (to_test, from_thread) = std::sync::mpsc::channel();
    let (to_thread, from_test) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace changes; no descriptor table or memory is shared or split.
        #[allow(unsafe_code)]
        let entered = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
        if let Err(error) = entered {
            eprintln!("skipped: no new network namespace here ({error})");
            return;
        }
        // Without an address on loopback a listener is all there can be.
        let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let file = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        to_test
            .send((file, listener.local_addr().unwrap().port()))
            .unwrap();
        let _ = from_test.recv();
    });
    if let Ok((file, port)) = from_thread.recv() {
        let mut diag = SockDiag::in_namespace(file.as_fd()).unwrap();
        let listeners = diag.dump(Sockets::Listeners, false).unwrap();
        assert_eq!(
            listeners.iter().map(|l| l.local.port()).collect::<Vec<_>>(),
            [port]
        );
        assert_eq!(diag.dump(Sockets::Connections, true).unwrap(), []);
        let own = SockDiag::current()
            .unwrap()
            .dump(Sockets::Listeners, false)
            .unwrap();
        assert!(!own.iter().any(|l| listeners.contains(l)));
        drop(to_thread);
    }
    thread.join().unwrap();
}

#[test]
fn namespaces_are_listed_once() {
    let own = own_namespace().unwrap();
    let mut inodes: Vec<u32> = list_namespaces()
        .unwrap()
        .iter()
        .map(|namespace| namespace.inode)
        .collect();
    assert_eq!(inodes[0], own);
    let count = inodes.len();
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), count);
    let mut namespaces = Namespaces::default();
    assert!(
        namespaces
            .get(own)
            .unwrap()
            .dump(Sockets::Connections, false)
            .is_ok()
    );
    assert!(matches!(namespaces.get(1), Err(DiagError::NamespaceGone(1))));
}

#[test]
fn answers_are_not_trusted() {
    assert!(matches!(parse_entry(&[0; 71]), Err(DiagError::Malformed(_))));
    assert!(matches!(parse_entry(&[9; 72]), Err(DiagError::Malformed(_))));
    let mut entry = vec![0u8; 72];
    entry[0] = AF_INET;
    entry[1] = 1;
    // A tcp_info that is too short for the counters, as on a kernel of long ago.
    entry.extend_from_slice(&[8, 0, 2, 0, 1, 2, 3, 4]);
    assert_eq!(parse_entry(&entry).unwrap().counters, None);
    // An attribute that claims to be longer than the message.
    entry.extend_from_slice(&[200, 0, 2, 0]);
    assert!(parse_entry(&entry).is_ok());
}

#[test]
fn a_connection_in_another_namespace_is_ended() {
    if !may_destroy() {
        return;
    }
    let (to_test, from_thread) = std::sync::mpsc::channel();
    let (to_thread, from_test) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace changes; no descriptor table or memory is shared or split.
        #[allow(unsafe_code)]
        let entered = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
        // A child is in the namespace of the thread that starts it.
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        if entered.is_err() || !up.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no network namespace with a loopback device here");
            return;
        }
        let p = pair("127.0.0.1", "127.0.0.1");
        to_test
            .send(std::fs::File::open("/proc/thread-self/ns/net").unwrap())
            .unwrap();
        from_test.recv().unwrap();
        assert_eq!(ended(&p.server), ErrorKind::ConnectionAborted);
        assert_eq!(ended(&p.client), ErrorKind::ConnectionReset);
    });
    if let Ok(file) = from_thread.recv() {
        let mut diag = SockDiag::in_namespace(file.as_fd()).unwrap();
        let entries = diag.dump(Sockets::Connections, false).unwrap();
        let listeners = diag.dump(Sockets::Listeners, false).unwrap();
        let server = entries
            .iter()
            .find(|entry| entry.local == listeners[0].local)
            .unwrap();
        // The same addresses mean nothing in this namespace.
        let own = SockDiag::current()
            .unwrap()
            .destroy(server.local, server.remote, server.cookie);
        assert!(matches!(own, Err(DiagError::Gone)), "{own:?}");
        diag.destroy(server.local, server.remote, server.cookie).unwrap();
        to_thread.send(()).unwrap();
    }
    thread.join().unwrap();
}
