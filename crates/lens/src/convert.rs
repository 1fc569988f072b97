//! Preference pairs of any shape as TRL has them: prompt, chosen, rejected.

use crate::data_source;
use crate::error::stop_if_cancelled;
use crate::notes;
use crate::options::RuntimeOptions;
use crate::outputs::{Written, check_new, check_output};
use crate::{Error, Progress};
use lens_core::{Content, PreferencePair};
use lens_data::turns::turns;
use lens_data::{
    DataSource, ReadOptions, Row, Table, TableFormat, TableRow, VetReport, Vetted, read_pairs_with,
    vet,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What [`convert()`] is told.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Preference pairs in any shape that is read.
    pub pairs: DataSource,
    /// The file to write: `.jsonl`, `.csv`, `.tsv` (each also with `.gz` or `.zst`) or `.parquet`.
    pub output: PathBuf,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
    /// Write the pairs that training would leave out (duplicates, contradictions, blank sides) as well.
    /// Defaults to `false`.
    pub all: bool,
    /// Replace a file that is there. Defaults to `false`.
    pub overwrite: bool,
    /// Where datasets of the Hub are kept.
    pub runtime: RuntimeOptions,
}

impl ConvertOptions {
    /// The defaults, for pairs and a file to write.
    pub fn new(pairs: impl Into<DataSource>, output: impl Into<PathBuf>) -> Self {
        ConvertOptions {
            pairs: pairs.into(),
            output: output.into(),
            reading: ReadOptions::default(),
            all: false,
            overwrite: false,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// What [`convert()`] did. Serialises to what `lens convert --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvertResult {
    /// What became of the rows.
    pub pairs: VetReport,
    /// Pairs written.
    pub written: usize,
    /// The file.
    pub output: PathBuf,
}

/// Writes preference pairs as rows of `prompt`, `chosen`, `rejected` (text or messages, as they were
/// read), with `margin` and `tie` where any pair has one, and all columns that were not read.
///
/// # Errors
/// What is wrong with the pairs or the output.
pub fn convert(options: &ConvertOptions, progress: &dyn Progress) -> Result<ConvertResult, Error> {
    TableFormat::of_name(&options.output)?;
    check_output(&options.pairs, &options.output)?;
    check_new(&options.output, options.overwrite, "-o", Written::Rows)?;
    let input = data_source::resolve(&options.pairs, &options.runtime, progress)?;
    let data = read_pairs_with(&input, &options.reading, progress)?;
    notes::malformed(&data.malformed, progress);
    notes::layout(&data, progress);
    let mut vetted = match options.all {
        false => vet(data),
        true => {
            let several = data.layout.files.len() > 1;
            let report = VetReport::all_but_malformed(data.pairs.len(), &data.malformed, several);
            Vetted::new(data.pairs, report)
        }
    };
    if vetted.used.is_empty() {
        let (path, left_out) = (options.pairs.name(), vetted.report.summary());
        return Err(Error::NothingToTrainOn { path, left_out });
    }
    stop_if_cancelled(progress)?;
    let (written, output) = (vetted.used.len(), options.output.clone());
    Table::new(rows(std::mem::take(&mut vetted.used))).write(&options.output)?;
    Ok(ConvertResult { pairs: vetted.report, written, output })
}

/// The pairs as rows of TRL. It takes text or messages, but one of them throughout: where any pair has
/// messages, the texts of the others become messages too.
fn rows(pairs: Vec<Row<PreferencePair>>) -> Vec<TableRow> {
    let is_messages = |content: &Content| matches!(content, Content::Messages(_));
    let conversational = pairs.iter().any(|row| {
        let PreferencePair { prompt, chosen, rejected, .. } = &row.value;
        [prompt, chosen, rejected].into_iter().any(is_messages)
    });
    pairs.into_iter().map(|row| table_row(row, conversational)).collect()
}

/// A pair as a row: its prompt, unless it has none, both responses, its label, and the columns that were
/// not read.
fn table_row(row: Row<PreferencePair>, conversational: bool) -> TableRow {
    let pair = row.value;
    let (margin, tie, no_prompt) = (pair.margin, pair.tie, pair.prompt.is_blank());
    let [prompt, chosen, rejected] = match conversational {
        true => as_messages(&pair),
        false => [pair.prompt, pair.chosen, pair.rejected].map(|content| match content {
            Content::Text(text) => Value::String(text),
            messages => json!(messages),
        }),
    };
    let mut fields = TableRow::new();
    if !no_prompt || conversational {
        fields.insert("prompt".to_owned(), prompt);
    }
    fields.insert("chosen".to_owned(), chosen);
    fields.insert("rejected".to_owned(), rejected);
    if let Some(margin) = margin {
        fields.insert("margin".to_owned(), json!(margin));
    }
    if tie {
        fields.insert("tie".to_owned(), Value::Bool(true));
    }
    for (name, value) in row.metadata {
        fields.entry(name).or_insert(value);
    }
    fields
}

/// Prompt, chosen and rejected as turns.
fn as_messages(pair: &PreferencePair) -> [Value; 3] {
    let (chosen, of_prompt) = turns(&pair.chosen_exchange());
    let (rejected, of_other) = turns(&pair.rejected_exchange());
    let shared = of_prompt.min(of_other);
    [json!(chosen[..shared]), json!(chosen[shared..]), json!(rejected[shared..])]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rows_of(pairs: Value) -> Value {
        let pairs: Vec<PreferencePair> = serde_json::from_value(pairs).unwrap();
        let pairs = (1..).zip(pairs).map(|(line, pair)| Row::new(line, pair, TableRow::new()));
        json!(rows(pairs.collect()))
    }

    #[test]
    fn text_stays_text_and_one_row_of_messages_makes_all_of_them_messages() {
        let text = json!({"prompt": "p", "chosen": "c", "rejected": "r", "margin": 2.0});
        assert_eq!(rows_of(json!([text])), json!([text]));
        let no_prompt = json!({"prompt": "", "chosen": "c", "rejected": "r", "tie": true});
        let expected = json!([{"chosen": "c", "rejected": "r", "tie": true}]);
        assert_eq!(rows_of(json!([no_prompt])), expected);

        let said = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        let messages = json!({"prompt": said("user", "q"), "chosen": said("assistant", "a"),
            "rejected": said("assistant", "b")});
        let transcript =
            json!({"prompt": "\n\nHuman: p\n\nAssistant:", "chosen": " c", "rejected": " r"});
        let expected = json!([
            {"prompt": said("user", "p"), "chosen": said("assistant", "c"),
             "rejected": said("assistant", "r"), "margin": 2.0},
            messages,
            {"prompt": said("user", "p"), "chosen": said("assistant", "c"),
             "rejected": said("assistant", "r")},
        ]);
        assert_eq!(rows_of(json!([text, messages, transcript])), expected);
    }
}
