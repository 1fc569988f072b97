//! Stories of users whose embeddings or settings leave nothing to learn: what they are told, and that
//! no reward model comes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, cloud, safetensors};

const TRAIN: &str = "train a.safetensors --splits 1 -o rm --quiet --set head.epochs=3";

fn arrays(lens: &Lens, dim: usize, chosen: &[f32], rejected: &[f32]) {
    let shape = [chosen.len() / dim, dim];
    lens.write(
        "a.safetensors",
        safetensors(&[("chosen", shape, chosen), ("rejected", shape, rejected)]),
    );
}

fn refused(lens: &Lens, code: i32, words: &str) -> String {
    let error = lens.fails(code, words);
    assert!(!lens.path("rm").exists());
    error
}

#[test]
fn embeddings_without_a_difference() {
    let lens = Lens::new();
    arrays(&lens, 3, &[1e6; 30], &[1e6 + 0.0625; 30]);
    let error = refused(&lens, 1, TRAIN);
    assert!(error.contains("all 3 dimensions of the embeddings are the same"), "{error}");
    arrays(&lens, 3, &[2.5; 30], &[2.5; 30]);
    let error = refused(&lens, 1, TRAIN);
    assert!(error.contains("all 10 pairs have equal embeddings on both sides"), "{error}");
    arrays(&lens, 3, &[0.1, 0.2, 0.3], &[0.3, 0.2, 0.1]);
    let error = refused(&lens, 1, TRAIN);
    assert!(error.contains("1 pairs, but at least"), "{error}");
}

#[test]
fn a_value_that_is_no_number_is_named_by_its_place() {
    let lens = Lens::new();
    let (chosen, mut rejected) = (cloud(20, 4, 0.2), cloud(21, 4, -0.2)[4..].to_vec());
    for bad in [f32::NAN, f32::INFINITY] {
        rejected[17 * 4 + 2] = bad;
        arrays(&lens, 4, &chosen, &rejected);
        let error = refused(&lens, 1, TRAIN);
        assert!(error.contains("array `rejected`, row 17, column 2"), "{error}");
    }
}

#[test]
fn settings_that_cannot_work_or_do_not() {
    let lens = Lens::new();
    arrays(&lens, 4, &cloud(60, 4, 0.2), &cloud(61, 4, -0.2)[4..]);
    for (setting, said) in [
        ("augment=0", "setting `augment` is 0, but must be from 1 to 4096"),
        ("vae.beta=-1.0", "setting `vae.beta` is -1, but must be a finite number of at least 0"),
        ("vae.gamma=nan", "setting `vae.gamma` is NaN"),
        ("head.dropout=1.0", "setting `head.dropout` is 1, but must be at least 0 and below 1"),
    ] {
        let error = refused(&lens, 2, &format!("{TRAIN} --set {setting}"));
        assert!(error.contains(said), "{error}");
    }
    let collapse = "--set vae.beta=1000 --set vae.gamma=0 --set vae.epochs=400";
    let error = refused(&lens, 1, &format!("{TRAIN} {collapse}"));
    assert!(error.contains("VAE diverged at step ") && error.contains("collapse"), "{error}");
    assert!(error.contains("try a smaller vae.beta (now 1000)"), "{error}");
    let away = "--set vae.beta=1e-9 --set vae.gamma=50 --set vae.epochs=3000";
    let error = refused(&lens, 1, &format!("{TRAIN} {away}"));
    assert!(error.contains("over the limit of 100"), "{error}");
    assert!(error.contains("try a smaller vae.gamma (now 50)"), "{error}");
    let noise = "--set synthesis.noise_variance=1e20";
    let error = refused(&lens, 1, &format!("{TRAIN} {noise}"));
    assert!(error.contains("head diverged") && error.contains("noise_variance"), "{error}");
}
