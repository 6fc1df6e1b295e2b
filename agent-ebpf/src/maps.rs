//! Every map, and the constants that the agent fills in before loading.

use apiward_common::flow::{Counters, Flow, Multiple, TlsCall, TlsKey, TlsObject, Tuple, Withhold};
use apiward_common::limits::{
    EXEMPT_PEERS_MAX, FLOWS_MAX, HASTY_MAX, MULTIPLES_MAX, PROCESSES_MAX, RING_BYTES, SCOPE_ENTRIES_MAX,
    TLS_CALLS_BESIDE_MAX, TLS_CALLS_MAX, TLS_OBJECTS_MAX, TLS_SITES_MAX, WITHHELD_MAX,
};
use apiward_common::offsets::Offsets;
use apiward_common::scope::{FileKey, Settings};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};

#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings::ZERO;

#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
/// [`apiward_common::asleep`]: which records the agent wants to be woken by.
#[map]
pub static SLEEPING: Array<u32> = Array::with_max_entries(1, 0);
/// Connections whose calls the agent decides although the gate is on, by cookie: their records do not wait.
#[map]
pub static HASTY: LruHashMap<u64, u32> = LruHashMap::with_max_entries(HASTY_MAX, 0);
/// There ever was one.
#[map]
pub static SOME_HASTY: Array<u32> = Array::with_max_entries(1, 0);
/// Not 0: the libraries of all processes that ran at the start have their probes.
#[map]
pub static TLS_PROBED: Array<u32> = Array::with_max_entries(1, 0);
/// Some flow is withheld by the agent, and by the gate: else the egress program asks no further.
#[map]
pub static SOME_WITHHELD: Array<u32> = Array::with_max_entries(2, 0);
#[map]
pub static FLOWS: LruHashMap<u64, Flow> = LruHashMap::with_max_entries(FLOWS_MAX, 0);
/// Connections of exempt processes, as their other end sees them: on this host it is left alone too.
#[map]
pub static EXEMPT_PEERS: LruHashMap<Tuple, u32> = LruHashMap::with_max_entries(EXEMPT_PEERS_MAX, 0);
#[map]
pub static WITHHELD: HashMap<u64, Withhold> = HashMap::with_max_entries(WITHHELD_MAX, 0);
#[map]
pub static MULTIPLES: LruHashMap<u64, Multiple> = LruHashMap::with_max_entries(MULTIPLES_MAX, 0);
/// Some thread has ever moved several messages by one call.
#[map]
pub static SOME_MULTIPLE: Array<u32> = Array::with_max_entries(1, 0);
/// By thread id; a hash table would cost several times more.
#[map]
pub static TLS_CALLS: Array<TlsCall> = Array::with_max_entries(TLS_CALLS_MAX, 0);
/// Some thread has found its place taken.
#[map]
pub static SOME_BESIDE: Array<u32> = Array::with_max_entries(1, 0);
/// Calls of threads whose place is taken by another that is inside a call too.
#[map]
pub static TLS_CALLS_BESIDE: LruHashMap<u64, TlsCall> = LruHashMap::with_max_entries(TLS_CALLS_BESIDE_MAX, 0);
/// Calls inside which a thread makes a call on another object.
#[map]
pub static TLS_OUTER_CALLS: LruHashMap<u64, TlsCall> = LruHashMap::with_max_entries(TLS_CALLS_BESIDE_MAX, 0);
#[map]
pub static TLS_OBJECTS: LruHashMap<TlsKey, TlsObject> = LruHashMap::with_max_entries(TLS_OBJECTS_MAX, 0);
/// By attach cookie of a site: how a call there is made to fail. Of no use where the kernel lets nobody write registers.
#[map]
pub static TLS_REFUSALS: HashMap<u64, i64> = HashMap::with_max_entries(TLS_SITES_MAX, 0);
/// Libraries that are attached, or that the agent has refused: not reported again.
#[map]
pub static LIBRARIES: LruHashMap<FileKey, u32> = LruHashMap::with_max_entries(SCOPE_ENTRIES_MAX, 0);
/// The agent that has loaded the programs has ended.
#[map]
pub static AGENT_GONE: Array<u32> = Array::with_max_entries(1, 0);
/// Cgroup ids: 1 = in scope, 2 = exempt.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(SCOPE_ENTRIES_MAX, 0);
#[map]
pub static NETNS: HashMap<u32, u32> = HashMap::with_max_entries(SCOPE_ENTRIES_MAX, 0);
/// Executables: 1 = in scope, 2 = exempt.
#[map]
pub static EXES: HashMap<FileKey, u32> = HashMap::with_max_entries(SCOPE_ENTRIES_MAX, 0);
/// What [`EXES`] says of a process, so that its executable is looked up once.
#[map]
pub static PROCESSES: LruHashMap<u32, u32> = LruHashMap::with_max_entries(PROCESSES_MAX, 0);
