//! Words of others, for the log.

use lens_data::panics::words_of;
use std::any::Any;

/// A text without control characters: a line of the log stays one, and a terminal obeys nobody.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// What a panic said.
pub(crate) fn message_of_panic(panic: &(dyn Any + Send)) -> &str {
    words_of(panic).unwrap_or("a panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        let shown = printable("a\u{1b}[31m\nb\u{9b}\u{7f}\u{e4}");
        assert_eq!(shown, "a\\u{1b}[31m\\nb\\u{9b}\\u{7f}\u{e4}");
    }

    #[test]
    fn panics_say_text_or_nothing() {
        assert_eq!(message_of_panic(&"a"), "a");
        assert_eq!(message_of_panic(&"b".to_owned()), "b");
        assert_eq!(message_of_panic(&7), "a panic");
    }
}
