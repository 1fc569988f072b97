//! Stories of a program that calls the jobs, without the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens::score::RowRewards;
use lens::{
    EmbedOptions, EmbedWith, Error, MethodOptions, ModelOptions, Progress, Quiet, RunOptions,
    RuntimeOptions, ScoreOptions, StoredPairsOptions, TrainOptions, ViewSelection, embed, run,
    score, train,
};
use lens_encoder::testing::TinyModel;
use std::path::PathBuf;
use std::sync::Mutex;
use tempfile::TempDir;

/// A folder with a tiny language model and a file of pairs, in which longer answers are preferred.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        TinyModel::default().write(&desk.path("tiny.gguf")).unwrap();
        let pair = |i: usize| {
            serde_json::json!({
                "prompt": format!("Question {i}: what of it?"),
                "chosen": format!("It is number {}, so yes!", i * 7),
                "rejected": format!("Number {} is no", i * 7),
            })
        };
        let lines: Vec<String> = (0..60).map(|i| pair(i).to_string()).collect();
        std::fs::write(desk.path("pairs.jsonl"), lines.join("\n")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> ModelOptions {
        let cache = Some(self.path("cache"));
        ModelOptions {
            model: self.path("tiny.gguf").display().to_string(),
            runtime: RuntimeOptions { cache, ..RuntimeOptions::default() },
            ..ModelOptions::default()
        }
    }

    fn run_options(&self) -> RunOptions {
        RunOptions {
            model: self.model(),
            output: Some(self.path("rm")),
            ..RunOptions::new(self.path("pairs.jsonl"))
        }
    }
}

/// Keeps what is noted, and asks to stop after so many units of work.
struct Watcher {
    notes: Mutex<Vec<String>>,
    stop: bool,
}

impl Watcher {
    fn new(stop: bool) -> Watcher {
        Watcher { notes: Mutex::default(), stop }
    }
}

impl Progress for Watcher {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
    fn cancelled(&self) -> bool {
        self.stop
    }
}

#[test]
fn from_pairs_to_scores_in_one_program() {
    let desk = Desk::new();
    let watcher = Watcher::new(false);
    let result = run(&desk.run_options(), &watcher).unwrap();
    assert_eq!((result.pairs.used, result.heldout_pairs.used), (48, 12));
    assert_eq!(result.heldout.pairs, 12);
    let json = serde_json::to_value(&result).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let printed = [
        "pairs",
        "labels",
        "heldout_pairs",
        "heldout",
        "warm_start",
        "factor",
        "tuned",
        "kept",
        "stages",
        "bundle",
        "report",
        "page",
    ];
    assert_eq!(keys, printed);
    // The encoder is opened once, and named once, with the views that it computes.
    let notes = watcher.notes.lock().unwrap();
    let encoders: Vec<&String> = notes.iter().filter(|n| n.starts_with("encoder:")).collect();
    assert_eq!(encoders.len(), 1, "{notes:?}");
    assert!(encoders[0].contains("7 views"), "{notes:?}");

    // The model in memory is the one in the folder.
    let folder = result.folder.unwrap();
    let saved = lens_data::Bundle::read(&folder).unwrap();
    assert_eq!(saved.model, result.reward_model.model);
    let mut options = ScoreOptions::new(&folder, desk.path("pairs.jsonl"));
    options.encoder.runtime.cache = Some(desk.path("cache"));
    options.encoder.model = Some(desk.path("tiny.gguf").display().to_string());
    let scores = score(&options, &Quiet).unwrap();
    assert_eq!((scores.rows.len(), scores.malformed), (60, 0));
    let right = |row: &&lens::ScoredRow| match row.rewards {
        RowRewards::Pair { chosen, rejected } => chosen > rejected,
        _ => false,
    };
    assert!(scores.rows.iter().filter(right).count() >= 54, "{scores:?}");
    let first = serde_json::to_value(&scores.rows[0]).unwrap();
    assert_eq!(first["line"], 1);
    assert!(first["chosen"].is_f64() && first["rejected"].is_f64(), "{first}");
}

#[test]
fn without_an_output_nothing_is_written() {
    let desk = Desk::new();
    let options = RunOptions { output: None, ..desk.run_options() };
    let result = run(&options, &Quiet).unwrap();
    assert_eq!((result.folder, result.report, result.page), (None, None, None));
    assert!(result.reward_model.report.contains("# Reward model from"));
    let mut names: Vec<String> = std::fs::read_dir(desk.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["cache", "pairs.jsonl", "tiny.gguf"]);
}

#[test]
fn a_job_stops_when_its_caller_says_so_and_leaves_nothing() {
    let desk = Desk::new();
    let error = run(&desk.run_options(), &Watcher::new(true)).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert!(!desk.path("rm").exists());
}

#[test]
fn options_that_cannot_be_are_refused_before_any_work() {
    let desk = Desk::new();
    let refused = |options: RunOptions| {
        let error = run(&options, &Quiet).unwrap_err();
        assert!(error.is_wrong_option(), "{error}");
        error.to_string()
    };
    let said = refused(RunOptions { holdout: 1.5, ..desk.run_options() });
    assert_eq!(said, "holdout: must be at least 0 and below 1");
    let model = ModelOptions { max_length: 1, ..desk.model() };
    assert!(refused(RunOptions { model, ..desk.run_options() }).starts_with("max_length"));
    let model = desk.model().with_views(Vec::new());
    assert!(refused(RunOptions { model, ..desk.run_options() }).starts_with("view"));
    let mut method = MethodOptions::default();
    method.settings.vae.beta = -1.0;
    assert!(refused(RunOptions { method, ..desk.run_options() }).contains("vae.beta"));
    assert!(!desk.path("cache").exists() && !desk.path("rm").exists());

    // A folder that holds no reward model is not replaced.
    std::fs::create_dir(desk.path("rm")).unwrap();
    std::fs::write(desk.path("rm/thesis.txt"), "years of work").unwrap();
    let options = RunOptions { overwrite: true, ..desk.run_options() };
    assert!(matches!(run(&options, &Quiet), Err(Error::Data(_))));
    assert!(desk.path("rm/thesis.txt").exists());
}

#[test]
fn a_job_runs_in_the_thread_pool_of_its_caller() {
    let desk = Desk::new();
    let stored = desk.path("pairs.safetensors");
    let views = vec!["layer=-1".parse().unwrap(), "layer=3,pooling=mean".parse().unwrap()];
    let encoder = EmbedWith::Model(desk.model().with_views(views));
    let options = EmbedOptions { encoder, ..EmbedOptions::new(desk.path("pairs.jsonl"), &stored) };
    let embedded = embed(&options, &Quiet).unwrap();
    assert_eq!(embedded.tensors[0], ("chosen".to_owned(), [60, 64]));

    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut options = TrainOptions::new(StoredPairsOptions::new(vec![stored]));
    options.splits = 2;
    options.method.settings.head.kind = lens_core::head::HeadKind::Logistic;
    assert_eq!(options.method.views, ViewSelection::Fixed);
    let figures = |threads| {
        let result = pool(threads).install(|| train(&options, &Quiet)).unwrap();
        assert_eq!(result.shape, (60, 64));
        result.splits
    };
    assert_eq!(figures(1), figures(2));
}
