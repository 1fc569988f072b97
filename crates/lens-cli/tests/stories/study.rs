//! Stories of users who compare methods on their own pairs: a study says the same every time,
//! whatever interrupts it, and says what is wrong with it before it works for hours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Instant;

use crate::common::{Lens, Signal, pairs, safetensors};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

/// Numbers that look random, the same every time.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

/// Embedded pairs whose first two dimensions tell preferred from rejected, though not surely.
fn arrays(n: usize, dim: usize, seed: u64) -> Vec<u8> {
    let mut next = noise(seed);
    let mut side = |sign: f32| -> Vec<f32> {
        (0..n * dim).map(|i| next() + if i % dim < 2 { sign * 0.12 } else { 0.0 }).collect()
    };
    let (chosen, rejected) = (side(1.0), side(-1.0));
    safetensors(&[("chosen", [n, dim], &chosen), ("rejected", [n, dim], &rejected)])
}

const STUDY: &str = r#"
title = "A small study"
question = "Does it help?"
splits = 3
seeds = [40, 80]
rivals = ["none", "lens", "calm", "tuned"]
factors = [2, 4]

[settings]
head.epochs = 6
vae.epochs = 6
vae.hidden = 8
vae.latent = 4

[grid]
"synthesis.noise_variance" = [0.01, 0.1]

[rival.calm]
about = "as lens, with half the divergence"
vae.gamma = 0.05
"#;
/// 2 numbers of seeds x 3 splits x (none 1, lens 2 x 2, calm 2 x 2, tuned 2).
const CELLS: usize = 2 * 3 * (1 + 4 + 4 + 2);

fn desk() -> Lens {
    let lens = Lens::new();
    lens.write("a.safetensors", arrays(120, 10, 1));
    lens.write("s.toml", STUDY);
    lens
}

/// All that is left of a study but seconds.
#[derive(Debug, PartialEq)]
struct Result {
    study: String,
    summary: Value,
    text: String,
    page: String,
    rows: Vec<BTreeMap<String, String>>,
    log: Vec<Value>,
}

fn result(lens: &Lens, folder: &str) -> Result {
    let mut summary = lens.json(&format!("{folder}/summary.json"));
    summary.as_object_mut().unwrap().remove("cost").unwrap();
    let text = lens.read(&format!("{folder}/summary.md"));
    let text = text.split("\n## Cost\n").next().unwrap().to_owned();
    let lines = lens.read(&format!("{folder}/runs.jsonl"));
    let line = |l: &str| -> Value {
        let mut line: Value = serde_json::from_str(l).unwrap();
        line.as_object_mut().unwrap().remove("seconds");
        line
    };
    Result {
        study: lens.read(&format!("{folder}/study.toml")),
        summary,
        text,
        page: without_cost(&lens.read(&format!("{folder}/report.html"))),
        rows: table(lens, &format!("{folder}/runs.parquet")),
        log: lines.lines().map(line).collect(),
    }
}

/// A page without its section on cost.
fn without_cost(page: &str) -> String {
    let (before, rest) = page.split_once("<section id=\"cost\"").unwrap();
    let (cost, after) = rest.split_once("</section>").unwrap();
    assert!(cost.contains("wall clock"), "{cost}");
    format!("{before}{after}")
}

fn table(lens: &Lens, name: &str) -> Vec<BTreeMap<String, String>> {
    let file = std::fs::File::open(lens.path(name)).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    let row = |row: std::result::Result<parquet::record::Row, _>| {
        let row = row.unwrap();
        let fields = row.get_column_iter().map(|(name, field)| (name.clone(), field.to_string()));
        fields.filter(|(name, _)| !name.starts_with("seconds")).collect()
    };
    rows.map(row).collect()
}

#[test]
fn a_study_says_the_same_every_time_and_with_any_number_of_threads() {
    let lens = desk();
    let said = lens.ok("study s.toml a.safetensors -o one --threads 1");
    assert!(said.err.contains(&format!("{CELLS} trainings")), "{}", said.err);
    assert!(said.out.contains("Of ") && said.out.contains("comparisons with none"), "{}", said.out);
    lens.ok("study s.toml a.safetensors -o two --threads 2 --quiet");
    let (one, two) = (result(&lens, "one"), result(&lens, "two"));
    assert_eq!(one, two);
    assert_eq!(
        lens.names("one"),
        ["report.html", "runs.jsonl", "runs.parquet", "study.toml", "summary.json", "summary.md"]
    );
    assert_eq!(one.rows.len(), CELLS);
    assert_eq!(one.log.len(), CELLS + 1);
    let none = one.rows.iter().find(|r| r["rival"] == "\"none\"").unwrap();
    assert_eq!(
        (none["grid.synthesis.noise_variance"].as_str(), none["factor"].as_str()),
        ("null", "1")
    );
    assert_eq!(none["credits"].len(), 40 + 2);
    let calm = one.rows.iter().find(|r| r["rival"] == "\"calm\"").unwrap();
    assert_eq!((calm["vae.gamma"].as_str(), calm["vae.hidden"].as_str()), ("0.05", "8"));
    // Every rival that chooses has as many tries.
    let tries: Vec<u64> = one.summary["rivals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["tries"].as_u64().unwrap())
        .collect();
    assert_eq!(tries, [1, 2, 2, 2]);
    // The same study again trains nothing, and says the same.
    let again = lens.ok("study s.toml a.safetensors -o one");
    assert!(again.err.contains(&format!("of which {CELLS} are done")), "{}", again.err);
    assert_eq!(again.out, said.out);
    // The resolved study is a study file, and that of the same study.
    std::fs::copy(lens.path("one/study.toml"), lens.path("resolved.toml")).unwrap();
    lens.ok("study resolved.toml a.safetensors -o one");
    assert_eq!(result(&lens, "one"), one);
    // As JSON it is the summary.
    let json = lens.ok("study s.toml a.safetensors -o one --json").json();
    assert_eq!(json["rows"], one.summary["rows"]);
    assert_eq!(json["folder"], "one");
    assert_eq!(json["report"], "one/report.html");
}

#[test]
fn the_result_is_a_page_too() {
    let lens = desk();
    let said = lens.ok("study s.toml a.safetensors -o o");
    assert!(said.out.contains("o/report.html"), "{}", said.out);
    let page = lens.read("o/report.html");
    for part in [
        "<title>A small study</title>",
        "The question: Does it help?",
        "Accuracy against the factor: 40 seeds",
        "Accuracy against the number of seed pairs: synthesis.noise_variance=0.01",
        "Accuracy against synthesis.noise_variance: 80 seeds",
        "So many labels with a rival work like so many with none.",
        "noise_variance&quot; = [",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains(&*lens.path("").to_string_lossy()));
    // As the other results it is the same to the byte when nothing is trained.
    lens.ok("study s.toml a.safetensors -o o --quiet");
    assert_eq!(lens.read("o/report.html"), page);
}

#[test]
fn a_study_of_one_rival_says_what_lens_train_says() {
    let lens = desk();
    let settings = "--set head.epochs=6 --set vae.epochs=6";
    lens.write("s.toml", "splits = 3\nseeds = 80\n");
    let study = lens.ok(&format!("study s.toml a.safetensors -o s --json {settings}")).json();
    let train = lens
        .ok(&format!("train a.safetensors --splits 3 --seed-pairs 80 --json {settings}"))
        .json();
    let rows = study["rows"].as_array().unwrap();
    assert_eq!(rows[0]["accuracy"]["value"], train["none"]["accuracy"]);
    assert_eq!(rows[0]["accuracy"]["ci95"], train["none"]["ci95"]);
    assert_eq!(rows[1]["accuracy"]["value"], train["augmented"]["accuracy"]);
    for key in ["value", "ci95"] {
        let (ours, theirs) = (&rows[1]["difference"][key], &train["difference"][key]);
        assert_eq!(ours, theirs, "{key}");
    }
}

#[test]
fn whatever_interrupts_a_study_it_goes_on_where_it_was() {
    let lens = desk();
    let words = "study s.toml a.safetensors --set head.epochs=60 --set vae.epochs=30 -o";
    let start = Instant::now();
    lens.ok(&format!("{words} whole"));
    let whole = start.elapsed();
    let expected = result(&lens, "whole");
    let lines = |folder: &str| {
        std::fs::read_to_string(lens.path(&format!("{folder}/runs.jsonl")))
            .map_or(0, |text| text.lines().count())
    };
    for signal in [Signal::INT, Signal::KILL] {
        let folder = format!("stopped-{signal:?}").replace(['(', ')'], "");
        let mut stopped = 0;
        for part in [5, 30, 60, 20, 45, 10] {
            let before = lines(&folder);
            let run = lens.start(&format!("{words} {folder}"));
            std::thread::sleep(whole * part / 100);
            run.signal(signal);
            let said = run.end();
            match said.code {
                0 => break,
                130 | 137 => stopped += 1,
                code => panic!("exit code {code}: {}", said.err),
            }
            // What was done stays done.
            assert!(lines(&folder) >= before, "{signal:?}");
            let kept = lines(&folder).saturating_sub(1);
            if said.code == 130 && kept > 0 && said.err.contains("trainings are kept") {
                assert!(
                    said.err.contains(&format!("{kept} of {CELLS} trainings are kept")),
                    "{}",
                    said.err
                );
            }
        }
        assert!(stopped > 0, "{signal:?} came too late, after {whole:?}");
        let kept = lines(&folder).saturating_sub(1);
        let last = lens.ok(&format!("{words} {folder}"));
        if kept > 0 {
            assert!(last.err.contains(&format!("of which {kept} are done")), "{}", last.err);
        }
        assert_eq!(result(&lens, &folder), expected, "{signal:?}");
    }
}

#[test]
fn a_line_that_was_not_written_to_its_end_is_done_again() {
    let lens = desk();
    lens.ok("study s.toml a.safetensors -o o");
    let expected = result(&lens, "o");
    let log = lens.read("o/runs.jsonl");
    let half = log.len() * 2 / 3;
    for cut in [0, 10, half, half + 1, log.len() - 1] {
        lens.write("o/runs.jsonl", &log[..cut]);
        let said = lens.ok("study s.toml a.safetensors -o o");
        let torn = cut > 0 && !log[..cut].ends_with('\n');
        assert_eq!(said.err.contains("not written to its end"), torn, "{cut}: {}", said.err);
        assert_eq!(result(&lens, "o"), expected, "{cut}");
    }
    // Damage elsewhere is not passed over.
    let mut lines: Vec<&str> = log.lines().collect();
    lines[3] = "{\"cell\": 1}";
    lens.write("o/runs.jsonl", lines.join("\n") + "\n");
    let said = lens.fails(1, "study s.toml a.safetensors -o o");
    assert!(said.contains("runs.jsonl") && said.contains("line 4 is damaged"), "{said}");
}

#[test]
fn two_studies_do_not_mix_in_one_folder() {
    let lens = desk();
    lens.ok("study s.toml a.safetensors -o o");
    let before = lens.files("o");
    // Another setting.
    let said = lens.fails(1, "study s.toml a.safetensors -o o --set vae.beta=0.2");
    assert!(said.contains("holds another study"), "{said}");
    assert!(said.contains("settings.vae.beta is 0.1 there, 0.2 here"), "{said}");
    assert!(said.contains("hint:") && said.contains("--overwrite"), "{said}");
    // Another number of splits.
    let said = lens.fails(1, "study s.toml a.safetensors -o o --splits 2");
    assert!(said.contains("splits is 3 there, 2 here"), "{said}");
    // Other numbers of seeds; a share is of the pool.
    let said = lens.fails(1, "study s.toml a.safetensors -o o --seed-pairs 40,50%");
    assert!(said.contains("seeds is [40, 80] there, [40, 60] here"), "{said}");
    let said = lens.fails(2, "study s.toml a.safetensors -o o --seed-pairs many");
    assert!(said.contains("`seeds` has \"many\""), "{said}");
    // Other data.
    lens.write("b.safetensors", arrays(120, 10, 2));
    let said = lens.fails(1, "study s.toml b.safetensors -o o");
    assert!(said.contains("the data have fingerprint"), "{said}");
    assert_eq!(lens.files("o"), before);
    // Only where it is asked for.
    lens.ok("study s.toml b.safetensors -o o --overwrite");
    assert_ne!(lens.files("o")["runs.jsonl"], before["runs.jsonl"]);

    // A folder of another kind is never replaced.
    std::fs::create_dir(lens.path("mine")).unwrap();
    lens.write("mine/thesis.txt", "years of work");
    for flag in ["", "--overwrite"] {
        let said = lens.fails(1, &format!("study s.toml a.safetensors -o mine {flag}"));
        assert!(said.contains("no study"), "{said}");
    }
    assert_eq!(lens.names("mine"), ["thesis.txt"]);
    // Nor is a file.
    let said = lens.fails(1, "study s.toml a.safetensors -o s.toml");
    assert!(said.contains("not a folder"), "{said}");
}

#[test]
fn two_processes_do_not_work_in_one_folder() {
    let lens = desk();
    let endless = "--set head.epochs=100000000 --set head.patience=100000000";
    let mut first = lens.start(&format!("study s.toml a.safetensors -o o {endless}"));
    first.until("the study has begun", || lens.path("o/runs.jsonl").exists());
    let said = lens.fails(1, "study s.toml a.safetensors -o o");
    assert!(said.contains("another process is working on this study"), "{said}");
    first.interrupt();
    assert_eq!(first.end().code, 130);
    lens.ok("study s.toml a.safetensors -o o --overwrite");
}

#[test]
fn what_is_wrong_with_a_study_is_said_at_once() {
    let lens = desk();
    let cases = [
        ("splitz = 3", "unknown field `splitz`"),
        ("splits = \"many\"", "invalid type"),
        ("rivals = [\"none\", \"magic\"]", "`rivals` names `magic`"),
        ("rivals = [\"none\", \"none\"]", "`rivals` has \"none\" twice"),
        ("rivals = []", "`rivals` is empty"),
        ("baseline = \"tuned\"", "`baseline` is `tuned`, which is not among `rivals`"),
        ("factors = [4, 4]", "`factors` has 4 twice"),
        ("factors = [1, 4]", "`factors` has 1, but a factor is at least 2"),
        ("seeds = [50, 120]", "`seeds` has 120, but the pool has 120 pairs"),
        ("seeds = [50, \"half\"]", "`seeds` has \"half\""),
        ("seeds = [60, \"50%\"]", "`seeds` has 60 twice"),
        ("seeds = \"0.1%\"", "`seeds` has a share that is no pair"),
        ("splits = 0", "`splits` must be at least 1"),
        ("[settings]\nvae.gama = 1", "unknown field `gama`"),
        ("[settings]\naugment = 8", "`settings.augment` is not set here but by `factors`"),
        ("[grid]\nvae.gama = [1]", "unknown field `gama`"),
        ("[grid]\nvae.gamma = 1", "`grid.vae.gamma` must be a list of values"),
        ("[grid]\nvae.gamma = []", "`grid.vae.gamma` is empty"),
        ("[grid]\nvae.gamma = [0, 0.0]", "`grid.vae.gamma` has \"0\" twice"),
        ("[grid]\nvae.gamma = [-1]", "vae.gamma"),
        ("[grid]\nhead = [1]", "`grid.head`"),
        ("[rival.mine]\nvae.gamma = 1", "`rival.mine` is not among `rivals`"),
        ("[rival.lens]\nvae.gamma = 1", "`rival.lens` is the name of a rival that is built in"),
        ("rivals = [\"none\", \"a\"]\n[rival.a]\ngama = 1", "unknown field `gama`"),
        ("rivals = [\"none\", \"a\"]\n[rival.a]\ntune = 1", "`rival.a.tune` must be a table"),
        ("[encoders.a]\nmodle = \"x\"", "`encoders.a.modle` is no setting of an encoder"),
        ("layers = \"none\"", "`layers` must be \"all\" or a list of numbers"),
        ("layers = [1, 1]", "`layers` has 1 twice"),
        ("splits = 20000\nseeds = [10, 20, 30]", "more than 100000 trainings"),
        ("[grid]\nvae.beta = [0.1, 0.2]\nsplits = 2", "`grid.splits` must be a list"),
    ];
    for (text, expected) in cases {
        lens.write("bad.toml", text);
        let said = lens.fails(2, "study bad.toml a.safetensors -o o");
        assert!(said.contains("bad.toml") && said.contains(expected), "{text}: {said}");
        assert!(!lens.path("o").exists(), "{text}");
    }
    let said = lens.fails(1, "study nothing.toml a.safetensors -o o");
    assert!(said.contains("nothing.toml") && said.contains("table-1"), "{said}");
    let said = lens.fails(1, "study s.toml -o o");
    assert!(said.contains("needs pairs"), "{said}");
    let said = lens.fails(2, "study s.toml a.safetensors -o o --set augment=8");
    assert!(said.contains("factors"), "{said}");
    lens.write("none.toml", "[encoders.a]\narrays = \"gone.safetensors\"");
    let said = lens.fails(1, "study none.toml -o o");
    assert!(said.contains("gone.safetensors"), "{said}");
    assert!(!lens.path("o").exists());
}

/// Rivals that see different views of the same texts, and one that chooses, compared on the same pairs.
#[test]
fn rivals_may_see_their_own_views_and_choose() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    let views = "--view layer=6,pooling=last --view layer=2,pooling=mean";
    lens.ok(&format!("embed pairs.jsonl --model tiny.gguf {views} -o two.safetensors"));
    let text = r#"
        rivals = ["control", "second", "joint", "auto"]
        baseline = "control"
        splits = 2
        seeds = [40]
        settings.head.epochs = 4
        [rival.control]
        views = [0]
        augment = 1
        tune.head.weight_decay = [0.1, 1.0]
        [rival.second]
        views = ["layer=2,pooling=mean"]
        augment = 1
        [rival.joint]
        augment = 1
        head.kind = "logistic"
    "#;
    lens.write("views.toml", text);
    let run = lens.ok("study views.toml two.safetensors -o o --json").json();
    // What has nothing to choose is compared with the baseline's choice.
    let rows = run["rows"].as_array().unwrap();
    for rival in ["second", "joint", "auto"] {
        let row = rows.iter().find(|r| r["rival"] == rival).unwrap();
        assert!(row["difference"]["value"].is_number(), "{row}");
    }
    let log = lens.read("o/runs.jsonl");
    let chose = log.lines().filter(|l| l.contains("\"chose\":\"")).count();
    assert_eq!(chose, 2, "{log}");
    // From text it is the same, and what is not there is named before anything is trained.
    let words = format!("study views.toml pairs.jsonl --model tiny.gguf {views} -o t --json");
    assert_eq!(lens.ok(&words).json()["rows"], run["rows"]);
    lens.write("wrong.toml", text.replace("layer=2,pooling=mean", "layer=3,pooling=mean"));
    let said = lens.fails(2, "study wrong.toml two.safetensors -o w");
    assert!(said.contains("rival.second.views") && said.contains("layer=6,pooling=last"), "{said}");
}

#[test]
fn ready_made_studies_are_listed_shown_and_run() {
    let lens = desk();
    let names = [
        "table-1",
        "noise",
        "gamma",
        "layer",
        "seeds",
        "factor",
        "encoders",
        "cost",
        "views",
        "synthesis",
    ];
    let list = lens.ok("study --list").out;
    assert_eq!(list.lines().count(), names.len());
    let json = lens.ok("study --list --json").json_lines();
    for (name, listed) in names.iter().zip(json) {
        assert_eq!(listed["name"], *name);
        let text = lens.ok(&format!("study {name} --show")).out;
        assert!(text.contains(&format!("name = \"{name}\"")), "{text}");
        // Shown, saved and run it is the same study.
        lens.write("shown.toml", &text);
        lens.ok("study shown.toml --show");
    }
    for name in ["noise", "gamma", "seeds", "factor"] {
        let run = lens.ok(&format!(
            "study {name} a.safetensors --splits 2 --set head.epochs=2 --set vae.epochs=2 --set \
             vae.hidden=8 --json"
        ));
        let summary = run.json();
        assert_eq!(summary["folder"], format!("study-{name}"));
        assert_eq!(summary["efficiency"].as_array().unwrap().is_empty(), name != "seeds");
        assert!(!summary["table"]["rows"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_study_of_encoders_embeds_text_once_and_compares_on_the_same_pairs() {
    let lens = Lens::new();
    let mut rows = pairs(0..40);
    rows.push(rows[0].clone());
    rows.push(json!({"prompt": "same", "chosen": "a", "rejected": "a"}));
    lens.rows("pairs.jsonl", &rows);
    let quick = "--model tiny.gguf --set head.epochs=2 --set vae.epochs=2 --json";
    lens.write("s.toml", "splits = 2\nlayers = \"all\"\npoolings = [\"last\", \"mean\"]\n");
    let said = lens.ok(&format!("study s.toml pairs.jsonl {quick} -o o"));
    assert!(said.err.contains("42 read, 40 used"), "{}", said.err);
    let summary = said.json();
    assert_eq!(summary["data"]["left_out"], json!({"duplicate": 1, "identical-sides": 1}));
    let encoders = summary["data"]["encoders"].as_array().unwrap().clone();
    let names: Vec<&str> = encoders.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(
        names[..3],
        ["layer 0, pooling last", "layer 0, pooling mean", "layer 1, pooling last"]
    );
    // The same on embeddings that were stored before, cut by what the file says of its columns.
    lens.ok(
        "embed pairs.jsonl --model tiny.gguf -o e.safetensors --view layer=1,pooling=mean --view \
         layer=0,pooling=mean --view layer=1 --view layer=0",
    );
    lens.write("t.toml", "splits = 2\nlayers = [0, 1]\npoolings = [\"last\", \"mean\"]\n");
    let of_text = lens.ok(&format!("study t.toml pairs.jsonl {quick} -o text")).json();
    // The file was not vetted: its duplicate is there twice.
    let stored =
        "study t.toml e.safetensors --set head.epochs=2 --set vae.epochs=2 --json -o stored";
    let stored = lens.ok(stored).json();
    assert_eq!(of_text["data"]["pairs"], 40);
    assert_eq!(stored["data"]["pairs"], 41);
    let widths = |s: &Value| -> Vec<Value> {
        s["data"]["encoders"].as_array().unwrap().iter().map(|e| e["dim"].clone()).collect()
    };
    assert_eq!(widths(&of_text), widths(&stored));
    // Without a word on views all columns count.
    let width = |flags: &str| {
        lens.write("u.toml", "splits = 2\nrivals = [\"none\"]\n");
        let said = lens.ok(&format!("study u.toml e.safetensors --json --overwrite -o u {flags}"));
        said.json()["data"]["encoders"][0]["dim"].as_u64().unwrap()
    };
    assert_eq!(width(""), 4 * width("--layer 1"));
    // The default view is none of them, and nothing else is taken in its place.
    let said = lens.fails(1, "study u.toml e.safetensors -o other --layer -1");
    assert!(said.contains("layer=6,pooling=last is not among"), "{said}");
    lens.write("t.toml", "layers = [2]\n");
    let said = lens.fails(1, "study t.toml e.safetensors -o other");
    assert!(said.contains("layer=2,pooling=last is not among those that the file holds"), "{said}");
}

#[test]
fn encoders_may_be_arrays_from_elsewhere() {
    let lens = desk();
    lens.write("b.safetensors", arrays(120, 6, 3));
    lens.write("c.safetensors", arrays(119, 6, 3));
    let two = |other: &str| {
        format!(
            "splits = 2\n[settings]\nhead.epochs = 2\nvae.epochs = 2\n[encoders.wide]\narrays = \
             \"a.safetensors\"\n[encoders.narrow]\narrays = \"{other}\"\n"
        )
    };
    lens.write("s.toml", two("b.safetensors"));
    let summary = lens.ok("study s.toml -o o --json").json();
    let names: Vec<&Value> =
        summary["data"]["encoders"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
    assert_eq!(names, ["narrow", "wide"]);
    assert_eq!(summary["table"]["columns"], json!(["none", "lens 4x"]));
    lens.write("s.toml", two("c.safetensors"));
    let said = lens.fails(1, "study s.toml -o p");
    assert!(said.contains("do not have the same pairs"), "{said}");
    assert!(!lens.path("p").exists());
}

#[test]
fn what_runs_away_is_a_result() {
    let lens = desk();
    lens.write(
        "s.toml",
        "splits = 2\nfactors = [2, 4]\n[settings]\nhead.epochs = 2\nvae.epochs = \
         40\nvae.learning_rate = 0.03\n[grid]\nvae.gamma = [0.1, 1000]\n",
    );
    let said = lens.ok("study s.toml a.safetensors -o o");
    assert!(
        said.out.contains("ran away") && said.out.contains("no model in 2 of 2 splits"),
        "{}",
        said.out
    );
    // Said once for all factors.
    assert_eq!(said.out.matches("over the limit").count(), 1, "{}", said.out);
    let rows = table(&lens, "o/runs.parquet");
    let gone: Vec<_> = rows.iter().filter(|r| r["diverged"] != "null").collect();
    assert_eq!(gone.len(), 4);
    assert!(gone.iter().all(|r| r["accuracy"] == "null" && r["grid.vae.gamma"] == "\"1000\""));
    // It is not tried again.
    let again = lens.ok("study s.toml a.safetensors -o o");
    assert!(again.err.contains("of which 10 are done"), "{}", again.err);
}

#[test]
fn a_finished_study_that_is_run_again_stays_the_same_to_the_byte() {
    let lens = desk();
    lens.ok("study s.toml a.safetensors -o o");
    let before = lens.files("o");
    lens.ok("study s.toml a.safetensors -o o --quiet");
    assert_eq!(lens.files("o")["runs.parquet"], before["runs.parquet"]);
    assert_eq!(lens.files("o"), before);
}
