//! Skips: a test that needs what this kernel lacks says so by name, and `cargo xtask vm` fails on a skip that the
//! kernel does not justify.

use super::Result;

/// The error that makes a test a skip.
#[derive(Debug)]
pub struct Skipped {
    /// One of the names in `xtask/src/vm`.
    pub feature: String,
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "needs {}", self.feature)
    }
}

impl std::error::Error for Skipped {}

/// Ends the test as a skip unless `available`.
#[allow(dead_code, reason = "used by tests of kernel features")]
pub fn unless(available: bool, feature: &str) -> Result {
    if available {
        return Ok(());
    }
    Err(Skipped {
        feature: feature.to_owned(),
    }
    .into())
}

/// Set by whoever knows the kernel.
const HAS_VARIABLE: &str = "APIWARD_TEST_KERNEL_HAS";

/// The features that this kernel has by what is known of it; `None` where nobody has said so.
pub fn kernel_has() -> Option<Vec<String>> {
    let text = std::env::var(HAS_VARIABLE).ok()?;
    Some(text.split(',').map(str::to_owned).collect())
}
