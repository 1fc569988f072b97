//! What `lens eval` prints.

use crate::error::CliError;
use crate::output;
use lens::EvaluatedFile;
use lens_core::Content;
use lens_core::metrics::Estimate;
use lens_data::file_name;
use lens_eval::figures::best_of_n::BestOfN;
use lens_eval::figures::calibration::Calibration;
use lens_eval::figures::controls::Controls;
use lens_eval::figures::heldout::{PairAccuracy, difference_in_words};
use lens_eval::figures::length::Length;
use lens_eval::figures::rewardbench::RewardBench;
use lens_eval::figures::rewardbench2::RewardBench2;
use lens_eval::figures::rm_bench::RmBench;
use lens_eval::figures::worst::Example;
use lens_eval::figures::{Evaluation, Measured};
use lens_report::text::percent;

type Lines = Vec<(String, String)>;

/// One file's figures as a table.
pub fn print(result: &EvaluatedFile) -> Result<(), CliError> {
    let EvaluatedFile { path, rows, evaluation, .. } = result;
    let mut lines = vec![
        ("taken for".to_owned(), evaluation.taken_for.to_string()),
        (
            result.unit().to_owned(),
            format!("{} read, {} used, {} left out", rows.read, rows.used, rows.left_out_total()),
        ),
    ];
    for (reason, left_out) in &rows.left_out {
        let mut numbers: Vec<String> = left_out.iter().map(|l| l.line_in_words()).collect();
        let unlisted = rows.count(*reason) - left_out.len();
        numbers.extend((unlisted > 0).then(|| format!("and {unlisted} more")));
        lines.push((format!("  {reason}"), format!("lines {}", numbers.join(", "))));
    }
    figures(evaluation, &mut lines);
    output::line(&format!("{}\n{}", file_name(path), output::aligned(&lines)))
}

fn share(e: &Estimate) -> String {
    PairAccuracy::from(*e).to_string()
}

fn figures(evaluation: &Evaluation, lines: &mut Lines) {
    let mut line = |label: &str, value: String| lines.push((label.to_owned(), value));
    if let Some(a) = evaluation.accuracy.get() {
        line("accuracy", share(&a.half));
        if a.tied > 0 {
            let shown =
                format!("{} with equal rewards, as half; as wrong: {}", a.tied, share(&a.wrong));
            line("  ties", shown);
        }
    }
    if let Some(found) = evaluation.rewardbench.get() {
        rewardbench(found, lines);
    } else if let Some(subsets) = evaluation.subsets.get().filter(|s| s.len() > 1) {
        for (name, a) in subsets {
            lines.push((format!("  {name}"), format!("{} of {} pairs", share(&a.half), a.pairs)));
        }
    }
    if let Some(found) = evaluation.rewardbench2.get() {
        rewardbench2(found, lines);
    }
    if let Some(found) = evaluation.rm_bench.get() {
        rm_bench(found, lines);
    }
    if let Some(found) = evaluation.best_of_n.get() {
        best_of_n(found, lines);
    }
    if let Some(found) = evaluation.calibration.get() {
        calibration(found, lines);
    }
    if let Some(found) = evaluation.length.get() {
        length(found, lines);
    }
    if let Some(found) = evaluation.controls.get() {
        controls(found, lines);
    }
    if let Some(found) = evaluation.worst.get() {
        found.iter().enumerate().for_each(|(i, example)| lines.push(worst(i, example)));
    }
}

fn rewardbench(found: &RewardBench, lines: &mut Lines) {
    let score = match (found.score, &found.no_score) {
        (Some(score), _) => percent(score),
        (None, why) => format!("none ({})", why.as_deref().unwrap_or("not complete")),
    };
    lines.push(("RewardBench score".to_owned(), score));
    for section in &found.sections {
        let partial = match section.complete {
            true => String::new(),
            false => format!(", partial: {}", section.missing.join(", ")),
        };
        lines.push((format!("  {}", section.name), format!("{}{partial}", percent(section.value))));
        for s in &section.subsets {
            let shown = format!("{} of {} pairs", share(&s.accuracy), s.pairs);
            lines.push((format!("    {}", s.name), shown));
        }
    }
}

fn rewardbench2(found: &RewardBench2, lines: &mut Lines) {
    let score = match (found.score, &found.no_score) {
        (Some(score), _) => percent(score),
        (None, why) => format!("none ({})", why.as_deref().unwrap_or("not complete")),
    };
    lines.push(("RewardBench 2 score".to_owned(), score));
    if let Some(rows) = &found.rows {
        lines.push(("  rows outside Ties".to_owned(), share(rows)));
    }
    for (name, s) in &found.subsets {
        lines.push((format!("  {name}"), format!("{} of {} rows", share(&s.score), s.rows)));
    }
    if let Some(t) = &found.ties {
        let shown = format!(
            "{} (tied {}, ref {}, gap over spread {}, both gaps {}, margin {:+.3}; {} tied rows, {} \
             ref rows)",
            percent(t.score),
            percent(t.tied_accuracy),
            percent(t.ref_accuracy),
            percent(t.gap_over_spread),
            percent(t.both_gaps_over_spread),
            t.margin,
            t.tied_rows,
            t.ref_rows,
        );
        lines.push(("  Ties".to_owned(), shown));
    }
}

fn rm_bench(found: &RmBench, lines: &mut Lines) {
    let score = match (found.score, &found.no_score) {
        (Some(score), _) => percent(score),
        (None, why) => format!("none ({})", why.as_deref().unwrap_or("not complete")),
    };
    lines.push(("RM-Bench score".to_owned(), score));
    for (name, d) in &found.domains {
        let shown = format!(
            "{}: hard {}, normal {}, easy {}; {} rows",
            share(&d.mean),
            percent(d.hard),
            percent(d.normal),
            percent(d.easy),
            d.rows
        );
        lines.push((format!("  {name}"), shown));
        for (style, row) in lens_eval::figures::rm_bench::STYLES.iter().zip(&d.matrix) {
            let cells: Vec<String> = row.iter().map(|&share| percent(share)).collect();
            let shown = format!("{} (against concise, detailed, markdown)", cells.join("  "));
            lines.push((format!("    {style}"), shown));
        }
    }
}

fn best_of_n(found: &BestOfN, lines: &mut Lines) {
    let mut line = |label: &str, value: String| lines.push((label.to_owned(), value));
    line("prompts", format!("{}, {} responses", found.prompts, found.responses));
    if found.prompts_with_more > 0 {
        line("  with more than n", found.prompts_with_more.to_string());
    }
    if found.prompts_without_choice > 0 {
        line("  with one score only", found.prompts_without_choice.to_string());
    }
    let shown = format!("{} of {} pairs", share(&found.pair_accuracy), found.pairs);
    line("pairs ordered alike", shown);
    let number = |value: f64, [low, high]: [f64; 2]| {
        format!("{value:.4} (95% interval {low:.4} to {high:.4})")
    };
    line("random choice", number(found.random.value, found.random.ci95));
    for p in found.curve.iter().skip(1) {
        let Some(interval) = p.interval else { continue };
        let gain = p.gain.as_ref().map_or_else(String::new, |g| {
            let [low, high] = g.ci95.map(|x| 100.0 * x);
            format!(", gain {:.1}% ({low:.1}% to {high:.1}%)", 100.0 * g.value)
        });
        let shown =
            format!("{}, oracle {:.4}{gain}, KL {:.3}", number(p.gold, interval), p.oracle, p.kl);
        line(&format!("best of {}", p.n), shown);
    }
    match (&found.fit, &found.no_fit) {
        (Some(fit), _) => {
            let peak = fit.peak.map_or_else(String::new, |d| format!(", highest at d = {d:.2}"));
            line(
                "over-optimisation",
                format!(
                    "R - random = d ({:.4} {} {:.4} d), d = sqrt(KL), residual {:.4}{peak}",
                    fit.a,
                    if fit.b < 0.0 { '+' } else { '-' },
                    fit.b.abs(),
                    fit.residual
                ),
            );
        }
        (None, why) => line("over-optimisation", why.clone().unwrap_or_default()),
    }
}

fn calibration(found: &Calibration, lines: &mut Lines) {
    let plain = &found.plain;
    lines.push(("log-loss".to_owned(), format!("{:.4}", plain.log_loss)));
    lines.push((
        "calibration".to_owned(),
        format!("ECE {:.4}, Brier {:.4}", plain.ece, plain.brier),
    ));
    let shown = match (&found.tempered, &found.no_temperature) {
        (Some(t), _) => {
            let [a, b] = t.temperatures;
            let f = &t.figures;
            format!(
                "ECE {:.4}, Brier {:.4}, log-loss {:.4}; temperatures {a:.3} and {b:.3}, each fitted \
                 on the other half of the prompts",
                f.ece, f.brier, f.log_loss
            )
        }
        (None, why) => format!("none: {}", why.as_deref().unwrap_or_default()),
    };
    lines.push(("  with a temperature".to_owned(), shown));
}

fn length(found: &Length, lines: &mut Lines) {
    lines.push(("longer answer wins".to_owned(), percent(found.longer_wins)));
    let side = |s: &lens_eval::figures::length::Share| {
        s.accuracy
            .map_or_else(|| "no pair".to_owned(), |a| format!("{} of {}", percent(a), s.pairs))
    };
    let balanced = found.balanced_accuracy.map_or_else(|| "none".to_owned(), percent);
    lines.push((
        "balanced accuracy".to_owned(),
        format!(
            "{balanced} (chosen longer: {}; shorter: {})",
            side(&found.where_longer),
            side(&found.where_shorter)
        ),
    ));
    let shown = match &found.correlation {
        Some(r) => {
            let [low, high] = r.ci95;
            let without = found.prompts_without;
            format!(
                "{:+.3} (95% interval {low:+.3} to {high:+.3}), mean of {} prompts{}",
                r.value,
                found.prompts,
                if without > 0 { format!(", {without} do not vary") } else { String::new() }
            )
        }
        None => "none: no prompt has rewards and lengths that vary".to_owned(),
    };
    lines.push(("reward and length".to_owned(), shown));
}

fn controls(found: &Controls, lines: &mut Lines) {
    lines.push(("controls".to_owned(), "accuracy, and how far it is from the model's".to_owned()));
    for (name, control) in found.listed() {
        let shown = match control {
            Measured::Present(c) => {
                format!("{}, {}", share(&c.accuracy), difference_in_words(&c.difference))
            }
            Measured::Absent { absent } => format!("none: {absent}"),
        };
        lines.push((format!("  {name}"), shown));
    }
    let more = found.more_wins.iter().map(|(name, share)| format!("{name} {}", percent(*share)));
    lines.push(("  more of it wins".to_owned(), more.collect::<Vec<_>>().join(", ")));
    for finding in found.findings() {
        lines.push(("  note".to_owned(), finding));
    }
}

fn worst(i: usize, example: &Example) -> (String, String) {
    let subset = example.subset.as_ref().map_or_else(String::new, |s| format!(" ({s})"));
    let prompt =
        example.texts.as_ref().map_or_else(String::new, |t| format!(": {}", beginning(&t.prompt)));
    let label = if i == 0 { "ranked worst" } else { "" };
    (
        label.to_owned(),
        format!("line {}{subset}, margin {:.3}{prompt}", example.line, example.margin),
    )
}

/// The first words of a prompt, on one line.
fn beginning(content: &Content) -> String {
    const MOST: usize = 60;
    let text = match content {
        Content::Text(text) => text.as_str(),
        Content::Messages(turns) => turns.last().map_or("", |turn| &*turn.content),
    };
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(MOST).filter(|c| !c.is_control()).collect();
    if words.chars().count() > MOST { format!("{shown}..") } else { shown }
}
