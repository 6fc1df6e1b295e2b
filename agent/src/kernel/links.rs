//! Attaching a loaded program to a cgroup, later than the others and by descriptors alone.
//!
//! A link is multi-program by its nature: whatever else is attached there goes on. Dropping it detaches.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `BPF_LINK_CREATE` of `enum bpf_cmd`, and `BPF_CGROUP_INET_INGRESS` of `enum bpf_attach_type`.
const LINK_CREATE: libc::c_long = 28;
const CGROUP_INET_INGRESS: u32 = 0;

/// The part of `union bpf_attr` that makes a link.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Room for what some kinds of links have more: the kernel wants it to be zero.
    more: [u64; 4],
}

/// A program for what comes to sockets, and where it belongs. Not attached until it is needed: it would be asked for
/// every packet.
pub struct Ingress {
    program: OwnedFd,
    cgroups: Vec<PathBuf>,
    links: Vec<OwnedFd>,
}

impl Ingress {
    pub(super) fn new(program: OwnedFd, cgroups: Vec<PathBuf>) -> Self {
        Ingress {
            program,
            cgroups,
            links: Vec::new(),
        }
    }

    /// Attaches it everywhere, if it is not yet.
    pub fn attach(&mut self) -> io::Result<()> {
        if !self.links.is_empty() {
            return Ok(());
        }
        let links: io::Result<Vec<OwnedFd>> = self
            .cgroups
            .iter()
            .map(|cgroup| link(self.program.as_fd(), cgroup))
            .collect();
        self.links = links?;
        Ok(())
    }
}

fn link(program: BorrowedFd<'_>, cgroup: &Path) -> io::Result<OwnedFd> {
    let cgroup = File::open(cgroup)?;
    let attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        target: cgroup.as_raw_fd() as u32,
        attach_type: CGROUP_INET_INGRESS,
        ..LinkCreate::default()
    };
    // SAFETY: the attributes live as long as the call, and are as long as is said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_CREATE,
            &raw const attributes,
            size_of::<LinkCreate>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has returned a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
