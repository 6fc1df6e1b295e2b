//! The programs at TLS libraries, and where they are attached.

use std::path::Path;

use apiward_common::site::Kind;
use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};

use super::load::{LoadError, program, take, words};
use super::registers;

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
        let program: &mut UProbe = program(ebpf, name_of(kind, refusing))?;
        program.load().map_err(|error| words(&error))?;
    }
    Ok(())
}

fn name_of(kind: Kind, refusing: bool) -> &'static str {
    match (kind, refusing) {
        (Kind::Enter, false) => "apiward_tls_enter",
        (Kind::Exit, false) => "apiward_tls_exit",
        (Kind::Uretprobe, false) => "apiward_tls_return",
        (Kind::Enter, true) => "apiward_tls_enter_refusing",
        (Kind::Exit, true) => "apiward_tls_exit_refusing",
        (Kind::Uretprobe, true) => "apiward_tls_return_refusing",
    }
}

/// The programs of the TLS probes, and their links: whoever drops this detaches everything.
pub struct Probes {
    ebpf: Ebpf,
    /// By attach cookie.
    refusals: HashMap<MapData, u64, i64>,
    /// Their programs write registers.
    refuses: bool,
}

/// An attached probe; detached by [`Probes::detach`].
#[derive(Debug)]
pub struct ProbeLink {
    program: &'static str,
    link: UProbeLinkId,
}

impl Probes {
    pub(super) fn take(mut ebpf: Ebpf, refuses: bool) -> Result<Probes, LoadError> {
        Ok(Probes {
            refusals: take(&mut ebpf, "TLS_REFUSALS", HashMap::try_from)?,
            refuses,
            ebpf,
        })
    }

    /// Calls can be made to fail at sites that say how.
    pub fn refuses(&self) -> bool {
        self.refuses
    }

    /// How a call is made to fail at the site with this attach cookie.
    pub fn refuse(&mut self, cookie: u64, refusal: i64) -> Result<(), MapError> {
        self.refusals.insert(cookie, refusal, 0)
    }

    /// Attaches one probe at a file offset, for all processes that map the file.
    pub fn attach(&mut self, file: &Path, offset: u64, kind: Kind, cookie: u64) -> Result<ProbeLink, String> {
        let name = name_of(kind, self.refuses);
        let program: &mut UProbe = program(&mut self.ebpf, name)?;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: Some(cookie),
        };
        let link = program
            .attach(point, file, UProbeScope::AllProcesses)
            .map_err(|error| words(&error))?;
        Ok(ProbeLink { program: name, link })
    }

    /// Takes a probe away.
    pub fn detach(&mut self, link: ProbeLink) -> Result<(), String> {
        let program: &mut UProbe = program(&mut self.ebpf, link.program)?;
        program.detach(link.link).map_err(|error| words(&error))
    }
}
