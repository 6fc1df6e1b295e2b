//! What a client and a SOCKS proxy say before the connection is the client's own.

use bytes::Buf;

use super::{Conversation, Side, Strange, opposite};
use crate::capture::{Direction, FlowInfo, SocketRole};
use crate::decode::Negotiation;
use crate::flow::{Piece, What};

/// How far they are.
#[derive(Default)]
pub(super) enum Negotiating {
    #[default]
    No,
    /// The client has said this, which may be one, or a part of it.
    Perhaps(Box<Piece>),
    /// The client has said what it wants.
    Asked,
}

/// What to do with a piece at a direction's beginning.
pub(super) enum Next {
    /// Whatever it has left is the connection's.
    Read,
    Wait,
}

impl Negotiating {
    /// Passes over it at the beginning of `piece`, which has all that has come of its direction. `is_over`: there, it is.
    pub(super) fn pass(&mut self, flow: &FlowInfo, is_over: &mut bool, piece: &mut Piece) -> Next {
        let What::Chunk(bytes) = &mut piece.what else {
            return Next::Read;
        };
        if *is_over || flow.joined_late || bytes.is_empty() {
            return Next::Read;
        }
        let is_client = Some(piece.direction) == asking(flow);
        let negotiation = match (&self, is_client) {
            (_, true) => Negotiation::of_client(bytes),
            (Negotiating::No, false) => Negotiation::None,
            (_, false) => Negotiation::of_server(bytes),
        };
        match negotiation {
            Negotiation::None => return Next::Read,
            Negotiation::More => {
                if is_client {
                    *self = Negotiating::Perhaps(Box::new(piece.clone()));
                }
                return Next::Wait;
            }
            Negotiation::Over(negotiation_bytes) => {
                bytes.advance(negotiation_bytes);
                piece.position += negotiation_bytes as u64;
            }
        }
        if is_client {
            *self = Negotiating::Asked;
        }
        *is_over = true;
        Next::Read
    }
}

/// Where a client's requests go.
fn asking(flow: &FlowInfo) -> Option<Direction> {
    match flow.role {
        SocketRole::Client => Some(Direction::Sent),
        SocketRole::Server => Some(Direction::Received),
        SocketRole::Unknown => None,
    }
}

impl Conversation {
    /// What the other side says, or that it says nothing, shows that there is no negotiation: what the client has said began
    /// strangely, and may hide a request.
    pub(super) fn answered_by_none(&mut self, answer: Option<&Piece>) {
        let Negotiating::Perhaps(_) = self.negotiating else {
            return;
        };
        let answers = |asking: &Direction| answer.is_none_or(|answer| answer.direction != *asking);
        let Some(asking) = asking(&self.flow).filter(answers) else {
            return;
        };
        if let Some(What::Chunk(bytes)) = answer.map(|answer| &answer.what)
            && let Side::Undecided { buffer, .. } = &self.lane_mut(opposite(asking)).side
            && Negotiation::of_server(&[buffer, &bytes[..]].concat()) != Negotiation::None
        {
            return;
        }
        let Negotiating::Perhaps(said) = std::mem::take(&mut self.negotiating) else {
            return;
        };
        let lane = self.lane_mut(asking);
        if let Side::Undecided { late: false, .. } = lane.side {
            lane.side = Side::Strange(Strange::new(*said));
        }
    }
}
