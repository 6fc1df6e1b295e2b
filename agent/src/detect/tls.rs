//! The transport that a call came by: old versions, certificates that are over or vouch for themselves, names that do not
//! belong together, handshakes that no honest side makes.
//!
//! A certificate's time is held against the call's, so `mark` is given the wall clock. It verifies nothing: whether the
//! peers accepted each other is theirs to say, and they did, or there would be no call.
//!
//! Sources: RFC 8996 (TLS 1.0 and 1.1 are deprecated), RFC 7568 (SSL 3.0), RFC 5280 §4.1.2.5 (validity), RFC 6066 §3
//! (server name), 45 CFR 164.312(e)(1) (transmission security).

use std::net::IpAddr;

use smol_str::SmolStr;

use super::{Finding, Severity};
use crate::call::ApiCall;

pub(super) const TLS_VERSION_OLD: &str = "tls-version-old";
pub(super) const TLS_CIPHER_WEAK: &str = "tls-cipher-weak";
pub(super) const CERTIFICATE_EXPIRED: &str = "certificate-expired";
pub(super) const CERTIFICATE_SELF_SIGNED: &str = "certificate-self-signed";
pub(super) const HANDSHAKE_INVALID: &str = "tls-handshake-invalid";

/// Parts of names of cipher suites that protect nothing any more, or nobody (RFC 9325 §4.1, §4.2).
const WEAK: &[&str] = &[
    "NULL", "EXPORT", "RC4", "DES", "DES40", "3DES", "anon", "RC2", "MD5",
];

fn is_weak(cipher: &str) -> bool {
    cipher
        .split('_')
        .any(|part| WEAK.contains(&part) || part.starts_with("EXPORT"))
}

/// Says what only holds at the time of the call. `at_ns`: wall clock.
pub(super) fn mark(call: &mut ApiCall, at_ns: u64) {
    let Some(tls) = &mut call.tls else { return };
    let now_s = i64::try_from(at_ns / 1_000_000_000).unwrap_or(i64::MAX);
    tls.certificate_expired = tls
        .facts
        .certificate
        .as_ref()
        .is_some_and(|certificate| now_s > certificate.not_after_s || now_s < certificate.not_before_s);
    let named = call
        .raw
        .tls
        .as_deref()
        .map_or("", |names| names.server_name.as_str());
    tls.names_disagree = disagree(named, &call.raw.host);
}

/// Names of different owners. One under one registrable domain may be a front end of the other, an address names nobody.
fn disagree(server_name: &str, host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let name = |host: &str| !host.is_empty() && host.parse::<IpAddr>().is_err();
    let host = host.strip_suffix('.').unwrap_or(host);
    name(server_name)
        && name(bare)
        && server_name != host
        && super::vendors::registrable(server_name) != super::vendors::registrable(host)
}

pub(super) fn detect(call: &ApiCall, findings: &mut Vec<Finding>) {
    let Some(tls) = &call.tls else { return };
    let facts = &*tls.facts;
    let mut find = |kind: &'static str, severity, message: String| {
        findings.push(Finding {
            kind: SmolStr::new_static(kind),
            severity,
            message,
        });
    };
    if matches!(facts.version, "ssl3" | "1.0" | "1.1") {
        find(
            TLS_VERSION_OLD,
            Severity::Medium,
            format!(
                "the connection is protected by TLS of version {}, which is deprecated",
                facts.version
            ),
        );
    }
    if is_weak(&facts.cipher) {
        find(
            TLS_CIPHER_WEAK,
            Severity::Medium,
            format!("the connection's cipher suite protects little: {}", facts.cipher),
        );
    }
    if tls.certificate_expired {
        find(
            CERTIFICATE_EXPIRED,
            Severity::Medium,
            "the server's certificate was not valid at the time of the call, and the client went on"
                .to_owned(),
        );
    }
    if facts
        .certificate
        .as_ref()
        .is_some_and(|certificate| certificate.self_signed)
    {
        find(
            CERTIFICATE_SELF_SIGNED,
            Severity::Low,
            "the server's certificate has signed itself: nobody else vouches for it".to_owned(),
        );
    }
    if facts.malformed {
        find(
            HANDSHAKE_INVALID,
            Severity::Medium,
            "the connection's TLS handshake says what no side may say".to_owned(),
        );
    }
}

/// A call's share in a handshake with this name, for tests.
#[cfg(test)]
pub(super) fn sample(server_name: &str, raw: &mut crate::call::Raw) -> crate::call::CallTls {
    raw.tls = Some(std::sync::Arc::new(crate::call::TlsNames {
        server_name: server_name.into(),
        ..Default::default()
    }));
    crate::call::CallTls {
        facts: std::sync::Arc::default(),
        server_name: SmolStr::new(server_name),
        certificate_expired: false,
        names_disagree: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Certificate, Sight, Tls};

    #[test]
    fn names_of_different_owners_disagree() {
        for (server_name, host, is) in [
            ("api.vendor.example", "api.vendor.example", false),
            ("api.vendor.example", "other.vendor.example", false),
            ("api.vendor.example", "vendor.test", true),
            ("a.vendor.co.uk", "b.other.co.uk", true),
            ("", "vendor.test", false),
            ("api.vendor.example", "", false),
            ("api.vendor.example", "192.0.2.1", false),
            ("api.vendor.example", "[2001:db8::1]", false),
            ("api.vendor.example", "api.vendor.example.", false),
            ("localhost", "localhost", false),
        ] {
            assert_eq!(disagree(server_name, host), is, "{server_name} {host}");
        }
    }

    #[test]
    fn what_is_found_in_a_handshake() {
        let certificate = |from, to, self_signed| Certificate {
            not_before_s: from,
            not_after_s: to,
            self_signed,
            ..Certificate::default()
        };
        for (version, cipher, shown, malformed, kinds) in [
            ("1.3", "TLS_AES_128_GCM_SHA256", None, false, &[][..]),
            (
                "1.1",
                "TLS_RSA_WITH_AES_128_CBC_SHA",
                None,
                false,
                &[TLS_VERSION_OLD],
            ),
            (
                "1.2",
                "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
                None,
                false,
                &[TLS_CIPHER_WEAK],
            ),
            ("1.2", "", Some(certificate(50, 150, false)), false, &[]),
            (
                "1.2",
                "",
                Some(certificate(50, 99, false)),
                false,
                &[CERTIFICATE_EXPIRED],
            ),
            (
                "1.2",
                "",
                Some(certificate(101, 150, false)),
                false,
                &[CERTIFICATE_EXPIRED],
            ),
            (
                "1.2",
                "",
                Some(certificate(50, 150, true)),
                false,
                &[CERTIFICATE_SELF_SIGNED],
            ),
            ("1.2", "", None, true, &[HANDSHAKE_INVALID]),
        ] {
            let mut call = super::super::inventory::sample_call();
            let mut tls = sample("example.org", &mut call.raw);
            tls.facts = std::sync::Arc::new(Tls {
                version,
                cipher: cipher.into(),
                certificate_sight: Sight::Shown,
                certificate: shown,
                malformed,
                ..Tls::default()
            });
            call.tls = Some(tls);
            mark(&mut call, 100 * 1_000_000_000);
            let mut findings = Vec::new();
            detect(&call, &mut findings);
            let found: Vec<&str> = findings.iter().map(|finding| finding.kind.as_str()).collect();
            assert_eq!(found, kinds, "{version} {cipher}");
        }
    }
}
