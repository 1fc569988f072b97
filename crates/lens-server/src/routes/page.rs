//! The page that compares responses, the page to try the routes on, and the description of the
//! routes. All of them are compiled in, and load nothing from elsewhere.

use crate::response::{Usage, response};
use axum::response::Response;

/// The description of all routes, OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("../openapi.json");

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

fn file(text: &'static str, media_type: &'static str) -> Response {
    response(text, media_type, Usage::default())
}

/// `/openapi.json`.
pub(super) async fn openapi() -> Response {
    file(OPENAPI, "application/json")
}

/// `/`: the page that compares responses.
pub(super) async fn index() -> Response {
    file(include_str!("../page/index.html"), HTML)
}

/// Its script.
pub(super) async fn index_js() -> Response {
    file(include_str!("../page/page.js"), SCRIPT)
}

/// Its style.
pub(super) async fn index_css() -> Response {
    file(include_str!("../page/page.css"), STYLE)
}

/// `/docs`: the page to try the routes on.
pub(super) async fn docs() -> Response {
    file(include_str!("../page/docs.html"), HTML)
}

/// Its script.
pub(super) async fn docs_js() -> Response {
    file(include_str!("../page/docs.js"), SCRIPT)
}

/// Its style.
pub(super) async fn docs_css() -> Response {
    file(include_str!("../page/docs.css"), STYLE)
}
