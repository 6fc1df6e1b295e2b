//! A message of HL7 version 2 and its acknowledgement → the operation: `ADT^A01`, for whom, from whom, and what came back.
//!
//! Codes are shown if HL7's own tables have them. Applications and facilities are names that somebody has chosen: shown
//! where a policy or the configuration says them, else hashed. It comes over MLLP (`call/mllp.rs`) or as the body of a call
//! of HTTP, whatever its media type; wrapped in something else it is not looked for.

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::is_encoded;
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase};
use crate::decode::Hl7;

/// Segment names that are listed; further ones are left out.
const LISTED_MAX: usize = 32;

/// HL7 table 0076: codes of messages.
const CODES: &str = "ACK ADR ADT BAR BPS BRP BRT BTS CCF CCI CCM CCQ CCU CQU CRM CSU DBC DBU DDC DFT DOC DPR DRC DRG DSR EAC EAN \
    EAR EDR EHC EQQ ERP ESR ESU INR INU LSR LSU MCF MDM MFD MFK MFN MFQ MFR NMD NMQ NMR OMB OMD OMG OMI OML OMN OMP OMQ OMS OPL OPR \
    OPU ORA ORB ORD ORF ORG ORI ORL ORM ORN ORP ORR ORS ORU ORX OSM OSQ OSR OSU OUL PEX PGL PIN PMU PPG PPP PPR PPT PPV PRR PTR QBP \
    QCK QCN QRY QSB QSX QVR RAR RAS RCI RCL RDE RDO RDR RDS RDY REF RER RGR RGV ROR RPA RPI RPL RPR RQA RQC RQI RQP RQQ RRA RRD RRE \
    RRG RRI RSP RTB SCN SDN SDR SIU SLN SLR SMD SPQ SQM SQR SRM SRR SSR SSU STC STI SUR TBR TCR TCU UDM VQQ VXQ VXR VXU VXX";
/// HL7 table 0104: versions.
const VERSIONS: &str =
    "2.0 2.0D 2.1 2.2 2.3 2.3.1 2.3.2 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2 2.9 2.9.1";
/// HL7 table 0211: character sets, and what systems write instead.
const CHARSETS: &[&str] = &[
    "ASCII",
    "8859/1",
    "8859/2",
    "8859/3",
    "8859/4",
    "8859/5",
    "8859/6",
    "8859/7",
    "8859/8",
    "8859/9",
    "8859/15",
    "ISO IR6",
    "ISO IR14",
    "ISO IR87",
    "ISO IR159",
    "GB 18030-2000",
    "KS X 1001",
    "CNS 11643-1992",
    "BIG-5",
    "UNICODE",
    "UNICODE UTF-8",
    "UNICODE UTF-16",
    "UNICODE UTF-32",
    "UTF-8",
    "ISO-8859-1",
    "ISO8859-1",
    "US-ASCII",
];
/// Segments of the standard, 2.1 to 2.9.
const SEGMENTS: &str = "ABS ACC ADD ADJ AFF AIG AIL AIP AIS AL1 APR ARQ ARV AUT BHS BLC BLG BPO BPX BTS BTX BUI CDM CDO CER CM0 CM1 \
    CM2 CNS CON CSP CSR CSS CTD CTI CTR DAA DB1 DEV DG1 DMI DON DPS DRG DSC DSP DST ECD ECR EDU EQL EQP EQU ERQ ERR EVN FAC FHS FT1 \
    FTS GOL GP1 GP2 GT1 IAM IAR ICD IIM ILT IN1 IN2 IN3 INV IPC IPR ISD ITM IVC IVT LAN LCC LCH LDP LOC LRL MCP MFA MFE MFI MRG MSA \
    MSH NCK NDS NK1 NPU NSC NST NTE OBR OBX ODS ODT OH1 OH2 OH3 OH4 OM1 OM2 OM3 OM4 OM5 OM6 OM7 OMC ORC ORG OVR PAC PCE PCR PD1 PDA \
    PDC PEO PES PID PKG PM1 PMT PR1 PRA PRB PRC PRD PRT PSG PSH PSL PSS PTH PV1 PV2 PYE QAK QID QPD QRD QRF QRI RCP RDF RDT REL RF1 \
    RFI RGS RMI RQ1 RQD RXA RXC RXD RXE RXG RXO RXR RXV SAC SCD SCH SCP SDD SFT SGH SGT SHP SID SLT SPM STF STZ SUB TCC TCD TQ1 TQ2 \
    TXA UAC UB1 UB2 URD URS VAR VND VTQ";
/// HL7 table 0008: codes of acknowledgements.
const ACKNOWLEDGEMENTS: [&str; 6] = ["AA", "AE", "AR", "CA", "CE", "CR"];
/// HL7 table 0103: processing ids.
const PROCESSING: [&str; 3] = ["D", "P", "T"];
/// HL7 table 0155: when to acknowledge.
const CONDITIONS: [&str; 4] = ["AL", "NE", "ER", "SU"];

/// Fills in what can be told by now of a call of HTTP.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &Redactor) {
    match phase {
        Phase::Request if call.operation.is_none() => {
            let told = in_body(&call.raw.request_body).map(|message| asked(&message, redactor));
            call.operation = told.map(Box::new);
        }
        Phase::Complete if !is_encoded(call) => {
            if let Some(operation) = &mut call.operation
                && operation.api == Api::Hl7v2
                && let Some(message) = in_body(&call.raw.response_body)
            {
                answered(operation, &message);
            }
        }
        _ => {}
    }
}

/// Some keep the bytes that begin and end a block in MLLP.
fn in_body(body: &[u8]) -> Option<Hl7<'_>> {
    let start = body
        .iter()
        .position(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b)?;
    let body = &body[start..];
    let begins = [b"MSH", b"FHS", b"BHS"].iter().any(|id| body.starts_with(*id));
    let begins = begins && body.get(3).is_some_and(u8::is_ascii_punctuation);
    begins.then(|| Hl7::parse(body)).flatten()
}

/// The operation of a message that asks.
pub(in crate::call) fn asked(message: &Hl7<'_>, redactor: &Redactor) -> Operation {
    let mut details: Vec<(&'static str, SmolStr)> = Vec::new();
    let parties = [
        "sending-application",
        "sending-facility",
        "receiving-application",
        "receiving-facility",
    ];
    for (name, value) in parties.into_iter().zip(message.parties) {
        let value = message.separators.plain(value);
        if !value.is_empty() {
            details.push((name, redactor.system(&value)));
        }
    }
    if !message.control_id.is_empty() {
        details.push(("control-id", redactor.request_id(message.control_id)));
    }
    let mut known = |name: &'static str, value: &[u8], is_known: &dyn Fn(&str) -> bool| {
        if !value.is_empty() {
            let text = std::str::from_utf8(value).unwrap_or_default();
            let value = if is_known(text) { text } else { "other" };
            details.push((name, SmolStr::new(value)));
        }
    };
    known("version", message.version, &|text| has(VERSIONS, text));
    known("charset", message.charset, &|text| CHARSETS.contains(&text));
    known("processing", message.processing, &|text| {
        PROCESSING.contains(&text)
    });
    known("accept-acknowledgement", message.acknowledge[0], &|text| {
        CONDITIONS.contains(&text)
    });
    known("application-acknowledgement", message.acknowledge[1], &|text| {
        CONDITIONS.contains(&text)
    });
    details.push(("segments", segments(message)));
    details.push(("patients", message.patients.to_smolstr()));
    if !message.separators.is_usual() {
        details.push(("separators", SmolStr::new_static("own")));
    }
    Operation {
        api: Api::Hl7v2,
        name: kind(message),
        resource: SmolStr::default(),
        subject: message
            .patient
            .map(|id| message.separators.plain(id))
            .filter(|id| !id.is_empty())
            .map(|id| redactor.subject(&id)),
        entries: if message.is_batch || message.messages > 1 {
            message.messages
        } else {
            0
        },
        details,
    }
}

/// What an acknowledgement adds. A second one (the application's, after the commit) replaces what the first one said.
pub(in crate::call) fn answered(operation: &mut Operation, message: &Hl7<'_>) {
    let Some((code, _)) = message.answers else { return };
    let code = std::str::from_utf8(message.separators.plain(code).as_ref())
        .ok()
        .and_then(|code| ACKNOWLEDGEMENTS.into_iter().find(|known| *known == code))
        .unwrap_or("other");
    let mut set = |name: &'static str, value: SmolStr| match operation
        .details
        .iter_mut()
        .find(|(known, _)| *known == name)
    {
        Some((_, known)) => *known = value,
        None => operation.details.push((name, value)),
    };
    let commits = code.starts_with('C');
    set(if commits { "commit" } else { "ack" }, SmolStr::new_static(code));
    if message.kind[0] != b"ACK" {
        set("answer", kind(message));
        set("answer-segments", segments(message));
        if message.patients > 0 {
            operation.entries = operation.entries.max(message.patients);
        }
    }
}

/// `ADT^A01`; what HL7's tables do not have is `OTHER`.
fn kind(message: &Hl7<'_>) -> SmolStr {
    let [code, trigger, _] = message
        .kind
        .map(|part| std::str::from_utf8(part).unwrap_or_default());
    if code.is_empty() {
        return SmolStr::new_static(if message.is_batch { "batch" } else { "OTHER" });
    }
    let code = match has(CODES, code) {
        true => code,
        // Locally defined ones begin with Z; which one it is is theirs to know.
        false if code.len() == 3 && code.starts_with('Z') => "Z",
        false => "OTHER",
    };
    let is_trigger = trigger.len() == 3
        && trigger.as_bytes()[0].is_ascii_uppercase()
        && trigger.as_bytes()[1..]
            .iter()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    match (trigger, is_trigger) {
        ("", _) => SmolStr::new(code),
        (trigger, true) if !trigger.starts_with('Z') && trigger.as_bytes()[1].is_ascii_digit() => {
            format_smolstr!("{code}^{trigger}")
        }
        (_, true) if trigger.starts_with('Z') => format_smolstr!("{code}^Z"),
        _ => format_smolstr!("{code}^OTHER"),
    }
}

/// `MSH,EVN,PID`: those of the standard; `Z` for local ones.
fn segments(message: &Hl7<'_>) -> SmolStr {
    let mut listed: Vec<&str> = Vec::new();
    for name in &message.segments {
        let name = std::str::from_utf8(name).unwrap_or_default();
        let shown = match has(SEGMENTS, name) {
            true => name,
            false if name.starts_with('Z') => "Z",
            false => "other",
        };
        if listed.len() < LISTED_MAX && !listed.contains(&shown) {
            listed.push(shown);
        }
    }
    SmolStr::from(listed.join(","))
}

fn has(list: &str, word: &str) -> bool {
    !word.is_empty() && list.split_ascii_whitespace().any(|known| known == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::redact::Earning;

    fn operation(text: &str) -> Operation {
        let mut redactor = Redactor::new([1; 32], Earning::default());
        redactor.set_literals(&["LAB".into()]);
        asked(&Hl7::parse(text.as_bytes()).unwrap(), &redactor)
    }

    fn detail<'a>(operation: &'a Operation, name: &str) -> &'a str {
        operation
            .details
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    #[test]
    fn bodies_of_http_are_messages() {
        let message = "\x0bMSH|^~\\&|LAB|H|EHR|H|2026||ORU^R01^ORU_R01|7|P|2.5.1\rPID|1||412^^^H^MR\r\x1c\r";
        let mut given = super::super::given::call("POST /hl7")
            .header("content-type", "application/hl7-v2; charset=utf-8")
            .body(message)
            .answer(
                200,
                "application/hl7-v2",
                "MSH|^~\\&|EHR|H|LAB|H|2026||ACK^R01|8|P|2.5.1\rMSA|AE|7\r",
            );
        let text = given.at(Phase::Request);
        assert!(text.starts_with("ORU^R01 "), "{text}");
        assert!(text.contains(" patients=1"), "{text}");
        let text = given.at(Phase::Complete);
        assert!(text.contains(" ack=AE"), "{text}");
        for other in ["", "MSH", "MSHa key of something", "{\"MSH\":1}", " \r\n"] {
            let mut given = super::super::given::call("POST /hl7").body(other);
            assert_eq!(given.at(Phase::Request), "", "{other}");
        }
    }

    #[test]
    fn what_the_tables_have_is_shown_and_nothing_else() {
        for (kind, expected) in [
            ("ADT^A01^ADT_A01", "ADT^A01"),
            ("ORU^R01", "ORU^R01"),
            ("ACK", "ACK"),
            ("ZAB^Z01", "Z^Z"),
            ("SMITH^JOHN", "OTHER^OTHER"),
            ("QBP^ZV1", "QBP^Z"),
            ("", "OTHER"),
        ] {
            let text = format!(
                "MSH|^~\\&|LAB|Mercy|||||{kind}|1|P|2.5.1||||||UNICODE UTF-8\rZPD|1\rXYZ|1\rPID|1||55^^^A"
            );
            let operation = operation(&text);
            assert_eq!(operation.name, expected, "{kind}");
            assert_eq!(detail(&operation, "sending-application"), "LAB");
            assert!(detail(&operation, "sending-facility").starts_with("h:"));
            assert_eq!(detail(&operation, "version"), "2.5.1");
            assert_eq!(detail(&operation, "charset"), "UNICODE UTF-8");
            assert_eq!(detail(&operation, "segments"), "MSH,Z,other,PID");
            assert!(operation.subject.is_some() && operation.entries == 0);
        }
        let odd = operation("MSH|^~\\&|||||||ADT^A01|1|Smith|SMITH||||||SMITH");
        assert_eq!(
            ["version", "charset", "processing"].map(|name| detail(&odd, name).to_owned()),
            ["other", "other", "other"]
        );
    }

    #[test]
    fn acknowledgements_add_to_it() {
        let mut operation = operation("MSH|^~\\&|||||||QBP^Q22|1|P|2.5");
        answered(
            &mut operation,
            &Hl7::parse(b"MSH|^~\\&|||||||ACK|2\rMSA|CA|1").unwrap(),
        );
        answered(
            &mut operation,
            &Hl7::parse(b"MSH|^~\\&|||||||RSP^K22|3\rMSA|AA|1\rPID|1||1\rPID|2||2").unwrap(),
        );
        assert_eq!(
            ["commit", "ack", "answer"].map(|name| detail(&operation, name).to_owned()),
            ["CA", "AA", "RSP^K22"]
        );
        assert_eq!(operation.entries, 2);
        answered(
            &mut operation,
            &Hl7::parse(b"MSH|^~\\&|||||||ACK|2\rMSA|Smith|1").unwrap(),
        );
        assert_eq!(detail(&operation, "ack"), "other");
    }
}
