//! `/v1/reward`, our own route: everything that the reward model says of responses or embeddings.

use super::usage_json;
use crate::app::{App, Scored, beyond};
use crate::body;
use crate::clock::now;
use crate::embeddings::{Dtype, Embeddings, rows_from_bytes};
use crate::failure::Failure;
use crate::input::{Asked, Chats, Compared, Responses, TextOrChat, WithBeside};
use crate::memory::Held;
use crate::models::Model;
use crate::nearest::NearPair;
use crate::response::{Usage, json_response, response};
use crate::score::{Distance, score};
use axum::extract::{Request, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use lens_core::metrics::sigmoid;
use lens_core::{Judged, Matrix};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// The media type of bodies and answers that are bytes.
const BYTES: &str = "application/octet-stream";
/// Most pairs that are answered as the nearest.
const MAX_NEAREST: usize = 100;
/// Memory that a row of embeddings takes from its reward to its line of the answer, which grows by
/// doubling; and where the answer is the rewards alone.
const MEMORY_PER_ROW: usize = 1 << 10;
const MEMORY_PER_REWARD: usize = 64;

/// The body of a request: one of `messages`, `prompt` with `responses`, or `embeddings`.
#[derive(Deserialize)]
struct RewardRequest {
    model: Option<String>,
    messages: Option<Chats>,
    prompt: Option<TextOrChat>,
    responses: Option<Responses>,
    embeddings: Option<Embeddings>,
    /// How many of the nearest training pairs to name.
    #[serde(default)]
    nearest: usize,
}

/// The body of an answer.
#[derive(Serialize)]
struct RewardAnswer<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    results: Vec<RewardResult<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wins: Option<Vec<Vec<f64>>>,
    usage: Value,
}

/// The reward of one response or row, with everything that is known about it.
#[derive(Serialize)]
struct RewardResult<'a> {
    index: usize,
    reward: f32,
    normalised: f64,
    deviation: f64,
    novelty: Option<Distance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<Vec<NearPair<'a>>>,
}

/// Answers `/v1/reward`.
pub(super) async fn reward(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    if body::media_type(request.headers()).as_deref() == Some(BYTES) {
        return bytes(&app, request).await;
    }
    let (WithBeside { body, beside }, held) = app.json(request).await?;
    let body: RewardRequest = body;
    let (nearest, model) = (body.nearest, app.registry.find(body.model.as_deref())?);
    if nearest > MAX_NEAREST {
        return Err(Failure::field("nearest", format!("at most {MAX_NEAREST} are answered")));
    }
    if nearest > 0 && model.nearest.is_none() {
        let message = "no pairs are at hand: start the server with --pairs FILE";
        return Err(Failure::field("nearest", message));
    }
    match (body.messages, body.prompt, body.responses, body.embeddings) {
        (Some(chats), None, None, None) => {
            beside.refuse()?;
            texts(&app, &model, chats, nearest, false, &held).await
        }
        (None, Some(prompt), Some(responses), None) => {
            let compared = Compared::read(prompt, responses, beside)?;
            texts(&app, &model, compared, nearest, true, &held).await
        }
        (None, None, None, Some(embeddings)) => {
            let rows = embeddings.matrix(model.dim())?;
            score_rows(&app, &model, &rows, nearest, &held).await
        }
        _ => Err(Failure::field(
            "messages",
            "one of these is needed: `messages`; `prompt` with `responses`; `embeddings`",
        )),
    }
}

/// Scores texts, which may be responses to `compare` with each other.
async fn texts(
    app: &App,
    model: &Arc<Model>,
    asked: impl Asked,
    nearest: usize,
    compare: bool,
    held: &Arc<Held>,
) -> Result<Response, Failure> {
    admit_nearest(app, asked.count(), nearest)?;
    let Scored { encoded, rows, judged, distances, usage } = app.score(model, asked, held).await?;
    let mut results =
        results(app, model, &judged, distances.as_deref(), &rows, nearest, held).await?;
    for (one, encoded) in results.iter_mut().zip(&encoded) {
        one.tokens = Some(encoded.tokens);
        one.truncated = Some(encoded.truncated);
    }
    let wins = compare.then(|| wins(&judged.rewards));
    let best = compare.then(|| best(&judged.rewards));
    answer_of(app, model, results, best, wins, usage)
}

/// Scores rows of embeddings.
async fn score_rows(
    app: &App,
    model: &Model,
    rows: &Matrix,
    nearest: usize,
    held: &Held,
) -> Result<Response, Failure> {
    admit_nearest(app, rows.rows(), nearest)?;
    held.take_each(rows.rows(), MEMORY_PER_ROW + members_memory(model))?;
    let judged = judge_rows(app, model, rows).await?;
    let distances = app.distances(model, rows).await?;
    let usage = usage_of_rows(rows, distances.as_deref());
    let results = results(app, model, &judged, distances.as_deref(), rows, nearest, held).await?;
    answer_of(app, model, results, None, None, usage)
}

/// Memory that the rewards of a row by all members take.
fn members_memory(model: &Model) -> usize {
    model.reward.head.shape().members * size_of::<f32>()
}

/// Refuses a request for more near pairs than an answer may have.
fn admit_nearest(app: &App, texts: usize, nearest: usize) -> Result<(), Failure> {
    let most = app.options.limits.nearest;
    let asked = texts.saturating_mul(nearest);
    if asked <= most {
        return Ok(());
    }
    let message = format!(
        "{nearest} near pairs to each of {texts} are {asked}; at most {most} are answered \
         (--max-nearest)"
    );
    Err(Failure {
        param: Some("nearest".to_owned()),
        ..Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_nearest", message)
    })
}

fn answer_of(
    app: &App,
    model: &Model,
    results: Vec<RewardResult>,
    best: Option<usize>,
    wins: Option<Vec<Vec<f64>>>,
    usage: Usage,
) -> Result<Response, Failure> {
    let answer = RewardAnswer {
        id: format!("reward-{}", app.next_request_id()),
        object: "reward",
        created: now(),
        model: &model.name,
        results,
        best,
        wins,
        usage: usage_json(usage),
    };
    json_response(&answer, usage)
}

/// A body of bytes: rows of embeddings, whose type is in `X-Lens-Dtype` and whose model in
/// `X-Lens-Model`. With `Accept: application/octet-stream` the answer is rewards alone, as f32.
async fn bytes(app: &App, request: Request) -> Result<Response, Failure> {
    let header = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
    };
    let headers = request.headers();
    let dtype = header(headers, "x-lens-dtype");
    let dtype = dtype.ok_or_else(|| Failure::field("X-Lens-Dtype", "this header is missing"))?;
    let dtype = Dtype::parse(&dtype)?;
    let model = app.registry.find(header(headers, "x-lens-model").as_deref())?;
    let plain = header(headers, ACCEPT.as_str()).is_some_and(|a| a.trim() == BYTES);
    let held = app.held(&request);
    let body = body::read(request, &app.options.limits, &held).await?;
    held.take_each(body.len() / dtype.bytes(), size_of::<f32>())?;
    let rows = rows_from_bytes(&body, dtype, model.dim())?;
    drop(body);
    if !plain {
        return score_rows(app, &model, &rows, 0, &held).await;
    }
    held.take_each(rows.rows(), MEMORY_PER_REWARD + members_memory(&model))?;
    let judged = judge_rows(app, &model, &rows).await?;
    let usage = usage_of_rows(&rows, None);
    let bytes: Vec<u8> = judged.rewards.iter().flat_map(|r| r.to_le_bytes()).collect();
    Ok(response(bytes, BYTES, usage))
}

fn usage_of_rows(rows: &Matrix, distances: Option<&[Distance]>) -> Usage {
    Usage { texts: rows.rows(), out_of_distribution: beyond(distances), ..Usage::default() }
}

async fn judge_rows(app: &App, model: &Model, rows: &Matrix) -> Result<Judged, Failure> {
    let each = model.reward.head.shape().parameters();
    let judged = app.work_on_rows(each, rows, || score(model, rows)).await?;
    app.metrics.rewarded(rows.rows());
    Ok(judged)
}

async fn results<'a>(
    app: &App,
    model: &'a Model,
    judged: &Judged,
    distances: Option<&[Distance]>,
    rows: &Matrix,
    nearest: usize,
    held: &Held,
) -> Result<Vec<RewardResult<'a>>, Failure> {
    let one = |index: usize| RewardResult {
        index,
        reward: judged.rewards[index],
        normalised: judged.normalised[index],
        deviation: judged.deviations[index],
        novelty: distances.map(|all| all[index]),
        tokens: None,
        truncated: None,
        nearest: None,
    };
    let mut results: Vec<RewardResult> = (0..rows.rows()).map(one).collect();
    let Some(pairs) = model.nearest.as_ref().filter(|_| nearest > 0) else { return Ok(results) };
    held.take(pairs.search_memory())?;
    let end = Instant::now() + app.options.limits.timeout;
    let search = || {
        for (index, result) in results.iter_mut().enumerate() {
            if Instant::now() > end {
                return Err(app.too_late());
            }
            let standardiser = &model.reward.standardiser;
            result.nearest = Some(pairs.find(rows.row(index), standardiser, nearest, held)?);
        }
        Ok(())
    };
    app.work_on_rows(pairs.work(), rows, search).await?;
    Ok(results)
}

/// The response with the highest reward; the first of several.
fn best(rewards: &[f32]) -> usize {
    let mut best = 0;
    for (i, reward) in rewards.iter().enumerate() {
        if *reward > rewards[best] {
            best = i;
        }
    }
    best
}

/// The probability that response i is preferred to response j, for every i and j.
fn wins(rewards: &[f32]) -> Vec<Vec<f64>> {
    let row = |a: &f32| -> Vec<f64> {
        rewards.iter().map(|b| sigmoid(f64::from(*a) - f64::from(*b))).collect()
    };
    rewards.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_responses_the_first_is_best_and_each_wins_half() {
        assert_eq!(best(&[1.0, 2.0, 2.0]), 1);
        let wins = wins(&[2.0, 0.0, 2.0]);
        assert_eq!((wins[0][2], wins[0][0]), (0.5, 0.5));
        assert!((wins[0][1] + wins[1][0] - 1.0).abs() < 1e-12 && wins[0][1] > 0.88);
    }
}
