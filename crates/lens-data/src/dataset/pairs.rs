//! The shapes in which preference pairs come, and the one shape they are brought to.

use super::content::{CONTENT, content, describe, missing, number, take, take_content, truth};
use super::records::Fields;
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
    /// `context` and two ranked `completions` (NeMo-RL).
    Ranked,
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
    /// `chosen` or `rejected` is a list of texts.
    Lists,
    /// One `prompt` with `responses`.
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

/// Reads a pair, its margin and whether it is a tie out of the row; what stays in `fields` is metadata.
pub(crate) fn take_pair(fields: &mut Fields) -> Result<(PreferencePair, Shape), RowProblem> {
    if let Some(shape) = best_of_n(fields) {
        return Err(RowProblem::BestOfN(shape));
    }
    let trl = fields.contains_key("chosen") || fields.contains_key("rejected");
    if !trl && fields.contains_key("context") && fields.contains_key("completions") {
        return Ok((take_ranked(fields)?, Shape::Ranked));
    }
    // Before anything is taken out, so that the error can name all the columns that are there.
    if let Some(side) = ["chosen", "rejected"].into_iter().find(|side| !fields.contains_key(*side))
    {
        return Err(missing(side, CONTENT, fields).into());
    }
    let chosen = take_content(fields, "chosen")?;
    let rejected = take_content(fields, "rejected")?;
    let prompt = take(fields, "prompt").map(|value| content(value, "prompt")).transpose()?;
    let (margin, tie) = take_label(fields)?;
    let (prompt, chosen, rejected, shape) = match (chosen, rejected) {
        (Content::Text(chosen), Content::Text(rejected)) => match prompt {
            Some(prompt) => {
                let shape = match prompt {
                    Content::Text(_) => Shape::Text,
                    Content::Messages(_) => Shape::Messages,
                };
                (prompt, Content::Text(chosen), Content::Text(rejected), shape)
            }
            None => split_transcripts(chosen, rejected),
        },
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
                    (Content::Messages(prompt), Shape::ImplicitMessages)
                }
            };
            let [chosen, rejected] = sides;
            (prompt, Content::Messages(chosen), Content::Messages(rejected), shape)
        }
        (chosen, _) => {
            let (expected, found) = match chosen {
                Content::Text(_) => ("text, as `chosen` is", "a list of messages"),
                Content::Messages(_) => ("a list of messages, as `chosen` is", "text"),
            };
            return Err(Problem::new("rejected", expected, found).into());
        }
    };
    Ok((PreferencePair { prompt, chosen, rejected, margin, tie }, shape))
}

/// `margin`, and `tie`: both responses are as good.
fn take_label(fields: &mut Fields) -> Result<(Option<f64>, bool), Problem> {
    let margin = fields.shift_remove("margin").unwrap_or_default();
    let margin = number(margin, "margin")?;
    if let Some(margin) = margin.filter(|&margin| !(margin as f32).is_finite()) {
        let found = format!("the number {margin:e}");
        return Err(Problem::new("margin", "a number that float32 can hold", found));
    }
    let tie = truth(&fields.shift_remove("tie").unwrap_or_default(), "tie")?;
    match margin {
        Some(margin) if tie && margin != 0.0 => {
            let expected = "no margin, for `tie` says that both responses are as good";
            Err(Problem::new("margin", expected, format!("the number {margin}")))
        }
        margin => Ok((margin, tie)),
    }
}

fn best_of_n(fields: &Fields) -> Option<BestOfN> {
    let texts = |name| match fields.get(name) {
        Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
            Some(items.len())
        }
        _ => None,
    };
    match (texts("chosen"), texts("rejected")) {
        (None, None) if fields.contains_key("chosen") || fields.contains_key("rejected") => None,
        (None, None) => {
            matches!(fields.get("responses"), Some(Value::Array(_))).then_some(BestOfN::Responses)
        }
        _ if fields.contains_key("num_correct") || fields.contains_key("total_completions") => {
            Some(BestOfN::RewardBench2)
        }
        (Some(3), Some(3)) if fields.contains_key("domain") => Some(BestOfN::RmBench),
        _ => Some(BestOfN::Lists),
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

/// NeMo-RL: `context` and `completions` of `{"rank", "completion"}`, the lowest rank the best; equal
/// ranks only where `tie` is true.
fn take_ranked(fields: &mut Fields) -> Result<PreferencePair, Problem> {
    let (margin, tie) = take_label(fields)?;
    let prompt = take_content(fields, "context")?;
    let completions = match fields.shift_remove("completions") {
        Some(Value::Array(completions)) => completions,
        other => {
            let found = describe(&other.unwrap_or_default());
            return Err(Problem::new("completions", "two ranked completions", found));
        }
    };
    let found = completions.len();
    let Ok([first, second]) = <[Value; 2]>::try_from(completions) else {
        return Err(Problem::new(
            "completions",
            "two ranked completions",
            format!("{found} completions"),
        ));
    };
    let (first_rank, first) = ranked(first, "completions[0]")?;
    let (second_rank, second) = ranked(second, "completions[1]")?;
    if tie && first_rank != second_rank {
        let found = format!("ranks {first_rank} and {second_rank}");
        return Err(Problem::new("completions", "equal ranks, for `tie` is true", found));
    }
    let (chosen, rejected) = match first_rank.cmp(&second_rank) {
        std::cmp::Ordering::Equal if tie => (first, second),
        std::cmp::Ordering::Less => (first, second),
        std::cmp::Ordering::Greater => (second, first),
        std::cmp::Ordering::Equal => {
            let found = format!("rank {first_rank} twice");
            return Err(Problem::new("completions", "two different ranks", found));
        }
    };
    Ok(PreferencePair { prompt, chosen, rejected, margin, tie })
}

fn ranked(value: Value, field: &str) -> Result<(i64, Content), Problem> {
    let Value::Object(mut fields) = value else {
        return Err(Problem::new(field, "an object with rank and completion", describe(&value)));
    };
    let place = format!("{field}.rank");
    let rank = match fields.get("rank") {
        None => return Err(missing(&place, "a whole number", &fields)),
        Some(rank) => {
            rank.as_i64().ok_or_else(|| Problem::new(&place, "a whole number", describe(rank)))?
        }
    };
    let place = format!("{field}.completion");
    match fields.shift_remove("completion") {
        None => Err(missing(&place, CONTENT, &fields)),
        Some(completion) => Ok((rank, content(completion, &place)?)),
    }
}
