//! What a TLS handshake said → its message of the contract.
//!
//! Facts alone: the names as they are stay in [`TlsNames`](crate::call::TlsNames), which is never read here.

use apiward_proto::v1;

use crate::call::{CallTls, Certificate, Sight};

pub(super) fn handshake(told: &CallTls) -> v1::TlsHandshake {
    let facts = &*told.facts;
    let mut server = certificate(facts.certificate_sight, facts.certificate.as_ref());
    server.expired = told.certificate_expired;
    v1::TlsHandshake {
        version: facts.version.to_owned(),
        cipher: facts.cipher.to_string(),
        server_name: told.server_name.to_string(),
        encrypted_hello: facts.encrypted_hello,
        alpn: facts.alpn.to_string(),
        alpn_offered: facts.alpn_offered.iter().map(ToString::to_string).collect(),
        resumed: facts.resumed,
        certificate: Some(server),
        client_certificate: Some(certificate(
            facts.client_certificate_sight,
            facts.client_certificate.as_ref(),
        )),
        names_disagree: told.names_disagree,
    }
}

fn certificate(sight: Sight, read: Option<&Certificate>) -> v1::Certificate {
    let mut told = v1::Certificate {
        known: sight.as_str().to_owned(),
        ..v1::Certificate::default()
    };
    let Some(read) = read else { return told };
    // What began before 1970 is told as not said.
    let seconds = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    told.subject = read.subject.to_string();
    told.names = read.names.iter().map(ToString::to_string).collect();
    told.issuer = read.issuer.to_string();
    told.not_before_s = seconds(read.not_before_s);
    told.not_after_s = seconds(read.not_after_s);
    told.self_signed = read.self_signed;
    told.key = read.key.to_string();
    told.chain = read.chain;
    told.serial = read.serial.to_string();
    told
}
