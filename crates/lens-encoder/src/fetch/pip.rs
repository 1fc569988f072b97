//! Python's pip, which downloads packages: run so that nothing of the current folder or of the
//! environment is imported by it.

use lens_core::Progress;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The Python that is looked for in `PATH`; the variable names another one.
const PYTHON: &str = "python3";
const VARIABLE: &str = "LENS_PYTHON";
/// Bytes of what pip says that are kept.
const SAID: u64 = 64 << 10;

/// Why pip left no package.
pub(super) enum Failure {
    /// The user stopped it.
    Cancelled,
    /// In words.
    Because(String),
}

/// Has pip download one version of a package into `folder`, which is empty, and returns the file.
pub(super) fn download(
    package: &str,
    version: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, Failure> {
    let because = |detail: String| Failure::Because(detail);
    let python = python().map_err(because)?;
    let mut command = Command::new(&python);
    // Python would import from the folder in which it is started, and from where its variables point.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PYTHON") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .current_dir(folder)
        .args(["-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary", ":all:", "--dest", "."])
        .arg(format!("{package}=={version}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            because(format!("cannot start `{} -m pip` ({e}); it is needed here", python.display()))
        })?;
    // Read aside, so that a talkative pip never waits for us.
    let stderr = child.stderr.take();
    let said = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.by_ref().take(SAID).read_to_end(&mut text);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = wait(&mut child, progress)?;
    let said = said.join().unwrap_or_default();
    if !status {
        let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
        return Err(because(format!("pip failed: {last}")));
    }
    let entries = std::fs::read_dir(folder).map_err(|e| because(e.to_string()))?;
    entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .find(|p| p.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| because("pip left no file".to_owned()))
}

/// The Python that runs pip: a path of the user's, or the first of that name in `PATH`.
fn python() -> Result<PathBuf, String> {
    let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
    let name = named.unwrap_or_else(|| PYTHON.into());
    if Path::new(&name).components().count() > 1 {
        // It is started in another folder.
        return std::path::absolute(&name).map_err(|e| e.to_string());
    }
    in_path(&name, &std::env::var_os("PATH").unwrap_or_default()).ok_or_else(|| {
        let name = name.to_string_lossy();
        format!("there is no `{name}` in PATH, whose pip is needed here; {VARIABLE} can name one")
    })
}

/// The first program of that name in the folders of `path`. Folders that are relative lie where the
/// user happens to be, and are passed over.
fn in_path(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let suffix = std::env::consts::EXE_SUFFIX;
    let candidates = folders.map(|folder| {
        let mut file = folder.join(name).into_os_string();
        file.push(suffix);
        PathBuf::from(file)
    });
    candidates.into_iter().find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

fn wait(child: &mut Child, progress: &dyn Progress) -> Result<bool, Failure> {
    loop {
        if progress.cancelled() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::Cancelled);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(e) => return Err(Failure::Because(e.to_string())),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_is_found_in_absolute_folders_alone() {
        let home = tempfile::tempdir().unwrap();
        let put = |folder: &str, mode: u32| {
            let folder = home.path().join(folder);
            std::fs::create_dir(&folder).unwrap();
            let file = folder.join("python3");
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            (folder, file)
        };
        let (no_program, _) = put("data", 0o644);
        let (folder, file) = put("bin", 0o755);
        // This test runs in the folder of the crate, from which both lead to the planted one.
        let up = "../".repeat(std::env::current_dir().unwrap().components().count());
        let relative = PathBuf::from(format!("{up}{}", folder.display()));
        assert!(relative.join("python3").exists() && relative.is_relative());
        let find = |folders: &[&Path]| {
            in_path(OsStr::new("python3"), &std::env::join_paths(folders).unwrap())
        };
        assert_eq!(find(&[&relative, Path::new("."), Path::new("")]), None);
        assert_eq!(find(&[&relative, &no_program, &folder]), Some(file));
    }
}
