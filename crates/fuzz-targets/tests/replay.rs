//! Every target takes every input of its corpus: valid ones, and all that once broke something.

#![allow(clippy::unwrap_used, clippy::panic)]

use fuzz_targets::TARGETS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of what is in a folder, without `ending`.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(ending).unwrap_or(&name).to_owned()
        })
        .collect()
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn every_target_has_a_corpus_and_a_program_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert_eq!(names(&corpus(""), ""), targets);
    assert_eq!(names(&root().join("fuzz/fuzz_targets"), ".rs"), targets);
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for target in &targets {
        let named = format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"");
        assert!(manifest.contains(&named), "{target}");
        let program = root().join(format!("fuzz/fuzz_targets/{target}.rs"));
        let program = std::fs::read_to_string(program).unwrap();
        assert!(program.contains(&format!("\"{target}\"")), "{target}");
    }
}

#[test]
fn the_corpus_is_small() {
    let sizes = TARGETS.iter().flat_map(|target| {
        let folder = corpus(target.name);
        let files = names(&folder, "");
        assert!(!files.is_empty(), "{}", target.name);
        files.into_iter().map(move |file| std::fs::metadata(folder.join(file)).unwrap().len())
    });
    let total: u64 = sizes.sum();
    assert!(total < 300_000, "{total} bytes");
}

/// Runs a target on its corpus in a process of its own, which has limits of memory and time.
fn replay(target: &str) {
    let folder = corpus(target);
    let files: Vec<PathBuf> = names(&folder, "").iter().map(|name| folder.join(name)).collect();
    let run = Command::new(env!("CARGO_BIN_EXE_replay")).arg(target).args(&files).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{}\n{out}\n{err}", run.status);
    let read = out.lines().filter(|line| line.ends_with(" ms")).count();
    assert_eq!(read, files.len(), "{out}");
}

macro_rules! replays {
    ($($target:ident),* $(,)?) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = BTreeSet::from([$(stringify!($target)),*]);
            assert_eq!(replayed, TARGETS.iter().map(|target| target.name).collect());
        }
    };
}

replays!(
    arrays,
    arrow,
    bundle,
    csv,
    gguf,
    gzip,
    json,
    model_folder,
    parquet,
    rendered,
    routes,
    server_answer,
    settings,
    stored_pairs,
    study,
    study_log,
    template,
    transcript,
    words,
    zstd,
);

#[test]
fn an_input_that_breaks_a_target_is_told() {
    let missing = corpus("gguf").join("no such file");
    let replay = || Command::new(env!("CARGO_BIN_EXE_replay"));
    let run = replay().arg("gguf").arg(&missing).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stdout).contains("no such file"));
    assert_eq!(replay().arg("nothing").output().unwrap().status.code(), Some(2));
}
