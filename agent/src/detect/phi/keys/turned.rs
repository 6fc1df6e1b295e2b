//! Names that are told by other words than their last ones: `nome_do_pai`, `patient_chart_id`, `religious_background`.

use super::super::class::Class;
use super::lists::{KIN, NAME_OF, NUMBERINGS, OF};
use super::{ClassId, Says};

/// Words that are said of what is nobody's business, whatever is behind them.
const STEMS: &[(&str, Class)] = &[
    ("religious", Class::Religion),
    ("religion", Class::Religion),
    ("spiritual", Class::Religion),
    ("political", Class::PoliticalOpinion),
    ("voter", Class::PoliticalOpinion),
    ("genetic", Class::Genetic),
    ("genomic", Class::Genetic),
    ("genome", Class::Genetic),
    ("dna", Class::Genetic),
    ("biometric", Class::Biometric),
    ("ethnic", Class::Ethnicity),
    ("racial", Class::Ethnicity),
    ("allergy", Class::Allergy),
    ("allergic", Class::Allergy),
    ("intolerance", Class::Allergy),
    ("medicine", Class::Medication),
    ("vaccine", Class::Medication),
    ("illness", Class::Diagnosis),
    ("comorbidity", Class::Diagnosis),
    ("transgender", Class::SexualOrientation),
];
/// What is behind them where it is of something else, or about it.
const OF_OTHERS: &[&str] = &[
    "id",
    "uuid",
    "count",
    "total",
    "date",
    "time",
    "at",
    "on",
    "by",
    "enabled",
    "required",
    "consent",
    "url",
    "uri",
    "link",
    "version",
    "holiday",
    "holidays",
    "calendar",
    "algorithm",
    "region",
    "map",
    "boundary",
    "view",
    "center",
    "centre",
    "lab",
    "provider",
    "manufacturer",
    "lot",
    "expiry",
    "expiration",
    "price",
    "dose",
    "site",
    "route",
    "checked",
    "verified",
    "reviewed",
    "number",
];

/// Names that are told by their first word: `nome_do_pai`, and `patient_chart_id`, whatever it is that has it.
pub(super) fn turned(words: &[String]) -> Option<(ClassId, Says, usize)> {
    let [first, between @ .., last] = words else {
        return None;
    };
    let is = |word: &String, list: &[&str]| list.contains(&word.as_str());
    if is(first, NAME_OF) && is(last, KIN) && between.iter().all(|word| is(word, OF)) {
        return Some((Class::Name as ClassId, Says::It, 0));
    }
    let of_patient = first == "patient"
        && (1..=2).contains(&between.len())
        && matches!(last.as_str(), "id" | "uuid" | "guid" | "uid" | "identifier")
        && between.iter().all(|word| is(word, NUMBERINGS));
    of_patient.then_some((Class::PatientId as ClassId, Says::It, 0))
}

/// `religious_background`: beside other data of somebody. What stands around the stem may be anything.
pub(super) fn by_stem(words: &[String]) -> Option<(ClassId, Says, usize)> {
    let last = words.last()?.as_str();
    let stem = words
        .iter()
        .find_map(|word| STEMS.iter().find(|(stem, _)| word == stem));
    let (_, class) = stem.filter(|_| words.len() > 1 && !OF_OTHERS.contains(&last))?;
    Some((*class as ClassId, Says::Beside, 0))
}
