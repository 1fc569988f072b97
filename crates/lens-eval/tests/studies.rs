//! Studies with made-up runs, whose figures can be worked out by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Progress, Quiet};
use lens_eval::EvalError;
use lens_eval::study::efficiency::Reading;
use lens_eval::study::engine::{self, Done, Group, Run, Runner, Seconds};
use lens_eval::study::plan::{Cell, Plan, base_settings};
use lens_eval::study::summary::{DataSummary, Summary};
use lens_eval::study::{Identity, Store, StudyFile, analyse, ready};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `n` pairs on prompts of their own.
fn pool(n: usize) -> EmbeddedPairs {
    let side =
        |s: f32| Matrix::new((0..2 * n).map(|i| s * (i % 7) as f32).collect(), n, 2).unwrap();
    EmbeddedPairs::new(side(1.0), side(-1.0)).unwrap()
}

fn plan(text: &str, pairs: usize) -> Result<Plan, EvalError> {
    let file = StudyFile::parse(text, "s.toml")?;
    let base = base_settings(&file)?;
    let encoders = file.encoder_axis(|_| Ok::<_, EvalError>(2))?;
    Plan::new(&file, &base, encoders, pairs)
}

/// A runner that trains nothing: it makes up a credit of each held-out pair, and fold figures of each cell.
struct ScriptedRunner<F, G> {
    credit: F,
    fold: G,
    trained: AtomicUsize,
    stop_after: Option<usize>,
}

fn scripted<F, G>(credit: F, fold: G) -> ScriptedRunner<F, G>
where
    F: Fn(&Cell, usize) -> f64 + Sync,
    G: Fn(&Cell) -> Option<f64> + Sync,
{
    ScriptedRunner { credit, fold, trained: AtomicUsize::new(0), stop_after: None }
}

impl<F, G> Runner for ScriptedRunner<F, G>
where
    F: Fn(&Cell, usize) -> f64 + Sync,
    G: Fn(&Cell) -> Option<f64> + Sync,
{
    fn run(
        &self,
        group: &Group,
        cells: &[&Cell],
        done: Done<'_>,
        _progress: &dyn Progress,
    ) -> Result<(), EvalError> {
        for cell in cells {
            let n = self.trained.fetch_add(1, Ordering::SeqCst);
            if self.stop_after.is_some_and(|most| n >= most) {
                return Err(EvalError::Cancelled);
            }
            let fold_log_loss = (self.fold)(cell);
            let run = match fold_log_loss {
                None => Run::ran_away("made to".to_owned()),
                Some(_) => Run {
                    credits: group.parts.heldout.iter().map(|&i| (self.credit)(cell, i)).collect(),
                    heldout_log_loss: Some(0.5),
                    fold_log_loss,
                    fold_accuracy: Some(0.5),
                    generator_parameters: (cell.settings.augment > 1).then_some(531_616),
                    seconds: Seconds { source: 2.0, head: 1.0 },
                    diverged: None,
                    chose: None,
                },
            };
            done(cell, run)?;
        }
        Ok(())
    }
}

fn study(plan: &Plan, pairs: &EmbeddedPairs, runner: &dyn Runner) -> Summary {
    let parts = engine::parts(plan, pairs).unwrap();
    let keep = |_: &Cell, _: &Run| Ok(());
    let runs = engine::run(plan, &parts, HashMap::new(), runner, &keep, &Quiet).unwrap();
    analyse(plan, &parts, &runs, &pairs.prompts, DataSummary::default())
}

#[test]
fn cells_have_complete_settings_and_names_of_all_that_decides_them() {
    let text = "splits = 2\nseeds = [5, 10]\nrivals = [\"none\", \"lens\", \"lens-noise-only\", \
                \"tuned\"]\nfactors = [2, 8]\n[settings]\nvae.latent = 8\n[grid]\nvae.gamma = [0.1, \
                1]\nhead.epochs = [3, 4]";
    let plan = plan(text, 20).unwrap();
    // none: 2 epochs; lens: 2 factors x 4; noise-only names gamma itself: 2 factors x 2 epochs;
    // tuned: 2 tries x 2 epochs.
    let counts: Vec<usize> =
        (0..4).map(|r| plan.arms.iter().filter(|a| a.rival == r).count()).collect();
    assert_eq!(counts, [2, 8, 4, 4]);
    assert_eq!(plan.len(), 2 * 2 * 18);
    let noise = plan.arms.iter().find(|a| a.rival == 2).unwrap();
    assert_eq!((noise.settings.vae.gamma, noise.settings.synthesis.candidates), (0.0, 1));
    // The study's settings, and over them those of the rival.
    assert_eq!((noise.settings.vae.latent, noise.settings.vae.beta), (8, 0.03));
    let cells = plan.cells(0, 1, 1);
    assert!(cells.iter().all(|c| c.settings.seed == 1 && c.settings.check().is_ok()));
    // Names are those of the cells alone.
    let mut keys: Vec<String> =
        (0..4).flat_map(|i| plan.cells(0, i / 2, i % 2)).map(|c| c.key).collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
    assert_eq!(cells[3].key, plan.cells(0, 1, 1)[3].key);
    // A plan written down is the same plan.
    let again = self::plan(&plan.to_toml().unwrap(), 20).unwrap();
    assert_eq!(again.arms, plan.arms);
    assert_eq!(again.to_toml().unwrap(), plan.to_toml().unwrap());
    assert_eq!(again.cells(0, 0, 0), plan.cells(0, 0, 0));
}

#[test]
fn layers_and_poolings_are_encoders_of_their_own_in_the_order_of_their_numbers() {
    let file = StudyFile::parse("layers = [10, 2]\npoolings = [\"mean\"]\n", "s").unwrap();
    let all = file.encoder_axis(|_| Ok::<_, EvalError>(0)).unwrap();
    let names: Vec<&str> = all.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["layer 2, pooling mean", "layer 10, pooling mean"]);
    assert_eq!(all[1].settings["layer"].as_integer(), Some(10));
    let text = "layers = \"all\"\n[encoders.a]\nmodel = \"m\"\n[encoders.b]\nmodel = \"n\"";
    let file = StudyFile::parse(text, "s").unwrap();
    let all = file.encoder_axis(|e| Ok::<_, EvalError>(e.name.len())).unwrap();
    assert_eq!(all.len(), 4);
    let taken = "layers = [1]\n[encoders.a]\nlayer = 2";
    let file = StudyFile::parse(taken, "s").unwrap();
    assert!(file.encoder_axis(|_| Ok::<_, EvalError>(0)).is_err());
}

#[test]
fn ready_made_studies_can_be_planned() {
    let known = toml::Table::try_from(MethodSettings::default()).unwrap();
    for name in ready::names() {
        let file = ready::find(name).unwrap().unwrap();
        assert_eq!(file.name, name);
        assert!(!file.title.is_empty() && file.question.ends_with('?'), "{name}");
        if file.rivals.iter().any(|r| r == "mixup") && !known.contains_key("source") {
            // Other sources of synthetic pairs are not there yet.
            continue;
        }
        let encoders = file.encoder_axis(|_| Ok::<_, EvalError>(18)).unwrap();
        let plan = Plan::new(&file, &base_settings(&file).unwrap(), encoders, 1000).unwrap();
        assert!(!plan.is_empty() && plan.len() < 2000, "{name}: {}", plan.len());
        // Every rival that chooses a factor has the same budget, and so has `tuned`.
        let own = |f: &[usize]| file.rival.contains_key(&plan.rivals[plan.arms[f[0]].rival].name);
        for family in plan.families().iter().filter(|f| f.len() > 1 && !own(f)) {
            assert_eq!(family.len(), file.factors.len(), "{name}");
        }
    }
}

#[test]
fn the_same_pairs_are_held_out_for_every_number_of_seeds() {
    let plan = plan("splits = 3\nseeds = [4, 12]", 20).unwrap();
    let parts = engine::parts(&plan, &pool(20)).unwrap();
    for (few, more) in parts[0].iter().zip(&parts[1]) {
        assert_eq!(few.heldout, more.heldout);
        assert_eq!(few.heldout.len(), 8);
        // More seeds are the fewer ones and others.
        assert!(few.seeds.iter().all(|i| more.seeds.contains(i)));
    }
}

#[test]
fn differences_are_taken_pair_by_pair_where_the_grid_concerns_both() {
    let text = "splits = 4\nseeds = 10\nrivals = [\"none\", \"lens\"]\nfactors = [4]\n[grid]\n\
                vae.gamma = [0.1, 1]\nhead.epochs = [3, 4]";
    let plan = plan(text, 20).unwrap();
    let pairs = pool(20);
    // none is right on even pairs, with 4 epochs also on pair 1 modulo 4; lens is right on all but
    // multiples of 4, whatever its settings.
    let credit = |cell: &Cell, i: usize| match (cell.settings.augment, cell.settings.head.epochs) {
        (1, 3) => f64::from(i.is_multiple_of(2)),
        (1, _) => f64::from(i.is_multiple_of(2) || i % 4 == 1),
        _ => f64::from(!i.is_multiple_of(4)),
    };
    let summary = study(&plan, &pairs, &scripted(credit, |_| Some(0.6)));
    assert_eq!((summary.rows.len(), summary.comparisons), (2 + 4, 4));
    let parts = engine::parts(&plan, &pairs).unwrap();
    let held: Vec<usize> = parts[0].iter().flat_map(|p| p.heldout.clone()).collect();
    let share = |right: fn(usize) -> bool| {
        held.iter().filter(|&&i| right(i)).count() as f64 / held.len() as f64
    };
    let lens = share(|i| !i.is_multiple_of(4));
    for row in summary.rows.iter().filter(|r| r.rival == "lens") {
        assert_eq!(row.accuracy.unwrap().value, lens);
        let none = match row.grid["head.epochs"].as_str() {
            "3" => share(|i| i.is_multiple_of(2)),
            _ => share(|i| i.is_multiple_of(2) || i % 4 == 1),
        };
        let d = row.difference.as_ref().unwrap();
        assert!((d.estimate.value - (lens - none)).abs() < 1e-12, "{row:?}");
        assert!(d.estimate.ci95[0] <= d.estimate.value && d.estimate.value <= d.estimate.ci95[1]);
        assert!(d.p_holm >= d.p);
    }
    let none = summary.rows.iter().find(|r| r.rival == "none").unwrap();
    assert_eq!(none.grid.len(), 1);
    assert!(none.difference.is_none());
    // Costs: 3 synthetic pairs for each of 10 seeds, 2 seconds.
    let cost = summary.cost.iter().find(|c| c.rival == "lens").unwrap();
    assert_eq!((cost.synthetic_pairs, cost.generator_parameters), (30, Some(531_616)));
    assert!((cost.seconds_per_thousand.unwrap() - 2000.0 / 30.0).abs() < 1e-9);
}

#[test]
fn a_rival_chooses_on_its_folds_in_each_split_by_itself() {
    let plan =
        plan("splits = 4\nseeds = 10\nrivals = [\"none\", \"lens\"]\nfactors = [2, 4, 8]", 20)
            .unwrap();
    // 4x looks best on the folds of even splits, 8x on those of odd ones; 4x is always right.
    let fold = |cell: &Cell| {
        let best = if cell.split.is_multiple_of(2) { 4 } else { 8 };
        Some(if cell.settings.augment == best { 0.4 } else { 0.5 })
    };
    let credit = |cell: &Cell, _: usize| f64::from(cell.settings.augment == 4);
    let summary = study(&plan, &pool(20), &scripted(credit, fold));
    let [chosen] = summary.chosen.as_slice() else { panic!("{:?}", summary.chosen) };
    assert_eq!(chosen.by_split, [Some(1.0), Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(chosen.accuracy.unwrap().value, 0.5);
    assert_eq!(
        chosen.picks.iter().map(|(v, n)| (v.as_str(), *n)).collect::<Vec<_>>(),
        [("4x", 2), ("8x", 2)]
    );
    // Three factors and the choice, against none.
    assert_eq!(summary.comparisons, 4);
    assert_eq!(chosen.difference.as_ref().unwrap().estimate.value, 0.5);
    let four = summary.rows.iter().find(|r| r.factor == Some(4)).unwrap();
    let d = four.difference.as_ref().unwrap();
    assert_eq!((d.estimate.value, d.p), (1.0, 1.0 / (summary.resamples as f64 + 1.0)));
    assert!(d.is_clear());
    assert!(summary.findings[0].contains("Of 4 comparisons with none"), "{:?}", summary.findings);
}

#[test]
fn what_runs_away_is_shown_and_compared_where_it_did_not() {
    let plan = plan("splits = 4\nseeds = 10", 20).unwrap();
    let fold = |cell: &Cell| (cell.settings.augment == 1 || cell.split > 0).then_some(0.5);
    // none is right in split 0 alone: there lens has nothing to be compared with.
    let credit = |cell: &Cell, _: usize| f64::from(cell.settings.augment == 4 || cell.split == 0);
    let summary = study(&plan, &pool(20), &scripted(credit, fold));
    let lens = &summary.rows[1];
    assert_eq!(
        (lens.ran_away, lens.by_split[0], lens.reason.as_deref()),
        (1, None, Some("made to"))
    );
    assert_eq!(lens.accuracy.unwrap().value, 1.0);
    assert_eq!(lens.difference.as_ref().unwrap().estimate.value, 1.0);
    assert_eq!(summary.rows[0].accuracy.unwrap().value, 0.25);
    assert!(summary.to_markdown().contains("(1 ran away)"));
}

#[test]
fn what_labels_are_worth_is_read_off_the_baseline() {
    let plan =
        plan("splits = 3\nseeds = [800, 100, 200, 400]\nrivals = [\"none\", \"lens\"]", 1000)
            .unwrap();
    // Without: right on 50, 60, 70, 80 of 100 prompts at 100, 200, 400, 800 labels; with lens 5 more.
    let credit = |cell: &Cell, i: usize| {
        let level = [80, 50, 60, 70][cell.seeds];
        let more = if cell.settings.augment > 1 { 5 } else { 0 };
        f64::from(i * 37 % 100 < level + more)
    };
    let summary = study(&plan, &pool(1000), &scripted(credit, |_| Some(0.5)));
    let [worth] = summary.efficiency.as_slice() else { panic!("{:?}", summary.efficiency) };
    let labels: Vec<usize> = worth.points.iter().map(|p| p.labels).collect();
    assert_eq!(labels, [100, 200, 400, 800]);
    // 5 points are about half the way from 100 to 200 in logarithms.
    let Reading::Labels(n) = worth.points[0].like else { panic!("{:?}", worth.points[0]) };
    assert!((120.0..170.0).contains(&n), "{n}");
    assert_eq!(worth.points[3].like, Reading::MoreThan(800.0));
    assert!(worth.points[3].shown().starts_with("800 labels work like more than 800"));
    assert_eq!(summary.table.columns, ["800", "100", "200", "400"]);
}

#[test]
fn a_study_that_was_stopped_goes_on_and_trains_nothing_twice() {
    let plan = plan("splits = 3\nseeds = [5, 10]\nfactors = [2, 4]", 20).unwrap();
    let pairs = pool(20);
    let parts = engine::parts(&plan, &pairs).unwrap();
    let identity = Identity { data: vec![(String::new(), "abc".to_owned())] };
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("o");
    let credit = |cell: &Cell, i: usize| f64::from((i + cell.index).is_multiple_of(3)) / 2.0;
    let mut trained = 0;
    let mut results = Vec::new();
    for most in [4, 3, 100] {
        let store = Store::claim(&folder, false).unwrap();
        // While one has it no other can.
        assert!(matches!(Store::claim(&folder, true), Err(EvalError::StudyBusy { .. })));
        let known = store.begin(&plan, &identity, &Quiet).unwrap();
        assert_eq!(known.len(), trained);
        let runner = ScriptedRunner { stop_after: Some(most), ..scripted(credit, |_| Some(0.5)) };
        let kept = Mutex::new(0);
        let keep = |cell: &Cell, run: &Run| {
            *kept.lock().unwrap() += 1;
            store.append(cell, run)
        };
        results.push(engine::run(&plan, &parts, known, &runner, &keep, &Quiet).ok());
        trained += *kept.lock().unwrap();
        if let Some(Some(runs)) = results.last() {
            let summary = analyse(&plan, &parts, runs, &pairs.prompts, DataSummary::default());
            store.finish(&plan, &identity, runs, &summary).unwrap();
        }
    }
    assert_eq!(trained, plan.len());
    assert!(results[0].is_none() && results[1].is_none());
    // Other data are another study.
    let other = Identity { data: vec![(String::new(), "abd".to_owned())] };
    let store = Store::claim(&folder, false).unwrap();
    let error = store.begin(&plan, &other, &Quiet).unwrap_err();
    assert!(matches!(error, EvalError::OtherStudy { .. }), "{error}");
    assert!(error.to_string().contains("abc there, abd here"), "{error}");
}

#[test]
fn a_runner_must_do_what_it_says() {
    struct Idle;
    impl Runner for Idle {
        fn run(
            &self,
            _group: &Group,
            _cells: &[&Cell],
            _done: Done<'_>,
            _progress: &dyn Progress,
        ) -> Result<(), EvalError> {
            Ok(())
        }
    }
    let plan = plan("splits = 2\nseeds = 10", 20).unwrap();
    let parts = engine::parts(&plan, &pool(20)).unwrap();
    let keep = |_: &Cell, _: &Run| Ok(());
    let error = engine::run(&plan, &parts, HashMap::new(), &Idle, &keep, &Quiet).unwrap_err();
    assert!(matches!(error, EvalError::Runner { .. }), "{error}");
}
