//! A call, written down without saying again what many calls share: its process and its TLS connection, each of which is
//! written once and copied from then on.
//!
//! In protobuf they stand behind the rest of the call. The parts of a message may come in any order, and in several
//! pieces, which readers put together; the tests hold that against the whole message.

use std::sync::Arc;

use apiward_proto::json::{self, Written};
use apiward_proto::v1;
use prost::Message;
use prost::encoding::{WireType, bytes, encode_key, encode_varint, uint64};

use super::{Clock, process, tell, tls_of};
use crate::call::{ApiCall, CallTls};
use crate::capture::{FlowInfo, Process};
use crate::detect::Finding;
use crate::enforce::Outcome;
use crate::policy::Verdict;

/// Fields of the contract's `Event` and `Call`.
mod field {
    pub const EVENT_ID: u32 = 1;
    pub const EVENT_TIME: u32 = 2;
    pub const EVENT_CALL: u32 = 10;
    pub const CALL_PROCESS: u32 = 3;
    pub const CALL_TLS: u32 = 6;
}

/// Places for the parts of processes, and for those of connections: 128 times the two that were used last. Some 1 KiB each,
/// once there are so many.
const SETS: usize = 128;
const WAYS: usize = 2;

/// The call that was told last: the next one takes its memory.
#[derive(Debug, Default)]
pub struct Told {
    /// Without its process and TLS.
    event: v1::Event,
    processes: Kept<Arc<Process>>,
    connections: Kept<Connection>,
    /// Where the parts of the call at hand are.
    process: Option<usize>,
    tls: Option<usize>,
    /// A call by itself, until its length is known.
    scratch: Vec<u8>,
}

/// A part of a call in both forms.
#[derive(Debug, Default)]
struct Part {
    json: Vec<u8>,
    /// With its field's number and length.
    protobuf: Vec<u8>,
}

/// All that a call's TLS is told from.
#[derive(Debug)]
struct Connection {
    flow: Arc<FlowInfo>,
    tls: Option<CallTls>,
}

impl Connection {
    fn is(&self, call: &ApiCall) -> bool {
        let same = match (&self.tls, &call.tls) {
            (None, None) => true,
            (Some(known), Some(tls)) => {
                Arc::ptr_eq(&known.facts, &tls.facts)
                    && known.server_name == tls.server_name
                    && known.certificate_expired == tls.certificate_expired
                    && known.names_disagree == tls.names_disagree
            }
            _ => false,
        };
        same && Arc::ptr_eq(&self.flow, &call.flow)
    }
}

/// Parts, by what they are told from.
#[derive(Debug)]
struct Kept<T>(Vec<Option<(T, Part)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Vec::new())
    }
}

impl<T> Kept<T> {
    /// Where the part of what `is` is; what is not kept is written by `write`, in place of what was not used for longer.
    fn find(&mut self, place: usize, is: impl Fn(&T) -> bool, write: impl FnOnce() -> (T, Part)) -> usize {
        self.0.resize_with(SETS * WAYS, || None);
        let first = place % SETS * WAYS;
        let set = &mut self.0[first..first + WAYS];
        let known = set
            .iter()
            .position(|slot| matches!(slot, Some((known, _)) if is(known)));
        set[..=known.unwrap_or(WAYS - 1)].rotate_right(1);
        if known.is_none() {
            set[0] = Some(write());
        }
        first
    }

    fn at(&self, place: Option<usize>) -> Option<&Part> {
        self.0.get(place?)?.as_ref().map(|(_, part)| part)
    }
}

impl Told {
    /// As [`super::call`]; to be written by [`Told::encode`] and [`Told::line`].
    pub fn call(
        &mut self,
        clock: &Clock,
        call: &ApiCall,
        findings: &[Finding],
        judged: &Verdict,
        outcome: Option<&Outcome>,
    ) {
        tell(&mut self.event, clock, call, findings, judged, outcome);
        self.process = Some(self.find_process(&call.process));
        self.tls = call.flow.tls.is_some().then(|| self.find_tls(call));
    }

    /// The event, but for its process and its TLS.
    pub fn event(&self) -> &v1::Event {
        &self.event
    }

    fn find_process(&mut self, of: &Arc<Process>) -> usize {
        let is = |known: &Arc<Process>| Arc::ptr_eq(known, of);
        self.processes.find(place(of), is, || {
            let told = process(of);
            let mut part = Part::of(field::CALL_PROCESS, &told);
            json::process(&told, &mut part.json);
            (of.clone(), part)
        })
    }

    fn find_tls(&mut self, call: &ApiCall) -> usize {
        let is = |known: &Connection| known.is(call);
        self.connections.find(place(&call.flow), is, || {
            let told = tls_of(call).unwrap_or_default();
            let mut part = Part::of(field::CALL_TLS, &told);
            json::tls(&told, &mut part.json);
            let known = Connection {
                flow: call.flow.clone(),
                tls: call.tls.clone(),
            };
            (known, part)
        })
    }

    fn parts(&self) -> [Option<&Part>; 2] {
        [self.processes.at(self.process), self.connections.at(self.tls)]
    }

    /// Appends it as protobuf. The call is measured by itself: `Message::encode` of an event measures what is nested once
    /// more for each message around it.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        let Some(v1::event::Kind::Call(call)) = &self.event.kind else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // Only ever fails for want of room, and a vector makes room.
        let _ = call.encode(&mut scratch);
        let parts = self.parts();
        let length = scratch.len()
            + parts
                .iter()
                .flatten()
                .map(|part| part.protobuf.len())
                .sum::<usize>();
        bytes::encode(field::EVENT_ID, &self.event.id, out);
        uint64::encode(field::EVENT_TIME, &self.event.time_ns, out);
        encode_key(field::EVENT_CALL, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
        out.extend_from_slice(&scratch);
        for part in parts.into_iter().flatten() {
            out.extend_from_slice(&part.protobuf);
        }
        self.scratch = scratch;
    }

    /// Appends it as a line of JSON.
    pub fn line(&self, out: &mut Vec<u8>) {
        let [process, tls] = self.parts().map(|part| part.map_or(&b""[..], |part| &part.json));
        json::line_with(&self.event, Written { process, tls }, out);
    }
}

impl Part {
    fn of(field: u32, message: &impl Message) -> Part {
        let mut part = Part::default();
        encode_key(field, WireType::LengthDelimited, &mut part.protobuf);
        // As above.
        let _ = message.encode_length_delimited(&mut part.protobuf);
        part
    }
}

/// Where something shared is kept, by where it is in memory: as long as it is kept nothing else is there.
fn place<T>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).addr() / size_of::<T>()
}
