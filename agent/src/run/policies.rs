//! The configured policy files, read and compiled.

use crate::config::{self, Config};
use crate::policy::PolicySet;

/// Reads what the configuration names. All errors at once, as text for people.
pub fn read(config: &Config) -> Result<PolicySet, String> {
    let texts = config::policies::read(&config.policies, config.policies_explicit)
        .map_err(|problems| problems.to_string())?;
    PolicySet::load(&texts).map_err(|problems| problems.to_string())
}
