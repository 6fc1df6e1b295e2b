//! What this host's kernel can do, found by trying, never by its version.
//!
//! Program types, maps and helpers are probed by loading tiny programs, ending a socket by ending one of our own,
//! hooks by the kernel's type information. Nothing stays behind. Without root some answers are "unknown".
//!
//! It must not know what the answers lead to: `cli/doctor.rs` does.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use aya::maps::MapType;
use aya::programs::{LsmAttachType, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

use super::btf::Btf;
use super::descriptors;
use super::mappings::Mappings;
use super::netlink::{DiagError, SockDiag, Sockets};
use super::{registers, returns, together};

/// What came out of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    /// And why, in the kernel's words or ours.
    No(String),
    /// And what it would take to know.
    Unknown(String),
}

/// How much is lost without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing runs.
    Required,
    /// Something promised is not given.
    Wanted,
    /// It would be cheaper, or cleaner.
    Bonus,
}

/// One thing that the kernel can or cannot do.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Stable, kebab-case.
    pub name: &'static str,
    pub need: Need,
    pub answer: Answer,
    /// What is not there without it, and what to do about it.
    pub without: &'static str,
    pub fix: &'static str,
}

/// A program that is loaded on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherProgram {
    /// Which hook: `cgroup_skb`, `sock_ops` …
    pub hook: &'static str,
    pub name: String,
    pub id: u32,
}

const NEEDS_ROOT: &str = "needs root";

/// Asks everything.
pub fn probe() -> Vec<Feature> {
    let root = rustix::process::geteuid().is_root();
    let if_root = |probe: &dyn Fn() -> Answer| {
        if root {
            probe()
        } else {
            Answer::Unknown(NEEDS_ROOT.into())
        }
    };
    let program = |kind| if_root(&|| supported(is_program_supported(kind)));
    let helper = |kind, helper| if_root(&|| supported(is_helper_supported(kind, helper)));
    let btf = Btf::from_kernel();
    let feature = |name, need, answer, without, fix| Feature {
        name,
        need,
        answer,
        without,
        fix,
    };
    vec![
        feature(
            "privileges",
            Need::Required,
            privileges(root),
            "kernel programs see every process, so only root may load them",
            "run it as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE and CAP_SYS_ADMIN",
        ),
        feature(
            "type-information",
            Need::Required,
            match &btf {
                Ok(_) => Answer::Yes,
                Err(error) => Answer::No(error.to_string()),
            },
            "where sockets and files are in the kernel's memory is not known",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y, as all large distributions ship",
        ),
        feature(
            "socket-fields",
            Need::Required,
            socket_fields(btf.as_ref().ok()),
            "connections cannot be told from the file descriptors of system calls",
            "report this kernel: its structures have changed",
        ),
        feature(
            "typed-tracepoints",
            Need::Required,
            match &btf {
                Ok(btf) if btf.has_type("btf_trace_sys_exit") && btf.has_type("btf_trace_sys_enter") => {
                    Answer::Yes
                }
                Ok(_) => Answer::No("no tracepoints for system calls".into()),
                Err(_) => Answer::Unknown("needs the type information".into()),
            },
            "system calls are not seen, so no traffic in clear",
            "use a kernel with CONFIG_FTRACE_SYSCALLS=y",
        ),
        feature(
            "tracepoint-programs",
            Need::Required,
            program(ProgramType::RawTracePoint),
            "system calls are not seen",
            "use a kernel with CONFIG_BPF_EVENTS=y; in a container, allow the bpf system call",
        ),
        feature(
            "ring-buffer",
            Need::Required,
            if_root(&|| supported(is_map_supported(MapType::RingBuf))),
            "the kernel programs have no way to hand over what they see",
            "use Linux 5.8 or newer",
        ),
        feature(
            "cgroup2",
            Need::Required,
            cgroup2(),
            "neither scope nor enforcement has anything to attach to",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        feature(
            "descriptors",
            Need::Wanted,
            match descriptors::enough(descriptors::hard()) {
                Ok(()) => Answer::Yes,
                Err(why) => Answer::No(why),
            },
            "libraries beyond the first dozens are not probed, and what is inside TLS there is not seen",
            "raise the hard limit of open files: LimitNOFILE= of the service, `ulimit -Hn` of the shell",
        ),
        feature(
            "user-probes",
            Need::Wanted,
            match Path::new("/sys/bus/event_source/devices/uprobe/type").exists() {
                true => Answer::Yes,
                false => Answer::No("the kernel has no uprobe events".into()),
            },
            "nothing inside TLS is seen",
            "use a kernel with CONFIG_UPROBE_EVENTS=y",
        ),
        feature(
            "exec-mappings",
            Need::Wanted,
            if_root(&|| match Mappings::open() {
                Ok(_) => Answer::Yes,
                Err(error) => Answer::No(error.to_string()),
            }),
            "TLS libraries that the host does not have itself and that are first mapped while the agent runs are not seen where system calls are not traced",
            "use a kernel with CONFIG_PERF_EVENTS=y; give the agent CAP_PERFMON; in a container, allow perf_event_open",
        ),
        feature(
            "probe-cookies",
            Need::Wanted,
            helper(ProgramType::KProbe, BpfHelper::BPF_FUNC_get_attach_cookie),
            "probes inside TLS libraries cannot be told apart",
            "use Linux 5.15 or newer",
        ),
        feature(
            "cgroup-egress",
            Need::Wanted,
            program(ProgramType::CgroupSkb),
            "the response of a denied call cannot be withheld: no `contained`, and no enforcement",
            "use a kernel with CONFIG_CGROUP_BPF=y",
        ),
        feature(
            "socket-destroy",
            Need::Wanted,
            if_root(&destroys_sockets),
            "the connection of a denied call cannot be reset: it stalls instead",
            "use a kernel with CONFIG_INET_DIAG_DESTROY=y",
        ),
        feature(
            "socket-list",
            Need::Wanted,
            match SockDiag::current().and_then(|mut diag| diag.dump(Sockets::Listeners, false)) {
                Ok(_) => Answer::Yes,
                Err(error) => Answer::No(error.to_string()),
            },
            "connections older than the agent are not known",
            "load the module tcp_diag",
        ),
        feature(
            "trampolines",
            Need::Bonus,
            program(ProgramType::Tracing),
            "io_uring is a blind spot, and system calls are traced in the dearer way",
            "a kernel with CONFIG_FPROBE or dynamic ftrace, that is not locked down",
        ),
        feature(
            "lsm",
            Need::Bonus,
            if_root(&|| {
                lsm(supported(is_program_supported(ProgramType::Lsm(
                    LsmAttachType::Mac,
                ))))
            }),
            "a denied write is dropped on its way instead of failing with an error",
            "boot with lsm=…,bpf",
        ),
        feature(
            "probe-registers",
            Need::Bonus,
            if_root(&|| match registers::can_be_written() {
                Ok(()) => Answer::Yes,
                Err(why) => Answer::No(why),
            }),
            "a request inside TLS that is denied is `contained`, not `prevented`: the application has read it by then",
            "Linux 6.18 or newer, not locked down",
        ),
        feature(
            "probe-returns",
            Need::Wanted,
            if_root(&|| match returns::are_survived() {
                Ok(()) => Answer::Yes,
                Err(why) => Answer::No(why),
            }),
            "nothing is probed at returns: handshakes are not followed, and libraries that need such probes are not read",
            "Linux 6.14 or newer, or a later release of 6.12 or 6.13",
        ),
        feature(
            "probe-links",
            Need::Bonus,
            if_root(&|| match together::are_there() {
                Ok(()) => Answer::Yes,
                Err(why) => Answer::No(why),
            }),
            "probes are taken away one after the other, 80 ms each: an agent at many libraries takes long to end",
            "Linux 6.6 or newer",
        ),
        feature(
            "process-in-egress",
            Need::Bonus,
            helper(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_get_current_pid_tgid),
            "none: identity comes from the flow",
            "Linux 6.12 or newer",
        ),
    ]
}

fn supported<E: std::error::Error>(result: Result<bool, E>) -> Answer {
    match result {
        Ok(true) => Answer::Yes,
        Ok(false) => Answer::No("not in this kernel".into()),
        Err(error) => {
            // What failed is in the error, why is in its sources.
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            Answer::No(text)
        }
    }
}

fn privileges(root: bool) -> Answer {
    const NEEDED: [(u32, &str); 4] = [
        (12, "CAP_NET_ADMIN"),
        (19, "CAP_SYS_PTRACE"),
        (38, "CAP_PERFMON"),
        (39, "CAP_BPF"),
    ];
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let Some(effective) = effective else {
        return if root {
            Answer::Yes
        } else {
            Answer::No("not root".into())
        };
    };
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing: Vec<&str> = NEEDED
        .iter()
        // CAP_SYS_ADMIN includes the two of BPF.
        .filter(|(bit, _)| !has(*bit) && (*bit < 38 || !has(SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        Answer::Yes
    } else {
        Answer::No(format!("without {}", missing.join(", ")))
    }
}

fn socket_fields(btf: Option<&Btf>) -> Answer {
    let Some(btf) = btf else {
        return Answer::Unknown("needs the type information".into());
    };
    for (of, path) in [
        ("task_struct", "files"),
        ("files_struct", "fdt"),
        ("fdtable", "fd"),
        ("file", "private_data"),
        ("socket", "sk"),
        ("sock", "sk_protocol"),
        ("sock_common", "skc_cookie"),
        ("tcp_sock", "copied_seq"),
        ("tcp_sock", "write_seq"),
    ] {
        if let Err(error) = btf.field(of, path) {
            return Answer::No(error.to_string());
        }
    }
    Answer::Yes
}

fn cgroup2() -> Answer {
    // proc_pid_mountinfo(5): … - type source options
    let mounted = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .any(|line| {
            line.split_once(" - ")
                .is_some_and(|(_, right)| right.starts_with("cgroup2 "))
        });
    if mounted {
        Answer::Yes
    } else {
        Answer::No("no cgroup2 hierarchy is mounted".into())
    }
}

/// Can connections be aborted? Ends one on loopback that was made for it.
pub fn destroys_sockets() -> Answer {
    let pair = || -> std::io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok((client, listener.accept()?.0))
    };
    let Ok((client, _server)) = pair() else {
        return Answer::Unknown("no connection on loopback to try it on".into());
    };
    let try_it = || -> Result<(), DiagError> {
        let (Ok(local), Ok(remote)) = (client.local_addr(), client.peer_addr()) else {
            return Err(DiagError::Gone);
        };
        let mut diag = SockDiag::current()?;
        let entries = diag.dump(Sockets::Connections, false)?;
        let own = entries
            .iter()
            .find(|entry| entry.local == local && entry.remote == remote);
        diag.destroy(local, remote, own.ok_or(DiagError::Gone)?.cookie)
    };
    match try_it() {
        Ok(()) => Answer::Yes,
        Err(error) => Answer::No(error.to_string()),
    }
}

/// The program type may be there and the security module not be switched on.
pub(super) fn lsm(loads: Answer) -> Answer {
    match std::fs::read_to_string("/sys/kernel/security/lsm") {
        Ok(list) if !list.trim().split(',').any(|name| name == "bpf") => {
            Answer::No("`bpf` is not among the active security modules".into())
        }
        _ => loads,
    }
}

/// Whether the kernel is locked down, and how: `none`, `integrity`, `confidentiality`. `None` if it does not say.
pub fn lockdown() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let chosen = text.split_once('[')?.1.split_once(']')?.0;
    Some(chosen.to_owned())
}

/// Programs on the hooks that the agent uses, but an agent's own. Empty without root.
pub fn other_programs() -> Vec<OtherProgram> {
    let mut found: Vec<OtherProgram> = aya::programs::loaded_programs()
        .map_while(Result::ok)
        .filter_map(|program| {
            // `enum bpf_prog_type` (include/uapi/linux/bpf.h).
            let hook = match program.program_type() as u32 {
                2 => "probe",
                5 => "tracepoint",
                8 => "cgroup_skb",
                13 => "sock_ops",
                17 | 26 => "tracing",
                29 => "lsm",
                _ => return None,
            };
            let name = program.name_as_str().unwrap_or_default().to_owned();
            if name.starts_with(super::links::OURS) {
                return None;
            }
            Some(OtherProgram {
                hook,
                name,
                id: program.id(),
            })
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_answer_says_what_to_do() {
        let features = probe();
        let mut names: Vec<_> = features.iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), features.len());
        for feature in &features {
            assert!(
                !feature.without.is_empty() && !feature.fix.is_empty(),
                "{}",
                feature.name
            );
            if let Answer::No(why) | Answer::Unknown(why) = &feature.answer {
                assert!(!why.is_empty(), "{}", feature.name);
            }
        }
    }

    #[test]
    fn the_socket_that_is_ended_is_our_own() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: SOCK_DESTROY needs root");
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let before = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(destroys_sockets(), Answer::Yes);
        assert!(before.take_error().unwrap().is_none());
        assert!(TcpStream::connect(listener.local_addr().unwrap()).is_ok());
    }
}
