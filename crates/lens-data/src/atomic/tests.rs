#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_whole_at_its_commit() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("out.json");
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"new").unwrap();
    assert!(!path.exists());
    let temporary = format!(".out.json.tmp-{}-", std::process::id());
    assert!(names(home.path())[0].starts_with(&temporary));
    file.commit().unwrap();
    assert_eq!(names(home.path()), ["out.json"]);
    write_atomic(&path, b"newer").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"newer");
}

#[test]
fn an_error_or_a_drop_leaves_the_old_file_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("out");
    write_atomic(&path, b"old").unwrap();
    let failed = write_atomic_with(&path, |file| {
        file.write_all(&[0; 100_000])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert!(matches!(failed, Err(Error::DiskFull { path: p, .. }) if p == path));
    AtomicFile::create(&path).unwrap().write_all(b"dropped").unwrap();
    assert_eq!(names(home.path()), ["out"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn impossible_targets_have_errors_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("no/out");
    assert!(
        matches!(write_atomic(&missing, b""), Err(Error::NotFound { path }) if path == home.path().join("no"))
    );
    assert!(matches!(write_atomic(home.path(), b""), Err(Error::IsFolder { .. })));
    assert!(matches!(write_atomic("..", b""), Err(Error::BadTarget { .. })));
    fs::write(home.path().join("file"), b"").unwrap();
    let below = home.path().join("file/out");
    assert!(matches!(write_atomic(&below, b""), Err(Error::NotAFolder { .. })));
}

#[test]
fn a_relative_name_and_a_very_long_one_can_be_written() {
    let home = tempfile::tempdir().unwrap();
    let long = "é".repeat(120);
    write_atomic(home.path().join(&long), b"x").unwrap();
    assert_eq!(names(home.path()), [long]);
    let target = super::temporary::Target::new(Path::new("name-only")).unwrap();
    assert_eq!(target.folder, Path::new("."));
}

#[test]
fn orphans_are_removed_and_what_is_in_use_is_left() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    // Of a process that has ended, whatever its number means here.
    let dead = ".out.tmp-77-0123456789abcdef";
    let dead_folder = ".out.tmp-1-1123456789abcdef";
    let other = ".other.tmp-77-0123456789abcdef";
    for name in [dead, other] {
        fs::write(path(name), b"").unwrap();
    }
    fs::create_dir(path(dead_folder)).unwrap();
    fs::write(path(dead_folder).join("part"), b"").unwrap();
    // Of a process that lives, in another container: its number means nothing here, its lock does.
    let alive = ".out.tmp-4000000000-2123456789abcdef";
    fs::create_dir(path(alive)).unwrap();
    let held = fs::File::open(path(alive)).unwrap();
    held.try_lock().unwrap();
    let in_use = AtomicFile::create(path("out")).unwrap();
    write_atomic(path("out"), b"x").unwrap();
    in_use.commit().unwrap();
    let mut expected = vec![other.to_owned(), alive.to_owned(), "out".to_owned()];
    expected.sort();
    assert_eq!(names(home.path()), expected);
    drop(held);
    write_atomic(path("out"), b"x").unwrap();
    assert_eq!(names(home.path()), [other, "out"]);
}

#[cfg(unix)]
#[test]
fn a_link_under_a_temporary_name_is_neither_followed_nor_removed() {
    let home = tempfile::tempdir().unwrap();
    let (photos, link) = (home.path().join("photos"), ".out.tmp-77-0123456789abcdef");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("holiday.jpg"), b"").unwrap();
    std::os::unix::fs::symlink(&photos, home.path().join(link)).unwrap();
    write_atomic(home.path().join("out"), b"x").unwrap();
    assert_eq!(names(home.path()), [link, "out", "photos"]);
    assert_eq!(names(&photos), ["holiday.jpg"]);
}

#[test]
fn a_folder_appears_whole_and_is_not_replaced_unasked() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model");
    let folder = AtomicDir::create(&path, Existing::Refuse).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    write_atomic(folder.path().join("sub/head"), b"1").unwrap();
    assert!(!path.exists());
    folder.commit().unwrap();
    assert_eq!(fs::read(path.join("sub/head")).unwrap(), b"1");
    let refused = AtomicDir::create(&path, Existing::Refuse);
    assert!(matches!(refused, Err(Error::TargetExists { .. })));
    assert_eq!(names(home.path()), ["model"]);
}

#[test]
fn an_old_folder_is_swapped_out_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("old"), b"").unwrap();
    for existing in [Existing::Replace, Existing::ReplaceOwn(&["new"])] {
        let folder = AtomicDir::create(&path, existing).unwrap();
        fs::write(folder.path().join("new"), b"").unwrap();
        folder.commit().unwrap();
        assert_eq!(names(&path), ["new"]);
        assert_eq!(names(home.path()), ["model"]);
    }
}

#[test]
fn a_folder_of_another_kind_is_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("photos");
    fs::create_dir(&path).unwrap();
    let marked = Existing::ReplaceOwn(&["manifest.json", "weights"]);
    drop(AtomicDir::create(&path, marked).unwrap());
    fs::write(path.join("holiday.jpg"), b"").unwrap();
    let refused = AtomicDir::create(&path, marked).unwrap_err();
    assert!(refused.to_string().ends_with("has no `manifest.json` in it, so it is not replaced"));
    // Beside our own files lies somebody else's.
    fs::write(path.join("manifest.json"), b"").unwrap();
    let refused = AtomicDir::create(&path, marked).unwrap_err();
    assert!(refused.to_string().contains("holds `holiday.jpg`, which is none of its files"));
    fs::remove_file(path.join("holiday.jpg")).unwrap();
    drop(AtomicDir::create(&path, marked).unwrap());
    fs::write(home.path().join("file"), b"").unwrap();
    let file = AtomicDir::create(home.path().join("file"), Existing::Replace);
    assert!(matches!(file, Err(Error::NotAFolder { .. })));
}

#[test]
fn a_target_that_appears_meanwhile_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("model");
    let folder = AtomicDir::create(&path, Existing::Refuse).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(folder.commit(), Err(Error::TargetExists { .. })));
    assert_eq!(names(home.path()), ["model"]);
}

/// Whoever hands over a folder chooses the names in it: what lies under one is not taken for an output.
#[test]
fn a_swap_that_was_cut_short_is_told_and_nothing_takes_the_place_of_the_target() {
    let home = tempfile::tempdir().unwrap();
    let old = home.path().join(".model.old-77-0123456789abcdef");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("head"), b"").unwrap();
    let path = home.path().join("model");
    let told = AtomicDir::create(&path, Existing::Refuse);
    assert!(matches!(told, Err(Error::Interrupted { former, .. }) if former == old));
    assert!(!path.exists() && old.join("head").exists());
    // Beside a whole target it is a leftover.
    fs::create_dir(&path).unwrap();
    assert!(matches!(AtomicDir::create(&path, Existing::Refuse), Err(Error::TargetExists { .. })));
    assert!(!old.exists());
}

#[cfg(unix)]
#[test]
fn links_and_permissions_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = tempfile::tempdir().unwrap();
    let (real, link) = (home.path().join("real"), home.path().join("link"));
    fs::write(&real, b"old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    write_atomic(&link, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), b"new");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_written_to_directly_and_report_a_full_disk() {
    write_atomic("/dev/null", b"x").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let full = write_atomic("/dev/full", &[0; 100_000]);
    assert!(matches!(full, Err(Error::DiskFull { .. })));
}
