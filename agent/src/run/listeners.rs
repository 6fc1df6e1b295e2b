//! Who listens, as of now: what the kernel programs would have noted had they been asked before.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use apiward_common::limits::COMM_BYTES;
use apiward_common::owner::{Owner, Port};

use crate::kernel::cgroup;
use crate::kernel::load::file_key;
use crate::kernel::netlink::{Namespaces, Sockets, list_namespaces};

/// Every listening socket of a process that `is_judged` says yes to, by its cookie, with its port and its owner.
pub fn running(is_judged: impl Fn(&Owner) -> bool) -> Vec<(u64, Port, Owner)> {
    let Ok(spaces) = list_namespaces() else {
        return Vec::new();
    };
    let mut namespaces = Namespaces::default();
    let mut cookies = HashMap::new();
    for space in &spaces {
        let found = namespaces
            .open(space)
            .and_then(|diag| diag.dump(Sockets::Listeners, false));
        for entry in found.unwrap_or_default() {
            let port = Port {
                netns: space.inode,
                port: u32::from(entry.local.port()),
            };
            cookies.insert(u64::from(entry.inode), (entry.cookie, port));
        }
    }
    if cookies.is_empty() {
        return Vec::new();
    }
    let mut owners = Vec::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let mut owner = None;
        for inode in sockets_of(pid) {
            // Several processes share a listener, as a server's workers do: the first is its maker, as numbers go.
            let Some((cookie, port)) = cookies.get(&inode).copied() else {
                continue;
            };
            let Some(owner) = owner.get_or_insert_with(|| owner_of(pid)).filter(&is_judged) else {
                break;
            };
            cookies.remove(&inode);
            owners.push((cookie, port, owner));
        }
    }
    owners
}

fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
    let directory = Path::new("/proc").join(pid.to_string()).join("fd");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    })
}

/// What the kernel programs would say of a process.
pub fn owner_of(pid: u32) -> Option<Owner> {
    let directory = Path::new("/proc").join(pid.to_string());
    let exe = file_key(&fs::metadata(directory.join("exe")).ok()?);
    let own = fs::read_to_string(directory.join("cgroup")).ok()?;
    let below = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = below
        .zip(cgroup::root().ok())
        .map(|(below, root)| root.join(below));
    let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
    let mut comm = [0; COMM_BYTES];
    for (to, from) in comm.iter_mut().zip(name.trim_end().bytes()) {
        *to = from;
    }
    Some(Owner {
        cgroup: group
            .and_then(|group| fs::metadata(group).ok())
            .map_or(0, |found| found.ino()),
        inode: exe.inode,
        device: exe.device,
        uid: uid_of(&fs::read_to_string(directory.join("status")).ok()?)?,
        pid,
        reserved: 0,
        comm,
    })
}

/// The real user id, by proc_pid_status(5). Who owns the directory is another matter: root, where a process may not be
/// looked into.
fn uid_of(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_of_our_own_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cookie = rustix::net::sockopt::socket_cookie(&listener).unwrap();
        let own = std::process::id();
        let found = running(|owner| owner.pid == own);
        let (_, _, owner) = found.iter().find(|(found, _, _)| *found == cookie).unwrap();
        let exe = file_key(&fs::metadata("/proc/self/exe").unwrap());
        assert_eq!((owner.inode, owner.device), (exe.inode, exe.device));
        assert_eq!(owner.uid, rustix::process::getuid().as_raw());
        assert!(running(|_| false).is_empty());
    }
}
