//! The values of a call → what is personal in them. [`Scanner`] is kept from call to call: its tables and its memory of
//! keys are built once.
//!
//! A value is told by its place first (`fhir`, `segments`, `keys`) and by itself only where the place says nothing
//! (`text`). What depends on a neighbour (`system` and `value`, a name beside a date of birth) waits until its object
//! ends. It must not know calls or policy.

use std::sync::Arc;

use hashbrown::HashSet;
use smol_str::SmolStr;

use super::class::{Class, DETECTORS, Group};
use super::fhir::{self, Element, Resource};
use super::hits::{Hit, Hits, Told};
use super::keys::{ClassId, Key, Keys, Names, Owner, Role, Says};
use super::segments::Hl7;
use super::settings::{OWN_CLASSES_MAX, PhiSettings};
use super::text::{Around, Found, Own, Text};
use crate::call::{
    Container, Content, ContentLimits, Data, Evidence, Field, Format, KeyedHash, Part, Schema, Segments,
    Sink, ValueType, Visited,
};

mod called;
mod elements;
mod embedded;
mod frame;
mod groups;
mod header;
mod labels;
mod look;
mod pairs;
mod place;
mod segment;
mod settle;
mod tables;

use frame::{Frame, Held, Late, Personal, Slot};
use groups::{group_of, personal};
use segment::Segment;
use tables::Tables;

/// Bytes of a value that is held until its object ends.
const HELD_BYTES_MAX: usize = 128;
/// Words before a `#`, and questions, that are looked up in one body: any may stand there.
const SIGNS_MAX: u16 = 1024;
/// Values that are held at a time, of all open objects.
const HELD_LEN_MAX: usize = 1024;
/// Resources and extensions whose type stood behind their data, in one body.
const LATE_LEN_MAX: usize = 4096;
/// A text longer than this is looked at in its beginning.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Finds personal data. Has no `Debug`: it remembers keys that peers chose.
pub struct Scanner {
    limits: ContentLimits,
    schema: Option<Arc<Schema>>,
    walk: Walk,
}

struct Walk {
    keys: Keys,
    text: Text,
    /// What the text that is looked at holds; its memory is kept.
    found: Vec<Found>,
    /// Words of paths that may be shown besides the shipped ones.
    literals: HashSet<String>,
    /// Keys that may: these words, and the names of the schema's fields.
    shown: HashSet<String>,
    hits: Hits,
    part: Part,
    frames: Vec<Frame>,
    /// Names of open containers that may be shown.
    names: Vec<u8>,
    /// Values that wait for their object's end.
    arena: Vec<u8>,
    held: Vec<Held>,
    segment: Segment,
    /// Of contents within values: how deep this is in them, and bytes that may still be looked into.
    embedded_levels: u8,
    embedded_left: usize,
    /// Values so far, to tell whether there were any.
    values_seen: u32,
    /// Words before a `#` that were looked up.
    signs: u16,
    /// What was told last.
    told: Option<ClassId>,
    /// The reference to the subject that came last.
    subject: Vec<u8>,
    /// Values are FHIR's search parameters.
    searching: bool,
    ordinal: u32,
    /// The document says at its root that it describes an API, or data.
    describes: bool,
    /// Places that were not told, by the depth of the object that they are in, and their ordinals.
    unplaced: Vec<(usize, u32)>,
    /// By the ordinal of the object that it is about.
    late: Vec<(u32, Late)>,
    late_known: Vec<(u32, Late)>,
    tables: Tables,
}

impl Scanner {
    /// `key`: the agent's own. The error says which of the configuration's patterns cannot be used.
    pub fn new(settings: &PhiSettings, key: [u8; 32], literals: &[String]) -> Result<Scanner, String> {
        let mut classes: Vec<Told> = DETECTORS
            .iter()
            .map(|detector| Told {
                name: SmolStr::new_static(detector.name),
                identifies: detector.identifies,
                off: settings.off.iter().any(|off| off == detector.name),
            })
            .collect();
        let mut class_of = |name: &str| -> Result<ClassId, String> {
            if let Some(at) = classes.iter().position(|class| class.name == name) {
                return Ok(at as ClassId);
            }
            if classes.len() >= DETECTORS.len() + OWN_CLASSES_MAX {
                return Err(format!("more than {OWN_CLASSES_MAX} classes of one's own"));
            }
            classes.push(Told {
                name: SmolStr::new(name),
                identifies: true,
                off: settings.off.iter().any(|off| off == name),
            });
            Ok((classes.len() - 1) as ClassId)
        };
        let mut own_keys = Vec::new();
        for (name, class) in &settings.keys {
            own_keys.push((name.clone(), class_of(class)?));
        }
        let mut patterns = Vec::new();
        for pattern in &settings.patterns {
            let regex = super::settings::build(&pattern.regex)
                .map_err(|error| format!("the pattern of `{}`: {error}", pattern.class))?;
            patterns.push(Own {
                class: class_of(&pattern.class)?,
                regex,
                words: pattern.words.iter().map(|word| word.to_lowercase()).collect(),
            });
        }
        Ok(Scanner {
            limits: ContentLimits::default(),
            schema: None,
            walk: Walk {
                keys: Keys::new(Arc::new(Names::new(&own_keys))),
                text: Text::new(patterns)?,
                found: Vec::new(),
                literals: literals.iter().cloned().collect(),
                shown: literals.iter().cloned().collect(),
                hits: Hits::new(KeyedHash::new(key), classes),
                part: Part::RequestBody,
                frames: Vec::new(),
                names: Vec::new(),
                arena: Vec::new(),
                held: Vec::new(),
                segment: Segment::default(),
                embedded_levels: 0,
                embedded_left: 0,
                values_seen: 0,
                signs: 0,
                told: None,
                subject: Vec::new(),
                searching: false,
                ordinal: 0,
                describes: false,
                unplaced: Vec::new(),
                late: Vec::new(),
                late_known: Vec::new(),
                tables: Tables::default(),
            },
        })
    }

    /// Replaces the keys that may be shown besides shipped words.
    pub fn set_literals(&mut self, literals: &[String]) {
        self.walk.literals = literals.iter().cloned().collect();
        self.show();
    }

    /// What messages of protobuf are. The names of their fields are the configuration's, and may be shown.
    pub fn set_schema(&mut self, schema: Arc<Schema>) {
        self.schema = Some(schema);
        self.show();
    }

    /// What messages of protobuf are, if it is known.
    pub fn schema(&self) -> Option<Arc<Schema>> {
        self.schema.clone()
    }

    /// A key may be shown.
    pub fn shows(&mut self, name: &[u8]) -> bool {
        self.walk.keys.get(name, &self.walk.shown).id != 0
    }

    fn show(&mut self) {
        let names = self.schema.iter().flat_map(|schema| schema.names());
        let names = names.map(str::to_owned);
        self.walk.shown = self.walk.literals.iter().cloned().chain(names).collect();
        self.walk.keys.forget();
    }

    /// Looks at a body.
    pub fn body(&mut self, part: Part, content: &Content<'_>) -> Visited {
        let before = self.walk.hits.data.len();
        self.walk.begin(part);
        let visited = content.visit(&self.limits, &mut self.walk);
        self.walk.field_ends();
        if !self.walk.late.is_empty() || self.walk.tables.is_late() {
            // A resource's type, an extension's URL or a table's names stood behind the data: once more, knowing it.
            self.walk.tables.know_late();
            let mut late = std::mem::take(&mut self.walk.late);
            late.sort_unstable_by_key(|(ordinal, ..)| *ordinal);
            self.walk.hits.rewind(before);
            self.walk.begin(part);
            self.walk.late_known = late;
            content.visit(&self.limits, &mut self.walk);
            self.walk.late.clear();
            self.walk.late_known.clear();
            self.walk.tables.clear();
            self.walk.tables.know_late();
        }
        visited
    }

    /// Looks at a query; `path` says whose parameters they are.
    pub fn query(&mut self, path: &str, query: &[u8]) {
        self.parameters(Part::RequestQuery, path, query);
    }

    /// The same of a form that holds a search.
    pub fn search(&mut self, path: &str, form: &[u8]) {
        self.parameters(Part::RequestBody, path, form);
    }

    fn parameters(&mut self, part: Part, path: &str, query: &[u8]) {
        self.walk.begin(part);
        let owner = Segments::of(path).find_map(|segment| fhir::resource(segment.as_bytes()));
        self.walk
            .root(owner.filter(|(resource, _)| *resource != Resource::Definition));
        self.walk.searching = self
            .walk
            .frames
            .first()
            .is_some_and(|root| root.resource != Resource::None);
        Format::visit_query(query, &self.limits, &mut self.walk);
        self.walk.end();
    }

    /// Looks at a path's segments.
    pub fn path(&mut self, path: &str) {
        self.walk.begin(Part::RequestPath);
        self.walk.path(path);
    }

    /// Looks at header fields; names are in lower case.
    pub fn headers<'a>(&mut self, part: Part, headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        self.walk.begin(part);
        self.walk.root(None);
        for (name, value) in headers {
            self.walk.header(name, value);
        }
        self.walk.end();
    }

    /// What was found since it was asked last.
    pub fn take(&mut self) -> Vec<Data> {
        let data = std::mem::take(&mut self.walk.hits.data);
        self.walk.hits.clear();
        data
    }
}

impl Sink for Walk {
    fn open(&mut self, name: &[u8], container: Container) {
        self.describes &= !self.frames.is_empty();
        let named = !name.is_empty();
        let mut row = false;
        if let Some(parent) = self.frames.len().checked_sub(1) {
            row = !named && container == Container::Array && self.is_row(parent);
            self.frames[parent].children = self.frames[parent].children.saturating_add(1);
        }
        let parent = self.frames.last();
        let key = match (named, parent) {
            (true, _) => self.keys.get(name, &self.shown),
            (false, Some(parent)) => parent.key,
            (false, None) => Key::default(),
        };
        let mut place = parent.map_or(0, |parent| parent.place);
        if named {
            place = mix(place, u64::from(key.id));
        }
        if container == Container::Array {
            place = mix(place, u64::MAX);
        }
        let (mut owner, mut resource) = parent.map_or((Owner::Unknown, Resource::None), |parent| {
            (parent.owner, parent.resource)
        });
        let mut extension = parent.and_then(|parent| parent.extension);
        let (mut tag, mut hl7) = (None, None);
        let mut sure = parent.is_none_or(|parent| parent.sure);
        if named {
            sure = Walk::is_sure(&key, parent);
            (owner, resource) = self.whose(name, &key, owner, resource);
            (hl7, tag) = Walk::numbered(name, parent.and_then(|parent| parent.hl7));
            tag = tag
                .or_else(|| super::segments::dicom(name))
                .or_else(|| parent.and_then(|parent| parent.tag));
        } else if let Some(parent) = parent {
            tag = parent.tag;
        }
        let mut known = Personal::No;
        let late = self
            .late_known
            .binary_search_by_key(&self.ordinal, |(ordinal, ..)| *ordinal);
        match late.ok().and_then(|at| self.late_known.get(at)) {
            Some((_, Late::Resource(known, whose))) => (resource, owner) = (*known, *whose),
            Some((_, Late::Extension(class))) => extension = Some(*class),
            Some((_, Late::Place(whose, is_sure))) => (owner, sure) = (*whose, sure && *is_sure),
            Some((_, Late::Beside)) => {
                known = Personal::Contact;
                if owner == Owner::Organization {
                    owner = Owner::Unknown;
                }
            }
            None => {}
        }
        let is_unplaced = owner == Owner::Organization && place::is_location(name);
        let names_from = self.names.len();
        let name = match named && key.id != 0 {
            true => keep(&mut self.names, name),
            false => Slot::default(),
        };
        self.frames.push(Frame {
            array: container == Container::Array && !row,
            element: container == Container::Element,
            named,
            key,
            place,
            name,
            owner,
            sure,
            resource,
            ordinal: self.ordinal,
            values: 0,
            children: 0,
            row,
            rows: tables::Rows::default(),
            personal: known,
            held_from: self.held.len(),
            names_from,
            arena_from: self.arena.len(),
            system: Slot::default(),
            value: Slot::default(),
            code: Slot::default(),
            reference: Slot::default(),
            display: Slot::default(),
            label: Slot::default(),
            label_is_type: false,
            labelled: Slot::default(),
            labelled_key: Key::default(),
            labelled_name: Slot::default(),
            labelled_is_number: false,
            labelled_class: None,
            tag,
            hl7,
            typed: None,
            written: Slot::default(),
            is_coded: false,
            extension,
            is_unplaced,
            sentences: 0,
            is_company: false,
            has_somebody: false,
            turned_down: 0,
        });
        self.ordinal = self.ordinal.wrapping_add(1);
        self.table_opens();
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.len().checked_sub(1) else {
            return;
        };
        self.table_closes(frame);
        if !self.frames[frame].array {
            self.settle(frame);
        }
        let typed = self.type_within(frame);
        if let Some(frame) = self.frames.pop() {
            self.names.truncate(frame.names_from);
            // What is in an array or an element, or is the value of a name, may wait for the object around it.
            let at = self.frames.len();
            let waiting = self.held.get(frame.held_from..).unwrap_or_default();
            if !frame.array && !frame.element && waiting.iter().all(|held| held.frame >= at) {
                self.held.truncate(frame.held_from);
                self.arena.truncate(frame.arena_from);
            }
            if !typed.is_empty() {
                self.type_of(self.frames.len().saturating_sub(1), &typed);
            }
            // What is in an array is the object's around it.
            for (around, _) in self
                .unplaced
                .iter_mut()
                .rev()
                .take_while(|(around, _)| *around >= at)
            {
                *around = at.saturating_sub(1);
            }
            if frame.is_unplaced && self.unplaced.len() < LATE_LEN_MAX {
                self.unplaced.push((at.saturating_sub(1), frame.ordinal));
            }
            if let Some(parent) = self.frames.last_mut() {
                let is = frame.personal == Personal::Yes || frame.has_somebody;
                parent.has_somebody |= is && frame.key.owner == Owner::Unknown;
            }
            // What makes an address or a contact personal makes its owner so.
            if let Some(parent) = self.frames.last_mut()
                && frame.personal > Personal::No
                && frame.key.owner != Owner::Organization
            {
                let inherited = match frame.array || frame.element {
                    true => frame.personal,
                    false => frame.personal.min(Personal::Contact),
                };
                parent.personal = parent.personal.max(inherited);
            }
        }
    }

    fn value(&mut self, name: &[u8], kind: ValueType, value: &[u8]) {
        self.values_seen = self.values_seen.wrapping_add(1);
        let Some(top) = self.frames.len().checked_sub(1) else {
            // A lone value.
            self.look(Key::default(), b"", None, kind, value);
            return;
        };
        self.frames[top].values = self.frames[top].values.saturating_add(1);
        if self.frames[top].array && kind == ValueType::Text {
            self.says_column(top, value);
        }
        if kind == ValueType::Word || value.is_empty() {
            return;
        }
        let column = match self.frames[top].row {
            true => self.column(top),
            false => SmolStr::default(),
        };
        let name = if column.is_empty() {
            name
        } else {
            column.as_bytes()
        };
        // The value of a FHIR primitive in XML, an item of an array, the text of an element: what its container says.
        let element = self.frames[top].element;
        let own =
            name.is_empty() || (element && name == b"value" && self.frames[top].resource != Resource::None);
        let (key, holder) = match own {
            true => (self.frames[top].key, self.holder(top)),
            false => (self.keys.get(name, &self.shown), Some(top)),
        };
        if element && own && self.element_text(top, key, value) || self.id_part(top, name, value) {
            return;
        }
        if element && name == b"tag" {
            // DICOM in XML: what it holds comes behind it.
            self.frames[top].tag = super::segments::dicom(value);
            return;
        }
        if element
            && self.frames[top].tag.is_some()
            && matches!(
                name,
                b"vr" | b"keyword" | b"number" | b"privateCreator" | b"uuid" | b"uri"
            )
        {
            // They say what the element is. What it holds is its text.
            return;
        }
        if kind == ValueType::Text && self.embedded(key, if own { b"" } else { name }, value) {
            return;
        }
        // `{"ssn": {"value": "…"}}`, `<DateOfBirth><Date>…`: it has the name of what it is in.
        let around = if own && element {
            top.checked_sub(1)
        } else {
            (!own).then_some(top)
        };
        if matches!(key.role, Role::Value | Role::Kind)
            && let Some(around) = around
            && self.stands_for(around)
            && (key.role == Role::Value || self.is_dated_or_known(around))
        {
            let frame = &self.frames[around];
            let holder = match frame.element {
                true => self.holder(around),
                false => around.checked_sub(1).and_then(|above| self.holder(above)),
            };
            // `{"emails": [{"value": …}]}`: an item has no name that would be told for it.
            let is_item = !frame.named && frame.key.class.is_some_and(|(_, says)| says == Says::It);
            let (key, name) = match is_item {
                true => (
                    Key {
                        id: key.id,
                        ..frame.key
                    },
                    name,
                ),
                false => (frame.key, b"".as_slice()),
            };
            self.place(key, name, holder.or(Some(around)), kind, value);
            return;
        }
        self.frames[top].is_company |= key.of_company && !own;
        let name = if own { b"".as_slice() } else { name };
        if self.searching && self.search(name, value) {
            return;
        }
        self.told = None;
        self.place(key, name, holder, kind, value);
        if own && element {
            self.pair_of_element(top, key, kind, value);
        } else if !own {
            self.pair(top, key, name, kind, value);
        }
    }

    fn segment(&mut self, format: Format, id: &[u8]) {
        self.segment_begins(format, id);
    }

    fn field(&mut self, at: Field<'_>, value: &[u8]) {
        self.segment_field(at, value);
    }
}

impl Walk {
    fn begin(&mut self, part: Part) {
        self.part = part;
        self.text.forget();
        self.frames.clear();
        self.names.clear();
        self.arena.clear();
        self.held.clear();
        self.segment = Segment::default();
        self.embedded_left = embedded::EMBEDDED_BYTES_MAX;
        self.signs = 0;
        self.subject.clear();
        self.searching = false;
        self.ordinal = 0;
        self.unplaced.clear();
        self.late.clear();
        self.tables.clear();
    }

    /// Something for query parameters or header fields to be in.
    fn root(&mut self, owner: Option<(Resource, Owner)>) {
        Sink::open(self, b"", Container::Object);
        if let (Some(root), Some((resource, owner))) = (self.frames.last_mut(), owner) {
            root.owner = owner;
            root.resource = if owner == Owner::Unknown {
                Resource::None
            } else {
                resource
            };
        }
    }

    fn end(&mut self) {
        while !self.frames.is_empty() {
            Sink::close(self);
        }
    }

    /// The object that an array or an element is in.
    fn holder(&self, top: usize) -> Option<usize> {
        let mut at = top;
        if self.frames[top].element {
            at = at.checked_sub(1)?;
        }
        while self.frames[at].array {
            at = at.checked_sub(1)?;
        }
        Some(at)
    }

    /// Counts a value found at `key` of the innermost container.
    #[expect(
        clippy::too_many_arguments,
        reason = "a value with all that is known of its place"
    )]
    fn hit(
        &mut self,
        class: ClassId,
        owner: Owner,
        evidence: Evidence,
        confidence: u8,
        name: &[u8],
        key: Key,
        value: &[u8],
    ) {
        self.told = Some(class);
        let Some(group) = group_of(class, owner) else {
            self.turned_down(class, name);
            return;
        };
        let mut place = self.frames.last().map_or(0, |frame| frame.place);
        if !name.is_empty() {
            place = mix(place, u64::from(key.id));
        }
        let hit = Hit {
            class,
            group,
            evidence,
            confidence,
            part: self.part,
            place,
            value,
        };
        let (frames, names, part) = (&self.frames, &self.names, self.part);
        let name = (!name.is_empty()).then(|| if key.id == 0 { b"{key}".as_slice() } else { name });
        self.hits.add(&hit, || place::render(frames, names, part, name));
        if let Some(frame) = self.frames.last_mut() {
            frame.has_somebody |= class == Class::Email as ClassId;
            frame.personal = frame.personal.max(personal(class));
        }
    }

    fn bytes(&self, slot: Slot) -> &[u8] {
        self.arena
            .get(slot.start as usize..(slot.start + slot.length) as usize)
            .unwrap_or_default()
    }

    fn slot(&self, slot: Slot) -> Vec<u8> {
        self.bytes(slot).to_vec()
    }
}

/// Two numbers that stand for a place → one.
fn mix(place: u64, step: u64) -> u64 {
    (place ^ step.wrapping_add(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xff51_afd7_ed55_8ccd)
        .rotate_left(29)
}

/// Puts bytes into the arena.
fn keep(arena: &mut Vec<u8>, bytes: &[u8]) -> Slot {
    let bytes = &bytes[..bytes.len().min(HELD_BYTES_MAX)];
    let start = arena.len() as u32;
    arena.extend_from_slice(bytes);
    Slot {
        start,
        length: bytes.len() as u32,
    }
}
