//! The configured policy files, read and compiled.

use crate::config::{self, Config};
use crate::policy::PolicySet;
use crate::yaml::Problems;

/// Reads what the configuration names. All errors at once.
pub fn read(config: &Config) -> Result<PolicySet, Problems> {
    let texts = config::policies::read(&config.policies, config.policies_explicit)?;
    PolicySet::load(&texts)
}
