//! Tokens → every path that a file names, in full, with the place where it is named.
//!
//! `use` groups are spelled out and `self`, `super` resolved, so that a rule sees `crate::call::ApiCall` however
//! it was written. Code for tests is marked: what the rules forbid there is less.

use super::lex::Token;

/// A path as named somewhere, e.g. `["crate", "call", "ApiCall"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
    pub in_test: bool,
}

impl Named {
    /// As one would write it.
    pub fn display(&self) -> String {
        self.segments.join("::")
    }

    /// Whether it is this path or one below it.
    pub fn is_under(&self, path: &[&str]) -> bool {
        self.segments.len() >= path.len() && path.iter().zip(&self.segments).all(|(a, b)| a == b)
    }
}

/// Lists the paths of a file. `module` is the file's own path below the crate, e.g. `["call", "redact"]`;
/// `in_test` says that the whole file is test code.
pub fn paths(tokens: &[Token<'_>], module: &[String], in_test: bool) -> Vec<Named> {
    let mut walk = Walk {
        tokens,
        module: module.to_vec(),
        scopes: Vec::new(),
        test_next: false,
        found: Vec::new(),
    };
    let mut at = 0;
    while at < tokens.len() {
        at = walk.step(at, in_test);
    }
    walk.found
}

/// An open brace.
struct Scope {
    /// It is an inline module, which `super` leaves.
    is_module: bool,
    in_test: bool,
}

struct Walk<'a> {
    tokens: &'a [Token<'a>],
    module: Vec<String>,
    scopes: Vec<Scope>,
    /// `#[cfg(test)]` or `#[test]` was read, and the item it belongs to has not opened its brace yet.
    test_next: bool,
    found: Vec<Named>,
}

impl Walk<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn is_word(&self, at: usize) -> bool {
        self.text(at).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    fn is_double_colon(&self, at: usize) -> bool {
        self.text(at) == ":" && self.text(at + 1) == ":"
    }

    /// Looks at one token, or at one path, and returns where to go on.
    fn step(&mut self, at: usize, file_is_test: bool) -> usize {
        let in_test = file_is_test || self.test_next || self.scopes.iter().any(|scope| scope.in_test);
        match self.text(at) {
            "#" if self.text(at + 1) == "[" => {
                let words: Vec<&str> = (at + 2..at + 6).map(|at| self.text(at)).collect();
                if words.starts_with(&["test"]) || words.starts_with(&["cfg", "(", "test", ")"]) {
                    self.test_next = true;
                }
                return at + 2;
            }
            "{" => {
                let is_module = at >= 2 && self.text(at - 2) == "mod";
                if is_module {
                    let name = self.text(at - 1).to_owned();
                    self.module.push(name);
                }
                self.scopes.push(Scope {
                    is_module,
                    in_test: self.test_next,
                });
                self.test_next = false;
            }
            "}" => {
                let closed = self.scopes.pop();
                if closed.is_some_and(|scope| scope.is_module) {
                    self.module.pop();
                }
            }
            // An item without a brace (`mod tests;`, `use …;`) ends here.
            ";" => self.test_next = false,
            _ if self.is_word(at) => return self.path(at, Vec::new(), in_test),
            _ => {}
        }
        at + 1
    }

    /// Reads a path, or one branch of a group, that starts at `at` behind `prefix`.
    fn path(&mut self, mut at: usize, prefix: Vec<String>, in_test: bool) -> usize {
        let line = self.tokens[at].line;
        let mut segments = prefix;
        loop {
            if self.is_word(at) {
                segments.push(self.text(at).to_owned());
                at += 1;
                if self.is_double_colon(at) {
                    at += 2;
                    continue;
                }
                if self.text(at) == "as" && self.is_word(at + 1) && segments.len() > 1 {
                    at += 2;
                }
            } else if self.text(at) == "*" {
                segments.push("*".to_owned());
                at += 1;
            } else if self.text(at) == "{" {
                return self.group(at, &segments, in_test);
            }
            break;
        }
        if segments.last().is_some_and(|last| last == "self") && segments.len() > 1 {
            segments.pop();
        }
        self.found.push(Named {
            segments: self.resolve(segments),
            line,
            in_test,
        });
        at
    }

    fn group(&mut self, mut at: usize, prefix: &[String], in_test: bool) -> usize {
        at += 1;
        while at < self.tokens.len() && self.text(at) != "}" {
            if self.is_word(at) || self.text(at) == "*" {
                at = self.path(at, prefix.to_vec(), in_test);
            } else {
                at += 1;
            }
        }
        at + 1
    }

    /// `self` and `super` at the front become `crate::…`.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let mut base = self.module.clone();
        let mut rest = segments.as_slice();
        match rest.first().map(String::as_str) {
            // A lone `self` is a receiver.
            Some("self") if rest.len() > 1 => rest = &rest[1..],
            Some("super") => {
                while let Some(("super", tail)) =
                    rest.split_first().map(|(first, tail)| (first.as_str(), tail))
                {
                    base.pop();
                    rest = tail;
                }
            }
            _ => return segments,
        }
        std::iter::once("crate".to_owned())
            .chain(base)
            .chain(rest.iter().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::*;

    fn named(source: &str) -> Vec<String> {
        let tokens = lex(source);
        paths(&tokens, &["call".to_owned(), "redact".to_owned()], false)
            .into_iter()
            .filter(|named| named.segments.len() > 1)
            .map(|named| {
                format!(
                    "{}{}",
                    named.display(),
                    if named.in_test { " (test)" } else { "" }
                )
            })
            .collect()
    }

    #[test]
    fn paths_are_spelled_out() {
        for (source, expected) in [
            (
                "use crate::call::{ApiCall, Phase as P};",
                vec!["crate::call::ApiCall", "crate::call::Phase"],
            ),
            (
                "use crate::{capture::{self, Segment}, flow::*};",
                vec!["crate::capture", "crate::capture::Segment", "crate::flow::*"],
            ),
            (
                "use super::{Raw, CallId};",
                vec!["crate::call::Raw", "crate::call::CallId"],
            ),
            (
                "fn f() { super::super::flow::Chunk::new(std::fs::read(x)) }",
                vec!["crate::flow::Chunk::new", "std::fs::read"],
            ),
            (
                "fn f(&self) { self.x; x as u32; let y: Vec<a::B> = c::<D>::e(); }",
                vec!["a::B"],
            ),
            (
                "mod inner { use super::X; } use self::Y;",
                vec!["crate::call::redact::X", "crate::call::redact::Y"],
            ),
        ] {
            assert_eq!(named(source), expected, "{source}");
        }
    }

    #[test]
    fn code_for_tests_is_marked() {
        let source = "use a::b; #[cfg(test)] mod tests { use c::d; fn f() { e::f() } } \
                      #[cfg(test)] use g::h; use i::j; #[cfg(not(test))] use k::l; #[test] fn t() { m::n(); } o::p";
        assert_eq!(
            named(source),
            [
                "a::b",
                "c::d (test)",
                "e::f (test)",
                "g::h (test)",
                "i::j",
                "k::l",
                "m::n (test)",
                "o::p"
            ]
        );
    }
}
