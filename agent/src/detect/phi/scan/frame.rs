//! What is known of an open container while its values come by.

use super::*;

/// An open container.
pub(super) struct Frame {
    pub array: bool,
    pub element: bool,
    /// It has a name of its own; items of arrays have their array's.
    pub named: bool,
    pub key: Key,
    pub place: u64,
    pub name: Slot,
    pub owner: Owner,
    /// Not only a word that things have, too, says so.
    pub sure: bool,
    pub resource: Resource,
    pub ordinal: u32,
    pub values: u32,
    pub children: u32,
    /// Its values have the names of a table's columns; lists that may be rows are in it.
    pub row: bool,
    pub rows: tables::Rows,
    pub personal: Personal,
    pub held_from: usize,
    pub names_from: usize,
    pub arena_from: usize,
    pub system: Slot,
    pub value: Slot,
    pub code: Slot,
    pub reference: Slot,
    pub display: Slot,
    /// The name that a value beside it has, that value, and what it was told to be by itself.
    pub label: Slot,
    pub label_is_type: bool,
    pub labelled: Slot,
    pub labelled_key: Key,
    pub labelled_name: Slot,
    /// Only a type says what it is: it may be a record's number.
    pub labelled_is_number: bool,
    pub labelled_class: Option<ClassId>,
    /// The class of a DICOM attribute, for what is below it.
    pub tag: Option<(Class, Owner)>,
    /// It is a field of HL7 v2, in XML.
    pub hl7: Option<Hl7>,
    /// An identifier's type.
    pub typed: Option<Class>,
    /// What a concept is called in words, and whether a code said what it is.
    pub written: Slot,
    pub is_coded: bool,
    /// What the extension of FHIR that this is in is about.
    pub extension: Option<ClassId>,
    /// It is a place that was not told, for nothing said whose it is: a `location`, an address without a person.
    pub is_unplaced: bool,
    /// Names in it that are sentences.
    pub sentences: u8,
    /// It has what companies have alone; there is somebody below it who is not named as another.
    pub is_company: bool,
    pub has_somebody: bool,
    /// It has parts of a name, a bit each, that were taken for an organization's.
    pub turned_down: u8,
}

impl Frame {
    /// Its own name, or that of the array that it is in, is one of the class.
    pub fn is_person(&self) -> bool {
        matches!(self.owner, Owner::Patient | Owner::Person) || self.personal == Personal::Yes
    }

    pub fn named_as(&self, class: Class) -> bool {
        self.key.class.is_some_and(|(id, _)| id == class as ClassId)
    }
}

/// What stood behind the data that it is about.
#[derive(Clone, Copy)]
pub(super) enum Late {
    Resource(Resource, Owner),
    Extension(ClassId),
    /// Somebody's, or an organization's; whether more than a word that things have says so.
    Place(Owner, bool),
    /// An address of somebody who is in the object around it.
    Beside,
}

/// How sure it is that an object is about a person.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Personal {
    No,
    /// It has a measurement's code, and catalogues of laboratories have that, too.
    Health,
    /// It has what organizations have, too: a telephone, an address.
    Contact,
    Yes,
}

/// Bytes in the arena; empty: none.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub start: u32,
    pub length: u32,
}

/// A value that waits for its neighbours.
pub(super) struct Held {
    pub frame: usize,
    pub class: ClassId,
    pub key: Key,
    pub name: Slot,
    pub value: Slot,
}
