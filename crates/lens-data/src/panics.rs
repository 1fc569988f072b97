//! Libraries that panic on damaged input where they should return an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`caught`].
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of a library; its panic is handed back ([`words_of`]), for the caller to make an error of.
/// It is not reported on the screen as well, where it reads as if this program had failed; all other
/// panics are, as before. The state behind a panic may be broken: a caller gives up what it had the
/// library do.
///
/// # Errors
/// What the step panicked with.
pub fn caught<T>(step: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                report(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(step));
    CAUGHT.set(outer);
    done
}

/// What a panic said; `None` where it is no text.
pub fn words_of(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_is_handed_back_with_its_words() {
        assert_eq!(caught(|| 1).unwrap(), 1);
        let said = |step: fn()| caught(step).unwrap_err();
        assert_eq!(words_of(&*said(|| panic!("plain"))), Some("plain"));
        assert_eq!(words_of(&*said(|| panic!("{}", 7))), Some("7"));
        assert_eq!(words_of(&*said(|| std::panic::panic_any(7))), None);
    }
}
