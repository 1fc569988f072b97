//! Standard output: results only, and a closed pipe is not an error.
//!
//! Names and texts of files that others made reach a terminal as something to read, never as a command
//! to it: control characters are written as escapes.

use crate::error::CliError;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;

/// A character that a terminal obeys: a control character, or one that turns the direction of text.
fn commands_a_terminal(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// The text with every character that a terminal would obey as `\u001b`, which is also how JSON
/// writes it.
fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(commands_a_terminal) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match commands_a_terminal(c) {
            // Writing to a string cannot fail.
            true => drop(write!(shown, "\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Prints one line.
pub fn line(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", visible(text))?;
    out.flush()?;
    Ok(())
}

/// Prints one line for the person watching, on standard error. That nobody reads it (`2>&1 | head`)
/// is no reason to stop.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", visible(text));
}

/// Prints one line of JSON.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
    line(&text)
}

/// Lines of label and value, the values aligned.
pub fn aligned(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let line = |(label, value): &(String, String)| {
        let pad = width - label.chars().count();
        format!("  {label}{:pad$}  {value}", "").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_all_else_is_as_it_was() {
        assert_eq!(visible("a\tb\nüñ 你好"), "a\tb\nüñ 你好");
        assert_eq!(visible("\u{1b}[2J\r\u{9b}x\u{7f}"), "\\u001b[2J\\u000d\\u009bx\\u007f");
        assert_eq!(visible("abc\u{202e}gpj.exe"), "abc\\u202egpj.exe");
        // Such characters stand in JSON within strings alone, so that it means what it did.
        let json = serde_json::to_string("\u{9b}\u{1b}").unwrap_or_default();
        assert_eq!(
            serde_json::from_str::<String>(&visible(&json)).ok().as_deref(),
            Some("\u{9b}\u{1b}")
        );
    }

    #[test]
    fn values_line_up() {
        let rows = [("a".to_owned(), "1".to_owned()), ("long".to_owned(), "2".to_owned())];
        assert_eq!(aligned(&rows), "  a     1\n  long  2");
    }
}
