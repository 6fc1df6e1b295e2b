//! Values → what may leave the host: templates, classes and keyed hashes. The agent guards health data and must
//! not become the leak itself, so the default is to hide, and a word has to be known to be shown.
//!
//! A path segment is shown if it is made of shipped vocabulary, is a literal of a policy or of the configuration, or
//! has *earned* it: alphabetic, short, one of few at its place, and seen very often from several distinct callers.
//! Everything else is `{id}` (it has the shape of an identifier) or `{name}`. Hosts likewise, because `Host` is a
//! header and a header can hold anything.
//!
//! It must not know policies, only the literals they contain.

mod keyed;
mod names;

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::LazyLock;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use smol_str::SmolStr;

use self::keyed::Digits;
pub use self::keyed::KeyedHash;
use super::target::Segments;
use crate::decode::Anomaly;

/// When an unknown word may be shown after all.
#[derive(Clone, Copy, Debug)]
pub struct Earning {
    /// Times a path word must have been seen.
    pub seen_min: u32,
    /// Distinct callers (remote addresses inbound, executables outbound) that must have used it.
    pub callers_min: usize,
    /// More distinct unknown words than that at one place are values, not vocabulary.
    pub siblings_max: usize,
    /// Distinct witnesses of a host name with a domain: remote addresses inbound, connections outbound. Loopback is
    /// no witness: whoever is on this host can say anything there as often as he likes.
    pub host_witnesses_min: usize,
    /// Candidates remembered; beyond it nothing new is learnt.
    pub candidates_max: usize,
}

impl Default for Earning {
    fn default() -> Self {
        Earning {
            seen_min: 1000,
            callers_min: 8,
            siblings_max: 12,
            host_witnesses_min: 10,
            candidates_max: 4096,
        }
    }
}

const WORD_BYTES_MAX: usize = 24;
/// No word that ships is longer; a test holds it.
const VOCABULARY_WORD_BYTES_MAX: usize = 64;
/// Segments of a path that are told apart.
const SEGMENTS_MAX: usize = 32;
const HOST_BYTES_MAX: usize = 253;

static VOCABULARY: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("vocabulary.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_ascii_whitespace)
        .collect()
});

static MEDIA_TYPES: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("media_types.txt").split_ascii_whitespace().collect());

#[derive(Default)]
struct Candidate {
    seen: u32,
    /// Hashes, at most as many as are needed.
    witnesses: Vec<u64>,
}

impl Candidate {
    fn witness(&mut self, witness: u64, needed: usize) {
        self.seen = self.seen.saturating_add(1);
        if self.witnesses.len() < needed && !self.witnesses.contains(&witness) {
            self.witnesses.push(witness);
        }
    }
}

/// Turns values into what may leave. Holds what was learnt, the literals and the key; has no `Debug`.
pub struct Redactor {
    key: KeyedHash,
    earning: Earning,
    literals: HashSet<String>,
    paths_raw: bool,
    hasher: DefaultHashBuilder,
    /// Unknown words by the template of the path before them.
    words: HashMap<String, HashMap<String, Candidate>>,
    words_count: usize,
    hosts: HashMap<String, Candidate>,
    /// How often something was asked that others' calls have a part in.
    learning: u64,
    /// How often it was told what may be shown.
    told: u64,
    /// Candidates that were not remembered for want of room.
    pub(super) not_learnt: u64,
}

impl Redactor {
    /// `key` makes hashes of this agent its own: without it they cannot be recomputed from a guess.
    pub fn new(key: [u8; 32], earning: Earning) -> Self {
        Redactor {
            key: KeyedHash::new(key),
            earning,
            literals: HashSet::new(),
            paths_raw: false,
            hasher: DefaultHashBuilder::default(),
            words: HashMap::new(),
            words_count: 0,
            hosts: HashMap::new(),
            learning: 0,
            told: 0,
            not_learnt: 0,
        }
    }

    /// Replaces the words (path segments, hosts) that policies and configuration name and that may thus be shown.
    pub fn set_literals(&mut self, literals: &[String]) {
        self.told += 1;
        self.literals = literals
            .iter()
            .flat_map(|literal| literal.split('/'))
            .filter(|segment| !segment.is_empty() && !segment.contains(['*', '{', '}']))
            .map(str::to_owned)
            .collect();
    }

    /// Shows paths as they are (`redact.paths: raw`). Whoever sets this answers for the reason and the end.
    pub fn set_paths_raw(&mut self, paths_raw: bool) {
        self.told += 1;
        self.paths_raw = paths_raw;
    }

    /// Changes whenever an answer was given that another call may change, or that changes others: as long as it does not,
    /// the same question has the same answer, until [`Redactor::told`] changes.
    pub(super) fn learning(&self) -> u64 {
        self.learning
    }

    /// Changes whenever other words may be shown.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Hash of a caller, for telling callers apart without remembering them.
    pub(super) fn witness(&self, caller: impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(caller)
    }

    /// `/fhir/Patient/123` → `/fhir/Patient/{id}`
    pub fn path(&mut self, path: &str, caller: u64) -> String {
        if self.paths_raw {
            return path.to_owned();
        }
        let mut template = String::with_capacity(path.len() + 8);
        for (index, segment) in Segments::of(path.strip_prefix('/').unwrap_or(path)).enumerate() {
            if index == SEGMENTS_MAX {
                template.push_str("/{rest}");
                break;
            }
            if self.shows(segment, &template, caller) {
                template.push('/');
                template.push_str(segment);
            } else {
                template.push_str(if is_id(segment) { "/{id}" } else { "/{name}" });
            }
        }
        template
    }

    fn shows(&mut self, segment: &str, before: &str, caller: u64) -> bool {
        segment.is_empty()
            || is_vocabulary(segment)
            || self.literals.contains(segment)
            || self.word_earned(segment, before, caller)
    }

    fn word_earned(&mut self, word: &str, before: &str, caller: u64) -> bool {
        if word.len() > WORD_BYTES_MAX
            || word.len() < 2
            || !word
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'-' || byte == b'_')
        {
            return false;
        }
        self.learning += 1;
        let earning = self.earning;
        if let Some(siblings) = self.words.get_mut(before) {
            let crowded = siblings.len() > earning.siblings_max;
            if let Some(candidate) = siblings.get_mut(word) {
                candidate.witness(caller, earning.callers_min);
                return !crowded
                    && candidate.seen >= earning.seen_min
                    && candidate.witnesses.len() >= earning.callers_min;
            }
            if crowded {
                // Known to be a place of values; nothing there will ever be shown.
                return false;
            }
        }
        if self.words_count >= earning.candidates_max {
            self.not_learnt += 1;
            return false;
        }
        self.words_count += 1;
        let candidate = self
            .words
            .entry(before.to_owned())
            .or_default()
            .entry(word.to_owned())
            .or_default();
        candidate.witness(caller, earning.callers_min);
        false
    }

    /// `Host` or authority in lower case without port → itself, or `host-` and 8 hex digits. `witness`: who says so,
    /// if that counts.
    pub fn host(&mut self, host: &str, witness: Option<u64>) -> SmolStr {
        if host.is_empty() || host == "localhost" || self.literals.contains(host) {
            return SmolStr::new(host);
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if bare.parse::<IpAddr>().is_ok() || self.host_earned(host, witness) {
            return SmolStr::new(host);
        }
        let hash = self.hash(b"host", host.as_bytes());
        "host-".chars().chain(hash.as_str().chars().take(8)).collect()
    }

    fn host_earned(&mut self, host: &str, witness: Option<u64>) -> bool {
        if host.len() > HOST_BYTES_MAX || !host.split('.').all(|label| is_dns_label(label) && !is_id(label)) {
            return false;
        }
        // A name with a domain is corroborated by flows; a bare word could be anything, and has to be vocabulary.
        let domain = memchr::memrchr(b'.', host.as_bytes()).map(|at| &host.as_bytes()[at + 1..]);
        if !domain.is_some_and(|last| last.iter().all(u8::is_ascii_alphabetic)) {
            return is_vocabulary(host);
        }
        self.learning += 1;
        let needed = self.earning.host_witnesses_min;
        let Some(witness) = witness else {
            return self
                .hosts
                .get(host)
                .is_some_and(|candidate| candidate.witnesses.len() >= needed);
        };
        if let Some(candidate) = self.hosts.get_mut(host) {
            candidate.witness(witness, needed);
            return candidate.witnesses.len() >= needed;
        }
        if self.hosts.len() >= self.earning.candidates_max {
            self.not_learnt += 1;
            return false;
        }
        let candidate = self.hosts.entry(host.to_owned()).or_default();
        candidate.witness(witness, needed);
        needed <= 1
    }

    /// A request id: a UUID or a long hex number as it is, anything else as a keyed hash.
    pub fn request_id(&self, id: &[u8]) -> SmolStr {
        match std::str::from_utf8(id) {
            Ok(text) if is_uuid(text) || is_hex_id(text) => SmolStr::new(text.to_ascii_lowercase()),
            _ => SmolStr::from_iter(["h:", self.hash(b"request-id", id).as_str()]),
        }
    }

    fn hash(&self, domain: &[u8], value: &[u8]) -> Digits {
        self.key.digits(domain, value)
    }
}

/// The words that ship with the agent: whatever is made of them alone is nobody's.
pub struct Vocabulary;

impl Vocabulary {
    /// `word` is made of shipped words.
    pub fn has(word: &str) -> bool {
        !word.is_empty() && is_vocabulary(word)
    }
}

/// The trace id of a W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`.
pub(super) fn trace_id(traceparent: &[u8]) -> Option<SmolStr> {
    const BYTES: usize = 55;
    let (known, rest) = traceparent.split_at_checked(BYTES)?;
    let is_well_formed = known.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    // A newer version may say more behind it.
    let is_ended = rest.is_empty() || (rest[0] == b'-' && std::str::from_utf8(rest).is_ok());
    let mut trace = [0; 32];
    trace.copy_from_slice(&known[3..35]);
    trace.make_ascii_lowercase();
    std::str::from_utf8(&trace)
        .ok()
        .filter(|_| is_well_formed && is_ended)
        .map(SmolStr::new)
}

/// The media type of a `Content-Type`, if it is one that we ship.
pub(super) fn media_type(content_type: Option<&Bytes>) -> SmolStr {
    let Some(value) = content_type else {
        return SmolStr::default();
    };
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let Ok(name) = std::str::from_utf8(value[..end].trim_ascii()) else {
        return SmolStr::default();
    };
    if let Some(known) = MEDIA_TYPES.get(name) {
        return SmolStr::new_static(known);
    }
    MEDIA_TYPES
        .get(name.to_ascii_lowercase().as_str())
        .map(|known| SmolStr::new_static(known))
        .unwrap_or_default()
}

/// A segment made of shipped words alone: `Patient`, `user-profile`, `getUsers`, `v2.1`, `$export`, `index.html`.
pub(super) fn is_vocabulary(segment: &str) -> bool {
    if VOCABULARY.contains(segment) {
        return true;
    }
    if segment.len() > 64 {
        return false;
    }
    let bare = segment.strip_prefix('$').unwrap_or(segment);
    let bytes = bare.as_bytes();
    let is_other = bare.len() < segment.len() || bytes.iter().any(u8::is_ascii_uppercase);
    if is_version(bare) || (is_other && is_known_word(bare)) {
        return true;
    }
    // A word by itself has been looked up by now; what is put together is looked up in its parts.
    let is_joined = bytes.iter().any(|byte| matches!(byte, b'-' | b'_' | b'.' | b':'))
        || bytes
            .windows(2)
            .any(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
    is_joined
        && bare
            .split(['-', '_', '.', ':'])
            .all(|part| is_version(part) || is_known_word(part) || is_camel_vocabulary(part))
}

fn is_known_word(word: &str) -> bool {
    let mut capitals = false;
    for byte in word.bytes() {
        match byte {
            b'A'..=b'Z' => capitals = true,
            b'a'..=b'z' | b'0'..=b'9' | b'_' => {}
            _ => return false,
        }
    }
    let mut lower = [0; VOCABULARY_WORD_BYTES_MAX];
    let Some(lower) = lower.get_mut(..word.len()).filter(|lower| !lower.is_empty()) else {
        return false;
    };
    if !capitals {
        return VOCABULARY.contains(word);
    }
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).is_ok_and(|lower| VOCABULARY.contains(lower))
}

fn is_camel_vocabulary(part: &str) -> bool {
    let mut start = 0;
    let bytes = part.as_bytes();
    let mut parts = 0;
    for at in 1..=bytes.len() {
        let boundary =
            at == bytes.len() || (bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase());
        if boundary {
            // Boundaries are ASCII, so the range is on character borders.
            if !part.get(start..at).is_some_and(is_known_word) {
                return false;
            }
            start = at;
            parts += 1;
        }
    }
    parts > 0
}

/// `v1`, `v2.1`: an API version.
pub(super) fn is_version(part: &str) -> bool {
    let Some(number) = part.strip_prefix(['v', 'V']).filter(|number| number.len() <= 12) else {
        return false;
    };
    // `v1beta2`, `v3alpha`: so are they versioned that are not stable yet.
    let end = number
        .bytes()
        .position(|byte| !(byte.is_ascii_digit() || byte == b'.' || byte == b'_'))
        .unwrap_or(number.len());
    let (digits, stage) = number.split_at(end);
    let stage = stage.trim_end_matches(|c: char| c.is_ascii_digit());
    // As many as a year has: what has more may be somebody's number.
    number.bytes().filter(u8::is_ascii_digit).count() <= 4
        && digits.bytes().next().is_some_and(|first| first.is_ascii_digit())
        && digits.split(['.', '_']).all(|part| (1..=3).contains(&part.len()))
        && matches!(stage, "" | "alpha" | "beta" | "rc" | "preview" | "p")
}

/// It has the shape of an identifier: digits, escapes, an address, or too long and mixed for a word.
fn is_id(segment: &str) -> bool {
    segment.len() > 32
        || segment
            .bytes()
            .any(|byte| byte.is_ascii_digit() || matches!(byte, b'@' | b'%' | b'=' | b'+' | b'|' | b','))
        || (segment.len() >= 8 && segment.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Long enough that no word is spelled in it, and not a decimal number that names somebody.
fn is_hex_id(text: &str) -> bool {
    (16..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (text.len() >= 32 || text.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

fn is_dns_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Anomalies that make a request ambiguous for a rule that requires prevention (design, "The gate").
pub(super) fn is_ambiguous(anomaly: Anomaly) -> bool {
    anomaly.is_framing()
        || matches!(
            anomaly,
            Anomaly::Garbage
                | Anomaly::BareCarriageReturn
                | Anomaly::InvalidHeaderName
                | Anomaly::InvalidHeaderValue
                | Anomaly::InvalidMethod
                | Anomaly::InvalidTarget
                | Anomaly::InvalidVersion
                | Anomaly::DuplicateHost
                | Anomaly::HeadTooLong
                | Anomaly::TooManyHeaders
                | Anomaly::InvalidHeaderBlock
                | Anomaly::InvalidPseudoHeader
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_behind_a_v_is_no_version() {
        for version in ["v1", "v2.0", "v1_2_3", "v1beta2", "v3alpha"] {
            assert!(is_version(version), "{version}");
        }
        for number in ["v536_221_234", "v1p123456789", "v123.45", "v1beta20260101"] {
            assert!(!is_version(number), "{number}");
        }
    }

    #[test]
    fn words_have_room() {
        assert!(
            VOCABULARY
                .iter()
                .all(|word| word.len() <= VOCABULARY_WORD_BYTES_MAX)
        );
    }

    #[test]
    fn paths_become_templates() {
        let mut redactor = redactor();
        redactor.set_literals(&["/vendor/sync/{id}".into(), "hospital.example".into()]);
        for (path, template) in [
            ("/", "/"),
            ("/fhir/Patient/123", "/fhir/Patient/{id}"),
            ("/fhir/Patient/123/", "/fhir/Patient/{id}/"),
            ("/fhir/Patient/smith", "/fhir/Patient/{name}"),
            ("/fhir/Patient/$everything", "/fhir/Patient/$everything"),
            ("/fhir/Patient/_search", "/fhir/Patient/_search"),
            ("/fhir/r4/MedicationRequest", "/fhir/r4/MedicationRequest"),
            ("/fhir/Group/1/$export", "/fhir/Group/{id}/$export"),
            (
                "/api/v1/users/8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4c7",
                "/api/v1/users/{id}",
            ),
            ("/api/v2.1/user-profiles", "/api/v2.1/user-profiles"),
            ("/api/getUsers", "/api/getUsers"),
            ("/index.html", "/index.html"),
            ("/smith.html", "/{name}"),
            ("/users/jane.doe@example.org", "/users/{id}"),
            ("/users/Jane%20Doe", "/users/{id}"),
            ("/2024-02-30/report", "/{id}/report"),
            ("/vendor/sync/5", "/vendor/sync/{id}"),
            ("/deadbeefcafe", "/{id}"),
            ("/.well-known/jwks.json", "/.well-known/jwks.json"),
        ] {
            assert_eq!(redactor.path(path, 1), template, "{path}");
        }
    }

    #[test]
    fn a_word_is_earned_by_many_callers_and_never_by_one() {
        let mut redactor = redactor();
        for _ in 0..1000 {
            assert_eq!(redactor.path("/zebulon", 1), "/{name}");
        }
        for caller in 0..3 {
            redactor.path("/zebulon", caller);
        }
        assert_eq!(redactor.path("/zebulon", 1), "/zebulon");
        // A fourth and fifth unknown word show that this is a place of values.
        for word in ["one", "two", "three", "four"] {
            redactor.path(&format!("/x{word}"), 1);
        }
        assert_eq!(redactor.path("/zebulon", 1), "/{name}");
    }

    #[test]
    fn templates_are_bounded() {
        assert_eq!(
            redactor().path(&"/x".repeat(5000), 1).matches('/').count(),
            SEGMENTS_MAX + 1
        );
    }

    #[test]
    fn raw_paths_are_shown_only_while_asked_for() {
        let mut redactor = redactor();
        redactor.set_paths_raw(true);
        assert_eq!(redactor.path("/Patient/smith", 1), "/Patient/smith");
        redactor.set_paths_raw(false);
        assert_eq!(redactor.path("/Patient/smith", 1), "/Patient/{name}");
    }

    #[test]
    fn hosts_are_shown_when_corroborated() {
        let mut redactor = redactor();
        redactor.set_literals(&["hospital.example".into()]);
        for host in ["127.0.0.1", "[::1]", "localhost", "hospital.example", ""] {
            assert_eq!(redactor.host(host, None), host);
        }
        for _ in 0..10 {
            assert!(redactor.host("vendor.example", Some(1)).starts_with("host-"));
        }
        redactor.host("vendor.example", Some(2));
        assert!(redactor.host("vendor.example", None).starts_with("host-"));
        assert_eq!(redactor.host("vendor.example", Some(3)), "vendor.example");
        assert_eq!(redactor.host("vendor.example", None), "vendor.example");
        for flow in 0..10 {
            for hidden in [
                "zebulon",
                "a b",
                "patient-12345.vendor.example",
                "under_score.example",
            ] {
                assert!(redactor.host(hidden, Some(flow)).starts_with("host-"), "{hidden}");
            }
        }
    }

    #[test]
    fn request_ids_leave_only_as_uuid_or_hex() {
        let redactor = redactor();
        for shown in [
            "8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4c7",
            "4bf92f3577b34da6",
            "0af7651916cd43dd8448eb211c80319c",
        ] {
            assert_eq!(redactor.request_id(shown.as_bytes()), shown);
        }
        for hidden in ["Zebulon", "ada", "1234567890", "1234567890123456", "decade", ""] {
            let id = redactor.request_id(hidden.as_bytes());
            assert!(id.starts_with("h:") && id.len() == 18, "{hidden}");
        }
        let other = Redactor::new([8; 32], Earning::default());
        assert_ne!(redactor.request_id(b"Zebulon"), other.request_id(b"Zebulon"));
    }

    #[test]
    fn trace_and_media_type() {
        let parent = b"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            trace_id(parent).as_deref(),
            Some("0af7651916cd43dd8448eb211c80319c")
        );
        assert_eq!(trace_id(b"00-Zebulon-b7ad6b7169203331-01"), None);
        assert_eq!(
            media_type(Some(&Bytes::from_static(b"Application/JSON; charset=utf-8"))),
            "application/json"
        );
        assert_eq!(media_type(Some(&Bytes::from_static(b"application/zebulon"))), "");
    }

    fn redactor() -> Redactor {
        Redactor::new(
            [7; 32],
            Earning {
                seen_min: 20,
                callers_min: 3,
                siblings_max: 3,
                host_witnesses_min: 3,
                ..Earning::default()
            },
        )
    }
}
