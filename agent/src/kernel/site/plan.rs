//! What a plan says: which probes a library gets, what each costs, and why.
//!
//! It must not know how the places are found.

use apiward_common::site::{DeliveryCookie, SiteCookie};

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
    /// Reads where plaintext is handed over, and all else as by `Entry`: one probe in place of two, and none for a read that
    /// has to wait. No call can be made to fail there.
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
    /// What is preferred on a host where reads are looked at when they are over: where calls can be made to fail, a read
    /// that is over can be, and one that is about to hand plaintext over cannot.
    pub fn where_reads(self, are_over: bool) -> Prefer {
        match self {
            Prefer::Delivery if are_over => Prefer::Entry,
            other => other,
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
    /// What the program at the site is told; `library` is 0 until the loader sets it.
    pub cookie: SiteCookie,
    /// Where plaintext is handed over, what it is told in place of that.
    pub delivery: Option<DeliveryCookie>,
    /// Where in the file: what a uprobe is attached by.
    pub file_offset: u64,
    pub cost: Cost,
    /// For people: `SSL_read+0x1e call (emulated)`.
    pub why: String,
}

impl Site {
    /// What the kernel keeps for the program at the site of this library; `None` if the number is too great to be told there.
    pub fn attach_cookie(&self, library: u32) -> Option<u64> {
        match self.delivery {
            Some(delivery) => DeliveryCookie { library, ..delivery }.encode(),
            None => Some(
                SiteCookie {
                    library,
                    ..self.cookie
                }
                .encode(),
            ),
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
