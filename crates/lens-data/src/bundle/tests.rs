#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::trained::KeyKind;
use lens_core::{EmbeddedPairs, Matrix, MethodSettings, Quiet, Threads, fit};

fn bundle() -> Bundle {
    let value = |i: usize, side: f32| ((i * 37 % 101) as f32 * 0.1).sin() + side;
    let side = |s: f32| Matrix::new((0..24 * 5).map(|i| value(i, s)).collect(), 24, 5).unwrap();
    let pairs = EmbeddedPairs::new(side(0.3), side(-0.3)).unwrap();
    let mut method = MethodSettings::default();
    method.vae.epochs = 3;
    let outcome = fit(&pairs, &method, Threads::ONE, &Quiet).unwrap();
    let mut trained = Trained::new(KeyKind::Prompt, outcome.folds.count());
    trained.extend((0..24).zip(outcome.folds.of_pairs().iter().copied()));
    let augmented = outcome.augmented.unwrap();
    let model = augmented.fitted.model;
    let (vae, _) = augmented.vae.unwrap();
    let novelty = Novelty::fit(&vae, &model.standardiser, &pairs, Threads::ONE).unwrap();
    let data = DataRecord {
        file: "x".into(),
        fingerprint: "f".into(),
        read: 24,
        used: 24,
        left_out: BTreeMap::new(),
    };
    let kept = Kept::Augmented;
    let mut bundle =
        Bundle::new(model, Some(vae), Some(novelty), Some(trained), method, kept, data);
    bundle.manifest.figures = serde_json::json!({"accuracy": 0.5});
    Bundle {
        curves: vec![serde_json::json!({"epoch": 1})],
        report: "# Report\n".into(),
        page: Some("<!doctype html>\n".into()),
        ..bundle
    }
}

#[test]
fn what_is_written_is_read_again_and_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    bundle.write(&a, false).unwrap();
    bundle.write(&b, false).unwrap();
    let again = Bundle::read(&a).unwrap();
    assert_eq!(again.model, bundle.model);
    assert_eq!(again.vae, bundle.vae);
    assert_eq!(again.novelty, bundle.novelty);
    assert_eq!(again.trained, bundle.trained);
    let hash = again.manifest.weights_sha256.clone();
    assert_eq!(hash.as_deref().map(str::len), Some(64));
    assert_eq!(again.manifest, Manifest { weights_sha256: hash, ..bundle.manifest.clone() });
    for name in [MANIFEST, WEIGHTS, CURVES, REPORT, PAGE] {
        assert_eq!(std::fs::read(a.join(name)).unwrap(), std::fs::read(b.join(name)).unwrap());
    }
    // A page is no part of what makes a bundle.
    let without = Bundle { page: None, ..bundle };
    without.write(&b, true).unwrap();
    assert!(!b.join(PAGE).exists());
    assert_eq!(Bundle::read(&b).unwrap().model, without.model);
}

#[test]
fn a_bundle_that_does_not_say_what_it_was_trained_on_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = bundle();
    (bundle.trained, bundle.manifest.trained) = (None, None);
    let path = folder.path().join("old");
    bundle.write(&path, false).unwrap();
    assert!(!std::fs::read_to_string(path.join(MANIFEST)).unwrap().contains("trained\":"));
    assert_eq!(Bundle::read(&path).unwrap().trained, None);
    // One that says so, but has lost it, is damaged.
    bundle.manifest.trained = Some(TrainedRecord { by: KeyKind::Prompt, folds: 5 });
    bundle.write(&path, true).unwrap();
    assert!(matches!(Bundle::read(&path), Err(Error::MissingArray { .. })));
}

#[test]
fn a_bundle_that_does_not_say_what_is_unusual_is_read_and_a_damaged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = bundle();
    let measured = (bundle.novelty.take(), bundle.manifest.novelty.take());
    let path = folder.path().join("old");
    bundle.write(&path, false).unwrap();
    assert!(!std::fs::read_to_string(path.join(MANIFEST)).unwrap().contains("novelty"));
    assert_eq!(Bundle::read(&path).unwrap().novelty, None);
    // The arrays are lost, the VAE is, the threshold is none.
    bundle.manifest.novelty = measured.1;
    bundle.write(&path, true).unwrap();
    assert!(matches!(Bundle::read(&path), Err(Error::MissingArray { .. })));
    bundle.novelty = measured.0;
    bundle.manifest.novelty.as_mut().unwrap().threshold = -1.0;
    bundle.write(&path, true).unwrap();
    assert!(Bundle::read(&path).unwrap_err().to_string().contains("novelty.threshold"));
    (bundle.vae, bundle.manifest.vae) = (None, None);
    bundle.write(&path, true).unwrap();
    assert!(Bundle::read(&path).unwrap_err().to_string().contains("without a `vae`"));
}

#[test]
fn an_encoder_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let identity = serde_json::json!({"model_file": "m", "model_sha256": "0",
        "architecture": "bert", "dim": 4, "layers": 1, "template": "plain",
        "template_sha256": "1", "add_bos": false, "views": [{"layer": 1, "pooling": "mean"}],
        "dtype": "f32", "max_length": 8});
    let record = serde_json::json!({"model": "m", "template": "plain", "identity": identity});
    let mut bundle = bundle();
    bundle.manifest.encoder = Some(serde_json::from_value(record).unwrap());
    bundle.write(&path, false).unwrap();
    assert_eq!(Manifest::read(&path).unwrap().encoder, bundle.manifest.encoder);
    let manifest = std::fs::read_to_string(path.join(MANIFEST)).unwrap();
    for (from, to) in
        [("\"pooling\": \"mean\"", "\"pooling\": \"most\""), ("\"layers\": 1", "\"l\": 1")]
    {
        std::fs::write(path.join(MANIFEST), manifest.replacen(from, to, 1)).unwrap();
        let error = Manifest::read(&path).unwrap_err();
        let Error::Corrupt { detail, .. } = &error else { panic!("{error}") };
        assert!(detail.starts_with("encoder: "), "{detail}");
    }
}

#[test]
fn an_existing_folder_is_replaced_only_on_request_and_only_if_it_is_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle();
    let path = folder.path().join("out");
    bundle.write(&path, false).unwrap();
    assert!(matches!(bundle.write(&path, false), Err(Error::TargetExists { .. })));
    assert!(matches!(check_target(&path, false), Err(Error::TargetExists { .. })));
    check_target(&path, true).unwrap();
    bundle.write(&path, true).unwrap();
    let other = folder.path().join("photos");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("cat.jpg"), b"x").unwrap();
    assert!(matches!(bundle.write(&other, true), Err(Error::TargetExists { .. })));
    assert!(other.join("cat.jpg").exists());
    // Nothing temporary is left beside them.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_damaged_or_newer_bundle_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle();
    let path = folder.path().join("out");
    bundle.write(&path, false).unwrap();
    let manifest = std::fs::read_to_string(path.join(MANIFEST)).unwrap();
    let with = |from: &str, to: &str| {
        std::fs::write(path.join(MANIFEST), manifest.replace(from, to)).unwrap();
        Bundle::read(&path).unwrap_err().to_string()
    };
    assert!(with("\"version\": 1", "\"version\": 9").contains("reads 1 to 1"));
    assert!(with("lens-reward-model", "other").contains("`format`"));
    assert!(with("\"dim\": 5", "\"dim\": 6").contains("standardiser.mean"));
    std::fs::write(path.join(MANIFEST), &manifest).unwrap();
    let weights = std::fs::read(path.join(WEIGHTS)).unwrap();
    std::fs::write(path.join(WEIGHTS), &weights[..weights.len() / 2]).unwrap();
    assert!(Bundle::read(&path).is_err());
}

#[test]
fn sizes_and_figures_that_make_no_sense_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    bundle().write(&path, false).unwrap();
    let text = std::fs::read(path.join(MANIFEST)).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut manifest: Value = serde_json::from_slice(&text).unwrap();
        *manifest.pointer_mut(pointer).unwrap() = value;
        std::fs::write(path.join(MANIFEST), manifest.to_string()).unwrap();
        let Err(Error::Corrupt { path: file, detail, .. }) = Bundle::read(&path) else {
            panic!("{pointer} is accepted");
        };
        assert_eq!(file, path.join(MANIFEST));
        detail
    };
    let (large, larger) = (1u64 << 31, 1u64 << 62);
    assert!(with("/version", 0.into()).contains("`version` is 0"));
    assert!(with("/head/members", (1u64 << 63).into()).contains("`head` has impossible sizes"));
    assert!(with("/head/members", 0.into()).contains("`head` has impossible sizes"));
    assert!(with("/head/hidden", serde_json::json!([1u64 << 32, 1u64 << 32])).contains("`head`"));
    assert!(with("/head/hidden", serde_json::json!([large])).contains("more parameters than"));
    assert!(with("/vae/latent", large.into()).contains("more parameters than"));
    assert!(with("/vae/latent", larger.into()).contains("`vae` has impossible sizes"));
    assert!(with("/vae/dim", large.into()).contains("`vae` is for width 2147483648"));
    assert!(with("/vae/dim", larger.into()).contains("`vae` has impossible sizes"));
    assert!(with("/reward_deviation", (-1).into()).contains("`reward_deviation` is -1"));
    assert!(with("/method/head/members", 0.into()).contains("method: "));
    assert!(with("/weights_sha256", "00".into()).contains("not its weights"));
}

#[test]
fn weights_of_another_training_are_not_read_with_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let mut bundle = bundle();
    bundle.write(&a, false).unwrap();
    bundle.model.standardiser.mean[0] += 1.0;
    bundle.write(&b, false).unwrap();
    std::fs::copy(b.join(WEIGHTS), a.join(WEIGHTS)).unwrap();
    let error = Bundle::read(&a).unwrap_err().to_string();
    assert!(error.contains("not its weights"), "{error}");
    // A bundle of a version that recorded no hash is read.
    let manifest = std::fs::read_to_string(b.join(MANIFEST)).unwrap();
    let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest.as_object_mut().unwrap().remove("weights_sha256").unwrap();
    std::fs::write(b.join(MANIFEST), manifest.to_string()).unwrap();
    assert_eq!(Bundle::read(&b).unwrap().model, bundle.model);
}

#[test]
fn a_file_of_somebody_else_in_a_bundle_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let bundle = bundle();
    bundle.write(&path, false).unwrap();
    std::fs::write(path.join("pairs.jsonl"), b"the only copy").unwrap();
    let error = bundle.write(&path, true).unwrap_err().to_string();
    assert!(error.contains("holds `pairs.jsonl`"), "{error}");
    assert_eq!(std::fs::read(path.join("pairs.jsonl")).unwrap(), b"the only copy");
}
