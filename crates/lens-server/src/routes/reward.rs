//! `/v1/reward`, our own route: everything that the reward model says of responses or embeddings.

use super::usage_json;
use crate::app::{App, Scored, beyond};
use crate::body;
use crate::clock::now;
use crate::embeddings::{Dtype, Embeddings, rows_from_bytes};
use crate::failure::Failure;
use crate::input::{Beside, Chats, TextOrChat};
use crate::models::Model;
use crate::nearest::NearPair;
use crate::response::{Usage, json_response, response};
use crate::score::{Distance, score};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;
use lens_core::metrics::sigmoid;
use lens_core::{Exchange, Judged, Matrix};
use lens_encoder::Input;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The media type of bodies and answers that are bytes.
const BYTES: &str = "application/octet-stream";
/// Most responses that are compared with each other.
const MAX_RESPONSES: usize = 64;
/// Most pairs that are answered as the nearest.
const MAX_NEAREST: usize = 100;

/// The body of a request: one of `messages`, `prompt` with `responses`, or `embeddings`.
#[derive(Deserialize)]
struct RewardRequest {
    model: Option<String>,
    messages: Option<Chats>,
    prompt: Option<TextOrChat>,
    responses: Option<Vec<TextOrChat>>,
    embeddings: Option<Embeddings>,
    /// How many of the nearest training pairs to name.
    #[serde(default)]
    nearest: usize,
    #[serde(flatten)]
    beside: Beside,
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

/// The texts or embeddings of a request.
enum RewardInput {
    Texts { inputs: Vec<Input>, compared: bool },
    Rows(Matrix),
}

/// Answers `/v1/reward`.
pub(super) async fn reward(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    if body::media_type(request.headers()).as_deref() == Some(BYTES) {
        return bytes(&app, request).await;
    }
    let body: RewardRequest = app.json(request).await?;
    let (nearest, model) = (body.nearest, app.registry.find(body.model.as_deref())?);
    if nearest > MAX_NEAREST {
        return Err(Failure::field("nearest", format!("at most {MAX_NEAREST} are answered")));
    }
    if nearest > 0 && model.nearest.is_none() {
        let message = "no pairs are at hand: start the server with --pairs FILE";
        return Err(Failure::field("nearest", message));
    }
    match reward_input(body, &model)? {
        RewardInput::Texts { inputs, compared } => {
            let scored = app.score(&model, inputs).await?;
            let Scored { encoded, rows, judged, distances, usage } = scored;
            let mut results = results(&model, &judged, distances.as_deref(), &rows, nearest);
            for (one, encoded) in results.iter_mut().zip(&encoded) {
                one.tokens = Some(encoded.tokens);
                one.truncated = Some(encoded.truncated);
            }
            let wins = compared.then(|| wins(&judged.rewards));
            let best = compared.then(|| best(&judged.rewards));
            answer_of(&app, &model, results, best, wins, usage)
        }
        RewardInput::Rows(rows) => {
            let judged = score_rows(&app, &model, &rows).await?;
            let distances = app.distances(&model, &rows).await?;
            let usage = usage_of_rows(&rows, distances.as_deref());
            let results = results(&model, &judged, distances.as_deref(), &rows, nearest);
            answer_of(&app, &model, results, None, None, usage)
        }
    }
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

/// The texts or embeddings of a body, in whichever form it has them.
fn reward_input(body: RewardRequest, model: &Model) -> Result<RewardInput, Failure> {
    let beside = &body.beside;
    match (body.messages, body.prompt, body.responses, body.embeddings) {
        (Some(chats), None, None, None) => {
            Ok(RewardInput::Texts { inputs: chats.exchanges(beside)?, compared: false })
        }
        (None, Some(prompt), Some(responses), None) => {
            if responses.len() > MAX_RESPONSES {
                let n = responses.len();
                let message =
                    format!("{n} responses to a prompt; at most {MAX_RESPONSES} are compared");
                return Err(Failure::field("responses", message));
            }
            let prompt = prompt.read("prompt", beside)?;
            let one = |(i, response): (usize, TextOrChat)| {
                let response = response.read(&format!("responses[{i}]"), beside)?;
                Ok(Input::Exchange(Exchange { prompt: prompt.clone(), response }))
            };
            let inputs = responses.into_iter().enumerate().map(one);
            Ok(RewardInput::Texts {
                inputs: inputs.collect::<Result<_, Failure>>()?,
                compared: true,
            })
        }
        (None, None, None, Some(embeddings)) => {
            Ok(RewardInput::Rows(embeddings.matrix(model.dim())?))
        }
        _ => Err(Failure::field(
            "messages",
            "one of these is needed: `messages`; `prompt` with `responses`; `embeddings`",
        )),
    }
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
    let body = body::read(request, &app.options.limits).await?;
    let rows = rows_from_bytes(&body, dtype, model.dim())?;
    drop(body);
    let judged = score_rows(app, &model, &rows).await?;
    if plain {
        let usage = usage_of_rows(&rows, None);
        let bytes: Vec<u8> = judged.rewards.iter().flat_map(|r| r.to_le_bytes()).collect();
        return Ok(response(bytes, BYTES, usage));
    }
    let distances = app.distances(&model, &rows).await?;
    let usage = usage_of_rows(&rows, distances.as_deref());
    let results = results(&model, &judged, distances.as_deref(), &rows, 0);
    answer_of(app, &model, results, None, None, usage)
}

fn usage_of_rows(rows: &Matrix, distances: Option<&[Distance]>) -> Usage {
    Usage { texts: rows.rows(), out_of_distribution: beyond(distances), ..Usage::default() }
}

async fn score_rows(app: &App, model: &Model, rows: &Matrix) -> Result<Judged, Failure> {
    let each = model.reward.head.shape().parameters();
    let judged = app.work_on_rows(each, rows, || score(model, rows)).await?;
    app.metrics.rewarded(rows.rows());
    Ok(judged)
}

fn results<'a>(
    model: &'a Model,
    judged: &Judged,
    distances: Option<&[Distance]>,
    rows: &Matrix,
    nearest: usize,
) -> Vec<RewardResult<'a>> {
    let pairs = model.nearest.as_ref().filter(|_| nearest > 0);
    let one = |index: usize| RewardResult {
        index,
        reward: judged.rewards[index],
        normalised: judged.normalised[index],
        deviation: judged.deviations[index],
        novelty: distances.map(|all| all[index]),
        tokens: None,
        truncated: None,
        nearest: pairs.map(|p| p.find(rows.row(index), &model.reward.standardiser, nearest)),
    };
    (0..rows.rows()).map(one).collect()
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
