//! Whose a socket is: noted when a process listens or connects, looked up when a packet comes.
//!
//! Only while there is a gate: without one nobody asks.

use apiward_common::limits::{CLASSES_MAX, FLOWS_MAX, LISTENERS_MAX};
use apiward_common::owner::{Identity, Owner, Port};
use apiward_common::record::kind;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;

use crate::emit::emit;
use crate::gate;
use crate::maps::OFFSETS;
use crate::scope;
use crate::sock::read;
use crate::who;

/// Who listens, by port.
#[map]
pub static LISTENERS: LruHashMap<Port, Owner> = LruHashMap::with_max_entries(LISTENERS_MAX, 0);
/// Whose a connection is, by socket cookie.
#[map]
pub static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(FLOWS_MAX, 0);
/// The agent's numbers for identities.
#[map]
pub static CLASSES: LruHashMap<Identity, u32> = LruHashMap::with_max_entries(CLASSES_MAX, 0);

/// The current process.
#[inline(always)]
pub fn current() -> Owner {
    let task = who::task();
    let (inode, device) = match scope::current_exe() {
        Some(file) => (file.inode, file.device),
        None => (0, 0),
    };
    Owner {
        cgroup: who::cgroup(task),
        inode,
        device,
        uid: who::user(task),
        pid: (who::ids(task) >> 32) as u32,
        reserved: 0,
        // SAFETY: the same bytes.
        comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(who::comm(task)) },
    }
}

/// The agent's number for an identity; 0: it has none yet.
#[inline(always)]
pub fn class_of(identity: &Identity) -> u32 {
    // SAFETY: copied out at once.
    unsafe { CLASSES.get(identity) }.copied().unwrap_or(0)
}

/// The current process begins to listen with this socket.
#[inline(always)]
pub fn listens(sk: u64) {
    if !gate::is_on() || !scope::task() {
        return;
    }
    if let Some(port) = port_of(sk) {
        let owner = current();
        let _ = LISTENERS.insert(&port, &owner, 0);
        tell(&owner);
    }
}

/// The current process connects with this socket.
#[inline(always)]
pub fn connects(cookie: u64) {
    if !gate::is_on() || !scope::task() {
        return;
    }
    let owner = current();
    let _ = OWNERS.insert(&cookie, &owner, 0);
    tell(&owner);
}

/// A connection to a listener is established.
#[inline(always)]
pub fn accepted(sk: u64, cookie: u64) {
    if !gate::is_on() {
        return;
    }
    let Some(port) = port_of(sk) else { return };
    // SAFETY: copied out at once.
    if let Some(owner) = unsafe { LISTENERS.get(&port) }.copied() {
        let _ = OWNERS.insert(&cookie, &owner, 0);
    }
}

/// The local port of a socket.
#[inline(always)]
pub fn port_of(sk: u64) -> Option<Port> {
    let port = u16::from_be(read(sk, OFFSETS.sk_sport())?);
    let net: u64 = read(sk, OFFSETS.sk_net())?;
    let netns: u32 = read(net, OFFSETS.net_inum())?;
    if port == 0 {
        return None;
    }
    Some(Port {
        netns,
        port: port as u32,
    })
}

/// The current process's class; if it has none, the agent is asked for one.
#[inline(always)]
pub fn class() -> u32 {
    let owner = current();
    let class = class_of(&owner.identity());
    if class == 0 {
        tell(&owner);
    }
    class
}

/// The agent learns of an identity that has no number.
#[inline(always)]
fn tell(owner: &Owner) {
    if class_of(&owner.identity()) == 0 {
        emit::<Owner, 0>(kind::OWNER, 0, |record| {
            record.body = *owner;
            0
        });
    }
}
