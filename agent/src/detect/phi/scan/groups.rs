//! A class of data, and whose it is → what that makes of it: which group it counts to, and whether its object is about a
//! person.
//!
//! What organizations have is nobody's, and examples in definitions are nothing's.

use super::*;

/// What makes an object personal.
pub(super) fn personal(class: ClassId) -> Personal {
    const CONTACT: [Class; 6] = [
        Class::Email,
        Class::Phone,
        Class::Fax,
        Class::Address,
        Class::Url,
        Class::Ip,
    ];
    const NOT: [Class; 8] = [
        Class::Token,
        Class::Password,
        Class::PrivateKey,
        Class::Device,
        Class::Procedure,
        Class::Account,
        Class::Iban,
        Class::Photo,
    ];
    let is = |classes: &[Class]| classes.iter().any(|known| *known as ClassId == class);
    if is(&CONTACT) {
        Personal::Contact
    } else if is(&NOT) {
        Personal::No
    } else if is(&[Class::Observation]) {
        Personal::Health
    } else {
        Personal::Yes
    }
}

/// The group of a class by whose it is; `None`: it is nobody's.
pub(super) fn group_of(class: ClassId, owner: Owner) -> Option<&'static str> {
    let Some(detector) = DETECTORS.get(usize::from(class)) else {
        return Some(Group::Phi.as_str());
    };
    let group = match (owner, detector.group) {
        (Owner::Definition, _) => return None,
        // What an organization has, and a person too.
        (Owner::Organization, Group::Phi) => match detector.class {
            Class::Name
            | Class::Address
            | Class::Phone
            | Class::Fax
            | Class::Email
            | Class::Url
            | Class::Licence => {
                return None;
            }
            Class::Date | Class::Photo | Class::Account | Class::Ip | Class::Device => return None,
            _ => Group::Pii,
        },
        (Owner::Organization, Group::Pii) if detector.class == Class::Npi => return None,
        (Owner::Person, Group::Phi) => Group::Pii,
        (_, group) => group,
    };
    Some(group.as_str())
}
