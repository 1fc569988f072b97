//! Whether outputs may be written: asked before the work.

use crate::Error;
use lens_data::{ArrayFile, AtomicFile, DataSource};
use std::fs::File;
use std::io::Read;
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

/// Bytes at the beginning of a page that say who made it.
const PAGE_HEAD: u64 = 4096;

/// What an output is, by which one of an earlier run is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// A report, as a page.
    Report,
    /// Arrays.
    Arrays,
    /// Rows, which look like those of anybody else.
    Rows,
}

/// Refuses an output that is there already, unless it may be replaced. `flag` names it.
pub(crate) fn check_new(
    output: &Path,
    overwrite: bool,
    flag: &str,
    written: Written,
) -> Result<(), Error> {
    // Devices and pipes take what is written, and hold nothing.
    let holds = |m: std::fs::Metadata| m.is_file() || m.is_dir() || m.is_symlink();
    if !std::fs::symlink_metadata(output).is_ok_and(holds) {
        return Ok(());
    }
    if overwrite {
        return check_own(output, flag, written);
    }
    Err(Error::Refused(format!(
        "{}: exists already; choose another name with {flag}, or replace it with --overwrite",
        output.display()
    )))
}

/// Refuses to replace a file that is not one of the kind that is written, so that a mistyped name does
/// not cost somebody's data. An empty file holds nothing.
pub(crate) fn check_own(output: &Path, flag: &str, written: Written) -> Result<(), Error> {
    let is_own = match written {
        _ if !std::fs::metadata(output).is_ok_and(|m| m.is_file() && m.len() > 0) => true,
        Written::Rows => true,
        Written::Arrays => ArrayFile::open(output).is_ok(),
        Written::Report => {
            let mut head = Vec::new();
            let read = File::open(output).and_then(|f| f.take(PAGE_HEAD).read_to_end(&mut head));
            read.is_ok() && lens_report::is_page(&String::from_utf8_lossy(&head))
        }
    };
    if is_own {
        return Ok(());
    }
    let what = if written == Written::Report { "page of LENS" } else { "file of arrays" };
    Err(Error::Refused(format!(
        "{}: exists already and is no {what}, so it is not replaced; choose another name with {flag}",
        output.display()
    )))
}
