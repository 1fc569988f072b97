//! Stories of users to whom more pairs come in after a reward model is trained.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, TinyModel, cloud, pairs, safetensors};
use lens_data::Bundle;
use serde_json::{Value, json};
use test_needs::needs;

const DIM: usize = 8;

/// The first `n` of always the same pairs of embeddings.
fn arrays(lens: &Lens, name: &str, rows: std::ops::Range<usize>) {
    let side = |centre: f32| cloud(200, DIM, centre)[rows.start * DIM..rows.end * DIM].to_vec();
    let (a, b) = (side(0.1), side(-0.1));
    let shape = [rows.len(), DIM];
    lens.write(name, safetensors(&[("chosen", shape, &a), ("rejected", shape, &b)]));
}

/// A bundle as versions wrote it that did not note what was trained on.
fn forget(lens: &Lens, bundle: &str) {
    let file = format!("{bundle}/lens.json");
    let mut manifest = lens.json(&file);
    manifest.as_object_mut().unwrap().remove("trained");
    lens.write(&file, manifest.to_string());
}

#[test]
fn more_arrays_come_in_and_only_new_pairs_are_held_out() {
    let lens = Lens::new();
    arrays(&lens, "first.safetensors", 0..100);
    arrays(&lens, "all.safetensors", 0..150);
    arrays(&lens, "new.safetensors", 100..150);
    let flags = "--set head.hidden=[8] --set vae.latent=4 --set vae.epochs=20 --seed 3";
    lens.ok(&format!("train first.safetensors --splits 2 --augment 2 {flags} -o rm"));
    let said = lens.ok("train all.safetensors --splits 2 --warm-start rm -o next");
    assert!(said.out.contains("warm start"), "{}", said.out);
    assert!(said.out.contains("from rm: 100 of 150 pairs known, 50 new"), "{}", said.out);
    // Of the 50 new pairs, a fifth is held out.
    assert!(said.out.contains("each 140 to train on"), "{}", said.out);

    // All settings that were not named are those of the earlier model.
    let (then, now) = (lens.json("rm/lens.json"), lens.json("next/lens.json"));
    assert_eq!(then["method"], now["method"]);
    assert_eq!(now["method"]["head"]["hidden"], json!([8]));
    let started = json!({"file": "first.safetensors", "known": 100, "new": 50,
        "fingerprint": then["data"]["fingerprint"]});
    assert_eq!((&then["warm_start"], &now["warm_start"]), (&Value::Null, &started));
    assert!(lens.read("next/report.md").contains("from rm: 100 of 150 pairs known"));

    // The new model knows all of them, each in the fold it was in.
    let [then, now] = ["rm", "next"].map(|b| Bundle::read(&lens.path(b)).unwrap());
    assert_eq!(now.model.standardiser, then.model.standardiser);
    assert!(now.vae.is_some() && now.vae != then.vae);
    assert_eq!(then.trained.unwrap().len(), 100);
    assert_eq!(now.trained.unwrap().len(), 150);

    // The new pairs alone do as well; what was known before stays known.
    let said = lens.ok("train new.safetensors --splits 2 --warm-start rm -o only --json").json();
    let warm = json!({"from": "rm", "known": 0, "new": 50});
    assert_eq!((&said["warm_start"], &said["seed_pairs"]), (&warm, &json!(40)));
    assert_eq!(Bundle::read(&lens.path("only")).unwrap().trained.unwrap().len(), 150);
    let said = lens.ok("train all.safetensors --splits 2 --warm-start rm --augment 1");
    assert!(said.err.contains("the earlier VAE is not trained further"), "{}", said.err);
    // And in place, the earlier model is replaced.
    lens.ok("train new.safetensors --splits 1 --warm-start rm -o rm --overwrite --quiet");
    assert_eq!(lens.json("rm/lens.json")["warm_start"]["new"], 50);
}

#[test]
fn what_cannot_be_trained_further_is_refused_with_its_reason() {
    let lens = Lens::new();
    arrays(&lens, "first.safetensors", 0..60);
    arrays(&lens, "all.safetensors", 0..100);
    let train = "train first.safetensors --splits 1 --augment 1 --set head.epochs=3";
    lens.ok(&format!("{train} --set head.hidden=[8] -o rm"));

    let warm = "train all.safetensors --splits 1 --warm-start rm";
    for (flags, part) in [
        ("--set head.hidden=[4]", "the earlier model has head.hidden = [8], but [4] is asked for"),
        ("--set head.folds=3", "head.folds = 5, but 3"),
        ("--set standardise=false", "standardise = true, but false"),
    ] {
        let error = lens.fails(1, &format!("{warm} {flags}"));
        assert!(error.contains(part) && error.contains("hint: settings that are not"), "{error}");
    }
    let error = lens.fails(2, &format!("{warm} --seed-pairs 50"));
    assert!(error.contains("seed_pairs: is 50, but 60 pairs were trained on before"), "{error}");
    let error = lens.fails(1, "train first.safetensors --warm-start rm");
    assert!(error.contains("rm was trained on all 60 pairs"), "{error}");
    let error = lens.fails(1, "train all.safetensors --warm-start gone");
    assert!(error.contains("gone") && error.contains("no such"), "{error}");
    // Without a VAE to go on from, one starts afresh, of any size, and this is said.
    let said = lens.ok(&format!("{warm} --augment 2 --set vae.latent=3 --set vae.epochs=12"));
    assert!(
        said.err.contains("rm has no VAE: that of this training starts afresh"),
        "{}",
        said.err
    );

    // Text cannot be told to be known to a model of arrays, nor arrays to one of text.
    lens.rows("pairs.jsonl", &pairs(0..20));
    let error = lens.fails(1, "run pairs.jsonl --warm-start rm -o next");
    assert!(error.contains("it was trained on embeddings of unknown texts"), "{error}");
    forget(&lens, "rm");
    let error = lens.fails(1, warm);
    assert!(error.contains("rm cannot be trained further: it does not say which"), "{error}");
    assert!(error.contains("hint: train afresh on all pairs"), "{error}");
    // It scores as ever.
    lens.ok("eval rm all.safetensors");
    assert!(!lens.path("next").exists());
}

#[test]
fn a_run_goes_on_with_the_encoder_of_the_earlier_one() {
    let lens = Lens::new();
    lens.rows("first.jsonl", &pairs(0..60));
    lens.rows("all.jsonl", &pairs(0..100));
    lens.rows("heldout.jsonl", &pairs(50..130));
    let run = "run first.jsonl --model tiny.gguf --layer 4 --pooling mean --augment 2";
    lens.ok(&format!("{run} --holdout 0 --set head.hidden=[8] -o rm"));
    let computed = |run: &Value| {
        let stages = run["stages"].as_array().unwrap();
        let embed = stages.iter().find(|s| s["name"] == "embed").unwrap();
        (embed["tokens"].as_u64().unwrap(), embed["computed"].as_u64().unwrap())
    };
    let said = lens.ok("run all.jsonl --warm-start rm -o next --json");
    let next = said.json();
    // A fifth of the 40 new prompts is held out, and the other 32 are trained on.
    assert_eq!(next["warm_start"], json!({"from": "rm", "known": 60, "new": 32}));
    assert_eq!(next["heldout"]["pairs"], 8);
    assert!(next["heldout"]["earlier"]["accuracy"].is_number());
    let (tokens, computed) = computed(&next);
    assert!(0 < computed && computed < tokens / 2, "{computed} of {tokens}");
    let [then, now] = ["rm", "next"].map(|b| lens.json(&format!("{b}/lens.json")));
    assert_eq!(then["encoder"], now["encoder"]);
    assert_eq!(then["method"], now["method"]);
    assert!(lens.read("next/report.md").contains("layer=4,pooling=mean"));

    // Held-out pairs that were trained on are left out, and counted.
    let words = "run all.jsonl --eval heldout.jsonl --warm-start rm";
    let said = lens.ok(&format!("{words} -o third --json"));
    assert_eq!(said.json()["heldout_pairs"]["left_out"], json!({"trained-on": 10}));
    assert!(said.err.contains("10 held-out pairs are left out: rm was trained"), "{}", said.err);
    let error = lens.fails(1, "run all.jsonl --eval first.jsonl --warm-start rm -o no");
    assert!(error.contains("first.jsonl: rm was trained on the prompts of all 60"), "{error}");
    let error = lens.fails(1, "run first.jsonl --warm-start rm -o no");
    assert!(error.contains("none is left to hold out; add new pairs"), "{error}");
    lens.ok("run first.jsonl --warm-start rm --holdout 0 -o same");

    // Another encoder is refused by the field that differs; the same one may be named.
    lens.model("other.gguf", &TinyModel { seed: 2, ..TinyModel::default() });
    for (flags, field) in [
        ("--model other.gguf", "model_sha256 is"),
        ("--layer 2 --pooling mean", "views is layer=4,pooling=mean in the bundle"),
        ("--max-length 100", "max_length is 512 in the bundle, 100 in"),
        ("--bos never", "add_bos is"),
    ] {
        let error = lens.fails(1, &format!("run all.jsonl --warm-start rm -o no {flags}"));
        assert!(error.contains("rm was trained with another encoder"), "{flags}: {error}");
        assert!(error.contains(field), "{flags}: {error}");
    }
    lens.ok("run all.jsonl --warm-start rm --model tiny.gguf --layer 4 --pooling mean -o named");

    // A reward model knows all that it was ever trained on, and says so.
    let said = lens.ok("eval next heldout.jsonl");
    assert!(said.err.contains("was trained on the prompts of "), "{}", said.err);
    let said = lens.ok("info next");
    assert!(said.out.contains("a model of first.jsonl: 60 pairs known, 32 new"), "{}", said.out);

    // Embeddings by `lens embed` know their prompts, so training can go on from either.
    lens.ok("embed all.jsonl --model tiny.gguf --layer 4 --pooling mean -o all.safetensors");
    let said = lens.ok("train all.safetensors --warm-start rm --splits 1 -o stored");
    assert!(said.out.contains("from rm: 60 of 100 pairs known, 40 new"), "{}", said.out);
    lens.rows("more.jsonl", &pairs(90..120));
    let said = lens.ok("run more.jsonl --warm-start stored -o last");
    assert!(said.out.contains("from stored: 10 of "), "{}", said.out);
    assert!(!lens.path("no").exists());
}

/// With the model that most people use: only the new pairs of a grown file are embedded.
#[needs(LENS_MODEL_TESTS)]
#[test]
fn the_starter_dataset_grows_and_only_new_pairs_are_embedded() {
    let model = std::env::var("LENS_MODEL").unwrap_or_else(|_| "gemma-3-270m".to_owned());
    let lens = Lens::new();
    let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/starter/train.jsonl");
    let text = std::fs::read_to_string(starter).unwrap();
    let lines: Vec<&str> = text.lines().take(60).collect();
    lens.write("first.jsonl", lines[..40].join("\n"));
    lens.write("new.jsonl", lines[40..].join("\n"));
    lens.write("all.jsonl", lines.join("\n"));
    // Models that are at hand are not fetched again; embeddings have a cache of their own.
    let user = std::env::var("LENS_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/lens", std::env::var("HOME").unwrap()));
    let models = std::path::Path::new(&user).join("models");
    std::fs::create_dir_all(lens.path(".cache/lens")).unwrap();
    if models.is_dir() {
        std::os::unix::fs::symlink(&models, lens.path(".cache/lens/models")).unwrap();
    }
    let embed = |words: &str| {
        let run = lens.ok(words).json();
        let stages = run["stages"].as_array().unwrap();
        let embed = stages.iter().find(|s| s["name"] == "embed").unwrap().clone();
        (run, embed["computed"].as_u64().unwrap())
    };
    let (_, first) = embed(&format!(
        "run first.jsonl --model {model} --views fixed --augment 1 -o rm --json --quiet"
    ));
    assert!(first > 0);
    let (run, new) = embed("run all.jsonl --warm-start rm -o next --json --quiet");
    assert_eq!(run["warm_start"]["known"], 32, "{run}");
    // The new pairs by themselves, with nothing in the cache.
    let alone = "run new.jsonl --warm-start rm --cache fresh -o alone --json --quiet";
    if models.is_dir() {
        std::fs::create_dir_all(lens.path("fresh")).unwrap();
        std::os::unix::fs::symlink(&models, lens.path("fresh/models")).unwrap();
    }
    let (_, alone) = embed(alone);
    assert_eq!(new, alone);
    assert!(new < first, "{new} {first}");
}
