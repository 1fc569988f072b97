//! RewardBench 1 and 2 and RM-Bench on the page: their scores and the tables behind them.

use super::{columns, count, estimate, percent, row, share, table};
use lens_eval::figures::rewardbench::RewardBench;
use lens_eval::figures::rewardbench2::RewardBench2;
use lens_eval::figures::rm_bench::{RmBench, STYLES};
use lens_report::{Block, Cell, Format, TableRow};

pub(super) fn rewardbench(found: &RewardBench) -> Vec<Block> {
    let mut rows = Vec::new();
    for section in &found.sections {
        let name = match section.complete {
            true => section.name.clone(),
            false => format!("{} (partial)", section.name),
        };
        let section_row = row(&name, vec![Cell::text(""), share(section.value)]);
        rows.push(TableRow { highlight: true, ..section_row });
        for s in &section.subsets {
            let weight = Cell::text(format!("{:.0}", s.weight));
            rows.push(row(&s.name, vec![count(s.pairs), estimate(&s.accuracy), weight]));
        }
    }
    let columns = columns("section, subset", &["pairs", "accuracy, 95% interval", "weight"]);
    let mut blocks = vec![score("Score", found.score, &found.no_score)];
    blocks.push(table("Sections and their subsets; a tie is wrong", columns, rows));
    // Beside the table: in a narrow column of it a list would be taller than a phone.
    let partial = found.sections.iter().filter(|s| !s.complete);
    let partial: Vec<(String, String)> =
        partial.map(|s| (format!("{} lacks", s.name), s.missing.join(", "))).collect();
    if !partial.is_empty() {
        blocks.push(Block::KeyValues(partial));
    }
    blocks
}

fn score(name: &str, score: Option<f64>, why: &Option<String>) -> Block {
    let shown = match score {
        Some(score) => percent(score),
        None => format!("none: {}", why.as_deref().unwrap_or("not complete")),
    };
    Block::KeyValues(vec![(name.to_owned(), shown)])
}

pub(super) fn rewardbench2(found: &RewardBench2) -> Vec<Block> {
    let mut rows: Vec<TableRow> = found
        .subsets
        .iter()
        .map(|(name, s)| row(name, vec![count(s.rows), estimate(&s.score)]))
        .collect();
    if let Some(all) = &found.rows {
        let n = found.subsets.values().map(|s| s.rows).sum();
        let all = row("all outside Ties", vec![count(n), estimate(all)]);
        rows.insert(0, TableRow { highlight: true, ..all });
    }
    let mut blocks = vec![score("Score", found.score, &found.no_score)];
    let names = ["rows", "row score, 95% interval"];
    if !rows.is_empty() {
        blocks.push(table("Row scores by subset", columns("subset", &names), rows));
    }
    if let Some(t) = &found.ties {
        blocks.push(Block::KeyValues(vec![
            ("Ties".into(), percent(t.score)),
            (
                "tied rows in order".into(),
                format!("{} of {}", percent(t.tied_accuracy), t.tied_rows),
            ),
            ("ref rows in order".into(), format!("{} of {}", percent(t.ref_accuracy), t.ref_rows)),
            ("gap over spread".into(), percent(t.gap_over_spread)),
            ("both gaps over spread".into(), percent(t.both_gaps_over_spread)),
            ("margin".into(), Format::Number.show(t.margin, 3)),
        ]));
    }
    blocks
}

pub(super) fn rm_bench(found: &RmBench) -> Vec<Block> {
    let rows = found.domains.iter().map(|(name, d)| {
        row(
            name,
            vec![count(d.rows), share(d.hard), share(d.normal), share(d.easy), estimate(&d.mean)],
        )
    });
    let names = ["rows", "hard", "normal", "easy", "mean, 95% interval"];
    let mut blocks = vec![
        score("Score", found.score, &found.no_score),
        table(
            "By domain: hard is where the wrong answer has the more elaborate style",
            columns("domain", &names),
            rows.collect(),
        ),
    ];
    let matrices = found.domains.iter().map(|(name, d)| {
        let rows = STYLES.iter().zip(&d.matrix);
        let rows = rows.map(|(style, shares)| row(style, shares.map(share).to_vec()));
        let caption = format!("{name}: right answer (rows) above wrong answer (columns)");
        table(&caption, columns("style", &STYLES), rows.collect())
    });
    let matrices = matrices.collect();
    blocks.push(Block::Folded { summary: "style against style".into(), blocks: matrices });
    blocks
}
