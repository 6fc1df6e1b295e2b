//! What a plan says: which probes a library gets, what each costs, and why.
//!
//! It must not know how the places are found.

use apiward_common::site::{DeliveryCookie, Kind, Op, SiteCookie, TakingCookie};

use super::TlsLibrary;
use crate::kernel::elf::ElfError;

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Elf(#[from] ElfError),
    #[error("it has no functions of the OpenSSL family")]
    NotTls,
    #[error("its machine code is not x86-64")]
    Machine,
}

/// Which of the ways to take where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Where plaintext is handed over and taken, and all else as by `Entry`: one probe in place of two, and none for a read
    /// that has to wait. No call can be made to fail there.
    #[default]
    Delivery,
    /// The inner function's entry: fewer probes, and cheaper.
    Entry,
    /// The calls of it: there a call can be skipped.
    Calls,
    /// Entry and return of the exported functions, as most tools do: for comparison, and if a proof should be wrong.
    Functions,
}

impl Prefer {
    /// What is preferred on a host where calls can be made to fail, or cannot: one that is about to begin can, and a read that
    /// is over, but none in its middle.
    pub fn where_calls(self, can_fail: bool) -> Prefer {
        match self {
            Prefer::Delivery if can_fail => Prefer::Entry,
            other => other,
        }
    }
}

/// How probes may be set on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    pub prefer: Prefer,
    /// Those at returns harm nobody. Where they do, what has no other is not covered.
    pub returns: bool,
}

impl From<Prefer> for Ways {
    fn from(prefer: Prefer) -> Ways {
        Ways {
            prefer,
            returns: true,
        }
    }
}

/// What a probe at a site costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One trap: the kernel emulates the instruction (`push`, `nop`, `call`, `jmp`, conditional jump).
    Emulated,
    /// Two traps: the instruction is single-stepped.
    Stepped,
    /// Those of the entry, and one more at the return.
    Return,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub told: Told,
    /// Where in the file: what a uprobe is attached by.
    pub file_offset: u64,
    pub cost: Cost,
    /// For people: `SSL_read+0x1e call (emulated)`.
    pub why: String,
}

/// What the program at a site is told; `library` is 0 until the loader sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// Of an operation that begins or is over.
    Usual(SiteCookie),
    Delivery(DeliveryCookie),
    Taking(TakingCookie),
}

impl Site {
    pub fn op(&self) -> Op {
        match self.told {
            Told::Usual(cookie) => cookie.op,
            Told::Delivery(_) => Op::Read,
            Told::Taking(_) => Op::Write,
        }
    }

    pub fn kind(&self) -> Kind {
        match self.told {
            Told::Usual(cookie) => cookie.kind,
            Told::Delivery(_) => Kind::Delivery,
            Told::Taking(_) => Kind::Taking,
        }
    }

    /// What the kernel keeps for the program at the site of this library; `None` if the number is too great to be told there.
    pub fn attach_cookie(&self, library: u32) -> Option<u64> {
        match self.told {
            Told::Usual(cookie) => Some(SiteCookie { library, ..cookie }.encode()),
            Told::Delivery(cookie) => DeliveryCookie { library, ..cookie }.encode(),
            Told::Taking(cookie) => Some(TakingCookie { library, ..cookie }.encode()),
        }
    }
}

/// Which probes a library gets, and why.
#[derive(Clone, Debug)]
pub struct LibraryPlan {
    pub library: TlsLibrary,
    pub sites: Vec<Site>,
    /// Exported ways to the plaintext that no site sees. While there is one, `prevented` cannot be claimed.
    pub uncovered: Vec<String>,
    /// One sentence an operation, for `status` and `doctor`.
    pub explanations: Vec<String>,
}
