//! Whether outputs may be written: asked before the work.

use crate::Error;
use lens_data::{AtomicFile, DataSource};
use std::path::Path;

/// Refuses an output that is the very file that is read, or cannot be written.
pub(crate) fn check_output(input: &DataSource, output: &Path) -> Result<(), Error> {
    let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    // Parts that cannot be listed yet are names of the Hub: no output lies there.
    let files = input.files().unwrap_or_default();
    if files.iter().any(|file| same(file, output) == Some(true)) {
        return Err(Error::Refused(format!(
            "{}: is the very file that is read; choose another with -o",
            output.display()
        )));
    }
    Ok(AtomicFile::check(output)?)
}

/// Refuses an output that is there already, unless it may be replaced. `flag` names it.
pub(crate) fn check_new(output: &Path, overwrite: bool, flag: &str) -> Result<(), Error> {
    // Devices and pipes take what is written, and hold nothing.
    let holds = |m: std::fs::Metadata| m.is_file() || m.is_dir() || m.is_symlink();
    if overwrite || !std::fs::symlink_metadata(output).is_ok_and(holds) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{}: exists already; choose another name with {flag}, or replace it with --overwrite",
        output.display()
    )))
}
