//! A conversation that begins like nothing known. Some servers pass lines over that are no requests, and answer the one behind
//! them: what the other side says tells whether it is HTTP after all.

use bytes::{Bytes, BytesMut};

use super::{Context, Conversation, Side, UnreadWhy, length_of, opposite};
use crate::decode::{Decoder, Role};
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
    /// A request has been found.
    found: bool,
    looked_through: usize,
}

impl Strange {
    pub(super) fn new(kept: Piece) -> Option<Box<Strange>> {
        let mut strange = Box::new(Strange {
            looked_through: length_of(&kept),
            kept,
            found: false,
        });
        strange.look().then_some(strange)
    }

    /// Takes more of the same side. `false`: there is no use in it any more.
    fn take(&mut self, piece: Piece) -> bool {
        let What::Chunk(more) = &piece.what else {
            return false;
        };
        self.looked_through += more.len();
        let room = REQUEST_BYTES_MAX.saturating_sub(length_of(&self.kept));
        if self.found && more.len() > room {
            // Its answer is late, and nobody keeps that much.
            return false;
        }
        let mut kept = BytesMut::from(self.bytes());
        kept.extend_from_slice(more);
        self.kept = Piece {
            position: (piece.position + more.len() as u64).saturating_sub(kept.len() as u64),
            what: What::Chunk(kept.freeze()),
            ..piece
        };
        self.found || self.look()
    }

    fn bytes(&self) -> &[u8] {
        match &self.kept.what {
            What::Chunk(bytes) => bytes,
            What::Gap { .. } => &[],
        }
    }

    /// Looks for a line that begins a request, and forgets what is before it, or before the last line.
    fn look(&mut self) -> bool {
        if self.looked_through > LOOKED_THROUGH_BYTES_MAX {
            return false;
        }
        let bytes = self.bytes();
        let begins = |at: &usize| Role::Requests.begins(&bytes[*at..]);
        let found = memchr::memchr_iter(b'\n', bytes)
            .map(|end| end + 1)
            .chain([0])
            .find(begins);
        let last = memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let from = match found {
            Some(at) => at,
            None if bytes.len() - last > LINE_BYTES_MAX => bytes.len(),
            None => last,
        };
        let kept = Bytes::copy_from_slice(&bytes[from..]);
        self.found = found.is_some();
        self.kept.position += from as u64;
        self.kept.what = What::Chunk(kept);
        true
    }
}

impl Conversation {
    /// More of the side that began strangely.
    pub(super) fn strange_piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if let Side::Strange(strange) = &mut self.lane_mut(piece.direction).side
            && !strange.take(piece)
        {
            self.leave(cx);
        }
    }

    /// The other side answers in HTTP: what came before is a request, or hides one.
    pub(super) fn answers_something_strange(&mut self, answer: Piece, cx: &mut Context<'_>) {
        let requests = opposite(answer.direction);
        let lane = self.lane_mut(requests);
        let Side::Strange(strange) = std::mem::replace(&mut lane.side, Side::Other) else {
            return;
        };
        lane.side = Side::Http(match strange.found {
            true => Decoder::behind_garbage(),
            false => Decoder::new(Role::Requests, false),
        });
        self.requests = Some(requests);
        match strange.found {
            true => self.request_piece(strange.kept, cx),
            false => {
                self.requests_are_lost(cx);
                self.tell_unread(&strange.kept.process, UnreadWhy::Gap, cx);
            }
        }
        self.response_piece(answer, cx);
    }

    pub(super) fn is_strange(&mut self, direction: crate::capture::Direction) -> bool {
        matches!(self.lane_mut(direction).side, Side::Strange(_))
    }

    /// It is another protocol.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        cx.stats.flows_other += 1;
        self.abandon();
    }
}
