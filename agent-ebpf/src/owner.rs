//! Whose a socket is: noted when a process listens or connects, looked up when a packet comes.
//!
//! Only while there is a gate: without one nobody asks.

use apiward_common::limits::{CLASSES_MAX, FLOWS_MAX, LISTENERS_MAX};
use apiward_common::owner::{Identity, Owner, Port};
use apiward_common::record::kind;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{LruHashMap, PerCpuArray};

use crate::emit::emit;
use crate::gate;
use crate::maps::OFFSETS;
use crate::scope;
use crate::sock::read;
use crate::who;

const BPF_NOEXIST: u64 = 1;

/// Who listens, by the cookie of the listening socket: of several on one port each has its own.
#[map]
pub static LISTENERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(LISTENERS_MAX, 0);
/// Who listened on a port last: for connections that are older than the gate, or that it has forgotten.
#[map]
pub static PORTS: LruHashMap<Port, Owner> = LruHashMap::with_max_entries(LISTENERS_MAX, 0);
/// The listener that a packet on this CPU was for last, and the packet's ports.
#[map]
static KNOCKED: PerCpuArray<Knock> = PerCpuArray::with_max_entries(1, 0);
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
pub fn listens(sk: u64, cookie: u64) {
    if !gate::is_on() || !scope::task() {
        return;
    }
    let owner = current();
    let _ = LISTENERS.insert(&cookie, &owner, 0);
    if let Some(port) = port_of(sk) {
        let _ = PORTS.insert(&port, &owner, 0);
    }
    tell(&owner);
}

/// What has knocked.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Knock {
    /// Its cookie.
    listener: u64,
    /// The client's, then the listener's, as they are on the wire.
    ports: [u16; 2],
    padding: [u16; 2],
}

/// A packet is for a listener. What it makes of it, it makes before the next packet is looked at on this CPU.
#[inline(always)]
pub fn knocked(listener: u64, ports: [u16; 2]) {
    if let Some(last) = KNOCKED.get_ptr_mut(0) {
        // SAFETY: this CPU's own value.
        unsafe {
            (*last).listener = listener;
            (*last).ports = ports;
        }
    }
}

/// A connection is what its listener is, if nobody has said whose it is.
#[inline(always)]
pub fn inherits(cookie: u64, listener: u64) {
    // SAFETY: copied out at once.
    if let Some(owner) = unsafe { LISTENERS.get(&listener) } {
        let _ = OWNERS.insert(&cookie, owner, BPF_NOEXIST);
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

/// A connection to a listener is established: by the packet that has just knocked, unless it could send before. Whether
/// one has: then it came by this program, and what is sent on the connection will, too. A knock that made nothing is not
/// taken for another's.
#[inline(always)]
pub fn accepted(sk: u64, cookie: u64) -> bool {
    if !gate::is_on() {
        return false;
    }
    let Some(last) = KNOCKED.get_ptr_mut(0) else {
        return false;
    };
    let remote: u16 = read(sk, OFFSETS.sk_dport()).unwrap_or(0);
    let local: u16 = read(sk, OFFSETS.sk_sport()).unwrap_or(0);
    // SAFETY: this CPU's own value. Used once: a connection without a knock is nobody's.
    unsafe {
        let listener = (*last).listener;
        let knocked = listener != 0 && (*last).ports[0] == remote && (*last).ports[1] == local;
        (*last).listener = 0;
        if knocked {
            inherits(cookie, listener);
        }
        knocked
    }
}

/// A connection of which nobody has said anything is a server's, if there is one on its port. `false`: there is none.
#[inline(always)]
pub fn adopts(sk: u64, cookie: u64) -> bool {
    let Some(port) = port_of(sk) else { return false };
    // SAFETY: copied out at once.
    let Some(owner) = (unsafe { PORTS.get(&port) }) else {
        return false;
    };
    let _ = OWNERS.insert(&cookie, owner, BPF_NOEXIST);
    true
}

/// The local port of a socket.
#[inline(always)]
fn port_of(sk: u64) -> Option<Port> {
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

/// A listener is closed.
#[inline(always)]
pub fn unlistens(cookie: u64) {
    let _ = LISTENERS.remove(&cookie);
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
