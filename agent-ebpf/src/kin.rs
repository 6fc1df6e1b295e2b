//! TLS objects of processes that were forked.
//!
//! A child's memory is a copy of its parent's: an object that the parent had by then is the child's too, with the socket
//! that it had. Each goes on with its own; what one has freed the other still has. Only what is certain is taken over: the
//! object was there before the fork, its parent freed it behind that, if at all, and the child has not.

use apiward_common::flow::{Kin, Parted, TlsKey, TlsObject, judged};
use apiward_common::limits::{KIN_MAX, PARTED_MAX};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;

use crate::carrier::tell;
use crate::gate;
use crate::gate::tls::is_carrier;
use crate::maps::TLS_OBJECTS;
use crate::tls::{GENERATION_SHIFT, key};

const BPF_NOEXIST: u64 = 1;
/// Generations of objects come again after twice this: of two that are closer, it is certain which was first.
const CERTAIN_NS: u64 = 1 << (31 + GENERATION_SHIFT);
/// `TlsKey::reserved`: a process has freed it; or its parent has, and it was forked last before that. A parent frees the
/// object of one connection after the other, often at one address, while children wait for their clients.
const ITSELF: u32 = 0;
const PARENT: u32 = 1;

/// By process id.
#[map]
static KIN: LruHashMap<u32, Kin> = LruHashMap::with_max_entries(KIN_MAX, 0);
#[map]
static PARTED: LruHashMap<TlsKey, Parted> = LruHashMap::with_max_entries(PARTED_MAX, 0);

/// The current process has a child.
#[inline(always)]
pub fn forked(parent: u32, child: u32) {
    // SAFETY: helper without arguments.
    let at = unsafe { bpf_ktime_get_ns() };
    let born = Kin {
        parent,
        child: 0,
        born_at: at,
        forked_at: 0,
    };
    let _ = KIN.insert(&child, &born, 0);
    if let Some(known) = KIN.get_ptr_mut(&parent) {
        // SAFETY: a live map value; of two threads that fork at once, either is the last.
        unsafe { ((*known).child, (*known).forked_at) = (child, at) };
        return;
    }
    let begins = Kin {
        parent: 0,
        child,
        born_at: 0,
        forked_at: at,
    };
    let _ = KIN.insert(&parent, &begins, 0);
}

/// The process has nothing of its parent's any more: it has ended, runs another program, or is another one by this id.
#[inline(always)]
pub fn forget(pid: u32) {
    let _ = KIN.remove(&pid);
}

/// The current process has an object at this address from its parent, which is noted and told. 1: so it is. Global, like the
/// next ones: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_inherit(object: u64) -> i32 {
    let key = key(object);
    let Some(kin) = KIN.get_ptr(&key.pid) else {
        return 0;
    };
    // SAFETY: a live map value.
    let Some(theirs) = inherited(&key, unsafe { &*kin }) else {
        return 0;
    };
    // SAFETY: a live map value.
    if !unsafe { (*theirs).carrier != 0 && is_carrier(&*theirs) } {
        return 0;
    }
    // SAFETY: a live map value, copied by the helper.
    let _ = TLS_OBJECTS.insert(&key, unsafe { &*theirs }, BPF_NOEXIST);
    let Some(own) = TLS_OBJECTS.get_ptr_mut(&key) else {
        return 0;
    };
    // SAFETY: a live map value; calls on one object are serialised by the application.
    let own = unsafe { &mut *own };
    if own.sent | own.received != 0 {
        // Where the next request begins, only the parent knows.
        own.judged = judged::NOT;
    }
    tell(object, own);
    1
}

/// The current process frees what is at this address, or takes it for another connection: a child may still have it, and the
/// process has no more what it had from its parent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_part(object: u64) -> i32 {
    let mut key = key(object);
    let Some(kin) = KIN.get_ptr(&key.pid) else {
        return 0;
    };
    // SAFETY: a live map value.
    let kin = unsafe { &*kin };
    // SAFETY: a live map value.
    let own = TLS_OBJECTS
        .get_ptr(&key)
        .filter(|own| unsafe { is_older(&**own, kin.forked_at) });
    let Some(parted) = own.or_else(|| inherited(&key, kin)) else {
        return 0;
    };
    let parted = Parted {
        // SAFETY: a live map value.
        object: unsafe { *parted },
        // SAFETY: helper without arguments.
        at: unsafe { bpf_ktime_get_ns() },
    };
    let _ = PARTED.insert(&key, &parted, 0);
    if own.is_some() {
        (key.pid, key.reserved) = (kin.child, PARENT);
        let _ = PARTED.insert(&key, &parted, 0);
    }
    0
}

/// What is known of this address is of a process that had the current one's id before it was born, and whose objects nobody
/// freed: its socket is gone. It is forgotten. 1: so it was.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn apiward_outlived(object: u64) -> i32 {
    let key = key(object);
    let (Some(kin), Some(own)) = (KIN.get_ptr(&key.pid), TLS_OBJECTS.get_ptr(&key)) else {
        return 0;
    };
    // SAFETY: live map values.
    if !unsafe { is_older(&*own, (*kin).born_at) } {
        return 0;
    }
    let _ = TLS_OBJECTS.remove(&key);
    gate::tls::freed(&key);
    1
}

/// What the parent of the current process had at this address when it forked it, if that is still the child's.
#[inline(always)]
fn inherited(key: &TlsKey, kin: &Kin) -> Option<*const TlsObject> {
    if kin.parent == 0 {
        return None;
    }
    // SAFETY: live map values.
    let since = |parted: &*const Parted| unsafe { (**parted).at } >= kin.born_at;
    let freed = |pid, reserved| {
        let of = TlsKey {
            object: key.object,
            pid,
            reserved,
        };
        PARTED.get_ptr(&of).filter(since)
    };
    if freed(key.pid, ITSELF).is_some() {
        return None;
    }
    let theirs = TlsKey {
        object: key.object,
        pid: kin.parent,
        reserved: ITSELF,
    };
    // SAFETY: live map values.
    let is_it = |object: &*const TlsObject| unsafe { is_older(&**object, kin.born_at) };
    // SAFETY: as above.
    let object_of = |parted: *const Parted| unsafe { &raw const (*parted).object };
    TLS_OBJECTS
        .get_ptr(&theirs)
        .filter(is_it)
        .or_else(|| freed(key.pid, PARENT).map(object_of).filter(is_it))
        .or_else(|| freed(kin.parent, ITSELF).map(object_of).filter(is_it))
}

/// The object was made before this moment, 0 for none.
#[inline(always)]
fn is_older(object: &TlsObject, at: u64) -> bool {
    // SAFETY: helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let then = (at >> GENERATION_SHIFT) as u32;
    at != 0 && now.wrapping_sub(at) < CERTAIN_NS && then.wrapping_sub(object.generation) as i32 >= 0
}
