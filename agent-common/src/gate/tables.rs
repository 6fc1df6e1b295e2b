//! What a policy is compiled to, and how the gate asks for it.

use super::bits::Bits;
use super::hash::Hash;

/// The node behind a name that no rule knows.
pub const NO_NODE: u32 = u32::MAX;

/// Methods of the IANA registry (and `QUERY`), RFC 9110 §16.1, and what node and its like read a version-less line of, too.
pub const METHODS: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// What the gate asks while it scans. In the kernel: maps; on the host: ordinary collections.
///
/// Whatever belongs to a generation carries its number in the key, so that a head is judged by the tables that it began
/// under. A generation whose number is gone is gone as a whole, between two looks at it.
pub trait Tables {
    /// The number of the generation in force; 0: none.
    fn active(&self) -> u32;
    /// Its constants.
    fn generation(&self, number: u32) -> Option<&Generation>;
    /// Where a literal segment, or a label of a host, leads.
    fn edge(&self, key: &EdgeKey) -> Option<u32>;
    fn node(&self, generation: u32, node: u32) -> Option<&Node>;
    /// Rules that ask for this method, and those that ask for none.
    fn method(&self, key: &MethodKey) -> Option<&Method>;
    /// By the longest prefix: rules whose peers hold.
    fn peer(&self, key: &PeerKey) -> Option<&Bits>;
    /// Rules whose workload a class of processes is. `None`: nobody has said.
    fn workload(&self, generation: u32, class: u32) -> Option<&Workload>;
    /// Counts a head against a rule's rate.
    fn charge(&self, key: &RateKey) -> Charge;
}

/// What counting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Within the rate: the rule does not apply.
    Within,
    /// Beyond: it does.
    Beyond,
    /// It could not be counted: the agent decides.
    Unknown,
}

/// Constants of a generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub number: u32,
    /// Roots of the two automata.
    pub route_root: u32,
    pub host_root: u32,
    pub reserved: u32,
    pub hash: Hash,
    /// Rules for inbound and for outbound calls.
    pub inbound: Bits,
    pub outbound: Bits,
    /// Rules without peers, or with all but some: what an address in no list fits.
    pub any_peer: Bits,
    /// Rules that ask for no workload, and those that do.
    pub any_workload: Bits,
    /// Rules without methods.
    pub any_method: Bits,
    /// Rules without paths.
    pub any_route: Bits,
    /// What a host in no list fits: rules without hosts, or with all but some.
    pub any_host: Bits,
    /// Rules with hosts, and rules that ask how the caller authenticated.
    pub by_host: Bits,
    pub by_auth: Bits,
    /// Rules whose path an ambiguous head meets: denials under `onAmbiguous: deny`.
    pub ambiguous_deny: Bits,
    /// Rules by path of policies that leave what is ambiguous to the agent.
    pub ambiguous_leave: Bits,
    /// Rules that stop calls, whoever decides them.
    pub stops: Bits,
    /// Those, and rules with a rate that is counted here: where none of them is left, nothing but framing goes on.
    pub matters: Bits,
    /// Rules with a condition that only the agent can judge.
    pub leaves: Bits,
    /// Rules with a rate that is counted here; those that count by workload, not by peer.
    pub rated: Bits,
    pub rated_by_workload: Bits,
    /// Denials that have to be prevented: a lost boundary is denied by them.
    pub strict: Bits,
    /// Denials under `onAmbiguous: deny` whose rate or condition does not matter, as they have none: what cannot be followed
    /// because of its own bytes is denied by them.
    pub garbled: Bits,
    /// Rules that a call with this kind of credentials fits; see `AuthScheme`'s order.
    pub auth: [Bits; 16],
}

/// Kinds of credentials, in the order of [`Generation::auth`].
pub mod auth {
    pub const NONE: u8 = 0;
    pub const BASIC: u8 = 1;
    pub const BEARER: u8 = 2;
    pub const DIGEST: u8 = 3;
    pub const NEGOTIATE: u8 = 4;
    pub const SIG_V4: u8 = 5;
    pub const API_KEY: u8 = 6;
    pub const COOKIE: u8 = 7;
    pub const OTHER: u8 = 8;
}

/// A literal edge.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EdgeKey {
    pub generation: u32,
    pub node: u32,
    pub hash: u64,
}

/// A state of one of the automata.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Where any other segment leads; [`NO_NODE`]: nowhere.
    pub other: u32,
    /// [`node`].
    pub flags: u32,
    /// Rules that hold if the path, or the host, ends here; with those that ask for none.
    pub ends: Bits,
    /// Rules that hold here or at any node that can follow.
    pub reach: Bits,
}

/// Flags of a [`Node`].
pub mod node {
    /// It has literal edges.
    pub const LITERALS: u32 = 1;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MethodKey {
    /// Of the method in lower case.
    pub hash: u64,
    pub generation: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    pub bits: Bits,
    /// [`method`].
    pub flags: u64,
}

/// Flags of a [`Method`].
pub mod method {
    /// It is registered, if it was sent in capitals.
    pub const REGISTERED: u64 = 1;
}

/// A class of processes under a generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKey {
    pub generation: u32,
    pub class: u32,
}

/// An address in the table of peers. Prefix lengths count the generation's 32 bits, which come first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// Big-endian, so that it is a prefix.
    pub generation: [u8; 4],
    /// IPv6; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
}

/// What the compiler says of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Rules whose workload it is, with those that ask for none.
    pub bits: Bits,
    /// Whose calls a rate by workload counts together with its.
    pub rate_key: u64,
}

/// An account of a rate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateKey {
    pub generation: u32,
    pub rule: u32,
    /// The peer's address, or the workload's key in the first eight bytes.
    pub who: [u8; 16],
}

/// What a rule allows, as numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds in which one call's allowance comes back, and in which the whole does.
    pub each: u64,
    pub per: u64,
}

impl Rate {
    /// The generic cell rate algorithm (ITU-T I.371 §4.4) over the one number of an account: when its allowance is whole
    /// again. Returns what that becomes; `None`: the call is beyond the rate. A new account has 0.
    #[inline(always)]
    pub fn charge(&self, whole_at: u64, now: u64) -> Option<u64> {
        let from = if whole_at > now { whole_at } else { now };
        let next = from.wrapping_add(self.each);
        if next < from {
            return Some(u64::MAX);
        }
        // The first call of an account always fits, also where the rounding of `each` says otherwise.
        if whole_at != 0 && next - now > self.per {
            return None;
        }
        Some(next)
    }
}

#[cfg(feature = "user")]
mod user {
    //! aya moves these between maps and memory: plain integers, no padding (see the size assertions).
    unsafe impl aya::Pod for super::Generation {}
    unsafe impl aya::Pod for super::EdgeKey {}
    unsafe impl aya::Pod for super::Node {}
    unsafe impl aya::Pod for super::MethodKey {}
    unsafe impl aya::Pod for super::Method {}
    unsafe impl aya::Pod for super::PeerKey {}
    unsafe impl aya::Pod for super::WorkloadKey {}
    unsafe impl aya::Pod for super::Workload {}
    unsafe impl aya::Pod for super::RateKey {}
    unsafe impl aya::Pod for super::Rate {}
    unsafe impl aya::Pod for super::Bits {}
}

const _: () = {
    assert!(core::mem::size_of::<Hash>() == 16);
    assert!(core::mem::size_of::<Generation>() == 32 + 18 * 32 + 16 * 32);
    assert!(core::mem::size_of::<EdgeKey>() == 16);
    assert!(core::mem::size_of::<Node>() == 72);
    assert!(core::mem::size_of::<MethodKey>() == 16);
    assert!(core::mem::size_of::<Method>() == 40);
    assert!(core::mem::size_of::<PeerKey>() == 20);
    assert!(core::mem::size_of::<Workload>() == 40);
    assert!(core::mem::size_of::<RateKey>() == 24);
    assert!(core::mem::size_of::<Rate>() == 16);
};
