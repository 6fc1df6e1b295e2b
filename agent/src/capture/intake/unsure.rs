//! What a TLS object writes before it is known which socket carries it.
//!
//! Its library is seen as it takes the plaintext, and a moment later the socket is, as it takes the record: then the kernel
//! says whose it was. Until then what was written waits here, so that no call is told without its peer. An object in memory
//! has no socket: it waits until its thread does something else, or for a moment.
//!
//! It must not know what is done with it then.

use std::collections::VecDeque;

use apiward_common::record::{Data, Header, SENT, TLS, TlsBind};

use super::Intake;
use crate::capture::{Captured, FlowId, KernelTime};

/// Records that wait at once; a record holds 4 KiB at most.
const WAITING_MAX: usize = 64;
/// How long one waits. The socket is used within microseconds, unless the thread is not run.
const WAIT_NS: u64 = 100_000_000;

/// A record of plaintext that was written.
struct Unsure {
    header: Header,
    data: Data,
    payload: Box<[u8]>,
}

impl Unsure {
    /// Written by the same object.
    fn is_of(&self, pid: u32, object: u64, generation: u32) -> bool {
        (self.header.pid, self.data.flow, self.data.generation) == (pid, object, generation)
    }
}

/// Those that wait, in their order.
#[derive(Default)]
pub(super) struct Waiting {
    records: VecDeque<Unsure>,
}

impl Waiting {
    /// Keeps one; gives the oldest back where there are too many.
    fn hold(&mut self, unsure: Unsure) -> Option<Unsure> {
        self.records.push_back(unsure);
        (self.records.len() > WAITING_MAX).then(|| self.records.pop_front())?
    }

    /// The first that `wanted` takes.
    fn next(&mut self, wanted: impl Fn(&Unsure) -> bool) -> Option<Unsure> {
        let at = self.records.iter().position(wanted)?;
        self.records.remove(at)
    }

    /// The oldest that has waited long enough; with `None`, the oldest.
    fn due(&mut self, now: Option<KernelTime>) -> Option<Unsure> {
        let waits = |known: &Unsure| now.is_some_and(|now| now.since(KernelTime(known.header.at)) < WAIT_NS);
        self.next(|known| !waits(known))
    }
}

impl Intake {
    /// Keeps what an object writes whose socket may be told next. Else what waits for other things goes on.
    pub(super) fn holds(
        &mut self,
        header: &Header,
        data: &Data,
        payload: &[u8],
        out: &mut dyn FnMut(Captured),
    ) -> bool {
        let id = FlowId::Tls {
            pid: header.pid,
            object: data.flow,
            generation: data.generation,
        };
        let written = data.flags & (TLS | SENT) == TLS | SENT && data.carrier == 0;
        if written && !self.objects.get(&id).is_some_and(|known| known.is_blind) {
            let unsure = Unsure {
                header: *header,
                data: *data,
                payload: payload.into(),
            };
            if let Some(first) = self.unsure.hold(unsure) {
                self.told(&first, out);
            }
            return true;
        }
        if !self.unsure.records.is_empty() {
            let (tid, pid) = (header.tid, header.pid);
            let (object, generation) = (data.flow, data.generation);
            self.go_on(out, |known| {
                known.header.tid == tid || known.is_of(pid, object, generation)
            });
        }
        false
    }

    /// The thread does something else: what it has written waits no longer.
    pub(super) fn thread_goes_on(&mut self, tid: u32, out: &mut dyn FnMut(Captured)) {
        if !self.unsure.records.is_empty() {
            self.go_on(out, |known| known.header.tid == tid);
        }
    }

    fn go_on(&mut self, out: &mut dyn FnMut(Captured), wanted: impl Fn(&Unsure) -> bool) {
        while let Some(known) = self.unsure.next(&wanted) {
            self.told(&known, out);
        }
    }

    fn told(&mut self, known: &Unsure, out: &mut dyn FnMut(Captured)) {
        if self
            .data(&known.header, &known.data, &known.payload, out)
            .is_none()
        {
            self.stats.records_invalid += 1;
        }
    }

    /// The socket of an object is told.
    pub(super) fn bound(&mut self, pid: u32, bind: &TlsBind, out: &mut dyn FnMut(Captured)) {
        while let Some(mut known) = self
            .unsure
            .next(|known| known.is_of(pid, bind.object, bind.generation))
        {
            known.data.carrier = bind.cookie;
            self.told(&known, out);
        }
    }

    /// No socket was told for what has waited for so long; with `None`, for any.
    pub(super) fn unsure_due(&mut self, now: Option<KernelTime>, out: &mut dyn FnMut(Captured)) {
        while let Some(known) = self.unsure.due(now) {
            self.told(&known, out);
        }
    }
}
