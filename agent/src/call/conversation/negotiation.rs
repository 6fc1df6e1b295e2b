//! What a client and a SOCKS proxy say before the connection is the client's own.
//!
//! The client's words are held back until the proxy has granted what they ask for: whoever answers otherwise was asked
//! something else, and may have found a request in them.

use bytes::Buf;

use super::{Context, Conversation, SNIFF_BYTES_MAX, Side, Strange, opposite};
use crate::capture::{Direction, FlowInfo, SocketRole};
use crate::decode::Negotiation;
use crate::flow::{Piece, What};

/// How far they are.
#[derive(Default)]
pub(super) enum Negotiating {
    #[default]
    No,
    /// All that the client has said, which is a negotiation, or a part of one, and perhaps more.
    Perhaps(Box<Piece>),
    /// The proxy has granted it: what follows, each way, is the connection's.
    Granted,
    /// More than can be kept has come before an answer: it is read as anything else.
    GivenUp,
}

/// Where a client's requests go.
fn asking(flow: &FlowInfo) -> Option<Direction> {
    match flow.role {
        SocketRole::Client => Some(Direction::Sent),
        SocketRole::Server => Some(Direction::Received),
        SocketRole::Unknown => None,
    }
}

impl Negotiating {
    /// There may be one yet, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Negotiating::No | Negotiating::Perhaps(_))
    }

    /// Whether `piece`, all that has come of its direction, has to wait for the other side's answer.
    pub(super) fn waits(&mut self, flow: &FlowInfo, piece: &Piece) -> bool {
        let What::Chunk(bytes) = &piece.what else {
            return false;
        };
        let is_asking = Some(piece.direction) == asking(flow);
        if flow.joined_late || !is_asking || matches!(self, Negotiating::Granted | Negotiating::GivenUp) {
            return false;
        }
        *self = match Negotiation::of_client(bytes) {
            Negotiation::None => Negotiating::No,
            _ if bytes.len() > SNIFF_BYTES_MAX => Negotiating::GivenUp,
            _ if bytes.is_empty() => Negotiating::No,
            _ => Negotiating::Perhaps(Box::new(piece.clone())),
        };
        matches!(self, Negotiating::Perhaps(_))
    }
}

impl Conversation {
    /// Takes in what the other side answers to a negotiation. `None`: it is part of it.
    pub(super) fn negotiate(&mut self, mut answer: Piece, cx: &mut Context<'_>) -> Option<Piece> {
        let (Negotiating::Perhaps(_), Some(asking)) = (&self.negotiating, asking(&self.flow)) else {
            return Some(answer);
        };
        if answer.direction == asking {
            return Some(answer);
        }
        let Negotiating::Perhaps(mut said) = std::mem::take(&mut self.negotiating) else {
            return Some(answer);
        };
        let (What::Chunk(bytes), What::Chunk(asked)) = (&mut answer.what, &mut said.what) else {
            self.is_none(*said);
            return Some(answer);
        };
        let lane = self.lane_mut(opposite(asking));
        let mut whole = match &mut lane.side {
            Side::Undecided { buffer, late: false } => std::mem::take(buffer),
            _ => Vec::new(),
        };
        whole.extend_from_slice(bytes);
        match (Negotiation::of_server(&whole), Negotiation::of_client(asked)) {
            (Negotiation::More, _) => {
                if let Side::Undecided { buffer, .. } = &mut lane.side {
                    *buffer = whole;
                }
                self.negotiating = Negotiating::Perhaps(said);
                None
            }
            (Negotiation::Over(answered), Negotiation::Over(negotiated)) => {
                self.negotiating = Negotiating::Granted;
                let before = whole.len() - bytes.len();
                bytes.advance(answered.saturating_sub(before));
                answer.position += answered.saturating_sub(before) as u64;
                asked.advance(negotiated);
                said.position += negotiated as u64;
                let is_more = !asked.is_empty();
                if let Side::Undecided { buffer, .. } = &mut self.lane_mut(asking).side {
                    *buffer = Vec::new();
                }
                if is_more {
                    self.undecided_piece(*said, cx);
                }
                let is_over = matches!(&answer.what, What::Chunk(rest) if rest.is_empty());
                (!is_over).then_some(answer)
            }
            _ => {
                if let Side::Undecided { buffer, .. } = &mut lane.side {
                    // What was kept of it comes before this.
                    whole.truncate(whole.len() - bytes.len());
                    *buffer = whole;
                }
                self.is_none(*said);
                Some(answer)
            }
        }
    }

    /// The connection ends before there is an answer.
    pub(super) fn end_negotiation(&mut self) {
        if let Negotiating::Perhaps(said) = std::mem::take(&mut self.negotiating) {
            self.is_none(*said);
        }
    }

    /// What the client has said is no negotiation: it began strangely, and may hide a request.
    fn is_none(&mut self, said: Piece) {
        let lane = self.lane_mut(said.direction);
        if let Side::Undecided { late: false, .. } = lane.side {
            lane.side = Side::Strange(Strange::new(said));
        }
    }
}
