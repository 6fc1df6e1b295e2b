//! A `FromAgent` whose events stay as they lie in the spool.
//!
//! Decoding every event only to encode it again would be most of the exporter's work. On the wire this is the
//! contract's `FromAgent`, byte for byte; the tests hold it against the generated type.

use apiward_proto::v1;
use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use prost::{DecodeError, Message};

/// Tag of `FromAgent.batch`.
const BATCH: u32 = 2;
/// Tags of `Batch.first_sequence` and `Batch.events`.
const FIRST_SEQUENCE: u32 = 1;
const EVENTS: u32 = 2;

/// One message to a collector.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// Anything but events.
    Plain(v1::FromAgent),
    /// Consecutive events, each in protobuf.
    Batch { first_sequence: u64, events: Vec<Bytes> },
}

impl Outgoing {
    /// Wraps a message.
    pub fn plain(message: v1::from_agent::Message) -> Self {
        Outgoing::Plain(v1::FromAgent {
            message: Some(message),
        })
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing::Plain(v1::FromAgent::default())
    }
}

fn batch_len(first_sequence: u64, events: &[Bytes]) -> usize {
    let number = match first_sequence {
        0 => 0,
        number => key_len(FIRST_SEQUENCE) + encoded_len_varint(number),
    };
    let events: usize = events
        .iter()
        .map(|event| key_len(EVENTS) + encoded_len_varint(event.len() as u64) + event.len())
        .sum();
    number + events
}

impl Message for Outgoing {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        match self {
            Outgoing::Plain(message) => message.encode_raw(buf),
            Outgoing::Batch {
                first_sequence,
                events,
            } => {
                encode_key(BATCH, WireType::LengthDelimited, buf);
                encode_varint(batch_len(*first_sequence, events) as u64, buf);
                if *first_sequence != 0 {
                    encode_key(FIRST_SEQUENCE, WireType::Varint, buf);
                    encode_varint(*first_sequence, buf);
                }
                for event in events {
                    encode_key(EVENTS, WireType::LengthDelimited, buf);
                    encode_varint(event.len() as u64, buf);
                    buf.put_slice(event);
                }
            }
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // It is only ever sent; what arrives is read as the generated type.
        if !matches!(self, Outgoing::Plain(_)) {
            *self = Outgoing::default();
        }
        match self {
            Outgoing::Plain(message) => message.merge_field(tag, wire_type, buf, ctx),
            Outgoing::Batch { .. } => Ok(()),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Outgoing::Plain(message) => message.encoded_len(),
            Outgoing::Batch {
                first_sequence,
                events,
            } => {
                let length = batch_len(*first_sequence, events);
                key_len(BATCH) + encoded_len_varint(length as u64) + length
            }
        }
    }

    fn clear(&mut self) {
        *self = Outgoing::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::wire;

    #[test]
    fn the_same_bytes_as_the_contract_s_own_type() {
        for (first_sequence, count) in [(0u64, 0usize), (1, 1), (300, 3), (u64::MAX, 200)] {
            let events: Vec<v1::Event> = (0..count)
                .map(|n| wire::agent_state("started", "x".repeat(n * 7)))
                .collect();
            let raw = Outgoing::Batch {
                first_sequence,
                events: events.iter().map(|event| event.encode_to_vec().into()).collect(),
            };
            let typed = v1::FromAgent {
                message: Some(v1::from_agent::Message::Batch(v1::Batch {
                    first_sequence,
                    events,
                })),
            };
            assert_eq!(raw.encode_to_vec(), typed.encode_to_vec());
            assert_eq!(raw.encoded_len(), typed.encoded_len());
        }
    }
}
