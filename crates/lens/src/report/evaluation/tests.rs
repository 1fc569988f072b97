#![allow(clippy::unwrap_used)]

use super::*;
use lens_core::{Content, PreferencePair};
use lens_data::{LeftOut, Reason, Row, VetReport};
use lens_eval::figures::best_of_n::Scored;
use lens_eval::figures::heldout::PairRewards;
use lens_eval::figures::worst::Texts;
use lens_eval::figures::{Benchmark, Evaluation, PairData, ScoredPairs};

const HOSTILE: &str = "</title><script>alert(1)</script>";

fn drawn(result: &EvaluatedFile, several: bool) -> String {
    let of = Of { result, number: 1, several };
    Report { sections: of.sections(), summary: in_words(result, several), ..Report::default() }
        .to_html()
}

fn evaluated(evaluation: Evaluation, rewards: PairRewards) -> EvaluatedFile {
    let detail = HOSTILE.to_owned();
    let left_out = [(Reason::Malformed, vec![LeftOut::on_line(3, detail)])].into();
    let rows = VetReport { read: 41, used: 40, left_out, unlisted: 0 };
    let path = "/home/me/f.jsonl".into();
    EvaluatedFile { path, rows, evaluation, trained_on: false, rewards, report: None }
}

fn pairs(with_texts: bool) -> EvaluatedFile {
    let text = |n: usize| Content::Text(format!("{HOSTILE}{}", "a".repeat(n)));
    let row = |i: usize| {
        let (prompt, chosen, rejected) = (text(0), text(i % 7), text(i % 5));
        let value = PreferencePair { prompt, chosen, rejected, margin: None, tie: false };
        let metadata = [("subset".to_owned(), HOSTILE.into())].into_iter().collect();
        Row::new(i as u64 + 1, value, metadata)
    };
    let rows: Vec<_> = (0..40).map(row).collect();
    let chosen: Vec<f32> = (0..40).map(|i| (i % 4) as f32).collect();
    let rejected = vec![0.5; 40];
    let (prompts, lines): (Vec<u32>, Vec<u64>) = (0..40).map(|i| (i, u64::from(i) + 1)).unzip();
    let data = PairData {
        file: Path::new("f"),
        pairs: ScoredPairs { chosen: &chosen, rejected: &rejected, prompts: &prompts, seed: 0 },
        lines: &lines,
        rows: with_texts.then_some(&*rows),
        worst: 3,
    };
    let evaluation = Evaluation::of_pairs(Benchmark::Pairs, data).unwrap();
    evaluated(evaluation, PairRewards { chosen, rejected })
}

#[test]
fn pairs_have_their_charts_and_the_rest_its_reason() {
    let page = drawn(&pairs(true), false);
    for part in [
        "in 75.0% of 40 pairs",
        "id=\"accuracy\"",
        "Margins of pairs",
        "How sure it is, and how often right",
        "Reward against length",
        "balanced: mean of both",
        "Worse, which the model prefers",
        "no best-of-n</dt><dd>the file was taken for preference pairs",
        "1 rows: malformed",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("<svg role=\"img\"").count(), 4);
    assert!(!page.contains("<script") && !page.contains("/home/me"), "{page}");
    // Embeddings have no texts.
    let page = drawn(&pairs(false), true);
    assert!(page.contains("no length</dt><dd>embeddings have no texts"), "{page}");
    assert!(page.contains("id=\"file-1-accuracy\"") && page.contains("f.jsonl: Accuracy"));
    assert_eq!(page.matches("<svg role=\"img\"").count(), 3);
}

#[test]
fn best_of_n_has_its_curve_and_no_histograms() {
    let prompt = |line: u64| Scored {
        line,
        gold: (0..9).map(f64::from).collect(),
        proxy: (0..9).map(|i| ((i * 5 + line as i32) % 9) as f32).collect(),
    };
    let prompts: Vec<Scored> = (1..20).map(prompt).collect();
    let texts = |_: usize, _: usize, _: usize| {
        let text = Content::Text(HOSTILE.to_owned());
        Texts::new(&text, &text, &text)
    };
    let of = Evaluation::of_best_of_n(&prompts, None, 2, 0, Path::new("f"), texts).unwrap();
    let none = PairRewards { chosen: Vec::new(), rejected: Vec::new() };
    let page = drawn(&evaluated(of, none), false);
    for part in ["R \u{2212} random = d (", "random choice", "The judge&#39;s pick"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("<svg role=\"img\"").count(), 1);
    assert!(page.contains("no calibration") && !page.contains("<script"), "{page}");
}
