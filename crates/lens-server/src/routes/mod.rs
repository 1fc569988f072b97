//! The routes, a file for each of the peers whose clients call them.

mod health;
mod llamafactory;
mod models;
mod openai;
mod openrlhf;
mod page;
mod reward;
mod tei;
mod vllm;

use crate::app::{App, Spent};
use crate::failure::Failure;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

/// A path, its method, and what answers.
type Route = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// What everybody may see: whether the server lives, and the page's files, which hold nothing.
const OPEN: [&str; 8] =
    ["/health", "/ready", "/", "/page.js", "/page.css", "/docs", "/docs.js", "/docs.css"];

/// Every route there is.
fn all() -> Vec<Route> {
    vec![
        ("/get_reward", "post", post(openrlhf::get_reward)),
        ("/v1/score/evaluation", "post", post(llamafactory::evaluation)),
        ("/classify", "post", post(vllm::classify)),
        ("/v1/classify", "post", post(vllm::classify)),
        ("/score", "post", post(vllm::score)),
        ("/v1/score", "post", post(vllm::score)),
        ("/rerank", "post", post(vllm::rerank)),
        ("/v1/rerank", "post", post(vllm::rerank)),
        ("/v2/rerank", "post", post(vllm::rerank)),
        ("/pooling", "post", post(vllm::pooling)),
        ("/predict", "post", post(tei::predict)),
        ("/v1/embeddings", "post", post(openai::embeddings)),
        ("/v1/reward", "post", post(reward::reward)),
        ("/v1/models", "get", get(models::list)),
        ("/v1/models/reload", "post", post(models::reload)),
        ("/health", "get", get(health::health)),
        ("/ready", "get", get(health::ready)),
        ("/metrics", "get", get(health::metrics)),
        ("/openapi.json", "get", get(page::openapi)),
        ("/", "get", get(page::index)),
        ("/page.js", "get", get(page::index_js)),
        ("/page.css", "get", get(page::index_css)),
        ("/docs", "get", get(page::docs)),
        ("/docs.js", "get", get(page::docs_js)),
        ("/docs.css", "get", get(page::docs_css)),
    ]
}

/// All routes, with 404 and 405 for what is none.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, _, answers) in all() {
        router = router.route(path, answers);
    }
    router
        .method_not_allowed_fallback(|| async {
            let message = "this path is there, but not with this method";
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
        })
        .fallback(|| async {
            let message = "there is no such path here; /openapi.json lists those there are";
            Failure::new(StatusCode::NOT_FOUND, "path", message)
        })
        .with_state(Arc::clone(app))
}

/// The route of a path as the log and the metrics name it: the path itself where there is such a
/// route, so that nobody can make up names.
pub(crate) fn label(path: &str) -> &'static str {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| all().into_iter().map(|(path, ..)| path).collect());
    NAMES.iter().find(|name| **name == path).copied().unwrap_or("other")
}

/// Whether a path may be asked for without a token.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// `usage`, as OpenAI has it. A reward has no completion.
fn usage(spent: Spent) -> Value {
    json!({
        "prompt_tokens": spent.tokens,
        "completion_tokens": 0,
        "total_tokens": spent.tokens,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_is_of_a_route() {
        let described: Value = serde_json::from_str(page::OPENAPI).unwrap();
        let mut told: Vec<(String, String)> = described["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, operations)| {
                let methods = operations.as_object().unwrap().keys();
                methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
            })
            .collect();
        // The page's files are no operations.
        let mut served: Vec<(String, String)> = all()
            .iter()
            .filter(|(path, ..)| !is_open(path) || ["/health", "/ready"].contains(path))
            .map(|(path, method, _)| ((*path).to_owned(), (*method).to_owned()))
            .collect();
        told.sort();
        served.sort();
        assert_eq!(told, served);
    }

    #[test]
    fn every_route_has_its_label() {
        for (path, ..) in all() {
            assert_eq!(label(path), path);
        }
        assert_eq!(label("/v1/rewards"), "other");
        assert!(OPEN.iter().all(|open| all().iter().any(|(path, ..)| path == open)));
    }
}
