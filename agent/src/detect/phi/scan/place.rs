//! Where a value stands: its path in words that may be shown, and what that place says of it.

use std::borrow::Cow;

use smol_str::SmolStr;

use super::super::text::{is_surely_persons, says_none, tagged};
use super::called::{is_bare, is_language, is_of_health, is_tax_id, links, says_what};
use super::pairs::asked;
use super::settle::looks_like_person;
use super::*;

/// `$.entry[].resource.name[].family`, `?birthdate`, `?patients[].ssn`, `authorization`.
pub(super) fn render(frames: &[Frame], names: &[u8], part: Part, name: Option<&[u8]>) -> SmolStr {
    let mut path = String::with_capacity(64);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match part {
        Part::RequestHeaders | Part::ResponseHeaders => return SmolStr::new(text(name.unwrap_or_default())),
        Part::RequestQuery => path.push('?'),
        _ => path.push('$'),
    }
    let dot = |path: &mut String| {
        if path != "?" {
            path.push('.');
        }
    };
    for frame in frames {
        if frame.named {
            dot(&mut path);
            match frame.name.length {
                0 => path.push_str("{key}"),
                _ => {
                    let (start, end) = (
                        frame.name.start as usize,
                        (frame.name.start + frame.name.length) as usize,
                    );
                    path.push_str(&text(names.get(start..end).unwrap_or_default()));
                }
            }
        }
        if frame.array {
            path.push_str("[]");
        }
    }
    if let Some(name) = name {
        dot(&mut path);
        path.push_str(&text(name));
    }
    SmolStr::new(path)
}

impl Walk {
    /// Whose data a container of this name holds, and of which resource.
    pub(super) fn whose(
        &self,
        name: &[u8],
        key: &Key,
        owner: Owner,
        resource: Resource,
    ) -> (Owner, Resource) {
        let parent = self.frames.last();
        let begins = match parent {
            None => true,
            Some(parent) => {
                parent.element && matches!(parent.key.element, Element::Resource | Element::Contained)
            }
        };
        // What a description of an API holds are examples; whatever else stands at its root is data.
        if self.describes && self.frames.len() == 1 && is_part_of_description(name) {
            return (Owner::Definition, Resource::Definition);
        }
        // In XML a resource is an element with the name of its type.
        if begins && let Some((resource, owner)) = fhir::resource(name) {
            return (owner, resource);
        }
        if matches!(key.element, Element::Resource | Element::Contained) {
            return match owner {
                // What a definition holds is its example.
                Owner::Definition => (Owner::Definition, Resource::Definition),
                _ => (Owner::Unknown, Resource::Bundle),
            };
        }
        if owner == Owner::Definition {
            return (owner, resource);
        }
        let owner = match (resource, key.element) {
            (Resource::None, _) => match key.owner {
                Owner::Unknown => owner,
                // A patient's contact is around the patient.
                Owner::Person if owner == Owner::Patient && key.element == Element::Contact => owner,
                // Where somebody is, and where something is.
                Owner::Organization if is_location(name) && parent.is_some_and(Frame::is_person) => owner,
                named => named,
            },
            (Resource::Organization, Element::Contact) => Owner::Person,
            (Resource::Patient | Resource::RelatedPerson | Resource::Practitioner, Element::Professional) => {
                owner
            }
            (_, Element::Subject) => Owner::Patient,
            (_, Element::Professional) => Owner::Person,
            _ if matches!(
                name,
                b"managingOrganization"
                    | b"serviceProvider"
                    | b"organization"
                    | b"insurer"
                    | b"payor"
                    | b"facility"
            ) =>
            {
                Owner::Organization
            }
            _ => owner,
        };
        (owner, resource)
    }

    /// Whose the data is, is said by more than a word that things have, too.
    pub(super) fn is_sure(key: &Key, parent: Option<&Frame>) -> bool {
        let within = parent.is_none_or(|parent| parent.sure);
        let of_person = parent.is_some_and(|parent| {
            parent.resource != Resource::None || parent.owner == Owner::Patient && parent.sure
        });
        match key.owner {
            Owner::Unknown => within,
            _ => !key.vague || of_person,
        }
    }

    /// What the place says of a value; where it says nothing, the value itself.
    pub(super) fn place(
        &mut self,
        mut key: Key,
        name: &[u8],
        holder: Option<usize>,
        kind: ValueType,
        value: &[u8],
    ) {
        let Some(at) = holder else {
            self.look(key, name, None, kind, value);
            return;
        };
        // A name of a terminology that says of what kind it is: somebody's, beside other data of somebody.
        if key.class.is_none() && value.ends_with(b")") {
            key.class = tagged(value).map(|class| (class as ClassId, Says::Beside));
        }
        if at == 0 && is_description(name, value) {
            self.describes = true;
        }
        // `{"This account is inactive.": …, "Password": …}`: what people read, and its translation.
        if name.ends_with(b".") && memchr::memchr_iter(b' ', name).nth(2).is_some() {
            self.frames[at].sentences = self.frames[at].sentences.saturating_add(1);
        }
        if self.at_number(at, key, name, value) {
            return;
        }
        let frame = &self.frames[at];
        let (owner, resource, inside) = (frame.owner, frame.resource, frame.key.element);
        let extension = frame.extension;
        // An attribute of DICOM JSON: its values are below its tag.
        if let Some((class, owner)) = frame.tag
            && name != b"vr"
        {
            self.hit(class as ClassId, owner, Evidence::Structure, 98, name, key, value);
            return;
        }
        if resource == Resource::Observation && self.answers(at, key, name, value) {
            return;
        }
        // `<effectiveTime><low value="…"/>` of what somebody had, in CDA.
        if resource == Resource::None && name == b"value" && self.is_effective(value) {
            self.hit(
                Class::Date as ClassId,
                owner,
                Evidence::Structure,
                90,
                name,
                key,
                value,
            );
            return;
        }
        if inside == Element::Extension && key.element == Element::Url {
            self.extension(at, value);
            return;
        }
        if key.element == Element::ValueText || (key.element == Element::Text && inside == Element::Clinical)
        {
            let class = extension.filter(|_| owner != Owner::Definition && has_extensions(resource));
            if let Some(class) = class.filter(|class| fits(*class, value)) {
                self.hit(class, owner, Evidence::Structure, 95, name, key, value);
                return;
            }
        }
        match key.element {
            Element::ResourceType => {
                self.resource_type(at, value);
                return;
            }
            Element::System => self.frames[at].system = keep(&mut self.arena, value),
            Element::Code => self.frames[at].code = keep(&mut self.arena, value),
            Element::Reference => self.frames[at].reference = keep(&mut self.arena, value),
            Element::Display => self.frames[at].display = keep(&mut self.arena, value),
            Element::Text if kind == ValueType::Text && fhir::concept(resource, inside).is_some() => {
                self.frames[at].written = keep(&mut self.arena, value);
            }
            Element::Value => self.frames[at].value = keep(&mut self.arena, value),
            _ => {}
        }
        let settled_later = match key.element {
            Element::System | Element::Reference => true,
            Element::Value => {
                matches!(inside, Element::Identifier | Element::Telecom)
                    || inside == Element::Contact && resource != Resource::None
            }
            Element::Code | Element::Display => {
                self.frames[at].system.length > 0 || resource != Resource::None
            }
            _ => false,
        };
        if settled_later || owner == Owner::Definition {
            if owner == Owner::Definition {
                self.look(key, name, holder, kind, value);
            }
            return;
        }
        if resource != Resource::None
            && let Some(class) = fhir_class(resource, inside, key.element)
        {
            let machine = class == Class::Ip && super::super::checks::is_machine_text(value);
            if (class.detector().fits)(value) && !machine {
                self.hit(class as ClassId, owner, Evidence::Structure, 98, name, key, value);
            }
            return;
        }
        if self.frames[at].key.patient && resource == Resource::None && name.eq_ignore_ascii_case(b"id") {
            let class = Class::PatientId as ClassId;
            if fits(class, value) {
                self.hit(class, owner, Evidence::Structure, 90, name, key, value);
                return;
            }
        }
        if name == b"gender" || name == b"sex" {
            self.frames[at].personal = Personal::Yes;
        }
        // Elements of FHIR that are not data of a person by their place have names that say more elsewhere.
        let by_key = key.class.filter(|_| {
            resource == Resource::None
                || matches!(resource, Resource::Bundle)
                || key.element == Element::Other
        });
        let of_object = self.frames[at].key.class;
        // The text of an element, an item of an array has its container's name.
        let inner = self
            .frames
            .get(at + 1)
            .map_or(Slot::default(), |frame| frame.name);
        let called = match name.is_empty() {
            true => self
                .names
                .get(inner.start as usize..(inner.start + inner.length) as usize)
                .unwrap_or_default(),
            false => name,
        };
        if let Some((class, Says::It)) = of_object
            && resource == Resource::None
            && (is_of_health(class) && says_what(called) && !is_bare(class, owner, value)
                || class == Class::Name as ClassId
                    && is_language(called)
                    && !self.keys.is_label(value, class)
                || class == Class::Address as ClassId && self.frames[at].key.of_thing && says_what(called)
                || class == Class::Photo as ClassId && links(called) && owner != Owner::Unknown)
            && fits(class, value)
            && !value.contains(&b'_')
        {
            self.hit(class, owner, Evidence::Structure, 85, name, key, value);
            self.look_into(class, key, name, holder, kind, value);
            return;
        }
        // `{"gender": …, "picture": {"large": …}}`
        if let Some((class, _)) = of_object
            && class == Class::Photo as ClassId
            && by_key.is_none()
            && links(called)
            && owner == Owner::Unknown
            && fits(class, value)
            && self.hold(at, class, key, name, value)
        {
            return;
        }
        if let Some((mut class, says)) = by_key {
            class = by_check(class, key.context, value).unwrap_or(class);
            // What was measured, or reckoned: a reader of tables makes whole numbers end in `.0`.
            let measured = kind == ValueType::Number
                && value.contains(&b'.')
                && !value.ends_with(b".0")
                && DETECTORS
                    .get(usize::from(class))
                    .is_some_and(|detector| detector.identifies);
            // So many of them.
            let counted = kind == ValueType::Number && value.len() < 5 && is_of_health(class);
            // Of a tax, or of a species: numbers of those who pay it are longer.
            let is_short = class == Class::Passport as ClassId && value.len() < 7 && is_tax_id(name);
            let fits =
                !measured && !counted && !is_short && fits(class, value) && !self.keys.is_label(value, class);
            let machine = class == Class::Ip as ClassId && super::super::checks::is_machine_text(value);
            let says = if machine { Says::Beside } else { says };
            let owner = match key.owner {
                Owner::Unknown => owner,
                // `contactName` of a patient is around the patient.
                Owner::Person if owner == Owner::Patient => owner,
                named => named,
            };
            if fits && says == Says::It {
                self.hit(class, owner, Evidence::Structure, 95, name, key, value);
                self.look_into(class, key, name, holder, kind, value);
                return;
            }
            if fits && self.hold(at, class, key, name, value) {
                return;
            }
        }
        if kind == ValueType::Text
            && (self.named_person(at, key, name, value) || self.looks_like_somebody(at, key, name, value))
        {
            return;
        }
        self.look(key, name, holder, kind, value);
    }

    /// A questionnaire's answer, whose item says what it is: `{"text": "Last name", "answer": [{"valueString": …}]}`.
    fn answers(&mut self, at: usize, key: Key, name: &[u8], value: &[u8]) -> bool {
        const QUESTION_BYTES_MAX: usize = 64;
        let inside = self.frames[at].key.element;
        if inside == Element::Item && key.element == Element::Text {
            if value.len() <= QUESTION_BYTES_MAX {
                self.frames[at].label = keep(&mut self.arena, value);
            }
            return false;
        }
        // In XML it is the value of an element of that name.
        let is_value = name.is_empty() || name.starts_with(b"value");
        let is_answer = inside == Element::Answer && is_value && self.signs < SIGNS_MAX;
        let item = self.frames[..=at].iter().rev().take(4);
        let Some(question) = item
            .filter(|_| is_answer)
            .find(|frame| frame.key.element == Element::Item && frame.label.length > 0)
        else {
            return false;
        };
        let (question, owner) = (self.slot(question.label), self.frames[at].owner);
        self.signs += 1;
        match self.keys.class_of(asked(&question)) {
            Some((class, _)) if fits(class, value) => {
                self.hit(class, owner, Evidence::Structure, 90, name, key, value);
                true
            }
            _ => false,
        }
    }

    /// When something was so, in the body of a document of CDA.
    fn is_effective(&self, value: &[u8]) -> bool {
        let is = |element: Element| move |frame: &Frame| frame.key.element == element;
        self.frames.iter().rev().take(3).any(is(Element::EffectiveTime))
            && self.frames.iter().any(is(Element::StructuredBody))
            && fits(Class::Date as ClassId, value)
    }

    /// Lets a value wait for its neighbours; whether there is room.
    fn hold(&mut self, at: usize, class: ClassId, key: Key, name: &[u8], value: &[u8]) -> bool {
        if self.held.len() >= HELD_LEN_MAX || value.len() > HELD_BYTES_MAX {
            return false;
        }
        // The text of an element, an item of an array: what has the name is closed when it is told.
        let closed = self.frames.get(at + 1).filter(|_| name.is_empty());
        let name = match closed.map(|frame| frame.name) {
            // It is not shown.
            Some(slot) if slot.length == 0 => keep(&mut self.arena, b"{key}"),
            Some(slot) => {
                let (start, end) = (slot.start as usize, (slot.start + slot.length) as usize);
                keep(&mut self.arena, self.names.get(start..end).unwrap_or_default())
            }
            None => keep(&mut self.arena, name),
        };
        let value = keep(&mut self.arena, value);
        self.held.push(Held {
            frame: at,
            class,
            key,
            name,
            value,
        });
        true
    }

    /// `{"attendingPhysician": "Marta Okafor"}`, `{"patient": "482913"}`: who somebody is, where an object of theirs could be.
    fn named_person(&mut self, at: usize, key: Key, name: &[u8], value: &[u8]) -> bool {
        let frame = &self.frames[at];
        let (owner, resource) = (frame.owner, frame.resource);
        let Some(says) = key
            .names
            .filter(|_| matches!(resource, Resource::None | Resource::Bundle))
        else {
            return false;
        };
        let owner = if key.owner == Owner::Unknown {
            owner
        } else {
            key.owner
        };
        if key.patient && super::super::checks::number(value) {
            let class = Class::PatientId as ClassId;
            self.hit(class, owner, Evidence::Structure, 85, name, key, value);
            return true;
        }
        let class = Class::Name as ClassId;
        if !fits(class, value) || !looks_like_person(value) || says_none(value) {
            return false;
        }
        match says {
            Says::It => self.hit(class, owner, Evidence::Structure, 85, name, key, value),
            Says::Beside => return self.hold(at, class, key, name, value),
        }
        true
    }

    /// `{"email": …, "who": "Marta Okafor"}`: a name that nothing says it of, by its given name, waits for what is beside it.
    fn looks_like_somebody(&mut self, at: usize, key: Key, name: &[u8], value: &[u8]) -> bool {
        let may = (5..=48).contains(&value.len())
            && value[0].is_ascii_uppercase()
            && memchr::memchr(b' ', value).is_some();
        if !may || key.class.is_some() || key.of_thing || key.technical {
            return false;
        }
        let frame = &self.frames[at];
        matches!(frame.resource, Resource::None | Resource::Bundle)
            && frame.owner != Owner::Organization
            && key.owner != Owner::Organization
            && frame
                .key
                .class
                .is_none_or(|(class, _)| class == Class::Name as ClassId)
            && looks_like_person(value)
            && is_surely_persons(value)
            && self.hold(at, Class::Name as ClassId, key, name, value)
    }

    fn resource_type(&mut self, at: usize, value: &[u8]) {
        if let Some((resource, owner)) = fhir::resource(value) {
            self.becomes(at, resource, owner);
        }
    }

    fn becomes(&mut self, at: usize, resource: Resource, owner: Owner) {
        let frame = &mut self.frames[at];
        if frame.owner == Owner::Definition {
            return;
        }
        let late = frame.values > 1 || frame.personal > Personal::No || frame.ordinal + 1 < self.ordinal;
        let (ordinal, is_other) = (frame.ordinal, frame.resource != resource);
        (frame.resource, frame.owner) = (resource, owner);
        if late && is_other {
            self.later(ordinal, Late::Resource(resource, owner));
        }
    }

    /// The URL of an extension: its last part is a name as keys are, and says what the extension's value is.
    fn extension(&mut self, at: usize, url: &[u8]) {
        // Whose it is may be said behind it.
        let person = has_extensions(self.frames[at].resource)
            || matches!(self.frames[at].resource, Resource::None | Resource::Bundle);
        let name = url
            .rsplit(|byte| matches!(byte, b'/' | b'#'))
            .next()
            .unwrap_or_default();
        let class = match self.keys.get(name, &self.shown).class {
            Some((class, Says::It)) if person => class,
            _ => return,
        };
        let frame = &mut self.frames[at];
        let late = frame.values > 1 || frame.children > 0;
        let (ordinal, is_other) = (frame.ordinal, frame.extension != Some(class));
        frame.extension = Some(class);
        if late && is_other {
            self.later(ordinal, Late::Extension(class));
        }
    }

    /// Segments of a path, each below the one before it.
    pub(super) fn path(&mut self, path: &str) {
        let mut before = Key::default();
        let mut above: &[u8] = b"";
        let mut place = String::with_capacity(path.len() + 8);
        for segment in Segments::of(path).filter(|segment| !segment.is_empty()).take(64) {
            let shown = crate::call::Vocabulary::has(segment) || self.literals.contains(segment);
            place.push('/');
            if shown {
                place.push_str(segment);
                before = self.keys.get(segment.as_bytes(), &self.shown);
                above = segment.as_bytes();
                continue;
            }
            place.push_str("{id}");
            let plain: Cow<'_, [u8]> = percent_encoding::percent_decode_str(segment).into();
            self.path_segment(&place, before, above, &plain);
            (before, above) = (Key::default(), b"");
            // `/mrn/4829130`: a word that no location passes says what is behind it all the same.
            if segment
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
                && self.keys.may_end(segment.as_bytes())
            {
                before.class = self.keys.class_of(segment.as_bytes());
            }
        }
    }

    fn path_segment(&mut self, at: &str, before: Key, above: &[u8], segment: &[u8]) {
        let patients = matches!(above, b"Patient" | b"patient" | b"patients" | b"Patients");
        let owner = match fhir::resource(above) {
            Some((_, Owner::Unknown)) | None => before.owner,
            Some((_, owner)) => owner,
        };
        let mut found = std::mem::take(&mut self.found);
        let around = Around {
            context: before.context,
            ..Around::default()
        };
        self.text.scan(segment, around, &mut |one| found.push(one));
        let whole = |class, confidence| Found {
            class,
            evidence: Evidence::Structure,
            confidence,
            start: 0,
            end: segment.len(),
        };
        if let Some((class, Says::It)) = before.class
            && (DETECTORS.get(usize::from(class))).is_none_or(|detector| (detector.fits)(segment))
        {
            found.clear();
            found.push(whole(class, 95));
        } else if patients && found.is_empty() && segment.iter().any(u8::is_ascii_digit) {
            found.push(whole(Class::PatientId as ClassId, 90));
        }
        for one in found.drain(..) {
            let Some(group) = group_of(one.class, if patients { Owner::Patient } else { owner }) else {
                continue;
            };
            let hit = Hit {
                class: one.class,
                group,
                evidence: one.evidence,
                confidence: one.confidence,
                part: self.part,
                place: at.len() as u64,
                value: &segment[one.start..one.end],
            };
            self.hits.add(&hit, || SmolStr::new(at));
        }
        self.found = found;
    }
}

/// What OpenAPI 2 and 3, AsyncAPI and JSON Schema have at their root.
fn is_part_of_description(name: &[u8]) -> bool {
    matches!(
        name,
        b"info"
            | b"servers"
            | b"paths"
            | b"webhooks"
            | b"components"
            | b"definitions"
            | b"parameters"
            | b"responses"
            | b"tags"
            | b"channels"
            | b"properties"
            | b"patternProperties"
            | b"$defs"
            | b"examples"
            | b"operations"
    )
}

/// The document says that it describes an API, or what data is like: its version stands at the root.
fn is_description(name: &[u8], value: &[u8]) -> bool {
    let is_api = matches!(name, b"openapi" | b"swagger" | b"asyncapi")
        && value.len() <= 8
        && value.first().is_some_and(u8::is_ascii_digit)
        && value.get(1) == Some(&b'.');
    is_api || name == b"$schema" && memchr::memmem::find(value, b"//json-schema.org/").is_some()
}

/// What an element of FHIR's data types and resources holds.
fn fhir_class(resource: Resource, inside: Element, element: Element) -> Option<Class> {
    use Element as E;
    Some(match (inside, element) {
        (E::Name, E::Family | E::Given | E::Text) => Class::Name,
        // FHIR's search parameters, and Person-like resources with a plain name.
        (E::Other | E::Known, E::Family | E::Given) => Class::Name,
        (E::Address, E::Line | E::City | E::District | E::PostalCode | E::Text) => Class::Address,
        (_, E::BirthDate) => Class::BirthDate,
        (_, E::Deceased) => Class::DeathDate,
        (E::Photo, E::Data | E::Url) if resource != Resource::Practitioner => Class::Photo,
        (E::Period, E::Start | E::End) if is_care(resource) => Class::Date,
        (E::Other | E::Resource | E::Contained, E::Start | E::End) if resource == Resource::Clinical => {
            Class::Date
        }
        // Of a relative.
        (E::Other | E::Resource | E::Contained, E::Name) if resource == Resource::Condition => Class::Name,
        // Of an audit's agent.
        (_, E::Address) if resource == Resource::Clinical => Class::Ip,
        (_, E::Date) if is_care(resource) => Class::Date,
        (E::Other | E::Known | E::Resource | E::Contained, E::Id) if resource == Resource::Patient => {
            Class::PatientId
        }
        (_, E::Serial) if resource == Resource::Device => Class::Device,
        (_, E::SubscriberId) => Class::HealthPlan,
        (_, E::Sequence) => Class::Genetic,
        _ => return None,
    })
}

/// What a number is by its check digits, where its key says no more than that it is one of somebody's: `visa_number`, `ssn_tin`.
fn by_check(class: ClassId, context: u64, value: &[u8]) -> Option<ClassId> {
    const GENERIC: [Class; 7] = [
        Class::Passport,
        Class::Account,
        Class::HealthPlan,
        Class::PatientId,
        Class::Mrn,
        Class::Licence,
        Class::Npi,
    ];
    /// Few numbers have theirs by chance.
    const SURE: [Class; 2] = [Class::Iban, Class::Nir];
    /// Some do: a word in the key has to say so, too.
    const NAMED: [Class; 9] = [
        Class::Card,
        Class::Ssn,
        Class::NhsNumber,
        Class::Bsn,
        Class::SteuerId,
        Class::Sin,
        Class::Npi,
        Class::Dea,
        Class::Mbi,
    ];
    if !GENERIC.iter().any(|generic| *generic as ClassId == class) {
        return None;
    }
    let is = |other: &Class| *other as ClassId != class && fits(*other as ClassId, value);
    let named = NAMED
        .iter()
        .filter(|named| context & 1 << **named as ClassId != 0);
    let found = named.chain(&SURE).find(|other| is(other));
    found.map(|other| *other as ClassId)
}

/// Resources whose extensions say more of somebody.
pub(super) fn has_extensions(resource: Resource) -> bool {
    matches!(
        resource,
        Resource::Patient | Resource::RelatedPerson | Resource::Practitioner
    )
}

/// Where something is: of somebody it is an address, of an organization its own.
pub(super) fn is_location(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"location") || name.eq_ignore_ascii_case(b"locations")
}

/// Whether a value in a place of a class is one.
pub(super) fn fits(class: ClassId, value: &[u8]) -> bool {
    DETECTORS
        .get(usize::from(class))
        .is_none_or(|detector| (detector.fits)(value))
}

/// Resources about care, whose dates are a patient's.
fn is_care(resource: Resource) -> bool {
    !matches!(
        resource,
        Resource::None
            | Resource::Bundle
            | Resource::Practitioner
            | Resource::Organization
            | Resource::Definition
            | Resource::Patient
            | Resource::RelatedPerson
    )
}
