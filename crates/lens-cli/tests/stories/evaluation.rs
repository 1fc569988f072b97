//! Stories of users who want to know what a reward model is worth, on their own data and on the
//! benchmarks that others report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use crate::common::{Lens, cloud, pairs, safetensors};
use serde_json::{Value, json};
use test_needs::needs;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Rewards of responses to a prompt, as `lens score` has them.
fn rewards(lens: &Lens, prompt: &str, responses: &[&str]) -> Vec<f64> {
    lens.rows("asked.jsonl", &[json!({"prompt": prompt, "responses": responses})]);
    let said = lens.ok("score rm asked.jsonl --json --quiet").json();
    said["rewards"].as_array().unwrap().iter().map(number).collect()
}

/// Rewards of both sides of each pair of a file.
fn scores(lens: &Lens, file: &str) -> Vec<(f64, f64)> {
    let lines = lens.ok(&format!("score rm {file} --json --quiet")).json_lines();
    lines.iter().map(|l| (number(&l["chosen"]), number(&l["rejected"]))).collect()
}

/// Pairs of which every third has its sides swapped, so that not all is right.
fn mixed(numbers: std::ops::Range<usize>) -> Vec<Value> {
    let mut rows = pairs(numbers);
    for row in rows.iter_mut().step_by(3) {
        let (better, worse) = (row["chosen"].clone(), row["rejected"].clone());
        (row["chosen"], row["rejected"]) = (worse, better);
    }
    rows
}

#[test]
fn every_figure_of_pairs_follows_from_their_rewards() {
    let lens = Lens::with_reward_model();
    let mut rows = mixed(200..240);
    rows.iter_mut().enumerate().for_each(|(i, r)| r["subset"] = json!(["even", "odd"][i % 2]));
    lens.rows("mixed.jsonl", &rows);
    let scores = scores(&lens, "mixed.jsonl");
    let eval = lens.ok("eval rm mixed.jsonl --json --worst 3").json();
    let evaluation = &eval["evaluation"];
    assert_eq!((&eval["taken_for"], &evaluation["taken_for"]), (&json!("pairs"), &json!("pairs")));

    let accuracy = |keep: &dyn Fn(usize) -> bool| {
        let kept: Vec<_> = (0..40).filter(|&i| keep(i)).map(|i| scores[i]).collect();
        kept.iter().filter(|(a, b)| a > b).count() as f64 / kept.len() as f64
    };
    assert!(near(number(&eval["accuracy"]), accuracy(&|_| true)), "{eval}");
    assert!(near(number(&eval["subsets"]["even"]["accuracy"]), accuracy(&|i| i % 2 == 0)));
    assert_eq!(eval["subsets"]["odd"]["pairs"], 20);
    assert_eq!(eval["subsets"]["odd"]["ci95"].as_array().unwrap().len(), 2);

    let losses = scores.iter().map(|(a, b)| (1.0 + (b - a).exp()).ln());
    let plain = &evaluation["calibration"]["plain"];
    assert!((number(&plain["log_loss"]) - losses.sum::<f64>() / 40.0).abs() < 1e-6);
    assert_eq!(plain["log_loss"], eval["log_loss"]);
    let counted: u64 =
        plain["bins"].as_array().unwrap().iter().map(|b| b["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 80);

    let length = &evaluation["length"];
    let longer = rows
        .iter()
        .filter(|r| {
            let chars = |side: &str| r[side].as_str().unwrap().chars().count();
            chars("chosen") > chars("rejected")
        })
        .count();
    assert!(near(number(&length["longer_wins"]), longer as f64 / 40.0), "{length}");
    assert_eq!(length["where_longer"]["pairs"], longer);
    assert_eq!(length["points"].as_array().unwrap().len(), 80);

    let mut margins: Vec<(f64, usize)> =
        scores.iter().enumerate().map(|(i, (a, b))| (a - b, i + 1)).collect();
    margins.sort_by(|a, b| a.0.total_cmp(&b.0));
    let worst = evaluation["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 3);
    for (found, (margin, line)) in worst.iter().zip(&margins) {
        assert_eq!(found["line"], *line);
        assert!((number(&found["margin"]) - margin).abs() < 1e-6);
        assert_eq!(found["texts"]["rejected"], rows[line - 1]["rejected"]);
    }
    assert!(evaluation["best_of_n"]["absent"].as_str().unwrap().contains("preference pairs"));

    // A person reads the same in a table.
    let said = lens.ok("eval rm mixed.jsonl --worst 1");
    assert!(said.err.contains("mixed.jsonl: taken for preference pairs"), "{}", said.err);
    for part in [
        "accuracy",
        "  even",
        "ECE 0.",
        "balanced accuracy",
        "reward and length",
        &format!("line {} (", margins[0].1),
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    // The same file gives the same figures again.
    assert_eq!(lens.ok("eval rm mixed.jsonl --json --worst 3").json(), eval);
}

#[test]
fn embeddings_have_the_figures_that_need_no_texts() {
    let lens = Lens::with_reward_model();
    lens.rows("mixed.jsonl", &mixed(200..240));
    lens.ok("embed mixed.jsonl --model tiny.gguf -o mixed.safetensors --quiet");
    let text = lens.ok("eval rm mixed.jsonl --json").json();
    let stored = lens.ok("eval rm mixed.safetensors --json").json();
    for part in ["accuracy", "calibration"] {
        assert_eq!(stored["evaluation"][part], text["evaluation"][part], "{part}");
    }
    assert_eq!(stored["evaluation"]["length"]["absent"], "embeddings have no texts");
    let lines = |eval: &Value| -> Vec<Value> {
        eval["evaluation"]["worst"].as_array().unwrap().iter().map(|w| w["line"].clone()).collect()
    };
    assert_eq!(lines(&stored), lines(&text));
    let error = lens.fails(2, "eval rm mixed.safetensors --subset a");
    assert!(error.contains("--subset: mixed.safetensors holds embeddings"), "{error}");
    let error = lens.fails(2, "eval rm mixed.safetensors --benchmark best-of-n");
    assert!(error.contains("holds embedded pairs, not best-of-n"), "{error}");

    // Arrays from anywhere, all of them ties: nothing to evaluate on.
    let (a, b) = (cloud(9, 4, 0.0), cloud(9, 4, 1.0));
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [9, 4], &a), ("rejected", [9, 4], &b)];
    lens.write("made.safetensors", safetensors(&arrays));
    let error = lens.fails(1, "eval rm made.safetensors");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn rewardbench_is_known_by_its_subsets_and_a_part_of_it_is_called_partial() {
    let lens = Lens::with_reward_model();
    let mut rows = mixed(100..130);
    rows.iter_mut().for_each(|r| r["subset"] = json!("xstest-should-refuse"));
    let mut more = mixed(130..140);
    more.iter_mut().for_each(|r| r["subset"] = json!("donotanswer"));
    rows.extend(more);
    // The benchmark counts every row: a repeated one, and one with equal sides, which is wrong.
    rows.push(rows[0].clone());
    let mut same = rows[31].clone();
    same["rejected"] = same["chosen"].clone();
    rows.push(same);
    lens.rows("rb.jsonl", &rows);
    let scores = scores(&lens, "rb.jsonl");
    let eval = lens.ok("eval rm rb.jsonl --json").json();
    assert_eq!(eval["taken_for"], "rewardbench");
    assert_eq!((&eval["pairs"]["read"], &eval["pairs"]["used"]), (&json!(42), &json!(42)));
    let share = |rows: &mut dyn Iterator<Item = usize>| {
        let right: Vec<bool> = rows.map(|i| scores[i].0 > scores[i].1).collect();
        right.iter().filter(|r| **r).count() as f64 / right.len() as f64
    };
    let refuse = share(&mut (0..30).chain([40]));
    let donot = share(&mut (30..40).chain([41]));
    let found = &eval["evaluation"]["rewardbench"];
    let safety = &found["sections"][0];
    let expected = (154.0 * refuse + 136.0 * donot) / 290.0;
    assert!(near(number(&safety["value"]), expected), "{safety} {expected}");
    assert_eq!((&safety["name"], &safety["complete"]), (&json!("Safety"), &json!(false)));
    assert_eq!(found["score"], Value::Null);
    assert_eq!(eval["evaluation"]["accuracy"]["tied"], 1);

    let said = lens.ok("eval rm rb.jsonl --subset donotanswer").out;
    assert!(said.contains("RewardBench score"), "{said}");
    assert!(said.contains("none (not complete: Chat, Chat Hard, Safety, Reasoning)"), "{said}");
    assert!(said.contains("donotanswer (11 of 136 pairs)"), "{said}");
    assert!(said.contains("11 read, 11 used"), "{said}");
    // As plain pairs the two odd rows are left out.
    let eval = lens.ok("eval rm rb.jsonl --benchmark pairs --json").json();
    assert_eq!(eval["pairs"]["left_out"], json!({"identical-sides": 1, "duplicate": 1}));

    let error = lens.fails(1, "eval rm rb.jsonl --subset donotanswer --subset math");
    assert!(error.contains("rb.jsonl: no row is of the subset `math`"), "{error}");
    assert!(error.contains("there are donotanswer, xstest-should-refuse"), "{error}");
    let error = lens.fails(1, "eval rm pairs.jsonl --subset math");
    assert!(error.contains("the rows have no subsets"), "{error}");
    let error = lens.fails(1, "eval rm pairs.jsonl --benchmark rewardbench");
    assert!(error.contains("pairs.jsonl:1: RewardBench 1 needs"), "{error}");
    let error = lens.fails(2, "eval rm pairs.jsonl --benchmark glue");
    assert!(error.contains("[possible values: auto, pairs, rewardbench, "), "{error}");
}

#[test]
fn rewardbench_2_is_scored_by_row_and_its_ties_by_their_own_formula() {
    let lens = Lens::with_reward_model();
    let row = |i: usize, subset: &str, id: &str, chosen: &[&str], rejected: &[&str]| {
        json!({"id": id, "prompt": format!("Question {i}?"), "chosen": chosen,
            "rejected": rejected, "num_correct": chosen.len(),
            "total_completions": chosen.len() + rejected.len(), "subset": subset})
    };
    let (yes, no) = ("It is so, so yes!", ["That is no", "Number 7 is no", "no"]);
    let rows = [
        row(1, "Math", "1", &[yes], &no),
        row(2, "Math", "2", &["no"], &["Yes, it is!", "It is, so yes!", "not"]),
        row(3, "Focus", "3", &[yes], &[yes, "no", "not"]),
        row(4, "Ties", "ref:1", &[yes], &["no"]),
        row(4, "Ties", "tied:1", &[yes, "It is, so yes!"], &["no", "not"]),
        row(5, "Ties", "tied:2", &["no"], &[yes]),
    ];
    lens.rows("rb2.jsonl", &rows);
    let eval = lens.ok("eval rm rb2.jsonl --json").json();
    assert_eq!((&eval["taken_for"], &eval["accuracy"]), (&json!("rewardbench2"), &Value::Null));
    let found = &eval["evaluation"]["rewardbench2"];

    // All in one call, as the evaluation has them: elsewhere in a batch the last bit may differ.
    let mut asked = Vec::new();
    for row in &rows {
        for name in ["chosen", "rejected"] {
            asked.push(json!({"prompt": row["prompt"], "responses": row[name]}));
        }
    }
    lens.rows("asked.jsonl", &asked);
    let given = lens.ok("score rm asked.jsonl --json --quiet").json_lines();
    let side = |row: &Value, name: &str| -> Vec<f64> {
        let at = rows.iter().position(|r| r == row).unwrap() * 2 + usize::from(name == "rejected");
        given[at]["rewards"].as_array().unwrap().iter().map(number).collect()
    };
    let top = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let low = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
    let row_score = |row: &Value| {
        let (chosen, rejected) = (side(row, "chosen"), side(row, "rejected"));
        let best = top(&chosen).max(top(&rejected));
        let at = chosen.iter().chain(&rejected).filter(|r| **r == best).count();
        if top(&chosen) == best { 1.0 / at as f64 } else { 0.0 }
    };
    let math = (row_score(&rows[0]) + row_score(&rows[1])) / 2.0;
    assert!(near(number(&found["subsets"]["Math"]["score"]["value"]), math), "{found}");
    // The right answer is also among the wrong ones: half the credit, or none.
    let focus = number(&found["subsets"]["Focus"]["score"]["value"]);
    assert!(near(focus, row_score(&rows[2])) && (focus == 0.5 || focus == 0.0), "{focus}");

    let gap = |row: &Value| low(&side(row, "chosen")) - top(&side(row, "rejected"));
    let spread = top(&side(&rows[4], "chosen")) - low(&side(&rows[4], "chosen"));
    let (reference, tied) = (gap(&rows[3]), gap(&rows[4]));
    let is = |holds: bool| f64::from(u8::from(holds));
    let expected = 0.30 * (is(tied > 0.0) + is(gap(&rows[5]) > 0.0)) / 2.0
        + 0.30 * is(reference > 0.0)
        + 0.20 * is(tied > spread)
        + 0.20 * is(reference.min(tied) > spread)
        + 0.01 * (reference.min(tied) / spread - 1.0).tanh();
    assert!((number(&found["ties"]["score"]) - expected).abs() < 1e-6, "{found} {expected}");
    assert!(found["no_score"].as_str().unwrap().contains("Math (2 of 183 rows)"), "{found}");
    let said = lens.ok("eval rm rb2.jsonl").out;
    assert!(said.contains("RewardBench 2 score") && said.contains("2 tied rows, 1 ref"), "{said}");

    let mut bad = rows.clone();
    bad[3]["id"] = json!("7");
    lens.rows("bad.jsonl", &bad);
    let error = lens.fails(1, "eval rm bad.jsonl");
    assert!(error.contains("bad.jsonl:4: `id`: expected ref:N or tied:N"), "{error}");
}

#[test]
fn rm_bench_is_a_matrix_of_styles_for_each_domain() {
    let lens = Lens::with_reward_model();
    let chosen = ["yes", "yes, it is so!", "**yes**, it is so!"];
    let rejected = ["no", "Number 3 is no", "* Number 3 is no"];
    let row = |domain: &str, i: usize| {
        json!({"id": i, "prompt": format!("Question {i}?"), "chosen": chosen, "rejected": rejected,
            "domain": domain})
    };
    lens.rows("rmb.jsonl", &[row("chat", 1), row("chat", 2), row("safety-refuse", 3)]);
    let eval = lens.ok("eval rm rmb.jsonl --json").json();
    assert_eq!(eval["taken_for"], "rm-bench");
    let chat = &eval["evaluation"]["rm_bench"]["domains"]["chat"];
    let both = [1, 2].map(|i| {
        let prompt = format!("Question {i}?");
        (rewards(&lens, &prompt, &chosen), rewards(&lens, &prompt, &rejected))
    });
    let mut thirds = [0.0; 3];
    for i in 0..3 {
        for j in 0..3 {
            let share = both.iter().filter(|(c, r)| c[i] > r[j]).count() as f64 / 2.0;
            assert!(near(number(&chat["matrix"][i][j]), share), "{i} {j} {chat}");
            let which = if i < j {
                0
            } else if i == j {
                1
            } else {
                2
            };
            thirds[which] += share / 3.0;
        }
    }
    for (name, value) in ["hard", "normal", "easy"].iter().zip(thirds) {
        assert!(near(number(&chat[*name]), value), "{name} {chat}");
    }
    assert!(near(number(&chat["mean"]["value"]), thirds.iter().sum::<f64>() / 3.0));
    let why = &eval["evaluation"]["rm_bench"]["no_score"];
    assert_eq!(*why, "without safety-response, math, code");
    let said = lens.ok("eval rm rmb.jsonl --subset chat").out;
    assert!(said.contains("2 read, 2 used") && said.contains("markdown"), "{said}");
}

#[test]
fn best_of_n_is_the_same_from_rows_of_either_kind() {
    let lens = Lens::with_reward_model();
    let answers = |i: usize| -> Vec<String> {
        vec![
            format!("It is number {i}, so yes!"),
            format!("Number {i} is no"),
            "no".into(),
            "perhaps so".into(),
        ]
    };
    let gold = |i: usize| [2.0, 0.0, -1.0, f64::from(i as u8 % 3)];
    let rows: Vec<Value> = (0..12)
        .map(|i| {
            json!({"prompt": format!("Question {i}?"), "responses": answers(i),
            "scores": gold(i)})
        })
        .collect();
    lens.rows("best.jsonl", &rows);
    // One response a row, the prompts all mixed up.
    let spread: Vec<Value> = (0..48)
        .map(|k| (k % 12, k / 12))
        .map(|(i, j)| {
            json!({"prompt": format!("Question {i}?"), "response": answers(i)[j],
            "score": gold(i)[j]})
        })
        .collect();
    lens.rows("spread.jsonl", &spread);
    let eval = lens.ok("eval rm best.jsonl --json").json();
    assert_eq!(eval["taken_for"], "best-of-n");
    let found = &eval["evaluation"]["best_of_n"];
    let other = lens.ok("eval rm spread.jsonl --json").json();
    assert_eq!(other["evaluation"]["best_of_n"], *found);
    assert_eq!((&other["rows"]["read"], &eval["rows"]["read"]), (&json!(48), &json!(12)));

    let scores = lens.ok("score rm best.jsonl --json --quiet").json_lines();
    let tops: f64 = (0..12)
        .map(|i| {
            let rewards: Vec<f64> =
                scores[i]["rewards"].as_array().unwrap().iter().map(number).collect();
            let top = (0..4).max_by(|&a, &b| rewards[a].total_cmp(&rewards[b])).unwrap();
            gold(i)[top]
        })
        .sum();
    let mean: f64 = (0..12).map(|i| gold(i).iter().sum::<f64>() / 4.0).sum();
    let curve = found["curve"].as_array().unwrap();
    assert_eq!((curve.len(), &found["prompts"], &found["n"]), (4, &json!(12), &json!(4)));
    assert!(near(number(&curve[3]["gold"]), tops / 12.0), "{found}");
    assert!(near(number(&curve[0]["gold"]), mean / 12.0));
    assert!(near(number(&curve[3]["oracle"]), 2.0));
    assert!(near(number(&curve[3]["kl"]), 4.0f64.ln() - 0.75));
    let gain = (tops - mean) / (24.0 - mean);
    assert!(near(number(&curve[3]["gain"]["value"]), gain), "{found}");
    assert!(found["fit"]["a"].is_number(), "{found}");
    // n of 2 and 3 do not change with how many are asked for.
    let two = lens.ok("eval rm best.jsonl --n 2 --json").json();
    let two = &two["evaluation"]["best_of_n"];
    assert_eq!(two["curve"].as_array().unwrap()[..], curve[..2]);
    assert_eq!(two["prompts_with_more"], 12);
    let said = lens.ok("eval rm best.jsonl").out;
    assert!(said.contains("best of 4") && said.contains("over-optimisation"), "{said}");
}

#[test]
fn best_of_n_that_cannot_be_is_refused_by_file_and_line_before_anything_is_embedded() {
    let lens = Lens::with_reward_model();
    let kept = lens.cached_bytes();
    let row = |i: usize, n: usize| {
        let responses: Vec<String> = (0..n).map(|j| format!("answer {j}")).collect();
        let scores: Vec<usize> = (0..n).collect();
        json!({"prompt": format!("New {i}"), "responses": responses, "scores": scores})
    };
    let refused = |name: &str, rows: &[Value], flags: &str, parts: &[&str]| {
        lens.rows(name, rows);
        let error = lens.fails(1, &format!("eval rm {name} {flags}"));
        parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}"));
    };
    refused(
        "few.jsonl",
        &[row(1, 4), row(2, 3)],
        "--n 4",
        &["few.jsonl:2: 3 responses to this prompt, but n = 4 was asked for", "hint: "],
    );
    refused("one.jsonl", &[row(1, 4), row(2, 1)], "", &["one.jsonl:2: one response"]);
    let mut missing = row(2, 3);
    missing.as_object_mut().unwrap().remove("scores");
    refused(
        "missing.jsonl",
        &[row(1, 3), missing],
        "",
        &["missing.jsonl:2: `scores`: expected a list of 3 scores", "best-of-n needs"],
    );
    let mut text = row(2, 3);
    text["scores"][1] = json!("NaN");
    refused("nan.jsonl", &[row(1, 3), text], "", &["nan.jsonl:2: `scores[1]`: expected a finite"]);
    lens.write(
        "raw.jsonl",
        format!(
            "{}\n{}\n",
            row(1, 2),
            "{\"prompt\": \"p\", \"responses\": [\"a\", \"b\"], \"scores\": [NaN, 1]}"
        ),
    );
    let error = lens.fails(1, "eval rm raw.jsonl");
    let null = "raw.jsonl:2: `scores[0]`: expected a finite number, found null";
    assert!(error.contains(null), "{error}");
    let mut equal = row(1, 3);
    equal["scores"] = json!([1, 1, 1]);
    refused("equal.jsonl", &[equal], "", &["equal.jsonl:1: the responses to every prompt (1)"]);
    refused(
        "kinds.jsonl",
        &[row(1, 2), pairs(0..1)[0].clone()],
        "",
        &["kinds.jsonl:2: the file begins as best-of-n", "found a preference pair", "hint: "],
    );
    refused(
        "pair.jsonl",
        &pairs(0..2),
        "--benchmark best-of-n",
        &["pair.jsonl:1: best-of-n needs responses with scores, found a preference pair"],
    );
    let error = lens.fails(2, "eval rm pair.jsonl --n 0");
    assert!(error.contains("at least 1"), "{error}");
    let error = lens.fails(2, "eval rm few.jsonl --outputs out");
    assert!(error.contains("not for best-of-n"), "{error}");
    assert_eq!(lens.cached_bytes(), kept);
}

#[test]
fn a_file_of_ties_or_nothing_usable_is_an_error() {
    let lens = Lens::with_reward_model();
    let mut rows = pairs(100..104);
    rows.iter_mut().for_each(|r| r["tie"] = json!(true));
    rows.push(json!({"prompt": "p", "chosen": "c", "rejected": " "}));
    lens.rows("ties.jsonl", &rows);
    for flags in ["", "--json"] {
        let error = lens.fails(1, &format!("eval rm ties.jsonl {flags}"));
        assert!(error.contains("ties.jsonl: no pair is left to evaluate on"), "{error}");
        assert!(error.contains("1 empty-side, 4 tie"), "{error}");
    }
}

#[test]
fn scripts_for_rewardbenchs_files_read_ours() {
    let lens = Lens::with_reward_model();
    let mut rows = mixed(100..106);
    rows.iter_mut().enumerate().for_each(|(i, r)| {
        r["id"] = json!(i);
        r["subset"] = json!(["hep-go", "hep-js"][i / 3]);
    });
    lens.rows("rb.jsonl", &rows);
    lens.ok("eval rm rb.jsonl --outputs out/here --quiet");
    assert_eq!(lens.names("out/here"), ["rm.json", "rm_outputs.jsonl"]);
    let lines = lens.read("out/here/rm_outputs.jsonl");
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let scores = scores(&lens, "rb.jsonl");
    let mut right = 0;
    for ((line, row), (a, b)) in lines.iter().zip(&rows).zip(&scores) {
        assert_eq!((&line["prompt"], &line["id"]), (&row["prompt"], &row["id"]));
        assert_eq!(line["subset"], row["subset"]);
        assert_eq!(line["results"], u8::from(a > b));
        assert!((number(&line["scores_chosen"]) - a).abs() < 1e-6);
        right += usize::from(a > b);
    }
    let summary = lens.json("out/here/rm.json");
    assert!(near(number(&summary["accuracy"]), right as f64 / 6.0), "{summary}");
    assert_eq!((&summary["num_prompts"], &summary["model"]), (&json!(6), &json!("rm")));
    assert!(summary["chat_template"].is_string(), "{summary}");
    let hep = summary["extra_results"].as_object().unwrap();
    assert_eq!(hep.keys().collect::<Vec<_>>(), ["hep-go", "hep-js"]);

    let error = lens.fails(2, "eval rm rb.jsonl pairs.jsonl --outputs out");
    assert!(error.contains("--outputs: takes one file of text"), "{error}");
    lens.write("file", "");
    let error = lens.fails(1, "eval rm rb.jsonl --outputs file");
    assert!(error.contains("file: "), "{error}");
}

#[test]
fn one_page_holds_what_all_files_say() {
    let lens = Lens::with_reward_model();
    lens.rows("mixed.jsonl", &mixed(200..240));
    let scored = |i: usize| {
        json!({"prompt": format!("Question {i}?"), "responses": ["yes", "no", "so"],
            "scores": [1.0, 0.0, f64::from(i as u8 % 3)]})
    };
    lens.rows("best.jsonl", &(0..12).map(scored).collect::<Vec<_>>());
    let said = lens.ok("eval rm mixed.jsonl best.jsonl --report all.html");
    assert!(said.out.contains("report  all.html"), "{}", said.out);
    let page = lens.read("all.html");
    for part in [
        "<title>rm on 2 files</title>",
        "mixed.jsonl: Accuracy",
        "mixed.jsonl: Length",
        "best.jsonl: Best-of-n",
        "lens eval rm mixed.jsonl best.jsonl --report report.html",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains(&*lens.path("").to_string_lossy()));
    // What stands there stays, unless asked; and the page is the same to the byte.
    let error = lens.fails(1, "eval rm mixed.jsonl best.jsonl --report all.html");
    assert!(error.contains("all.html: exists already") && error.contains("--overwrite"), "{error}");
    let said = lens.ok("eval rm mixed.jsonl best.jsonl --report all.html --overwrite --json");
    assert!(said.json_lines().iter().all(|line| line["report"] == "all.html"));
    assert_eq!(lens.read("all.html"), page);
    // Never the data themselves.
    let data = lens.read("mixed.jsonl");
    lens.fails(1, "eval rm mixed.jsonl --report mixed.jsonl --overwrite");
    assert_eq!(lens.read("mixed.jsonl"), data);
}

/// Rows of the shapes that public benchmarks have, written for this repository, and what they are
/// taken for.
const FIXTURES: [(&str, &str); 4] = [
    ("rewardbench.jsonl", "rewardbench"),
    ("pairs-with-subsets.jsonl", "pairs"),
    ("summaries.jsonl", "pairs"),
    ("best-of-4.jsonl", "best-of-n"),
];

/// The same of public data, in the folder that LENS_SHARED names (docs/testing.md).
const PUBLIC: [(&str, &str); 4] = [
    ("xstest/pairs.jsonl.gz", "rewardbench"),
    ("llmbar/pairs.jsonl.gz", "pairs"),
    ("tldr/pairs.jsonl.gz", "pairs"),
    ("finegrained-qa/best-of-4.jsonl.gz", "best-of-n"),
];

/// Rows that a test of real data reads of each file.
const ROWS: usize = 8;

fn fixture(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/benchmarks");
    std::fs::read_to_string(PathBuf::from(folder).join(name)).unwrap()
}

fn public(name: &str) -> String {
    let folder =
        std::env::var_os("LENS_SHARED").expect("LENS_SHARED names a folder of public data");
    let path = PathBuf::from(folder).join("data").join(name);
    let file = std::fs::File::open(&path)
        .unwrap_or_else(|e| panic!("{}: {e} (docs/testing.md says how to get it)", path.display()));
    std::io::read_to_string(flate2::read::GzDecoder::new(file)).unwrap()
}

/// Some rows of a file, from its beginning to its end.
fn rows_of(text: &str) -> Vec<Value> {
    let step = text.lines().count() / ROWS;
    let lines = text.lines().step_by(step).take(ROWS);
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// A reward model on the model that most people use.
fn with_the_default_model() -> Lens {
    let lens = Lens::new();
    let train = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/starter/train.jsonl");
    let text = std::fs::read_to_string(train).unwrap();
    let some: Vec<&str> = text.lines().take(60).collect();
    lens.write("small.jsonl", some.join("\n"));
    with_models(&lens, "run small.jsonl -o rm --augment 1 --json --quiet");
    lens
}

/// Runs a command that finds the models that the tester has.
fn with_models(lens: &Lens, words: &str) -> Value {
    let mut command = lens.command(words);
    let home = || format!("{}/.cache/lens", std::env::var("HOME").unwrap());
    command.env("LENS_CACHE", std::env::var("LENS_CACHE").unwrap_or_else(|_| home()));
    let said = crate::common::Said::from(command.output().unwrap());
    assert_eq!(said.code, 0, "{}", said.err);
    said.json()
}

/// Holds that rows are taken for what they are, and that their figures are well-formed: which they
/// must be with a random model too.
fn recognised_and_evaluated(lens: &Lens, file: &str, rows: &[Value], kind: &str) {
    lens.rows("real.jsonl", rows);
    let eval = with_models(lens, "eval rm real.jsonl --json --quiet");
    assert_eq!(eval["taken_for"], kind, "{file}");
    let what = if kind == "best-of-n" { "rows" } else { "pairs" };
    assert_eq!(eval[what]["read"], rows.len(), "{file}");
    if kind == "best-of-n" {
        let found = &eval["evaluation"]["best_of_n"];
        assert_eq!(found["curve"].as_array().unwrap().len(), 4);
        assert!(number(&found["curve"][3]["oracle"]) >= number(&found["curve"][3]["gold"]));
    } else {
        assert!((0.0..=1.0).contains(&number(&eval["accuracy"])), "{eval}");
    }
}

#[test]
fn rows_of_every_benchmark_are_recognised_and_evaluated() {
    let lens = Lens::with_reward_model();
    for (file, kind) in FIXTURES {
        let rows = rows_of(&fixture(file));
        assert_eq!(rows.len(), ROWS, "{file}");
        recognised_and_evaluated(&lens, file, &rows, kind);
    }
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn rows_of_every_benchmark_are_evaluated_with_the_default_model() {
    let lens = with_the_default_model();
    for (file, kind) in FIXTURES {
        recognised_and_evaluated(&lens, file, &rows_of(&fixture(file)), kind);
    }
}

/// Public data of every kind: with a random model, or with the default one where its tests are
/// asked for.
#[needs(LENS_SHARED)]
#[test]
fn public_data_is_recognised_and_evaluated() {
    let models = std::env::var_os("LENS_MODEL_TESTS").is_some_and(|v| v == "1");
    let lens = if models { with_the_default_model() } else { Lens::with_reward_model() };
    for (file, kind) in PUBLIC {
        recognised_and_evaluated(&lens, file, &rows_of(&public(file)), kind);
    }
}
