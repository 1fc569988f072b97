//! Rows that can be scored or embedded: single responses, candidates, pairs, texts.

use super::columns::{self, ColumnNames, PROMPTS, refuse_unreadable, take_system, with_system};
use super::content::{CONTENT, describe, is_nothing, missing, take_content};
use super::pairs::{Judged, Reading, RowProblem, take_judged_pairs, take_repeated_prompt};
use super::ranked::{ScoredRow, take_list};
use super::records::Fields;
use crate::error::{Problem, WHOLE_ROW};
use lens_core::{Content, Exchange, PreferencePair};
use serde_json::Value;

/// One row of a file to be scored or embedded.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoreRow {
    /// `prompt` and `response` (TRL's `completion`); or `messages`, a conversation that ends with it.
    Single(Exchange),
    /// `prompt` and `responses`.
    Candidates {
        /// The prompt; empty text where the row has none.
        prompt: Content,
        /// The answers, in the order of the file, at least one.
        responses: Vec<Content>,
    },
    /// `chosen` and `rejected`, in every shape that [`read_pairs`](super::read_pairs) reads.
    Pair(PreferencePair),
    /// `text`, for embedding.
    Text(String),
}

const EXPECTED: &str = "prompt with response (or completion), prompt with responses, chosen with \
                        rejected, messages, or text";

/// Reads a row by the first of these that it has: `chosen` or `rejected`, `responses`, `response`,
/// `completion`, `messages`, `text`, or any other shape of pairs. What stays in `fields` is metadata.
pub(crate) fn take_row(
    fields: &mut Fields,
    reading: Reading<'_>,
) -> Result<Vec<ScoreRow>, RowProblem> {
    reading.columns.apply(fields)?;
    refuse_unreadable(fields)?;
    let reading = Reading { columns: &ColumnNames::default(), ..reading };
    let has = |name| fields.contains_key(name);
    if has("chosen") || has("rejected") {
        return take_pairs(fields, reading);
    }
    if has("responses") {
        return Ok(vec![take_candidates(fields)?]);
    }
    if let Some(name) = ["response", "completion"].into_iter().find(|name| has(name)) {
        let prompt = take_prompt_column(fields)?;
        let response = take_content(fields, name)?;
        let (prompt, responses) = without_repetition(prompt, vec![response]);
        return match responses.into_iter().next() {
            Some(response) => Ok(vec![ScoreRow::Single(Exchange { prompt, response })]),
            None => Err(missing(name, "a response", fields).into()),
        };
    }
    if has("messages") && !has("rejected_response") && !has("rejected_messages") {
        return Ok(vec![ScoreRow::Single(take_conversation(fields)?)]);
    }
    match fields.shift_remove("text") {
        Some(Value::String(text)) => Ok(vec![ScoreRow::Text(text)]),
        Some(other) => Err(Problem::new("text", "text", describe(&other)).into()),
        None => {
            let before = fields.clone();
            take_pairs(fields, reading).map_err(|problem| match problem {
                RowProblem::Malformed(p) if p.field == "chosen" => {
                    missing(WHOLE_ROW, EXPECTED, &before).into()
                }
                problem => problem,
            })
        }
    }
}

fn take_pairs(fields: &mut Fields, reading: Reading<'_>) -> Result<Vec<ScoreRow>, RowProblem> {
    match take_judged_pairs(fields, Reading { no_prompt: true, ..reading })? {
        Judged::Pairs(pairs, _) => Ok(pairs.into_iter().map(ScoreRow::Pair).collect()),
        Judged::Rating(ScoredRow { prompt, responses, .. }) => Ok(responses
            .into_iter()
            .map(|response| ScoreRow::Single(Exchange { prompt: prompt.clone(), response }))
            .collect()),
    }
}

/// The prompt of a response to be scored: it must have a column, and may be empty text.
fn take_prompt_column(fields: &mut Fields) -> Result<Content, Problem> {
    if let Some(value) =
        fields.get("prompt").filter(|value| !value.is_string() && is_nothing(value))
    {
        return Err(Problem::new("prompt", CONTENT, describe(value)));
    }
    let blank = fields.get("prompt").and_then(Value::as_str).map(str::to_owned);
    let prompt = columns::take_prompt(fields, &[])?;
    let system = take_system(fields)?;
    match (prompt.content, blank) {
        (Some(prompt), _) => with_system(prompt, system),
        (None, Some(blank)) => with_system(Content::Text(blank), system),
        (None, None) => Err(missing("prompt", CONTENT, fields)),
    }
}

/// The prompt of a row: of a pair, or the column that holds one. What stays in `fields` is metadata.
pub(crate) fn take_prompt(
    fields: &mut Fields,
    reading: Reading<'_>,
) -> Result<Content, RowProblem> {
    reading.columns.apply(fields)?;
    let reading = Reading { columns: &ColumnNames::default(), no_prompt: true };
    let has = |name| fields.contains_key(name);
    let pair = (has("chosen") && has("rejected")) || (has("context") && has("completions"));
    let mut prompt = None;
    if pair {
        let before = fields.clone();
        match take_judged_pairs(fields, reading) {
            Ok(Judged::Pairs(pairs, _)) => {
                prompt = pairs.into_iter().next().map(|pair| pair.prompt)
            }
            Ok(Judged::Rating(row)) => prompt = Some(row.prompt),
            // Several responses a side are no pair, but they answer one prompt.
            Err(RowProblem::BestOfN(_)) => *fields = before,
            Err(problem) => return Err(problem),
        }
    }
    let prompt = match prompt {
        Some(prompt) => prompt,
        None => {
            if !PROMPTS.iter().any(|name| fields.contains_key(*name)) {
                return Err(missing("prompt", CONTENT, fields).into());
            }
            let found = columns::take_prompt(fields, &[])?.content;
            with_system(found.unwrap_or(Content::Text(String::new())), take_system(fields)?)?
        }
    };
    if prompt.is_blank() {
        return Err(Problem::new("prompt", "a prompt that is not blank", "a blank one").into());
    }
    Ok(prompt)
}

/// A whole conversation: what the side that speaks last says at its end is the response, and all
/// before it is the prompt.
fn take_conversation(fields: &mut Fields) -> Result<Exchange, Problem> {
    const FIELD: &str = "messages";
    const EXPECTED: &str = "a conversation that ends with a response";
    let mut turns = match take_content(fields, FIELD)? {
        Content::Messages(turns) => turns,
        Content::Text(text) => {
            return Err(Problem::new(FIELD, EXPECTED, describe(&Value::String(text))));
        }
    };
    let role = match turns.last() {
        Some(last) if ["user", "system", "tool"].contains(&last.role.as_str()) => {
            return Err(Problem::new(FIELD, EXPECTED, format!("a last turn of the {}", last.role)));
        }
        Some(last) => last.role.clone(),
        None => return Err(Problem::new(FIELD, EXPECTED, "no message")),
    };
    let start = turns.iter().rposition(|turn| turn.role != role).map_or(0, |at| at + 1);
    let response = Content::Messages(turns.split_off(start));
    Ok(Exchange { prompt: Content::Messages(turns), response })
}

fn take_candidates(fields: &mut Fields) -> Result<ScoreRow, Problem> {
    let prompt = take_prompt_column(fields)?;
    let responses = take_list(fields, "responses")?;
    let (prompt, responses) = without_repetition(prompt, responses);
    Ok(ScoreRow::Candidates { prompt, responses })
}

/// Rows to be scored must look like those trained on: message responses that repeat the prompt lose
/// it, as pairs do.
pub(super) fn without_repetition(
    prompt: Content,
    responses: Vec<Content>,
) -> (Content, Vec<Content>) {
    if responses.iter().any(|response| matches!(response, Content::Text(_))) {
        return (prompt, responses);
    }
    let mut sides: Vec<_> = responses
        .into_iter()
        .filter_map(|response| match response {
            Content::Messages(messages) => Some(messages),
            Content::Text(_) => None,
        })
        .collect();
    let prompt = match take_repeated_prompt(&prompt, &mut sides) {
        Some(turns) => Content::Messages(turns),
        None => prompt,
    };
    (prompt, sides.into_iter().map(Content::Messages).collect())
}
