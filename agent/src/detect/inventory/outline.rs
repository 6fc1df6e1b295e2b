//! Bodies of an endpoint's first calls, and of some later ones → their keys, and what is at each: what a schema is made of.
//!
//! Keys that may not be shown are counted, and what is below them is not looked at. Never a value: only what it looks like.

use smol_str::{SmolStr, format_smolstr};

use crate::call::{ApiCall, Container, Content, ContentLimits, Field, Format, Part, Shape, Sink, ValueType};

/// Keys of one body that are told apart.
const NODES_MAX: usize = 96;
/// Keys of one endpoint.
const FIELDS_MAX: usize = 256;
/// Levels.
const DEPTH_MAX: usize = 12;
/// Bodies of one part that are looked at before only every [`LATER_NTH`] call's is.
const FIRST: u32 = 32;
const LATER_NTH: u64 = 64;
/// Longer values are looked at in no form.
const VALUE_BYTES_MAX: usize = 64;

/// What is seen at a key, a bit each, as JSON Schema names types and formats.
pub const KINDS: [&str; 10] = [
    "object", "array", "string", "integer", "number", "boolean", "null", "uuid", "date", "email",
];
const OBJECT: u16 = 1;
const ARRAY: u16 = 1 << 1;
const STRING: u16 = 1 << 2;
const INTEGER: u16 = 1 << 3;
const NUMBER: u16 = 1 << 4;
const BOOLEAN: u16 = 1 << 5;
const NULL: u16 = 1 << 6;
const UUID: u16 = 1 << 7;
const DATE: u16 = 1 << 8;
const EMAIL: u16 = 1 << 9;

/// One key of an endpoint's bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyField {
    /// [`Part::RequestBody`] or [`Part::ResponseBody`].
    pub part: Part,
    /// `$.entry[].resource.id`; every key in it may be shown.
    pub location: SmolStr,
    /// Of [`KINDS`].
    pub kinds: u16,
    /// Bodies that had it, of those that were looked at.
    pub calls: u64,
    /// Every object that it could be in had it.
    pub always: bool,
}

impl BodyField {
    /// By name.
    pub fn kind_names(&self) -> impl Iterator<Item = &'static str> {
        let kinds = self.kinds;
        let named = KINDS.into_iter().enumerate();
        named.filter_map(move |(bit, name)| (kinds >> bit & 1 == 1).then_some(name))
    }

    /// As it was told before.
    pub fn kept(part: Part, location: SmolStr, names: &[String], calls: u64, always: bool) -> Self {
        let kinds = KINDS
            .iter()
            .enumerate()
            .filter(|(_, kind)| names.iter().any(|name| name == *kind))
            .fold(0, |kinds, (bit, _)| kinds | 1 << bit);
        BodyField {
            part,
            location,
            kinds,
            calls,
            always,
        }
    }
}

/// The keys of both bodies of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct BodyFields {
    pub list: Vec<BodyField>,
    /// Bodies that were looked at: requests', responses'.
    pub bodies: [u64; 2],
    /// Keys that may not be shown, or found no room.
    pub others: u64,
}

impl BodyFields {
    /// Looks at a call's bodies, if it is their turn; `calls`: of the endpoint so far, `room`: for how many keys more there
    /// is. Returns how many are new.
    pub(super) fn look(
        &mut self,
        call: &ApiCall,
        calls: u64,
        room: usize,
        shows: &mut dyn FnMut(&[u8]) -> bool,
    ) -> usize {
        let before = self.list.len();
        let raw = &call.raw;
        let answer = call.response.as_ref();
        for (part, bytes, media, truncated) in [
            (
                Part::RequestBody,
                &raw.request_body,
                &call.request.body.media_type,
                call.request.body.truncated,
            ),
            (
                Part::ResponseBody,
                &raw.response_body,
                answer.map_or(&call.request.body.media_type, |answer| &answer.body.media_type),
                answer.is_none_or(|answer| answer.body.truncated),
            ),
        ] {
            let seen = &mut self.bodies[usize::from(part == Part::ResponseBody)];
            let turn = *seen < u64::from(FIRST) || calls.is_multiple_of(LATER_NTH);
            if !turn || truncated || bytes.is_empty() || !media.ends_with("json") {
                continue;
            }
            *seen += 1;
            let is_first = *seen == 1;
            let mut outline = Outline {
                shows,
                nodes: Vec::new(),
                open: Vec::new(),
                others: 0,
            };
            let content = Content {
                bytes,
                content_type: media.as_bytes(),
                content_encoding: b"",
                message: None,
                truncated: false,
            };
            content.visit(&ContentLimits::default(), &mut outline);
            let Outline { nodes, others, .. } = outline;
            self.others += others;
            let room = room.saturating_sub(self.list.len() - before);
            let room = room.min(FIELDS_MAX.saturating_sub(self.list.len()));
            self.add(part, &nodes, is_first, room);
        }
        self.list.len() - before
    }

    fn add(&mut self, part: Part, nodes: &[Node], is_first: bool, room: usize) {
        let start = self.list.len();
        let mut ways: Vec<SmolStr> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let way = match (ways.get(node.parent), node.name.as_str()) {
                (None, _) => SmolStr::new_static("$"),
                (Some(parent), "") => format_smolstr!("{parent}[]"),
                (Some(parent), name) => format_smolstr!("{parent}.{name}"),
            };
            let always = nodes
                .get(node.parent)
                .is_none_or(|parent| node.name.is_empty() || node.seen >= parent.objects);
            let mut known = self.list.iter().take(start);
            let known = known.position(|one| one.part == part && one.location == way);
            match known {
                Some(at) => {
                    let known = &mut self.list[at];
                    known.kinds |= node.kinds;
                    known.calls += 1;
                    known.always &= always;
                }
                None if self.list.len() - start < room => self.list.push(BodyField {
                    part,
                    location: way.clone(),
                    kinds: node.kinds,
                    calls: 1,
                    always: always && is_first,
                }),
                None => self.others += 1,
            }
            ways.push(way);
        }
        // What could have been there and was not.
        let could = |location: &str| {
            let around = location.rfind(['.', '[']).and_then(|at| location.get(..at));
            let object = |around| ways.iter().position(|way| way == around).map(|at| &nodes[at]);
            around.and_then(object).is_some_and(|node| node.objects > 0)
        };
        for one in self.list.iter_mut().take(start) {
            if one.part == part && one.always && !ways.contains(&one.location) && could(&one.location) {
                one.always = false;
            }
        }
    }

    /// Two endpoints turned out to be one.
    pub(super) fn merge(&mut self, other: BodyFields) {
        let bodies = |fields: &BodyFields, part| fields.bodies[usize::from(part == Part::ResponseBody)];
        for one in &mut self.list {
            let lacks = !other
                .list
                .iter()
                .any(|more| more.part == one.part && more.location == one.location);
            one.always &= !lacks || bodies(&other, one.part) == 0;
        }
        self.others += other.others;
        for more in other.list {
            let same = |one: &BodyField| one.part == more.part && one.location == more.location;
            match self.list.iter().position(same) {
                Some(at) => {
                    let one = &mut self.list[at];
                    one.kinds |= more.kinds;
                    one.calls += more.calls;
                    one.always &= more.always;
                }
                None if self.list.len() < FIELDS_MAX => {
                    let always = more.always && bodies(self, more.part) == 0;
                    self.list.push(BodyField { always, ..more });
                }
                None => self.others += 1,
            }
        }
        for (bodies, more) in self.bodies.iter_mut().zip(other.bodies) {
            *bodies += more;
        }
    }
}

struct Node {
    /// Of the first one: none.
    parent: usize,
    /// Empty: an array's items, or the root.
    name: SmolStr,
    kinds: u16,
    seen: u32,
    objects: u32,
}

/// One body.
struct Outline<'a> {
    shows: &'a mut dyn FnMut(&[u8]) -> bool,
    nodes: Vec<Node>,
    /// `None`: in what is not looked at.
    open: Vec<Option<usize>>,
    others: u64,
}

impl Outline<'_> {
    fn node(&mut self, name: &[u8]) -> Option<usize> {
        let parent = match self.open.last() {
            None => usize::MAX,
            Some(parent) => (*parent)?,
        };
        let name = match name {
            b"" => "",
            name => {
                let is_way = !name.iter().any(|byte| matches!(byte, b'.' | b'[' | b']' | b'$'));
                let text = std::str::from_utf8(name)
                    .ok()
                    .filter(|_| is_way && (self.shows)(name));
                match text {
                    Some(text) => text,
                    None => {
                        self.others += 1;
                        return None;
                    }
                }
            }
        };
        let known = self
            .nodes
            .iter()
            .position(|node| node.parent == parent && node.name == name);
        let at = match known {
            Some(at) => at,
            None if self.nodes.len() < NODES_MAX && self.open.len() < DEPTH_MAX => {
                self.nodes.push(Node {
                    parent,
                    name: SmolStr::new(name),
                    kinds: 0,
                    seen: 0,
                    objects: 0,
                });
                self.nodes.len() - 1
            }
            None => {
                self.others += 1;
                return None;
            }
        };
        self.nodes[at].seen = self.nodes[at].seen.saturating_add(1);
        Some(at)
    }
}

impl Sink for Outline<'_> {
    fn open(&mut self, name: &[u8], container: Container) {
        let at = self.node(name);
        if let Some(at) = at {
            let node = &mut self.nodes[at];
            match container {
                Container::Array => node.kinds |= ARRAY,
                Container::Object | Container::Element => {
                    node.kinds |= OBJECT;
                    node.objects = node.objects.saturating_add(1);
                }
            }
        }
        self.open.push(at);
    }

    fn close(&mut self) {
        self.open.pop();
    }

    fn value(&mut self, name: &[u8], kind: ValueType, value: &[u8]) {
        if let Some(at) = self.node(name) {
            self.nodes[at].kinds |= kind_of(kind, value);
        }
    }

    fn segment(&mut self, _: Format, _: &[u8]) {}

    fn field(&mut self, _: Field<'_>, _: &[u8]) {}
}

fn kind_of(kind: ValueType, value: &[u8]) -> u16 {
    match kind {
        ValueType::Number if value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') => INTEGER,
        ValueType::Number => NUMBER,
        ValueType::Word if value == b"null" => NULL,
        ValueType::Word => BOOLEAN,
        ValueType::Bytes => STRING,
        ValueType::Text if value.len() > VALUE_BYTES_MAX => STRING,
        ValueType::Text => match std::str::from_utf8(value).map(Shape::value) {
            Ok(Shape::Uuid) => UUID,
            Ok(Shape::Date) => DATE,
            Ok(Shape::Email) => EMAIL,
            _ => STRING,
        },
    }
}
