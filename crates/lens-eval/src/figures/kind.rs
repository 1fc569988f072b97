//! The benchmark of a file, recognised by its rows.

use super::rewardbench;
use crate::error::EvalError;
use lens_data::{BestOfN, JudgedRow, Row};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// A kind of evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Benchmark {
    /// Preference pairs, perhaps with a `subset`.
    Pairs,
    /// RewardBench 1: pairs of its subsets.
    #[serde(rename = "rewardbench")]
    RewardBench,
    /// RewardBench 2: lists on both sides.
    #[serde(rename = "rewardbench2")]
    RewardBench2,
    /// RM-Bench: three styles a side and a `domain`.
    RmBench,
    /// Responses with gold scores.
    BestOfN,
}

impl Benchmark {
    /// All of them.
    pub const ALL: [Benchmark; 5] = [
        Benchmark::Pairs,
        Benchmark::RewardBench,
        Benchmark::RewardBench2,
        Benchmark::RmBench,
        Benchmark::BestOfN,
    ];

    /// Whether its rows are pairs, with one reward a side.
    pub fn is_of_pairs(self) -> bool {
        matches!(self, Benchmark::Pairs | Benchmark::RewardBench)
    }

    /// The name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Benchmark::Pairs => "pairs",
            Benchmark::RewardBench => "rewardbench",
            Benchmark::RewardBench2 => "rewardbench2",
            Benchmark::RmBench => "rm-bench",
            Benchmark::BestOfN => "best-of-n",
        }
    }

    /// The name that a person knows it by.
    pub fn title(self) -> &'static str {
        match self {
            Benchmark::Pairs => "preference pairs",
            Benchmark::RewardBench => "RewardBench 1",
            Benchmark::RewardBench2 => "RewardBench 2",
            Benchmark::RmBench => "RM-Bench",
            Benchmark::BestOfN => "best-of-n",
        }
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// The kind of a row in words.
fn described(row: &JudgedRow) -> &'static str {
    match row {
        JudgedRow::Pair(_) => "a preference pair",
        JudgedRow::Ranked(_) => "lists of chosen and rejected responses",
        JudgedRow::Scored(_) => "responses with scores",
    }
}

/// The column that names the part of the benchmark: `subset`, in RM-Bench `domain`.
pub fn part_of<T>(row: &Row<T>, benchmark: Benchmark) -> Option<&str> {
    match benchmark {
        Benchmark::RmBench => row.metadata.get("domain").and_then(|d| d.as_str()),
        _ => row.subset(),
    }
}

/// Whether the row can be one of this benchmark; what is missing if not.
fn fits(row: &Row<JudgedRow>, benchmark: Benchmark) -> Result<(), &'static str> {
    let wrong = |fits: bool, wanted| if fits { Ok(()) } else { Err(wanted) };
    match (benchmark, &row.value) {
        (Benchmark::Pairs, value) => {
            wrong(matches!(value, JudgedRow::Pair(_)), "one chosen and one rejected response")
        }
        (Benchmark::RewardBench, value) => {
            let known = row.subset().is_some_and(rewardbench::is_subset);
            let wanted = "one chosen and one rejected response, and a subset of the benchmark";
            wrong(matches!(value, JudgedRow::Pair(_)) && known, wanted)
        }
        (Benchmark::RewardBench2, value) => {
            wrong(matches!(value, JudgedRow::Ranked(_)), "lists of chosen and rejected responses")
        }
        (Benchmark::RmBench, JudgedRow::Ranked(lists)) => {
            let three = lists.chosen.len() == 3 && lists.rejected.len() == 3;
            let domain = part_of(row, benchmark).is_some();
            wrong(three && domain, "three chosen and three rejected responses, and a domain")
        }
        (Benchmark::RmBench, _) => Err("three chosen and three rejected responses, and a domain"),
        (Benchmark::BestOfN, value) => {
            wrong(matches!(value, JudgedRow::Scored(_)), "responses with scores")
        }
    }
}

/// The benchmark of some rows; where one is named, whether the rows are of it.
///
/// # Errors
/// [`EvalError::NoRows`] without a row, [`EvalError::WrongRow`] for the first that does not fit.
pub fn recognise(
    rows: &[Row<JudgedRow>],
    asked: Option<Benchmark>,
    file: &Path,
) -> Result<Benchmark, EvalError> {
    let first = rows
        .first()
        .ok_or_else(|| EvalError::NoRows { file: file.to_owned(), what: "row to evaluate on" })?;
    let all = |benchmark| rows.iter().all(|row| fits(row, benchmark).is_ok());
    let benchmark = asked.unwrap_or_else(|| match &first.value {
        JudgedRow::Pair(_) if all(Benchmark::RewardBench) => Benchmark::RewardBench,
        JudgedRow::Pair(_) => Benchmark::Pairs,
        JudgedRow::Ranked(lists) if lists.shape == BestOfN::RmBench => Benchmark::RmBench,
        JudgedRow::Ranked(_) => Benchmark::RewardBench2,
        JudgedRow::Scored(_) => Benchmark::BestOfN,
    });
    for row in rows {
        if let Err(expected) = fits(row, benchmark) {
            return Err(EvalError::WrongRow {
                file: file.to_owned(),
                line: row.line,
                benchmark,
                expected,
                found: described(&row.value),
                given: asked.is_some(),
            });
        }
    }
    Ok(benchmark)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lens_data::{ReadOptions, read_judged_with};
    use serde_json::{Value, json};

    fn kind(rows: &[Value], asked: Option<Benchmark>) -> Result<Benchmark, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let set = read_judged_with(&path, &ReadOptions::default(), &lens_core::Quiet).unwrap();
        recognise(&set.rows, asked, Path::new("rows.jsonl"))
    }

    #[test]
    fn names_are_those_of_json() {
        for benchmark in Benchmark::ALL {
            assert_eq!(serde_json::to_value(benchmark).unwrap(), benchmark.name());
        }
    }

    #[test]
    fn every_kind_is_told_from_its_rows() {
        let pair = |subset: &str| {
            json!({"prompt": "p", "chosen": "a", "rejected": "b",
            "subset": subset})
        };
        let lists = json!({"prompt": "p", "chosen": ["a"], "rejected": ["b", "c", "d"],
            "num_correct": 1, "subset": "Math"});
        let styles = json!({"prompt": "p", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"],
            "domain": "chat"});
        let scored = json!({"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]});
        let told = |rows: &[Value]| kind(rows, None).unwrap();
        assert_eq!(told(&[pair("mine"), pair("hep-go")]), Benchmark::Pairs);
        assert_eq!(told(&[pair("hep-go"), pair("math-prm")]), Benchmark::RewardBench);
        assert_eq!(told(std::slice::from_ref(&lists)), Benchmark::RewardBench2);
        assert_eq!(told(std::slice::from_ref(&styles)), Benchmark::RmBench);
        assert_eq!(told(std::slice::from_ref(&scored)), Benchmark::BestOfN);

        // A benchmark that is named is used, if the rows allow it.
        let asked = |rows: &[Value], b| kind(rows, Some(b));
        assert_eq!(asked(&[pair("hep-go")], Benchmark::Pairs).unwrap(), Benchmark::Pairs);
        assert_eq!(asked(&[styles], Benchmark::RewardBench2).unwrap(), Benchmark::RewardBench2);
        let error = asked(&[pair("hep-go"), pair("mine")], Benchmark::RewardBench).unwrap_err();
        assert!(error.to_string().starts_with("rows.jsonl:2: RewardBench 1 needs"), "{error}");
        let error = kind(&[pair("mine"), scored], None).unwrap_err();
        assert!(error.to_string().contains("rows.jsonl:2: "), "{error}");
        assert!(error.to_string().contains("found responses with scores"), "{error}");
    }
}
