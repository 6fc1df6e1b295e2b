//! Credentials that protect less than they seem to: unsigned and expired tokens, secrets in the target.
//!
//! Sources: RFC 8725 §3.1 and §3.2 (JWT best current practices), RFC 6750 §5.3 (no bearer tokens in page URLs). Whether a
//! token has expired is held against the answer's own Date, so that no clock is asked; it must not verify a signature.

use smol_str::SmolStr;

use super::{Finding, Severity};
use crate::call::ApiCall;

pub(super) const JWT_ALG_NONE: &str = "jwt-alg-none";
pub(super) const JWT_EXPIRED: &str = "jwt-expired";
pub(super) const CREDENTIALS_IN_URL: &str = "credentials-in-url";

/// Clocks may differ so far.
const SKEW_S: i64 = 60;

pub(super) fn detect(call: &ApiCall, findings: &mut Vec<Finding>) {
    let Some(credentials) = &call.request.credentials else {
        return;
    };
    let mut find = |kind: &'static str, severity, message: &str| {
        findings.push(Finding {
            kind: SmolStr::new_static(kind),
            severity,
            message: message.to_owned(),
        });
    };
    if let Some(jwt) = &credentials.jwt {
        if jwt.alg == "none" {
            find(
                JWT_ALG_NONE,
                Severity::High,
                "the token says that it is not signed, so anybody can have made it",
            );
        }
        let accepted = call
            .response
            .as_ref()
            .is_some_and(|response| (200..300).contains(&response.status));
        let late = jwt
            .expires
            .zip(answered_at(call))
            .is_some_and(|(expires, now)| now.saturating_sub(expires) > SKEW_S);
        if accepted && late {
            find(
                JWT_EXPIRED,
                Severity::Medium,
                "a token was accepted after its end",
            );
        }
    }
    if credentials.in_url {
        find(
            CREDENTIALS_IN_URL,
            Severity::Medium,
            "a key, token or password stands in the target, where logs and proxies keep it",
        );
    }
}

/// The Date of the answer, in seconds since 1970.
fn answered_at(call: &ApiCall) -> Option<i64> {
    let (_, date) = call
        .raw
        .response_headers
        .iter()
        .find(|(name, _)| name.as_ref() == b"date")?;
    let date = std::str::from_utf8(date).ok()?;
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_of_http_are_read() {
        let date = jiff::fmt::rfc2822::parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.timestamp().as_second(), 784_111_777);
    }
}
