//! One direction of HTTP/2: no bytes may make the decoder panic, tell something else when they come in other pieces, tell more
//! bytes than came, or hold more than its limits; with a part cut out, whatever it is, it goes on.

use apiward::decode::{Event, Http2Decoder, Limits, Role, StartLine, Told};
use bytes::Bytes;

/// A table, a head in progress, streams and their hashing.
const HELD_BYTES_MAX: usize = 512 * 1024;

#[derive(Default)]
struct Seen {
    /// What was told, pieces of one body joined.
    told: Vec<(u32, Vec<u8>)>,
    bytes: u64,
    out_of_step: bool,
}

impl Seen {
    fn take(&mut self, told: Told) {
        let (stream, mut text) = match told {
            Told::Head {
                stream,
                head,
                position,
                end,
            }
            | Told::Promise {
                stream,
                head,
                position,
                end,
            } => {
                assert!(position <= end, "a head that ends before it begins");
                let mut text = match &head.line {
                    StartLine::Request { method, target, .. } => {
                        [b"head ", &method[..], b" ", &target[..]].concat()
                    }
                    StartLine::Response { status } => format!("head {status}").into_bytes(),
                };
                for (name, value) in head.headers.iter() {
                    text.extend([b" ", &name[..], b"=", &value[..]].concat());
                }
                text.extend(format!(" {} {:?}", head.unknown_fields, head.anomalies).into_bytes());
                (stream, text)
            }
            Told::Of {
                stream,
                event: Event::Body(bytes),
            } => {
                self.bytes += bytes.len() as u64;
                if let Some((last, text)) = self.told.last_mut()
                    && *last == stream
                    && text.starts_with(b"body ")
                {
                    text.extend_from_slice(&bytes);
                    return;
                }
                (stream, [b"body ", &bytes[..]].concat())
            }
            Told::Of {
                stream,
                event: Event::Anomaly(anomaly),
            } => (stream, anomaly.as_str().into()),
            Told::Of {
                stream,
                event: Event::End,
            } => (stream, b"end".to_vec()),
            Told::Of { stream, .. } => (stream, b"other".to_vec()),
            Told::Trailers { stream, fields } => (stream, format!("trailers {}", fields.len()).into_bytes()),
            Told::Reset { stream } => (stream, b"reset".to_vec()),
            Told::GoAway { last } => (last, b"goaway".to_vec()),
            Told::Settings { frame_bytes_max } => (frame_bytes_max, b"settings".to_vec()),
            Told::Anomaly(anomaly) => (0, anomaly.as_str().into()),
            Told::Skipped(bytes) => {
                self.bytes += bytes;
                return;
            }
            Told::OutOfStep => {
                self.out_of_step = true;
                return;
            }
        };
        text.shrink_to_fit();
        self.told.push((stream, text));
    }
}

fn seen(decoder: &mut Http2Decoder, pieces: &[&[u8]], mut position: u64) -> Seen {
    let mut seen = Seen::default();
    for piece in pieces {
        let bytes = Bytes::copy_from_slice(piece);
        decoder.take(bytes, position, &Limits::default(), &mut |told| seen.take(told));
        position += piece.len() as u64;
        assert!(
            decoder.held_bytes() <= HELD_BYTES_MAX,
            "{} bytes are held",
            decoder.held_bytes()
        );
    }
    seen
}

/// One input: the role and the state it begins in, where it is cut, how much is lost there, and the bytes.
pub fn run(data: &[u8]) {
    let Some(([how, cut, lost], stream)) = data.split_first_chunk() else {
        return;
    };
    let role = if how & 1 == 0 {
        Role::Requests
    } else {
        Role::Responses
    };
    let decoder = || {
        let mut decoder = match how & 6 {
            0 | 2 => Http2Decoder::new(role),
            4 => Http2Decoder::late(role, true),
            _ => Http2Decoder::at_frame(role),
        };
        if how & 8 != 0 {
            decoder.may_send(1 << 14);
            decoder.has_taken(Some(0));
        }
        decoder
    };
    let whole = seen(&mut decoder(), &[stream], 0);
    assert!(whole.bytes <= stream.len() as u64, "more was told than came");
    let cut = (usize::from(*cut) * 4).min(stream.len());
    let (first, second) = stream.split_at(cut);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    for pieces in [vec![first, second], single] {
        let other = seen(&mut decoder(), &pieces, 0);
        // Where frames are looked for, pieces tell where they may begin.
        if how & 6 != 4 && !whole.out_of_step && !other.out_of_step {
            assert!(whole.told == other.told, "cut at {cut}");
        }
    }
    // A part is missing.
    let mut broken = decoder();
    seen(&mut broken, &[first], 0);
    let lost = usize::from(*lost).min(second.len());
    let mut more = Seen::default();
    broken.gap((how & 16 == 0).then_some(lost as u64), &mut |told| {
        more.take(told)
    });
    seen(&mut broken, &[&second[lost..]], (cut + lost) as u64);
    broken.finish(&mut |told| more.take(told));
}
