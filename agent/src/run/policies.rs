//! The configured policy files, read and compiled, and what this host cannot give of what they require.

use crate::config::{self, Config};
use crate::policy::{Guarantee, PolicySet};
use crate::yaml::Problems;

/// Reads what the configuration names. All errors at once.
pub fn read(config: &Config) -> Result<PolicySet, Problems> {
    let texts = config::policies::read(&config.policies, config.policies_explicit)?;
    PolicySet::load(&texts)
}

/// Rules of a policy (by its position) that require a stronger guarantee than `given`, which is the weakest that a
/// denial has here in the directions of the rule. One line each; they are carried out as far as possible.
pub fn unmet(
    set: &PolicySet,
    policy: usize,
    given: impl Fn(&[crate::call::CallDirection]) -> Guarantee,
) -> Vec<String> {
    set.rules()
        .iter()
        .filter(|rule| rule.policy == policy)
        .filter_map(|rule| {
            let required = rule.require?;
            let given = given(rule.directions());
            (given < required).then(|| {
                format!(
                    "rule {} ({}) requires {}, and a denial here is {}: it is not counted as enforced",
                    rule.name,
                    rule.source,
                    required.as_str(),
                    given.as_str()
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallDirection;

    #[test]
    fn what_is_required_and_not_given_is_told() {
        let text = "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: a }\nspec:\n  rules:\n\
                    \x20   - { name: strong, match: { paths: [/a] }, action: deny, require: contained }\n\
                    \x20   - { name: weak, match: { paths: [/b] }, action: deny, require: cut }\n\
                    \x20   - { name: inbound, match: { direction: inbound, paths: [/c] }, action: deny, require: contained }\n";
        let set = PolicySet::load(&[("a.yaml", text)]).map_err(|problems| problems.to_string());
        let set = set.expect("a policy");
        let given = |directions: &[CallDirection]| match directions.contains(&CallDirection::Outbound) {
            true => Guarantee::Cut,
            false => Guarantee::Contained,
        };
        assert_eq!(
            unmet(&set, 0, given),
            [
                "rule strong (a.yaml:6) requires contained, and a denial here is cut: it is not counted as enforced"
            ]
        );
        assert_eq!(unmet(&set, 1, given), Vec::<String>::new());
    }
}
