//! Several responses to one prompt with a rating or a rank each: every better one is preferred to every
//! worse one, and the difference of two ratings is the margin.

use super::columns::{take_prompt, take_system, with_system};
use super::content::{CONTENT, content, describe, missing, number};
use super::pairs::{Judged, Shape, margin, take_label, take_repeated_prompt};
use super::ranked::ScoredRow;
use super::records::Fields;
use crate::error::{Problem, WHOLE_ROW};
use lens_core::{Content, PreferencePair};
use serde_json::Value;

/// Columns with a list of responses.
const RESPONSES: [&str; 7] =
    ["completions", "responses", "generations", "candidates", "outputs", "answers", "output"];
/// Columns with a rating of each; a higher one is better.
const RATINGS: [&str; 4] = ["ratings", "scores", "rating", "rewards"];
/// Columns with a rank of each; a lower one is better.
const RANKS: [&str; 4] = ["ranks", "rankings", "ranking", "rank"];
/// In a list of objects: where the text of a response stands, and its rating.
const TEXTS: [&str; 5] = ["completion", "response", "text", "content", "output"];
const SCORES: [&str; 4] = ["fine-grained_score", "overall_score", "score", "rating"];
/// Columns with one response, and with its rating.
const ONE: [&str; 4] = ["response", "completion", "output", "answer"];
const ITS_RATING: [&str; 5] = ["score", "rating", "helpfulness", "overall_score", "reward"];

/// A response with its place in the order: a higher grade is better.
struct Graded {
    response: Content,
    /// `None` where nobody rated it.
    grade: Option<f64>,
}

/// Reads a row of rated responses, if it is one. What stays in `fields` is metadata.
pub(super) fn take(fields: &mut Fields) -> Result<Option<Judged>, Problem> {
    let list = RESPONSES.into_iter().find(|name| is_list(fields.get(*name)));
    if let Some(name) = list {
        return take_list(fields, name);
    }
    let one = ONE.into_iter().find(|name| fields.contains_key(*name));
    let rating = ITS_RATING.into_iter().find(|name| fields.contains_key(*name));
    let (Some(one), Some(rating)) = (one, rating) else { return Ok(None) };
    let found = fields.shift_remove(rating).unwrap_or_default();
    let Some(score) = number(found, rating)? else {
        return Err(Problem::new(rating, "a finite number", "null"));
    };
    let response = content(fields.shift_remove(one).unwrap_or_default(), one)?;
    let (prompt, mut graded) =
        with_prompt(fields, one, vec![Graded { response, grade: Some(score) }])?;
    let responses = graded.drain(..).map(|g| g.response).collect();
    Ok(Some(Judged::Rating(ScoredRow { prompt, responses, scores: vec![score] })))
}

/// A list, also one that stands as JSON in a column of text.
fn is_list(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::String(text)) => text.trim_start().starts_with('[') && listed(text).is_some(),
        _ => false,
    }
}

fn listed(text: &str) -> Option<Vec<Value>> {
    serde_json::from_str(text).ok()
}

/// Takes a list out of the row.
fn take_items(fields: &mut Fields, name: &str, expected: &str) -> Result<Vec<Value>, Problem> {
    match fields.shift_remove(name).unwrap_or_default() {
        Value::Array(items) => Ok(items),
        Value::String(text) => listed(&text)
            .ok_or_else(|| Problem::new(name, expected, describe(&Value::String(text)))),
        other => Err(Problem::new(name, expected, describe(&other))),
    }
}

fn take_list(fields: &mut Fields, name: &'static str) -> Result<Option<Judged>, Problem> {
    const EXPECTED: &str = "a list of responses";
    let ranked = name == "completions" && fields.contains_key("context");
    let items = match fields.get(name) {
        Some(Value::Array(items)) => items.clone(),
        Some(Value::String(text)) => listed(text).unwrap_or_default(),
        _ => return Ok(None),
    };
    let graded_inside = items.iter().any(|item| {
        let has = |name: &&str| item.get(name).is_some();
        item.is_object() && (item.get("rank").is_some() || SCORES.iter().any(has))
    });
    let beside =
        |names: &[&'static str]| names.iter().copied().find(|name| is_list(fields.get(*name)));
    let (ratings, ranks) = (beside(&RATINGS), beside(&RANKS));
    let two = name == "output" && items.len() == 2 && fields.contains_key("instruction");
    if !graded_inside && !ranked && ratings.is_none() && ranks.is_none() && !two {
        return Ok(None);
    }
    let (label, tie) = take_label(fields)?;
    let items = take_items(fields, name, EXPECTED)?;
    let mut by_rank = false;
    let graded: Vec<Graded> = if graded_inside || ranked {
        let mut graded = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let (response, inside_rank) = grade_inside(item, &format!("{name}[{i}]"))?;
            by_rank |= inside_rank;
            graded.push(response);
        }
        graded
    } else {
        let n = items.len();
        let grades = match (ratings, ranks) {
            (Some(column), _) => take_grades(fields, column, n, 1.0)?,
            (None, Some(column)) => {
                by_rank = true;
                take_grades(fields, column, n, -1.0)?
            }
            // The old format of LLaMA-Factory: the better one first.
            (None, None) => {
                by_rank = true;
                (0..n).map(|i| Some(-(i as f64))).collect()
            }
        };
        let responses = items
            .into_iter()
            .enumerate()
            .map(|(i, item)| content(item, &format!("{name}[{i}]")))
            .collect::<Result<Vec<_>, _>>()?;
        let pairs = responses.into_iter().zip(grades);
        pairs.map(|(response, grade)| Graded { response, grade }).collect()
    };
    let (prompt, graded) = with_prompt(fields, name, graded)?;
    let shape = match (ranked, two && ratings.is_none() && ranks.is_none()) {
        (true, _) => Shape::Ranked,
        (false, true) => Shape::Alpaca,
        (false, false) => Shape::Rated,
    };
    let pairs = match tie {
        true => vec![tied(prompt, graded, name)?],
        false => compare(&prompt, &graded, !by_rank, label, name)?,
    };
    Ok(Some(Judged::Pairs(pairs, shape)))
}

/// The prompt of the row, and the responses without it where all repeat it.
fn with_prompt(
    fields: &mut Fields,
    responses: &str,
    mut graded: Vec<Graded>,
) -> Result<(Content, Vec<Graded>), Problem> {
    let prompt = take_prompt(fields, &[responses])?.content.unwrap_or(Content::Text(String::new()));
    let mut prompt = prompt;
    let mut sides: Vec<_> = Vec::with_capacity(graded.len());
    for one in &graded {
        if let Content::Messages(turns) = &one.response {
            sides.push(turns.clone());
        }
    }
    if sides.len() == graded.len()
        && let Some(turns) = take_repeated_prompt(&prompt, &mut sides)
    {
        prompt = Content::Messages(turns);
        for (one, side) in graded.iter_mut().zip(sides) {
            one.response = Content::Messages(side);
        }
    }
    let prompt = with_system(prompt, take_system(fields)?)?;
    Ok((prompt, graded))
}

/// A response and its grade out of an object, and whether that is a rank.
fn grade_inside(value: Value, field: &str) -> Result<(Graded, bool), Problem> {
    let Value::Object(mut fields) = value else {
        return Err(Problem::new(field, "an object with rank and completion", describe(&value)));
    };
    let place = |name: &str| format!("{field}.{name}");
    let (grade, by_rank) = match fields.get("rank") {
        Some(rank) => {
            let rank = rank
                .as_i64()
                .ok_or_else(|| Problem::new(&place("rank"), "a whole number", describe(rank)))?;
            (Some(-(rank as f64)), true)
        }
        None => {
            let known =
                SCORES.into_iter().find(|name| fields.get(*name).is_some_and(|v| !v.is_null()));
            let Some(name) = known else {
                return Err(missing(&place("rank"), "a whole number, or a score", &fields));
            };
            (rating(fields.get(name).cloned().unwrap_or_default(), &place(name))?, false)
        }
    };
    let Some(name) = TEXTS.into_iter().find(|name| fields.contains_key(*name)) else {
        return Err(missing(&place("completion"), CONTENT, &fields));
    };
    let response = content(fields.shift_remove(name).unwrap_or_default(), &place(name))?;
    Ok((Graded { response, grade }, by_rank))
}

fn take_grades(
    fields: &mut Fields,
    column: &str,
    responses: usize,
    sign: f64,
) -> Result<Vec<Option<f64>>, Problem> {
    let expected = format!("a list of {responses} numbers, one for each response");
    let items = take_items(fields, column, &expected)?;
    if items.len() != responses {
        return Err(Problem::new(column, expected, describe(&Value::Array(items))));
    }
    let grade = |(i, item)| Ok(rating(item, &format!("{column}[{i}]"))?.map(|grade| sign * grade));
    items.into_iter().enumerate().map(grade).collect()
}

/// A rating, or none: `N/A` is how some sets write that nobody gave one.
fn rating(value: Value, field: &str) -> Result<Option<f64>, Problem> {
    match &value {
        Value::String(text) if matches!(text.trim(), "N/A" | "n/a" | "NA" | "None") => Ok(None),
        _ => number(value, field),
    }
}

/// The one pair of two responses that are as good.
fn tied(prompt: Content, graded: Vec<Graded>, field: &str) -> Result<PreferencePair, Problem> {
    let n = graded.len();
    let Ok([first, second]) = <[Graded; 2]>::try_from(graded) else {
        return Err(Problem::new(
            field,
            "two responses, for `tie` is true",
            format!("{n} responses"),
        ));
    };
    if first.grade != second.grade {
        let shown = |g: &Graded| g.grade.map_or("none".to_owned(), |g| g.abs().to_string());
        let found = format!("{} and {}", shown(&first), shown(&second));
        return Err(Problem::new(field, "equal ranks or ratings, for `tie` is true", found));
    }
    let (chosen, rejected) = (first.response, second.response);
    Ok(PreferencePair { prompt, chosen, rejected, margin: None, tie: true })
}

/// Every better response before every worse one, in the order of the row. The difference of ratings is
/// the margin, unless the row has one of its own.
fn compare(
    prompt: &Content,
    graded: &[Graded],
    rated: bool,
    label: Option<f64>,
    field: &str,
) -> Result<Vec<PreferencePair>, Problem> {
    let mut pairs = Vec::new();
    for (i, a) in graded.iter().enumerate() {
        for b in &graded[i + 1..] {
            let (Some(x), Some(y)) = (a.grade, b.grade) else { continue };
            let (better, worse) = match x.total_cmp(&y) {
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => (a, b),
                std::cmp::Ordering::Less => (b, a),
            };
            let difference = rated.then_some((x - y).abs());
            pairs.push(PreferencePair {
                prompt: prompt.clone(),
                chosen: better.response.clone(),
                rejected: worse.response.clone(),
                margin: margin(label.or(difference), field)?,
                tie: false,
            });
        }
    }
    match (pairs.is_empty(), graded) {
        (false, _) => Ok(pairs),
        (true, []) => Err(Problem::new(field, "responses", "none")),
        (true, [_]) => Err(Problem::new(field, "two responses or more", "one response")),
        (true, [first, ..]) => {
            let found = match first.grade {
                Some(grade) => format!("{} for all that have one", grade.abs()),
                None => "none".to_owned(),
            };
            Err(Problem::new(field, "two responses with different ranks or ratings", found))
        }
    }
}

/// Pairs of rated responses that stood in rows of their own, all to one prompt: of each pair the index
/// of the better and of the worse response.
pub(super) fn compare_rows(scores: &[f64]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (i, a) in scores.iter().enumerate() {
        for (j, b) in scores.iter().enumerate().skip(i + 1) {
            match a.total_cmp(b) {
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => pairs.push((i, j)),
                std::cmp::Ordering::Less => pairs.push((j, i)),
            }
        }
    }
    pairs
}

/// The problem of a rated response that no other one to the same prompt can be compared with.
pub(super) fn nothing_to_compare(alone: bool) -> Problem {
    let found =
        if alone { "the only response to its prompt" } else { "the same rating for all of them" };
    Problem::new(WHOLE_ROW, "another response to the same prompt with a different rating", found)
}
