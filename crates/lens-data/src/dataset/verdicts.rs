//! Two responses in columns of their own, and a third column that says which of them is better: PKU,
//! Chatbot Arena, HelpSteer, AlpacaFarm, and the exports of Argilla and Label Studio.

use super::columns::{Prompt, take_prompt, take_system, with_system};
use super::content::{content, describe, is_nothing, number};
use super::pairs::{Judged, Shape, margin, split_prompt};
use super::records::Fields;
use crate::error::Problem;
use lens_core::{Content, Message, PreferencePair};
use serde_json::Value;

/// What the names of two columns with a response each begin with.
const STEMS: [&str; 12] = [
    "response",
    "answer",
    "output",
    "completion",
    "conversation",
    "generation",
    "reply",
    "text",
    "summary",
    "candidate",
    "message",
    "option",
];
/// How the two go on.
const ENDS: [(&str, &str); 4] = [("a", "b"), ("0", "1"), ("1", "2"), ("A", "B")];
/// Columns with a verdict in words or numbers.
const VERDICTS: [&str; 9] = [
    "winner",
    "better_response_id",
    "preference",
    "preferred",
    "choice",
    "better",
    "chosen_id",
    "preferred_response",
    "label",
];
/// Columns with a signed strength: below 0 the first is better, above 0 the second, 0 a tie.
const STRENGTHS: [&str; 2] = ["preference_strength", "overall_preference"];

/// Two columns with a response each.
struct Columns {
    first: String,
    second: String,
    /// What their names end in.
    ends: (&'static str, &'static str),
}

/// Which of two responses is better.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    First { margin: Option<f64> },
    Second { margin: Option<f64> },
    Tie,
}

/// Reads a row of two responses and a verdict, if it is one. What stays in `fields` is metadata.
pub(super) fn take(fields: &mut Fields) -> Result<Option<Judged>, Problem> {
    if is_label_studio(fields) {
        return take_label_studio(fields).map(Some);
    }
    if is_argilla(fields) {
        return take_argilla(fields).map(Some);
    }
    let Some(columns) = find_columns(fields) else { return Ok(None) };
    if let Some((name, values)) = annotation(fields) {
        let pairs = annotated(fields, &columns, &name, &values)?;
        fields.shift_remove(&name);
        return Ok(Some(Judged::Pairs(pairs, Shape::Annotated)));
    }
    let Some(verdict) = take_verdict(fields, &columns)? else { return Ok(None) };
    let pair = take_pair(fields, &columns, verdict)?;
    Ok(Some(Judged::Pairs(vec![pair], Shape::Verdict)))
}

fn find_columns(fields: &Fields) -> Option<Columns> {
    let named = |first: String, second: String, ends| {
        let both = fields.contains_key(&first) && fields.contains_key(&second);
        both.then_some(Columns { first, second, ends })
    };
    for stem in STEMS {
        for ends in ENDS {
            for joint in ["_", "", "-"] {
                let name = |end: &str| format!("{stem}{joint}{end}");
                if let Some(columns) = named(name(ends.0), name(ends.1), ends) {
                    return Some(columns);
                }
            }
        }
    }
    named("left".to_owned(), "right".to_owned(), ("left", "right"))
}

/// Takes the verdict out of the row; `None` where no column has one.
fn take_verdict(fields: &mut Fields, columns: &Columns) -> Result<Option<Verdict>, Problem> {
    if let Some(name) = STRENGTHS.into_iter().find(|name| fields.contains_key(*name)) {
        let Some(strength) = number(fields.shift_remove(name).unwrap_or_default(), name)? else {
            return Err(Problem::new(name, "a number", "null"));
        };
        let margin = margin(Some(strength.abs()), name)?;
        return Ok(Some(match strength {
            s if s < 0.0 => Verdict::First { margin },
            s if s > 0.0 => Verdict::Second { margin },
            _ => Verdict::Tie,
        }));
    }
    if let Some(verdict) = take_one_hot(fields)? {
        return Ok(Some(verdict));
    }
    let Some(name) = VERDICTS.into_iter().find(|name| fields.contains_key(*name)) else {
        return Ok(None);
    };
    let value = fields.shift_remove(name).unwrap_or_default();
    verdict(&value, columns, name).map(Some)
}

/// `winner_model_a`, `winner_model_b`, `winner_tie`: one of them is 1.
fn take_one_hot(fields: &mut Fields) -> Result<Option<Verdict>, Problem> {
    const NAMES: [&str; 3] = ["winner_model_a", "winner_model_b", "winner_tie"];
    if !(fields.contains_key(NAMES[0]) && fields.contains_key(NAMES[1])) {
        return Ok(None);
    }
    let mut flag = |name: &str| -> Result<bool, Problem> {
        super::content::truth(&fields.shift_remove(name).unwrap_or_default(), name)
    };
    match (flag(NAMES[0])?, flag(NAMES[1])?, flag(NAMES[2])?) {
        (true, false, false) => Ok(Some(Verdict::First { margin: None })),
        (false, true, false) => Ok(Some(Verdict::Second { margin: None })),
        (false, false, true) => Ok(Some(Verdict::Tie)),
        flags => {
            let expected = "1 in exactly one of winner_model_a, winner_model_b, winner_tie";
            Err(Problem::new(NAMES[0], expected, format!("{flags:?}")))
        }
    }
}

fn verdict(value: &Value, columns: &Columns, field: &str) -> Result<Verdict, Problem> {
    let (first, second) = (Verdict::First { margin: None }, Verdict::Second { margin: None });
    let (a, b) = columns.ends;
    let text = match value {
        Value::String(text) => text.trim().to_lowercase(),
        Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
            format!("{:.0}", number.as_f64().unwrap_or_default())
        }
        other => {
            return Err(Problem::new(field, verdict_words(columns), describe(other)));
        }
    };
    let said = |column: &str, end: &str| {
        let end = end.to_lowercase();
        let bare = text.strip_prefix("model").or_else(|| text.strip_prefix("assistant"));
        let bare = bare.map(|rest| rest.trim_start_matches(['_', '-', ' ']));
        text == column.to_lowercase() || text == end || bare == Some(end.as_str())
    };
    if said(&columns.first, a) {
        return Ok(first);
    }
    if said(&columns.second, b) {
        return Ok(second);
    }
    match text.as_str() {
        "first" | "left" => Ok(first),
        "second" | "right" => Ok(second),
        "equal" | "same" | "draw" | "neither" => Ok(Verdict::Tie),
        text if text.starts_with("tie") || text.starts_with("both") => Ok(Verdict::Tie),
        _ => Err(Problem::new(field, verdict_words(columns), describe(value))),
    }
}

fn verdict_words(columns: &Columns) -> String {
    let (a, b) = columns.ends;
    let (first, second) = (&columns.first, &columns.second);
    format!("which of `{first}` and `{second}` is better ({a}, {b} or tie)")
}

/// The pair of two responses in `columns`. They stay in the row while `fields` is read again.
fn take_pair(
    fields: &mut Fields,
    columns: &Columns,
    verdict: Verdict,
) -> Result<PreferencePair, Problem> {
    let Columns { first, second, .. } = columns;
    let sides = [first, second].map(|name| fields.shift_remove(name).unwrap_or_default());
    let [a, b] = sides;
    let system = take_system(fields)?;
    let (prompt, a, b) = match take_rounds(fields, &a, &b)? {
        Some((prompt, a, b)) => (Some(prompt), a, b),
        None => {
            let Prompt { content: prompt, .. } = take_prompt(fields, &[])?;
            (prompt, content(a, first)?, content(b, second)?)
        }
    };
    let (chosen, rejected, margin, tie) = match verdict {
        Verdict::First { margin } => (a, b, margin, false),
        Verdict::Second { margin } => (b, a, margin, false),
        Verdict::Tie => (a, b, None, true),
    };
    let (prompt, chosen, rejected, _) = split_prompt((prompt, chosen, rejected))?;
    Ok(PreferencePair { prompt: with_system(prompt, system)?, chosen, rejected, margin, tie })
}

/// Lists of texts in the columns of prompt and responses are the rounds of a conversation each:
/// question 1, answer 1, question 2 and so on.
fn take_rounds(
    fields: &mut Fields,
    a: &Value,
    b: &Value,
) -> Result<Option<(Content, Content, Content)>, Problem> {
    let Some(questions) = fields.get("prompt").and_then(texts) else { return Ok(None) };
    let (Some(a), Some(b)) = (texts(a), texts(b)) else { return Ok(None) };
    if questions.is_empty() || [&a, &b].iter().any(|answers| answers.len() != questions.len()) {
        let expected = "as many texts as each response has";
        let found = format!("{} beside {} and {}", questions.len(), a.len(), b.len());
        return Err(Problem::new("prompt", expected, found));
    }
    fields.shift_remove("prompt");
    let turn = |role: &str, text: &str| Message { role: role.to_owned(), content: text.to_owned() };
    let rounds = |answers: &[String]| {
        let mut turns = vec![turn("assistant", &answers[0])];
        for (question, answer) in questions.iter().zip(answers).skip(1) {
            turns.extend([turn("user", question), turn("assistant", answer)]);
        }
        Content::Messages(turns)
    };
    let prompt = Content::Messages(vec![turn("user", &questions[0])]);
    Ok(Some((prompt, rounds(&a), rounds(&b))))
}

/// A list of texts, also one that stands as JSON in a column of text. A missing text is an empty one.
fn texts(value: &Value) -> Option<Vec<String>> {
    let items = match value {
        Value::Array(items) => items.clone(),
        Value::String(text) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).ok()?
        }
        _ => return None,
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Some(text),
            Value::Null => Some(String::new()),
            _ => None,
        })
        .collect()
}

/// A column with the answers of annotators: `[{"value": .., "user_id": ..}, ..]`, or a name that ends in
/// `.responses` with the values alone.
fn annotation(fields: &Fields) -> Option<(String, Vec<Value>)> {
    fields.iter().find_map(|(name, value)| {
        let Value::Array(items) = value else { return None };
        let values: Option<Vec<Value>> =
            items.iter().map(|item| item.get("value").cloned()).collect();
        match values {
            Some(values) if !values.is_empty() => Some((name.clone(), values)),
            _ if name.ends_with(".responses") && !items.is_empty() => {
                Some((name.clone(), items.clone()))
            }
            _ => None,
        }
    })
}

/// A pair for each annotator: where they disagree, that is a contradiction, which vetting lists.
fn annotated(
    fields: &mut Fields,
    columns: &Columns,
    name: &str,
    values: &[Value],
) -> Result<Vec<PreferencePair>, Problem> {
    let mut pairs = Vec::with_capacity(values.len());
    let mut left = fields.clone();
    for value in values.iter().filter(|value| !is_nothing(value)) {
        let verdict = match value {
            Value::Array(order) => first_ranked(order, columns, name)?,
            Value::Object(answer) => match answer.get("value") {
                Some(inner) => verdict(inner, columns, name)?,
                None => return Err(Problem::new(name, verdict_words(columns), describe(value))),
            },
            value => verdict(value, columns, name)?,
        };
        left = fields.clone();
        pairs.push(take_pair(&mut left, columns, verdict)?);
    }
    if pairs.is_empty() {
        return Err(Problem::new(name, "an answer", "none"));
    }
    *fields = left;
    Ok(pairs)
}

/// `[{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]`, or names, the best first.
fn first_ranked(order: &[Value], columns: &Columns, field: &str) -> Result<Verdict, Problem> {
    let rank = |item: &Value| item.get("rank").and_then(Value::as_i64);
    let ranks: Option<Vec<i64>> = order.iter().map(rank).collect();
    let best = match ranks {
        Some(ranks) if ranks.len() == 2 && ranks[0] == ranks[1] => return Ok(Verdict::Tie),
        Some(ranks) => {
            (0..ranks.len()).min_by_key(|&i| ranks[i]).and_then(|i| order[i].get("value"))
        }
        None => order.first(),
    };
    match best {
        Some(best) => verdict(best, columns, field),
        None => Err(Problem::new(field, verdict_words(columns), "an empty list")),
    }
}

/// A record of Argilla: the texts in `fields`, the answers in `responses`.
fn is_argilla(fields: &Fields) -> bool {
    let answered = matches!(fields.get("responses"), Some(Value::Object(_) | Value::Array(_)));
    answered && fields.get("fields").is_some_and(Value::is_object)
}

fn take_argilla(row: &mut Fields) -> Result<Judged, Problem> {
    let mut fields = match row.shift_remove("fields") {
        Some(Value::Object(fields)) => fields,
        other => {
            let found = describe(&other.unwrap_or_default());
            return Err(Problem::new("fields", "the texts of the record", found));
        }
    };
    let Some(columns) = find_columns(&fields) else {
        let found = super::content::names(&fields);
        return Err(Problem::new(
            "fields",
            "two responses, such as response_1 and response_2",
            found,
        ));
    };
    let responses = row.shift_remove("responses").unwrap_or_default();
    let mut values = Vec::new();
    let mut question = "responses".to_owned();
    match &responses {
        // {"preference": [{"value": "response_1", ..}], ..}: the question whose answers name a side.
        Value::Object(questions) => {
            for (name, answers) in questions {
                let answers: Vec<Value> = answers
                    .as_array()
                    .map(|items| {
                        items.iter().filter_map(|item| item.get("value").cloned()).collect()
                    })
                    .unwrap_or_default();
                if !answers.is_empty() && answers.iter().all(|v| judges(v, &columns)) {
                    (question, values) = (format!("responses.{name}"), answers);
                    break;
                }
            }
        }
        // [{"values": {"preference": {"value": ..}}, "status": "submitted"}, ..]
        Value::Array(answers) => {
            for answer in
                answers.iter().filter(|a| a.get("status").is_none_or(|s| s != "discarded"))
            {
                let given = answer.get("values").and_then(Value::as_object);
                let value = given.and_then(|given| {
                    given.values().filter_map(|v| v.get("value")).find(|v| judges(v, &columns))
                });
                values.extend(value.cloned());
            }
        }
        _ => {}
    }
    if values.is_empty() {
        let expected = "an answer that says which response is better";
        return Err(Problem::new("responses", expected, describe(&responses)));
    }
    let pairs = annotated(&mut fields, &columns, &question, &values)?;
    row.extend(fields);
    Ok(Judged::Pairs(pairs, Shape::Annotated))
}

fn judges(value: &Value, columns: &Columns) -> bool {
    match value {
        Value::Array(order) => first_ranked(order, columns, "").is_ok(),
        value => verdict(value, columns, "").is_ok(),
    }
}

/// A task of Label Studio: the texts in `data`, the answers in `annotations`.
fn is_label_studio(fields: &Fields) -> bool {
    let has = |name| fields.get(name);
    has("data").is_some_and(Value::is_object) && has("annotations").is_some_and(Value::is_array)
}

fn take_label_studio(row: &mut Fields) -> Result<Judged, Problem> {
    let (data, annotations) = (row.shift_remove("data"), row.shift_remove("annotations"));
    let (Some(Value::Object(mut fields)), Some(Value::Array(annotations))) = (data, annotations)
    else {
        return Err(Problem::new("data", "the texts of the task", "none"));
    };
    let Some(columns) = find_columns(&fields) else {
        let found = super::content::names(&fields);
        return Err(Problem::new("data", "two responses, such as answer1 and answer2", found));
    };
    let mut values = Vec::new();
    for (i, annotation) in annotations.iter().enumerate() {
        if annotation.get("was_cancelled").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let results = annotation.get("result").and_then(Value::as_array);
        let value = results.into_iter().flatten().find_map(|result| {
            let value = result.get("value")?;
            let choice = value.get("choices").and_then(|choices| choices.get(0));
            value.get("selected").or(choice).filter(|value| judges(value, &columns))
        });
        match value {
            Some(value) => values.push(value.clone()),
            None => {
                let place = format!("annotations[{i}].result");
                let expected = "a pairwise answer: left or right";
                let found = describe(annotation.get("result").unwrap_or(&Value::Null));
                return Err(Problem::new(&place, expected, found));
            }
        }
    }
    let pairs = annotated(&mut fields, &columns, "annotations", &values)?;
    row.extend(fields);
    Ok(Judged::Pairs(pairs, Shape::Annotated))
}
