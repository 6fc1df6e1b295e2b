//! The targets of the llhttp corpus (`tests/corpus/llhttp/url.md`), each taken apart as that parser does it.
//!
//! Three differences of form, for all cases alike: an absolute target is always ambiguous here, the authority is without
//! user information, and a fragment, which no client sends, stays with what it stands behind. What llhttp refuses is
//! ambiguous here: the decoder goes on, and policies say what becomes of it.

use std::collections::BTreeMap;

use super::*;

struct Case {
    name: String,
    target: Vec<u8>,
    /// By name, as the log has them; `error` if llhttp refuses.
    parts: BTreeMap<String, String>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../../tests/corpus/llhttp/url.md");
    let block = |section: &str, kind: &str| {
        let (_, after) = section.split_once(&format!("```{kind}\n"))?;
        Some(after.split_once("\n```")?.0.to_owned())
    };
    text.split("\n## ")
        .skip(1)
        .filter_map(|section| {
            let target = block(section, "url")?
                .replace("\\\n", "")
                .replace("\\t", "\t")
                .replace("\\f", "\u{c}");
            let mut parts = BTreeMap::new();
            for line in block(section, "log")?.lines() {
                match line.split_once("span[url.") {
                    Some((_, span)) => {
                        let (name, value) = span.split_once("]=")?;
                        parts.insert(name.to_owned(), value.trim_matches('"').to_owned());
                    }
                    None => drop(parts.insert("error".into(), String::new())),
                }
            }
            Some(Case {
                name: section.lines().next()?.to_owned(),
                target: target.into_bytes(),
                parts,
            })
        })
        .collect()
}

#[test]
fn every_target_of_the_corpus() {
    let cases = cases();
    assert_eq!(cases.len(), 21, "the corpus is whole");
    for case in cases {
        let name = &case.name;
        let parsed = parse(&Bytes::from(case.target.clone()), false);
        if case.parts.contains_key("error") {
            assert!(parsed.ambiguous, "{name}: llhttp refuses it");
            continue;
        }
        let part = |name: &str| case.parts.get(name).cloned();
        let fragment = part("fragment").map(|fragment| format!("#{fragment}"));
        let expected = part("query").map(|query| query + fragment.as_deref().unwrap_or_default());
        let query = String::from_utf8_lossy(&parsed.query).into_owned();
        assert_eq!(query, expected.unwrap_or_default(), "{name}");
        assert_eq!(parsed.path, part("path"), "{name}");
        let host = part("host").map(|host| match host.rsplit_once('@') {
            Some((_, host)) => host.to_owned(),
            None => host,
        });
        let authority = parsed.authority.as_deref().map(String::from_utf8_lossy);
        assert_eq!(authority.as_deref(), host.as_deref(), "{name}");
        assert_eq!(
            parsed.ambiguous,
            host.is_some() || fragment.is_some(),
            "{name}: only absolute forms and fragments are not in normal form here"
        );
    }
}
