//! ASC X12 interchanges in HTTP bodies: which transaction sets, and how many.
//!
//! An interchange begins with ISA, whose fixed width tells the separators. Sets are shown by their number if it is one of
//! health care's or a known other; names of trading partners are hashed. It must not read what a set says.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::is_encoded;
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase};

/// ISA with its terminator.
const ISA_BYTES: usize = 106;
/// Segments of one body that are looked at.
const SEGMENTS_MAX: usize = 200_000;
/// White space, or the head of a multipart body, before ISA.
const FRONT_BYTES: usize = 2_048;

/// Transaction sets that are shown.
const SETS: &[(&str, &str)] = &[
    ("269", "benefit-coordination"),
    ("270", "eligibility-inquiry"),
    ("271", "eligibility-response"),
    ("274", "provider-information"),
    ("275", "patient-information"),
    ("276", "claim-status-request"),
    ("277", "claim-status"),
    ("278", "services-review"),
    ("820", "premium-payment"),
    ("824", "application-advice"),
    ("834", "benefit-enrollment"),
    ("835", "claim-payment"),
    ("837", "claim"),
    ("864", "text"),
    ("997", "functional-acknowledgement"),
    ("999", "implementation-acknowledgement"),
];

struct Interchange {
    sets: BTreeMap<&'static str, u32>,
    count: u32,
    parties: [Vec<u8>; 2],
    version: SmolStr,
    test: bool,
}

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &Redactor) {
    match phase {
        Phase::Request if call.operation.is_none() => {
            let found = read(&call.raw.request_body).map(|sent| told(&sent, redactor));
            call.operation = found.map(Box::new);
        }
        Phase::Complete => {
            let encoded = is_encoded(call);
            let is_x12 = call
                .operation
                .as_ref()
                .is_none_or(|operation| operation.api == Api::X12);
            if encoded || !is_x12 {
                return;
            }
            let Some(answer) = read(&call.raw.response_body) else {
                return;
            };
            let operation = call
                .operation
                .get_or_insert_with(|| Box::new(told(&answer, redactor)));
            operation.details.push(("answer", sets(&answer)));
        }
        Phase::Head | Phase::Request => {}
    }
}

fn told(interchange: &Interchange, redactor: &Redactor) -> Operation {
    let mut details = vec![("sets", sets(interchange))];
    for (name, value) in ["sender", "receiver"].into_iter().zip(&interchange.parties) {
        if !value.is_empty() {
            details.push((name, redactor.system(value)));
        }
    }
    details.push(("version", interchange.version.clone()));
    let usage = if interchange.test { "test" } else { "production" };
    details.push(("usage", SmolStr::new_static(usage)));
    let first = interchange.sets.keys().next().copied().unwrap_or("OTHER");
    let about = SETS
        .iter()
        .find(|(set, _)| *set == first)
        .map_or("", |(_, about)| about);
    Operation {
        api: Api::X12,
        name: SmolStr::new_static(first),
        resource: SmolStr::new_static(about),
        subject: None,
        entries: interchange.count,
        details,
    }
}

/// `270:2,837:1`
fn sets(interchange: &Interchange) -> SmolStr {
    let all: Vec<String> = interchange
        .sets
        .iter()
        .map(|(set, count)| format!("{set}:{count}"))
        .collect();
    SmolStr::from(all.join(","))
}

fn read(body: &[u8]) -> Option<Interchange> {
    let front = &body[..body.len().min(FRONT_BYTES)];
    let start = memchr::memchr_iter(b'I', front)
        .filter(|at| front[*at..].starts_with(b"ISA"))
        .find(|at| (*at == 0 || !front[at - 1].is_ascii_alphanumeric()) && is_header(&body[*at..]))?;
    let body = &body[start..];
    let (element, terminator) = (body[3], body[ISA_BYTES - 1]);
    let fields: Vec<&[u8]> = body[..ISA_BYTES - 1].split(|byte| *byte == element).collect();
    let field = |number: usize| fields.get(number).copied().unwrap_or_default().trim_ascii();
    let version = field(12);
    let mut interchange = Interchange {
        sets: BTreeMap::new(),
        count: 0,
        parties: [field(6).to_vec(), field(8).to_vec()],
        version: match version.iter().all(u8::is_ascii_digit) {
            true => SmolStr::new(String::from_utf8_lossy(version)),
            false => SmolStr::new_static("other"),
        },
        test: field(15) == b"T",
    };
    let segments = body[ISA_BYTES..].split(|byte| *byte == terminator);
    for segment in segments.take(SEGMENTS_MAX) {
        let Some(rest) = segment.trim_ascii_start().strip_prefix(b"ST") else {
            continue;
        };
        if rest.first() != Some(&element) {
            continue;
        }
        let number = rest[1..]
            .split(|byte| *byte == element)
            .next()
            .unwrap_or_default();
        let known = SETS
            .iter()
            .map(|(set, _)| *set)
            .find(|set| set.as_bytes() == number)
            .unwrap_or("OTHER");
        interchange.count = interchange.count.saturating_add(1);
        *interchange.sets.entry(known).or_default() += 1;
    }
    Some(interchange)
}

/// The sixteen elements of ISA stand where they have to.
fn is_header(bytes: &[u8]) -> bool {
    const AT: [usize; 16] = [3, 6, 17, 20, 31, 34, 50, 53, 69, 76, 81, 83, 89, 99, 101, 103];
    bytes.len() >= ISA_BYTES
        && bytes[3].is_ascii_punctuation()
        && AT.iter().all(|at| bytes[*at] == bytes[3])
        && !bytes[ISA_BYTES - 1].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::semantics::given::call;

    fn interchange(sets: &str) -> String {
        format!(
            "ISA*00*          *00*          *ZZ*SUBMITTERID    *ZZ*RECEIVERID     *260101*1253*^*00501*000000905*0*P*:~\
             GS*HS*A*B*20260101*1253*1*X*005010X279A1~{sets}GE*1*1~IEA*1*000000905~"
        )
    }

    #[test]
    fn sets_are_counted() {
        let body = interchange("ST*270*0001~BHT*0022*13~SE*3*0001~\nST*270*0002~SE*1*0002~ST*999*3~");
        let mut given = call("POST /clearing")
            .header("content-type", "application/edi-x12")
            .body(&body);
        let told = given.at(Phase::Request);
        assert!(
            told.starts_with("270 eligibility-inquiry 3 sets=270:2,999:1 sender=h:"),
            "{told}"
        );
        assert!(told.ends_with("version=00501 usage=production"), "{told}");
        let told = given
            .answer(200, "text/plain", interchange("ST*271*1~"))
            .at(Phase::Complete);
        assert!(told.ends_with("answer=271:1"), "{told}");
        assert!(read(b"ISA is a word").is_none() && read(b"").is_none());
        assert!(read(&body.as_bytes()[..90]).is_none());
        assert_eq!(
            read(body.replace("*270*", "*SMI*").as_bytes())
                .unwrap()
                .sets
                .len(),
            2
        );
    }
}
