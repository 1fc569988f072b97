//! Where training curves are written: `--log-dir`.

use crate::error::CliError;
use crate::progress::Reporter;
use crate::settings::{Settings, bad};
use lens_data::CurveLog;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Begins the log that the settings ask for. What stands against it is said now, before any work.
pub fn start(
    settings: &Settings,
    output: Option<&Path>,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let Some(dir) = &settings.log_dir else { return Ok(()) };
    if let Some(output) = output {
        let place = |path| {
            let failed = |e| lens::Error::from(lens_data::Error::io(path, "open", e));
            resolved(path).map_err(failed)
        };
        if place(dir)?.starts_with(place(output)?) {
            let detail = "must not be in the folder of the reward model, which appears as a whole";
            return Err(bad("log_dir", detail));
        }
    }
    let log = CurveLog::create(dir, settings.overwrite)?;
    reporter.log_curves(log);
    Ok(())
}

/// The absolute path without links and dots, also where its end does not exist yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
        if let Ok(real) = resolved.canonicalize() {
            resolved = real;
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_place_has_one_path() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(real.join("a"), real.join("link")).unwrap();
        for (given, place) in [
            ("a", "a"),
            ("new/run", "new/run"),
            ("new/../a/./b/", "a/b"),
            #[cfg(unix)]
            ("link/new", "a/new"),
            #[cfg(unix)]
            ("link/../new", "new"),
        ] {
            assert_eq!(resolved(&real.join(given)).unwrap(), real.join(place), "{given}");
        }
    }
}
