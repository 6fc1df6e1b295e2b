//! The configured policy files, read and compiled.

use crate::config::{self, Config};
use crate::policy::PolicySet;
use crate::yaml::Problems;

/// Names and texts of the files that the configuration names.
pub fn texts(config: &Config) -> Result<Vec<(String, String)>, Problems> {
    config::policies::read(&config.policies, config.policies_explicit)
}

/// Reads what the configuration names. All errors at once.
pub fn read(config: &Config) -> Result<PolicySet, Problems> {
    PolicySet::load(&texts(config)?)
}
