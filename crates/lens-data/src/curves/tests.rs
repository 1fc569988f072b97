#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::events::tests::read;
use super::*;

fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(CURVES)).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| p.to_string_lossy().contains("events.out.tfevents.")).collect();
    files.sort();
    files
}

#[test]
fn both_files_can_be_followed_epoch_by_epoch() {
    let folder = tempfile::tempdir().unwrap();
    // The folders above it are made, too.
    let dir = folder.path().join("logs/first");
    let mut log = CurveLog::create(&dir, false).unwrap();
    assert_eq!(lines(&dir), Vec::<Value>::new());
    log.write("", "vae", 1, &[("kl", 0.5), ("reconstruction", 0.1)]).unwrap();
    assert_eq!(
        fs::read_to_string(dir.join(CURVES)).unwrap(),
        "{\"stage\":\"vae\",\"epoch\":1,\"values\":{\"kl\":0.5,\"reconstruction\":0.1}}\n"
    );
    log.write("", "augmented head", 1, &[("fold log loss", 0.69)]).unwrap();
    assert_eq!(lines(&dir).len(), 2);
    let [file] = &event_files(&dir)[..] else { panic!("{:?}", event_files(&dir)) };
    let events = read(&fs::read(file).unwrap());
    assert_eq!(events[0].file_version, "brain.Event:2");
    assert_eq!(events[2].scalars, [("vae/kl".into(), 0.5), ("vae/reconstruction".into(), 0.1)]);
    assert_eq!(events[3].scalars, [("augmented_head/fold_log_loss".into(), 0.69)]);
    assert_eq!(events[3].step, 1);
    assert!(events[0].wall_time > 1.7e9 && events[3].wall_time >= events[2].wall_time);
}

#[test]
fn trainings_side_by_side_are_runs_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut log = CurveLog::create(dir, false).unwrap();
    for epoch in 1..=3 {
        for run in ["split-1", "split-2", ""] {
            log.write(run, "head", epoch, &[("loss", 1.0 / epoch as f64)]).unwrap();
        }
    }
    let runs: Vec<Value> = lines(dir).iter().map(|l| l["run"].clone()).collect();
    assert_eq!(runs[..3], ["split-1".into(), "split-2".into(), Value::Null]);
    for run in ["split-1", "split-2", ""] {
        let [file] = &event_files(&dir.join(run))[..] else { panic!("{run}") };
        let steps: Vec<u64> = read(&fs::read(file).unwrap()).iter().map(|e| e.step).collect();
        assert_eq!(steps, [0, 0, 1, 2, 3]);
    }
    // A run's name never leads out of the folder.
    for run in ["..", "/tmp", "a/b", ".", "a/", "../x"] {
        let error = log.write(run, "head", 1, &[]).unwrap_err();
        assert!(matches!(error, Error::BadTarget { .. }), "{run}: {error}");
    }
}

#[test]
fn values_that_are_not_finite_are_null_in_json_and_kept_in_events() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = CurveLog::create(folder.path(), false).unwrap();
    let values = [("a", f64::NAN), ("b", f64::INFINITY), ("c", 1.0)];
    log.write("", "vae", 1, &values).unwrap();
    assert_eq!(lines(folder.path())[0]["values"], json!({"a": null, "b": null, "c": 1.0}));
    let events = read(&fs::read(&event_files(folder.path())[0]).unwrap());
    let scalars = &events[2].scalars;
    assert!(scalars[0].1.is_nan() && scalars[1].1 == f32::INFINITY && scalars[2].1 == 1.0);
}

#[test]
fn curves_of_two_trainings_are_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    // Nothing came of this one: it is in nobody's way.
    drop(CurveLog::create(dir, false).unwrap());
    let mut first = CurveLog::create(dir, false).unwrap();
    first.write("", "head", 1, &[("loss", 1.0)]).unwrap();
    first.write("", "head", 2, &[("loss", 0.5)]).unwrap();
    let error = CurveLog::create(dir, false).unwrap_err();
    assert!(matches!(&error, Error::CurvesExist { .. }), "{error}");
    assert_eq!(lines(dir).len(), 2);

    // One that ends before its first epoch replaces nothing.
    drop(CurveLog::create(dir, true).unwrap());
    assert_eq!(lines(dir).len(), 2);
    let mut second = CurveLog::create(dir, true).unwrap();
    assert_eq!(lines(dir).len(), 2);
    second.write("", "head", 1, &[("loss", 7.0)]).unwrap();
    // The first still runs: its lines go nowhere, not among those of the second.
    first.write("", "head", 3, &[("loss", 0.25)]).unwrap();
    assert_eq!(lines(dir), [json!({"stage": "head", "epoch": 1, "values": {"loss": 7.0}})]);
    // Its events stay, in a file of their own.
    let [old, new] = &event_files(dir)[..] else { panic!("{:?}", event_files(dir)) };
    assert_eq!(read(&fs::read(old).unwrap()).len(), 5);
    assert_eq!(read(&fs::read(new).unwrap()).len(), 3);
    assert_eq!(fs::read_to_string(dir.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_folder_that_cannot_take_curves_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "x").unwrap();
    for name in ["file", "file/below"] {
        let error = CurveLog::create(path(name), true).unwrap_err();
        assert!(matches!(error, Error::NotAFolder { .. }), "{name}: {error}");
    }
    fs::create_dir_all(path("odd").join(CURVES)).unwrap();
    let error = CurveLog::create(path("odd"), true).unwrap_err();
    assert!(matches!(error, Error::IsFolder { .. }), "{error}");
    // A reward model has curves of its own, under the same name.
    fs::create_dir(path("rm")).unwrap();
    fs::write(path("rm").join(MANIFEST), "{}").unwrap();
    fs::write(path("rm").join(CURVES), "{}\n").unwrap();
    let error = CurveLog::create(path("rm"), true).unwrap_err();
    assert!(matches!(error, Error::CurvesInBundle { .. }), "{error}");
    assert_eq!(fs::read_to_string(path("rm").join(CURVES)).unwrap(), "{}\n");
    // Where nobody may write, the system says so; root may write even into folders of others.
    #[cfg(target_os = "linux")]
    assert!(CurveLog::create("/proc/lens-curves", false).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_lost_folder_are_told() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join(CURVES)).unwrap();
    let mut log = CurveLog::create(folder.path(), false).unwrap();
    let error = log.write("", "vae", 1, &[("kl", 0.5)]).unwrap_err();
    assert!(matches!(&error, Error::DiskFull { path, .. } if path.ends_with(CURVES)), "{error}");

    let lost = folder.path().join("lost");
    let mut log = CurveLog::create(&lost, false).unwrap();
    log.write("", "vae", 1, &[("kl", 0.5)]).unwrap();
    fs::remove_dir_all(&lost).unwrap();
    assert!(log.write("", "vae", 2, &[("kl", 0.5)]).is_err());
}
