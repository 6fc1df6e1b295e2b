//! What is looked at, decided before a byte is read.

/// Global settings of the programs, written once before they are loaded.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// Bytes of one operation that are captured; the rest is counted.
    pub operation_bytes_max: u32,
    /// Process id of the agent, whose own traffic is not captured as long as it lives.
    pub agent_pid: u32,
    /// Which kinds of scope are set: [`BY_CGROUP`] and so on; 0: everything is in scope.
    pub scope: u32,
    /// Levels in the cgroup tree at which entries of the cgroup map stand, one bit a level.
    pub cgroup_levels: u32,
    /// Levels of exempt cgroups.
    pub exempt_levels: u32,
    /// There are exempt executables.
    pub exempt_exes: u32,
    /// Size of the ring, as a power of two.
    pub ring_shift: u32,
    /// The number of the agent's run among those that have kept something.
    pub run: u32,
    /// Which programs at tracepoints are attached twice: none (0), [`TWICE_STATES`] or [`TWICE_ALL`].
    pub twice: u32,
}

macro_rules! volatile {
    ($($field:ident),*) => {
        impl Settings {
            /// Before the agent has filled them in.
            pub const ZERO: Settings = Settings { $($field: 0),* };

            $(
                #[doc = concat!("`", stringify!($field), "`. Volatile: the value is the loader's, not the compiler's.")]
                #[inline(always)]
                pub fn $field(&self) -> u32 {
                    // SAFETY: a reference is always readable.
                    unsafe { core::ptr::read_volatile(&self.$field) }
                }
            )*
        }
    };
}

volatile!(
    operation_bytes_max,
    agent_pid,
    scope,
    cgroup_levels,
    exempt_levels,
    exempt_exes,
    ring_shift,
    run,
    twice
);

/// That at sockets' states: an interrupt that comes while it runs may bring another socket into a state.
pub const TWICE_STATES: u32 = 1;
/// And all others: whoever is preempted while one runs keeps it from others.
pub const TWICE_ALL: u32 = 2;

pub const BY_CGROUP: u32 = 1;
pub const BY_NETNS: u32 = 2;
pub const BY_EXE: u32 = 4;

/// Deepest level of the cgroup tree that a scope can name.
pub const CGROUP_LEVEL_MAX: u32 = 16;

/// An executable or library by its file.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey {
    pub inode: u64,
    /// Kernel encoding: major << 20 | minor.
    pub device: u32,
    pub reserved: u32,
}

#[cfg(feature = "user")]
mod user {
    //! Plain integers without padding.
    unsafe impl aya::Pod for super::Settings {}
    unsafe impl aya::Pod for super::FileKey {}
}

/// Values of the maps of cgroups and executables: looked at.
pub const IN_SCOPE: u32 = 1;
/// Never looked at, whatever else is in scope.
pub const EXEMPT: u32 = 2;
