//! What the inputs are made of: conversations, messages and blocks as real software sends them.
//!
//! It must not know what is done with them.

use super::{Random, files, folder, http1};

/// A conversation as the http1 target reads it, cut into steps at random.
pub fn script(requests: &[u8], responses: &[u8], random: &mut Random) -> Vec<u8> {
    let mut script = vec![random.below(8) as u8];
    let mut rest = [requests, responses];
    while rest.iter().any(|rest| !rest.is_empty()) {
        let which = random.below(2);
        let length = (1 + random.below(200)).min(rest[which].len());
        let (piece, later) = rest[which].split_at(length);
        rest[which] = later;
        let step = if random.below(12) == 0 {
            random.below(http1::STEPS as usize) as u8
        } else {
            which as u8
        };
        script.extend([step, length as u8]);
        script.extend(piece);
    }
    script
}

/// The inputs of llhttp's own tests.
pub fn corpus() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for text in files(&folder("corpus/llhttp")) {
        let text = String::from_utf8_lossy(&text).into_owned();
        for block in text
            .split("```http\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
        {
            inputs.push(
                block
                    .replace('\n', "\r\n")
                    .replace("\\r", "\r")
                    .replace("\\n", "\n")
                    .into_bytes(),
            );
        }
    }
    assert!(
        inputs.len() > 200,
        "the corpus is not whole: {} inputs",
        inputs.len()
    );
    inputs
}

/// Header blocks of the corpus's encoders.
pub fn blocks() -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    for encoder in ["go-hpack", "nghttp2", "node-http2-hpack"] {
        for text in files(&folder("corpus/hpack").join(encoder)) {
            let text = String::from_utf8_lossy(&text).into_owned();
            for wire in text.split("\"wire\":").skip(1).take(6) {
                let digits = wire
                    .trim_start()
                    .trim_start_matches('"')
                    .split('"')
                    .next()
                    .unwrap_or_default();
                let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
                blocks.push((0..digits.len() / 2).map_while(|at| byte(at * 2)).collect());
            }
        }
    }
    assert!(blocks.len() > 40, "the corpus is not whole");
    blocks
}

/// Messages of HL7 with the marks that end them, and acknowledgements.
pub fn hl7() -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut messages: Vec<Vec<u8>> = vec![
        b"\x0bFHS|^~\\&|A\rBHS|^~\\&|A\rMSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5\rPID|1||5^^^M\rBTS|1\rFTS|1\r\x1c\r".to_vec(),
        b"\x0bMSH#*~!&#A#B###1##ORU*R01#2#P#2.3##AL#AL\rOBX#1#TX#!F!!X41!\r\x1c\r\x0bMSH|^~\\&|||||||QBP^Q22|3\r".to_vec(),
    ];
    for text in files(&folder("corpus/hl7v2")) {
        if text.starts_with(b"MSH") {
            let text: Vec<u8> = text
                .iter()
                .map(|byte| if *byte == b'\n' { b'\r' } else { *byte })
                .collect();
            messages.push([b"\x0b", &text[..text.len().min(700)], b"\x1c\r"].concat());
        }
    }
    assert!(messages.len() > 4, "the corpus is not whole");
    let answers = ["AA|1", "CA|2", "AE|MSG00001", "AA|2", "AR|"]
        .iter()
        .flat_map(|answer| format!("\x0bMSH|^~\\&|||||||ACK|9\rMSA|{answer}\r\x1c\r").into_bytes())
        .collect();
    (messages, answers)
}

/// Requests of every kind that is understood, and answers to them.
pub fn exchanges() -> Vec<Vec<u8>> {
    let message = |head: &str, body: &str| format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let asks = |line: &str, kind: &str, body: &str| {
        message(
            &format!("{line} HTTP/1.1\r\nHost: api.hospital.example:8443\r\nContent-Type: {kind}"),
            body,
        )
    };
    let uuid = "8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4c7";
    let get = |target: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer eyJhbGciOiJub25lIn0.eyJleHAiOjF9.\r\nX-Forwarded-For: 192.0.2.1\r\nCookie: sid=1; t=2\r\n\r\n"
        )
    };
    let requests = [
        get(&format!(
            "/r/{{{uuid}}}/{uuid}/J%C3%B6rg/jane.doe@example.org/42;v=1/Patients(123)?a=b&ssn=536-22-8741#c"
        )),
        get("/fhir/Patient/8/_history/3/$everything?_include=a&patient=Patient/2&name:exact=Okafor"),
        get(
            "/v1/projects/p/locations/l/datasets/d/dicomStores/s/dicomWeb/studies/1.2.3/series/4.5/frames/1,2",
        ),
        get("http://user:pw@[::1]:8080/a//b/../%2e%2e/c"),
        asks(
            "POST /fhir",
            "application/fhir+json",
            r#"{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/1"}}]}"#,
        ),
        asks(
            "POST /graphql",
            "application/json",
            r#"{"query":"query a($b:C){d(e:\"f\"){g}}","operationName":"a","variables":{"b":{"ssn":"536-22-8741"}}}"#,
        ),
        asks(
            "POST /s",
            "text/xml",
            r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><a:find xmlns:a="b"><name>Okafor</name></a:find></s:Body></s:Envelope>"#,
        ),
        asks(
            "POST /rpc",
            "application/json",
            r#"[{"jsonrpc":"2.0","method":"patient.find","params":{"mrn":"482913"},"id":1}]"#,
        ),
        asks(
            "POST /p.S/M",
            "application/grpc-web+proto",
            "\0\0\0\0\x05\x0a\x03abc",
        ),
        asks(
            "POST /edi",
            "application/edi-x12",
            "ISA*00*          *00*          *ZZ*A              *ZZ*B              *240101*1200*^*00501*000000001*0*P*:~GS*HC*A*B*20240101*1200*1*X*005010~ST*270*1~NM1*IL*1*OKAFOR*MARTA~SE*3*1~GE*1*1~IEA*1*000000001~",
        ),
        asks(
            "POST /h",
            "x-application/hl7-v2+er7",
            "MSH|^~\\&|A|B|||1||ADT^A01|1|P|2.5\rPID|1||482913^^^H^MR||Okafor^Marta||19800214\r",
        ),
        asks(
            "POST /f",
            "application/x-www-form-urlencoded",
            "name=J%C3%B6rg&dob=1980-02-14&card=4111111111111111",
        ),
        asks(
            "POST /m",
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"ssn\"\r\n\r\n536-22-8741\r\n--b--",
        ),
        asks(
            "POST /t",
            "text/csv; charset=iso-8859-1",
            "name,mrn,dob\nJörg,482913,1980-02-14\n",
        ),
    ];
    let bodies = [
        (
            "application/json; charset=utf-8",
            r#"{"resourceType":"Patient","id":"8","name":[{"family":"Okafor"}],"birthDate":"1980-02-14","items":[{"é":1},null]}"#,
        ),
        (
            "text/html",
            "<p>Mrs. Marta Okafor, born 02/14/1980, (212) 555-0142, m@x.example</p>",
        ),
        ("text/event-stream", "data: {\"ssn\":\"536-22-8741\"}\n\n"),
        (
            "application/problem+json",
            r#"{"errors":[{"message":"no"}],"data":null}"#,
        ),
    ];
    requests
        .iter()
        .enumerate()
        .flat_map(|(at, request)| bodies.iter().map(move |body| (at, request, body)))
        .map(|(at, request, (kind, body))| {
            let response = message(&format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}"), body);
            let length = (request.len() as u16).to_be_bytes();
            [&[at as u8], &length[..], request.as_bytes(), response.as_bytes()].concat()
        })
        .collect()
}
