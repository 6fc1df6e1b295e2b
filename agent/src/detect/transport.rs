//! How the call travelled: credentials in clear text, messages shaped like request smuggling.
//!
//! Sources: RFC 7617 §4 (Basic needs a secure channel), RFC 9112 §11.2 (request smuggling).

use smol_str::SmolStr;

use super::{Finding, Severity};
use crate::call::{ApiCall, AuthScheme};

pub(super) const CREDENTIALS_IN_CLEAR: &str = "credentials-in-clear";
pub(super) const SMUGGLING_SHAPE: &str = "smuggling-shape";

pub(super) fn detect(call: &ApiCall, findings: &mut Vec<Finding>) {
    let clear = call.flow.tls.is_none();
    if clear
        && matches!(
            call.request.auth,
            AuthScheme::Basic | AuthScheme::Bearer | AuthScheme::ApiKey
        )
    {
        findings.push(Finding {
            kind: SmolStr::new_static(CREDENTIALS_IN_CLEAR),
            severity: Severity::Medium,
            message: format!("{} credentials were sent without TLS", call.request.auth.as_str()),
        });
    }
    let smuggling: Vec<&str> = call
        .anomalies
        .iter()
        .filter(|anomaly| anomaly.is_framing())
        .map(|anomaly| anomaly.as_str())
        .collect();
    if !smuggling.is_empty() {
        findings.push(Finding {
            kind: SmolStr::new_static(SMUGGLING_SHAPE),
            severity: Severity::High,
            message: format!("the message's framing is ambiguous: {}", smuggling.join(", ")),
        });
    }
}
