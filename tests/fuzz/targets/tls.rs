//! TLS handshakes: no bytes may make the reader panic, say other things when they come in other pieces, or hold more than
//! its limit.

use apiward::capture::Direction;
use apiward::decode::{TlsHandshake, TlsShown, TlsSpoken};

/// Two messages in progress at the most.
const HELD_BYTES_MAX: usize = 4 * 16 * 1024;

/// The stream is two directions in turns: a byte that says whose turn it is, two of its length, and its bytes.
fn hear(turns: &[(Direction, &[u8])], piece: usize) -> TlsHandshake {
    let mut read = TlsHandshake::default();
    let mut positions = [u32::MAX - 7, 3];
    for (direction, bytes) in turns {
        let position = &mut positions[usize::from(*direction == Direction::Received)];
        for piece in bytes.chunks(piece) {
            read.take(*direction, *position, piece);
            *position = position.wrapping_add(piece.len() as u32);
            assert!(read.held_bytes() <= HELD_BYTES_MAX, "too much is held");
        }
    }
    read
}

fn turns(mut data: &[u8]) -> Vec<(Direction, &[u8])> {
    let mut turns = Vec::new();
    while let [who, high, low, rest @ ..] = data {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(rest.len());
        let (bytes, more) = rest.split_at(length);
        let direction = match who & 1 {
            0 => Direction::Sent,
            _ => Direction::Received,
        };
        turns.push((direction, bytes));
        data = more;
    }
    turns
}

/// Everything but the certificates, which have no text that may be printed.
fn told(spoken: &TlsSpoken) -> String {
    let shown = |shown: &TlsShown| match shown {
        TlsShown::Unknown => 0,
        TlsShown::None => 1,
        TlsShown::Chain(None, count) => 2 + count,
        TlsShown::Chain(Some(_), count) => 100 + count,
    };
    format!(
        "{:?} {:?} {:?} {} {} {:?}",
        spoken.version(),
        spoken
            .client_hello
            .as_ref()
            .map(|hello| (&hello.server_name, &hello.protocols, hello.encrypted)),
        spoken
            .server_hello
            .as_ref()
            .map(|hello| (hello.cipher, &hello.protocol)),
        shown(&spoken.server_certificates),
        shown(&spoken.client_certificates),
        (
            spoken.asked,
            spoken.flight_whole,
            spoken.proven,
            spoken.malformed,
            spoken.resumed()
        ),
    )
}

/// One input: the size of pieces, and turns.
pub fn run(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else {
        return;
    };
    let turns = turns(data);
    let whole = told(hear(&turns, usize::MAX).spoken());
    for piece in [1, usize::from(*piece).max(1)] {
        assert_eq!(whole, told(hear(&turns, piece).spoken()), "in pieces of {piece}");
    }
}
