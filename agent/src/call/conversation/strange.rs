//! A conversation that begins like nothing known. Some servers pass lines over that are no requests, and answer the one behind
//! them: what the other side says tells whether it is HTTP after all.

use bytes::{Bytes, BytesMut};

use super::{Context, Conversation, Side, UnreadWhy, length_of, opposite};
use crate::capture::Direction;
use crate::decode::{Decoder, Role, Sniffed};
use crate::flow::{Piece, What};

/// Bytes that are looked through for a request before the other side has said anything.
const LOOKED_THROUGH_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a line that has not ended, and of a request that waits for its answer, that are kept.
const LINE_BYTES_MAX: usize = 2 * 1024;
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// What has come of the side that spoke first.
pub(super) struct Strange {
    /// From the last line on that has begun, or from the request on.
    kept: Piece,
    looked_through: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// What is kept begins with a line.
    Looking,
    /// It begins within one.
    WithinLine,
    /// It begins with a request.
    Found,
    /// Too much has come, or bytes are missing: nothing is kept.
    GivenUp,
}

impl Strange {
    pub(super) fn new(kept: Piece) -> Box<Strange> {
        let mut strange = Box::new(Strange {
            looked_through: length_of(&kept),
            kept,
            state: State::Looking,
        });
        strange.look();
        strange
    }

    /// Takes more of the same side.
    fn take(&mut self, piece: Piece) {
        let What::Chunk(more) = &piece.what else {
            return self.give_up();
        };
        self.looked_through += more.len();
        if self.state == State::GivenUp {
            return;
        }
        let mut kept = BytesMut::from(self.bytes());
        kept.extend_from_slice(more);
        self.kept = Piece {
            position: (piece.position + more.len() as u64).saturating_sub(kept.len() as u64),
            what: What::Chunk(kept.freeze()),
            ..piece
        };
        if self.state != State::Found {
            self.look();
        }
    }

    /// A request so long that it is read before there is an answer.
    fn is_full(&self) -> bool {
        self.state == State::Found && self.bytes().len() > REQUEST_BYTES_MAX
    }

    fn bytes(&self) -> &[u8] {
        match &self.kept.what {
            What::Chunk(bytes) => bytes,
            What::Gap { .. } => &[],
        }
    }

    /// Looks for a line that begins a request, and forgets what is before it, or before the last line.
    fn look(&mut self) {
        let bytes = self.bytes();
        let first = (self.state == State::Looking).then_some(0);
        // The very first line may be a request that began strangely, and whose end has come by now.
        let is_first = |at: usize| at == 0 && bytes.len() == self.looked_through;
        let found = first
            .into_iter()
            .chain(memchr::memchr_iter(b'\n', bytes).map(|end| end + 1))
            .find(|at| {
                let rest = &bytes[*at..];
                Role::Requests.begins(rest) || (is_first(*at) && Sniffed::of(rest) == Sniffed::Requests)
            });
        let last = memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let (from, state) = match found {
            Some(at) => (at, State::Found),
            None if self.looked_through > LOOKED_THROUGH_BYTES_MAX => return self.give_up(),
            None if bytes.len() - last > LINE_BYTES_MAX => (bytes.len(), State::WithinLine),
            None if last == 0 => (0, self.state),
            None => (last, State::Looking),
        };
        let kept = Bytes::copy_from_slice(&bytes[from..]);
        self.kept.position += from as u64;
        self.kept.what = What::Chunk(kept);
        self.state = state;
    }

    fn give_up(&mut self) {
        self.kept.what = What::Chunk(Bytes::new());
        self.state = State::GivenUp;
    }
}

impl Conversation {
    pub(super) fn is_strange(&self, direction: Direction) -> bool {
        let lane = match direction {
            Direction::Received => &self.received,
            Direction::Sent => &self.sent,
        };
        matches!(lane.side, Side::Strange(_))
    }

    /// More of the side that began strangely.
    pub(super) fn strange_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        let direction = piece.direction;
        if matches!(piece.what, What::Gap { .. }) {
            // Whoever reads the request accounts for what is missing of it.
            self.read_strange(direction, cx);
        }
        match &mut self.lane_mut(direction).side {
            Side::Strange(strange) => strange.take(piece),
            _ => return self.request_piece(piece, cx),
        }
        self.read_full(direction, cx);
    }

    /// Reads what is too much to be kept until there is an answer.
    pub(super) fn read_full(&mut self, direction: Direction, cx: &mut Context<'_>) {
        if matches!(&self.lane_mut(direction).side, Side::Strange(strange) if strange.is_full()) {
            self.read_strange(direction, cx);
        }
    }

    /// Reads the request that was found, if there is one.
    pub(super) fn read_strange(&mut self, direction: Direction, cx: &mut Context<'_>) {
        let lane = self.lane_mut(direction);
        if !matches!(&lane.side, Side::Strange(strange) if strange.state == State::Found) {
            return;
        }
        let decoder = Side::Http(Decoder::behind_garbage());
        if let Side::Strange(strange) = std::mem::replace(&mut lane.side, decoder) {
            self.requests = Some(direction);
            self.request_piece(strange.kept, cx);
        }
    }

    /// The other side answers in HTTP: what came before is a request, or hides one.
    pub(super) fn answers_something_strange(&mut self, answer: Piece, cx: &mut Context<'_>) {
        let requests = opposite(answer.direction);
        self.read_strange(requests, cx);
        let lane = self.lane_mut(requests);
        if let Side::Strange(strange) = &lane.side {
            let process = strange.kept.process.clone();
            lane.side = Side::Http(Decoder::new(Role::Requests, false));
            self.requests = Some(requests);
            self.requests_are_lost(cx);
            self.tell_unread(&process, UnreadWhy::Gap, cx);
        }
        self.response_piece(answer, cx);
    }

    /// The conversation ends before the other side has said anything.
    pub(super) fn end_strange(&mut self, cx: &mut Context<'_>) {
        self.end_negotiation();
        for direction in [Direction::Received, Direction::Sent] {
            self.read_strange(direction, cx);
            if self.is_strange(direction) {
                self.leave(cx);
            }
        }
    }

    /// It is another protocol.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        for lane in [&self.received, &self.sent] {
            if let Side::Strange(strange) = &lane.side {
                cx.stats.bytes_skipped += strange.looked_through as u64;
            }
        }
        cx.stats.flows_other += 1;
        self.abandon();
    }
}
