//! Stories of users who let the tool choose: `--views auto`, `--augment auto`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, pairs};
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
    let run =
        format!("run pairs.jsonl --model tiny.gguf --views auto --augment auto {SMALL} -o rm");
    let said = lens.ok(&run);
    for part in ["selection", "  views and head", "  source", "candidates", "the given ones"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let manifest = lens.json("rm/lens.json");
    let tuned = &manifest["figures"]["tuned"];
    let tried = tuned["tried"].as_array().unwrap();
    for kind in ["head", "source"] {
        let of: Vec<&Value> = tried.iter().filter(|t| t["what"] == kind).collect();
        assert_eq!(of.iter().filter(|t| t["best"] == true).count(), 1, "{kind}: {tuned}");
        assert!(of.len() > 1, "{kind}");
    }
    // The bundle encodes with the views that were chosen, and no others.
    let views = manifest["encoder"]["identity"]["views"].as_array().unwrap();
    let chosen = tuned["view_names"].as_array().unwrap();
    assert_eq!(views.len(), chosen.len());
    for (view, name) in views.iter().zip(chosen) {
        let (pooling, name) = (view["pooling"].as_str().unwrap(), name.as_str().unwrap());
        assert!(name.contains(&format!("pooling={pooling}")), "{name} {view}");
    }
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

/// From one view asked for to every view that the model's one pass gives, a logistic head on them,
/// and a bundle that scores, is evaluated and is trained further like any other.
#[test]
fn views_are_chosen_and_the_bundle_scores_with_them() {
    let lens = lens();
    let run = format!("run pairs.jsonl --model tiny.gguf --views auto {SMALL} -o rm");
    let shown = lens.ok(&run);
    assert!(
        shown.out.contains("views and head") && !shown.out.contains("  source"),
        "{}",
        shown.out
    );
    let manifest = lens.json("rm/lens.json");
    let tuned = &manifest["figures"]["tuned"];
    let tried = tuned["tried"].as_array().unwrap();
    assert!(tried.iter().all(|t| t["what"] == "head"), "{tuned}");
    assert!(tried.last().unwrap()["label"].as_str().unwrap().contains("views"), "{tuned}");
    // Augmentation is what was given for, 4x, with the head and the views that were chosen.
    assert_eq!(manifest["method"]["augment"], 4);
    assert_eq!(manifest["method"]["head"], tuned["settings"]["head"]);
    let dim = manifest["encoder"]["identity"]["views"].as_array().unwrap().len()
        * manifest["encoder"]["identity"]["dim"].as_u64().unwrap() as usize;
    assert_eq!(manifest["head"]["dim"], dim);
    let scores = lens.ok("score rm pairs.jsonl --json").out;
    assert_eq!(scores.lines().count(), 60);
    // What is there is the same as what the settings in its report say.
    let report = lens.read("rm/report.md");
    assert!(report.contains("## What was tried") && report.contains("logistic on"), "{report}");
    let page = lens.read("rm/report.html");
    assert!(page.contains("Weight of the penalty") && !page.contains("Training loss of the head"));
    lens.rows("more.jsonl", &pairs(60..90));
    lens.ok("run more.jsonl --warm-start rm -o further --json");
    assert_eq!(lens.json("further/lens.json")["method"]["head"], manifest["method"]["head"]);
    let said = lens.fails(1, "run pairs.jsonl --warm-start rm --views auto -o next");
    assert!(said.contains("warm start"), "{said}");
}

/// Without a word about views or head they are chosen; with one they are not, nor with too few pairs.
#[test]
fn a_run_chooses_unless_it_is_told() {
    let lens = lens();
    lens.rows("few.jsonl", &pairs(0..16));
    let run = |words: &str| lens.ok(&format!("run {words} --model tiny.gguf -o rm --overwrite"));
    let chosen = |words: &str| {
        let said = run(words);
        (lens.json("rm/lens.json")["figures"]["tuned"].is_object(), said)
    };
    let (tuned, said) = chosen("pairs.jsonl");
    assert!(tuned && said.out.contains("views and head"), "{}", said.out);
    for named in ["--views fixed", "--pooling mean", "--set head.members=2", "--layers 0,6"] {
        assert!(!chosen(&format!("pairs.jsonl {named}")).0, "{named}");
    }
    let (tuned, said) = chosen("few.jsonl");
    assert!(!tuned && said.err.contains("too few to choose by"), "{}", said.err);
    let views = lens.json("rm/lens.json")["encoder"]["identity"]["views"].clone();
    assert_eq!(views.as_array().unwrap().len(), 1, "{views}");
    // Asked for, it is not left out silently.
    let said = lens.fails(1, "run few.jsonl --model tiny.gguf --views auto -o rm --overwrite");
    assert!(said.contains("nested cross-validation"), "{said}");
}

/// Embeddings for a reward model of several views are made as it makes them.
#[test]
fn texts_are_embedded_as_a_reward_model_embeds_them() {
    let lens = lens();
    lens.ok("run pairs.jsonl --model tiny.gguf -o rm");
    lens.rows("new.jsonl", &pairs(200..220));
    lens.ok("embed new.jsonl --like rm -o new.safetensors");
    let text = lens.ok("eval rm new.jsonl --json").json();
    let stored = lens.ok("eval rm new.safetensors --json").json();
    assert_eq!(stored["accuracy"], text["accuracy"]);
    let said = lens.fails(2, "embed new.jsonl --like rm --layer 2 -o x.safetensors");
    assert!(said.contains("--like"), "{said}");
    let said = lens.fails(1, "embed new.jsonl --like gone -o x.safetensors");
    assert!(said.contains("gone"), "{said}");
}

#[test]
fn a_logistic_head_can_be_asked_for_on_the_views_that_are_named() {
    let lens = lens();
    let views = "--view layer=0,pooling=mean --view layer=-1,pooling=last";
    let base =
        format!("run pairs.jsonl --model tiny.gguf {SMALL} {views} --set head.kind=logistic");
    lens.ok(&format!("{base} -o joint"));
    let joint = lens.json("joint/lens.json");
    assert_eq!(joint["head"]["hidden"], json!([]));
    lens.ok(&format!("{base} --set head.combine=stacked --set head.l2=2.5 -o stacked"));
    let stacked = lens.json("stacked/lens.json");
    assert_eq!(stacked["method"]["head"]["l2"], 2.5);
    assert_ne!(stacked["figures"]["folds"], joint["figures"]["folds"]);
    let said = lens.fails(2, &format!("{base} --set head.l2=much"));
    assert!(said.contains("head"), "{said}");
    let said = lens.fails(2, &format!("{base} --set head.folds=1"));
    assert!(said.contains("head.l2"), "{said}");
    let said = lens.fails(2, &format!("{base} --set pairing=across"));
    assert!(said.contains("pairing"), "{said}");
}

#[test]
fn the_views_that_are_named_are_the_candidates() {
    let lens = lens();
    let views = "--view layer=0,pooling=mean --view layer=-1,pooling=last";
    let base = format!("run pairs.jsonl --model tiny.gguf {SMALL} {views} --json");
    let heads = |more: &str| -> Vec<Value> {
        let run = lens.ok(&format!("{base} {more} --overwrite")).json();
        let tried = run["tuned"]["tried"].as_array().unwrap().clone();
        let heads = tried.into_iter().filter(|t| t["what"] == "head");
        heads.map(|t| t["label"].clone()).collect()
    };
    let asked = "mlp on all 2 views, as given";
    assert_eq!(heads("--views auto"), [asked, "logistic on all 2 views"]);
    // Only augmentation is to be chosen.
    assert_eq!(heads("--augment auto"), [asked]);
}

/// Stored embeddings, whose views are all used: head and augmentation are chosen inside every split,
/// and on all pairs for the bundle.
#[test]
fn on_stored_embeddings_the_choice_is_made_inside_every_split() {
    let lens = lens();
    let views = "--view layer=-1 --view layer=3,pooling=mean";
    lens.ok(&format!("embed pairs.jsonl --model tiny.gguf {views} -o e.safetensors"));
    let train = format!("train e.safetensors --augment auto --splits 3 {SMALL} -o rm");
    let told = lens.ok(&format!("{train} --views auto --json")).json();
    let chosen = told["chosen"].as_array().unwrap();
    assert_eq!(chosen.len(), 3);
    assert!(chosen.iter().all(|c| c.as_str().unwrap().contains("on all 2 views")), "{told}");
    assert!(told["difference"]["value"].is_f64(), "{told}");

    let manifest = lens.json("rm/lens.json");
    assert_eq!(manifest["figures"]["chosen_by_split"], told["chosen"]);
    let tuned = &manifest["figures"]["tuned"];
    let heads: Vec<&str> = tuned["tried"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["what"] == "head")
        .map(|t| t["label"].as_str().unwrap())
        .collect();
    assert_eq!(heads, ["mlp on all 2 views, as given", "logistic on all 2 views"]);
    assert_eq!(manifest["method"]["head"], tuned["settings"]["head"]);
    let kept = if tuned["augment"] == true { "augmented" } else { "none" };
    assert_eq!(manifest["kept"], kept);
    assert_eq!(manifest["encoder"]["identity"]["views"].as_array().unwrap().len(), 2);
    assert!(lens.read("rm/report.md").contains("## What was tried"));
    assert_eq!(lens.ok("score rm pairs.jsonl --json").out.lines().count(), 60);

    // The same bytes again, also with another number of threads.
    let before = lens.files("rm");
    lens.ok(&format!("{train} --views auto --overwrite --threads 1"));
    assert_eq!(before, lens.files("rm"));
    // Augmentation alone is chosen for the head that was given for.
    let told = lens.ok(&format!("{train} --overwrite --json")).json();
    assert!(told["chosen"][0].as_str().unwrap().starts_with("mlp on all 2 views, as given"));
    // A head alone, with no words of augmentation.
    let said = lens.ok(&format!("train e.safetensors --views auto --augment 1 {SMALL}")).out;
    assert!(said.contains("chosen in them") && said.contains("of 5)"), "{said}");
    assert!(!said.contains("same head"), "{said}");
    // A factor that is asked for stays, with the head that is chosen, in the splits and in the bundle.
    let said = lens.ok(&format!("train e.safetensors --views auto {SMALL} -o four")).out;
    assert!(said.contains("with 4x, same head") && said.contains("difference"), "{said}");
    assert_eq!(lens.json("four/lens.json")["method"]["augment"], 4);
    assert!(!lens.ok(&format!("train e.safetensors {SMALL}")).out.contains("chosen"));
}

#[test]
fn where_auto_cannot_be_it_says_so_before_anything_is_done() {
    let lens = lens();
    lens.rows("few.jsonl", &pairs(0..8));
    let said = lens.fails(1, "run few.jsonl --model tiny.gguf --augment auto");
    assert!(said.contains("nested cross-validation"), "{said}");
    let said = lens.fails(2, "run pairs.jsonl --model tiny.gguf --augment sometimes");
    assert!(said.contains("auto"), "{said}");
    lens.ok(&format!("run pairs.jsonl --model tiny.gguf {SMALL} -o rm"));
    let said = lens.fails(1, "run pairs.jsonl --warm-start rm --augment auto -o next");
    assert!(said.contains("warm start"), "{said}");
    let said = lens.fails(2, "run pairs.jsonl --model tiny.gguf --views many");
    assert!(said.contains("many"), "{said}");
    let e = "e.safetensors";
    lens.ok(&format!("embed few.jsonl --model tiny.gguf -o {e}"));
    let said = lens.fails(1, &format!("train {e} --views auto --seed-pairs 6 -o none"));
    assert!(said.contains("nested cross-validation"), "{said}");
    assert!(!lens.path("none").exists());
    let said = lens.fails(1, &format!("train {e} --warm-start rm --augment auto -o next"));
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

/// Of the views that a file holds, training takes those that are named, and the reward model is one of
/// these views.
#[test]
fn training_takes_the_stored_views_that_are_named() {
    let lens = lens();
    let views = "--view layer=-1 --view layer=3,pooling=mean";
    lens.ok(&format!("embed pairs.jsonl --model tiny.gguf {views} -o two.safetensors"));
    lens.ok("embed pairs.jsonl --model tiny.gguf --view layer=3,pooling=mean -o one.safetensors");
    let train = |file: &str, more: &str| {
        lens.ok(&format!("train {file} --augment 1 --splits 2 {SMALL} {more}")).out
    };
    let of_two = train("two.safetensors", "--view layer=3,pooling=mean -o named");
    assert!(of_two.contains("pairs") && of_two.contains("width 32"), "{of_two}");
    train("one.safetensors", "-o alone");
    let views = |folder: &str| {
        lens.json(&format!("{folder}/lens.json"))["encoder"]["identity"]["views"].clone()
    };
    assert_eq!(views("named"), views("alone"));
    assert_eq!(views("named"), serde_json::json!([{"layer": 3, "pooling": "mean"}]));
    let rewards = |folder: &str| lens.ok(&format!("score {folder} pairs.jsonl --json")).out;
    assert_eq!(rewards("named"), rewards("alone"));

    let error = lens.fails(1, "train two.safetensors --view layer=2");
    assert!(error.contains("layer=2") && error.contains("layer=3,pooling=mean"), "{error}");
}
