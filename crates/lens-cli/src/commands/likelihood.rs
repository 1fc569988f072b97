//! `lens likelihood`: how likely responses are to a language model, one line a row, in their order.

use crate::args::LikelihoodArgs;
use crate::commands::embed::check_output;
use crate::embedding::open_generator;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{Exchange, Progress};
use lens_data::{Row, ScoreRow, read_exchanges_with, write_atomic_with};
use lens_encoder::LogLikelihood;
use serde_json::{Value, json};

/// Runs the command.
pub fn run(
    args: &LikelihoodArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    if let Some(output) = &args.output {
        check_output(&args.file, output)?;
    }
    let set = read_exchanges_with(&args.file, &settings.reading(), reporter)?;
    if settings.strict
        && let Some(row) = set.rows.iter().find(|r| matches!(r.value, ScoreRow::Text(_)))
    {
        return Err(CliError::Refused(format!("line {}: {NO_RESPONSE}", row.line)));
    }
    let exchanges: Vec<Exchange> = set.rows.iter().flat_map(|r| exchanges_of(&r.value)).collect();
    if exchanges.is_empty() {
        return Err(CliError::Refused(format!("{}: {NO_RESPONSE}", args.file.display())));
    }
    let generator = open_generator(settings, reporter)?;
    let likely = generator.log_likelihoods(&exchanges, reporter)?;
    reporter.go_on()?;

    // Malformed rows are answered in their place, so that lines never shift.
    let mut next = likely.iter();
    let mut answers: Vec<(u64, Value)> =
        set.rows.iter().map(|row| (row.line, answer(row, &mut next))).collect();
    answers.extend(set.malformed.iter().map(|m| (m.line, json!({"error": m.to_string()}))));
    answers.sort_by_key(|(line, _)| *line);
    match &args.output {
        Some(path) => write_atomic_with(path, |file| {
            answers.iter().try_for_each(|(line, answer)| {
                serde_json::to_writer(&mut *file, &numbered(*line, answer))?;
                file.write_all(b"\n")
            })
        })?,
        None => {
            for (line, answer) in &answers {
                if settings.json {
                    output::json(&numbered(*line, answer))?;
                } else {
                    output::line(&format!("{line}\t{}", plain(answer)))?;
                }
            }
        }
    }

    let shortened = likely.iter().filter(|l| l.truncated).count();
    if shortened > 0 {
        reporter.note(&format!(
            "{shortened} of {} texts are longer than {} tokens and lost the beginning of the \
             prompt (max_length)",
            likely.len(),
            settings.max_length.min(generator.spec().context),
        ));
    }
    let errors = answers.iter().filter(|(_, a)| a.get("error").is_some()).count();
    if errors > 0 {
        reporter.note(&format!("{errors} of {} rows have no likelihood", set.read));
    }
    if let Some(line) = of_pairs(&set.rows, &likely) {
        reporter.note(&line);
    }
    Ok(())
}

const NO_RESPONSE: &str = "a row of text has no response whose likelihood could be asked";

/// What is asked of a row, in the order of its answer.
fn exchanges_of(row: &ScoreRow) -> Vec<Exchange> {
    match row {
        ScoreRow::Single(exchange) => vec![exchange.clone()],
        ScoreRow::Candidates { prompt, responses } => responses
            .iter()
            .map(|r| Exchange { prompt: prompt.clone(), response: r.clone() })
            .collect(),
        ScoreRow::Pair(pair) => vec![pair.chosen_exchange(), pair.rejected_exchange()],
        ScoreRow::Text(_) => Vec::new(),
    }
}

fn answer<'a>(row: &Row<ScoreRow>, likely: &mut impl Iterator<Item = &'a LogLikelihood>) -> Value {
    let mut next = || likely.next().map_or((f64::NAN, 0), |l| (l.sum, l.tokens));
    match &row.value {
        ScoreRow::Single(_) => {
            let (sum, tokens) = next();
            json!({"log_likelihood": sum, "tokens": tokens})
        }
        ScoreRow::Candidates { responses, .. } => {
            let (sums, tokens): (Vec<f64>, Vec<usize>) = responses.iter().map(|_| next()).unzip();
            json!({"log_likelihoods": sums, "tokens": tokens})
        }
        ScoreRow::Pair(_) => {
            let ((chosen, c), (rejected, r)) = (next(), next());
            json!({"chosen": chosen, "rejected": rejected, "chosen_tokens": c, "rejected_tokens": r})
        }
        ScoreRow::Text(_) => json!({"error": NO_RESPONSE}),
    }
}

fn numbered(line: u64, answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer["line"] = line.into();
    answer
}

/// Log-likelihoods with their tokens, for people.
fn plain(answer: &Value) -> String {
    let one = |sum: &Value, tokens: &Value| {
        format!("{:.4} ({tokens} tokens)", sum.as_f64().unwrap_or(f64::NAN))
    };
    if let Some(error) = answer["error"].as_str() {
        return format!("error: {error}");
    }
    if let (Some(sums), Some(tokens)) =
        (answer["log_likelihoods"].as_array(), answer["tokens"].as_array())
    {
        return sums.iter().zip(tokens).map(|(s, t)| one(s, t)).collect::<Vec<_>>().join("\t");
    }
    if answer.get("chosen").is_some() {
        return format!(
            "chosen {}\trejected {}",
            one(&answer["chosen"], &answer["chosen_tokens"]),
            one(&answer["rejected"], &answer["rejected_tokens"])
        );
    }
    one(&answer["log_likelihood"], &answer["tokens"])
}

/// In which share of the pairs the chosen response is likelier; a tie counts one half.
fn of_pairs(rows: &[Row<ScoreRow>], likely: &[LogLikelihood]) -> Option<String> {
    let (mut pairs, mut by_sum, mut by_token, mut at) = (0, 0.0, 0.0, 0);
    let wins = |a: f64, b: f64| if a == b { 0.5 } else { f64::from(u8::from(a > b)) };
    for row in rows {
        let n = exchanges_of(&row.value).len();
        if let (ScoreRow::Pair(_), Some([c, r])) = (&row.value, likely.get(at..at + n)) {
            pairs += 1;
            by_sum += wins(c.sum, r.sum);
            by_token += wins(c.sum / c.tokens as f64, r.sum / r.tokens as f64);
        }
        at += n;
    }
    let share = |x: f64| output::percent(x / f64::from(pairs));
    (pairs > 0).then(|| {
        format!(
            "chosen is likelier in {} of {pairs} pairs; per token in {}",
            share(by_sum),
            share(by_token)
        )
    })
}
