//! What an answer of an OpenTelemetry collector means for the records that were sent (OTLP 1.x, "OTLP/gRPC").

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The longest wait that a server can ask for: a wrong clock there must not silence an agent here.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What to do with records whose request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send them again over the same connection, after the wait that the server asked for, if it did.
    Later(Option<Duration>),
    /// The connection is not good any more: send them again over another.
    Reconnect,
    /// They are not wanted, and must not be sent again.
    Refused,
}

/// Reads a failure. What the server said follows the protocol's table; what happened on the way is tried again.
pub fn classify(status: &Status) -> Answer {
    // Only what arose here has a source: the server said nothing, whatever the code.
    if std::error::Error::source(status).is_some() {
        return Answer::Reconnect;
    }
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .map(|delay| delay.min(RETRY_AFTER_MAX));
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::Later(wait),
        // Without a wait it is a limit that the same request will meet again.
        Code::ResourceExhausted if wait.is_some() => Answer::Later(wait),
        _ => Answer::Refused,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_protocol_s_table() {
        let later = Answer::Later(None);
        for (code, expected) in [
            (Code::Cancelled, later),
            (Code::Unknown, Answer::Refused),
            (Code::InvalidArgument, Answer::Refused),
            (Code::DeadlineExceeded, later),
            (Code::NotFound, Answer::Refused),
            (Code::AlreadyExists, Answer::Refused),
            (Code::PermissionDenied, Answer::Refused),
            (Code::ResourceExhausted, Answer::Refused),
            (Code::FailedPrecondition, Answer::Refused),
            (Code::Aborted, later),
            (Code::OutOfRange, later),
            (Code::Unimplemented, Answer::Refused),
            (Code::Internal, Answer::Refused),
            (Code::Unavailable, later),
            (Code::DataLoss, later),
            (Code::Unauthenticated, Answer::Refused),
        ] {
            assert_eq!(classify(&Status::new(code, "")), expected, "{code:?}");
        }
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept_within_bounds() {
        for (seconds, expected) in [(3, 3), (1 << 32, 300)] {
            let wait = Some(Duration::from_secs(seconds));
            for code in [Code::ResourceExhausted, Code::Unavailable] {
                let status = Status::with_error_details(code, "", ErrorDetails::with_retry_info(wait));
                let expected = Some(Duration::from_secs(expected));
                assert_eq!(classify(&status), Answer::Later(expected), "{code:?}");
            }
        }
    }

    #[test]
    fn what_happened_on_the_way_is_no_refusal() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(broken));
        assert_eq!(classify(&status), Answer::Reconnect);
    }
}
