//! Text for people, on a terminal or not.
//!
//! Much of what is shown was captured or named by somebody else: a process chooses its `comm`, a peer its path. So
//! text reaches the output only through a [`Paper`], which replaces whatever could move a cursor, change a colour
//! or reorder a line. Colours are added there, never inside of text.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Is standard output to be coloured?
    pub fn is_on(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: present and not empty.
            Color::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Dim,
    Bold,
    Good,
    Warn,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Dim => "\x1b[2m",
            Style::Bold => "\x1b[1m",
            Style::Good => "\x1b[32m",
            Style::Warn => "\x1b[33m",
            Style::Bad => "\x1b[1;31m",
        }
    }
}

/// Lines to be printed.
#[derive(Clone, Debug, Default)]
pub struct Paper {
    text: String,
    is_colored: bool,
    /// Characters on the line so far.
    column: usize,
}

impl Paper {
    /// An empty one.
    pub fn new(is_colored: bool) -> Self {
        Paper {
            is_colored,
            ..Paper::default()
        }
    }

    /// Adds text to the line; what is not printable is replaced.
    pub fn put(&mut self, text: &str) -> &mut Self {
        if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            self.text.push_str(text);
            self.column += text.len();
        } else {
            for character in text.chars() {
                self.text.push(if is_hostile(character) {
                    char::REPLACEMENT_CHARACTER
                } else {
                    character
                });
                self.column += 1;
            }
        }
        self
    }

    /// Adds text that stands out.
    pub fn styled(&mut self, style: Style, text: &str) -> &mut Self {
        let is_colored = self.is_colored && style != Style::Plain && !text.is_empty();
        if is_colored {
            self.text.push_str(style.code());
        }
        self.put(text);
        if is_colored {
            self.text.push_str("\x1b[0m");
        }
        self
    }

    /// Spaces up to a column, and one in any case.
    pub fn pad_to(&mut self, column: usize) -> &mut Self {
        let spaces = column.saturating_sub(self.column).max(1);
        let _ = write!(self.text, "{:spaces$}", "");
        self.column += spaces;
        self
    }

    /// Text that ends at a column.
    pub fn right(&mut self, style: Style, text: &str, column: usize) -> &mut Self {
        let length = text.chars().count();
        let spaces = column.saturating_sub(self.column + length);
        let _ = write!(self.text, "{:spaces$}", "");
        self.column += spaces;
        self.styled(style, text)
    }

    /// Ends the line.
    pub fn end(&mut self) -> &mut Self {
        self.text.push('\n');
        self.column = 0;
        self
    }

    /// A whole line.
    pub fn line(&mut self, text: &str) -> &mut Self {
        self.put(text).end()
    }

    /// What is there so far.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Starts anew, keeping the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.column = 0;
    }
}

/// Prints; whoever read the output and has gone away wanted no more of it.
pub fn out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Control characters (C0, C1, DEL), line and paragraph separators, and those that are invisible or reorder what is
/// around them.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Text on its way to a terminal, without what could command it or forge a line.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|character| {
            if is_hostile(character) {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            }
        })
        .collect()
}

/// At most `length_max` characters; what is cut off leaves an ellipsis.
pub fn shortened(text: &str, length_max: usize) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(length_max) {
        None => text.into(),
        Some(_) => {
            let kept: String = text.chars().take(length_max.saturating_sub(1)).collect();
            format!("{kept}…").into()
        }
    }
}

/// `1.2 ms`: three digits at most before the unit.
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    for (unit, size) in [("ns", 1.0), ("µs", 1e3), ("ms", 1e6)] {
        let value = ns / size;
        if value < 9.95 && unit != "ns" {
            return format!("{value:.1} {unit}");
        }
        if value < 999.5 {
            return format!("{value:.0} {unit}");
        }
    }
    let seconds = ns / 1e9;
    match seconds {
        ..99.95 => format!("{seconds:.1} s"),
        ..5_940.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

/// `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "bytes" => format!("{count} {}", if count == 1 { "byte" } else { "bytes" }),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `12,345`.
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 call`, `2 calls`.
pub fn plural(count: u64, one: &str) -> String {
    format!("{} {one}{}", number(count), if count == 1 { "" } else { "s" })
}

/// `14:03:22.123` in `zone`.
pub fn clock_time(unix_ns: u64, zone: &jiff::tz::TimeZone) -> String {
    let Ok(timestamp) = jiff::Timestamp::from_nanosecond(i128::from(unix_ns)) else {
        return "--:--:--.---".to_owned();
    };
    let time = zone.to_datetime(timestamp).time();
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// `2026-11-24 14:03:22 +01:00` in `zone`.
pub fn date_time(unix_ns: u64, zone: &jiff::tz::TimeZone) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(timestamp) => timestamp
            .to_zoned_datetime(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %:z")
            .to_string(),
        Err(_) => "?".to_owned(),
    }
}

/// The width of the terminal on standard output, in columns.
pub fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns > 0)
        .unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_command_a_terminal_is_replaced() {
        for (given, shown) in [
            ("plain", "plain"),
            ("é 中", "é 中"),
            ("\x1b[2J\x1b]0;owned\x07", "\u{fffd}[2J\u{fffd}]0;owned\u{fffd}"),
            ("a\r\nb\tc\u{7f}", "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("evil\u{202e}cod", "evil\u{fffd}cod"),
            ("a\u{200b}b\u{feff}", "a\u{fffd}b\u{fffd}"),
        ] {
            for is_colored in [false, true] {
                let mut paper = Paper::new(is_colored);
                paper.put(given);
                assert_eq!(paper.as_str(), shown);
            }
            let mut paper = Paper::new(true);
            paper.styled(Style::Bad, given);
            assert_eq!(paper.as_str(), format!("\x1b[1;31m{shown}\x1b[0m"));
        }
    }

    #[test]
    fn columns_count_characters_and_not_colours() {
        let mut paper = Paper::new(true);
        paper
            .styled(Style::Dim, "é")
            .pad_to(4)
            .put("x")
            .pad_to(2)
            .put("y")
            .right(Style::Plain, "z", 10);
        assert_eq!(paper.as_str(), "\x1b[2mé\x1b[0m   x y  z");
    }

    #[test]
    fn quantities() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.2 µs"),
            (45_600, "46 µs"),
            (9_960_000, "10 ms"),
            (999_400_000, "999 ms"),
            (1_500_000_000, "1.5 s"),
            (300_000_000_000, "5 min"),
            (7_200_000_000_000, "2.0 h"),
        ] {
            assert_eq!(duration(ns), text);
        }
        for (count, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), text);
        }
        assert_eq!(
            (plural(1, "call"), plural(0, "call")),
            ("1 call".into(), "0 calls".into())
        );
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
        assert_eq!(
            clock_time(1_500_000_000_123_456_789, &jiff::tz::TimeZone::UTC),
            "02:40:00.123"
        );
        assert_eq!(
            date_time(1_500_000_000_123_456_789, &jiff::tz::TimeZone::UTC),
            "2017-07-14 02:40:00 +00:00"
        );
    }
}
