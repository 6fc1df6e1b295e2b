//! Path patterns: literal segments, `{name}` or `*` for one segment, `**` for the rest.
//!
//! A trailing slash is ignored, in patterns and in paths: most servers treat both alike, and a denial must not be
//! passed by adding one. Segments are compared byte by byte, in the canonical spelling of `reading`.

use smol_str::SmolStr;

use super::reading::literal;

/// Most segments of a pattern.
pub const SEGMENTS_MAX: usize = 32;

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    pub(super) segments: Vec<Segment>,
    /// It ends in `**`: anything may follow, also nothing.
    pub(super) rest: bool,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(SmolStr),
    /// Exactly one segment, not empty.
    One,
}

impl PathPattern {
    /// Reads a pattern; the error says what to write instead.
    pub fn parse(text: &str) -> Result<PathPattern, String> {
        let Some(rest_of_path) = text.strip_prefix('/') else {
            return Err(format!("start it with a slash: `/{text}`"));
        };
        if let Some(bad) = text
            .chars()
            .find(|c| c.is_control() || c.is_whitespace() || "?#".contains(*c))
        {
            return Err(match bad {
                '?' | '#' => format!("leave out `{bad}` and what follows: only the path is compared"),
                _ => "write unusual characters percent-encoded, as in `%20`".into(),
            });
        }
        let mut pattern = PathPattern {
            segments: Vec::new(),
            rest: false,
        };
        let trimmed = rest_of_path.strip_suffix('/').unwrap_or(rest_of_path);
        if trimmed.is_empty() {
            return Ok(pattern);
        }
        for segment in trimmed.split('/') {
            if pattern.rest {
                return Err("end it at `**`, which stands for all the rest".into());
            }
            if pattern.segments.len() == SEGMENTS_MAX {
                return Err(format!(
                    "use at most {SEGMENTS_MAX} segments, and `**` for the rest"
                ));
            }
            match segment {
                "" => return Err("write one slash between segments".into()),
                "." | ".." => {
                    return Err("write the path without dot segments: they are resolved before".into());
                }
                "**" => pattern.rest = true,
                "*" => pattern.segments.push(Segment::One),
                name if name.starts_with('{') && name.ends_with('}') && name.len() > 2 => {
                    if name.contains('*') || name.matches(['{', '}']).count() > 2 {
                        return Err("write one name in braces, such as `{id}`".into());
                    }
                    pattern.segments.push(Segment::One);
                }
                other if other.contains(['*', '{', '}']) => {
                    return Err("let a wildcard stand for a whole segment: `/*/` or `/{id}/`".into());
                }
                written => match literal(written) {
                    Some(literal) => pattern.segments.push(Segment::Literal(literal.into())),
                    None => return Err("write a percent sign as `%25`".into()),
                },
            }
        }
        Ok(pattern)
    }

    /// Does the pattern match this path? The plain way, which `index` is held against: it does the same for all patterns
    /// at once.
    #[cfg(test)]
    pub fn matches(&self, path: &str) -> bool {
        let mut segments = split(path);
        for wanted in &self.segments {
            match (segments.next(), wanted) {
                (Some(segment), Segment::Literal(literal)) if segment == literal.as_str() => {}
                (Some(segment), Segment::One) if !segment.is_empty() => {}
                _ => return false,
            }
        }
        self.rest || segments.next().is_none()
    }

    /// Does it match every path that the other one matches?
    pub fn covers(&self, other: &PathPattern) -> bool {
        let here = self.segments.len();
        if here > other.segments.len() || (!self.rest && (other.rest || here != other.segments.len())) {
            return false;
        }
        self.segments
            .iter()
            .zip(&other.segments)
            .all(|(mine, theirs)| match mine {
                Segment::One => true,
                Segment::Literal(_) => mine == theirs,
            })
    }

    /// Is there a path that both match?
    pub fn overlaps(&self, other: &PathPattern) -> bool {
        let fits = self.segments.iter().zip(&other.segments).all(|pair| match pair {
            (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
            _ => true,
        });
        let (mine, theirs) = (self.segments.len(), other.segments.len());
        fits && (mine == theirs || (mine < theirs && self.rest) || (theirs < mine && other.rest))
    }

    /// Its literal segments: words that redaction may show.
    pub fn literals(&self) -> impl Iterator<Item = &SmolStr> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(literal) => Some(literal),
            Segment::One => None,
        })
    }
}

/// The segments of a path, without the root and one trailing slash: `/` has none, `/a/` has one.
pub(super) fn split(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    (!path.is_empty()).then(|| path.split('/')).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a/", "/a", true),
            ("/a", "/A", false),
            ("/a", "/ab", false),
            ("/a", "/a/b", false),
            ("/a/{id}", "/a/b", true),
            ("/a/{id}", "/a/", false),
            ("/a/{id}", "/a", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a//c", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c/d", true),
            ("/a/**", "/ab", false),
            ("/**", "/", true),
            ("/**", "/x/y", true),
            ("/fhir/{type}/$export", "/fhir/Patient/$export", true),
            ("/fhir/{type}/$export", "/fhir/Patient/1/$export", false),
        ] {
            let parsed = PathPattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn what_cannot_be_a_pattern_says_what_to_write() {
        let table = [
            "fhir", "/a?b=c", "/a//b", "/a/../b", "/a/**/b", "/a/x*", "/a/{id}x", "/a/{a*}", "/a b", "/50%",
        ];
        let told: Vec<String> = table
            .iter()
            .map(|text| format!("{text} → {}", PathPattern::parse(text).expect_err(text)))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        fhir → start it with a slash: `/fhir`
        /a?b=c → leave out `?` and what follows: only the path is compared
        /a//b → write one slash between segments
        /a/../b → write the path without dot segments: they are resolved before
        /a/**/b → end it at `**`, which stands for all the rest
        /a/x* → let a wildcard stand for a whole segment: `/*/` or `/{id}/`
        /a/{id}x → let a wildcard stand for a whole segment: `/*/` or `/{id}/`
        /a/{a*} → write one name in braces, such as `{id}`
        /a b → write unusual characters percent-encoded, as in `%20`
        /50% → write a percent sign as `%25`
        "#);
    }

    #[test]
    fn broader_patterns_cover_narrower_ones() {
        for (broad, narrow, expected) in [
            ("/**", "/a/b", true),
            ("/a/**", "/a", true),
            ("/a/**", "/a/{x}/**", true),
            ("/a/{x}", "/a/b", true),
            ("/a/b", "/a/{x}", false),
            ("/a/{x}", "/a/**", false),
            ("/a/{x}", "/a/b/c", false),
        ] {
            let covers = PathPattern::parse(broad)
                .expect(broad)
                .covers(&PathPattern::parse(narrow).expect(narrow));
            assert_eq!(covers, expected, "{broad} over {narrow}");
        }
    }
}
