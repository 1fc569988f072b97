//! `/openapi.json` says what the server does: every schema of it, of requests, answers and
//! refusals, is held against what a running server accepts and sends, and nothing is sent that is
//! not in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/schemas.rs"]
mod schemas;

use common::http::{Client, Reply};
use common::{DIM, PATIENCE, Server, bundle, options, rows};
use lens_core::{Content, Exchange, Progress};
use lens_data::Bundle;
use lens_data::EncoderRecord;
use lens_encoder::{
    EncodeStats, Encoded, EncoderError, EncoderIdentity, Input, ServerError, SpecialTokens,
    TemplateChoice, TextEncoder, ViewChoice,
};
use lens_server::{BearerTokens, BoxedError, Limits, ModelSource, Options};
use schemas::Document;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const TOKEN: &str = "a-token-of-this-test";

/// An encoder that does what a word in a text says.
struct Words {
    identity: EncoderIdentity,
    /// Calls that wait.
    waiting: Arc<AtomicUsize>,
}

fn identity() -> EncoderIdentity {
    EncoderIdentity {
        model_file: "words".to_owned(),
        model_sha256: String::new(),
        architecture: String::new(),
        dim: DIM,
        layers: 1,
        template: String::new(),
        template_sha256: String::new(),
        add_bos: false,
        add_eos: false,
        special_tokens: SpecialTokens::Text,
        views: Vec::new(),
        dtype: String::new(),
        max_length: 512,
    }
}

fn text(input: &Input) -> String {
    let of = |content: &Content| match content {
        Content::Text(text) => text.clone(),
        Content::Messages(all) => all.iter().map(|m| m.content.as_str()).collect(),
    };
    match input {
        Input::Text(text) | Input::Rendered(text) => text.clone(),
        Input::Exchange(exchange) => of(&exchange.prompt) + &of(&exchange.response),
    }
}

impl TextEncoder for Words {
    fn identity(&self) -> &EncoderIdentity {
        &self.identity
    }

    fn template(&self) -> &TemplateChoice {
        &TemplateChoice::Plain
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn set_views(&mut self, _views: &[ViewChoice]) -> lens_encoder::Result<()> {
        Err(EncoderError::Cancelled)
    }

    fn stats(&self) -> EncodeStats {
        EncodeStats::default()
    }

    fn encode_exchanges(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> lens_encoder::Result<Vec<Encoded>> {
        let inputs: Vec<Input> = exchanges.iter().cloned().map(Input::Exchange).collect();
        self.encode_inputs(&inputs, progress)
    }

    fn encode_texts(
        &self,
        texts: &[String],
        progress: &dyn Progress,
    ) -> lens_encoder::Result<Vec<Encoded>> {
        let inputs: Vec<Input> = texts.iter().cloned().map(Input::Text).collect();
        self.encode_inputs(&inputs, progress)
    }

    fn encode_inputs(
        &self,
        inputs: &[Input],
        progress: &dyn Progress,
    ) -> lens_encoder::Result<Vec<Encoded>> {
        let mut all = Vec::new();
        for text in inputs.iter().map(text) {
            if text.contains("WAIT") {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                while !progress.cancelled() {
                    sleep(Duration::from_millis(1));
                }
                return Err(EncoderError::Cancelled);
            }
            if text.contains("FAIL") {
                return Err(EncoderError::Tokenizer { detail: "told to fail".to_owned() });
            }
            if text.contains("DOWN") {
                let (url, detail) = ("http://here".to_owned(), "told to be down".to_owned());
                return Err(EncoderError::Server(ServerError::Garbage { url, detail }));
            }
            if text.contains("STOP") {
                return Err(EncoderError::Cancelled);
            }
            let (tokens, truncated) = (text.split_whitespace().count(), text.contains("LONG"));
            let vector = rows(1, text.len() as f32 * 0.01).into();
            all.push(Encoded { vector, tokens, truncated, ids_hash: 0 });
        }
        Ok(all)
    }
}

/// Bundles by the name of their folder, of which there is none: `texts` has an encoder, `vectors`
/// has none, `plain` has no VAE either; the others are as `vectors` when they are first read, and
/// then `breaks`, `panics` or is `slow`.
struct Named {
    bundle: Bundle,
    waiting: Arc<AtomicUsize>,
    read: Mutex<BTreeMap<String, usize>>,
}

impl ModelSource for Named {
    fn bundle(&self, path: &Path) -> Result<Bundle, BoxedError> {
        let name = path.to_str().unwrap();
        let times = {
            let mut read = self.read.lock().unwrap();
            let times = read.entry(name.to_owned()).or_default();
            *times += 1;
            *times
        };
        let mut bundle = self.bundle.clone();
        match (name, times) {
            ("texts", _) => {
                bundle.manifest.encoder = Some(EncoderRecord {
                    model: "words".to_owned(),
                    template: TemplateChoice::Plain,
                    identity: identity(),
                    server: None,
                });
            }
            ("plain", _) => (bundle.vae, bundle.novelty) = (None, None),
            (_, 1) | ("vectors", _) => {}
            ("panics", _) => panic!("told to panic"),
            ("slow", _) => sleep(Duration::from_secs(2)),
            _ => return Err("told to break".into()),
        }
        Ok(bundle)
    }

    fn encoder(
        &self,
        bundle: &Bundle,
        _path: &Path,
        _keep_vectors: bool,
    ) -> Result<Option<Box<dyn TextEncoder>>, BoxedError> {
        let words = || {
            let words = Words { identity: identity(), waiting: Arc::clone(&self.waiting) };
            Box::new(words) as Box<dyn TextEncoder>
        };
        Ok(bundle.manifest.encoder.as_ref().map(|_| words()))
    }
}

/// The routes that score texts: a request with this text.
fn with_text(path: &str, text: &str) -> Option<Value> {
    Some(match path {
        "/v1/reward" => json!({"prompt": "p", "responses": [text]}),
        "/get_reward" => json!({"query": [text]}),
        "/v1/score/evaluation" => json!({"messages": [text]}),
        "/classify" | "/v1/classify" | "/pooling" | "/v1/embeddings" => json!({"input": [text]}),
        "/score" | "/v1/score" => json!({"queries": "q", "documents": [text]}),
        "/rerank" | "/v1/rerank" | "/v2/rerank" => json!({"query": "q", "documents": [text]}),
        "/predict" => json!({"inputs": text}),
        _ => return None,
    })
}

/// Requests that are accepted, beside the examples: all fields and all forms of each route.
fn accepted() -> Vec<(&'static str, Value)> {
    let turn = |role: &str, content: Value| json!({"role": role, "content": content});
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let chat = json!([turn("user", json!("What?")), turn("assistant", parts)]);
    let row = rows(1, 0.1);
    // Four zeros a float: a row of zeros.
    let zeros = base64(&[0; 4 * DIM]);
    let mut all = vec![
        ("/v1/reward", json!({"model": "texts", "messages": chat})),
        ("/v1/reward", json!({"messages": [chat, chat]})),
        ("/v1/reward", json!({"prompt": chat, "responses": [chat, "LONG"], "nearest": 0})),
        ("/v1/reward", json!({"model": "vectors", "embeddings": [row, row]})),
        ("/v1/reward", json!({"model": "plain", "embeddings": row})),
        ("/v1/reward", json!({"embeddings": zeros})),
        ("/get_reward", json!({"query": "a", "prompts": ["a"], "labels": [1], "model": "texts"})),
        ("/v1/score/evaluation", json!({"messages": "a"})),
        ("/predict", json!({"inputs": "a"})),
        ("/predict", json!({"inputs": ["a", "b"], "raw_scores": false})),
        ("/predict", json!({"inputs": [["a"], ["a", "b"], "c"]})),
        ("/v1/models/reload", json!({"model": "vectors"})),
    ];
    for path in ["/classify", "/v1/classify"] {
        all.push((path, json!({"model": "texts", "input": "a", "use_activation": true})));
        all.push((path, json!({"messages": chat})));
        all.push((path, json!({"messages": [chat], "activation": true})));
    }
    for path in ["/pooling", "/v1/embeddings"] {
        all.push((path, json!({"model": "texts", "input": "a", "encoding_format": "float"})));
        all.push((path, json!({"messages": chat, "encoding_format": "base64"})));
    }
    for path in ["/score", "/v1/score"] {
        all.push((path, json!({"model": "texts", "queries": ["a"], "documents": "b"})));
        all.push((path, json!({"text_1": "a", "text_2": ["b", "c"], "activation": true})));
        let both = json!({"data_1": ["a", "b"], "data_2": ["b", "c"], "use_activation": false});
        all.push((path, both));
    }
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let own = json!({"model": "texts", "query": "a", "documents": ["b", "cd"], "top_n": 1,
            "activation": true});
        all.push((path, own));
        all.push((path, json!({"query": "a", "documents": ["b"], "use_activation": false})));
        all.push((path, json!({"query": "a", "texts": ["b", "cd"]})));
        let tei = json!({"query": "a", "texts": ["b"], "raw_scores": true, "return_text": true});
        all.push((path, tei));
    }
    all
}

/// Base64 of bytes whose number is no multiple of 3 only where they are zeros.
fn base64(zeros: &[u8]) -> String {
    let (whole, rest) = (zeros.len() / 3, zeros.len() % 3);
    "AAAA".repeat(whole) + ["", "AA==", "AAA="][rest]
}

/// A document, and what has been answered of what it lists.
struct Exam {
    document: Document,
    answered: BTreeSet<(String, String, u16)>,
}

impl Exam {
    /// An answer must be one that the document lists for the operation.
    #[track_caller]
    fn answer(&mut self, path: &str, method: &str, reply: &Reply) {
        let status = reply.status;
        let place = self.document.response(path, method, status);
        let place = place.unwrap_or_else(|| {
            panic!("{method} {path}: {status} is not described: {}", reply.text())
        });
        let header = reply.header("content-type").unwrap();
        let kind = header.split(';').next().unwrap();
        let response = self.document.get(&place).clone();
        let content = response["content"].as_object().unwrap();
        assert!(content.contains_key(kind), "{method} {path} {status}: {kind}");
        if kind == JSON {
            let schema = format!("{place}/content/application~1json/schema");
            self.document.check(&schema, &reply.json());
        }
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let value = reply.header(&name.to_lowercase()).expect(name);
            let value: Value = serde_json::from_str(value).unwrap();
            let errors = self.document.errors(&header["schema"], &value);
            assert!(errors.is_empty(), "{name}: {errors:?}");
        }
        self.answered.insert((path.to_owned(), method.to_owned(), status));
    }

    /// A request that the document allows is accepted, and answered as it says.
    #[track_caller]
    fn accepts(&mut self, server: &Server, path: &str, body: &Value) {
        let place = self.document.request(path, "POST").unwrap();
        self.document.check(&place, body);
        let reply = server.client().post(path, body).unwrap();
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
        self.answer(path, "POST", &reply);
    }

    /// A request is refused with this status, as the document says.
    #[track_caller]
    fn refuses(&mut self, path: &str, status: u16, reply: &Reply) {
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        self.answer(path, "POST", reply);
    }

    /// Requests that differ from an accepted one in a field are refused where the document does not
    /// allow them, and without a field accepted where it does.
    fn varies(&mut self, server: &Server, path: &str, body: &Value) {
        let place = self.document.request(path, "POST").unwrap();
        let others = [
            json!({"no": 1}),
            json!(3.5),
            json!(true),
            json!("text"),
            json!([]),
            json!([[{"no": 1}]]),
            json!([["a", "b", "c"]]),
        ];
        for field in body.as_object().unwrap().keys() {
            let mut without = body.clone();
            without.as_object_mut().unwrap().shift_remove(field);
            if self.document.fits(&place, &without) {
                self.accepts(server, path, &without);
            } else {
                let reply = server.client().post(path, &without).unwrap();
                self.refuses(path, 422, &reply);
            }
            for other in &others {
                let mut changed = body.clone();
                changed[field] = other.clone();
                if !self.document.fits(&place, &changed) {
                    let reply = server.client().post(path, &changed).unwrap();
                    // 400 for a number in place of an enum's name, which serde_json calls a fault
                    // of syntax.
                    let refused = [400, 422].contains(&reply.status);
                    assert!(refused, "{path} {changed}: {} {}", reply.status, reply.text());
                    self.answer(path, "POST", &reply);
                }
            }
        }
    }
}

/// Waits until something is the case.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// A server of these models, with its options changed.
struct Kitchen {
    runtime: Runtime,
    bundle: Bundle,
    waiting: Arc<AtomicUsize>,
}

impl Kitchen {
    fn server(&self, models: &[&str], change: impl FnOnce(&mut Options)) -> Server {
        let mut options = options(models[0], Path::new(models[0]));
        options.models = models.iter().map(|m| ((*m).to_owned(), m.into())).collect();
        change(&mut options);
        let (bundle, waiting) = (self.bundle.clone(), Arc::clone(&self.waiting));
        Server::start(&self.runtime, options, Named { bundle, waiting, read: Mutex::default() })
    }
}

#[test]
fn the_description_is_what_the_server_does() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let kitchen =
        Kitchen { runtime: Runtime::new().unwrap(), bundle: bundle(1), waiting: waiting.clone() };
    let server = kitchen.server(&["texts", "vectors", "plain"], |_| {});
    let get = |server: &Server, path: &str| server.client().call("GET", path, &[], b"").unwrap();
    let described = get(&server, "/openapi.json").ok();
    let mut exam = Exam { document: Document::new(described), answered: BTreeSet::new() };
    let operations = exam.document.operations();
    let posts: Vec<String> =
        operations.iter().filter(|o| o.1 == "POST").map(|o| o.0.clone()).collect();

    // What is accepted: every example, and every field and form.
    for (path, method, operation) in &operations {
        if method == "GET" {
            let reply = get(&server, path);
            assert_eq!(reply.status, 200, "{path}");
            exam.answer(path, method, &reply);
        } else {
            let example = &operation["requestBody"]["content"][JSON]["example"];
            exam.accepts(&server, path, example);
            exam.varies(&server, path, example);
        }
    }
    for (path, body) in accepted() {
        exam.accepts(&server, path, &body);
        exam.varies(&server, path, &body);
    }
    bytes_are_as_described(&mut exam, &server);
    nearest_pairs_are_as_described(&mut exam, &kitchen);

    for path in ["/classify", "/score", "/rerank"] {
        let mut both = with_text(path, "a").unwrap();
        (both["activation"], both["use_activation"]) = (json!(true), json!(true));
        let place = exam.document.request(path, "POST").unwrap();
        assert!(!exam.document.fits(&place, &both));
        exam.refuses(path, 422, &server.client().post(path, &both).unwrap());
    }

    // What is refused.
    let hostile = [("host", "evil.example")];
    for (path, method, _) in &operations {
        let reply = server.client().call(method, path, &hostile, b"{}").unwrap();
        assert_eq!(reply.status, 403, "{path}");
        exam.answer(path, method, &reply);
    }
    for path in &posts {
        let reply = server.client().call("POST", path, &[], b"{").unwrap();
        exam.refuses(path, 400, &reply);
        let plain = [("content-type", "text/plain")];
        exam.refuses(path, 415, &server.client().call("POST", path, &plain, b"{}").unwrap());
        let place = exam.document.request(path, "POST").unwrap();
        let mut unknown = with_text(path, "a").unwrap_or(json!({}));
        unknown["model"] = json!("absent");
        if exam.document.fits(&place, &unknown) {
            exam.refuses(path, 404, &server.client().post(path, &unknown).unwrap());
        }
        for (word, status) in [("FAIL", 500), ("DOWN", 502), ("STOP", 503)] {
            if let Some(body) = with_text(path, word) {
                exam.refuses(path, status, &server.client().post(path, &body).unwrap());
            }
        }
    }
    tokens_are_as_described(&mut exam, &kitchen, &operations);
    limits_are_as_described(&mut exam, &kitchen, &posts);
    reloading_is_as_described(&mut exam, &kitchen);
    stopping_is_as_described(&mut exam, &kitchen);
    server.stop(&kitchen.runtime).unwrap();

    // Nothing is described that does not come about.
    for (path, method, operation) in &operations {
        for status in operation["responses"].as_object().unwrap().keys() {
            let answer = (path.clone(), method.clone(), status.parse().unwrap());
            assert!(exam.answered.contains(&answer), "{answer:?} is described, and never answered");
        }
    }
    assert_eq!(exam.document.unvisited(), Vec::<String>::new());
    assert_eq!(exam.document.unused(), Vec::<String>::new());
}

fn bytes_are_as_described(exam: &mut Exam, server: &Server) {
    let reward = exam.document.operations().into_iter().find(|o| o.0 == "/v1/reward").unwrap().2;
    assert!(reward["requestBody"]["content"][BYTES].is_object());
    let parameter = |name: &str| {
        let all = reward["parameters"].as_array().unwrap();
        all.iter().find(|p| p["name"] == name).unwrap()["schema"].clone()
    };
    for dtype in parameter("X-Lens-Dtype")["enum"].as_array().unwrap() {
        let dtype = dtype.as_str().unwrap();
        let body = vec![0; DIM * if dtype == "f32" { 4 } else { 2 }];
        for accept in [JSON, BYTES] {
            let headers = [
                ("content-type", BYTES),
                ("x-lens-dtype", dtype),
                ("x-lens-model", "vectors"),
                ("accept", accept),
            ];
            let reply = server.client().call("POST", "/v1/reward", &headers, &body).unwrap();
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(accept)));
            exam.answer("/v1/reward", "POST", &reply);
        }
    }
    let wrong = [("content-type", BYTES), ("x-lens-dtype", "f64")];
    let reply = server.client().call("POST", "/v1/reward", &wrong, &[0; 40]).unwrap();
    exam.refuses("/v1/reward", 422, &reply);
    assert_eq!(parameter("X-Lens-Model")["type"], "string");
}

fn nearest_pairs_are_as_described(exam: &mut Exam, kitchen: &Kitchen) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let pairs = [
        json!({"prompt": "a", "chosen": "b", "rejected": "cd"}),
        json!({"prompt": [turn("user", "a longer one")], "chosen": [turn("assistant", "e")],
            "rejected": [turn("assistant", "fgh")]}),
    ];
    std::fs::write(&file, pairs.map(|p| p.to_string()).join("\n")).unwrap();
    let server = kitchen.server(&["texts"], |options| options.pairs = Some(file));
    let body = json!({"prompt": "a", "responses": ["b"], "nearest": 4});
    exam.accepts(&server, "/v1/reward", &body);
    server.stop(&kitchen.runtime).unwrap();
}

fn tokens_are_as_described(
    exam: &mut Exam,
    kitchen: &Kitchen,
    operations: &[(String, String, Value)],
) {
    let server = kitchen.server(&["texts"], |options| {
        let mut tokens = BearerTokens::default();
        tokens.add("--token", TOKEN).unwrap();
        options.tokens = tokens;
    });
    for (path, method, operation) in operations {
        let reply = server.client().call(method, path, &[], b"{}").unwrap();
        // `security: []` is how OpenAPI says that an operation needs none.
        let open = operation["security"] == json!([]);
        assert_eq!(reply.status, if open { 200 } else { 401 }, "{path}");
        exam.answer(path, method, &reply);
    }
    server.stop(&kitchen.runtime).unwrap();
}

fn limits_are_as_described(exam: &mut Exam, kitchen: &Kitchen, posts: &[String]) {
    let limits = |limits: Limits| move |options: &mut Options| options.limits = limits;
    let small = Limits { body: 2000, read_timeout: Duration::from_secs(1), ..Limits::default() };
    let server = kitchen.server(&["texts"], limits(small));
    let slow: Vec<Client> = posts
        .iter()
        .map(|path| {
            let mut client = server.client();
            client.send("POST", path, &[("content-length", "100")], b"{").unwrap();
            client
        })
        .collect();
    for (path, mut client) in posts.iter().zip(slow) {
        exam.refuses(path, 408, &client.receive().unwrap());
    }
    for path in posts {
        let large = [b'a'; 3000];
        exam.refuses(path, 413, &server.client().call("POST", path, &[], &large).unwrap());
    }
    server.stop(&kitchen.runtime).unwrap();

    // Somebody's body, which never ends, holds all the memory.
    let scarce = Limits { memory: Some(1 << 20), ..Limits::default() };
    let server = kitchen.server(&["texts"], limits(scarce));
    let mut holder = server.client();
    let length = ((1 << 20) - 50).to_string();
    let headers = [("content-length", length.as_str())];
    holder.send("POST", "/get_reward", &headers, &vec![b' '; (1 << 20) - 100]).unwrap();
    until("all the memory is held", || {
        let counted = server.client().call("GET", "/metrics", &[], b"").unwrap().text();
        let held = counted.lines().find_map(|l| l.strip_prefix("lens_memory_bytes "));
        held.unwrap().parse::<usize>().unwrap() >= (1 << 20) - 100
    });
    for path in posts {
        let body = vec![b' '; 1000];
        exam.refuses(path, 429, &server.client().call("POST", path, &[], &body).unwrap());
    }
    drop(holder);
    server.stop(&kitchen.runtime).unwrap();

    let hasty = Limits { timeout: Duration::from_millis(200), ..Limits::default() };
    let server = kitchen.server(&["texts", "slow"], limits(hasty));
    for path in posts {
        let body = with_text(path, "WAIT").unwrap_or(json!({"model": "slow"}));
        exam.refuses(path, 504, &server.client().post(path, &body).unwrap());
    }
    server.stop(&kitchen.runtime).unwrap();

    let server = kitchen.server(&["texts"], limits(Limits { queue: 1, ..Limits::default() }));
    let before = kitchen.waiting.load(Ordering::SeqCst);
    let occupy = || {
        let mut client = server.client();
        let body = with_text("/get_reward", "WAIT").unwrap().to_string();
        client.send("POST", "/get_reward", &[], body.as_bytes()).unwrap();
        client
    };
    let first = occupy();
    until("a text is computed", || kitchen.waiting.load(Ordering::SeqCst) > before);
    let second = occupy();
    until("another one waits", || {
        let counted = server.client().call("GET", "/metrics", &[], b"").unwrap().text();
        counted.lines().any(|l| l == "lens_queue_texts 1")
    });
    for path in posts {
        if let Some(body) = with_text(path, "a") {
            exam.refuses(path, 429, &server.client().post(path, &body).unwrap());
        }
    }
    drop((first, second));
    server.stop(&kitchen.runtime).unwrap();
}

fn reloading_is_as_described(exam: &mut Exam, kitchen: &Kitchen) {
    let path = "/v1/models/reload";
    let server = kitchen.server(&["texts", "breaks", "panics"], |_| {});
    // Also a source that panics leaves the model that is served.
    for model in ["breaks", "panics", "breaks"] {
        let reply = server.client().post(path, &json!({"model": model})).unwrap();
        exam.refuses(path, 409, &reply);
        assert!(reply.refusal(409).contains("the old one goes on"), "{}", reply.text());
    }
    let listed = server.client().call("GET", "/v1/models", &[], b"").unwrap().ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    server.stop(&kitchen.runtime).unwrap();
}

fn stopping_is_as_described(exam: &mut Exam, kitchen: &Kitchen) {
    // Connections are accepted for a moment longer, so that clients learn that the server is
    // stopping. On a busy machine that moment can be missed.
    let mut stopping = None;
    until("a server says that it is stopping", || {
        let server = kitchen.server(&["texts"], |_| {});
        let address = server.address;
        std::thread::scope(|scope| {
            let stopped = scope.spawn(|| server.stop(&kitchen.runtime));
            while let Ok(stream) = TcpStream::connect(address) {
                let Ok(reply) = Client::over(stream, address).call("GET", "/ready", &[], b"")
                else {
                    break;
                };
                if reply.status != 200 {
                    stopping = Some(reply);
                    break;
                }
            }
            stopped.join().unwrap().unwrap();
        });
        stopping.is_some()
    });
    let reply = stopping.unwrap();
    assert_eq!(reply.status, 503);
    exam.answer("/ready", "GET", &reply);
}

#[test]
fn the_validator_tells_what_fits_from_what_does_not() {
    let schemas = json!({"Name": {"type": "string"}});
    let document = Document::new(json!({"components": {"schemas": schemas}}));
    let closed = json!({"type": "object", "additionalProperties": false, "required": ["a"],
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {}}});
    let list = json!({"type": "array", "items": {"$ref": "#/components/schemas/Name"},
        "minItems": 1, "maxItems": 2});
    let text_or_number = json!([{"type": "string"}, {"type": ["number", "null"]}]);
    for (schema, fitting, others) in [
        (
            closed,
            json!([{"a": 1}, {"a": 9, "b": [1]}]),
            json!([{}, {"b": 1}, {"a": 1, "c": 1}, {"a": 10}, {"a": -1}, {"a": 1.5}, {"a": "1"}, 3]),
        ),
        (list, json!([["x"], ["x", "y"]]), json!([[], ["x", "y", "z"], [1], "x", {"0": "x"}])),
        (json!({"anyOf": text_or_number}), json!(["a", 1, null]), json!([true, [], {}])),
        (json!({"enum": ["a", 1]}), json!(["a", 1]), json!(["b", 2, null])),
        (json!({"const": "a"}), json!(["a"]), json!(["b", ["a"]])),
        (
            json!({"not": {"required": ["a", "b"]}}),
            json!([{"a": 1}, {}]),
            json!([{"a": 1, "b": 2}]),
        ),
        (
            json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!([{"a": 1}, {"b": 1}]),
            json!([{}, {"a": 1, "b": 1}]),
        ),
        (
            json!({"allOf": [{"minimum": 1}, {"type": "integer"}]}),
            json!([1, 2.0]),
            json!([0, 1.5, "2"]),
        ),
    ] {
        for value in fitting.as_array().unwrap() {
            assert_eq!(document.errors(&schema, value), Vec::<String>::new(), "{schema}");
        }
        for value in others.as_array().unwrap() {
            assert_ne!(document.errors(&schema, value), Vec::<String>::new(), "{schema} {value}");
        }
    }
}
