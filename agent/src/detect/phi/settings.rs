//! What the configuration says about personal data, as plain values.

use regex_automata::meta::Regex;

/// Own names and patterns, and what is not looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhiSettings {
    /// Nothing is looked for without it.
    pub enabled: bool,
    /// Names of keys → classes: those of the reference, or one's own.
    pub keys: Vec<(String, String)>,
    pub patterns: Vec<Pattern>,
    /// Classes that are not told.
    pub off: Vec<String>,
}

/// A regular expression of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub class: String,
    pub regex: String,
    /// It counts only behind one of these; empty: always.
    pub words: Vec<String>,
}

impl Default for PhiSettings {
    fn default() -> Self {
        PhiSettings {
            enabled: true,
            keys: Vec::new(),
            patterns: Vec::new(),
            off: Vec::new(),
        }
    }
}

impl Pattern {
    /// It can be matched in linear time and bounded memory.
    pub fn is_regex(text: &str) -> bool {
        build(text).is_ok()
    }
}

/// Over bytes; the automaton is built as it is needed, within a bound.
pub(super) fn build(text: &str) -> Result<Regex, Box<regex_automata::meta::BuildError>> {
    let config = Regex::config()
        .nfa_size_limit(Some(REGEX_BYTES_MAX))
        .hybrid_cache_capacity(REGEX_BYTES_MAX)
        .utf8_empty(false);
    Regex::builder()
        .configure(config)
        .syntax(regex_automata::util::syntax::Config::new().utf8(false))
        .build(text)
        .map_err(Box::new)
}

/// Classes of one's own that fit.
pub(super) const OWN_CLASSES_MAX: usize = 18;
/// Bytes that a pattern's automaton may take.
const REGEX_BYTES_MAX: usize = 1 << 20;
