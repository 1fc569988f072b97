//! Text of unknown origin made harmless, and invisible characters in it made visible.

/// `text` for an HTML page, as content or in a quoted attribute. Characters that would end an
/// element or turn the direction of what follows, that HTML forbids, or that nobody can see, are
/// written out.
pub(crate) fn escape(text: &str) -> String {
    mapped(text, |out, c| match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    })
}

/// `text` with control characters, characters that turn the direction of text, and other invisible
/// ones written out; line ends are `\n`. Nothing else is escaped.
pub(crate) fn visible(text: &str) -> String {
    mapped(text, String::push)
}

/// [`visible`], with the visible characters written by `put`.
fn mapped(text: &str, put: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {
                if characters.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            // The picture of each control character.
            '\0'..='\x1f' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\x7f' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{e0000}'..='\u{e007f}' => named(&mut out, c),
            _ if u32::from(c) & 0xfffe == 0xfffe => named(&mut out, c),
            _ => put(&mut out, c),
        }
    }
    out
}

fn named(out: &mut String, c: char) {
    out.push_str(&format!("\u{27e8}U+{:04X}\u{27e9}", u32::from(c)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_an_element_or_an_attribute() {
        let hostile = "</style><script>alert('1')</script><img src=x onerror=\"a\">&lt;";
        let safe = escape(hostile);
        assert!(!safe.contains(['<', '>', '"', '\'']), "{safe}");
        assert!(safe.ends_with("&amp;lt;"));
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(escape("a\0b\x1b[31m\x7f"), "a\u{2400}b\u{241b}[31m\u{2421}");
        assert_eq!(escape("\u{202e}txt.exe"), "\u{27e8}U+202E\u{27e9}txt.exe");
        assert_eq!(escape("\u{85}\u{ffff}\u{e0041}"), "⟨U+0085⟩⟨U+FFFF⟩⟨U+E0041⟩");
        assert_eq!(escape("one\r\ntwo\rthree\tfour"), "one\ntwo\nthree\tfour");
        assert_eq!(escape("naïve 漢字 👩‍👩‍👧 שלום"), "naïve 漢字 👩‍👩‍👧 שלום");
    }
}
