//! What a TLS handshake said, as JSON.

use serde::Serialize;

use super::{Time, text, time};
use crate::v1;

#[derive(Serialize)]
pub(super) struct HandshakeJson<'a> {
    version: Option<&'a str>,
    cipher: Option<&'a str>,
    server_name: Option<&'a str>,
    encrypted_hello: bool,
    alpn: Option<&'a str>,
    alpn_offered: &'a [String],
    resumed: Option<bool>,
    names_disagree: bool,
    certificate: Option<CertificateJson<'a>>,
    client_certificate: Option<CertificateJson<'a>>,
}

impl<'a> HandshakeJson<'a> {
    pub(super) fn of(handshake: &'a v1::TlsHandshake) -> Self {
        HandshakeJson {
            version: text(&handshake.version),
            cipher: text(&handshake.cipher),
            server_name: text(&handshake.server_name),
            encrypted_hello: handshake.encrypted_hello,
            alpn: text(&handshake.alpn),
            alpn_offered: &handshake.alpn_offered,
            resumed: handshake.resumed,
            names_disagree: handshake.names_disagree,
            certificate: handshake.certificate.as_ref().map(CertificateJson::of),
            client_certificate: handshake.client_certificate.as_ref().map(CertificateJson::of),
        }
    }
}

#[derive(Serialize)]
struct CertificateJson<'a> {
    known: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<FactsJson<'a>>,
}

#[derive(Serialize)]
struct FactsJson<'a> {
    subject: Option<&'a str>,
    names: &'a [String],
    issuer: Option<&'a str>,
    not_before: Option<Time>,
    not_after: Option<Time>,
    expired: bool,
    self_signed: bool,
    key: Option<&'a str>,
    serial: Option<&'a str>,
    chain: u32,
}

impl<'a> CertificateJson<'a> {
    fn of(certificate: &'a v1::Certificate) -> Self {
        let facts = (certificate.chain > 0).then(|| FactsJson {
            subject: text(&certificate.subject),
            names: &certificate.names,
            issuer: text(&certificate.issuer),
            not_before: seconds(certificate.not_before_s),
            not_after: seconds(certificate.not_after_s),
            expired: certificate.expired,
            self_signed: certificate.self_signed,
            key: text(&certificate.key),
            serial: text(&certificate.serial),
            chain: certificate.chain,
        });
        CertificateJson {
            known: &certificate.known,
            facts,
        }
    }
}

/// Beyond the year 2554 it is that year's.
fn seconds(since_1970: u64) -> Option<Time> {
    time(since_1970.saturating_mul(1_000_000_000))
}
