//! The fuzz targets of tests/fuzz on the stable toolchain: a bounded number of mutated inputs each, the same ones in
//! every run, and every case that once failed. `APIWARD_FUZZ_INPUTS` sets how many (default 20000), and
//! `APIWARD_FUZZ_SEED` where they start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../../tests/fuzz/targets/http1.rs"]
mod http1;
#[path = "../../tests/fuzz/targets/policy.rs"]
mod policy;

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

/// A conversation as the http1 target reads it, cut into steps at random.
fn script(requests: &[u8], responses: &[u8], random: &mut Random) -> Vec<u8> {
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

#[test]
fn http1_survives() {
    let mut random = Random(42);
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
    let (responses, requests): (Vec<_>, Vec<_>) =
        inputs.into_iter().partition(|input| input.starts_with(b"HTTP/"));
    let mut seeds = Vec::new();
    for request in &requests {
        for _ in 0..3 {
            let response = &responses[random.below(responses.len())];
            seeds.push(script(request, response, &mut random));
        }
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
