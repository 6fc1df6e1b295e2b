//! The programs at TLS libraries, and where they are attached.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
use super::{closing, descriptors, links, registers, returns, together};

/// The loaded programs at TLS libraries.
#[derive(Default)]
pub(super) struct Programs {
    by_kind: Vec<(Kind, &'static str, OwnedFd)>,
    /// They are for events of their own, and not for links to many places: why.
    one_by_one: Option<String>,
}

impl Programs {
    pub(super) fn by_name(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        self.by_kind
            .iter()
            .map(|(_, name, program)| (*name, program.as_fd()))
    }

    pub(super) fn why_one_by_one(&self) -> Option<&str> {
        self.one_by_one.as_deref()
    }

    fn of(&self, kind: Kind) -> Result<BorrowedFd<'_>, String> {
        let found = self.by_kind.iter().find(|(of, ..)| *of == kind);
        let (.., program) = found.ok_or_else(|| format!("no program is loaded for {kind:?}"))?;
        Ok(program.as_fd())
    }
}

/// What programs for links to many places are loaded from, with the object's types; else each probe has an event.
type Together<'a> = Option<&'a (together::Programs, OwnedFd)>;

/// Loads the programs: those that write registers where the kernel lets them; for links to many places where it has those
/// (`together`). The programs, and whether they write.
pub(super) fn load(
    ebpf: &mut Ebpf,
    together: Result<together::Programs, String>,
) -> (Result<Programs, String>, WritesRegisters) {
    let together = together.and_then(|programs| Ok((programs, together::types(ebpf)?)));
    let reason =
        match together.and_then(|together| load_best(ebpf, Some(&together)).map_err(|(error, _)| error)) {
            Ok((programs, refuses)) => return (Ok(programs), refuses),
            Err(reason) => reason,
        };
    match load_best(ebpf, None) {
        Ok((programs, refuses)) => {
            let one_by_one = Some(reason);
            (
                Ok(Programs {
                    one_by_one,
                    ..programs
                }),
                refuses,
            )
        }
        Err((error, refuses)) => (Err(error), refuses),
    }
}

/// Whether the programs write registers, and why not.
type WritesRegisters = Result<(), String>;

fn load_best(
    ebpf: &mut Ebpf,
    together: Together<'_>,
) -> Result<(Programs, WritesRegisters), (String, WritesRegisters)> {
    let refusing = registers::can_be_written().and_then(|()| load_all(ebpf, together, true));
    match refusing {
        Ok(programs) => Ok((programs, Ok(()))),
        Err(why) => match load_all(ebpf, together, false) {
            Ok(programs) => Ok((programs, Err(why))),
            Err(error) => Err((error, Err(why))),
        },
    }
}

fn load_all(ebpf: &mut Ebpf, together: Together<'_>, refusing: bool) -> Result<Programs, String> {
    let mut programs = Programs::default();
    for kind in [Kind::Enter, Kind::Exit, Kind::Uretprobe] {
        let name = name_of(kind, refusing);
        programs
            .by_kind
            .push((kind, name, load_one(ebpf, together, name)?));
    }
    for kind in IN_THE_MIDDLE {
        if refusing {
            break;
        }
        let name = name_of(kind, false);
        match load_one(ebpf, together, name) {
            Ok(program) => programs.by_kind.push((kind, name, program)),
            Err(error) => {
                tracing::warn!(%error, "what TLS libraries do is looked at when it begins and when it is over, which costs more");
                break;
            }
        }
    }
    Ok(programs)
}

/// Where there are programs of both kinds or none, as a library's plan has them.
const IN_THE_MIDDLE: [Kind; 2] = [Kind::Delivery, Kind::Taking];

fn load_one(ebpf: &mut Ebpf, together: Together<'_>, name: &str) -> Result<OwnedFd, String> {
    if let Some((programs, types)) = together {
        return programs.load(name, types.as_fd());
    }
    let program: &mut UProbe = program(ebpf, name)?;
    program.load().map_err(|error| words(&error))?;
    let program = program.fd().map_err(|error| words(&error))?;
    program
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| error.to_string())
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
    /// Keeps the maps that nobody else has.
    _ebpf: Ebpf,
    programs: Programs,
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

/// Attached probes of one kind. Dropping it detaches: the program at once, once no CPU runs it any more; then the places,
/// for which the kernel waits. Many are dropped by [`take_away`].
pub struct ProbeLink {
    link: Arc<OwnedFd>,
    /// Of a probe that is one by itself. The kernel waits some 80 ms for it, for one after the other.
    event: Option<OwnedFd>,
    shelf: Shelf,
    /// On the shelf.
    number: u64,
}

/// Threads that wait for the kernel at once.
const WAITING_MAX: usize = 32;

/// Takes probes away. When it returns no program is attached by them any more; that nothing is left where single probes were
/// takes a moment longer, which nobody waits for but [`closing::WaitsAtEnd`].
pub fn take_away(probes: Vec<ProbeLink>) {
    for probe in &probes {
        probe.shelf.take(probe.number);
    }
    let (links, events): (Vec<_>, Vec<_>) = probes.into_iter().map(|probe| (probe.link, probe.event)).unzip();
    drop_together(links);
    let events: Vec<OwnedFd> = events.into_iter().flatten().collect();
    if !events.is_empty() {
        closing::beside(move || drop(events));
    }
}

/// The same, beside everything else.
pub fn take_away_beside(probes: Vec<ProbeLink>) {
    closing::beside(move || take_away(probes));
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
    pub(super) fn take(
        mut ebpf: Ebpf,
        programs: Programs,
        refuses: bool,
        shelf: Shelf,
    ) -> Result<Probes, LoadError> {
        Ok(Probes {
            in_the_middle: IN_THE_MIDDLE.iter().all(|kind| programs.of(*kind).is_ok()),
            programs,
            shelf,
            refusals: take(&mut ebpf, "TLS_REFUSALS", HashMap::try_from)?,
            probed: take(&mut ebpf, "TLS_PROBED", Array::try_from)?,
            refuses,
            _ebpf: ebpf,
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

    /// Attaches probes of one kind at a file's offsets, each with its cookie, for all processes that map the file. What is
    /// attached when another cannot be is taken away again.
    pub fn attach(
        &mut self,
        file: &Path,
        kind: Kind,
        places: &[(u64, u64)],
    ) -> Result<Vec<ProbeLink>, String> {
        let path = CString::new(file.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let program = self.programs.of(kind)?;
        let returns = kind == Kind::Uretprobe;
        let shelve = |link: OwnedFd, event| {
            let link = Arc::new(link);
            ProbeLink {
                number: self.shelf.put(link.clone()),
                link,
                event,
                shelf: self.shelf.clone(),
            }
        };
        if self.programs.one_by_one.is_none() {
            let link = links::attach_places(program, &path, places, returns)
                .map_err(|error| format!("the kernel takes no probes there: {}", descriptors::why(&error)))?;
            return Ok(vec![shelve(link, None)]);
        }
        let mut attached = Vec::new();
        for (offset, cookie) in places {
            match attach_one(program, &path, *offset, returns, *cookie) {
                Ok((link, event)) => attached.push(shelve(link, Some(event))),
                Err(error) => {
                    take_away(attached);
                    return Err(error);
                }
            }
        }
        Ok(attached)
    }
}

fn attach_one(
    program: BorrowedFd<'_>,
    file: &CStr,
    offset: u64,
    returns: bool,
    cookie: u64,
) -> Result<(OwnedFd, OwnedFd), String> {
    let event = user_probe::open(file, offset, returns, Whose::Everybody)
        .map_err(|error| format!("the kernel takes no probe there: {}", descriptors::why(&error)))?;
    let link = links::attach_event(program, event.as_fd(), cookie).map_err(|error| {
        format!(
            "a program cannot be attached to the probe: {}",
            descriptors::why(&error)
        )
    })?;
    Ok((link, event))
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
