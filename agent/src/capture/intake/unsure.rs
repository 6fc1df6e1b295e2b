//! What a TLS object writes before it is known which socket carries it.
//!
//! Its library is seen as it takes the plaintext, and a moment later the socket is, as it takes the record: then the kernel
//! says whose it was. Until then what was written waits here, so that no call is told without its peer. An object in memory
//! has no socket: it waits until its thread does something else, or for a moment.
//!
//! It must not know what is done with it then.

use std::collections::VecDeque;

use apiward_common::record::{Data, Header, SENT, TLS};

use super::{Intake, tls_object};
use crate::capture::{Captured, FlowId, KernelTime};

/// Records that wait at once; each holds [`CHUNK_BYTES_MAX`] at most.
///
/// [`CHUNK_BYTES_MAX`]: apiward_common::limits::CHUNK_BYTES_MAX
const WAITING_MAX: usize = 64;
/// How long one waits, if there are records to tell the time by; else until the next second. The socket is used within
/// microseconds, unless the thread is not run.
const WAIT_NS: u64 = 100_000_000;

/// A record of plaintext that was written.
struct Unsure {
    header: Header,
    data: Data,
    payload: Box<[u8]>,
}

impl Unsure {
    /// The object that has written it.
    fn id(&self) -> FlowId {
        tls_object(&self.header, self.data.flow, self.data.generation)
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
        // Almost always there is none.
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
        let id = (data.flags & TLS != 0).then(|| tls_object(header, data.flow, data.generation));
        let is_blind = |id| self.objects.get(&id).is_some_and(|known| known.is_blind);
        if data.flags & SENT != 0 && data.carrier == 0 && id.is_some_and(|id| !is_blind(id)) {
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
        self.goes_on(header, id, data.carrier, out);
        false
    }

    /// A record of something that this thread did, or of this object, whose socket (0: none) may be known by it: what it has
    /// written waits no longer.
    pub(super) fn goes_on(
        &mut self,
        header: &Header,
        id: Option<FlowId>,
        carrier: u64,
        out: &mut dyn FnMut(Captured),
    ) {
        while let Some(mut known) = self
            .unsure
            .next(|known| known.header.tid == header.tid || Some(known.id()) == id)
        {
            if Some(known.id()) == id {
                known.data.carrier = carrier;
            }
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
    pub(super) fn bound(&mut self, id: FlowId, cookie: u64, out: &mut dyn FnMut(Captured)) {
        while let Some(mut known) = self.unsure.next(|known| known.id() == id) {
            known.data.carrier = cookie;
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

#[cfg(test)]
mod tests {
    use apiward_common::record::kind;

    use super::*;

    const OBJECT: u64 = 0x7f00;
    const SECOND_NS: u64 = 1_000_000_000;

    /// A record of this thread, as the kernel writes it.
    fn record(kind: u8, at: u64, tid: u32, body: &[u64], payload: &[u8]) -> Vec<u8> {
        let mut words = vec![u64::from(kind) | (payload.len() as u64) << 32, 0, at];
        words.extend([7 | u64::from(tid) << 32, 0, 0, 0, 0]);
        words.extend(body);
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.chain(payload.iter().copied()).collect()
    }

    fn moved(at: u64, tid: u32, position: u64, flags: u8, carrier: u64) -> Vec<u8> {
        let body = [OBJECT, position, 0, 4 | 9 << 32, carrier, u64::from(flags)];
        record(kind::DATA, at, tid, &body, b"text")
    }

    fn bind(at: u64, tid: u32) -> Vec<u8> {
        record(kind::TLS_BIND, at, tid, &[OBJECT, 44, 9 | 1 << 32], b"")
    }

    fn freed(at: u64, tid: u32) -> Vec<u8> {
        record(kind::TLS_CLOSE, at, tid, &[OBJECT + u64::from(tid), 4, 4, 9], b"")
    }

    /// What the next stage is told: of each piece by which socket it went, as far as that is known by then.
    fn told(records: &[Vec<u8>], end: Option<KernelTime>) -> Vec<String> {
        let mut intake = Intake::new([]);
        let (mut told, mut carrier) = (Vec::new(), None);
        let mut out = |captured| match captured {
            Captured::Flow(info) => carrier = info.carrier,
            Captured::Segment(segment) => told.push(format!("{} by {carrier:?}", segment.position)),
            _ => {}
        };
        for record in records {
            intake.on(record, &mut out, &mut |_| {});
        }
        intake.tick(end, &mut out);
        assert_eq!(intake.stats().records_invalid, 0);
        told
    }

    const NOW: Option<KernelTime> = Some(KernelTime(1));
    const WRITTEN: u8 = TLS | SENT;

    #[test]
    fn what_is_written_waits_for_its_socket() {
        let records = [moved(1, 1, 0, WRITTEN, 0), moved(1, 1, 4, WRITTEN, 0), bind(2, 1)];
        assert_eq!(told(&records, NOW), ["0 by Some(44)", "4 by Some(44)"]);
        // Other threads do what they do meanwhile.
        let records = [moved(1, 1, 0, WRITTEN, 0), freed(2, 2), bind(2, 1)];
        assert_eq!(told(&records, NOW), ["0 by Some(44)"]);
        // What is read waits for nothing.
        assert_eq!(told(&[moved(1, 1, 0, TLS, 0)], NOW), ["0 by None"]);
        assert_eq!(told(&[moved(1, 1, 0, WRITTEN, 44)], NOW), ["0 by Some(44)"]);
    }

    #[test]
    fn but_not_for_one_that_never_comes() {
        let written = moved(1, 1, 0, WRITTEN, 0);
        assert_eq!(told(std::slice::from_ref(&written), NOW), Vec::<String>::new());
        let later = Some(KernelTime(SECOND_NS));
        assert_eq!(told(std::slice::from_ref(&written), later), ["0 by None"]);
        assert_eq!(told(std::slice::from_ref(&written), None), ["0 by None"]);
        // Other records tell the time.
        let tick = freed(2 + WAIT_NS, 2);
        assert_eq!(told(&[written.clone(), tick], NOW), ["0 by None"]);
        // Its thread does something else, or another one does something with the object; once is enough to know.
        let answered = [
            written.clone(),
            moved(2, 2, 0, TLS, 0),
            moved(3, 1, 4, WRITTEN, 0),
        ];
        assert_eq!(told(&answered, NOW), ["0 by None", "0 by None", "4 by None"]);
        assert_eq!(told(&[written, freed(2, 1)], NOW), ["0 by None"]);
        // There is room for so many.
        let many: Vec<_> = (0..80).map(|n| moved(1, 1, n * 4, WRITTEN, 0)).collect();
        let in_order: Vec<_> = (0..80).map(|n| format!("{} by None", n * 4)).collect();
        assert_eq!(told(&many, NOW), in_order);
    }
}
