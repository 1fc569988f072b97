//! More pairs come in, and an earlier model is trained further on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::activation::Activation;
use lens_core::rng::{Purpose, Stream};
use lens_core::splits::{run_splits, split_keeping_known};
use lens_core::vae::Vae;
use lens_core::vae::train::VaeReport;
use lens_core::{
    CoreError, EmbeddedPairs, Extras, Matrix, MethodSettings, Outcome, Quiet, RewardModel, Threads,
    WarmStart, fit, fit_with,
};

/// `n` pairs in six dimensions, two to a prompt: noise, and a preference along two of them.
fn pairs(n: usize, seed: u64) -> EmbeddedPairs {
    let mut stream = Stream::new(seed, Purpose::Splits, 7);
    let mut side = |sign: f32| {
        let mut data: Vec<f32> = (0..n * 6).map(|_| stream.normal()).collect();
        data.chunks_exact_mut(6).for_each(|row| row[..2].iter_mut().for_each(|x| *x += sign));
        Matrix::new(data, n, 6).unwrap()
    };
    let (chosen, rejected) = (side(0.4), side(-0.4));
    EmbeddedPairs::with_prompts(chosen, rejected, (0..n as u32).map(|i| i / 2).collect()).unwrap()
}

fn quick() -> MethodSettings {
    let mut settings = MethodSettings::default();
    settings.vae.epochs = 12;
    settings.head.epochs = 15;
    settings.head.learning_rate = 3e-3;
    settings
}

/// An earlier model, and the fold of each of its pairs.
struct Earlier {
    outcome: Outcome,
    folds: Vec<Option<usize>>,
}

fn trained_vae(outcome: &Outcome) -> &(Vae, VaeReport) {
    outcome.augmented.as_ref().unwrap().vae.as_ref().unwrap()
}

impl Earlier {
    fn on(pairs: &EmbeddedPairs) -> Earlier {
        let outcome = fit(pairs, &quick(), Threads::ONE, &Quiet).unwrap();
        let folds = outcome.folds.of_pairs().iter().map(|&f| Some(f)).collect();
        Earlier { outcome, folds }
    }

    fn model(&self) -> &RewardModel {
        &self.outcome.none.model
    }

    fn vae(&self) -> &Vae {
        &trained_vae(&self.outcome).0
    }

    /// What is known of `n` pairs of which the first are those of this model.
    fn known(&self, n: usize) -> Vec<Option<usize>> {
        let mut folds = self.folds.clone();
        folds.resize(n, None);
        folds
    }

    fn start<'a>(&'a self, folds: &'a [Option<usize>]) -> WarmStart<'a> {
        let fold_count = self.outcome.folds.count();
        WarmStart { model: self.model(), vae: Some(self.vae()), folds, fold_count }
    }

    fn further(
        &self,
        pairs: &EmbeddedPairs,
        settings: &MethodSettings,
    ) -> Result<Outcome, CoreError> {
        let folds = self.known(pairs.len());
        let extras = Extras { start: Some(self.start(&folds)), ..Extras::default() };
        fit_with(pairs, settings, extras, Threads::ONE, &Quiet)
    }
}

#[test]
fn more_of_the_same_never_worsens_the_log_loss_on_the_folds() {
    let data = pairs(200, 1);
    let earlier = Earlier::on(&data);
    let before = earlier.outcome.none.report.fold_log_loss.unwrap();
    let again = earlier.further(&data, &quick()).unwrap();
    assert_eq!(again.folds, earlier.outcome.folds);
    assert!(again.none.report.fold_log_loss.unwrap() <= before);
    // With a step that ruins every head, the earlier one is kept to the bit.
    let mut wild = MethodSettings { augment: 1, ..quick() };
    (wild.head.learning_rate, wild.head.epochs) = (0.5, 2);
    let kept = earlier.further(&data, &wild).unwrap().none;
    assert_eq!(kept.report.kept_epoch, [0; 5]);
    assert_eq!(kept.model.head, earlier.model().head);
    assert_eq!(kept.report.fold_log_loss, Some(before));
}

#[test]
fn the_vae_goes_on_and_the_standardisation_stays() {
    let all = pairs(300, 1);
    let first: Vec<usize> = (0..200).collect();
    let earlier = Earlier::on(&all.select(&first));
    let mut short = quick();
    short.vae.epochs = 1;
    let total = |o: &Outcome| trained_vae(o).1.epochs[0].total;
    let afresh = total(&fit(&all, &short, Threads::ONE, &Quiet).unwrap());
    let further = earlier.further(&all, &short).unwrap();
    let last = trained_vae(&earlier.outcome).1.epochs.last().unwrap().total;
    // Its first epoch is near where it had ended, not where it had begun.
    assert!(total(&further) < (last + afresh) / 2.0, "{} {last} {afresh}", total(&further));
    assert_eq!(further.none.model.standardiser, earlier.model().standardiser);
    assert_ne!(trained_vae(&further).0, *earlier.vae());
}

#[test]
fn no_member_is_judged_on_a_prompt_that_it_was_trained_on() {
    let all = pairs(120, 1);
    let first: Vec<usize> = (0..100).collect();
    let earlier = Earlier::on(&all.select(&first));
    let then = earlier.outcome.folds.clone();
    let now = earlier.further(&all, &quick()).unwrap().folds;
    for (pair, member) in (0..100).flat_map(|i| (0..5).map(move |m| (i, m))) {
        assert_eq!(now.is_held_out(member, pair), then.is_held_out(member, pair));
    }
    let of = now.of_pairs();
    assert!(of.chunks(2).all(|prompt| prompt[0] == prompt[1]), "a prompt is in one fold");
    // The ten new prompts make the folds even.
    assert!((0..5).all(|f| of.iter().filter(|&&x| x == f).count() == 24), "{of:?}");

    // Of the earlier pairs, only one fold comes again: the numbers of the others stay theirs.
    let some: Vec<usize> = (0..100).filter(|&i| then.of_pairs()[i] == 1).chain(100..120).collect();
    let folds: Vec<Option<usize>> = some.iter().map(|&i| earlier.known(120)[i]).collect();
    let extras = Extras { start: Some(earlier.start(&folds)), ..Extras::default() };
    let now = fit_with(&all.select(&some), &quick(), extras, Threads::ONE, &Quiet).unwrap();
    assert_eq!(now.folds.count(), 5);
    assert!((0..20).all(|i| (0..5).all(|m| now.folds.is_held_out(m, i) == (m == 1))));
}

#[test]
fn a_member_that_no_pair_judges_stays_as_it_was() {
    let earlier = Earlier::on(&pairs(100, 1));
    // Three new prompts for five members.
    let new = pairs(6, 2);
    let extras = Extras { start: Some(earlier.start(&[None; 6])), ..Extras::default() };
    let settings = MethodSettings { augment: 1, ..quick() };
    let now = fit_with(&new, &settings, extras, Threads::ONE, &Quiet).unwrap();
    let idle: Vec<usize> = (0..5).filter(|f| !now.folds.of_pairs().contains(f)).collect();
    assert_eq!(idle.len(), 2);
    assert!(idle.iter().all(|&m| now.none.report.kept_epoch[m] == 0));
}

#[test]
fn other_sizes_are_refused_by_name() {
    let data = pairs(60, 1);
    let earlier = Earlier::on(&data);
    type Change = fn(&mut MethodSettings);
    let changes: [(&str, Change); 7] = [
        ("head.hidden", |s| s.head.hidden = vec![7]),
        ("head.members", |s| s.head.members = 3),
        ("head.activation", |s| s.head.activation = Activation::Tanh),
        ("head.folds", |s| s.head.folds = 2),
        ("vae.hidden", |s| s.vae.hidden = 7),
        ("vae.latent", |s| s.vae.latent = 3),
        ("vae.activation", |s| s.vae.activation = Activation::Tanh),
    ];
    for (setting, change) in changes {
        let mut settings = quick();
        change(&mut settings);
        let training = earlier.further(&data, &settings).unwrap_err();
        let before = settings.check_warm_start(&quick(), true).unwrap_err();
        for error in [training, before] {
            assert!(matches!(&error, CoreError::WarmStart { name, .. } if *name == setting));
            assert!(error.to_string().contains(setting), "{error}");
        }
    }
    quick().check_warm_start(&quick(), true).unwrap();
    let other = MethodSettings { standardise: false, ..quick() };
    assert!(
        other.check_warm_start(&quick(), true).unwrap_err().to_string().contains("standardise")
    );
    // A VAE that is not trained further may be of any size.
    let mut fresh = quick();
    fresh.vae.latent = 3;
    fresh.check_warm_start(&quick(), false).unwrap();

    let wide = Matrix::new((0..20).map(|i| i as f32).collect(), 5, 4).unwrap();
    let wide = EmbeddedPairs::new(wide.clone(), wide).unwrap();
    let extras = Extras { start: Some(earlier.start(&[None; 5])), ..Extras::default() };
    let error = fit_with(&wide, &quick(), extras, Threads::ONE, &Quiet).unwrap_err();
    assert!(error.to_string().contains("width of the embeddings = 6, but 4"), "{error}");
    let extras = Extras { start: Some(earlier.start(&[None; 5])), ..Extras::default() };
    let error = fit_with(&data, &quick(), extras, Threads::ONE, &Quiet).unwrap_err();
    assert!(matches!(error, CoreError::Shape { .. }), "{error}");
}

#[test]
fn splits_hold_out_only_what_is_new() {
    let all = pairs(100, 1);
    let first: Vec<usize> = (0..60).collect();
    let earlier = Earlier::on(&all.select(&first));
    let folds = earlier.known(100);
    let mut known: Vec<bool> = folds.iter().map(Option::is_some).collect();
    // One pair of a prompt is enough for the other not to be held out.
    known[61] = true;
    let split = split_keeping_known(&all, &known, 90, 0, 0).unwrap();
    assert_eq!((split.seeds.len(), split.heldout.len()), (90, 10));
    assert!(split.heldout.iter().all(|&i| i > 61), "{:?}", split.heldout);
    assert_ne!(split, split_keeping_known(&all, &known, 90, 0, 1).unwrap());
    let all_known = split_keeping_known(&all, &[true; 100], 90, 0, 0).unwrap_err();
    assert!(matches!(all_known, CoreError::TooFewPairs { .. }));
    assert!(split_keeping_known(&all, &known[1..], 90, 0, 0).is_err());

    let settings = MethodSettings { augment: 1, ..quick() };
    let start = Some(earlier.start(&folds));
    let further = run_splits(&all, &settings, start, 92, 3, &Quiet).unwrap();
    let afresh = run_splits(&all, &settings, None, 92, 3, &Quiet).unwrap();
    assert_eq!(further.by_split.len(), 3);
    assert_ne!(further, afresh);
}
