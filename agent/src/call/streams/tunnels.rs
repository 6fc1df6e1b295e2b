//! Streams that have become WebSocket (RFC 8441): their data are its frames, and each message is a call of the endpoint.
//!
//! It must not know frames of either protocol: that is for `decode`.

use super::table::Table;
use crate::call::conversation::{Context, Ended};
use crate::call::messages::Messages;
use crate::call::open::Open;
use crate::call::{ApiCall, CallDirection, CallState};
use crate::capture::{Direction, GapReason, KernelTime};
use crate::decode::{Event, Role, Told};
use crate::flow::{Piece, What};

/// A stream of WebSocket. Its directions end one by one.
pub(super) struct Tunnel {
    pub messages: Messages,
    requests_ended: bool,
    responses_ended: bool,
}

impl Table {
    /// The answer to `stream` agrees to WebSocket.
    pub(super) fn tunnel(&mut self, stream: u32, at: KernelTime, cx: &mut Context<'_>) {
        let Some(mut open) = self.open.remove(&stream) else {
            return;
        };
        let requests_ended = open.request_done;
        if !requests_ended {
            open.end_request(at, false, cx);
        }
        let requests = match open.call.direction {
            CallDirection::Inbound => Direction::Received,
            CallDirection::Outbound => Direction::Sent,
        };
        let messages = Messages::new(&open.call, requests, &open.call.raw.response_headers);
        open.report(CallState::Switched, cx);
        cx.stats.flows_websocket += 1;
        let tunnel = Tunnel {
            messages,
            requests_ended,
            responses_ended: false,
        };
        self.tunnels.insert(stream, tunnel);
    }

    /// What is said on such a stream ends here; what is not is given back.
    pub(super) fn tunnelled(
        &mut self,
        role: Role,
        told: Told,
        piece: &Piece,
        cx: &mut Context<'_>,
    ) -> Option<Told> {
        if matches!(told, Told::OutOfStep) {
            self.tunnels_lost(piece, cx);
        }
        let stream = match &told {
            Told::Head { stream, .. }
            | Told::Of { stream, .. }
            | Told::Trailers { stream, .. }
            | Told::Reset { stream } => *stream,
            _ => return Some(told),
        };
        let Some(tunnel) = self.tunnels.get_mut(&stream) else {
            return Some(told);
        };
        let mut hand = |what| {
            let piece = Piece {
                what,
                ..piece.clone()
            };
            tunnel.messages.piece(piece, cx);
        };
        let how = match told {
            Told::Of { event, .. } => {
                match event {
                    Event::Body(bytes) if !bytes.is_empty() => hand(What::Chunk(bytes)),
                    Event::Missed(bytes) => hand(What::Gap {
                        bytes: Some(bytes),
                        reason: reason(piece),
                    }),
                    Event::End | Event::Broken(_) => match role {
                        Role::Requests => tunnel.requests_ended = true,
                        Role::Responses => tunnel.responses_ended = true,
                    },
                    _ => {}
                }
                (tunnel.requests_ended && tunnel.responses_ended).then_some(Ended::Closed)
            }
            Told::Reset { .. } => Some(Ended::Reset),
            _ => None,
        };
        if let Some(how) = how
            && let Some(mut tunnel) = self.tunnels.remove(&stream)
        {
            tunnel.messages.end(piece.at, how, cx);
            self.closed.push(stream);
        }
        None
    }

    /// Frames were lost, and perhaps theirs.
    pub(super) fn tunnels_lost(&mut self, piece: &Piece, cx: &mut Context<'_>) {
        for tunnel in self.tunnels.values_mut() {
            let what = What::Gap {
                bytes: None,
                reason: reason(piece),
            };
            tunnel.messages.piece(
                Piece {
                    what,
                    ..piece.clone()
                },
                cx,
            );
        }
    }

    pub(super) fn end_tunnels(&mut self, at: KernelTime, how: Ended, cx: &mut Context<'_>) {
        let mut tunnels: Vec<_> = self.tunnels.drain().collect();
        tunnels.sort_unstable_by_key(|(stream, _)| *stream);
        for (_, mut tunnel) in tunnels {
            tunnel.messages.end(at, how, cx);
        }
    }

    pub(super) fn tunnel_calls(&self) -> impl Iterator<Item = &ApiCall> {
        self.tunnels
            .values()
            .flat_map(|tunnel| tunnel.messages.open_calls())
    }
}

fn reason(piece: &Piece) -> GapReason {
    match &piece.what {
        What::Gap { reason, .. } => *reason,
        What::Chunk(_) => GapReason::Limit,
    }
}

impl Open {
    /// A `CONNECT` with a path is an extended one (RFC 8441 §4), and this field tells which.
    pub(super) fn asks_for_websocket(&self) -> bool {
        let raw = &self.call.raw;
        self.call.request.method == "CONNECT"
            && raw.target.first() == Some(&b'/')
            && raw
                .request_headers
                .iter()
                .any(|(name, _)| name.as_ref() == b"sec-websocket-version")
    }
}
