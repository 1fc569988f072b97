//! Rows that can be scored or embedded: single responses, candidates, pairs, texts.

use super::content::{describe, missing, take_content};
use super::pairs::{RowProblem, take_pair, take_repeated_prompt};
use super::ranked::take_list;
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

/// Reads a row by the first of these that it has: `chosen` or `completions`, `responses`,
/// `response`, `completion`, `messages`, `text`. What stays in `fields` is metadata.
pub(crate) fn take_row(fields: &mut Fields) -> Result<ScoreRow, RowProblem> {
    let has = |name| fields.contains_key(name);
    if has("chosen") || has("rejected") || (has("context") && has("completions")) {
        return Ok(ScoreRow::Pair(take_pair(fields)?.0));
    }
    if has("responses") {
        return Ok(take_candidates(fields)?);
    }
    if let Some(name) = ["response", "completion"].into_iter().find(|name| has(name)) {
        let prompt = take_content(fields, "prompt")?;
        let response = take_content(fields, name)?;
        let (prompt, responses) = without_repetition(prompt, vec![response]);
        return match responses.into_iter().next() {
            Some(response) => Ok(ScoreRow::Single(Exchange { prompt, response })),
            None => Err(missing(name, "a response", fields).into()),
        };
    }
    if has("messages") {
        return Ok(ScoreRow::Single(take_conversation(fields)?));
    }
    match fields.shift_remove("text") {
        Some(Value::String(text)) => Ok(ScoreRow::Text(text)),
        Some(other) => Err(Problem::new("text", "text", describe(&other)).into()),
        None => Err(missing(WHOLE_ROW, EXPECTED, fields).into()),
    }
}

/// The prompt of a row: of a pair, or the `prompt` column. What stays in `fields` is metadata.
pub(crate) fn take_prompt(fields: &mut Fields) -> Result<Content, RowProblem> {
    let has = |name| fields.contains_key(name);
    let pair = (has("chosen") && has("rejected")) || (has("context") && has("completions"));
    let prompted = has("prompt");
    let prompt = if pair {
        match take_pair(fields) {
            Ok((pair, _)) => pair.prompt,
            // Several responses a side are no pair, but they answer one prompt.
            Err(RowProblem::BestOfN(_)) if prompted => take_content(fields, "prompt")?,
            Err(problem) => return Err(problem),
        }
    } else {
        take_content(fields, "prompt")?
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
    let prompt = take_content(fields, "prompt")?;
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
