//! Every user error has an id, and every id a section in `docs/errors.md`: what it means and what to do.
//!
//! The list is here, and not beside the code that reports, so that an id is given once and a test can hold the
//! page against it.

/// The name of a user error, such as `AW1002`. It never changes its meaning; retired ids are not used again.
pub type ErrorId = &'static str;

pub const YAML_SYNTAX: ErrorId = "AW1001";
pub const UNKNOWN_KEY: ErrorId = "AW1002";
pub const WRONG_SHAPE: ErrorId = "AW1003";
pub const BAD_VALUE: ErrorId = "AW1004";
pub const OUT_OF_RANGE: ErrorId = "AW1005";
pub const DUPLICATE_KEY: ErrorId = "AW1006";
pub const MISSING_KEY: ErrorId = "AW1007";
pub const UNREADABLE_FILE: ErrorId = "AW1008";
pub const TOO_LARGE: ErrorId = "AW1009";
pub const NOT_IN_THIS_BUILD: ErrorId = "AW1010";
pub const NOT_ON_THIS_HOST: ErrorId = "AW1011";
pub const NOT_A_POLICY: ErrorId = "AW1101";
pub const DUPLICATE_NAME: ErrorId = "AW1102";
pub const UNRESOLVABLE_SELECTOR: ErrorId = "AW1103";
pub const BAD_EXPRESSION: ErrorId = "AW1104";
pub const TOO_MANY_RULES: ErrorId = "AW1105";
pub const NO_POLICY_FILE: ErrorId = "AW1106";
pub const EMPTIED_FILE: ErrorId = "AW1107";
pub const UNREACHABLE_RULE: ErrorId = "AW1201";
pub const WEAK_GUARANTEE: ErrorId = "AW1202";
pub const REQUIRE_UNMET: ErrorId = "AW1203";
pub const PEERS_BEHIND_PROXY: ErrorId = "AW1204";
pub const RATE_WITHOUT_EFFECT: ErrorId = "AW1205";
pub const MATCHES_EVERYTHING: ErrorId = "AW1206";
pub const CLIENTS_WITHOUT_PROXY: ErrorId = "AW1207";
pub const LATE_DECISION: ErrorId = "AW1208";
pub const HOST_IS_ADDRESS: ErrorId = "AW1209";
pub const KILLS_WHOMEVER: ErrorId = "AW1210";
pub const ONLY_OBSERVES: ErrorId = "AW1211";
pub const NEVER_HOLDS: ErrorId = "AW1212";
pub const BODY_IN_PART: ErrorId = "AW1213";
pub const RESETS_PROXY: ErrorId = "AW1214";
pub const CUTS_WHATEVER_UNSEEN: ErrorId = "AW1215";
pub const STALLS_INTERFACE: ErrorId = "AW1216";
pub const CLEAR_TEXT_EXPORT: ErrorId = "AW1301";
pub const REDACTION_EXPIRED: ErrorId = "AW1302";
pub const NEEDS_ROOT: ErrorId = "AW1401";
pub const ANOTHER_AGENT: ErrorId = "AW1402";
pub const CONTROL_SOCKET: ErrorId = "AW1403";
pub const SPOOL: ErrorId = "AW1404";
pub const NO_AGENT: ErrorId = "AW1405";
pub const AGENT_REFUSES: ErrorId = "AW1406";
pub const OTHER_VERSION: ErrorId = "AW1407";
pub const NOTHING_KEPT: ErrorId = "AW1408";
pub const AGENT_HOLDS_ON: ErrorId = "AW1409";

/// All of them, with what the section's heading says.
pub const ALL: &[(ErrorId, &str)] = &[
    (YAML_SYNTAX, "The file is not YAML"),
    (UNKNOWN_KEY, "Unknown key"),
    (WRONG_SHAPE, "A value has the wrong shape"),
    (BAD_VALUE, "A value cannot be read"),
    (OUT_OF_RANGE, "A value is out of range"),
    (DUPLICATE_KEY, "A key is written twice"),
    (MISSING_KEY, "A key is missing"),
    (UNREADABLE_FILE, "A file cannot be read"),
    (TOO_LARGE, "A file is too large"),
    (NOT_IN_THIS_BUILD, "Not in this build"),
    (
        NOT_ON_THIS_HOST,
        "What the configuration names is not on this host",
    ),
    (NOT_A_POLICY, "The document is not a policy"),
    (DUPLICATE_NAME, "A name is used twice"),
    (
        UNRESOLVABLE_SELECTOR,
        "A selector cannot be resolved by this build",
    ),
    (BAD_EXPRESSION, "An expression does not compile"),
    (TOO_MANY_RULES, "Too many rules"),
    (NO_POLICY_FILE, "No policy file was found"),
    (EMPTIED_FILE, "A policy file has lost its contents"),
    (UNREACHABLE_RULE, "Warning: a rule can never apply"),
    (WEAK_GUARANTEE, "Warning: a denied write may have taken effect"),
    (REQUIRE_UNMET, "Warning: the required guarantee cannot be given"),
    (PEERS_BEHIND_PROXY, "Warning: every peer is the proxy"),
    (RATE_WITHOUT_EFFECT, "Warning: a rate has no effect"),
    (MATCHES_EVERYTHING, "Warning: a denial matches every call"),
    (
        CLIENTS_WITHOUT_PROXY,
        "Warning: clients are unknown without trusted proxies",
    ),
    (LATE_DECISION, "Warning: a denial has to wait"),
    (HOST_IS_ADDRESS, "Warning: a host is an address"),
    (KILLS_WHOMEVER, "Warning: a kill is not limited to a program"),
    (ONLY_OBSERVES, "Warning: a denial is not carried out"),
    (NEVER_HOLDS, "Warning: a condition never holds"),
    (BODY_IN_PART, "Warning: a body is looked at in part"),
    (RESETS_PROXY, "Warning: a denial resets the proxy's connection"),
    (CUTS_WHATEVER_UNSEEN, "Warning: all that cannot be read is cut"),
    (STALLS_INTERFACE, "Warning: a denial only alerts on HL7 over MLLP"),
    (CLEAR_TEXT_EXPORT, "Warning: events leave the host in clear text"),
    (REDACTION_EXPIRED, "Warning: raw paths have expired"),
    (NEEDS_ROOT, "Root is needed"),
    (ANOTHER_AGENT, "Another agent runs on this host"),
    (CONTROL_SOCKET, "The control socket cannot be made"),
    (SPOOL, "The spool cannot be opened"),
    (NO_AGENT, "No agent answers"),
    (AGENT_REFUSES, "The agent refuses"),
    (OTHER_VERSION, "The agent is of another version"),
    (NOTHING_KEPT, "Nothing can be kept here"),
    (AGENT_HOLDS_ON, "An agent holds on to its programs"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_section_for_every_id_and_no_other() {
        let page = include_str!("../../docs/errors.md");
        let headings: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## AW"))
            .collect();
        let expected: Vec<String> = ALL
            .iter()
            .map(|(id, title)| format!("{} — {title}", &id[2..]))
            .collect();
        assert_eq!(headings, expected, "docs/errors.md and errors.rs differ");
    }
}
