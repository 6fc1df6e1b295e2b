//! MLLP and HL7 version 2: no bytes may make the decoder panic, tell other messages when they come in other pieces, or
//! tell more bytes than came. What it takes for messages is read as HL7.

use apiward::decode::{Hl7, MllpDecoder, MllpEvent};
use bytes::Bytes;

/// What is told of a stream, pieces of one message joined.
fn told(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
    let mut decoder = MllpDecoder::default();
    let (mut messages, mut bytes) = (Vec::<Vec<u8>>::new(), 0u64);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(event) = decoder.next(&mut input) {
            match event {
                MllpEvent::Start => messages.push(Vec::new()),
                MllpEvent::Data(data) => {
                    bytes += data.len() as u64;
                    if let Some(message) = messages.last_mut() {
                        message.extend_from_slice(&data);
                    }
                }
                MllpEvent::Skipped(skipped) => bytes += skipped,
                MllpEvent::Missed(_) | MllpEvent::End(_) => {}
            }
        }
        assert!(input.is_empty(), "something was left");
    }
    (messages, bytes)
}

/// One input: where it is cut, and the stream.
pub fn run(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else {
        return;
    };
    let cut = usize::from(*cut).min(stream.len());
    let (messages, bytes) = told(&[stream]);
    assert!(bytes <= stream.len() as u64, "more was told than came");
    let (first, second) = stream.split_at(cut);
    assert_eq!(messages, told(&[first, second]).0, "cut at {cut}");
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(messages, told(&single).0, "in single bytes");
    let _ = MllpDecoder::begins_at(stream);
    for message in &messages {
        let read = Hl7::parse(message);
        let Some(read) = read else { continue };
        for value in read.parties.into_iter().chain(read.patient) {
            assert!(read.separators.plain(value).len() <= message.len());
        }
    }
}
