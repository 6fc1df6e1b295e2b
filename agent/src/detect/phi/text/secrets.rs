//! Credentials that say what they are by how they begin.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, BuildError, MatchKind};

use super::prose::gtin;
use super::{Class, Evidence, Found, Text, found, is_word};

/// What tokens begin with, how long they are at least, and their class. Sources: RFC 7515 (a JOSE header begins `{"`),
/// and what each vendor publishes for secret scanners.
const SECRETS: &[(&str, usize, Class)] = &[
    ("eyJ", 30, Class::Token),
    ("AKIA", 20, Class::Token),
    ("ASIA", 20, Class::Token),
    ("ghp_", 36, Class::Token),
    ("gho_", 36, Class::Token),
    ("ghs_", 36, Class::Token),
    ("github_pat_", 40, Class::Token),
    ("glpat-", 20, Class::Token),
    ("xoxb-", 24, Class::Token),
    ("xoxp-", 24, Class::Token),
    ("AIza", 35, Class::Token),
    ("sk_live_", 24, Class::Token),
    ("rk_live_", 24, Class::Token),
    ("sk-", 35, Class::Token),
    ("SG.", 60, Class::Token),
    ("npm_", 40, Class::Token),
    ("hf_", 37, Class::Token),
    ("shpat_", 38, Class::Token),
    ("Bearer ", 15, Class::Token),
    ("PRIVATE KEY-----", 16, Class::PrivateKey),
    ("(01)", 18, Class::Device),
];

/// What finds where they may begin.
pub(super) fn finder() -> Result<AhoCorasick, BuildError> {
    AhoCorasickBuilder::new()
        .match_kind(MatchKind::LeftmostLongest)
        .build(SECRETS.iter().map(|(prefix, ..)| prefix))
}

impl Text {
    pub(super) fn secrets(&self, text: &[u8], out: &mut dyn FnMut(Found)) {
        let mut over = 0;
        for begin in self.secrets.find_iter(text) {
            let start = begin.start();
            if start < over || (start > 0 && is_word(text[start - 1]) && text[start] != b'P') {
                continue;
            }
            let (prefix, length, class) = SECRETS[begin.pattern().as_usize()];
            if class == Class::PrivateKey {
                if memchr::memmem::rfind(&text[start.saturating_sub(24)..start], b"-----BEGIN").is_some() {
                    over = begin.end();
                    out(found(class, Evidence::Pattern, 97, start, over));
                }
                continue;
            }
            let rest = &text[begin.end()..];
            let end = begin.end()
                + rest
                    .iter()
                    .position(|byte| !(is_word(*byte) || b".-+/=()".contains(byte)))
                    .unwrap_or(rest.len());
            let token = &text[start..end];
            let is = match prefix {
                "eyJ" => token.iter().filter(|byte| **byte == b'.').count() >= 2,
                "AKIA" | "ASIA" => {
                    token.len() == 20
                        && token
                            .iter()
                            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
                }
                "(01)" => token.get(4..18).is_some_and(gtin),
                "hf_" | "npm_" | "shpat_" => {
                    token.len() == length && token[prefix.len()..].iter().all(u8::is_ascii_alphanumeric)
                }
                // Names of classes have dashes at every word.
                "sk-" => token
                    .split(|byte| !byte.is_ascii_alphanumeric())
                    .any(|part| part.len() >= 20 && part.iter().any(u8::is_ascii_digit)),
                _ => token[prefix.len()..].iter().any(u8::is_ascii_digit),
            };
            // Whatever it is, it is looked at once.
            over = end;
            if is && token.len() >= length {
                let evidence = if class == Class::Device {
                    Evidence::Checksum
                } else {
                    Evidence::Pattern
                };
                out(found(class, evidence, 95, start, end));
            }
        }
    }
}
