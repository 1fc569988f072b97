//! Libraries that panic on damaged files where they should return an error.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// Runs one step of a library; the error is its own, or the words of its panic. Parquet's record
/// interface asserts what a schema or a date may be, and Arrow's reader where buffers lie: a damaged
/// file must not end the program. The state behind a panic is never used again: every caller gives up
/// on the file.
pub(super) fn guarded<T, E: Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    quieten();
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("the decoder gave up")
            .to_owned()),
    }
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the report of a panic that becomes an error off the screen: it reads as if this program
/// had failed. All other panics go to the hook that was there before.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
}
