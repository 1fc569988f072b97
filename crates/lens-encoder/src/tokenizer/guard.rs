//! The library's code, of which some panics on what a hostile file makes it do.

use crate::error::{EncoderError, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread's panics are caught, and become errors.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn failed(error: impl std::fmt::Display) -> EncoderError {
    EncoderError::Tokenizer { detail: error.to_string() }
}

/// Runs the library's code, and makes an error of a panic: ids that are nowhere, tables that end too
/// early. Such a panic is not reported on the screen as well; others are, as before.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                others(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    done.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(failed(format!("the library fails: {}", text.unwrap_or("for an unknown reason"))))
    })
}
