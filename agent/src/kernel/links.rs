//! Attaching loaded programs by descriptors alone, and holding on to what that makes.
//!
//! A link is multi-program by its nature: whatever else is attached there goes on. Dropping it detaches, unless it is
//! pinned; root may detach it behind the agent's back, which [`CgroupHook::mend`] finds out.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aya::programs::ProgramError;

/// Commands of `enum bpf_cmd`.
mod command {
    pub const MAP_CREATE: libc::c_long = 0;
    pub const PROG_LOAD: libc::c_long = 5;
    pub const OBJ_PIN: libc::c_long = 6;
    pub const OBJ_GET: libc::c_long = 7;
    pub const PROG_GET_FD_BY_ID: libc::c_long = 13;
    pub const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    pub const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
    pub const BTF_GET_FD_BY_ID: libc::c_long = 19;
    pub const LINK_CREATE: libc::c_long = 28;
    pub const LINK_GET_FD_BY_ID: libc::c_long = 30;
    pub const LINK_GET_NEXT_ID: libc::c_long = 31;
    pub const LINK_DETACH: libc::c_long = 34;
}

/// `BPF_LINK_TYPE_CGROUP` and `BPF_LINK_TYPE_PERF_EVENT` of `enum bpf_link_type`.
const LINK_TYPE_CGROUP: u32 = 3;
const LINK_TYPE_PERF_EVENT: u32 = 7;

/// `BPF_PERF_EVENT` and `BPF_TRACE_UPROBE_MULTI` of `enum bpf_attach_type`.
const ATTACH_TYPE_PERF_EVENT: u32 = 41;
pub(super) const ATTACH_TYPE_UPROBE_MULTI: u32 = 48;

/// `BPF_PROG_TYPE_KPROBE` of `enum bpf_prog_type`.
const PROG_TYPE_KPROBE: u32 = 2;
/// Of a program's name, with the zero behind it.
const NAME_BYTES: usize = 16;

/// Which way the packets go, by `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Ingress = 0,
    Egress = 1,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Way::Ingress => "ingress",
            Way::Egress => "egress",
        }
    }
}

/// The part of `union bpf_attr` that makes a link.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Room for what some kinds of links have more: the kernel wants it to be zero.
    more: [u64; 6],
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
pub(super) struct ProgLoad {
    pub kind: u32,
    pub instructions: u32,
    pub code: u64,
    pub license: u64,
    pub log_level: u32,
    pub log_bytes: u32,
    pub log: u64,
    pub kernel_version: u32,
    pub flags: u32,
    pub name: [u8; NAME_BYTES],
    pub interface: u32,
    pub expected_attach_type: u32,
    pub types: u32,
    pub function_bytes: u32,
    pub functions: u64,
    pub functions_count: u32,
    pub line_bytes: u32,
    pub lines: u64,
    pub lines_count: u32,
    pub attach_type_id: u32,
}

impl ProgLoad {
    /// Of a program at functions. Its name may be empty; its instructions, of eight bytes each, are the caller's while this is
    /// used.
    pub(super) fn of_probe<I>(name: &str, code: &[I]) -> ProgLoad {
        const { assert!(size_of::<I>() == 8) };
        let mut attributes = ProgLoad {
            kind: PROG_TYPE_KPROBE,
            instructions: code.len() as u32,
            code: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoad::default()
        };
        // As the loader's library has it, which names are looked for by: cut where the kernel's room ends.
        for (to, from) in attributes.name[..NAME_BYTES - 1].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        attributes
    }
}

/// The part that opens a tracepoint; without a name it is the one that the program was loaded for.
#[repr(C)]
struct TracepointOpen {
    name: u64,
    program: u32,
    padding: u32,
}

/// The part that pins and opens.
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part that asks about a descriptor.
#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    address: u64,
}

/// The part that goes from one object's number to the next, and opens them. The kernel writes `next`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Next {
    id: u32,
    next: u32,
    flags: u32,
}

/// The part that detaches.
#[repr(C)]
struct LinkDetach {
    fd: u32,
}

/// The beginning of `struct bpf_link_info`, as of a cgroup's link.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    /// 0: it is attached nowhere any more.
    cgroup: u64,
    attach_type: u32,
    /// Room for newer kernels.
    more: [u32; 27],
}

/// The beginning of `struct bpf_prog_info`: words before the one that is asked for, and it.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 26],
    recursion_misses: u64,
}

/// `attributes`: a part of `union bpf_attr`, which some commands write into.
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes live as long as the call, and are as long as is said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    match result < 0 {
        true => Err(io::Error::last_os_error()),
        false => Ok(result as i32),
    }
}

fn bpf_open<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the call has returned a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Gives an object a name in a bpffs: it lives as long as that.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = c_path(path)?;
    let mut attributes = Object {
        path: name.as_ptr() as u64,
        fd: fd.as_raw_fd() as u32,
        flags: 0,
    };
    bpf(command::OBJ_PIN, &mut attributes).map(drop)
}

/// A pinned object.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let name = c_path(path)?;
    let mut attributes = Object {
        path: name.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    bpf_open(command::OBJ_GET, &mut attributes)
}

/// Takes a link off at once, whoever else holds it. Tracepoints have no such thing: theirs ends with the last holder.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkDetach {
        fd: link.as_raw_fd() as u32,
    };
    bpf(command::LINK_DETACH, &mut attributes).map(drop)
}

/// Attaches a loaded program to the tracepoint that it was loaded for.
pub(super) fn attach_tracepoint(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = TracepointOpen {
        name: 0,
        program: program.as_raw_fd() as u32,
        padding: 0,
    };
    bpf_open(command::RAW_TRACEPOINT_OPEN, &mut attributes)
}

/// Attaches a loaded program to a probe's event. Both that and the link keep the probe where it is; the link alone
/// keeps the program there.
pub(super) fn attach_event(
    program: BorrowedFd<'_>,
    event: BorrowedFd<'_>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        target: event.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_PERF_EVENT,
        more: [cookie, 0, 0, 0, 0, 0],
        ..LinkCreate::default()
    };
    bpf_open(command::LINK_CREATE, &mut attributes)
}

/// Attaches a program that was loaded for it to many places of a file at once, in all processes that map it: each an
/// offset, and the cookie that the program is told there. At the returns of what begins there, if `returns`.
pub(super) fn attach_places(
    program: BorrowedFd<'_>,
    file: &CStr,
    places: &[(u64, u64)],
    returns: bool,
) -> io::Result<OwnedFd> {
    let (offsets, cookies): (Vec<u64>, Vec<u64>) = places.iter().copied().unzip();
    let no_counters = 0;
    // Their number and, in the upper half, `BPF_F_UPROBE_MULTI_RETURN`; then whose they are: everybody's.
    let number = offsets.len() as u64 | u64::from(returns) << 32;
    let mut attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_UPROBE_MULTI,
        more: [
            file.as_ptr() as u64,
            offsets.as_ptr() as u64,
            no_counters,
            cookies.as_ptr() as u64,
            number,
            0,
        ],
        ..LinkCreate::default()
    };
    bpf_open(command::LINK_CREATE, &mut attributes)
}

/// A map of programs to leave to, which stays empty: the kernel binds it to the kind of the first program that has it.
pub(super) fn no_tails() -> io::Result<OwnedFd> {
    /// `BPF_MAP_TYPE_PROG_ARRAY` of `enum bpf_map_type`; its keys and values are of four bytes.
    const PROG_ARRAY: u32 = 3;
    let (word, entries, flags) = (4u32, 1, 0);
    bpf_open(command::MAP_CREATE, &mut [PROG_ARRAY, word, word, entries, flags])
}

/// Loads a program.
pub(super) fn load(attributes: &mut ProgLoad) -> io::Result<OwnedFd> {
    bpf_open(command::PROG_LOAD, attributes)
}

/// The types that are loaded under this number.
pub(super) fn types(id: u32) -> io::Result<OwnedFd> {
    let mut by_id = Next {
        id,
        next: 0,
        flags: 0,
    };
    bpf_open(command::BTF_GET_FD_BY_ID, &mut by_id)
}

/// The number that a loaded program has in the kernel.
pub(super) fn id_of(program: BorrowedFd<'_>) -> io::Result<u32> {
    // Its type, and its number behind that.
    Ok((info_of_program(program)?.before[0] >> 32) as u32)
}

fn info_of_program(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = ProgramInfo::default();
    let mut attributes = Info {
        fd: program.as_raw_fd() as u32,
        length: size_of::<ProgramInfo>() as u32,
        address: &raw mut info as u64,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

fn info_of(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attributes = Info {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        address: &raw mut info as u64,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// How often the kernel has not run a program because it ran already on that CPU.
pub(super) fn skipped_runs(program: u32) -> io::Result<u64> {
    let mut by_id = Next {
        id: program,
        next: 0,
        flags: 0,
    };
    let program = bpf_open(command::PROG_GET_FD_BY_ID, &mut by_id)?;
    Ok(info_of_program(program.as_fd())?.recursion_misses)
}

/// What the names of an agent's programs begin with.
pub const OURS: &str = "apiward_";

/// The names of an agent's programs that are loaded.
///
/// # Errors
/// Programs cannot be listed: without CAP_SYS_ADMIN nobody may.
pub fn loaded() -> io::Result<Vec<String>> {
    Ok(ours()?.into_iter().map(|(_, name)| name).collect())
}

fn ours() -> io::Result<Vec<(u32, String)>> {
    let mut ours = Vec::new();
    for info in aya::programs::loaded_programs() {
        match info {
            Ok(info) => {
                let name = info.name_as_str().filter(|name| name.starts_with(OURS));
                ours.extend(name.map(|name| (info.id(), name.to_owned())));
            }
            // There is no list of them.
            Err(ProgramError::SyscallError(error)) if error.call == "bpf_prog_get_next_id" => {
                return Err(error.io_error);
            }
            // One that has gone meanwhile, or that is kept from everybody, is none of ours.
            Err(_) => {}
        }
    }
    Ok(ours)
}

/// Takes an agent's programs off every cgroup, whoever holds them, and says how many that were.
///
/// # Errors
/// Programs cannot be listed.
pub fn detach_all() -> io::Result<usize> {
    let programs: Vec<u32> = ours()?.into_iter().map(|(id, _)| id).collect();
    let mut count = 0;
    let mut next = Next {
        id: 0,
        next: 0,
        flags: 0,
    };
    while !programs.is_empty() && bpf(command::LINK_GET_NEXT_ID, &mut next).is_ok() {
        next.id = next.next;
        let mut one = Next { next: 0, ..next };
        let Ok(link) = bpf_open(command::LINK_GET_FD_BY_ID, &mut one) else {
            continue;
        };
        let is_ours = |info: LinkInfo| {
            info.kind == LINK_TYPE_CGROUP && info.cgroup != 0 && programs.contains(&info.program)
        };
        if info_of(link.as_fd()).is_ok_and(is_ours) && detach(link.as_fd()).is_ok() {
            count += 1;
        }
    }
    Ok(count)
}

/// It is the link of one probe: the kernel waits for its place behind all others of the host.
pub fn is_of_one_probe(link: BorrowedFd<'_>) -> bool {
    info_of(link).is_ok_and(|info| info.kind == LINK_TYPE_PERF_EVENT)
}

/// The link of a cgroup is still attached to it.
fn is_attached(link: BorrowedFd<'_>) -> io::Result<bool> {
    let info = info_of(link)?;
    Ok(info.kind != LINK_TYPE_CGROUP || info.cgroup != 0)
}

/// A program for the packets of sockets, and the cgroups that it belongs to.
pub struct CgroupHook {
    program: OwnedFd,
    way: Way,
    cgroups: Vec<PathBuf>,
    links: Vec<(PathBuf, OwnedFd)>,
}

/// A place at which somebody has detached a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// For people: which program, and where.
    pub place: String,
    /// Why it could not be attached again; empty if it was.
    pub failure: String,
}

impl CgroupHook {
    pub(super) fn new(program: OwnedFd, way: Way, cgroups: Vec<PathBuf>) -> Self {
        CgroupHook {
            program,
            way,
            cgroups,
            links: Vec::new(),
        }
    }

    /// Attaches it everywhere, if it is not yet: all or none.
    pub fn attach(&mut self) -> io::Result<()> {
        if !self.links.is_empty() {
            return Ok(());
        }
        let links: io::Result<Vec<_>> = self
            .cgroups
            .iter()
            .map(|cgroup| Ok((cgroup.clone(), self.link(cgroup)?)))
            .collect();
        self.links = links?;
        Ok(())
    }

    /// It is attached somewhere.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Takes it off everywhere.
    pub fn detach(&mut self) {
        for (_, link) in self.links.drain(..) {
            // Closing it detaches too, if it is pinned nowhere.
            let _ = detach(link.as_fd());
        }
    }

    /// Attaches it again wherever somebody has taken it off. A cgroup that is gone is nobody's doing.
    pub fn mend(&mut self) -> Vec<Detached> {
        let mut found = Vec::new();
        for at in 0..self.links.len() {
            let (cgroup, link) = &self.links[at];
            if is_attached(link.as_fd()).unwrap_or(true) || !cgroup.exists() {
                continue;
            }
            let mut detached = Detached {
                place: format!("the {} program at {}", self.way.as_str(), cgroup.display()),
                failure: String::new(),
            };
            match self.link(cgroup) {
                Ok(link) => self.links[at].1 = link,
                Err(error) => detached.failure = error.to_string(),
            }
            found.push(detached);
        }
        found
    }

    /// Its links, each with a name of its own.
    pub(super) fn links(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let way = self.way.as_str();
        let links = self.links.iter().enumerate();
        links.map(move |(at, (_, link))| (format!("{way}-{at}"), link.as_fd()))
    }

    fn link(&self, cgroup: &Path) -> io::Result<OwnedFd> {
        let cgroup = File::open(cgroup)?;
        let mut attributes = LinkCreate {
            program: self.program.as_raw_fd() as u32,
            target: cgroup.as_raw_fd() as u32,
            attach_type: self.way as u32,
            ..LinkCreate::default()
        };
        bpf_open(command::LINK_CREATE, &mut attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::ProgramInfo;

    #[test]
    fn a_programs_skipped_runs_are_where_the_kernel_has_them() {
        assert_eq!(
            std::mem::offset_of!(ProgramInfo, recursion_misses),
            std::mem::offset_of!(aya_obj::generated::bpf_prog_info, recursion_misses)
        );
    }
}
