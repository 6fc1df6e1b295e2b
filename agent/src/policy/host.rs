//! Host patterns: a name as it is, or `*.name` for every name below it.

use smol_str::SmolStr;

/// A list of hosts, or all but those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    pub(super) patterns: Vec<HostPattern>,
    pub(super) not: bool,
}

/// One pattern, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Exact(SmolStr),
    /// With the leading dot; it does not match the name itself.
    Below(SmolStr),
}

impl Hosts {
    /// A call without a host (HTTP/1.0) is to none of the hosts listed: that is known, not guessed.
    pub(super) fn has(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.patterns.iter().any(|pattern| pattern.matches(host)) != self.not
    }

    /// The names that are written out, listed or excepted.
    pub(super) fn names(&self) -> impl Iterator<Item = &SmolStr> {
        self.patterns.iter().filter_map(|pattern| match pattern {
            HostPattern::Exact(name) => Some(name),
            HostPattern::Below(_) => None,
        })
    }

    /// Does it have every host that the other one has? `false` where that is hard to tell.
    pub(super) fn covers(&self, other: &Hosts) -> bool {
        let within = |inner: &[HostPattern], outer: &[HostPattern]| {
            inner
                .iter()
                .all(|narrow| outer.iter().any(|wide| wide.covers(narrow)))
        };
        match (self.not, other.not) {
            (false, false) => within(&other.patterns, &self.patterns),
            (true, true) => within(&self.patterns, &other.patterns),
            _ => false,
        }
    }
}

impl HostPattern {
    /// Reads a pattern; the error says what to write instead.
    pub fn parse(text: &str) -> Result<HostPattern, String> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        if text.contains("://") || text.contains('/') {
            return Err("write the host's name alone, without scheme and path".into());
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err("write `*.` in front only: `*.example.com`".into());
        }
        let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        if let Some(v6) = v6 {
            return match v6.parse::<std::net::Ipv6Addr>() {
                Ok(_) if !below => Ok(HostPattern::Exact(name.into())),
                _ => Err("write an IPv6 address in brackets: `[2001:db8::1]`".into()),
            };
        }
        if name.contains(':') {
            return Err("write the host without a port".into());
        }
        let fits = !name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !fits {
            return Err("write a host's name such as `api.example.com`".into());
        }
        Ok(if below {
            HostPattern::Below(format!(".{name}").into())
        } else {
            HostPattern::Exact(name.into())
        })
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => host == name,
            HostPattern::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }

    fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Exact(mine), HostPattern::Exact(theirs)) => mine == theirs,
            (HostPattern::Exact(_), HostPattern::Below(_)) => false,
            (HostPattern::Below(_), HostPattern::Exact(theirs)) => self.matches(theirs),
            (HostPattern::Below(mine), HostPattern::Below(theirs)) => theirs.ends_with(mine.as_str()),
        }
    }
}
