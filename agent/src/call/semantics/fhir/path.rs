//! The path of a FHIR request, whatever stands before it: `…/Patient/1/Observation`.
//!
//! The base is what is left in front of the last type that has a FHIR tail behind it. It must not decide whether it is
//! FHIR at all: it says what speaks for it.

use std::sync::LazyLock;

use hashbrown::HashSet;

use crate::call::semantics::contains;

/// Segments that are looked at, from the end: no path of FHIR is longer behind its base.
const TAIL_MAX: usize = 8;

static TYPES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("../fhir_types.txt")
        .split_ascii_whitespace()
        .collect()
});

/// Types that have a compartment (FHIR R4 and R5, "Compartments").
const COMPARTMENTS: &[&str] = &[
    "Patient",
    "Encounter",
    "RelatedPerson",
    "Practitioner",
    "Device",
    "EpisodeOfCare",
    "Group",
];

/// What the part behind the base asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// Nothing behind the base, or nothing that is known.
    Base,
    Capabilities,
    Type,
    Instance,
    Version,
    History,
    /// `_search`
    Search,
    Operation(&'a str),
    /// `Patient/1/Observation`: in the compartment of this type, resources of `kind`.
    Compartment(&'static str, &'a str),
}

/// A path, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub shape: Shape<'a>,
    kind: &'static str,
    /// The instance's id.
    pub id: Option<&'a str>,
    /// A segment of the base is FHIR's: `fhir`, `r4` …
    marked: bool,
}

impl<'a> Target<'a> {
    /// The type that it is about; empty: none, or all.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The type and id of the compartment.
    pub(super) fn compartment(&self) -> Option<(&'static str, &'a str)> {
        match self.shape {
            Shape::Compartment(of, id) => Some((of, id)),
            _ => None,
        }
    }

    /// The patient that the path names.
    pub(super) fn patient(&self) -> Option<&'a str> {
        match self.shape {
            Shape::Compartment(of, id) => (of == "Patient").then_some(id),
            _ if self.kind == "Patient" => self.id,
            _ => None,
        }
    }

    /// It has FHIR's shape, which others may have as well.
    pub(super) fn is_shaped(&self) -> bool {
        self.shape != Shape::Base || self.marked
    }

    /// Nobody else has such paths.
    pub(super) fn is_unmistakable(&self) -> bool {
        let own_word = match self.shape {
            Shape::Base => false,
            Shape::Capabilities => self.marked,
            Shape::Operation(name) => !self.kind.is_empty() || super::OPERATIONS.contains(&name),
            Shape::Version | Shape::History | Shape::Search => !self.kind.is_empty(),
            Shape::Compartment(..) => true,
            Shape::Type | Shape::Instance => has_words(self.kind),
        };
        own_word || (self.marked && self.shape != Shape::Base)
    }
}

/// Takes a path (in normal form) apart.
pub(super) fn target(path: &str) -> Target<'_> {
    let segments = || crate::call::Segments::of(path).filter(|segment| !segment.is_empty());
    let mut marked = false;
    let mut count = 0usize;
    for segment in segments() {
        marked |= is_marker(segment);
        count += 1;
    }
    let mut tail = [""; TAIL_MAX];
    for (place, segment) in tail
        .iter_mut()
        .zip(segments().skip(count.saturating_sub(TAIL_MAX)))
    {
        *place = segment;
    }
    let segments = &tail[..count.min(TAIL_MAX)];
    let mut found = Target {
        shape: Shape::Base,
        kind: "",
        id: None,
        marked,
    };
    // The first type whose tail is one of FHIR's: a type that stands as an id or in the base has none.
    for at in 0..segments.len() {
        let Some(kind) = known_type(segments[at]) else {
            continue;
        };
        let tail = &segments[at + 1..];
        if let Some((shape, id)) = shape(kind, tail) {
            if let Shape::Compartment(..) = shape {
                found.kind = tail
                    .get(1)
                    .and_then(|kind| TYPES.get(*kind).copied())
                    .unwrap_or_default();
            } else {
                found.kind = kind;
            }
            found.shape = shape;
            found.id = id;
            return found;
        }
    }
    match segments {
        [.., "metadata"] => found.shape = Shape::Capabilities,
        [.., "_history"] => found.shape = Shape::History,
        [.., "_search"] => found.shape = Shape::Search,
        [.., last] => {
            if let Some(name) = last.strip_prefix('$') {
                found.shape = Shape::Operation(name);
            }
        }
        [] => {}
    }
    found
}

fn shape<'a>(kind: &'static str, tail: &[&'a str]) -> Option<(Shape<'a>, Option<&'a str>)> {
    if let [of @ .., last] = tail
        && let Some(name) = last.strip_prefix('$')
    {
        let id = match of {
            [] => None,
            [id] if is_id(id) => Some(*id),
            [id, "_history", version] if is_id(id) && is_id(version) => Some(*id),
            _ => return None,
        };
        return Some((Shape::Operation(name), id));
    }
    Some(match tail {
        [] => (Shape::Type, None),
        ["_search"] => (Shape::Search, None),
        ["_history"] => (Shape::History, None),
        [id] if is_id(id) => (Shape::Instance, Some(*id)),
        [id, "_history"] if is_id(id) => (Shape::History, Some(*id)),
        [id, "_history", version] if is_id(id) && is_id(version) => (Shape::Version, Some(*id)),
        [id, inner] | [id, inner, "_search"]
            if is_id(id) && COMPARTMENTS.contains(&kind) && (*inner == "*" || TYPES.contains(inner)) =>
        {
            (Shape::Compartment(kind, id), Some(*id))
        }
        _ => return None,
    })
}

/// An id of FHIR (`[A-Za-z0-9\-\.]{1,64}`); servers take underscores as well.
fn is_id(segment: &str) -> bool {
    (1..=64).contains(&segment.len())
        && !segment.starts_with('_')
        && segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// The type, if it is one.
pub(super) fn known_type(name: &str) -> Option<&'static str> {
    // They all begin with a capital letter; most segments of paths do not.
    name.as_bytes()
        .first()
        .filter(|first| first.is_ascii_uppercase())?;
    TYPES.get(name).copied()
}

/// `MedicationRequest`, not `Account`: two words run together are no other application's resource.
pub(super) fn has_words(kind: &str) -> bool {
    kind.bytes().filter(u8::is_ascii_uppercase).count() > 1
}

fn is_marker(segment: &str) -> bool {
    const VERSIONS: &[&str] = &[
        "r4",
        "r4b",
        "r5",
        "stu3",
        "dstu2",
        "baser4",
        "baser4b",
        "baser5",
        "basedstu3",
    ];
    let bytes = segment.as_bytes();
    let is_version = bytes.len() <= 9
        && matches!(
            bytes.first(),
            Some(b'r' | b'R' | b's' | b'S' | b'd' | b'D' | b'b' | b'B')
        )
        && VERSIONS.iter().any(|known| segment.eq_ignore_ascii_case(known));
    is_version || contains(bytes, "fhir")
}
