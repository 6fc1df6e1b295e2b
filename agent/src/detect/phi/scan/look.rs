//! A value by itself, where its place says nothing of it, or not all.

use super::called::is_of_health;
use super::*;

impl Walk {
    /// Looks at a value by itself.
    pub(super) fn look(
        &mut self,
        key: Key,
        name: &[u8],
        holder: Option<usize>,
        kind: ValueType,
        value: &[u8],
    ) {
        let owner = holder.map_or(Owner::Unknown, |holder| self.frames[holder].owner);
        if value.len() < 5 {
            return;
        }
        let around = Around {
            context: key.context,
            technical: key.technical,
            number: kind == ValueType::Number || key.ids,
        };
        let value = &value[..value.len().min(TEXT_BYTES_MAX)];
        let mut found = std::mem::take(&mut self.found);
        let may_have_labels = self.text.scan(value, around, &mut |one| found.push(one))
            && kind == ValueType::Text
            && owner != Owner::Definition;
        if found.is_empty() && !may_have_labels {
            self.found = found;
            return;
        }
        let mut told = Vec::new();
        for found in found.drain(..) {
            let owner = match (
                owner,
                DETECTORS
                    .get(usize::from(found.class))
                    .map(|detector| detector.group),
            ) {
                // A definition's examples are nobody's, a token in it is one.
                (Owner::Definition, Some(Group::Credential)) => Owner::Unknown,
                (owner, _) => owner,
            };
            told.push((found.start, found.end));
            let value = &value[found.start..found.end];
            self.hit(
                found.class,
                owner,
                found.evidence,
                found.confidence,
                name,
                key,
                value,
            );
        }
        self.found = found;
        if may_have_labels {
            self.labels(value, name, key, owner, &mut told);
        }
    }

    /// What is wrong with somebody is told in sentences: who it is, and more, may stand in what was told as that.
    pub(super) fn look_into(
        &mut self,
        class: ClassId,
        key: Key,
        name: &[u8],
        holder: Option<usize>,
        kind: ValueType,
        value: &[u8],
    ) {
        if is_of_health(class) && value.contains(&b' ') {
            self.look(key, name, holder, kind, value);
        }
    }
}
