//! Stories of users who let the tool choose: `--augment auto`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lens, pairs};
use serde_json::{Value, json};

/// A search that is done in a moment.
const SMALL: &str =
    "--set head.hidden=[8] --set head.epochs=8 --set vae.latent=4 --set vae.epochs=12";

fn lens() -> Lens {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens
}

#[test]
fn what_was_tried_is_shown_and_what_was_chosen_is_in_the_bundle() {
    let lens = lens();
    let run = format!("run pairs.jsonl --model tiny.gguf --augment auto {SMALL} -o rm");
    let said = lens.ok(&run);
    for part in ["tuned", "  view", "  weight decay", "  source", "tried", "untuned"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let manifest = lens.json("rm/lens.json");
    let tuned = &manifest["figures"]["tuned"];
    let tried = tuned["tried"].as_array().unwrap();
    for kind in ["view", "weight-decay", "source", "factor"] {
        let of: Vec<&Value> = tried.iter().filter(|t| t["what"] == kind).collect();
        assert_eq!(of.iter().filter(|t| t["best"] == true).count(), 1, "{kind}: {tuned}");
        assert!(of.len() > 1, "{kind}");
    }
    // Of its views one was chosen, and the bundle encodes with that alone.
    let views = manifest["encoder"]["identity"]["views"].as_array().unwrap();
    assert_eq!(views.len(), 1);
    let chosen = tuned["view_name"].as_str().unwrap();
    let pooling = views[0]["pooling"].as_str().unwrap();
    assert!(chosen.contains(&format!("pooling={pooling}")), "{chosen} {views:?}");
    assert_eq!(manifest["method"]["head"], tuned["settings"]["head"]);
    let kept = if tuned["augment"] == true { "augmented" } else { "none" };
    assert_eq!(manifest["kept"], kept);
    let report = lens.read("rm/report.md");
    assert!(report.contains("## What was tried") && report.contains("mixup"), "{report}");
    assert!(lens.read("rm/report.html").contains("How the settings were chosen"));

    // It scores and is evaluated as any other; the same run gives the same bytes.
    lens.ok("eval rm pairs.jsonl --model tiny.gguf --json");
    let before = lens.files("rm");
    lens.ok(&format!("{run} --overwrite --threads 1"));
    assert_eq!(before, lens.files("rm"));
    // What it chose can be trained again without another search.
    let toml = report.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    lens.write("chosen.toml", toml);
    lens.ok("run pairs.jsonl --model tiny.gguf --config chosen.toml -o again");
    let again = lens.json("again/lens.json");
    assert_eq!(again["figures"]["heldout"], manifest["figures"]["heldout"]);
}

#[test]
fn the_views_that_are_named_are_the_candidates() {
    let lens = lens();
    let views = "--view layer=0,pooling=mean --view layer=-1,pooling=last";
    let run = format!("run pairs.jsonl --model tiny.gguf --augment auto {SMALL} {views} --json");
    let run = lens.ok(&run).json();
    let tried = run["tuned"]["tried"].as_array().unwrap();
    let views: Vec<&Value> =
        tried.iter().filter(|t| t["what"] == "view").map(|t| &t["label"]).collect();
    assert_eq!(views.len(), 2);
    assert_eq!(views[0], &json!("layer=0,pooling=mean"));
}

#[test]
fn where_auto_cannot_be_it_says_so_before_anything_is_done() {
    let lens = lens();
    lens.rows("few.jsonl", &pairs(0..8));
    let said = lens.fails(1, "run few.jsonl --model tiny.gguf --augment auto");
    assert!(said.contains("nested cross-validation"), "{said}");
    let said = lens.fails(2, "run pairs.jsonl --model tiny.gguf --augment sometimes");
    assert!(said.contains("auto"), "{said}");
    let said = lens.fails(1, "train x.safetensors --augment auto");
    assert!(said.contains("lens run"), "{said}");
    lens.ok(&format!("run pairs.jsonl --model tiny.gguf {SMALL} -o rm"));
    let said = lens.fails(1, "run pairs.jsonl --warm-start rm --augment auto -o next");
    assert!(said.contains("warm start"), "{said}");
    let said = lens.fails(2, "run pairs.jsonl --model tiny.gguf --augment auto --set head.folds=1");
    assert!(said.contains("head.folds"), "{said}");
}

#[test]
fn a_rival_of_latent_space_can_be_asked_for() {
    let lens = lens();
    for source in ["perturbation", "gaussian", "mixup"] {
        let run =
            format!("run pairs.jsonl --model tiny.gguf --set source={source} {SMALL} -o {source}");
        lens.ok(&run);
        let manifest = lens.json(&format!("{source}/lens.json"));
        assert_eq!(manifest["method"]["source"], source);
        assert_eq!(manifest["vae"], Value::Null);
        assert!(lens.read(&format!("{source}/report.html")).contains("synthetic chosen"));
    }
    let said = lens.fails(2, "run pairs.jsonl --model tiny.gguf --set source=magic");
    assert!(said.contains("magic"), "{said}");
}
