//! `lens embed`: texts or pairs to hidden states, stored as safetensors.

use crate::args::EmbedArgs;
use crate::embedding::{encoder_of_bundle, encoder_record, note_truncated, open_encoder};
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{Content, Exchange, Label, Progress};
use lens_data::bundle::Bundle;
use lens_data::{
    Array2, AtomicFile, EmbeddingsFile, PromptColumn, Row, ScoreRow, prompt_key, prompt_numbers,
    read_exchanges_with,
};
use lens_encoder::{Encoded, TextEncoder};
use serde_json::json;
use std::path::Path;

/// Runs the command.
pub fn run(args: &EmbedArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let start = std::time::Instant::now();
    check_output(&args.file, &args.output)?;
    let options = settings.reading();
    let set = read_exchanges_with(&args.file, &options, reporter)?;
    for row in &set.malformed {
        reporter.note(&format!("left out: {row}"));
    }
    let (encoder, model) = match &args.like {
        None => (open_encoder(settings, reporter)?, settings.model.clone()),
        Some(path) => {
            let bundle = Bundle::read(path)?;
            let named = args.encoder.text.model.as_deref();
            let encoder = encoder_of_bundle(&bundle, path, named, settings, reporter)?;
            let recorded = bundle.manifest.encoder.map(|record| record.model);
            let model = named.map(str::to_owned).or(recorded);
            (encoder, model.unwrap_or_else(|| settings.model.clone()))
        }
    };
    let arrays = embed(&set.rows, encoder.as_ref(), reporter)?;
    note_truncated(&arrays.encoded, encoder.identity().max_length, reporter);
    let tensors: Vec<(&str, &Array2)> = arrays.tensors.iter().map(|(n, a)| (*n, a)).collect();
    let prompts = match arrays.prompts.as_slice() {
        [] => PromptColumn::None,
        keys if arrays.tensors.len() == 2 => PromptColumn::Keys(keys),
        numbers => PromptColumn::Numbers(numbers),
    };
    let file = EmbeddingsFile {
        tables: &tensors,
        dtype: settings.dtype,
        lines: &arrays.rows,
        prompts,
        labels: &arrays.labels,
        encoder: &encoder_record(encoder.as_ref(), &model),
    };
    reporter.go_on()?;
    file.write(&args.output)?;

    let stats = encoder.stats();
    let shapes: serde_json::Map<String, serde_json::Value> =
        tensors.iter().map(|(n, a)| ((*n).to_owned(), json!(a.shape()))).collect();
    let seconds = start.elapsed().as_secs_f64();
    if settings.json {
        return output::json(&json!({
            "read": set.read, "embedded": set.rows.len(), "malformed": set.malformed.len(),
            "tensors": shapes, "dtype": settings.dtype, "output": args.output, "seconds": seconds,
            "tokens": stats.tokens, "computed": stats.computed,
        }));
    }
    let tensors: Vec<String> =
        tensors.iter().map(|(n, a)| format!("{n} [{}, {}]", a.rows, a.dim)).collect();
    output::line(&output::aligned(&[
        ("rows".into(), format!("{} read, {} malformed", set.read, set.malformed.len())),
        ("tensors".into(), tensors.join(", ")),
        (
            "tokens".into(),
            format!(
                "{}, of which computed {} in {seconds:.1} s",
                output::thousands(stats.tokens),
                output::thousands(stats.computed)
            ),
        ),
        ("file".into(), args.output.display().to_string()),
    ]))
}

/// Whether the output can be written: asked before hours of embedding. A store is replaced without
/// a question, as by other tools with `-o`; the rows it is made of are not.
pub fn check_output(file: &Path, output: &Path) -> Result<(), CliError> {
    let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    if same(file, output) == Some(true) {
        return Err(CliError::Refused(format!(
            "{}: is the very file that is read; choose another with -o",
            output.display()
        )));
    }
    Ok(AtomicFile::check(output)?)
}

/// What goes into the file.
struct Arrays {
    tensors: Vec<(&'static str, Array2)>,
    rows: Vec<i64>,
    prompts: Vec<i64>,
    /// Of pairs.
    labels: Vec<Label>,
    encoded: Vec<Encoded>,
}

fn embed(
    rows: &[Row<ScoreRow>],
    encoder: &dyn TextEncoder,
    progress: &dyn Progress,
) -> Result<Arrays, CliError> {
    let (mut texts, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lines, mut prompts): (Vec<i64>, Vec<&Content>) = (Vec::new(), Vec::new());
    let mut labels = Vec::new();
    let (mut key, mut keys) = (None, Vec::new());
    for row in rows {
        let line = row.line.cast_signed();
        let kind = match &row.value {
            ScoreRow::Text(text) => {
                lines.push(line);
                texts.push(text.clone());
                "text"
            }
            ScoreRow::Single(exchange) => {
                lines.push(line);
                prompts.push(&exchange.prompt);
                first.push(exchange.clone());
                "response"
            }
            ScoreRow::Candidates { prompt, responses } => {
                for response in responses {
                    lines.push(line);
                    prompts.push(prompt);
                    first.push(Exchange { prompt: prompt.clone(), response: response.clone() });
                }
                "responses"
            }
            ScoreRow::Pair(pair) => {
                lines.push(line);
                labels.push(pair.label());
                keys.push(prompt_key(pair));
                first.push(pair.chosen_exchange());
                second.push(pair.rejected_exchange());
                "chosen"
            }
        };
        match key {
            None => key = Some((kind, row.line)),
            Some((known, line)) if known != kind => {
                return Err(CliError::Refused(format!(
                    "line {line} is a row with `{known}`, line {} one with `{kind}`: rows of one \
                     kind go into one file",
                    row.line
                )));
            }
            Some(_) => {}
        }
    }
    let key = key.map_or("text", |(k, _)| k);
    let n = first.len();
    let encoded = if key == "text" {
        encoder.encode_texts(&texts, progress)?
    } else {
        first.extend(second);
        encoder.encode_exchanges(&first, progress)?
    };
    let array = |part: &[Encoded]| -> Result<Array2, CliError> {
        let data = part.iter().flat_map(|e| e.vector.iter().copied()).collect();
        Ok(Array2::new(part.len(), encoder.dim(), data)?)
    };
    let tensors = match key {
        "text" => vec![("text", array(&encoded)?)],
        "chosen" => vec![("chosen", array(&encoded[..n])?), ("rejected", array(&encoded[n..])?)],
        other => vec![(other, array(&encoded)?)],
    };
    let prompts = match keys.is_empty() {
        true => prompt_numbers(prompts.into_iter()).into_iter().map(i64::from).collect(),
        false => keys,
    };
    Ok(Arrays { tensors, rows: lines, prompts, labels, encoded })
}
