//! `lens run`: the main job, from a file of preference pairs to a saved reward model.

use crate::args::RunArgs;
use crate::curves;
use crate::embedding::{
    StageTime, embed_vetted, encode_pairs, encoder_of_bundle, encoder_record, note_truncated,
    open_encoder,
};
use crate::error::CliError;
use crate::evaluation::{Accuracy, PairRewards, longer_baseline, shown_difference};
use crate::labels;
use crate::output::{self, percent, thousands};
use crate::progress::Reporter;
use crate::report::{self, Evidence};
use crate::saving::{History, Saved, Sources, save};
use crate::settings::Settings;
use crate::tuning;
use crate::warm::{Earlier, Keys, Known};
use lens_core::metrics::Estimate;
use lens_core::{
    EmbeddedPairs, Extras, Outcome, PreferencePair, Progress, RewardModel, Threads, fit_with,
};
use lens_data::bundle::{DataRecord, Kept, PAGE, REPORT, check_target};
use lens_data::{
    Dataset, KeyKind, LabelCounts, Reason, Row, Vetted, file_name, read_pairs_with, shared_prompts,
    vet,
};
use lens_encoder::TextEncoder;
use lens_eval::tuning::Tuned;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs the command.
pub fn run(args: &RunArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let output = settings.output.clone().unwrap_or_else(|| PathBuf::from("reward-model"));
    check_target(&output, settings.overwrite)?;
    curves::start(settings, Some(&output), reporter)?;
    let earlier = Earlier::open(settings, reporter)?;
    let earlier = earlier.as_ref();
    if let Some(earlier) = earlier {
        earlier.require(KeyKind::Prompt)?;
    }
    let (mut train, mut heldout) = read(&args.pairs, settings, earlier, reporter)?;
    let mut views = None;
    let mut encoder = match earlier {
        None if settings.chooses() => {
            let (encoder, choices) = tuning::open_with_views(settings, reporter)?;
            views = Some(choices);
            encoder
        }
        None => open_encoder(settings, reporter)?,
        Some(Earlier { bundle, path, .. }) => {
            let model = settings.given.contains("model").then_some(&*settings.model);
            encoder_of_bundle(bundle, path, model, settings, reporter)?
        }
    };
    let settings = &earlier.map_or(settings.clone(), |e| e.settled(settings, encoder.identity()));

    let mut stages = Vec::new();
    let (mut train_pairs, mut heldout_pairs) =
        embed(encoder.as_ref(), &mut train, &mut heldout, &mut stages, reporter)?;
    if train_pairs.is_empty() {
        return Err(nothing_left(&args.pairs, &train));
    }
    let mut settings = settings.clone();
    let mut tuned = None;
    if let Some(views) = views {
        let start = Instant::now();
        let found = tuning::search(&train_pairs, &views, &settings, reporter)?;
        let kept = found.as_ref().map_or(vec![0], |found| found.views.clone());
        settings = match &found {
            Some(found) => tuning::settled(&settings, found, &views),
            None => tuning::unchosen(&settings, &views),
        };
        train_pairs = train_pairs.of_views(&kept)?;
        heldout_pairs = match heldout_pairs.is_empty() {
            true => train_pairs.select(&[]),
            false => heldout_pairs.of_views(&kept)?,
        };
        stages.push(stage("choose", start.elapsed().as_secs_f64()));
        if views.len() > kept.len() {
            // What the bundle is to be used with: those views alone.
            encoder = open_encoder(&settings, reporter)?;
        }
        tuned = found;
    }
    let (settings, tuned) = (&settings, tuned.as_ref());
    let watch = (!heldout_pairs.is_empty()).then_some(&heldout_pairs);
    let keys = Keys::of_rows(&train);
    let folds = earlier.map_or(Vec::new(), |e| e.folds(&keys));
    let known = Known::of(&folds);
    let extras = Extras { start: earlier.map(|e| e.start(&folds)), watch };
    let threads = Threads::available();
    let outcome = fit_with(&train_pairs, &settings.method(), extras, threads, reporter)?;
    stages.push(stage("train head", outcome.none.seconds));
    if let Some(a) = &outcome.augmented {
        let learning = if a.vae.is_some() { "train vae" } else { "fit source" };
        stages.push(stage(learning, a.source_seconds));
        stages.push(stage("synthesise", a.synthesis_seconds));
        stages.push(stage("train augmented head", a.fitted.seconds));
    }
    let start = Instant::now();
    let before = earlier.map(|e| &e.bundle.model);
    let figures = Heldout::measure(&outcome, before, &heldout_pairs, &heldout.used, settings.seed)?;
    stages.push(stage("evaluate", start.elapsed().as_secs_f64()));

    reporter.go_on()?;
    let start = Instant::now();
    let warm = earlier.map(|e| (e, known));
    let sources = Sources {
        encoder: Some(encoder_record(encoder.as_ref(), &settings.model)),
        data: data_record(&args.pairs, &train),
        figures: json!({"heldout": figures.json(), "heldout_file": settings.eval.as_deref()
            .map(file_name), "heldout_fingerprint": heldout.fingerprint()}),
        lines: rows(&train, &heldout, &figures, warm, tuned, settings),
        left_out: [("training", &train), ("held-out", &heldout)].map(listed).concat(),
        history: History { keys: &keys, earlier, known },
        evidence: Evidence {
            pairs: &train_pairs,
            heldout: watch.map(|pairs| (pairs, &heldout.used[..])),
            splits: None,
            vetted: vec![("training", &train.report), ("held-out", &heldout.report)],
            command: report::run_command(&args.pairs, settings),
        },
        tuned,
    };
    let Saved { kept, advice, report_seconds, novelty_seconds } =
        save(&output, settings, outcome, sources, reporter)?;
    stages.push(stage("report", report_seconds));
    if settings.augment.factor() > 1 {
        stages.push(stage("measure novelty", novelty_seconds));
    }
    let others = report_seconds + novelty_seconds;
    stages.push(stage("save", start.elapsed().as_secs_f64() - others));
    print(settings, &train, &heldout, &figures, warm, tuned, &stages, &output, kept, &advice)
}

fn stage(name: &'static str, seconds: f64) -> StageTime {
    StageTime { name, seconds, tokens: None, computed: None }
}

fn nothing_left(path: &Path, vetted: &Vetted) -> CliError {
    CliError::NothingLeft { path: path.to_owned(), left_out: vetted.report.summary() }
}

/// Training and held-out pairs, vetted, without a prompt in common.
fn read(
    path: &Path,
    settings: &Settings,
    earlier: Option<&Earlier>,
    reporter: &Reporter,
) -> Result<(Vetted, Vetted), CliError> {
    let options = settings.reading();
    let load = |path: &Path| -> Result<Dataset, CliError> {
        let data = read_pairs_with(path, &options, reporter)?;
        for row in data.malformed.iter().take(3) {
            reporter.note(&format!("left out: {row}"));
        }
        if data.malformed.len() > 3 {
            let more = data.malformed.len() - 3;
            reporter.note(&format!("left out: {more} more malformed rows (see the report)"));
        }
        Ok(data)
    };
    let mut train = vet(load(path)?);
    if train.used.is_empty() {
        return Err(nothing_left(path, &train));
    }
    let heldout = match &settings.eval {
        Some(file) => {
            let mut heldout = vet(load(file)?);
            leave_out_ties(&mut heldout, reporter);
            if heldout.used.is_empty() {
                return Err(nothing_left(file, &heldout));
            }
            if let Some(earlier) = earlier {
                let known = earlier.trained_on(&heldout);
                let n = heldout.leave_out(Reason::TrainedOn, known);
                let name = earlier.path.display();
                if heldout.used.is_empty() {
                    return Err(CliError::Refused(format!(
                        "{}: {name} was trained on the prompts of all {n} held-out pairs: none is \
                         left to evaluate on",
                        file.display()
                    )));
                }
                if n > 0 {
                    reporter.note(&format!(
                        "{n} held-out pairs are left out: {name} was trained on their prompts"
                    ));
                }
            }
            let shared = shared_prompts(&train, &heldout);
            train.leave_out(Reason::Overlap, shared);
            heldout
        }
        None => {
            let (rest, mut heldout) = hold_out(path, train, settings, earlier)?;
            train = rest;
            let n = heldout.used.len();
            reporter.note(&format!(
                "no --eval given: {n} of the pairs ({} of the prompts) are held out",
                percent(settings.holdout)
            ));
            leave_out_ties(&mut heldout, reporter);
            heldout
        }
    };
    check_prompts(path, &train, &heldout, settings)?;
    if train.used.iter().all(|row| row.value.tie) {
        return Err(CliError::Refused(format!(
            "{}: every pair to train on is a tie: none says which response is better",
            path.display()
        )));
    }
    labels::note(&label_counts(&train), settings, reporter);
    Ok((train, heldout))
}

/// Of a tie no order can be right or wrong.
fn leave_out_ties(heldout: &mut Vetted, reporter: &Reporter) {
    let ties = heldout.leave_out_ties();
    if ties > 0 {
        reporter.note(&format!(
            "{ties} of the held-out pairs are ties, which have no order to get right: left out"
        ));
    }
}

fn label_counts(train: &Vetted) -> LabelCounts {
    LabelCounts::count(train.used.iter().map(|row| row.value.label()))
}

/// Whether there is enough to train on: asked before the pairs are embedded.
fn check_prompts(
    path: &Path,
    train: &Vetted,
    heldout: &Vetted,
    settings: &Settings,
) -> Result<(), CliError> {
    if train.used.is_empty() && settings.eval.is_some() {
        return Err(nothing_left(path, train));
    }
    if train.prompt_count() >= 2 {
        return Ok(());
    }
    let (mut pairs, mut distinct) = (train.used.len(), train.prompt_count());
    let mut said = String::new();
    if settings.eval.is_none() && !heldout.used.is_empty() {
        // They come from the same file, whose user counts them all.
        pairs += heldout.used.len();
        distinct += heldout.prompt_count();
        said = format!(", {} of them to be held out", heldout.used.len());
    }
    Err(CliError::TooFewPrompts {
        path: path.to_owned(),
        pairs,
        prompts: distinct,
        heldout: said,
        left_out: train.report.summary(),
    })
}

/// Moves a share of the prompts to a held-out set. The report of both together is that of the file.
/// Only prompts that an earlier model was not trained on are held out.
fn hold_out(
    path: &Path,
    all: Vetted,
    settings: &Settings,
    earlier: Option<&Earlier>,
) -> Result<(Vetted, Vetted), CliError> {
    let new = |key: i64| earlier.is_none_or(|e| !e.knows(key));
    let none_new = !all.prompt_keys().any(new);
    if let (Some(earlier), true) = (earlier, none_new && settings.holdout != 0.0) {
        return Err(CliError::Refused(format!(
            "{}: {} was trained on the prompts of all {} pairs: none is left to hold out; add new \
             pairs, or name held-out ones with --eval (--holdout 0 measures nothing)",
            path.display(),
            earlier.path.display(),
            all.used.len()
        )));
    }
    Ok(all.hold_out(settings.holdout, settings.seed, new))
}

/// Embeds both sets in one go, so that their texts share batches.
fn embed(
    encoder: &dyn TextEncoder,
    train: &mut Vetted,
    heldout: &mut Vetted,
    stages: &mut Vec<StageTime>,
    reporter: &Reporter,
) -> Result<(EmbeddedPairs, EmbeddedPairs), CliError> {
    let start = Instant::now();
    let (n, m) = (train.used.len(), heldout.used.len());
    let pairs: Vec<&PreferencePair> =
        train.used.iter().chain(&heldout.used).map(|r: &Row<PreferencePair>| &r.value).collect();
    let encoded = encode_pairs(encoder, &pairs, reporter)?;
    note_truncated(&encoded, encoder.identity().max_length, reporter);
    let all = n + m;
    let part =
        |from: usize, to: usize| [&encoded[from..to], &encoded[all + from..all + to]].concat();
    let train_pairs = embed_vetted(train, &part(0, n), encoder)?;
    let heldout_pairs = embed_vetted(heldout, &part(n, all), encoder)?;
    let stats = encoder.stats();
    stages.push(StageTime {
        name: "embed",
        seconds: start.elapsed().as_secs_f64(),
        tokens: Some(stats.tokens),
        computed: Some(stats.computed),
    });
    Ok((train_pairs, heldout_pairs))
}

/// What the held-out pairs say; all `None` where there is none.
struct Heldout {
    /// Of the model that training went on from.
    earlier: Option<(Accuracy, f64)>,
    none: Option<(Accuracy, f64)>,
    augmented: Option<(Accuracy, f64)>,
    difference: Option<Estimate>,
    longer_wins: Option<f64>,
    pairs: usize,
}

impl Heldout {
    fn measure(
        outcome: &Outcome,
        earlier: Option<&RewardModel>,
        pairs: &EmbeddedPairs,
        rows: &[Row<PreferencePair>],
        seed: u64,
    ) -> Result<Self, CliError> {
        let none = PairRewards::of(&outcome.none.model, pairs)?;
        let augmented = match &outcome.augmented {
            Some(a) => Some(PairRewards::of(&a.fitted.model, pairs)?),
            None => None,
        };
        let earlier = earlier.map(|model| PairRewards::of(model, pairs)).transpose()?;
        Ok(Heldout {
            earlier: earlier.and_then(|e| e.figures(&pairs.prompts, seed)),
            none: none.figures(&pairs.prompts, seed),
            augmented: augmented.as_ref().and_then(|a| a.figures(&pairs.prompts, seed)),
            difference: augmented.and_then(|a| a.minus(&none, &pairs.prompts, seed)),
            longer_wins: longer_baseline(rows.iter().map(|r| &r.value)),
            pairs: pairs.len(),
        })
    }

    fn json(&self) -> Value {
        let part = |p: &Option<(Accuracy, f64)>| {
            p.map(|(a, loss)| json!({"accuracy": a.accuracy, "ci95": a.ci95, "log_loss": loss}))
        };
        json!({
            "earlier": part(&self.earlier),
            "none": part(&self.none),
            "augmented": part(&self.augmented),
            "difference": self.difference,
            "longer_wins": self.longer_wins,
            "pairs": self.pairs,
        })
    }
}

/// Every row left out, a line each, as Markdown.
fn listed((name, vetted): (&str, &Vetted)) -> String {
    let mut text = String::new();
    for (reason, rows) in &vetted.report.left_out {
        text.push_str(&format!(
            "\n### Left out of the {name} pairs: {reason} ({})\n\n",
            rows.len()
        ));
        for row in rows {
            text.push_str(
                format!("- line {}: {}", row.line, row.detail).trim_end_matches([':', ' ']),
            );
            text.push('\n');
        }
    }
    text
}

fn data_record(path: &Path, vetted: &Vetted) -> DataRecord {
    DataRecord {
        file: file_name(path),
        fingerprint: vetted.fingerprint(),
        read: vetted.report.read,
        used: vetted.report.used,
        left_out: vetted.report.counts(),
    }
}

/// The result table, less what the clock decides.
fn rows(
    train: &Vetted,
    heldout: &Vetted,
    figures: &Heldout,
    warm: Option<(&Earlier, Known)>,
    tuned: Option<&Tuned>,
    settings: &Settings,
) -> Vec<(String, String)> {
    let set = |v: &Vetted| {
        let (read, used) = (v.report.read, v.report.used);
        format!("{read} read, {used} used, left out: {}", v.report.summary())
    };
    let mut rows = vec![
        ("training pairs".to_owned(), set(train)),
        ("held-out pairs".to_owned(), set(heldout)),
    ];
    rows.extend(label_counts(train).summary().map(|summary| ("labels".to_owned(), summary)));
    rows.extend(warm.map(|(e, known)| ("warm start".to_owned(), e.shown(known))));
    rows.extend(tuned.map(tuning::lines).unwrap_or_default());
    let Some((none, _)) = &figures.none else {
        rows.push(("accuracy".to_owned(), "not measured: no held-out pairs".into()));
        return rows;
    };
    if let Some((earlier, _)) = &figures.earlier {
        rows.push(("earlier model".to_owned(), earlier.shown()));
    }
    rows.push(("without augmentation".to_owned(), none.shown()));
    if let (Some((with, _)), Some(d)) = (&figures.augmented, &figures.difference) {
        let label = format!("with {}x augmentation", settings.augment.factor());
        rows.push((label, format!("{}, same head", with.shown())));
        rows.push(("difference".to_owned(), shown_difference(d)));
    }
    if let Some(longer) = figures.longer_wins {
        rows.push(("longer answer wins".to_owned(), percent(longer)));
    }
    rows
}

#[allow(clippy::too_many_arguments)] // Everything that a run found out.
fn print(
    settings: &Settings,
    train: &Vetted,
    heldout: &Vetted,
    figures: &Heldout,
    warm: Option<(&Earlier, Known)>,
    tuned: Option<&Tuned>,
    stages: &[StageTime],
    output: &Path,
    kept: Kept,
    advice: &str,
) -> Result<(), CliError> {
    if settings.json {
        return output::json(&json!({
            "pairs": train.report,
            "labels": label_counts(train),
            "heldout_pairs": heldout.report,
            "heldout": figures.json(),
            "warm_start": warm.map(|(e, n)| json!({"from": e.path, "known": n.known, "new": n.new})),
            "factor": settings.augment.factor(),
            "tuned": tuned,
            "kept": kept,
            "stages": stages,
            "bundle": output,
            "report": output.join(REPORT),
            "page": output.join(PAGE),
        }));
    }
    let mut lines = rows(train, heldout, figures, warm, tuned, settings);
    lines.push(("saved head".to_owned(), advice.to_owned()));
    let worth_a_word = |s: &&StageTime| s.seconds >= 0.05 || s.tokens.is_some();
    let time: Vec<String> = stages.iter().filter(worth_a_word).map(shown_stage).collect();
    lines.push(("time".to_owned(), time.join(", ")));
    lines.push(("reward model".to_owned(), output.display().to_string()));
    lines.push(("report".to_owned(), output.join(PAGE).display().to_string()));
    output::line(&output::aligned(&lines))
}

fn shown_stage(stage: &StageTime) -> String {
    let StageTime { name, seconds, tokens, computed } = stage;
    match (tokens, computed) {
        (Some(tokens), Some(computed)) => format!(
            "{name} {seconds:.1} s ({} tokens, {} computed, {} tokens/s)",
            thousands(*tokens),
            thousands(*computed),
            thousands((*tokens as f64 / seconds.max(1e-9)) as u64)
        ),
        _ => format!("{name} {seconds:.1} s"),
    }
}
