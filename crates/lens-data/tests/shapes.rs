//! Every shape of preference pairs in docs/formats.md, read from the example that stands beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lens_core::PreferencePair;
use lens_data::turns::turns;
use lens_data::{ReadOptions, read_pairs, vet};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const BASIL: [&str; 3] = [
    "How do I keep basil alive indoors?",
    "Give it six hours of light, water it when the soil is dry, and cut the tips.",
    "Basil is a herb.",
];
const SUM: [&str; 3] = ["What is seven times eight?", "Fifty-six.", "Fifty-four, I think."];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The examples of the table, with the number of pairs that it tells.
fn table() -> Vec<(String, usize)> {
    let text = std::fs::read_to_string(root().join("docs/formats.md")).unwrap();
    let row = |line: &str| {
        let (_, rest) = line.split_once("](shapes/")?;
        let (name, rest) = rest.split_once(')')?;
        let pairs = rest.split('|').nth(1)?.trim().parse().unwrap();
        Some((name.to_owned(), pairs))
    };
    text.lines().filter_map(row).collect()
}

/// What was asked last, the preferred answer, and the other one.
fn said(pair: &PreferencePair) -> [String; 3] {
    let (chosen, of_prompt) = turns(&pair.chosen_exchange());
    let (rejected, _) = turns(&pair.rejected_exchange());
    let text = |turns: &[lens_core::Message], at: usize| {
        turns.get(at).map(|turn| turn.content.clone()).unwrap_or_default()
    };
    let asked = of_prompt.checked_sub(1).map_or(String::new(), |at| text(&chosen, at));
    [asked, text(&chosen, of_prompt), text(&rejected, of_prompt)]
}

#[test]
fn every_shape_in_the_table_reads_as_the_table_says() {
    let table = table();
    assert!(table.len() > 20, "{table:?}");
    for (name, pairs) in &table {
        let path = root().join("docs/shapes").join(name);
        let data = read_pairs(&path, &ReadOptions::default()).unwrap();
        assert_eq!(data.malformed.described(), [], "{name}");
        let vetted = vet(data);
        assert_eq!((vetted.used.len(), vetted.report.left_out_total()), (*pairs, 0), "{name}");
        let found: Vec<[String; 3]> = vetted.used.iter().map(|row| said(&row.value)).collect();
        let holds = |wanted: [&str; 3]| {
            found.iter().any(|pair| pair.iter().zip(wanted).all(|(a, b)| a.ends_with(b)))
        };
        match name.as_str() {
            // Without a prompt, the whole text is the response.
            "implicit-text.jsonl" => {
                assert!(found[0].iter().zip(["", BASIL[1], BASIL[2]]).all(|(a, b)| a.ends_with(b)));
            }
            _ => assert!(holds(BASIL), "{name}: {found:#?}"),
        }
        match name.as_str() {
            "ultrafeedback.jsonl" => assert_eq!(vetted.used[0].value.margin, Some(2.0)),
            "implicit-text.jsonl" => {}
            "arena.jsonl" => assert!(vetted.used[1].value.tie),
            _ => assert!(holds(SUM), "{name}: {found:#?}"),
        }
    }
}

#[test]
fn every_example_is_in_the_table() {
    let listed: BTreeSet<String> = table().into_iter().map(|(name, _)| name).collect();
    let there = std::fs::read_dir(root().join("docs/shapes")).unwrap();
    let there: BTreeSet<String> =
        there.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(listed, there);
}

#[test]
fn ratings_are_margins_and_rows_of_one_prompt_belong_together() {
    let read = |name: &str| {
        let path = root().join("docs/shapes").join(name);
        read_pairs(&path, &ReadOptions::default()).unwrap()
    };
    let margins = |name: &str| -> Vec<Option<f64>> {
        read(name).pairs.iter().map(|row| row.value.margin).collect()
    };
    assert_eq!(margins("scores.jsonl"), [Some(5.5), Some(2.5)]);
    assert_eq!(margins("ratings.jsonl"), [Some(4.0), Some(2.0), Some(2.0), Some(3.0)]);
    assert_eq!(margins("helpsteer.jsonl"), [Some(3.0), Some(2.0)]);
    assert_eq!(margins("helpsteer-preference.jsonl"), [Some(2.0), Some(3.0)]);
    assert_eq!(margins("nemo.jsonl"), [None; 4]);
    let rows = read("helpsteer.jsonl");
    assert_eq!(rows.pairs.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 4]);
    assert_eq!((rows.layout.rows, rows.read), (4, 2));
}
