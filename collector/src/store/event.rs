//! An event on its way into the store: what it is found by, and the bytes that it came in.
//!
//! It is not taken apart: that would be most of what taking it in costs, and what a newer agent says would be lost.
//! Readers decode it, and count what is none.

use prost::bytes::Bytes;
use prost::{DecodeError, Message};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unix time, ns.
    pub time_ns: u64,
    /// As `apiward_proto::json::kind_name` says: for whoever asks the database itself.
    pub kind: &'static str,
    pub bytes: Bytes,
}

/// What is looked at of an `apiward.v1.Event`.
#[derive(Clone, PartialEq, Message)]
struct Glance {
    #[prost(uint64, tag = "2")]
    time_ns: u64,
    #[prost(oneof = "Kind", tags = "10, 11, 12, 13, 14, 40")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(bytes = "bytes", tag = "10")]
    Call(Bytes),
    #[prost(bytes = "bytes", tag = "11")]
    FlowLoss(Bytes),
    #[prost(bytes = "bytes", tag = "12")]
    AgentState(Bytes),
    #[prost(bytes = "bytes", tag = "13")]
    Audit(Bytes),
    #[prost(bytes = "bytes", tag = "14")]
    FlowEnd(Bytes),
    #[prost(bytes = "bytes", tag = "40")]
    Inventory(Bytes),
}

impl TryFrom<Bytes> for Event {
    type Error = DecodeError;

    fn try_from(bytes: Bytes) -> Result<Self, DecodeError> {
        let glance = Glance::decode(bytes.clone())?;
        Ok(Event {
            time_ns: glance.time_ns,
            kind: match glance.kind {
                Some(Kind::Call(_)) => "call",
                Some(Kind::FlowLoss(_)) => "flow_loss",
                Some(Kind::AgentState(_)) => "agent_state",
                Some(Kind::Audit(_)) => "audit",
                Some(Kind::FlowEnd(_)) => "flow_end",
                Some(Kind::Inventory(_)) => "inventory",
                None => "unknown",
            },
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use apiward_proto::{json, v1};

    use super::*;

    #[test]
    fn every_kind_has_its_name() {
        use v1::event::Kind;
        // A kind that is added here has to be added to the list below, and to what is looked at.
        let known = |kind: &Kind| match kind {
            Kind::Call(_)
            | Kind::FlowLoss(_)
            | Kind::AgentState(_)
            | Kind::Audit(_)
            | Kind::FlowEnd(_)
            | Kind::Inventory(_) => true,
        };
        let kinds = [
            None,
            Some(Kind::Call(v1::Call {
                state: "answered".into(),
                ..Default::default()
            })),
            Some(Kind::FlowLoss(Default::default())),
            Some(Kind::AgentState(Default::default())),
            Some(Kind::Audit(Default::default())),
            Some(Kind::FlowEnd(Default::default())),
            Some(Kind::Inventory(Default::default())),
        ];
        assert!(kinds.iter().flatten().all(known));
        for (time_ns, kind) in (0..).zip(kinds) {
            let event = v1::Event {
                id: vec![7; 16],
                time_ns,
                kind,
            };
            let bytes = Bytes::from(event.encode_to_vec());
            let found = Event::try_from(bytes.clone());
            let kind = json::kind_name(&event);
            assert_eq!(found, Ok(Event { time_ns, kind, bytes }));
        }
    }

    #[test]
    fn what_a_newer_agent_adds_stays() {
        // Field 99 with three bytes.
        let bytes = Bytes::from_static(b"\x10\x05\x9a\x06\x03abc");
        let found = Event::try_from(bytes.clone()).map(|event| (event.time_ns, event.kind, event.bytes));
        assert_eq!(found, Ok((5, "unknown", bytes)));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for bytes in [
            &b"\x10"[..],
            b"\x52\x05abc",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(
                Event::try_from(Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
    }
}
