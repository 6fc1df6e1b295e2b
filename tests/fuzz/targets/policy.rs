//! Policy files as anybody could write them: compiled, or refused with problems that say where.

use apiward::policy::PolicySet;

/// One input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(set) = PolicySet::load(&[("fuzz.yaml", text)]) {
        for rule in set.rules() {
            let _ = set.policy_of(rule);
            let _ = rule.dimensions();
        }
    }
}
