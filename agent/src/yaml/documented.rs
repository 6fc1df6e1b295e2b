//! A key as references tell it.

/// A key of a file.
pub struct Key {
    /// With the keys above it; `export[]` stands for an item of a list.
    pub path: &'static str,
    /// What may be written.
    pub kind: &'static str,
    /// What holds if it is not written; `required` if it has to be; empty if there is none.
    pub default: &'static str,
    pub about: &'static str,
}

/// A line of a reference's table.
pub const fn key(path: &'static str, kind: &'static str, default: &'static str, about: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        about,
    }
}
