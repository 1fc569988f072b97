//! The routes: a file for each kind of client.

mod health;
mod llamafactory;
mod models;
mod openai;
mod openrlhf;
mod page;
mod reward;
mod tei;
mod vectors;
mod vllm;

use crate::app::App;
use crate::failure::Failure;
use crate::response::Usage;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

/// A path, its method, and its handler.
type Route = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// The paths that need no token: those that tell whether the server lives, and the files of the
/// pages, which hold no data.
const WITHOUT_TOKEN: [&str; 8] =
    ["/health", "/ready", "/", "/page.js", "/page.css", "/docs", "/docs.js", "/docs.css"];

/// All routes.
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

/// The router of all routes, with 404 and 405 for other requests.
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

/// The name of a path in the log and the metrics: the path itself if there is such a route, and
/// `other` otherwise, so that clients cannot make up names.
pub(crate) fn label(path: &str) -> &'static str {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| all().into_iter().map(|(path, ..)| path).collect());
    NAMES.iter().find(|name| **name == path).copied().unwrap_or("other")
}

/// Whether a path needs no token.
pub(crate) fn is_open(path: &str) -> bool {
    WITHOUT_TOKEN.contains(&path)
}

/// `usage`, as OpenAI has it. A reward has no completion.
fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.tokens,
        "completion_tokens": 0,
        "total_tokens": usage.tokens,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_is_of_a_route() {
        let described: Value = serde_json::from_str(page::OPENAPI).unwrap();
        let mut described_routes: Vec<(String, String)> = described["paths"]
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
        described_routes.sort();
        served.sort();
        assert_eq!(described_routes, served);
    }

    #[test]
    fn every_route_has_its_label() {
        for (path, ..) in all() {
            assert_eq!(label(path), path);
        }
        assert_eq!(label("/v1/rewards"), "other");
        assert!(WITHOUT_TOKEN.iter().all(|open| all().iter().any(|(path, ..)| path == open)));
    }
}
