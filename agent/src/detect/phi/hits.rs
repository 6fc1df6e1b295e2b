//! What was found so far, by class and place. A value comes in, is hashed once a place, and is gone.

use hashbrown::HashMap;
use smol_str::SmolStr;

use super::keys::ClassId;
use crate::call::{Data, Evidence, KeyedHash, Part};

/// Places that are told apart in one call; what is beyond counts to its class alone.
const DATA_LEN_MAX: usize = 256;
/// The place of what is beyond.
const ELSEWHERE: &str = "*";

/// A class as it is told.
#[derive(Clone)]
pub(super) struct Told {
    pub name: SmolStr,
    pub identifies: bool,
    pub off: bool,
}

/// One value.
pub(super) struct Hit<'a> {
    pub class: ClassId,
    pub group: &'static str,
    pub evidence: Evidence,
    pub confidence: u8,
    pub part: Part,
    /// Stands for the location.
    pub place: u64,
    pub value: &'a [u8],
}

pub(super) struct Hits {
    hash: KeyedHash,
    pub classes: Vec<Told>,
    pub data: Vec<Data>,
    by_place: HashMap<(ClassId, &'static str, Part, u64), u32>,
}

impl Hits {
    pub fn new(hash: KeyedHash, classes: Vec<Told>) -> Self {
        Hits {
            hash,
            classes,
            data: Vec::new(),
            by_place: HashMap::new(),
        }
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.by_place.clear();
    }

    /// Forgets what came after there were so many places.
    pub fn rewind(&mut self, length: usize) {
        self.data.truncate(length);
        self.by_place.retain(|_, at| (*at as usize) < length);
    }

    /// Counts a value; `locate` is asked once a place.
    pub fn add(&mut self, hit: &Hit<'_>, locate: impl FnOnce() -> SmolStr) {
        let Some(class) = self
            .classes
            .get(usize::from(hit.class))
            .filter(|class| !class.off)
        else {
            return;
        };
        let full = self.data.len() >= DATA_LEN_MAX;
        let mut key = (hit.class, hit.group, hit.part, hit.place);
        if full && !self.by_place.contains_key(&key) {
            key.3 = u64::MAX;
        }
        if let Some(&at) = self.by_place.get(&key) {
            let data = &mut self.data[at as usize];
            data.count = data.count.saturating_add(1);
            data.evidence = data.evidence.max(hit.evidence);
            data.confidence = data.confidence.max(hit.confidence);
            return;
        }
        // One entry a class and group beyond the limit: they are few.
        if full && self.data.len() >= 2 * DATA_LEN_MAX {
            return;
        }
        let elsewhere = key.3 == u64::MAX;
        self.by_place.insert(key, self.data.len() as u32);
        let hash = (class.identifies && !elsewhere).then(|| {
            let mut plain = [0; PLAIN_BYTES_MAX];
            match plain_normal(hit.value, &mut plain) {
                Some(normal) => self.hash.of(b"data", normal),
                None => self.hash.of(b"data", &normal(hit.value)),
            }
        });
        self.data.push(Data {
            class: class.name.clone(),
            group: hit.group,
            evidence: hit.evidence,
            confidence: hit.confidence,
            part: hit.part,
            location: if elsewhere {
                SmolStr::new_static(ELSEWHERE)
            } else {
                locate()
            },
            count: 1,
            hash,
        });
    }
}

/// The same whatever the spelling: letters in lower case and digits, nothing between.
fn normal(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    let normal: String = text
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    normal.into_bytes()
}

/// The longest value that is made normal without memory of its own.
const PLAIN_BYTES_MAX: usize = 64;

/// As [`normal`], of short ASCII, which nearly all is.
fn plain_normal<'b>(value: &[u8], buffer: &'b mut [u8; PLAIN_BYTES_MAX]) -> Option<&'b [u8]> {
    if value.len() > PLAIN_BYTES_MAX || !value.is_ascii() {
        return None;
    }
    let letters = value.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let mut length = 0;
    for (place, byte) in buffer.iter_mut().zip(letters) {
        *place = byte.to_ascii_lowercase();
        length += 1;
    }
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_are_made_normal_as_others_are() {
        for value in [
            "",
            "078-05-1120",
            "Marta.Okafor@Mail.example",
            "ABC 12/3",
            &"x-".repeat(32),
        ] {
            let mut buffer = [0; PLAIN_BYTES_MAX];
            let plain = plain_normal(value.as_bytes(), &mut buffer);
            assert_eq!(
                plain.map(<[u8]>::to_vec),
                Some(normal(value.as_bytes())),
                "{value}"
            );
        }
        for value in ["é", &"x".repeat(65)] {
            assert!(plain_normal(value.as_bytes(), &mut [0; PLAIN_BYTES_MAX]).is_none());
        }
    }
}
