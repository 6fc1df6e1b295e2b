//! Bytes of TLS handshakes, which the kernel side ships apart from what applications move.
//!
//! They are the socket's, whoever reads the plaintext, so they never meet the segments of a TLS object. Nothing here looks
//! inside them.

use std::sync::Arc;

use apiward_common::flow::tls as tls_state;
use apiward_common::record::Data;
use bytes::Bytes;

use super::{Captured, Intake, direction};
use crate::capture::{Handshake, KernelTime, Process};

impl Intake {
    /// Hands them on. Of a connection that was forgotten they say nothing that anybody misses.
    pub(super) fn handshake(
        &mut self,
        at: KernelTime,
        data: &Data,
        process: Arc<Process>,
        payload: &[u8],
        out: &mut dyn FnMut(Captured),
    ) {
        let Some(flow) = self.flows.get(&data.flow) else {
            return;
        };
        out(Captured::Handshake(Handshake {
            at,
            flow: flow.info.clone(),
            process,
            direction: direction(data),
            position: data.position as u32,
            bytes: Bytes::copy_from_slice(payload),
            blind: flow.tls == tls_state::UNKNOWN,
        }));
    }
}
