//! Stories of other encoders (`tests/corpus/hpack`, and `../shared/corpus/hpack` where it is there), the examples of RFC
//! 7541, and what a table says that was joined in the middle.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).expect("hex") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// `None`: unknown.
type Decoded = Vec<(Option<String>, Option<String>)>;

fn decode(hpack: &mut Hpack, block: &[u8]) -> Result<Decoded, Invalid> {
    let text = |bytes: Option<Bytes>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut fields = Vec::new();
    hpack.decode(block, &mut |field| {
        fields.push((text(field.name), text(field.value)))
    })?;
    Ok(fields)
}

fn known(hpack: &mut Hpack, block: &str) -> Vec<(String, String)> {
    decode(hpack, &hex(block))
        .expect("valid")
        .into_iter()
        .map(|(name, value)| (name.expect("known"), value.expect("known")))
        .collect()
}

fn stories() -> Vec<(PathBuf, serde_json::Value)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/hpack");
    let more = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/hpack");
    let files = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    };
    [corpus, more]
        .iter()
        .flat_map(|folder| files(folder))
        .flat_map(|folder| files(&folder))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            let story = serde_json::from_str(&text).expect("JSON");
            (path, story)
        })
        .collect()
}

fn fields_of(case: &serde_json::Value) -> Vec<(String, String)> {
    case["headers"]
        .as_array()
        .expect("headers")
        .iter()
        .flat_map(|header| header.as_object().expect("a field"))
        .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()))
        .collect()
}

#[test]
fn every_story_is_read() {
    let stories = stories();
    assert!(stories.len() >= 9, "the corpus is whole");
    for (path, story) in stories {
        let mut hpack = Hpack::new(true, 64 * 1024);
        for case in story["cases"].as_array().expect("cases") {
            let fields = known(&mut hpack, case["wire"].as_str().expect("wire"));
            assert_eq!(fields, fields_of(case), "{} {}", path.display(), case["seqno"]);
        }
    }
}

/// Whatever is told of a connection that was joined at some block is right.
#[test]
fn a_story_that_is_joined_late_is_never_guessed() {
    for (path, story) in stories() {
        let cases = story["cases"].as_array().expect("cases");
        for joined_at in 1..cases.len().min(12) {
            let mut hpack = Hpack::new(false, 64 * 1024);
            for case in &cases[joined_at..] {
                let fields = decode(&mut hpack, &hex(case["wire"].as_str().expect("wire"))).expect("valid");
                let expected = fields_of(case);
                assert_eq!(fields.len(), expected.len());
                for (told, (name, value)) in fields.iter().zip(&expected) {
                    let right = told.0.as_ref().is_none_or(|told| told == name)
                        && told.1.as_ref().is_none_or(|told| told == value);
                    assert!(right, "{} {}: {told:?}", path.display(), case["seqno"]);
                }
            }
        }
    }
}

#[test]
fn examples_of_the_rfc() {
    // C.4: requests with Huffman codes on one connection.
    let mut hpack = Hpack::new(true, 4096);
    for (block, last) in [
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            (":authority", "www.example.com"),
        ),
        ("8286 84be 5886 a8eb 1064 9cbf", ("cache-control", "no-cache")),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ("custom-key", "custom-value"),
        ),
    ] {
        let fields = known(&mut hpack, block);
        let (name, value) = fields.last().expect("fields");
        assert_eq!((name.as_str(), value.as_str()), last);
    }
    assert_eq!(hpack.held_bytes(), 164);
    // C.5: responses, with a table of 256 bytes that evicts.
    let mut hpack = Hpack::new(true, 4096);
    known(&mut hpack, "3fe101");
    known(
        &mut hpack,
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
         474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    );
    assert_eq!(hpack.held_bytes(), 222);
    let fields = known(&mut hpack, "4803 3330 37c1 c0bf");
    assert_eq!(fields[0], (":status".into(), "307".into()));
    assert_eq!(fields[3], ("location".into(), "https://www.example.com".into()));
    assert_eq!(hpack.held_bytes(), 222);
}

#[test]
fn what_breaks_the_rules_is_invalid() {
    for block in [
        "80",             // index 0
        "be",             // nothing at 62
        "ff80",           // an integer without its end
        "ffffffffffff7f", // beyond any limit
        "7fffffffff0f",   // the same for a name
        "4005 6162",      // a string longer than the block
        "4081 ff00",      // padding of a whole byte
        "8220",           // a size update behind a field
        "1f",             // a name without its index
    ] {
        let mut hpack = Hpack::new(true, 4096);
        assert_eq!(decode(&mut hpack, &hex(block)), Err(Invalid), "{block}");
        assert!(!hpack.whole, "nothing is known of the table behind it");
    }
}

#[test]
fn of_a_table_joined_late_the_new_entries_are_known() {
    let mut hpack = Hpack::new(false, 4096);
    let some = |text: &str| Some(text.to_owned());
    // Unknown entry, a new one, the new one again, the one before it.
    let fields = decode(&mut hpack, &hex("be 4001 6101 62 be bf")).expect("valid");
    assert_eq!(
        fields,
        [
            (None, None),
            (some("a"), some("b")),
            (some("a"), some("b")),
            (None, None)
        ]
    );
    // A literal with an unknown name: its value is known, and so it is when it is referred to.
    let fields = decode(&mut hpack, &hex("7f00 0163 be bf")).expect("valid");
    assert_eq!(
        fields,
        [(None, some("c")), (None, some("c")), (some("a"), some("b"))]
    );
    // A size of 0 leaves nothing that is unknown.
    let fields = decode(&mut hpack, &hex("20 3fe11f 4001 6401 65 be")).expect("valid");
    assert_eq!(fields[1], (some("d"), some("e")));
    assert_eq!(decode(&mut hpack, &hex("bf")), Err(Invalid));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut hpack = Hpack::new(true, 4096);
    // 34 bytes fit once, 40 do not.
    decode(&mut hpack, &hex("3f03 4001 6101 62 be")).expect("valid");
    assert_eq!(hpack.held_bytes(), 34);
    decode(&mut hpack, &hex("4001 6107 6262 6262 6262 62")).expect("valid");
    assert_eq!(hpack.held_bytes(), 0);
    assert_eq!(decode(&mut hpack, &hex("be")), Err(Invalid));
}

#[test]
fn more_than_may_be_held_is_unknown_and_not_wrong() {
    let mut hpack = Hpack::new(true, 100);
    // Three entries of 34 bytes: the first is more than is held.
    decode(&mut hpack, &hex("4001 6101 31 4001 6101 32 4001 6101 33")).expect("valid");
    let fields = decode(&mut hpack, &hex("be bf c0 c1")).expect("valid");
    let values: Vec<_> = fields.iter().map(|(_, value)| value.as_deref()).collect();
    assert_eq!(values, [Some("3"), Some("2"), None, None]);
    assert!(hpack.held_bytes() <= 100);
}

proptest! {
    #[test]
    fn no_block_breaks_it(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20), whole: bool) {
        let mut hpack = Hpack::new(whole, 1000);
        for block in blocks {
            let mut bytes = 0;
            let _ = hpack.decode(&block, &mut |field| bytes += usize::from(field.name.is_some()));
            prop_assert!(bytes <= block.len());
            prop_assert!(hpack.held_bytes() <= 1000);
        }
    }
}
