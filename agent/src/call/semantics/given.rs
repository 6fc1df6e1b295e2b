//! Calls for the tests of this folder, made of what a test says of them.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    ApiCall, AuthScheme, BodyFacts, CallDirection, CallId, CallState, Phase, Protocol, Raw, Request, Response,
};
use crate::call::redact::{Earning, Redactor};
use crate::capture::{FlowId, FlowInfo, KernelTime, Process, SocketRole};

/// A call as far as it is given.
pub(super) struct Given {
    pub call: ApiCall,
}

/// `GET /path?query`
pub(super) fn call(line: &str) -> Given {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let call = ApiCall {
        id: CallId(1),
        direction: CallDirection::Inbound,
        protocol: Protocol::Http1,
        process: Arc::new(Process {
            pid: 1,
            tid: 1,
            uid: 0,
            comm: "app".into(),
            exe: "/app".into(),
            cgroup_id: 1,
            cgroup_path: "".into(),
            container: None,
        }),
        flow: Arc::new(FlowInfo {
            id: FlowId::Socket(1),
            carrier: Some(1),
            local: None,
            remote: None,
            role: SocketRole::Server,
            netns: 0,
            tls: None,
            joined_late: false,
            starts: None,
            enforceable: true,
        }),
        request: Request {
            method: method.into(),
            path: path.into(),
            host: String::new(),
            auth: AuthScheme::None,
            credentials: None,
            trace_id: None,
            body: BodyFacts::default(),
            query_parameters: 0,
            head_bytes: 0,
            head_at: KernelTime(1),
            ended_at: KernelTime(1),
        },
        response: None,
        state: CallState::Pending,
        anomalies: Vec::new(),
        operation: None,
        data: Vec::new(),
        tls: None,
        third_party: None,
        ambiguous: false,
        loss_overlap: false,
        response_position: None,
        head_end: None,
        stopped: None,
        raw: Raw {
            method: Bytes::copy_from_slice(method.as_bytes()),
            target: Bytes::copy_from_slice(target.as_bytes()),
            path: Some(path.to_owned()),
            query: Bytes::copy_from_slice(query.as_bytes()),
            ..Raw::default()
        },
    };
    Given { call }
}

impl Given {
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = Bytes::copy_from_slice(value.as_bytes());
        if name == "content-type" {
            self.call.request.body.media_type = crate::call::redact::media_type(Some(&value));
        }
        Arc::make_mut(&mut self.call.raw.request_headers).push((Bytes::from_static(name.as_bytes()), value));
        self
    }

    pub(super) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.call.raw.request_body = Bytes::copy_from_slice(body.as_ref());
        self
    }

    pub(super) fn answer(mut self, status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        self.call.response = Some(Response {
            status,
            body: BodyFacts::default(),
            head_at: KernelTime(2),
            first_byte_at: KernelTime(2),
            last_byte_at: KernelTime(2),
        });
        Arc::make_mut(&mut self.call.raw.response_headers).push((
            Bytes::from_static(b"content-type"),
            Bytes::copy_from_slice(content_type.as_bytes()),
        ));
        self.call.raw.response_body = Bytes::copy_from_slice(body.as_ref());
        self
    }

    /// The operation at this phase: name, resource, entries and what else is told.
    pub(super) fn at(&mut self, phase: Phase) -> String {
        let mut redactor = Redactor::new([1; 32], Earning::default());
        super::tell(phase, &mut self.call, &mut redactor);
        let Some(operation) = &self.call.operation else {
            return String::new();
        };
        let mut text = format!("{} {}", operation.name, operation.resource);
        if operation.subject.is_some() {
            text.push_str(" +subject");
        }
        if operation.entries > 0 {
            text.push_str(&format!(" {}", operation.entries));
        }
        for (name, value) in &operation.details {
            text.push_str(&format!(" {name}={value}"));
        }
        text
    }
}
