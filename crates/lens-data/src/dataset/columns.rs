//! Which column is what: the names that people give to prompts, and names that the caller gives.

use super::content::{content, describe, is_nothing, missing};
use super::records::Fields;
use crate::error::{Error, Problem, WHOLE_ROW};
use crate::transcript;
use lens_core::{Content, Message};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Columns that hold a prompt, the likeliest first; `input` goes on after an `instruction`.
pub(crate) const PROMPTS: [&str; 12] = [
    "prompt",
    "question",
    "instruction",
    "query",
    "context",
    "conversations",
    "conversation",
    "messages",
    "input",
    "user_prompt",
    "problem",
    "history",
];

/// Columns that go into the model with the conversation, and that are not read.
const NOT_READ: [(&str, &str); 8] = [
    ("tools", "no tools: rows with descriptions of tools are not read"),
    ("chat_template_kwargs", "no arguments for the chat template: they are not read"),
    ("documents", "no documents: they are not read"),
    ("images", "text alone: images are not read"),
    ("image", "text alone: images are not read"),
    ("videos", "text alone: videos are not read"),
    ("audios", "text alone: sounds are not read"),
    ("audio", "text alone: sounds are not read"),
];

/// Names of columns as the caller gives them: `prompt=question,chosen=good,rejected=bad`.
///
/// On the left stands a name that the reader knows, on the right the column of the file that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnNames(BTreeMap<String, String>);

/// Names that may stand on the left side.
const KNOWN: [&str; 15] = [
    "prompt",
    "chosen",
    "rejected",
    "margin",
    "tie",
    "system",
    "response",
    "responses",
    "score",
    "scores",
    "messages",
    "text",
    "completion",
    "subset",
    "id",
];

impl FromStr for ColumnNames {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const EXPECTED: &str = "NAME=COLUMN, ..: each NAME one of prompt, chosen, rejected, margin, tie, \
             system, response, responses, score, scores, messages, text, completion, subset, id";
        let wrong = || Error::option("columns", EXPECTED, text);
        let mut columns = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, column) = part.split_once('=').ok_or_else(wrong)?;
            let (name, column) = (name.trim(), column.trim());
            let known = KNOWN.contains(&name) && !column.is_empty();
            if !known || columns.insert(name.to_owned(), column.to_owned()).is_some() {
                return Err(wrong());
            }
        }
        Ok(ColumnNames(columns))
    }
}

impl fmt::Display for ColumnNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|(name, column)| format!("{name}={column}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl ColumnNames {
    /// Whether no column is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the columns the names that the reader knows. A column that has such a name by itself and is
    /// not meant moves out of the way.
    pub(crate) fn apply(&self, fields: &mut Fields) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        for (name, column) in &self.0 {
            if !fields.contains_key(column) {
                let expected = format!("the column that is named for `{name}`");
                return Err(missing(column, &expected, fields));
            }
        }
        let taken = std::mem::take(fields);
        for (column, value) in taken {
            let known_as: Vec<&String> =
                self.0.iter().filter(|(_, c)| **c == column).map(|(name, _)| name).collect();
            match known_as.as_slice() {
                [] if self.0.contains_key(&column) => {
                    fields.insert(format!("{column} (not read)"), value);
                }
                [] => {
                    fields.insert(column, value);
                }
                names => {
                    for name in names {
                        fields.insert((*name).clone(), value.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

/// How a column was used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ColumnUse {
    /// Its name in the file.
    pub column: String,
    /// What it was read as: `prompt`, `chosen`, .., or `not read`: kept beside the row.
    pub used_as: &'static str,
    /// In how many rows it has a value.
    pub rows: usize,
}

impl ColumnUse {
    /// Whether the column is one of those that hold prompts, and is not read: another one was. (What
    /// repeats a whole conversation is none.)
    pub fn may_be_prompt_unread(&self) -> bool {
        let name = self.column.as_str();
        self.used_as == NOT_USED
            && PROMPTS.contains(&name)
            && !matches!(name, "messages" | "conversation" | "conversations")
    }
}

/// The use of a column that is kept beside the row.
const NOT_USED: &str = "not read";

/// Counts how columns are used.
#[derive(Default)]
pub(crate) struct ColumnUses {
    uses: Vec<ColumnUse>,
    with_prompt: usize,
}

impl ColumnUses {
    /// The names of the columns of a row that have a value, before it is read.
    pub fn names(&mut self, fields: &Fields) -> Vec<String> {
        fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// Counts the columns `before` of a row, of which `left` holds those that were not read.
    pub fn count(&mut self, before: Vec<String>, left: &Fields) {
        self.with_prompt += usize::from(before.iter().any(|n| PROMPTS.contains(&n.as_str())));
        for column in before {
            let used_as = if left.contains_key(&column) { NOT_USED } else { used_as(&column) };
            let known = self.uses.iter_mut().find(|u| u.used_as == used_as && u.column == column);
            match known {
                Some(known) => known.rows += 1,
                None => self.uses.push(ColumnUse { column, used_as, rows: 1 }),
            }
        }
    }

    /// The counts, and in how many rows there was a column for the prompt.
    pub fn finish(self) -> (Vec<ColumnUse>, usize) {
        (self.uses, self.with_prompt)
    }
}

/// What a column that was read is read as.
fn used_as(column: &str) -> &'static str {
    match column {
        "chosen" => "chosen",
        "rejected" | "rejected_response" | "rejected_messages" => "rejected",
        "system" | "system_prompt" | "system_message" => "system message",
        "margin" => "margin",
        "tie" => "tie",
        name if PROMPTS.contains(&name) => "prompt",
        name if name.contains("score") || name.contains("rating") || name.contains("rank") => {
            "rating"
        }
        name if name.contains("winner") || name.contains("prefer") || name.contains("better") => {
            "verdict"
        }
        _ => "read",
    }
}

/// Refuses a row with something in a column that goes into the model and is not read.
pub(crate) fn refuse_unreadable(fields: &Fields) -> Result<(), Problem> {
    for (name, expected) in NOT_READ {
        if let Some(value) = fields.get(name).filter(|value| !is_nothing(value)) {
            return Err(Problem::new(name, expected, describe(value)));
        }
    }
    Ok(())
}

/// The prompt of a row.
#[derive(Debug, PartialEq)]
pub(crate) struct Prompt {
    /// The prompt; `None` where there is none, or a blank one.
    pub content: Option<Content>,
    /// The column it was read from: the first that may hold one, where all are blank.
    pub column: Option<&'static str>,
}

/// Takes the prompt out of the row: the first column of [`PROMPTS`] that has something in it, with what
/// belongs to it (`input` after an `instruction`, the turns of `history` before it). `skip` names a
/// column that is something else in this row.
pub(crate) fn take_prompt(fields: &mut Fields, skip: &[&str]) -> Result<Prompt, Problem> {
    let mut first = None;
    for name in PROMPTS.into_iter().filter(|name| !skip.contains(name)) {
        let Some(value) = fields.get(name) else { continue };
        first = first.or(Some(name));
        if name == "history" || is_blank(value) {
            continue;
        }
        let value = fields.shift_remove(name).unwrap_or_default();
        let mut prompt = content(value, name)?;
        if name == "instruction" && !skip.contains(&"input") {
            prompt = with_input(prompt, fields)?;
        }
        let prompt = with_history(prompt, fields)?;
        drop_blank(fields, skip);
        return Ok(Prompt { content: Some(prompt), column: Some(name) });
    }
    let history = fields.get("history").is_some_and(|history| !is_nothing(history));
    if history && !skip.contains(&"history") {
        let turns = with_history(Content::Messages(Vec::new()), fields)?;
        return Ok(Prompt { content: Some(turns), column: Some("history") });
    }
    drop_blank(fields, skip);
    Ok(Prompt { content: None, column: first })
}

/// Whether no prompt can be read from the value: unlike [`is_nothing`], `[]` as text is a text.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        other => is_nothing(other),
    }
}

/// Removes the columns for a prompt in which nothing stands: they are read, and say nothing.
fn drop_blank(fields: &mut Fields, skip: &[&str]) {
    for name in PROMPTS.into_iter().filter(|name| !skip.contains(name)) {
        if fields.get(name).is_some_and(is_nothing) {
            fields.shift_remove(name);
        }
    }
}

/// An instruction and its input, as LLaMA-Factory joins them.
fn with_input(prompt: Content, fields: &mut Fields) -> Result<Content, Problem> {
    match (prompt, fields.get("input")) {
        (Content::Text(prompt), Some(Value::String(input))) if !input.trim().is_empty() => {
            let joined = format!("{prompt}\n{input}");
            fields.shift_remove("input");
            Ok(Content::Text(joined))
        }
        (prompt, None) => Ok(prompt),
        (prompt, Some(input)) if is_nothing(input) => {
            fields.shift_remove("input");
            Ok(prompt)
        }
        (_, Some(input)) => {
            Err(Problem::new("input", "text, as `instruction` is", describe(input)))
        }
    }
}

/// Earlier turns before a prompt: `[[question, answer], ..]`, or messages.
fn with_history(prompt: Content, fields: &mut Fields) -> Result<Content, Problem> {
    let history = fields.shift_remove("history").unwrap_or_default();
    if is_nothing(&history) {
        return Ok(prompt);
    }
    const EXPECTED: &str = "a list of [question, answer], or messages";
    let history = match history {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    };
    let mut turns = match &history {
        Value::Array(items) if items.iter().all(Value::is_array) => {
            let mut turns = Vec::new();
            for (i, item) in items.iter().enumerate() {
                let texts: Option<Vec<&str>> =
                    item.as_array().and_then(|pair| pair.iter().map(Value::as_str).collect());
                let Some([question, answer]) = texts.as_deref() else {
                    let place = format!("history[{i}]");
                    return Err(Problem::new(&place, EXPECTED, describe(item)));
                };
                turns.push(turn("user", question));
                turns.push(turn("assistant", answer));
            }
            turns
        }
        Value::Array(_) => match content(history, "history")? {
            Content::Messages(turns) => turns,
            Content::Text(text) => {
                return Err(Problem::new("history", EXPECTED, describe(&text.into())));
            }
        },
        other => return Err(Problem::new("history", EXPECTED, describe(other))),
    };
    match prompt {
        Content::Text(text) => turns.push(turn("user", &text)),
        Content::Messages(more) => turns.extend(more),
    }
    Ok(Content::Messages(turns))
}

fn turn(role: &str, text: &str) -> Message {
    Message { role: role.to_owned(), content: text.to_owned() }
}

/// Takes the `system` column (or `system_prompt`, `system_message`) out of the row; `None` where it is
/// blank or missing.
pub(crate) fn take_system(fields: &mut Fields) -> Result<Option<String>, Problem> {
    for name in ["system", "system_prompt", "system_message"] {
        match fields.shift_remove(name) {
            None => {}
            Some(value) if is_nothing(&value) => {}
            Some(Value::String(text)) => return Ok(Some(text)),
            Some(other) => return Err(Problem::new(name, "text", describe(&other))),
        }
    }
    Ok(None)
}

/// A prompt below what the system says. A prompt that begins with a turn of the system keeps its own:
/// another one beside it is a contradiction.
pub(crate) fn with_system(prompt: Content, system: Option<String>) -> Result<Content, Problem> {
    let Some(system) = system else { return Ok(prompt) };
    let mut turns = match prompt {
        Content::Text(text) if text.trim().is_empty() => Vec::new(),
        Content::Text(text) => match transcript::parse(&text) {
            Some(turns) => turns,
            None => vec![turn("user", &text)],
        },
        Content::Messages(turns) => turns,
    };
    match turns.first() {
        Some(first) if first.role == "system" && first.content.trim() != system.trim() => {
            let expected = "one system message, not one in the prompt and another in the column";
            return Err(Problem::new("system", expected, describe(&system.into())));
        }
        Some(first) if first.role == "system" => {}
        _ => turns.insert(0, turn("system", &system)),
    }
    Ok(Content::Messages(turns))
}

/// Refuses a pair without prompt where a column of text is left that nothing reads: it may well be the
/// prompt. Numbers, names of rows and of subsets are none.
pub(crate) fn refuse_unread_text(fields: &Fields) -> Result<(), Problem> {
    let names: Vec<&str> = fields
        .iter()
        .filter(|(name, value)| may_be_prompt(name, value))
        .map(|(n, _)| n.as_str())
        .collect();
    let Some(first) = names.first() else { return Ok(()) };
    let expected = format!(
        "a prompt: --columns prompt={first} names its column, --no-prompt says there is none"
    );
    let listed = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(Problem::new(
        WHOLE_ROW,
        expected,
        format!("no prompt, and text that nothing reads in {listed}"),
    ))
}

fn may_be_prompt(name: &str, value: &Value) -> bool {
    let lower = name.to_ascii_lowercase();
    let label =
        ["id", "uid", "uuid", "idx", "index", "hash", "subset", "split", "language", "lang"];
    if label.contains(&lower.as_str()) || lower.ends_with("_id") || lower.ends_with("-id") {
        return false;
    }
    match value {
        Value::String(text) => !text.trim().is_empty() && text.trim().parse::<f64>().is_err(),
        Value::Array(_) | Value::Object(_) => {
            matches!(content(value.clone(), name), Ok(content) if !content.is_blank())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn fields(row: Value) -> Fields {
        row.as_object().unwrap().clone()
    }

    fn prompt(row: Value) -> (Option<Value>, Option<&'static str>, Vec<String>) {
        let mut fields = fields(row);
        let prompt = take_prompt(&mut fields, &[]).unwrap();
        let content = prompt.content.map(|c| serde_json::to_value(c).unwrap());
        (content, prompt.column, fields.keys().cloned().collect())
    }

    #[test]
    fn the_prompt_is_in_the_first_column_with_something_in_it() {
        for name in ["prompt", "question", "instruction", "query", "input", "problem"] {
            let found = prompt(json!({name: "What is it?", "other": 1}));
            assert_eq!(found, (Some(json!("What is it?")), Some(name), vec!["other".to_owned()]));
        }
        let found = prompt(json!({"prompt": null, "question": "q", "input": ""}));
        assert_eq!(found, (Some(json!("q")), Some("question"), vec![]));
        assert_eq!(
            prompt(json!({"prompt": " ", "x": "y"})),
            (None, Some("prompt"), vec!["x".into()])
        );
        assert_eq!(prompt(json!({"x": "y"})), (None, None, vec!["x".into()]));
    }

    #[test]
    fn an_instruction_has_its_input_and_a_history_comes_first() {
        let found = prompt(json!({"instruction": "Add", "input": "2, 3"}));
        assert_eq!(found.0, Some(json!("Add\n2, 3")));
        let found = prompt(json!({"instruction": "And?", "input": "", "history": [["a", "b"]]}));
        let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "And?"}]);
        assert_eq!(found, (Some(turns), Some("instruction"), vec![]));
        let mut row = fields(json!({"instruction": "Add", "input": 5}));
        assert_eq!(take_prompt(&mut row, &[]).unwrap_err().field, "input");
        let mut row = fields(json!({"prompt": "Add", "history": [["a"]]}));
        assert_eq!(take_prompt(&mut row, &[]).unwrap_err().field, "history[0]");
    }

    #[test]
    fn the_system_stands_above_the_prompt() {
        let system = Some("Be brief.".to_owned());
        let both = with_system(Content::Text("hi".into()), system.clone()).unwrap();
        let expected =
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]);
        assert_eq!(serde_json::to_value(&both).unwrap(), expected);
        assert_eq!(with_system(both.clone(), system).unwrap(), both);
        assert_eq!(with_system(both, Some("Be long.".into())).unwrap_err().field, "system");
    }

    #[test]
    fn columns_are_renamed_and_misnamed_ones_are_errors() {
        let columns: ColumnNames = "prompt=q, chosen=good".parse().unwrap();
        let mut row = fields(json!({"chosen": "no", "q": "p", "good": "c"}));
        columns.apply(&mut row).unwrap();
        assert_eq!(row["prompt"], "p");
        assert_eq!(row["chosen"], "c");
        assert_eq!(row["chosen (not read)"], "no");
        assert_eq!(columns.apply(&mut fields(json!({"q": "p"}))).unwrap_err().field, "good");
        for wrong in ["prompt", "promt=q", "prompt=", "prompt=a,prompt=b"] {
            assert!(wrong.parse::<ColumnNames>().is_err(), "{wrong}");
        }
        assert_eq!(columns.to_string(), "chosen=good,prompt=q");
    }

    #[test]
    fn text_that_nothing_reads_is_named_where_there_is_no_prompt() {
        let found = |row: Value| refuse_unread_text(&fields(row)).map_err(|p| p.found);
        assert_eq!(
            found(
                json!({"id": "a b", "user_id": "x", "n": "3.5", "ask": "Why?", "t": [{"role": "user", "content": "x"}]})
            ),
            Err("no prompt, and text that nothing reads in `ask`, `t`".to_owned())
        );
        assert_eq!(
            found(json!({"id": "a", "score": 3, "blank": "", "list": ["a"], "o": {"a": 1}})),
            Ok(())
        );
    }
}
