//! The shapes in which preference pairs come, and the one shape they are brought to.

use super::columns::{
    ColumnNames, refuse_unread_text, refuse_unreadable, take_prompt, take_system, with_system,
};
use super::content::{CONTENT, describe, missing, number, take_content, truth};
use super::ranked::ScoredRow;
use super::ranked::take_list;
use super::records::Fields;
use super::{rated, verdicts};
use crate::error::Problem;
use lens_core::{Content, Message, PreferencePair};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Where the prompt of a transcript ends and its response begins.
const TRANSCRIPT_TURN: &str = "\n\nAssistant:";
/// The beginning of a transcript, after white space.
const TRANSCRIPT_START: &str = "Human:";

/// The shape in which a pair stood in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Shape {
    /// `prompt`, `chosen`, `rejected`, all text (RewardBench 1 among them).
    Text,
    /// `prompt` as messages or text, responses as messages or text, at least one of them messages.
    Messages,
    /// As [`Shape::Messages`], but the responses repeat the prompt, which was removed from them.
    RepeatedPrompt,
    /// `chosen` and `rejected` messages that begin with the same turns: the prompt.
    ImplicitMessages,
    /// `chosen` and `rejected` transcripts (`\n\nHuman: ..\n\nAssistant: ..`) with common turns.
    Transcript,
    /// `chosen` and `rejected` text without any prompt.
    NoPrompt,
    /// `context` and ranked `completions` (NeMo-RL): each better one against each worse one.
    Ranked,
    /// `conversations` and a response a side (ShareGPT, LLaMA-Factory).
    ShareGpt,
    /// `instruction`, with `input` where there is one, and a response a side (Alpaca, LLaMA-Factory).
    Alpaca,
    /// `messages` that end with the preferred response, and `rejected_response` (ms-swift).
    RejectedResponse,
    /// One preferred response and several others: a pair of each.
    SeveralRejected,
    /// Several responses in a row with a rating or a rank each: each better one against each worse one.
    Rated,
    /// A rated response a row, brought together by prompt: each better one against each worse one.
    RatedRows,
    /// Two responses and a column that says which is better, or that both are as good.
    Verdict,
    /// Two responses and the answer of a questionnaire (Argilla, Label Studio).
    Annotated,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Text => "prompt, chosen, rejected as text",
            Shape::Messages => "prompt, chosen, rejected as messages",
            Shape::RepeatedPrompt => "messages, with the prompt repeated in the responses",
            Shape::ImplicitMessages => "chosen, rejected as whole conversations",
            Shape::Transcript => "chosen, rejected as whole transcripts",
            Shape::NoPrompt => "chosen, rejected without a prompt",
            Shape::Ranked => "context and ranked completions",
            Shape::ShareGpt => "conversations, chosen, rejected",
            Shape::Alpaca => "instruction, chosen, rejected",
            Shape::RejectedResponse => "messages, rejected_response",
            Shape::SeveralRejected => "one chosen and several rejected",
            Shape::Rated => "several rated responses",
            Shape::RatedRows => "a rated response a row",
            Shape::Verdict => "two responses and a verdict",
            Shape::Annotated => "two responses and an annotation",
        })
    }
}

/// Shapes with several responses a side, which no pair can be made of without a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BestOfN {
    /// RewardBench 2: lists of texts, with `num_correct` and `total_completions`.
    RewardBench2,
    /// RM-Bench: three texts a side and a `domain`.
    RmBench,
    /// Both `chosen` and `rejected` are lists of texts.
    Lists,
    /// One `prompt` with `responses` that nothing tells apart.
    Responses,
}

impl fmt::Display for BestOfN {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BestOfN::RewardBench2 => "RewardBench 2",
            BestOfN::RmBench => "RM-Bench",
            BestOfN::Lists => "list-valued",
            BestOfN::Responses => "`responses`",
        })
    }
}

/// Why a row is not what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RowProblem {
    Malformed(Problem),
    BestOfN(BestOfN),
}

impl From<Problem> for RowProblem {
    fn from(problem: Problem) -> Self {
        RowProblem::Malformed(problem)
    }
}

/// What a row says about responses.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Pairs of them, at least one.
    Pairs(Vec<PreferencePair>, Shape),
    /// A rating of one, to be compared with those of other rows.
    Rating(ScoredRow),
}

/// How rows are read as pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub columns: &'a ColumnNames,
    /// Whether pairs without a prompt are meant to have none.
    pub no_prompt: bool,
}

/// Reads what the row says about responses; what stays in `fields` is metadata.
pub(crate) fn take_judged_pairs(
    fields: &mut Fields,
    reading: Reading<'_>,
) -> Result<Judged, RowProblem> {
    reading.columns.apply(fields)?;
    refuse_unreadable(fields)?;
    let has = |fields: &Fields, name: &str| fields.contains_key(name);
    if has(fields, "chosen") || has(fields, "rejected") {
        return match best_of_n(fields) {
            Some(shape) => Err(RowProblem::BestOfN(shape)),
            None => take_sides(fields, reading),
        };
    }
    if has(fields, "rejected_response") || has(fields, "rejected_messages") {
        return Ok(Judged::Pairs(vec![take_rejected_response(fields)?], Shape::RejectedResponse));
    }
    if let Some(judged) = verdicts::take(fields)? {
        return Ok(judged);
    }
    if let Some(judged) = rated::take(fields)? {
        return Ok(judged);
    }
    if matches!(fields.get("responses"), Some(Value::Array(_))) {
        return Err(RowProblem::BestOfN(BestOfN::Responses));
    }
    if has(fields, "label") && (has(fields, "completion") || has(fields, "response")) {
        let expected =
            "two responses to compare: rows of KTO say of one response whether it is good";
        let label = describe(&fields["label"]);
        return Err(Problem::new("label", expected, label).into());
    }
    Err(missing("chosen", CONTENT, fields).into())
}

/// `chosen` and `rejected`, of which the latter may be a list of texts.
fn take_sides(fields: &mut Fields, reading: Reading<'_>) -> Result<Judged, RowProblem> {
    // Before anything is taken out, so that the error can name all the columns that are there.
    if let Some(side) = ["chosen", "rejected"].into_iter().find(|side| !fields.contains_key(*side))
    {
        return Err(missing(side, CONTENT, fields).into());
    }
    let sharegpt = fields.contains_key("conversations") && !fields.contains_key("prompt");
    let alpaca = fields.contains_key("instruction") && !fields.contains_key("prompt");
    let (margin, tie) = take_label(fields)?;
    let chosen = take_side(fields, "chosen")?;
    let rejected = take_side(fields, "rejected")?;
    let whole = matches!((&chosen[0], &rejected[0]), (Content::Messages(c), Content::Messages(r))
        if c.len() > 1 && r.len() > 1 && c[0] == r[0]);
    // Whole conversations have their prompt in them; what such rows call messages repeats a side.
    let skip: &[&str] = if whole { &["messages", "conversation"] } else { &[] };
    let prompt = take_prompt(fields, skip)?;
    let system = take_system(fields)?;
    let margin = match margin {
        None if !tie => margin_of_scores(fields)?,
        margin => margin,
    };
    let several = chosen.len() > 1 || rejected.len() > 1;
    let mut pairs = Vec::with_capacity(chosen.len() * rejected.len());
    let mut shape = Shape::NoPrompt;
    for chosen in &chosen {
        for rejected in &rejected {
            let sides = (prompt.content.clone(), chosen.clone(), rejected.clone());
            let (prompt, chosen, rejected, found) = split_prompt(sides)?;
            let prompt = with_system(prompt, system.clone())?;
            shape = found;
            pairs.push(PreferencePair { prompt, chosen, rejected, margin, tie });
        }
    }
    if shape == Shape::NoPrompt && prompt.column.is_none() && !reading.no_prompt {
        refuse_unread_text(fields)?;
    }
    let shape = match shape {
        _ if several => Shape::SeveralRejected,
        Shape::Text | Shape::Messages if sharegpt => Shape::ShareGpt,
        Shape::Text if alpaca => Shape::Alpaca,
        shape => shape,
    };
    Ok(Judged::Pairs(pairs, shape))
}

/// The responses of a side: one, or a list of texts.
fn take_side(fields: &mut Fields, name: &str) -> Result<Vec<Content>, Problem> {
    match texts(fields, name) {
        Some(_) => take_list(fields, name),
        None => Ok(vec![take_content(fields, name)?]),
    }
}

type Sides = (Option<Content>, Content, Content);

/// Finds the prompt of two sides, in its own column or as what both begin with.
pub(super) fn split_prompt(
    (prompt, chosen, rejected): Sides,
) -> Result<(Content, Content, Content, Shape), Problem> {
    match (chosen, rejected) {
        (Content::Text(chosen), Content::Text(rejected)) => Ok(match prompt {
            Some(Content::Text(prompt)) => {
                let (chosen, rejected, shape) = without_transcript(&prompt, chosen, rejected);
                (prompt.into_text(), chosen.into_text(), rejected.into_text(), shape)
            }
            Some(prompt) => (prompt, chosen.into_text(), rejected.into_text(), Shape::Messages),
            None => split_transcripts(chosen, rejected),
        }),
        (Content::Messages(chosen), Content::Messages(rejected)) => {
            let mut sides = [chosen, rejected];
            let (prompt, shape) = match prompt {
                Some(prompt) => match take_repeated_prompt(&prompt, &mut sides) {
                    Some(repeated) => (Content::Messages(repeated), Shape::RepeatedPrompt),
                    None => (prompt, Shape::Messages),
                },
                None => {
                    let common = common_turns(&sides);
                    let prompt = take_front(common, &mut sides);
                    let shape = if common == 0 { Shape::NoPrompt } else { Shape::ImplicitMessages };
                    (Content::Messages(prompt), shape)
                }
            };
            let [chosen, rejected] = sides;
            Ok((prompt, Content::Messages(chosen), Content::Messages(rejected), shape))
        }
        (chosen, _) => {
            let (expected, found) = match chosen {
                Content::Text(_) => ("text, as `chosen` is", "a list of messages"),
                Content::Messages(_) => ("a list of messages, as `chosen` is", "text"),
            };
            Err(Problem::new("rejected", expected, found))
        }
    }
}

/// Responses that are whole transcripts, without the prompt that stands in a column of its own as well.
fn without_transcript(prompt: &str, chosen: String, rejected: String) -> (String, String, Shape) {
    let is_transcript = prompt.trim_start().starts_with(TRANSCRIPT_START);
    match (chosen.strip_prefix(prompt), rejected.strip_prefix(prompt)) {
        (Some(chosen), Some(rejected)) if is_transcript => {
            (chosen.to_owned(), rejected.to_owned(), Shape::RepeatedPrompt)
        }
        _ => (chosen, rejected, Shape::Text),
    }
}

/// ms-swift: `messages` with the preferred response as the last turn, and the other one beside it.
fn take_rejected_response(fields: &mut Fields) -> Result<PreferencePair, Problem> {
    let (margin, tie) = take_label(fields)?;
    let system = take_system(fields)?;
    const EXPECTED: &str = "messages that end with a turn of the assistant";
    let mut turns = match take_content(fields, "messages")? {
        Content::Messages(turns) => turns,
        Content::Text(text) => {
            return Err(Problem::new("messages", EXPECTED, describe(&text.into())));
        }
    };
    let chosen = match turns.pop() {
        Some(last) if last.role == "assistant" => last,
        last => {
            let found = last.map_or("none".to_owned(), |last| format!("a turn of {}", last.role));
            return Err(Problem::new("messages", EXPECTED, found));
        }
    };
    let rejected = match fields.contains_key("rejected_response") {
        true => match take_content(fields, "rejected_response")? {
            Content::Text(text) => vec![Message { role: "assistant".to_owned(), content: text }],
            Content::Messages(turns) => turns,
        },
        false => match take_content(fields, "rejected_messages")? {
            Content::Messages(whole) if whole.starts_with(&turns) => whole[turns.len()..].to_vec(),
            other => {
                let expected = "messages that begin as `messages` does";
                let found = describe(&serde_json::json!(other));
                return Err(Problem::new("rejected_messages", expected, found));
            }
        },
    };
    Ok(PreferencePair {
        prompt: with_system(Content::Messages(turns), system)?,
        chosen: Content::Messages(vec![chosen]),
        rejected: Content::Messages(rejected),
        margin,
        tie,
    })
}

/// Columns with a score of each side.
const SCORES: [(&str, &str); 4] = [
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_rating", "rejected_rating"),
];

/// The difference of the scores of both sides, where there are two.
fn margin_of_scores(fields: &mut Fields) -> Result<Option<f64>, Problem> {
    let Some((a, b)) =
        SCORES.into_iter().find(|(a, b)| fields.contains_key(*a) && fields.contains_key(*b))
    else {
        return Ok(None);
    };
    let mut take = |name| number(fields.shift_remove(name).unwrap_or_default(), name);
    match (take(a)?, take(b)?) {
        (Some(chosen), Some(rejected)) if chosen < rejected => {
            let expected = format!("a score of at least {rejected}, that of the rejected response");
            Err(Problem::new(a, expected, format!("the number {chosen}")))
        }
        (Some(chosen), Some(rejected)) => margin(Some(chosen - rejected), a),
        _ => Ok(None),
    }
}

/// A margin, if float32 can hold it.
pub(super) fn margin(margin: Option<f64>, field: &str) -> Result<Option<f64>, Problem> {
    match margin {
        Some(margin) if !(margin as f32).is_finite() => {
            let found = format!("the number {margin:e}");
            Err(Problem::new(field, "a number that float32 can hold", found))
        }
        margin => Ok(margin),
    }
}

/// How many texts the column holds, if it is a list of texts.
fn texts(fields: &Fields, name: &str) -> Option<usize> {
    match fields.get(name) {
        Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
            Some(items.len())
        }
        _ => None,
    }
}

fn best_of_n(fields: &Fields) -> Option<BestOfN> {
    match (texts(fields, "chosen"), texts(fields, "rejected")) {
        (None, None) => None,
        _ if fields.contains_key("num_correct") || fields.contains_key("total_completions") => {
            Some(BestOfN::RewardBench2)
        }
        (Some(3), Some(3)) if fields.contains_key("domain") => Some(BestOfN::RmBench),
        (None | Some(1), Some(_)) => None,
        _ => Some(BestOfN::Lists),
    }
}

/// `margin`, and `tie`: both responses are as good.
pub(super) fn take_label(fields: &mut Fields) -> Result<(Option<f64>, bool), Problem> {
    let margin = fields.shift_remove("margin").unwrap_or_default();
    let margin = self::margin(number(margin, "margin")?, "margin")?;
    let tie = truth(&fields.shift_remove("tie").unwrap_or_default(), "tie")?;
    match margin {
        Some(margin) if tie && margin != 0.0 => {
            let expected = "no margin, for `tie` says that both responses are as good";
            Err(Problem::new("margin", expected, format!("the number {margin}")))
        }
        margin => Ok((margin, tie)),
    }
}

/// Splits at the last `\n\nAssistant:` that both transcripts share. Other text has no prompt.
fn split_transcripts(
    mut chosen: String,
    mut rejected: String,
) -> (Content, Content, Content, Shape) {
    let common = chosen.bytes().zip(rejected.bytes()).take_while(|(a, b)| a == b).count();
    // On bytes, because the common part may end inside a character; the turn itself is ASCII.
    let common = &chosen.as_bytes()[..common];
    let turn = TRANSCRIPT_TURN.as_bytes();
    let end = if chosen.trim_start().starts_with(TRANSCRIPT_START) {
        common.windows(turn.len()).rposition(|window| window == turn).map(|at| at + turn.len())
    } else {
        None
    };
    match end {
        Some(end) => {
            let rest = chosen.split_off(end);
            let prompt = std::mem::replace(&mut chosen, rest);
            rejected.drain(..end);
            (prompt.into_text(), chosen.into_text(), rejected.into_text(), Shape::Transcript)
        }
        None => {
            (String::new().into_text(), chosen.into_text(), rejected.into_text(), Shape::NoPrompt)
        }
    }
}

trait IntoText {
    fn into_text(self) -> Content;
}

impl IntoText for String {
    fn into_text(self) -> Content {
        Content::Text(self)
    }
}

/// How many turns all sides begin with. Each side keeps at least its last turn: two equal
/// conversations are two equal responses to a prompt, not a prompt without responses.
fn common_turns(sides: &[Vec<Message>]) -> usize {
    let Some((first, others)) = sides.split_first() else { return 0 };
    let most = sides.iter().map(Vec::len).min().unwrap_or(0).saturating_sub(1);
    (0..most).take_while(|&i| others.iter().all(|side| side[i] == first[i])).count()
}

fn take_front(turns: usize, sides: &mut [Vec<Message>]) -> Vec<Message> {
    let mut front = Vec::new();
    for side in sides {
        front = side.drain(..turns).collect();
    }
    front
}

/// Removes the prompt from responses that repeat it, as UltraFeedback has it: a `prompt` column
/// and, in every response, the same prompt as its first turns. Returns those turns.
pub(crate) fn take_repeated_prompt(
    prompt: &Content,
    sides: &mut [Vec<Message>],
) -> Option<Vec<Message>> {
    let common = common_turns(sides);
    let shared = &sides.first()?[..common];
    let turns = match prompt {
        Content::Messages(turns) if shared.starts_with(turns) => turns.len(),
        Content::Messages(_) => 0,
        Content::Text(text) if text.trim().is_empty() => 0,
        Content::Text(text) => shared
            .iter()
            .rposition(|turn| turn.role == "user" && turn.content.trim() == text.trim())
            .map_or(0, |at| at + 1),
    };
    (turns > 0).then(|| take_front(turns, sides))
}
