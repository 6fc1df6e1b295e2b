//! Names that a peer chooses, and that are no path segments: applications, operations, methods, people.
//!
//! The rule is the same as for paths: shipped vocabulary, literals of policies and configuration, and what has been
//! earned may be shown; the rest is a keyed hash, so that it can be told apart and counted. It must not know which
//! protocol a name comes from.

use smol_str::SmolStr;

use super::{Redactor, is_vocabulary};

impl Redactor {
    /// `h:` and 16 hex digits. The same value of the same kind has the same hash in every call of this installation.
    pub(in crate::call) fn keyed(&self, kind: &[u8], value: &[u8]) -> SmolStr {
        SmolStr::from_iter(["h:", self.hash(kind, value).as_str()])
    }

    /// The person whose data a call is about, by whatever identifier the protocol has.
    pub(in crate::call) fn subject(&self, id: &[u8]) -> SmolStr {
        self.keyed(b"subject", id)
    }

    /// A name of a system or a tenant: itself if a policy or the configuration says it, else a keyed hash.
    pub(in crate::call) fn system(&self, name: &[u8]) -> SmolStr {
        match std::str::from_utf8(name) {
            Ok(text) if self.literals.contains(text) => SmolStr::new(text),
            _ => self.keyed(b"system", name),
        }
    }

    /// A name out of a schema, such as an operation's: itself if it is made of shipped words, is a literal or has been
    /// earned at its place; `None`: it is not shown.
    pub(in crate::call) fn word(&mut self, word: &str, place: &str, caller: u64) -> Option<SmolStr> {
        let shown = !word.is_empty()
            && (is_vocabulary(word) || self.literals.contains(word) || self.word_earned(word, place, caller));
        shown.then(|| SmolStr::new(word))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Earning;
    use super::*;

    #[test]
    fn names_are_hidden_unless_somebody_vouches_for_them() {
        let mut redactor = Redactor::new([3; 32], Earning::default());
        redactor.set_literals(&["LABSYS".into()]);
        assert_eq!(redactor.system(b"LABSYS"), "LABSYS");
        assert!(redactor.system(b"OTHER").starts_with("h:"));
        assert_eq!(redactor.subject(b"1"), redactor.subject(b"1"));
        assert_ne!(redactor.subject(b"1"), redactor.keyed(b"system", b"1"));
        assert_eq!(
            redactor.word("getPatient", "graphql", 1).as_deref(),
            Some("getPatient")
        );
        assert_eq!(redactor.word("johnDoe", "graphql", 1), None);
    }
}
