//! The rules: who may import what, and what every file must have. The table is the architecture's, row by row.
//!
//! Pure: a file's path and text in, complaints out.

use super::lex::{Token, lex};
use super::paths::{Named, paths};

/// The stages in the order a call passes them. Imports point to the left.
const STAGES: [&str; 8] = [
    "capture", "flow", "decode", "call", "detect", "policy", "enforce", "export",
];
/// Stages that are functions of bytes and time: tested without root, without a runtime, without sleeping.
const PURE_STAGES: [&str; 5] = ["flow", "decode", "call", "detect", "policy"];
/// Parts of the agent that a stage must not reach for: what they decide is handed to it.
const NOT_STAGES: [&str; 4] = ["cli", "config", "pipeline", "telemetry"];

const LINES_MAX: usize = 700;
/// A module doc shorter than this says nothing (bytes).
const MODULE_DOC_BYTES_MIN: usize = 24;

/// Outside of pure stages' world, with what to do instead.
const IMPURE: &[(&[&str], &str)] = &[
    (&["tokio"], "decide here, and let `pipeline` do the waiting"),
    (
        &["aya"],
        "take a plain value; only `kernel`, `capture` and `enforce` hold handles",
    ),
    (&["prost"], "use the stage's own types; `export/wire.rs` converts"),
    (&["tonic"], "use the stage's own types; `export` speaks gRPC"),
    (
        &["apiward_proto"],
        "use the stage's own types; `export/wire.rs` converts",
    ),
    (&["std", "fs"], "take the text or the bytes as an argument"),
    (&["std", "env"], "take the value as an argument"),
    (&["std", "process"], "take the value as an argument"),
    (&["std", "thread"], "let `pipeline` do the waiting"),
    (&["std", "time", "SystemTime"], "time comes in the record"),
    (&["std", "time", "Instant"], "time comes in the record"),
    (&["SystemTime"], "time comes in the record"),
    (&["Instant"], "time comes in the record"),
    (&["jiff", "Timestamp", "now"], "time comes in the record"),
    (&["jiff", "Zoned", "now"], "time comes in the record"),
    (&["std", "net", "TcpStream"], "bytes come from `capture`"),
    (&["std", "net", "TcpListener"], "bytes come from `capture`"),
    (&["std", "net", "UdpSocket"], "bytes come from `capture`"),
];

/// Something to change, at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub file: String,
    pub line: usize,
    pub message: String,
}

/// Checks a Rust file. `path` is relative to the root, with `/`.
///
/// `tests` are the modules that other files declare for tests, see [`test_modules`].
pub fn check_rust(path: &str, text: &str, tests: &[String]) -> Vec<Complaint> {
    let tokens = lex(text);
    let in_test = is_test_file(path) || tests.iter().any(|module| is_in_module(path, module));
    let named = paths(&tokens, &module_of(path), in_test);
    let mut check = Check {
        path,
        complaints: Vec::new(),
    };
    check.module_doc(text);
    check.unsafe_code(&tokens);
    check.unfinished(&tokens);
    if !in_test {
        check.inlined_files(&tokens);
    }
    for named in &named {
        check.import(named);
    }
    if let Some(stage) = stage_of(path)
        && PURE_STAGES.contains(&stage)
        && !in_test
    {
        check.globals(&tokens);
    }
    check.complaints
}

/// The modules that a file declares by `#[cfg(test)] mod name;`, as paths without an ending.
pub fn test_modules(path: &str, text: &str) -> Vec<String> {
    let tokens = lex(text);
    let words: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let folder = match path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
        _ => path.trim_end_matches(".rs"),
    };
    let declaration = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    words
        .windows(declaration.len() + 2)
        .filter(|window| window.starts_with(&declaration) && window.ends_with(&[";"]))
        .map(|window| format!("{folder}/{}", window[declaration.len()]))
        .collect()
}

/// Whether a file is this module or below it.
fn is_in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Checks any text file: length, machine paths, notes to oneself.
pub fn check_text(path: &str, text: &str) -> Vec<Complaint> {
    let mut check = Check {
        path,
        complaints: Vec::new(),
    };
    let is_source = [".rs", ".py", ".sh", ".proto"]
        .iter()
        .any(|end| path.ends_with(end));
    let lines = text.lines().count();
    if is_source && lines > LINES_MAX {
        check.complain(
            LINES_MAX + 1,
            format!("{lines} lines, more than {LINES_MAX}: split the file by what it is for"),
        );
    }
    // Spelled so that this file does not contain what it looks for.
    let places = [concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (index, line) in text.lines().enumerate() {
        for place in places {
            if begins_path(line, place) {
                check.complain(
                    index + 1,
                    format!("`{place}` is a path of one machine: derive it, or name it by role"),
                );
            }
        }
        for note in notes {
            if contains_word(line, note) {
                check.complain(index + 1, format!("`{note}`: do it, or write an issue"));
            }
        }
    }
    check.complaints
}

/// Whether a path in `line` begins with `place` and goes on; `/proc/1/…` followed by it is another path.
fn begins_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        before.is_none_or(|c| c.is_whitespace() || "\"'`(=:,[<".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || "._~-{$".contains(c))
    })
}

/// Whether `word` stands in `line` and is not the end or the start of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    let part_of_word =
        |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.' || c == '-');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_as_word = word.ends_with(char::is_alphabetic);
        let goes_on = ends_as_word && part_of_word(after.filter(|c| *c != '.'));
        !part_of_word(before) && !goes_on
    })
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/")
}

/// `agent/src/call/redact.rs` → `["call", "redact"]`.
fn module_of(path: &str) -> Vec<String> {
    let Some((_, inside)) = path.split_once("/src/") else {
        return Vec::new();
    };
    let mut module: Vec<String> = inside
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if module
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
    {
        module.pop();
    }
    module
}

/// The stage that a file of the agent belongs to.
fn stage_of(path: &str) -> Option<&'static str> {
    let inside = path.strip_prefix("agent/src/")?;
    let folder = inside.split('/').next()?.trim_end_matches(".rs");
    STAGES.into_iter().find(|stage| *stage == folder)
}

struct Check<'a> {
    path: &'a str,
    complaints: Vec<Complaint>,
}

impl Check<'_> {
    fn complain(&mut self, line: usize, message: impl Into<String>) {
        self.complaints.push(Complaint {
            file: self.path.to_owned(),
            line,
            message: message.into(),
        });
    }

    fn module_doc(&mut self, text: &str) {
        let doc: String = text
            .lines()
            .skip_while(|line| line.is_empty() || line.starts_with("#!"))
            .map_while(|line| line.strip_prefix("//!"))
            .collect();
        if doc.trim().len() < MODULE_DOC_BYTES_MIN {
            self.complain(
                1,
                "no module doc: say in `//!` what the file is for, why so, and what it must not know",
            );
        }
    }

    fn unsafe_code(&mut self, tokens: &[Token<'_>]) {
        let allowed = ["agent/src/kernel/", "agent-ebpf/", "agent-common/"];
        if allowed.iter().any(|folder| self.path.starts_with(folder)) {
            return;
        }
        for token in tokens.iter().filter(|token| token.text == "unsafe") {
            self.complain(
                token.line,
                "`unsafe` belongs in agent/src/kernel and the eBPF crates: offer a safe handle there",
            );
        }
    }

    fn unfinished(&mut self, tokens: &[Token<'_>]) {
        for pair in tokens.windows(2) {
            if ["todo", "unimplemented", "dbg"].contains(&pair[0].text) && pair[1].text == "!" {
                self.complain(
                    pair[0].line,
                    format!(
                        "`{}!` is unfinished: return an error that says what to do",
                        pair[0].text
                    ),
                );
            }
        }
    }

    /// `#[path = "…"]` would pull a file past the table. Tests may stand beside their module by it.
    fn inlined_files(&mut self, tokens: &[Token<'_>]) {
        let is_test = |at: usize| {
            let before = &tokens[at.saturating_sub(10)..at];
            before
                .windows(4)
                .any(|words| words.iter().map(|word| word.text).eq(["cfg", "(", "test", ")"]))
        };
        for (at, three) in tokens.windows(3).enumerate() {
            if three[0].text == "[" && three[1].text == "path" && three[2].text == "=" && !is_test(at) {
                self.complain(
                    three[1].line,
                    "`#[path]` hides where a module is: put the file where its name says",
                );
            }
        }
    }

    /// Values that outlive a call make a stage's answer depend on what happened before.
    fn globals(&mut self, tokens: &[Token<'_>]) {
        const CELLS: [&str; 7] = [
            "Mutex",
            "RwLock",
            "OnceLock",
            "OnceCell",
            "RefCell",
            "Cell",
            "UnsafeCell",
        ];
        for (at, token) in tokens.iter().enumerate() {
            let next = tokens.get(at + 1).map_or("", |next| next.text);
            let global = match token.text {
                "thread_local" => next == "!",
                "static" if next == "mut" => true,
                "static" if tokens.get(at + 2).is_some_and(|colon| colon.text == ":") => tokens[at..]
                    .iter()
                    .take_while(|token| token.text != "=" && token.text != ";")
                    .any(|token| CELLS.contains(&token.text) || token.text.starts_with("Atomic")),
                _ => false,
            };
            if global {
                self.complain(
                    token.line,
                    "a global that changes: keep it in the stage's own state",
                );
            }
        }
    }

    fn import(&mut self, named: &Named) {
        if let Some(stage) = stage_of(self.path) {
            self.stage_import(stage, named);
        } else if self.path.starts_with("agent/src/kernel/") {
            self.kernel_import(named);
        } else if self.path.starts_with("agent-common/") {
            if named.in_test {
                return;
            }
            if named.is_under(&["std"]) || named.is_under(&["alloc"]) {
                self.complain(
                    named.line,
                    format!("`{}`: the kernel has `core` alone", named.display()),
                );
            }
        } else if self.path.starts_with("agent-ebpf/") {
            if named.is_under(&["std"]) || named.is_under(&["alloc"]) || named.is_under(&["apiward"]) {
                self.complain(
                    named.line,
                    format!(
                        "`{}`: kernel programs use apiward-common and aya-ebpf",
                        named.display()
                    ),
                );
            }
        } else if self.path.starts_with("tests/fuzz/") {
            // It drives the pure stages as a library: that is what they are.
        } else if self.path.starts_with("tests/") {
            if named.segments.len() > 1
                && ["apiward", "apiward_collector", "apiward_common"].contains(&named.segments[0].as_str())
            {
                self.complain(
                    named.line,
                    format!("`{}`: tests use the binaries and apiward-proto", named.display()),
                );
            }
        } else if named.is_under(&["apiward_proto"])
            && self.path.starts_with("agent/src/")
            && !self.path.starts_with("agent/src/cli/")
        {
            self.complain(
                named.line,
                "generated types are for `export` (and `cli`, the control socket's client)",
            );
        }
    }

    fn stage_import(&mut self, stage: &str, named: &Named) {
        let own = STAGES.iter().position(|known| *known == stage);
        if PURE_STAGES.contains(&stage) && !named.in_test {
            for (path, instead) in IMPURE {
                if named.is_under(path) {
                    self.complain(
                        named.line,
                        format!("`{}` in the pure stage `{stage}`: {instead}", named.display()),
                    );
                    return;
                }
            }
        }
        if named.is_under(&["aya"]) && stage == "export" {
            self.complain(
                named.line,
                "`aya` in `export`: what the kernel knows comes as a value",
            );
        }
        if named.is_under(&["apiward_proto"]) && !PURE_STAGES.contains(&stage) && stage != "export" {
            self.complain(
                named.line,
                "generated types are for `export`: use the stage's own types",
            );
        }
        if named.segments.first().is_none_or(|first| first != "crate") {
            return;
        }
        let Some(folder) = named.segments.get(1).map(String::as_str) else {
            return;
        };
        if folder == stage {
            return;
        }
        if NOT_STAGES.contains(&folder) {
            self.complain(
                named.line,
                format!(
                    "`{}` from the stage `{stage}`: take the value as an argument",
                    named.display()
                ),
            );
        } else if folder == "kernel" {
            if !["capture", "enforce"].contains(&stage) {
                self.complain(
                    named.line,
                    format!(
                        "`{}` from `{stage}`: only `capture` and `enforce` hold kernel handles",
                        named.display()
                    ),
                );
            }
        } else if let Some(other) = STAGES.iter().position(|known| *known == folder) {
            if Some(other) > own && !named.in_test {
                self.complain(
                    named.line,
                    format!(
                        "`{}`: `{folder}` comes after `{stage}`; imports point upstream",
                        named.display()
                    ),
                );
            } else if !named.in_test && !names_a_type(&named.segments[2..]) {
                self.complain(
                    named.line,
                    format!(
                        "`{}`: name the types of `{folder}/mod.rs`, not its modules or functions",
                        named.display()
                    ),
                );
            }
        }
    }

    fn kernel_import(&mut self, named: &Named) {
        if named.segments.first().is_some_and(|first| first == "crate")
            && let Some(folder) = named.segments.get(1)
            && (STAGES.contains(&folder.as_str()) || NOT_STAGES.contains(&folder.as_str()))
        {
            self.complain(
                named.line,
                format!("`{}` from `kernel`: it knows no pipeline", named.display()),
            );
        }
    }
}

/// Types, their constants and methods; not a module, not a free function.
fn names_a_type(rest: &[String]) -> bool {
    rest.first()
        .is_some_and(|first| first.starts_with(char::is_uppercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = "//! What this file is for, and why it is so.\n";

    /// The messages of a file, by line.
    fn check(path: &str, code: &str) -> Vec<(usize, String)> {
        check_rust(path, &format!("{DOC}{code}"), &[])
            .into_iter()
            .map(|c| (c.line, c.message))
            .collect()
    }

    fn is_refused(path: &str, code: &str) -> bool {
        !check(path, code).is_empty()
    }

    #[test]
    fn imports_point_upstream_to_types() {
        for (path, code, refused) in [
            ("agent/src/call/mod.rs", "use crate::decode::Message;", false),
            ("agent/src/call/mod.rs", "use crate::detect::Finding;", true),
            (
                "agent/src/call/mod.rs",
                "use crate::decode::http1::Decoder;",
                true,
            ),
            (
                "agent/src/call/mod.rs",
                "fn f() { crate::decode::decode(x) }",
                true,
            ),
            ("agent/src/call/mod.rs", "use crate::decode;", true),
            (
                "agent/src/call/redact.rs",
                "use super::pair::Pair; use crate::call::own();",
                false,
            ),
            (
                "agent/src/call/redact.rs",
                "use super::super::policy::Verdict;",
                true,
            ),
            ("agent/src/policy/mod.rs", "use crate::config::Config;", true),
            ("agent/src/detect/mod.rs", "use crate::kernel::Loaded;", true),
            (
                "agent/src/enforce/mod.rs",
                "use crate::kernel::flows::FlowMap;",
                false,
            ),
            ("agent/src/kernel/load.rs", "use crate::capture::Segment;", true),
            (
                "agent/src/pipeline.rs",
                "use crate::export::start; use crate::flow;",
                false,
            ),
            (
                "agent/src/cli/run.rs",
                "use crate::pipeline; use apiward_proto::v1::Event;",
                false,
            ),
            ("agent/src/pipeline.rs", "use apiward_proto::v1::Event;", true),
            ("agent/src/capture/mod.rs", "use apiward_proto::v1::Event;", true),
            ("agent/src/export/wire.rs", "use apiward_proto::v1::Event;", false),
            ("agent/src/export/wire.rs", "use aya::Ebpf;", true),
        ] {
            assert_eq!(is_refused(path, code), refused, "{path}: {code}");
        }
    }

    #[test]
    fn pure_stages_know_no_world() {
        for (code, refused) in [
            ("use std::net::IpAddr; use std::time::Duration;", false),
            ("use std::{fs::read, io};", true),
            ("use std::time::{Duration, Instant};", true),
            ("fn f() { let t = Instant::now(); }", true),
            ("fn f() { std::env::var(x); }", true),
            ("use tokio::sync::mpsc;", true),
            ("static X: Mutex<u8> = Mutex::new(0);", true),
            ("static X: AtomicU64 = AtomicU64::new(0);", true),
            ("fn f(x: &'static str) {} static Y: &str = m;", false),
            (
                "#[cfg(test)] mod tests { use std::fs; #[test] fn t() { std::fs::read(x); } }",
                false,
            ),
        ] {
            assert_eq!(is_refused("agent/src/flow/mod.rs", code), refused, "{code}");
        }
        assert!(!is_refused(
            "agent/src/export/spool.rs",
            "use std::fs; use tokio::sync::mpsc;"
        ));
    }

    #[test]
    fn modules_for_tests_are_known_by_their_declaration() {
        let declared = test_modules(
            "agent/src/flow/mod.rs",
            "mod a; #[cfg(test)] mod corpus; #[cfg(test)] mod b {}",
        );
        assert_eq!(declared, ["agent/src/flow/corpus"]);
        assert_eq!(
            test_modules("agent/src/flow/x.rs", "#[cfg(test)]\nmod t;"),
            ["agent/src/flow/x/t"]
        );
        let code = format!("{DOC}use std::fs;");
        assert_eq!(check_rust("agent/src/flow/corpus.rs", &code, &declared), []);
        assert_eq!(check_rust("agent/src/flow/corpus2.rs", &code, &declared).len(), 1);
    }

    #[test]
    fn each_crate_stays_in_its_world() {
        for (path, code, refused) in [
            (
                "agent-common/src/lib.rs",
                "use core::mem; #[cfg(test)] mod tests { use std::vec::Vec; }",
                false,
            ),
            ("agent-common/src/lib.rs", "use std::mem;", true),
            (
                "agent-ebpf/src/main.rs",
                "use aya_ebpf::maps::RingBuf; use apiward_common::Flow;",
                false,
            ),
            ("agent-ebpf/src/main.rs", "use alloc::vec::Vec;", true),
            ("tests/src/main.rs", "use apiward::flow::Chunk;", true),
            ("tests/src/main.rs", "use apiward_proto::v1::Event;", false),
            ("tests/fuzz/targets/http1.rs", "use apiward::flow::Flows;", false),
        ] {
            assert_eq!(is_refused(path, code), refused, "{path}: {code}");
        }
    }

    #[test]
    fn unsafe_and_unfinished_code_is_found_in_code_only() {
        assert!(is_refused("agent/src/export/mod.rs", "fn f() { unsafe { g() } }"));
        assert!(!is_refused(
            "agent/src/export/mod.rs",
            "// unsafe todo!()\nfn f() { g(\"unsafe todo!()\") }"
        ));
        assert!(!is_refused(
            "agent/src/kernel/map.rs",
            "fn f() { unsafe { g() } }"
        ));
        assert!(is_refused("collector/src/main.rs", "fn f() { todo!() }"));
        assert!(is_refused("collector/src/main.rs", "#[path = \"x.rs\"] mod y;"));
        assert!(!is_refused(
            "collector/src/main.rs",
            "#[cfg(test)]\n#[path = \"x_tests.rs\"] mod tests;"
        ));
    }

    #[test]
    fn a_complaint_says_where_and_what_to_do() {
        assert_eq!(
            check(
                "agent/src/call/mod.rs",
                "\nuse crate::{capture::Segment, export::Sink};"
            ),
            [(
                3,
                "`crate::export::Sink`: `export` comes after `call`; imports point upstream".to_owned()
            )]
        );
        assert_eq!(check_rust("proto/src/lib.rs", "//! stub\n", &[]).len(), 1);
    }

    #[test]
    fn texts_are_bounded_and_neutral() {
        assert_eq!(check_text("a.rs", &"x\n".repeat(LINES_MAX)), []);
        assert_eq!(check_text("a.rs", &"x\n".repeat(LINES_MAX + 1)).len(), 1);
        assert_eq!(check_text("a.md", &"x\n".repeat(LINES_MAX + 1)), []);
        let path = concat!("/ro", "ot/");
        assert_eq!(
            check_text("a.md", &format!("ok\nsee {path}x"))
                .first()
                .map(|c| c.line),
            Some(2)
        );
        assert_eq!(check_text("a.md", &format!("https://x.example{path}x")), []);
        assert_eq!(check_text("a.rs", &format!("\"/proc/{{pid}}{path}usr\"")), []);
        assert_eq!(
            check_text("a.rs", &format!("/proc/<pid>{path}usr; split(\"{path}\")")),
            []
        );
        assert_eq!(check_text("a.md", concat!("// TO", "DO: later")).len(), 1);
        assert_eq!(check_text("a.md", concat!("MASTO", "DON TO", "DOS")), []);
    }
}
