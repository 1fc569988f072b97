//! Figures and small tables as plain text: one home for how counts, shares and differences are written.

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
}
