//! `lens score`: rewards for rows of text, one line a row, in their order.

use crate::args::ScoreArgs;
use crate::embedding::{check_arrays, encoder_of_bundle, matrix, note_truncated};
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{Exchange, Progress, Rows, Threads};
use lens_data::bundle::Bundle;
use lens_data::{ScoreRow, StoredTable, read_exchanges_with};
use serde_json::{Map, Value, json};

/// Runs the command.
pub fn run(args: &ScoreArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let bundle = Bundle::read(&args.bundle)?;
    if args.file.extension().is_some_and(|e| e == "safetensors" || e == "npy") {
        return arrays(&bundle, args, settings, reporter);
    }
    let options = settings.reading();
    let set = read_exchanges_with(&args.file, &options, reporter)?;
    let encoder =
        encoder_of_bundle(&bundle, &args.bundle, args.model.as_deref(), settings, reporter)?;

    let (mut exchanges, mut texts) = (Vec::new(), Vec::new());
    for row in &set.rows {
        match &row.value {
            ScoreRow::Single(exchange) => exchanges.push(exchange.clone()),
            ScoreRow::Candidates { prompt, responses } => {
                exchanges.extend(responses.iter().map(|response| Exchange {
                    prompt: prompt.clone(),
                    response: response.clone(),
                }));
            }
            ScoreRow::Pair(pair) => {
                exchanges.extend([pair.chosen_exchange(), pair.rejected_exchange()]);
            }
            ScoreRow::Text(text) => texts.push(text.clone()),
        }
    }
    let mut encoded = encoder.encode_exchanges(&exchanges, reporter)?;
    encoded.extend(encoder.encode_texts(&texts, reporter)?);
    note_truncated(&encoded, encoder.identity().max_length, reporter);
    let embeddings = matrix(encoded.iter(), encoder.dim())?;
    let rewards = rewards(&bundle, &embeddings, settings)?;
    let (mut of_exchanges, mut of_texts) = {
        let (a, b) = rewards.split_at(exchanges.len());
        (a.iter().copied(), b.iter().copied())
    };

    // Malformed rows are answered in their place, so that lines never shift.
    let mut malformed = set.malformed.iter().peekable();
    for row in &set.rows {
        while let Some(bad) = malformed.next_if(|m| m.line < row.line) {
            error_line(bad, settings)?;
        }
        let mut next = || of_exchanges.next().unwrap_or_default();
        let answer = match &row.value {
            ScoreRow::Single(_) => json!({"reward": next()}),
            ScoreRow::Candidates { responses, .. } => {
                let rewards: Vec<f64> = responses.iter().map(|_| next()).collect();
                json!({ "rewards": rewards })
            }
            ScoreRow::Pair(_) => json!({"chosen": next(), "rejected": next()}),
            ScoreRow::Text(_) => json!({"reward": of_texts.next().unwrap_or_default()}),
        };
        print(row.line, answer, settings)?;
    }
    for bad in malformed {
        error_line(bad, settings)?;
    }
    if !set.malformed.is_empty() {
        let (bad, read) = (set.malformed.len(), set.read);
        reporter.note(&format!("{bad} of {read} rows are malformed and have no reward"));
    }
    Ok(())
}

fn rewards(
    bundle: &Bundle,
    embeddings: &dyn Rows,
    settings: &Settings,
) -> Result<Vec<f64>, CliError> {
    let rewards = bundle.model.rewards(embeddings, Threads::available())?;
    let value = |&r: &f32| {
        if settings.normalise { bundle.model.normalise(r) } else { f64::from(r) }
    };
    Ok(rewards.iter().map(value).collect())
}

/// Scores stored embeddings, a row each.
fn arrays(
    bundle: &Bundle,
    args: &ScoreArgs,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let table = StoredTable::open(&args.file, args.key.as_deref(), reporter)?;
    check_arrays(bundle, table.encoder.as_ref(), &args.file, reporter)?;
    let rewards = rewards(bundle, &*table.rows, settings);
    table.check_reads()?;
    for (i, reward) in rewards?.into_iter().enumerate() {
        print(i as u64 + 1, json!({"reward": reward}), settings)?;
    }
    Ok(())
}

fn error_line(bad: &lens_data::MalformedRow, settings: &Settings) -> Result<(), CliError> {
    print(bad.line, json!({"error": bad.to_string()}), settings)
}

fn print(line: u64, answer: Value, settings: &Settings) -> Result<(), CliError> {
    let Value::Object(mut answer) = answer else { return Ok(()) };
    if settings.json {
        answer.insert("line".to_owned(), line.into());
        return output::json(&answer);
    }
    output::line(&format!("{line}\t{}", plain(&answer)))
}

fn plain(answer: &Map<String, Value>) -> String {
    let number = |v: &Value| v.as_f64().map_or_else(|| v.to_string(), |x| format!("{x:.4}"));
    let shown = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("reward", v) => number(v),
        ("rewards", Value::Array(all)) => all.iter().map(number).collect::<Vec<_>>().join("\t"),
        ("error", Value::String(text)) => format!("error: {text}"),
        (key, v) => format!("{key} {}", number(v)),
    };
    answer.iter().map(shown).collect::<Vec<_>>().join("\t")
}
