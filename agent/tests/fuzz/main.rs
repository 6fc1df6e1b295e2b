//! The fuzz targets of tests/fuzz on the stable toolchain: a bounded number of mutated inputs each, the same ones in
//! every run, and every case that once failed. `APIWARD_FUZZ_INPUTS` sets how many (default 20000), and
//! `APIWARD_FUZZ_SEED` where they start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use seeds::{blocks, corpus, exchanges, hl7, script};

#[path = "../../../tests/fuzz/targets/content.rs"]
mod content;
#[path = "../../../tests/fuzz/targets/gate.rs"]
mod gate;
#[path = "../../../tests/fuzz/targets/http1.rs"]
mod http1;
#[path = "../../../tests/fuzz/targets/http2.rs"]
mod http2;
#[path = "../../../tests/fuzz/targets/mllp.rs"]
mod mllp;
#[path = "../../../tests/fuzz/targets/pipeline.rs"]
mod pipeline;
#[path = "../../../tests/fuzz/targets/policy.rs"]
mod policy;
#[path = "../../../tests/fuzz/targets/record.rs"]
mod record;
mod seeds;
#[path = "../../../tests/fuzz/targets/tls.rs"]
mod tls;

/// Small, seeded, and good enough to choose mutations with (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {value}")),
        Err(_) => default,
    }
}

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(of)
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        match random.below(7) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => input.truncate(at.max(1)),
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let part = other[from..]
                    .iter()
                    .take(random.below(200))
                    .copied()
                    .collect::<Vec<u8>>();
                input.splice(at..at, part);
            }
            4 => {
                let to = (at + random.below(30)).min(input.len());
                input.drain(at.min(to)..to);
            }
            5 => {
                let to = (at + random.below(60)).min(input.len());
                let part = input[at.min(to)..to].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                input.splice(at..at, words[random.below(words.len())].iter().copied());
            }
        }
    }
    input.truncate(4096);
}

/// Runs a target over its saved cases and mutations of `seeds`; prints an input that fails so that it can be saved.
fn check(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>], words: &[&[u8]], share: u64) {
    let run = |input: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            let path = std::env::temp_dir().join(format!("apiward-fuzz-{name}"));
            let saved = std::fs::write(&path, input).is_ok();
            panic!(
                "{name} fails on this input (saved: {saved}, {}): {}",
                path.display(),
                input.escape_ascii()
            );
        }
    };
    for case in files(&folder("fuzz/cases").join(name)) {
        run(&case);
    }
    let mut random = Random(number("APIWARD_FUZZ_SEED", 0x9e37_79b9_7f4a_7c15) | 1);
    for seed in seeds {
        run(seed);
    }
    for _ in 0..number("APIWARD_FUZZ_INPUTS", 20_000) / share {
        let mut input = seeds[random.below(seeds.len())].clone();
        mutate(&mut input, seeds, words, &mut random);
        run(&input);
    }
}

#[test]
fn gate_survives() {
    let mut seeds = Vec::new();
    for request in corpus().into_iter().filter(|input| !input.starts_with(b"HTTP/")) {
        for policy in 0..4 {
            seeds.push([&[policy, policy * 3], &request[..]].concat());
        }
    }
    for (policy, request) in [
        (0, "GET /admin/x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (0, "GET /a/b/c?d HTTP/1.0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"),
        (
            1,
            "FROB / HTTP/1.1\r\nHost: x.example.org:80\r\nContent-Length: 3\r\n\r\nabc",
        ),
        (
            1,
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\nCONNECT h:1 HTTP/1.1\r\n\r\n",
        ),
        (
            2,
            "GET /x HTTP/1.1\r\nX-Api-Key: k\r\nAuthorization: bearer x\r\n\r\n",
        ),
        (
            3,
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ),
    ] {
        seeds.push([&[policy, 7], request.as_bytes()].concat());
    }
    let words: &[&[u8]] = &[
        b"\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" HTTP/1.1\r\n",
        b" ",
        b"\t",
        b"//",
        b"/..",
        b"%2e",
        b";",
        b"#",
        b"Host: h\r\n",
        b"Host: a.example.org.:80\r\n",
        b"[::1]",
        b"Authorization: bearer\t x\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 10\r\n",
        b"ocp-apim-subscription-key: k\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"0\r\n\r\n",
    ];
    check("gate", gate::run, &seeds, words, 2);
}

#[test]
fn http1_survives() {
    let mut random = Random(42);
    let inputs = corpus();
    let (responses, requests): (Vec<_>, Vec<_>) =
        inputs.into_iter().partition(|input| input.starts_with(b"HTTP/"));
    let mut seeds = Vec::new();
    for request in &requests {
        for _ in 0..3 {
            let response = &responses[random.below(responses.len())];
            seeds.push(script(request, response, &mut random));
        }
    }
    // The same stages read HTTP/2 and WebSocket.
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let ask = b"\0\0\x08\x01\x05\0\0\0\x01\x82\x86\x84\x41\x03a.b\0\0\x05\0\x01\0\0\0\x01hello";
    let answer = b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x02\0\x01\0\0\0\x01{}\0\0\x04\x03\0\0\0\0\x01\0\0\0\0";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let open = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let opened =
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    for _ in 0..40 {
        let requests = [&preface[..], settings, ask, ask].concat();
        let responses = [&settings[..], answer, answer].concat();
        seeds.push(script(&requests, &responses, &mut random));
        let requests = [&open[..], b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"].concat();
        let responses = [&opened[..], b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x81\x01x"].concat();
        seeds.push(script(&requests, &responses, &mut random));
    }
    let words: &[&[u8]] = &[
        b"\r\n\r\n",
        b"\n\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 10\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"Expect: 100-continue\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n\r\n",
    ];
    check("http1", http1::run, &seeds, words, 1);
}

#[test]
fn http2_survives() {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = payload.len() as u32;
        [
            &length.to_be_bytes()[1..],
            &[kind, flags, 0, 0, 0, stream],
            payload,
        ]
        .concat()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seeds = Vec::new();
    for (at, blocks) in blocks().chunks(3).enumerate() {
        let mut frames = vec![frame(4, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 5, 0, 0, 0x80, 0])];
        for (stream, block) in [1, 3, 5].into_iter().zip(blocks) {
            let half = block.len() / 2;
            frames.extend([
                frame(1, 0, stream, &block[..half]),
                frame(9, 4, stream, &block[half..]),
                frame(8, 0, 0, &[0, 0, 1, 0]),
                frame(0, 8, stream, &[&[3][..], b"some data", &[0; 3]].concat()),
                frame(1, 5, stream, &[0x40, 1, b'a', 1, b'b']),
            ]);
        }
        frames.extend([
            frame(3, 0, 5, &[0; 4]),
            frame(7, 0, 0, &[0; 8]),
            frame(6, 0, 0, &[0; 8]),
        ]);
        let how = [at as u8, at as u8 * 5, at as u8];
        seeds.push([&how[..], preface, &frames.concat()].concat());
        // Answers begin without a preface.
        let answer = [
            frame(1, 4, 1, &[0x88]),
            frame(5, 4, 1, &[0, 0, 0, 2, 0x82, 0x84, 0x86]),
        ]
        .concat();
        seeds.push([&[at as u8 | 1, 4, 9], &frames.concat()[..], &answer].concat());
    }
    let words: &[&[u8]] = &[
        preface,
        b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0",
        b"\0\0\x01\x01\x05\0\0\0\x07\x82",
        b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",
        b"\0\0\0\x09\x04\0\0\0\x01",
        b"\0\0\x02\0\x09\0\0\0\x01\xff\0",
        b"\0\0\0\0\0\0",
        b"\x3f\xe1\xff\x03",
        b"\xff\xff\xff\xff\x0f",
        b"\xbe",
        b"\x40\x01a\x01b",
    ];
    check("http2", http2::run, &seeds, words, 2);
}

const HL7_WORDS: &[&[u8]] = &[
    b"\x0b",
    b"\x1c",
    b"\x1c\r",
    b"\x1c\n",
    b"\x0bMSH|^~\\&|",
    b"\x0bFHS|",
    b"\rMSA|AA|1",
    b"\rPID|1||5",
    b"|",
    b"\r",
    b"GET / HTTP/1.1\r\n\r\n",
];

#[test]
fn mllp_survives() {
    let (messages, answers) = hl7();
    let mut seeds: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| [&[20], &message[..]].concat())
        .collect();
    seeds.push([&[7], &answers[..]].concat());
    check("mllp", mllp::run, &seeds, HL7_WORDS, 2);
    // Through all stages, with hostile records.
    let mut random = Random(43);
    let mut seeds = Vec::new();
    for message in &messages {
        for _ in 0..4 {
            seeds.push(script(message, &answers, &mut random));
        }
    }
    check("mllp-stages", http1::run, &seeds, HL7_WORDS, 2);
}

#[test]
fn pipeline_survives() {
    let words: &[&[u8]] = &[
        "é".as_bytes(),
        "Ѩ".as_bytes(),
        "𐀀".as_bytes(),
        "{".as_bytes(),
        b"}",
        b"/{",
        b"}/",
        b"%",
        b"%C3%A9",
        b"/",
        b"?",
        b"&",
        b"=",
        b":",
        b"@",
        b"[",
        b"]",
        b"$",
        b"-",
        b".",
        b"\"",
        b"\\u00e9",
        b"|",
        b"~",
        b"1",
        b"a",
        b"eyJ",
        b"\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n\r\n",
    ];
    // Its stages are made anew each time.
    check("pipeline", pipeline::run, &exchanges(), words, 10);
}

/// What bodies and targets say is looked into: FHIR, GraphQL, SOAP, JSON-RPC, X12, DICOMweb, tokens.
#[test]
fn semantics_survive() {
    let body = |line: &str, kind: &str, body: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let requests = [
        body("POST /fhir", "application/fhir+json", r#"{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET"}}]}"#),
        body("POST /x", "application/xml", r#"<Patient xmlns="http://hl7.org/fhir"><id value="1"/></Patient>"#),
        body("POST /graphql", "application/json", r#"{"query":"query a($b:C){d(e:\"f\"){g}}","operationName":"a"}"#),
        body("POST /s", "text/xml", r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><a/></s:Body></s:Envelope>"#),
        body("POST /r", "application/json", r#"[{"jsonrpc":"2.0","method":"a","id":1}]"#),
        body("POST /studies", "multipart/related; boundary=b", "--b\r\n\r\nx\r\n--b--"),
        "GET /Patient/1/Observation?patient=Patient/2&_include=a&access_token=eyJhbGciOiJub25lIn0.eyJleHAiOjF9. HTTP/1.1\r\nHost: a\r\nCookie: sid=1\r\n\r\n".to_owned(),
    ];
    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n{\"resourceType\":\"Bundle\",\"entry\":[{}]}";
    let mut random = Random(44);
    let mut seeds = Vec::new();
    for request in &requests {
        for _ in 0..3 {
            seeds.push(script(request.as_bytes(), response.as_bytes(), &mut random));
        }
    }
    let words: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"\"",
        b"<",
        b"/>",
        b"%",
        b"$export",
        b"/_history/",
        b"eyJ",
        b".",
        b"&",
        b"--b",
        b"\\u",
    ];
    check("semantics", http1::run, &seeds, words, 2);
}

/// A record with a length before it, as the record target reads it. `body` and `payload` follow a header for `kind`.
fn framed(kind: u8, body: &[u8], payload: &[u8], sequence: u64) -> Vec<u8> {
    let mut record = vec![kind, 0, 0, 0];
    record.extend((payload.len() as u32).to_le_bytes());
    record.extend(sequence.to_le_bytes());
    record.extend((1_000_000_000 + sequence * 1000).to_le_bytes());
    // A process that does not exist: nothing is looked up about a real one.
    for field in [0x7fff_fff0u32, 0x7fff_fff0, 0, 0] {
        record.extend(field.to_le_bytes());
    }
    record.extend([0; 8]);
    record.extend(*b"fuzz\0\0\0\0\0\0\0\0\0\0\0\0");
    record.extend(body);
    record.extend(payload);
    let mut framed = (record.len() as u16).to_le_bytes().to_vec();
    framed.extend(record);
    framed
}

fn data(flow: u64, position: u64, other: u64, flags: u8, payload: &[u8], sequence: u64) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [flow, position, other] {
        body.extend(field.to_le_bytes());
    }
    body.extend((payload.len() as u32).to_le_bytes());
    body.extend([0; 4]);
    body.extend(u64::from(flags & 2 != 0).to_le_bytes());
    body.extend([flags, 0, 0, 0, 0, 0, 0, 0]);
    framed(1, &body, payload, sequence)
}

#[test]
fn record_survives() {
    let request = b"GET /fhir/Patient/1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let mut open = 7u64.to_le_bytes().to_vec();
    open.extend([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    open.extend([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    open.extend([
        80, 0, 90, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 2, 0, 1, 0, 0, 0, 0,
    ]);
    let mut close = 7u64.to_le_bytes().to_vec();
    close.extend([0; 64]);
    let mut seeds = Vec::new();
    for flags in [0, 2] {
        let flow = if flags == 0 { 7 } else { 0x5555_0000 };
        seeds.push(
            [
                framed(2, &open, b"", 0),
                data(flow, 1, 1, flags, request, 1),
                data(flow, 1, 1 + request.len() as u64, flags | 1, response, 2),
                framed(3, &close, b"", 3),
            ]
            .concat(),
        );
    }
    for seed in &seeds {
        assert_eq!(record::calls(seed), 1, "the records' layout has changed");
    }
    for kind in 0..12 {
        seeds.push(framed(kind, &[0xff; 72], b"libssl.so.3\0", u64::from(kind)));
    }
    let words: &[&[u8]] = &[
        &[0xff; 8],
        &[0; 8],
        &[0x7f, 0xff, 0xff, 0xff],
        &[1],
        &[0x80, 0, 0, 0, 0, 0, 0, 0],
    ];
    check("record", record::run, &seeds, words, 2);
}

#[test]
fn policy_survives() {
    let seeds = [
        b"apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: a }\nspec:\n  mode: enforce\n  onAmbiguous: deny\n  rules:\n    - name: b\n      match: { direction: inbound, methods: [GET], paths: [\"/fhir/{type}/$export\", \"/a/**\"], peers: { not: [10.0.0.0/8] } }\n      action: deny\n      require: prevented\n".to_vec(),
        b"apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: c }\nspec:\n  rules:\n    - name: d\n      match: { direction: outbound, hosts: { not: [\"*.hospital.example\"] }, auth: none }\n      when: \"call.request.body.bytes > 0\"\n      action: alert\n    - name: e\n      match: { paths: [\"/login\"] }\n      rate: { requests: 10, per: 1m, by: peer }\n      action: kill\n".to_vec(),
    ];
    let words: &[&[u8]] = &[
        b"---\n",
        b"spec:\n",
        b"  - ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"&a ",
        b"*a",
        b"!!map ",
        b"\"",
        b"when: \"",
        b"((((",
        b"/**",
        b"0.0.0.0/99",
    ];
    // Compiling a policy costs a hundred times what a record does.
    check("policy", policy::run, &seeds, words, 20);
}

#[test]
fn content_survives() {
    let bodies: [&[u8]; 9] = [
        b"\x08\x00mutation S($a: B!) { save(input: {ssn: \"536-22-8741\", tags: [\"a\", 1, {b: true}]}) { id } }",
        b"\x00\x00{\"query\":\"{ p(n: \\\"A\\\") { id } }\",\"data\":\"UGF0aWVudCBNYXJ0YSBPa2Fmb3IsIE1STiA0ODI5MTMu\",\"m\":\"{\\\"ssn\\\":1}\"}",
        b"\x00\x00[{\"name\":\"mrn\",\"value\":\"482913\"},{\"path\":\"/name/0/family\",\"value\":\"Okafor\"},{\"ssn\":{\"S\":\"1\"}}]",
        b"\x01\x00<A><PID.5><XPN.1>Okafor</XPN.1></PID.5><id root=\"1.2\" extension=\"3\"/><D tag=\"00100010\"><Value>x</Value></D></A>",
        b"\x00\x00{\"resourceType\":\"Patient\",\"identifier\":[{\"type\":{\"coding\":[{\"code\":\"MR\"}]},\"value\":\"1\"}],\"a\":[1,null,\"\\u00e9\"]}",
        b"\x01\x00<Patient xmlns=\"http://hl7.org/fhir\"><name><family value=\"a&amp;b\"/></name></Patient>",
        b"\x03\x00--x\r\nContent-Disposition: form-data; name=\"ssn\"\r\n\r\n536-22-8741\r\n--x--\r\n",
        b"\x07\x00MSH|^~\\&|A|B\rPID|1||12^^^H^MR~13||A\\T\\B^C||19800214\r",
        b"\x06\x00Mrs. Marta Okafor, born 02/14/1980, GB82 WEST 1234 5698 7654 32, (212) 555-0142, m@x.example",
    ];
    let seeds: Vec<Vec<u8>> = bodies.iter().map(|body| body.to_vec()).collect();
    let words: &[&[u8]] = &[
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"\\u",
        b"<a>",
        b"</a>",
        b"&lt;",
        b"|",
        b"^",
        b"~",
        b"\\T\\",
        b"\r",
        b"--x",
        b"1-2-3",
        b"@",
        b"eyJ",
        b"(01)",
        b"+49 ",
        b"patient ",
        b"ISA*",
    ];
    check("content", content::run, &seeds, words, 20);
}

/// A turn of a handshake: who speaks, and what.
fn turn(who: u8, records: &[&[u8]]) -> Vec<u8> {
    let bytes = records.concat();
    [&[who][..], &(bytes.len() as u16).to_be_bytes(), &bytes].concat()
}

#[test]
fn tls_survives() {
    let message = |kind: u8, body: &[u8]| [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), body].concat();
    let framed =
        |kind: u8, body: &[u8]| [&[kind, 3, 3][..], &(body.len() as u16).to_be_bytes(), body].concat();
    let extensions: &[u8] = b"\x00\x1f\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.example\x00\x10\x00\x05\x00\x03\x02h2\x00\x2b\x00\x00";
    let client = [
        &b"\x03\x03"[..],
        &[7; 32],
        b"\x00\x00\x02\xc0\x2f\x01\x00",
        extensions,
    ]
    .concat();
    let server = [&b"\x03\x03"[..], &[8; 32], b"\x00\xc0\x2f\x00"].concat();
    let der = std::fs::read(folder("corpus/tls/a.example.der")).expect("a certificate");
    let length = |bytes: usize| [0, (bytes >> 8) as u8, bytes as u8];
    let chain = [&length(der.len() + 3)[..], &length(der.len()), &der].concat();
    let done = framed(22, &[message(11, &chain), message(14, b"")].concat());
    let change = framed(20, &[1]);
    let seeds = vec![
        [
            vec![9],
            turn(0, &[&framed(22, &message(1, &client))]),
            turn(1, &[&framed(22, &message(2, &server)), &done]),
            turn(
                0,
                &[
                    &framed(22, &message(16, &[1; 40])),
                    &change,
                    &framed(22, &[0xee; 40]),
                ],
            ),
        ]
        .concat(),
        [
            vec![2],
            turn(0, &[&framed(22, &message(1, &client)), &change]),
            turn(1, &[&done]),
        ]
        .concat(),
    ];
    let words: &[&[u8]] = &[
        &[22, 3, 3, 0, 4],
        &[20, 3, 3, 0, 1, 1],
        &[23, 3, 3, 0, 1],
        &[1, 0, 0],
        &[2, 0, 0],
        &[11, 0, 0],
        &[0xff, 0xff],
        &[0, 0],
        &[0, 43, 0, 2, 3, 4],
        &[0, 0, 0],
    ];
    check("tls", tls::run, &seeds, words, 4);
}
