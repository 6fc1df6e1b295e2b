//! The program at the security hook of sends (BPF LSM): what must not leave is an error at once.
//!
//! Without it nothing more leaves; a process is only told later, by a reset.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::Ebpf;
use aya::programs::Lsm;

use super::links::attach_tracepoint;
use super::load::{program, words};
use super::probe::{self, Answer};

/// Loaded, and not attached until it is needed: it would be asked for every send.
pub struct Sends {
    program: OwnedFd,
    link: Option<OwnedFd>,
}

impl Sends {
    /// Attached once, to see whether it can be.
    pub(super) fn load(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<Sends, String> {
        if let Answer::No(reason) = probe::lsm(Answer::Yes) {
            return Err(reason);
        }
        let program: &mut Lsm = program(ebpf, "apiward_sendmsg")?;
        program
            .load("socket_sendmsg", btf)
            .map_err(|error| words(&error))?;
        let fd = program.fd().map_err(|error| words(&error))?.as_fd();
        attach_tracepoint(fd).map_err(|error| format!("it does not attach: {error}"))?;
        let program = fd.try_clone_to_owned().map_err(|error| error.to_string())?;
        Ok(Sends { program, link: None })
    }

    /// Attaches it, if it is not yet.
    pub fn attach(&mut self) -> io::Result<()> {
        if self.link.is_none() {
            self.link = Some(attach_tracepoint(self.program.as_fd())?);
        }
        Ok(())
    }
}
