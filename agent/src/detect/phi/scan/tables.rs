//! Tables in JSON: names once, then rows of values: `{"columns": ["ssn"], "rows": [["…"]]}`, `[["ssn"], ["…"]]`.
//!
//! A row is an object whose keys stand elsewhere. Names come before their rows or, in one object with them, behind. Lists of
//! lists stand beside other things that are called columns or fields: they are rows only if they have as many values as there
//! are names, which is known when they have ended. So they are visited once more.

use super::*;

/// Tables that are open at a time, in one another.
const TABLES_MAX: usize = 8;
/// Columns of a table; values beyond have no name.
const COLUMNS_MAX: usize = 256;
/// A longer name is none.
const COLUMN_BYTES_MAX: usize = 64;
/// Names that an array without one has to begin with to be a table: a list of lists is more often something else.
const TELLING_MIN: usize = 2;

/// The names of rows.
#[derive(Default)]
pub(super) struct Tables {
    open: Vec<Table>,
    /// Names that are being said, in which frame.
    saying: Option<(usize, Vec<SmolStr>)>,
    /// By the ordinal of their object, where the names stood behind the rows.
    late: Vec<(u32, Vec<SmolStr>)>,
    late_known: Vec<(u32, Vec<SmolStr>)>,
}

struct Table {
    /// The object that the names and the rows are in, or the array that begins with names.
    frame: usize,
    names: Vec<SmolStr>,
    /// How many they are; beyond [`COLUMNS_MAX`] they are left out.
    width: u32,
    rows: Rows,
    /// Its rows are known to be some.
    known: bool,
}

/// What there is of lists that may be rows.
#[derive(Clone, Copy, Default)]
pub(super) struct Rows {
    any: bool,
    /// Values of the longest.
    width: u32,
}

impl Tables {
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.saying = None;
        self.late.clear();
    }

    /// Names stood behind their rows: the content is to be visited once more, knowing them.
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Before the second visit. Behind it, [`Tables::clear`] and again this.
    pub(super) fn know_late(&mut self) {
        self.late_known = std::mem::take(&mut self.late);
    }
}

impl Walk {
    /// A container without a name opens in the array at `parent`: whether it is a row of a table.
    pub(super) fn is_row(&mut self, parent: usize) -> bool {
        let frames = &mut self.frames;
        if !frames[parent].array {
            return false;
        }
        let around = parent.checked_sub(1).filter(|_| frames[parent].named);
        let table = self.tables.open.last_mut();
        let table = table.filter(|table| table.frame == parent || Some(table.frame) == around);
        match (table, around) {
            (Some(table), _) => {
                table.rows.any = true;
                return table.known;
            }
            (None, Some(around)) => frames[around].rows.any |= !frames[around].array,
            (None, None) => {}
        }
        if frames[parent].values == 0 && frames[parent].children == 0 {
            // It may be the one with the names.
            self.tables.saying = Some((frames.len(), Vec::new()));
        }
        false
    }

    /// A container has opened, the innermost one.
    pub(super) fn table_opens(&mut self) {
        let Some(top) = self.frames.len().checked_sub(1) else {
            return;
        };
        let frame = &self.frames[top];
        if frame.array && frame.named && frame.key.role == Role::Columns {
            self.tables.saying = Some((top, Vec::new()));
        }
        let ordinal = frame.ordinal;
        let known = self.tables.late_known.iter().find(|(at, _)| *at == ordinal);
        if let Some(names) = known.map(|(_, names)| names.clone()) {
            self.has_table(top, names, 0, true);
        }
    }

    fn has_table(&mut self, frame: usize, names: Vec<SmolStr>, width: u32, known: bool) {
        if self.tables.open.len() < TABLES_MAX {
            self.tables.open.push(Table {
                frame,
                names,
                width,
                rows: Rows::default(),
                known,
            });
        }
    }

    /// A list in a list is about to close: how wide it would be as a row.
    fn row_closes(&mut self, at: usize) {
        let (Some(parent), Some(around)) = (at.checked_sub(1), at.checked_sub(2)) else {
            return;
        };
        let frame = &self.frames[at];
        if !frame.array || frame.named || !self.frames[parent].array || !self.frames[parent].named {
            return;
        }
        let width = frame.values.saturating_add(frame.children);
        let table = self.tables.open.last_mut();
        let rows = match table.filter(|table| table.frame == around) {
            Some(table) => &mut table.rows,
            None => &mut self.frames[around].rows,
        };
        rows.width = rows.width.max(width);
    }

    /// A table whose names have come is over. Its rows are rows if they are as wide: shorter ones lack values at their end.
    fn table_is_over(&mut self, table: Table, ordinal: u32) {
        if !table.known && table.rows.any && table.rows.width == table.width {
            self.late_table(ordinal, table.names);
        }
    }

    fn late_table(&mut self, ordinal: u32, names: Vec<SmolStr>) {
        if self.tables.late.len() < TABLES_MAX {
            self.tables.late.push((ordinal, names));
        }
    }

    /// A text in an array.
    pub(super) fn says_column(&mut self, at: usize, value: &[u8]) {
        let Some((_, names)) = self.tables.saying.as_mut().filter(|(frame, _)| *frame == at) else {
            return;
        };
        if names.len() < COLUMNS_MAX {
            let name = std::str::from_utf8(value).ok();
            let name = name.filter(|name| name.len() <= COLUMN_BYTES_MAX);
            names.push(SmolStr::new(name.unwrap_or_default()));
        }
    }

    /// The name of the value that has just come in a row.
    pub(super) fn column(&self, row: usize) -> SmolStr {
        let at = (self.frames[row].values + self.frames[row].children).saturating_sub(1) as usize;
        let table = self.tables.open.last();
        let name = table.and_then(|table| table.names.get(at));
        name.cloned().unwrap_or_default()
    }

    /// The container at `at` is about to close.
    pub(super) fn table_closes(&mut self, at: usize) {
        self.row_closes(at);
        if self.tables.saying.is_none() && self.tables.open.is_empty() {
            return;
        }
        let parent = at.checked_sub(1);
        match self.tables.saying.take() {
            Some((frame, names)) if frame == at => self.said(at, names),
            // `"columns": [{"name": "ssn"}]`
            Some((frame, names)) if Some(frame) == parent && !self.frames[at].array => {
                self.tables.saying = Some((frame, names));
                let label = self.slot(self.frames[at].label);
                self.says_column(frame, &label);
            }
            saying => self.tables.saying = saying,
        }
        let Some(table) = self.tables.open.last_mut().filter(|table| table.frame >= at) else {
            return;
        };
        match parent.filter(|parent| !table.rows.any && !self.frames[*parent].array) {
            // `{"meta": {"columns": […]}, "data": […]}`
            Some(parent) if table.frame == at => table.frame = parent,
            _ => {
                let ordinal = self.frames[at].ordinal;
                if let Some(table) = self.tables.open.pop() {
                    self.table_is_over(table, ordinal);
                }
            }
        }
    }

    /// An array has ended that may have been names.
    fn said(&mut self, at: usize, names: Vec<SmolStr>) {
        let frame = &self.frames[at];
        let Some(parent) = at.checked_sub(1).filter(|_| !names.is_empty()) else {
            return;
        };
        let width = frame.values.saturating_add(frame.children);
        // All of them are texts. Of more than there is room for the rest has no names.
        let are_texts = (width as usize).min(COLUMNS_MAX) == names.len();
        if frame.named {
            let holder = &self.frames[parent];
            let (rows, ordinal, in_array) = (holder.rows, holder.ordinal, holder.array);
            let usable = are_texts && names.iter().any(|name| !name.is_empty());
            match rows.any {
                true if usable && rows.width == width => self.late_table(ordinal, names),
                false if usable && !in_array && self.tables.late_known.is_empty() => {
                    self.has_table(parent, names, width, false);
                }
                _ => {}
            }
            return;
        }
        let are_names = are_texts && !names.iter().any(|name| name.is_empty());
        let telling = |name: &&SmolStr| self.keys.get(name.as_bytes(), &self.shown).class.is_some();
        if are_names && names.iter().filter(telling).count() >= TELLING_MIN {
            self.has_table(parent, names, width, true);
        }
    }
}
