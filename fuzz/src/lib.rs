//! What the programs have in common.

pub use fuzz_targets::find;
pub use libfuzzer_sys::fuzz_target;

/// A program that fuzzes the target of that name.
///
/// libFuzzer's hook would end the process at every panic, also at those that LENS catches: some
/// libraries panic on hostile files. Without it a panic ends the process where nobody catches it.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::fuzz_target!(
            init: drop(std::panic::take_hook()),
            |bytes: &[u8]| {
                static TARGET: std::sync::LazyLock<fn(&[u8])> =
                    std::sync::LazyLock::new(|| $crate::find($name).expect("there is such a target").run);
                TARGET(bytes)
            }
        );
    };
}
