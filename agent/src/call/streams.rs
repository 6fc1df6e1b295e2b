//! One flow that carries HTTP/2: its two directions decoded, and paired by stream.
//!
//! A stream has one request and one answer, so nothing is guessed from order. Records of the two directions may come in
//! either order, so what is said on a stream whose request has not been seen waits for it, bounded. After a loss calls
//! go on where their streams do, and say that they overlap it.

mod table;
mod tunnels;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use self::table::Table;
use super::ApiCall;
use super::conversation::{Context, Ended, opposite};
use super::open::Open;
use super::options::UnreadWhy;
use crate::capture::{Direction, FlowInfo, KernelTime};
use crate::decode::{GapEffect, Http2Decoder as Decoder, Role, Told};
use crate::flow::{Piece, What};

/// A conversation in HTTP/2.
pub(super) struct Streams {
    /// The direction that carries the requests.
    requests: Direction,
    request_decoder: Decoder,
    response_decoder: Decoder,
    table: Table,
    /// Bytes of the decoders in the shared budget.
    held_bytes: usize,
}

impl Streams {
    /// Of a connection whose beginning was seen.
    pub(super) fn new(flow: Arc<FlowInfo>, requests: Direction, proxied_client: Option<SocketAddr>) -> Self {
        Streams {
            requests,
            request_decoder: Decoder::new(Role::Requests),
            response_decoder: Decoder::new(Role::Responses),
            table: Table::new(flow, proxied_client, false),
            held_bytes: 0,
        }
    }

    /// Of a connection that was joined in the middle.
    pub(super) fn late(flow: Arc<FlowInfo>, requests: Direction) -> Self {
        Streams {
            request_decoder: Decoder::late(Role::Requests, true),
            response_decoder: Decoder::late(Role::Responses, true),
            table: Table::new(flow.clone(), None, true),
            ..Streams::new(flow, requests, None)
        }
    }

    /// What came before it was known what it is, too little to tell.
    pub(super) fn began_with(&mut self, direction: Direction, bytes: &[u8]) {
        self.decoder(direction).0.began_with(bytes);
    }

    /// A request of HTTP/1 was upgraded (`h2c`, RFC 7540 §3.2): it is stream 1, and its answer comes here.
    pub(super) fn upgraded(&mut self, open: Box<Open>) {
        self.request_decoder.upgraded();
        self.table.upgraded(open);
    }

    pub(super) fn open_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.table.open_calls()
    }

    pub(super) fn info(&mut self, flow: Arc<FlowInfo>) {
        self.table.info(flow);
    }

    pub(super) fn piece(&mut self, piece: Piece, cx: &mut Context<'_>) {
        if !Arc::ptr_eq(&piece.flow, &self.table.flow) {
            self.info(piece.flow.clone());
        }
        self.table.expire(piece.at, cx);
        let limits = cx.limits.decode;
        let role = if piece.direction == self.requests {
            Role::Requests
        } else {
            Role::Responses
        };
        let (requests, responses) = (&mut self.request_decoder, &mut self.response_decoder);
        let (decoder, other) = match role {
            Role::Requests => (requests, responses),
            Role::Responses => (responses, requests),
        };
        decoder.has_taken(other.sent());
        let table = &mut self.table;
        match &piece.what {
            What::Chunk(bytes) => {
                decoder.take(bytes.clone(), piece.position, &limits, &mut |told| match told {
                    Told::Settings { frame_bytes_max } => other.may_send(frame_bytes_max),
                    told => table.told(role, told, &piece, cx),
                });
            }
            What::Gap { bytes, reason } => {
                let effect = decoder.gap(*bytes, &mut |told| table.told(role, told, &piece, cx));
                if effect == GapEffect::OutOfStep {
                    table.lost(role, cx);
                    table.tunnels_lost(&piece, cx);
                    if role == Role::Requests {
                        table.tell_unread(&piece.process, UnreadWhy::Gap, cx);
                    }
                } else if reason.is_loss() {
                    table.overlaps_loss(role);
                }
            }
        }
        self.after(&piece, cx);
    }

    pub(super) fn tick(&mut self, at: KernelTime, cx: &mut Context<'_>) {
        self.table.expire(at, cx);
        self.table.tick(at, cx);
        self.forget_closed();
    }

    pub(super) fn end(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        self.table.end(at, how, cx);
        *cx.decoders_bytes = cx.decoders_bytes.saturating_sub(self.held_bytes);
        self.held_bytes = 0;
    }

    fn decoder(&mut self, direction: Direction) -> (&mut Decoder, Role) {
        match direction == self.requests {
            true => (&mut self.request_decoder, Role::Requests),
            false => (&mut self.response_decoder, Role::Responses),
        }
    }

    fn forget_closed(&mut self) {
        for stream in self.table.closed.drain(..) {
            self.request_decoder.forget(stream);
            self.response_decoder.forget(stream);
        }
    }

    /// What a piece leaves behind: streams that are over, and what the decoders hold, within what all may hold.
    fn after(&mut self, piece: &Piece, cx: &mut Context<'_>) {
        self.forget_closed();
        let held = self.request_decoder.held_bytes() + self.response_decoder.held_bytes();
        *cx.decoders_bytes = cx.decoders_bytes.saturating_sub(self.held_bytes) + held;
        self.held_bytes = held;
        if *cx.decoders_bytes <= cx.limits.decoders_bytes_max || held == 0 {
            return;
        }
        // Nothing is known of its tables from here on; what comes is read like a connection that is joined late.
        cx.stats.decoders_given_up += 1;
        self.request_decoder.lose_step();
        self.response_decoder.lose_step();
        *cx.decoders_bytes = cx.decoders_bytes.saturating_sub(held);
        self.held_bytes = 0;
        for role in [Role::Requests, Role::Responses] {
            self.table.lost(role, cx);
            self.table.tunnels_lost(piece, cx);
        }
        self.table.tell_unread(&piece.process, UnreadWhy::Gap, cx);
    }

    /// Requests that came before the answer that made it HTTP/2, and what of that answer's chunk is left.
    pub(super) fn pieces(&mut self, pieces: impl IntoIterator<Item = Piece>, cx: &mut Context<'_>) {
        for piece in pieces {
            self.piece(piece, cx);
        }
    }
}

/// Whether these bytes of a connection that was joined late are HTTP/2, and the direction of its requests if so.
pub(super) fn joined(
    bytes: &Bytes,
    direction: Direction,
    flow: &FlowInfo,
    cx: &Context<'_>,
) -> Option<Direction> {
    use crate::capture::SocketRole;
    let role = Decoder::joins(bytes, &cx.limits.decode)?;
    Some(match (role, flow.role) {
        (Some(Role::Requests), _) => direction,
        (Some(Role::Responses), _) => opposite(direction),
        (None, SocketRole::Server) => Direction::Received,
        (None, SocketRole::Client) => Direction::Sent,
        (None, SocketRole::Unknown) => return None,
    })
}
