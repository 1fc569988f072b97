//! `cargo bench --workspace --bench training`: what an epoch of each training costs, on made-up
//! pairs, through the public interface. For comparisons between two states of the code;
//! `lens bench train` measures a machine.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lens_core::folds::Folds;
use lens_core::head::HeadSettings;
use lens_core::head::{Augmentation, HeadData, train as train_head};
use lens_core::pairing::{Pairing, synthetic_per_side};
use lens_core::rng::{Purpose, Stream};
use lens_core::source::Synthetic;
use lens_core::synthesis::{SynthesisSettings, Weighing, synthesise};
use lens_core::vae::train::train as train_vae;
use lens_core::vae::{Vae, VaeSettings};
use lens_core::{
    EmbeddedPairs, Matrix, MethodSettings, Quiet, RewardModel, Standardiser, Threads, fit,
};
use std::hint::black_box;
use std::time::Duration;

const PAIRS: usize = 1000;

fn pairs(dim: usize) -> EmbeddedPairs {
    let mut stream = Stream::new(1, Purpose::Splits, 1);
    let mut side = |sign: f32| {
        let data = (0..PAIRS * dim).map(|_| stream.normal() + 0.05 * sign).collect();
        Matrix::new(data, PAIRS, dim).unwrap()
    };
    let chosen = side(1.0);
    EmbeddedPairs::new(chosen, side(-1.0)).unwrap()
}

fn threads() -> Threads {
    Threads::available()
}

/// One epoch, with what surrounds it: fresh weights, and the report at the end.
fn vae(pairs: &EmbeddedPairs, standardiser: &Standardiser) -> Vae {
    let settings = VaeSettings { epochs: 1, ..VaeSettings::default() };
    train_vae(pairs, standardiser, &settings, None, 1, threads(), &Quiet).unwrap().0
}

fn vae_epoch(c: &mut Criterion) {
    let mut group = c.benchmark_group("VAE epoch");
    group.throughput(Throughput::Elements(PAIRS as u64));
    for dim in [640, 4096] {
        let pairs = pairs(dim);
        let standardiser = Standardiser::fit(&pairs);
        group.bench_function(BenchmarkId::new("width", dim), |b| {
            b.iter(|| vae(black_box(&pairs), &standardiser));
        });
    }
}

fn head_epoch(c: &mut Criterion) {
    let mut group = c.benchmark_group("head epoch");
    group.throughput(Throughput::Elements(PAIRS as u64));
    let pairs = pairs(4096);
    let standardiser = Standardiser::fit(&pairs);
    let vae = vae(&pairs, &standardiser);
    let folds = Folds::assign(&pairs.prompts, 1, 1);
    for factor in [1, 4, 16, 64] {
        let (drawing, k) = (SynthesisSettings::default(), synthetic_per_side(factor));
        let codes = synthesise(&vae, &pairs, &standardiser, &drawing, k, 1, threads()).unwrap();
        let synthetic = Synthetic::Codes { vae: &vae, codes };
        let augmentation = Augmentation {
            factor,
            pairing: Pairing::Within,
            synthetic: &synthetic,
            weighing: Weighing::default(),
        };
        let data = HeadData {
            pairs: &pairs,
            standardiser: &standardiser,
            folds: &folds,
            augmentation: (factor > 1).then_some(&augmentation),
            watch: None,
            prior: None,
        };
        for members in [1, 5] {
            let settings = HeadSettings { epochs: 1, folds: 1, members, ..HeadSettings::default() };
            let name = if members == 1 { "1 member, augment" } else { "5 members, augment" };
            group.bench_function(BenchmarkId::new(name, factor), |b| {
                b.iter(|| train_head(data, &settings, None, 1, threads(), "head", &Quiet).unwrap());
            });
        }
    }
}

fn synthesis(c: &mut Criterion) {
    let pairs = pairs(640);
    let standardiser = Standardiser::fit(&pairs);
    let vae = vae(&pairs, &standardiser);
    let per_side = synthetic_per_side(64);
    let drawing = SynthesisSettings::default();
    let mut group = c.benchmark_group("synthesis");
    group.throughput(Throughput::Elements((2 * PAIRS * per_side) as u64));
    group.bench_function("codes", |b| {
        b.iter(|| {
            synthesise(&vae, &pairs, &standardiser, &drawing, per_side, 1, threads()).unwrap()
        });
    });
    let latent = vae.shape().latent;
    let codes: Vec<f32> = (0..2 * PAIRS * latent).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut decoded = vec![0.0; 2 * PAIRS * 640];
    group.throughput(Throughput::Elements(2 * PAIRS as u64));
    group.bench_function("decoding", |b| {
        b.iter(|| vae.decode_into(black_box(&codes), &mut decoded, threads()));
    });
}

fn scoring(c: &mut Criterion) {
    let mut group = c.benchmark_group("scoring");
    group.throughput(Throughput::Elements(PAIRS as u64));
    for dim in [640, 4096] {
        let pairs = pairs(dim);
        let mut settings = MethodSettings { augment: 1, ..MethodSettings::default() };
        settings.head.epochs = 1;
        let model: RewardModel = fit(&pairs, &settings, threads(), &Quiet).unwrap().none.model;
        group.bench_function(BenchmarkId::new("width", dim), |b| {
            b.iter(|| model.rewards(black_box(&pairs.chosen), threads()).unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = vae_epoch, head_epoch, synthesis, scoring
}
criterion_main!(benches);
