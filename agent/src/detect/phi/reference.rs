//! `docs/data-classes.md`, rendered from [`DETECTORS`], so that it cannot drift from the code.

use std::fmt::Write;

use super::class::DETECTORS;

/// The page.
pub fn render() -> String {
    let mut page = String::from(HEAD);
    // Writing into a string cannot fail.
    for detector in DETECTORS {
        let _ = write!(
            page,
            "\n### `{}`\n\n{} · group `{}`{}\n\n{}\n",
            detector.name,
            detector.about.trim_end_matches('.'),
            detector.group.as_str(),
            if detector.identifies { " · keyed hash" } else { "" },
            source(detector.source)
        );
        let lists = [
            ("Keys", detector.keys),
            ("Keys alone, or behind words for people", detector.keys_alone),
            ("Keys beside other personal data", detector.keys_beside),
            ("Words before it", detector.words),
        ];
        for (title, words) in lists {
            if !words.is_empty() {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                let _ = write!(page, "\n{title}: {}.\n", words.join(", "));
            }
        }
        if let Some(shape) = &detector.shape {
            let by_itself = match (shape.alone, shape.alone_grouped) {
                (0, 0) => "never reported".to_owned(),
                (0, grouped) => format!("{grouped} where its digits stand in groups"),
                (alone, grouped) if alone == grouped => alone.to_string(),
                (alone, grouped) => format!("{alone}, {grouped} where its digits stand in groups"),
            };
            let _ = write!(
                page,
                "\nBy its form: confidence {} behind one of its words; by itself {by_itself}.\n",
                shape.beside
            );
        }
    }
    page
}

fn source(source: &str) -> String {
    format!("Source: {source}.")
}

const HEAD: &str = "\
# Classes of personal data

<!-- Rendered from agent/src/detect/phi/detectors; a test fails where they differ. \
Render it again with `UPDATE_DOCS=1 cargo test -p apiward detect::phi`. -->

The agent looks at the path, the query, the headers and the bodies of every call, and tells which kinds of personal data
are there: class, group, evidence, confidence (0 to 100), part and location, how many, and for classes that identify a
keyed hash of the first value to correlate by. The key is this installation's own and never leaves it; a value never
does.

Bodies are read through `Content-Encoding` gzip, deflate, br and zstd, as JSON, NDJSON, XML, forms, multipart, CSV,
HL7 v2, X12, vCard, iCalendar, GraphQL, protobuf and text, by their media type or their first bytes; so are contents within
their values: JSON, XML, HL7 v2 or X12 in a string, a GraphQL `query`, base64 of text (FHIR's attachments, `data:` URLs).
What is not captured is not looked at (`capture.body_bytes_max`), nor are images and other binary documents.

Evidence, strongest first:

- `structure`: where it stands. An element of FHIR by the type of its resource, a field of HL7 v2 (`PID-5`), an element
  of X12, a tag of DICOM (files, JSON and XML), a key. Data of a practitioner is of the group `pii`, an organization's own is not told,
  and definitions (CapabilityStatement, ValueSet, StructureDefinition …) have none.
- `checksum`: its own check digits.
- `context`: its form, and words before it or in its key.
- `pattern`: its form alone. Forms that many things have are not told by themselves.

Groups: `phi` identifies a patient or those around one; `pii` is about other people, or of a special category of GDPR
Article 9; `health` is about somebody's health; `financial`; `credential`. In policies,
`call.request.phi.count` is the number of values of the groups `phi` and `health` in the request.

A name that is a value counts as a key: `{\"name\": \"ssn\", \"value\": …}`, and `{\"ssn\": {\"value\": …}}`.
So does the type beside a number: `{\"type\": \"MRN\", \"id\": …}`, `{\"PatientIDs\": [{\"ID\": …, \"IDType\": \"MR\"}]}`
(codes of HL7 table 0203), `{\"type\": \"patients\", \"id\": …}`. A name of a form's field that leads into a structure
(`patients[0][ssn]`, `patients[0].ssn`) is read as JSON would be, and is at `$.patients[].ssn`. Behind a word for people
(`attendingPhysician`) what looks like a name is one.
Keys are compared without separators, capitals and accents, also behind other words: `patient_SSN` is `ssn`. In text the
words before a colon, `=` or `#` count as a key does, `Insurance ID: …`, and those before a number, `member ID 4829…`; what is
said of other things as well (`account 4829…`) only beside something else of somebody. A name in text stands behind a title, a
greeting or a word for people, and begins with a given name that many have, or the text has something else of somebody. Beside
that, names that begin with a given name are told wherever they stand: in the middle of a sentence, and as values of any key
but one that ends in a word for things (`album`, `street`). Other names in the middle of a sentence are not. Where a key says
that somebody may be named (`customer_name`, `full_name`, `owner`, `members[].name`), a name is told without anything beside
it, if it begins with a given name or ends in a family name that many have; whoever wrote something (`author`) is not. An object
with many keys that are sentences is a catalogue of messages, and nobody's. What has a fact of
companies (an industry, an EIN) and nobody in it is an organization's. A location shows a key whose words all ship with the
agent; any other is `{key}` (`okafor_phone`), unless `redact.literals` has it. Own names and
patterns are added by `detect.phi.keys` and `detect.phi.patterns`, classes are left out by `detect.phi.off`; see
[configuration.md](configuration.md).

## Classes
";
