//! The programs at TLS libraries, and where they are attached.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use apiward_common::site::Kind;
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use aya::programs::UProbe;

use super::load::{LoadError, program, take, words};
use super::shelf::Shelf;
use super::site::{Prefer, Ways};
use super::user_probe::{self, Whose};
use super::{closing, descriptors, links, registers, returns};

/// Loads the programs: those that write registers where the kernel lets them. Whether they are there, and whether they
/// write.
pub(super) fn load(ebpf: &mut Ebpf) -> (Result<(), String>, Result<(), String>) {
    let refuses = registers::can_be_written().and_then(|()| load_all(ebpf, true));
    let loaded = match refuses {
        Ok(()) => Ok(()),
        Err(_) => load_all(ebpf, false),
    };
    (loaded, refuses)
}

fn load_all(ebpf: &mut Ebpf, refusing: bool) -> Result<(), String> {
    for kind in [Kind::Enter, Kind::Exit, Kind::Uretprobe] {
        load_one(ebpf, name_of(kind, refusing))?;
    }
    for kind in IN_THE_MIDDLE {
        if !refusing && let Err(error) = load_one(ebpf, name_of(kind, false)) {
            tracing::warn!(%error, "what TLS libraries do is looked at when it begins and when it is over, which costs more");
            break;
        }
    }
    Ok(())
}

/// Where there are programs of both kinds or none, as a library's plan has them.
const IN_THE_MIDDLE: [Kind; 2] = [Kind::Delivery, Kind::Taking];

fn load_one(ebpf: &mut Ebpf, name: &str) -> Result<(), String> {
    let program: &mut UProbe = program(ebpf, name)?;
    program.load().map_err(|error| words(&error))
}

fn name_of(kind: Kind, refusing: bool) -> &'static str {
    match (kind, refusing) {
        (Kind::Enter, false) => "apiward_tls_enter",
        (Kind::Exit, false) => "apiward_tls_exit",
        (Kind::Uretprobe, false) => "apiward_tls_return",
        (Kind::Enter, true) => "apiward_tls_enter_refusing",
        (Kind::Exit, true) => "apiward_tls_exit_refusing",
        (Kind::Uretprobe, true) => "apiward_tls_return_refusing",
        // No call can be made to fail there.
        (Kind::Delivery, _) => "apiward_tls_deliver",
        (Kind::Taking, _) => "apiward_tls_take",
    }
}

/// The programs of the TLS probes.
pub struct Probes {
    ebpf: Ebpf,
    shelf: Shelf,
    /// By attach cookie.
    refusals: HashMap<MapData, u64, i64>,
    /// Not 0: the running processes' libraries have their probes.
    probed: Array<MapData, u32>,
    /// Their programs write registers.
    refuses: bool,
    /// There are those for plaintext that is about to be handed over or taken.
    in_the_middle: bool,
}

/// An attached probe. Dropping it detaches: the program at once, once no CPU runs it any more; then the place, for which
/// the kernel waits some 80 ms for one after the other. Many are dropped by [`take_away`].
pub struct ProbeLink {
    link: Arc<OwnedFd>,
    event: OwnedFd,
    shelf: Shelf,
    /// On the shelf.
    number: u64,
}

/// Threads that wait for the kernel at once.
const WAITING_MAX: usize = 32;

/// Takes probes away. When it returns no program is attached by them any more; that nothing is left where they were
/// takes a moment longer, which nobody waits for but [`closing::WaitsAtEnd`].
pub fn take_away(probes: Vec<ProbeLink>) {
    for probe in &probes {
        probe.shelf.take(probe.number);
    }
    let (links, events): (Vec<_>, Vec<_>) = probes.into_iter().map(|probe| (probe.link, probe.event)).unzip();
    drop_together(links);
    closing::beside(move || drop(events));
}

/// The agent ends: as [`take_away`], but for what is kept.
pub fn end(probes: Vec<ProbeLink>) {
    match probes.first().is_some_and(|probe| probe.shelf.is_kept()) {
        true => drop(probes),
        false => take_away(probes),
    }
}

/// Closes descriptors for each of which the kernel waits, many at once.
pub fn drop_together<T: Send>(links: Vec<T>) {
    let mut links = links.into_iter().peekable();
    while links.peek().is_some() {
        std::thread::scope(|scope| {
            for link in links.by_ref().take(WAITING_MAX) {
                // A thread that cannot be started drops what it was given, here and now.
                drop(std::thread::Builder::new().spawn_scoped(scope, move || drop(link)));
            }
        });
    }
}

impl Probes {
    pub(super) fn take(mut ebpf: Ebpf, refuses: bool, shelf: Shelf) -> Result<Probes, LoadError> {
        let in_the_middle = IN_THE_MIDDLE.iter().all(|kind| {
            program::<UProbe>(&mut ebpf, name_of(*kind, refuses)).is_ok_and(|program| program.fd().is_ok())
        });
        Ok(Probes {
            in_the_middle,
            shelf,
            refusals: take(&mut ebpf, "TLS_REFUSALS", HashMap::try_from)?,
            probed: take(&mut ebpf, "TLS_PROBED", Array::try_from)?,
            refuses,
            ebpf,
        })
    }

    /// Calls can be made to fail at sites that say how.
    pub fn refuses(&self) -> bool {
        self.refuses
    }

    /// What of `wanted` there are programs for, and how probes may be set.
    pub fn ways(&self, wanted: Prefer) -> Ways {
        let returns = returns::are_survived();
        if let Err(why) = &returns {
            tracing::warn!("nothing is probed at returns, which leaves calls unseen: {why}");
        }
        let wanted = match wanted {
            Prefer::Functions if returns.is_err() => Prefer::default(),
            other => other,
        };
        Ways {
            prefer: wanted.where_calls(!self.in_the_middle),
            returns: returns.is_ok(),
        }
    }

    /// The libraries of all running processes have theirs. What looks like TLS on a connection that is older, and is written
    /// by none of them, is nobody's from now on.
    pub fn are_there(&mut self) {
        if let Err(error) = self.probed.set(0, 1, 0) {
            tracing::warn!(%error, "connections in TLS that are older than the agent, by libraries that it cannot read, are not told");
        }
    }

    /// How a call is made to fail at the site with this attach cookie.
    pub fn refuse(&mut self, cookie: u64, refusal: i64) -> Result<(), MapError> {
        self.refusals.insert(cookie, refusal, 0)
    }

    /// These sites are gone, and nobody has their cookies again.
    pub fn forget(&mut self, cookies: &[u64]) {
        for cookie in cookies {
            // Most have said nothing.
            let _ = self.refusals.remove(cookie);
        }
    }

    /// Attaches one probe at a file offset, for all processes that map the file.
    pub fn attach(&mut self, file: &Path, offset: u64, kind: Kind, cookie: u64) -> Result<ProbeLink, String> {
        let name = name_of(kind, self.refuses);
        let program: &mut UProbe = program(&mut self.ebpf, name)?;
        let program = program.fd().map_err(|error| words(&error))?;
        let path = CString::new(file.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let returns = kind == Kind::Uretprobe;
        let event = user_probe::open(&path, offset, returns, Whose::Everybody)
            .map_err(|error| format!("the kernel takes no probe there: {}", descriptors::why(&error)))?;
        let link = links::attach_event(program.as_fd(), event.as_fd(), cookie).map_err(|error| {
            format!(
                "a program cannot be attached to the probe: {}",
                descriptors::why(&error)
            )
        })?;
        let link = Arc::new(link);
        Ok(ProbeLink {
            number: self.shelf.put(link.clone()),
            link,
            event,
            shelf: self.shelf.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::{Object, ProgramSection};

    use super::super::load::OBJECT;

    /// `BPF_JMP | BPF_CALL`, and the helper `bpf_tail_call`.
    const CALL: u8 = 0x85;
    const TAIL_CALL: i32 = 12;

    /// What `agent-ebpf/src/stack.rs` says; the compiler must not have found it needless.
    #[test]
    fn no_program_at_a_library_shares_its_stack() {
        assert!(
            !OBJECT.is_empty(),
            "built without the kernel programs: `cargo xtask build` first"
        );
        let object = Object::parse(OBJECT).expect("the object is ours");
        let mut found = 0;
        for (name, program) in &object.programs {
            if !matches!(
                program.section,
                ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. }
            ) {
                continue;
            }
            let function = &object.functions[&program.function_key()];
            let has_tail_call = function
                .instructions
                .iter()
                .any(|one| one.code == CALL && one.src_reg() == 0 && one.imm == TAIL_CALL);
            assert!(
                has_tail_call,
                "{name} would have its variables where others have theirs"
            );
            found += 1;
        }
        assert_eq!(found, 8);
    }
}
