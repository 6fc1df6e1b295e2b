//! Requests whose heads came before, to the byte ([`KnownHeads`](crate::decode::KnownHeads)) → their facts, as they were
//! told the first time: parsing a target, reading a token and recognising an API are most of what a small call costs.
//!
//! Only what follows from the head alone is kept. What is shown of a path or a host can depend on who else has asked for
//! it, and is asked again; and nothing is kept over a change of the words that may be shown.

use super::facts::{Asked, Told};
use super::redact::Redactor;
use super::{ApiCall, Operation, Phase, semantics};
use crate::capture::KernelTime;
use crate::decode::ByHead;

/// What of a request's face has to be asked again.
#[derive(Clone, Copy)]
pub(super) struct Shows {
    /// With the port to show behind it, if it is not a default one.
    pub host: Option<Option<u16>>,
    pub path: bool,
}

/// The facts of one head.
pub(super) struct Kept {
    told: Told,
    shows: Shows,
    /// By the head; `None`: not asked yet, or it may change.
    operation: Option<Option<Box<Operation>>>,
}

impl Kept {
    /// The same request, made by somebody at another time.
    pub(super) fn again(&self, at: KernelTime, asked: &Asked<'_>, redactor: &mut Redactor) -> Told {
        let mut told = self.told.clone();
        let request = &mut told.request;
        (request.head_at, request.ended_at) = (at, at);
        if let Some(port) = self.shows.host {
            request.host = asked.host(&told.raw.host, port, redactor).into();
        }
        if let (true, Some(path)) = (self.shows.path, &told.raw.path) {
            request.path = asked.path(path, redactor);
        }
        told
    }
}

/// Facts of requests by their heads.
#[derive(Default)]
pub(super) struct KnownRequests {
    kept: ByHead<Kept>,
    /// The words that they were told with, see [`Redactor::told`].
    words: u64,
}

impl KnownRequests {
    /// What is known of a head.
    pub(super) fn get(&mut self, known: u64, redactor: &Redactor) -> Option<&Kept> {
        if self.words != redactor.told() {
            self.words = redactor.told();
            self.kept.clear();
        }
        self.kept.get(known)
    }

    /// Remembers what a head told. Behind [`KnownRequests::get`].
    pub(super) fn keep(&mut self, known: u64, told: &Told, shows: Shows) {
        if known != 0 {
            let kept = Kept {
                told: told.clone(),
                shows,
                operation: None,
            };
            self.kept.put(known, kept);
        }
    }

    /// Forgets all of it: what still comes is told anew.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Tells a call with this head what it does, as far as the head says.
    pub(super) fn tell_operation(&mut self, known: u64, call: &mut ApiCall, redactor: &mut Redactor) {
        // What gRPC has told comes from more than the head.
        let mut kept = self.kept.get_mut(known).filter(|_| call.operation.is_none());
        if let Some(Kept {
            operation: Some(operation),
            ..
        }) = &kept
        {
            call.operation = operation.clone();
            return;
        }
        let before = redactor.learning();
        semantics::tell(Phase::Head, call, redactor);
        if let Some(kept) = &mut kept
            && redactor.learning() == before
        {
            kept.operation = Some(call.operation.clone());
        }
    }
}
