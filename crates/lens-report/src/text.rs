//! Figures and small tables as plain text: one home for how counts, shares and differences are written.

use std::borrow::Cow;
use std::fmt::Write;

/// A share as a percentage with one decimal: `64.5%`.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// A difference of shares in percentage points, with its sign and one decimal: `+0.4`.
pub fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference)
}

/// A share with its interval: `78.4% (76.0% to 80.9%)`.
pub fn percent_interval(share: f64, [low, high]: [f64; 2]) -> String {
    format!("{} ({} to {})", percent(share), percent(low), percent(high))
}

/// A difference of shares with its interval, in percentage points: `+0.4 (-0.2 to +1.0)`.
pub fn points_interval(difference: f64, [low, high]: [f64; 2]) -> String {
    format!("{} ({} to {})", points(difference), points(low), points(high))
}

/// A count with its thousands separated: `1,234,567`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The ending of a noun after a count: nothing for one, else `s`.
pub fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Lines of label and value, indented by two spaces, the values below one another.
pub fn aligned(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let line = |(label, value): &(String, String)| {
        let pad = width - label.chars().count();
        format!("  {label}{:pad$}  {value}", "").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The first `most` characters of a text, and how many are left out.
pub fn shortened(text: &str, most: usize) -> (&str, usize) {
    match text.char_indices().nth(most) {
        None => (text, 0),
        Some((at, _)) => (&text[..at], text[at..].chars().count()),
    }
}

/// A character that a terminal obeys: a control character, or one that turns the direction of text.
fn commands_a_terminal(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// A text for a terminal: every character that a terminal would obey as `\u001b`, which is also how JSON
/// writes it.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_shares_and_differences_by_hand() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((percent(0.6446), points(0.0042)), ("64.5%".to_owned(), "+0.4".to_owned()));
        assert_eq!(percent_interval(0.5, [0.4, 0.625]), "50.0% (40.0% to 62.5%)");
        assert_eq!(points_interval(0.004, [-0.002, 0.01]), "+0.4 (-0.2 to +1.0)");
        assert_eq!([0, 1, 2].map(plural), ["s", "", "s"]);
    }

    #[test]
    fn values_stand_below_one_another() {
        let rows = [("a".to_owned(), "1".to_owned()), ("long".to_owned(), "2".to_owned())];
        assert_eq!(aligned(&rows), "  a     1\n  long  2");
        // Characters count, not bytes; and nothing trails.
        let rows = [("\u{e4}".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        assert_eq!(aligned(&rows), "  \u{e4}  1\n  b");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("\u{e4}\u{f6}\u{fc}", 2), ("\u{e4}\u{f6}", 1));
        assert_eq!(shortened("\u{e4}\u{f6}\u{fc}", 3), ("\u{e4}\u{f6}\u{fc}", 0));
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_all_else_is_as_it_was() {
        assert_eq!(for_terminal("a\tb\nüñ 你好"), "a\tb\nüñ 你好");
        assert_eq!(for_terminal("\u{1b}[2J\r\u{9b}x\u{7f}"), "\\u001b[2J\\u000d\\u009bx\\u007f");
        assert_eq!(for_terminal("abc\u{202e}gpj.exe"), "abc\\u202egpj.exe");
    }
}
