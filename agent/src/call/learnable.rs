//! What a word's text alone tells of it: whether it is a name, an action, a collection, a service's.
//!
//! By lists that are no API's own. It must not know where in a path the word stands, nor what was seen before.

use std::sync::LazyLock;

use hashbrown::HashSet;

use super::redact::is_version;

/// A word that may be learnt to be shown is at most as long.
const LEARNT_BYTES_MAX: usize = 24;

/// Whether a word may be learnt to be vocabulary at all: short, of lower-case words, no name of a person's.
pub struct Learnable;

impl Learnable {
    /// `frob-nicate`, `dispenseList`; not `Smith`, `jane-doe`, `bed12`.
    pub fn is(word: &str) -> bool {
        let word = word
            .strip_suffix("({id})")
            .or_else(|| word.strip_suffix("()"))
            .unwrap_or(word);
        let word = word.strip_prefix("{id}:").unwrap_or(word);
        (2..=LEARNT_BYTES_MAX).contains(&word.len())
            && word.as_bytes()[0].is_ascii_lowercase()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'-' || byte == b'_')
            && !word
                .split(['-', '_'])
                .any(|part| NAMES.contains(part.to_ascii_lowercase().as_str()))
    }

    /// Some part of it is a common name of persons: `john-doe`.
    pub fn is_name(word: &str) -> bool {
        word.split(['-', '_', '.'])
            .any(|part| NAMES.contains(part.to_ascii_lowercase().as_str()))
    }

    /// It says what is done: `getStatus`, `list-items`, `addwebhook`.
    pub fn is_action(word: &str) -> bool {
        let first = word
            .split(['-', '_', '.'])
            .flat_map(camel_parts)
            .next()
            .unwrap_or_default();
        let whole = first.len() == word.len();
        if !whole {
            return VERBS.iter().any(|verb| first.eq_ignore_ascii_case(verb));
        }
        VERBS_TOGETHER.iter().any(|verb| {
            first
                .get(..verb.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(verb))
                && first.len() > verb.len() + 3
        })
    }

    /// Two to five capitals, or a language's two letters: currencies, countries, symbols.
    pub fn is_symbol(word: &str) -> bool {
        match word.len() {
            2 => word.bytes().all(|byte| byte.is_ascii_alphabetic()),
            3..=5 => word.bytes().all(|byte| byte.is_ascii_uppercase()),
            _ => false,
        }
    }

    /// Capitals with underscores between them, as settings and secrets are called: `DATABASE_URL`.
    pub fn is_constant(word: &str) -> bool {
        let bytes = word.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
            return false;
        };
        let of_it = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        first.is_ascii_uppercase() && *last != b'_' && bytes.contains(&b'_') && bytes.iter().all(of_it)
    }

    /// `show.json`: `show`.
    pub fn without_ending(word: &str) -> &str {
        match word.rsplit_once('.') {
            Some((name, "json" | "xml" | "csv" | "html" | "pdf" | "txt" | "{id}")) if !name.is_empty() => {
                name
            }
            _ => word,
        }
    }

    /// What only a service is called: `grpc.health.v1.Health` (a package with a version, and a service, as gRPC's paths begin)
    /// and `storage.k8s.io` (the groups of Kubernetes' own API).
    pub fn is_service(word: &str) -> bool {
        if word
            .strip_suffix(".k8s.io")
            .is_some_and(|group| !group.is_empty())
        {
            return true;
        }
        let Some((package, service)) = word.rsplit_once('.') else {
            return false;
        };
        let small = |part: &str| {
            part.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let camel = service.as_bytes().first().is_some_and(u8::is_ascii_uppercase)
            && service.bytes().any(|byte| byte.is_ascii_lowercase())
            && service.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // Names of persons, classes and applications have no versions.
        package.split('.').all(small) && package.split('.').any(Self::is_version) && camel
    }

    /// `v1`, `v2.1`.
    pub fn is_version(word: &str) -> bool {
        is_version(word)
    }

    /// What an API begins with, before anything of its own: `api`, `rest`, `public`.
    pub fn is_base(word: &str) -> bool {
        is_version(word) || BASES.iter().any(|known| word.eq_ignore_ascii_case(known))
    }

    /// The name of a collection by its form: `patients`, `MedicationRequests`; not `status`, `address`.
    pub fn is_plural(word: &str) -> bool {
        let word = word.split('(').next().unwrap_or(word);
        word.len() > 3
            && word.ends_with('s')
            && !["ss", "us", "is", "ews"].iter().any(|end| word.ends_with(end))
            && !NO_COLLECTIONS.contains(&word.to_ascii_lowercase().as_str())
    }

    /// A collection of persons: words below it are their names, however they look.
    pub fn is_of_persons(word: &str) -> bool {
        let word = word.split('(').next().unwrap_or(word);
        word.split(['-', '_'])
            .flat_map(camel_parts)
            .any(|part| PERSONS.iter().any(|known| part.eq_ignore_ascii_case(known)))
    }
}

static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("names.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_ascii_whitespace)
        .collect()
});

const VERBS: &[&str] = &[
    "get",
    "set",
    "add",
    "list",
    "find",
    "search",
    "create",
    "update",
    "delete",
    "remove",
    "check",
    "validate",
    "verify",
    "send",
    "upload",
    "download",
    "export",
    "import",
    "start",
    "stop",
    "enable",
    "disable",
    "save",
    "load",
    "fetch",
    "cancel",
    "generate",
    "calculate",
    "convert",
    "reset",
    "register",
    "switch",
    "change",
    "by",
    "is",
    "has",
    "to",
    "post",
    "put",
    "make",
    "mark",
    "drop",
    "edit",
    "modify",
    "assign",
    "unassign",
    "batch",
    "bulk",
    "lookup",
    "query",
    "count",
    "copy",
    "move",
    "clear",
    "run",
    "request",
    "submit",
    "approve",
    "reject",
    "resend",
    "sync",
];

/// Those that are written together with what they are done to, and begin no other words.
const VERBS_TOGETHER: &[&str] = &[
    "get", "set", "add", "list", "find", "search", "create", "update", "delete", "remove", "validate",
    "download", "export", "switch", "fetch",
];

/// Plurals of what is looked at, not collected.
const NO_COLLECTIONS: &[&str] = &[
    "stats",
    "statistics",
    "metrics",
    "settings",
    "options",
    "preferences",
    "tools",
    "analytics",
    "insights",
    "details",
    "capabilities",
    "diagnostics",
    "basics",
    "utils",
    "totals",
    "limits",
];

const BASES: &[&str] = &[
    "api", "rest", "rpc", "public", "private", "internal", "external", "latest", "beta", "alpha", "stable",
    "web", "app", "rest-api", "webapi", "odata", "json", "v0", "cgi-bin",
];

const PERSONS: &[&str] = &[
    "patient",
    "patients",
    "person",
    "persons",
    "people",
    "user",
    "users",
    "member",
    "members",
    "contact",
    "contacts",
    "customer",
    "customers",
    "employee",
    "employees",
    "practitioner",
    "practitioners",
    "doctor",
    "doctors",
    "nurse",
    "nurses",
    "physician",
    "physicians",
    "provider",
    "providers",
    "subscriber",
    "subscribers",
    "guarantor",
    "guarantors",
    "relative",
    "relatives",
    "name",
    "names",
    "surname",
    "surnames",
    "family",
    "given",
    "username",
    "usernames",
    "owner",
    "owners",
    "author",
    "authors",
    "account",
    "accounts",
    "profile",
    "profiles",
    "mrn",
    "ssn",
    "client",
    "clients",
    "resident",
    "residents",
    "donor",
    "donors",
    "student",
    "students",
    "staff",
    "search",
    "find",
    "lookup",
    "by",
    "query",
];

/// `listAllUsers`: `list`, `All`, `Users`.
pub(super) fn camel_parts(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let end = (1..bytes.len())
            .find(|at| bytes[*at].is_ascii_uppercase() && bytes[*at - 1].is_ascii_lowercase())
            .unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_learnt() {
        for word in ["frobs", "dispense-lists", "frobList"] {
            assert!(Learnable::is(word), "{word}");
        }
        for word in ["Smith", "smith", "jane-doe", "bed12", "x", "a.b", "zoe"] {
            assert!(!Learnable::is(word), "{word}");
        }
        assert!(Learnable::is_name("jane-frob") && !Learnable::is_name("frobs"));
        assert!(Learnable::is_of_persons("patients") && Learnable::is_of_persons("findByName"));
    }

    #[test]
    fn services_are_told_by_their_names() {
        for word in [
            "storage.k8s.io",
            "grpc.health.v1.Health",
            "acme.user.v2beta.UserService",
        ] {
            assert!(Learnable::is_service(word), "{word}");
        }
        for word in [
            ".k8s.io",
            "example.io",
            "john.Smith",
            "a.b.c",
            "a..Zeta",
            "a.b.ZETA",
            "Health",
        ] {
            assert!(!Learnable::is_service(word), "{word}");
        }
        assert_eq!(Learnable::without_ending("show.json"), "show");
        assert_eq!(Learnable::without_ending("jane.doe"), "jane.doe");
    }
}
