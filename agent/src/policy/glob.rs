//! Globs over file and cgroup paths: `?` and `*` within a component, `**` across components.
//!
//! A matcher of its own, because it runs for every call: no regular expression, no allocation.

/// Longest glob, in bytes. With the paths' own bound it keeps the worst case small.
pub const GLOB_BYTES_MAX: usize = 512;

/// A path pattern; without wildcards it is compared as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    literal: bool,
}

impl Glob {
    /// Reads a glob; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Glob, String> {
        if text.len() > GLOB_BYTES_MAX {
            return Err(format!("write at most {GLOB_BYTES_MAX} bytes"));
        }
        if !text.starts_with(['/', '*']) {
            return Err(format!(
                "start it with a slash or a wildcard: `/{text}` or `**/{text}`"
            ));
        }
        if text.contains(['[', '{', '\\']) {
            return Err("use only `*`, `**` and `?` as wildcards; write alternatives as a list".into());
        }
        Ok(Glob {
            text: text.to_owned(),
            literal: !text.contains(['*', '?']),
        })
    }

    /// The only path that it matches, if it has no wildcards.
    pub fn literal(&self) -> Option<&str> {
        self.literal.then_some(&self.text)
    }

    /// Does it match the whole path?
    pub fn matches(&self, path: &str) -> bool {
        if self.literal {
            self.text == path
        } else {
            matches(self.text.as_bytes(), path.as_bytes())
        }
    }
}

/// Backtracks to the last `*` and the last `**` only, so it takes at most pattern × path² steps.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    // Where to go on after a `*` or a `**` takes one byte more: (pattern, path).
    let mut star: Option<(usize, usize)> = None;
    let mut stars: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() {
            if pattern[p..].starts_with(b"**") {
                p += 2;
                while pattern.get(p) == Some(&b'*') {
                    p += 1;
                }
                stars = Some((p, s));
                star = None;
                continue;
            }
            if pattern[p] == b'*' {
                p += 1;
                star = Some((p, s));
                continue;
            }
            if s < path.len() && (pattern[p] == path[s] || (pattern[p] == b'?' && path[s] != b'/')) {
                p += 1;
                s += 1;
                continue;
            }
        } else if s == path.len() {
            return true;
        }
        match (star, stars) {
            (Some((next, from)), _) if from < path.len() && path[from] != b'/' => {
                star = Some((next, from + 1));
                (p, s) = (next, from + 1);
            }
            (_, Some((next, from))) if from < path.len() => {
                star = None;
                stars = Some((next, from + 1));
                (p, s) = (next, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_components_and_double_stars_do_not() {
        for (glob, path, expected) in [
            ("/usr/sbin/nginx", "/usr/sbin/nginx", true),
            ("/usr/sbin/nginx", "/usr/sbin/nginx2", false),
            ("/usr/*/nginx", "/usr/sbin/nginx", true),
            ("/usr/*/nginx", "/usr/local/sbin/nginx", false),
            ("/usr/**/nginx", "/usr/local/sbin/nginx", true),
            ("**/nginx", "/usr/sbin/nginx", true),
            ("/usr/bin/python3*", "/usr/bin/python3.11", true),
            ("/usr/bin/python?.*", "/usr/bin/python3.11", true),
            ("/kubepods.slice/**", "/kubepods.slice/pod1/c2", true),
            ("/kubepods.slice/**", "/system.slice/x", false),
            ("/a/**/b/*c", "/a/b/b/xc", true),
            ("/a*", "/", false),
            ("**", "", true),
        ] {
            assert_eq!(
                Glob::parse(glob).expect(glob).matches(path),
                expected,
                "{glob} on {path}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn the_matcher_agrees_with_the_plain_one(glob in "/[ab/*?]{0,8}", path in "/[ab/]{0,8}") {
            fn plain(p: &[u8], s: &[u8]) -> bool {
                match p.first() {
                    None => s.is_empty(),
                    Some(b'*') if p.get(1) == Some(&b'*') => {
                        let rest = &p[p.iter().take_while(|b| **b == b'*').count()..];
                        (0..=s.len()).any(|i| plain(rest, &s[i..]))
                    }
                    Some(b'*') => {
                        let end = s.iter().position(|b| *b == b'/').unwrap_or(s.len());
                        (0..=end).any(|i| plain(&p[1..], &s[i..]))
                    }
                    Some(b'?') => s.first().is_some_and(|b| *b != b'/') && plain(&p[1..], &s[1..]),
                    Some(b) => s.first() == Some(b) && plain(&p[1..], &s[1..]),
                }
            }
            let parsed = Glob::parse(&glob).expect("a glob");
            proptest::prop_assert_eq!(parsed.matches(&path), plain(glob.as_bytes(), path.as_bytes()));
        }
    }
}
