//! What the intake tells besides [`Captured`](crate::capture::Captured): of processes, libraries, and what nobody can read.
//!
//! It must not know what is done about it.

use std::sync::Arc;

use apiward_common::owner::Identity;
use apiward_common::scope::FileKey;
use smol_str::SmolStr;

use crate::capture::{FlowInfo, KernelTime, Process};

/// What capture has to tell besides [`Captured`].
#[derive(Clone, Debug)]
pub enum Notice {
    /// A process mapped what looks like a TLS library that is not attached.
    Mapped {
        at: KernelTime,
        pid: u32,
        file: FileKey,
        name: SmolStr,
    },
    /// A connection that nothing can read.
    Unseen {
        info: Arc<FlowInfo>,
        process: Arc<Process>,
        reason: BlindReason,
    },
    /// A connection has ended: what it moved, and whether that could be seen.
    Ended {
        cookie: u64,
        process: Arc<Process>,
        bytes: u64,
        enforceable: bool,
        seen: bool,
    },
    /// A process runs another program.
    Executed {
        at: KernelTime,
        process: Arc<Process>,
        file: FileKey,
    },
    /// A process listens or connects, and the gate does not know it.
    Owner {
        process: Arc<Process>,
        identity: Identity,
    },
}

/// Bytes that are moved and cannot be seen, by executable.
#[derive(Clone, Debug, Default)]
pub struct Blind {
    pub pid: u32,
    pub bytes: u64,
    pub flows: u64,
}

/// Why a flow cannot be seen at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlindReason {
    /// TLS by something that is not probed.
    UnknownTls,
    /// A TLS object without a socket: calls are seen, without a peer.
    MemoryBio,
}

impl BlindReason {
    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            BlindReason::UnknownTls => "unknown-tls",
            BlindReason::MemoryBio => "memory-bio",
        }
    }
}
