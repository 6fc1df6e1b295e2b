//! Waiting for conditions. Nothing here sleeps in place of one: a wait ends when the condition holds, and fails with
//! what was seen last when its time is over.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Result;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(15);
/// How much longer everything may take on machines that are emulated or busy.
const SLOW_FACTOR_VARIABLE: &str = "APIWARD_TEST_PATIENCE";

/// `limit`, or longer where somebody said that this machine is slow.
pub fn patient(limit: Duration) -> Duration {
    let factor = std::env::var(SLOW_FACTOR_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    limit.saturating_mul(factor.unwrap_or(1).clamp(1, 100))
}

/// Waits until `look` gives a value; errors of `look` are kept for the message. `what` says what is waited for.
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patient(limit);
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() > deadline {
            let waited = format!("waited {:.0?} in vain: {what}", patient(limit));
            return match seen {
                Err(error) => Err(error).context(waited),
                Ok(_) => bail!(waited),
            };
        }
        std::thread::sleep(POLL);
    }
}

/// As [`within`], for conditions without a value; 20 seconds.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result {
    within(Duration::from_secs(20), what, || Ok(holds()?.then_some(())))
}
