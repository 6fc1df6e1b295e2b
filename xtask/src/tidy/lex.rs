//! Rust source → identifiers and punctuation with their lines: as much of the language as a check of paths needs.
//!
//! Strings, characters, numbers and comments are dropped, so that no rule fires on text. A full parser would say
//! no more here and cost every build its compilation.

/// One identifier or one punctuation character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
}

/// Splits source into tokens. Never fails: what it cannot read it skips, rustc says the rest.
pub fn lex(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        source,
        at: 0,
        line: 1,
        tokens: Vec::new(),
    };
    while lexer.at < source.len() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Moves over `bytes` and counts their lines.
    fn skip(&mut self, bytes: usize) {
        let end = (self.at + bytes).min(self.source.len());
        self.line += self.source[self.at..end].matches('\n').count();
        self.at = end;
    }

    fn push(&mut self, bytes: usize) {
        let text = &self.source[self.at..self.at + bytes];
        self.tokens.push(Token {
            text,
            line: self.line,
        });
        self.at += bytes;
    }

    fn step(&mut self) {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return };
        if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(block_comment_len(rest));
        } else if let Some(len) = string_len(rest) {
            self.skip(len);
        } else if first == '\'' {
            self.skip(quote_len(rest));
        } else if is_start(first) {
            // A raw identifier is the identifier behind `r#`.
            if let Some(raw) = rest.strip_prefix("r#").filter(|raw| raw.starts_with(is_start)) {
                self.at += 2;
                self.push(word_len(raw));
            } else {
                self.push(word_len(rest));
            }
        } else if first.is_ascii_digit() {
            self.skip(word_len(rest));
        } else if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else {
            self.push(first.len_utf8());
        }
    }
}

fn is_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn word_len(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len())
}

fn block_comment_len(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a string literal of any kind at the start, with its prefix.
fn string_len(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|tail| {
            let tail = if prefix.ends_with('r') {
                tail.trim_start_matches('#')
            } else {
                tail
            };
            tail.starts_with('"')
        })
    })?;
    let tail = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = tail.len() - tail.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix.len() + hashes + 1;
        return Some(
            rest[body..]
                .find(&end)
                .map_or(rest.len(), |len| body + len + end.len()),
        );
    }
    let mut escaped = false;
    for (at, c) in tail.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// Length of a character literal, or of a lifetime, at the start.
fn quote_len(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // Over the escaped character, which may be a quote.
            chars.next();
            chars
                .find(|(_, c)| *c == '\'')
                .map_or(rest.len(), |(at, _)| at + 1)
        }
        Some((_, _)) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1 + word_len(&rest[1..]).max(1),
        },
        None => rest.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::lex;

    fn words(source: &str) -> String {
        lex(source)
            .iter()
            .map(|token| token.text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn text_is_dropped_and_code_is_kept() {
        for (source, expected) in [
            ("use a::b; // std::fs", "use a : : b ;"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"f("std::fs \" x", b"y", 'z', '\'', '"')"#, "f ( , , , , )"),
            (r##"r#"un"safe"# + r#type"##, "+ type"),
            ("fn f<'a>(x: &'a str)", "fn f < > ( x : & str )"),
            ("0x1f + 1_000u64 .. 2", "+ . ."),
            ("b'x' cr\"q\" br#\"w\"#", "b"),
        ] {
            assert_eq!(words(source), expected, "{source}");
        }
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let tokens = lex("/* 1\n2 */ \"\n3\" a\n// 4\nb");
        assert_eq!(tokens.iter().map(|token| token.line).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn broken_source_ends() {
        for source in ["\"", "'", "r#\"", "/*", "'\\", "b'", "ä'ö"] {
            lex(source);
        }
    }
}
