//! Stories of things that go wrong: the right status, a message that helps, and nothing else disturbed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::Serving;
use crate::common::{Lens, Signal, cloud, pairs, safetensors};
use crate::stand_in::embeddings::{is_work, texts, well};
use crate::stand_in::{Reply, Server};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const WELL: usize = 0;
const DOWN: usize = 1;
const HANGS_UP: usize = 2;
const GARBAGE: usize = 3;
const TOO_LONG: usize = 4;

/// One text is scored as ever.
#[track_caller]
fn undisturbed(server: &Serving) -> f64 {
    let answer = server.post("/get_reward", &json!({"query": ["undisturbed"]})).ok();
    answer["rewards"][0].as_f64().unwrap()
}

#[test]
fn while_the_encoder_is_down_clients_are_told_and_afterwards_all_is_well() {
    let state = Arc::new(AtomicUsize::new(WELL));
    let its = Arc::clone(&state);
    let encoder = Server::start(move |r| {
        let state = if is_work(r) { its.load(Ordering::SeqCst) } else { WELL };
        match state {
            DOWN => Reply::new(503, r#"{"error": {"message": "no GPU today"}}"#),
            HANGS_UP => Reply::hang_up(),
            GARBAGE => Reply::new(200, "<html>not JSON"),
            TOO_LONG if texts(r).iter().any(|t| t.contains("long")) => {
                Reply::new(400, r#"{"error": {"message": "maximum context length is 512"}}"#)
            }
            _ => well(r, "vllm"),
        }
    });
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok(&format!("run pairs.jsonl --server {} -o rm --quiet", encoder.url));
    let remote = format!("--server {} --set server_retries=0", encoder.url);
    let server = Serving::start(&lens, &format!("rm {remote}"));
    let before = undisturbed(&server);
    for (fault, words) in
        [(DOWN, "no GPU today"), (HANGS_UP, "embedding server"), (GARBAGE, "not understood")]
    {
        state.store(fault, Ordering::SeqCst);
        let refused = server.post("/get_reward", &json!({"query": [format!("new text {fault}")]}));
        assert!(refused.refusal(502).contains(words), "{}", refused.text());
        assert_eq!(refused.code(), "encoder_unavailable");
        // What needs no encoder goes on.
        server.post("/v1/reward", &json!({"embeddings": [1, 2, 3, 4, 5, 6, 7, 8]})).ok();
        assert_eq!(server.get("/ready").status, 200);
        state.store(WELL, Ordering::SeqCst);
        assert_eq!(undisturbed(&server), before);
    }
    // A text that the encoder refuses is its client's fault, and nobody else's.
    state.store(TOO_LONG, Ordering::SeqCst);
    let body = json!({"query": ["fine", "very long", "fine too"]});
    let refused = server.post("/get_reward", &body).refusal(422);
    assert!(refused.contains("text 1") && refused.contains("maximum context length"), "{refused}");
    assert_eq!(undisturbed(&server), before);
    server.stop();

    // A server that is not there at all does not start.
    drop(encoder);
    let error = lens.fails(1, &format!("serve rm --bind 127.0.0.1:0 {remote}"));
    assert!(error.contains("cannot reach") || error.contains("embedding server"), "{error}");
}

#[test]
fn clients_that_leave_in_the_middle_disturb_nobody() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    let body = json!({"query": vec!["a text of some length"; 50]}).to_string();
    for cut in [0, 1, 20, body.len() - 1, body.len()] {
        for _ in 0..5 {
            let mut client = server.client();
            let length = body.len().to_string();
            let headers = [("content-length", length.as_str())];
            client.send("POST", "/get_reward", &headers, &body.as_bytes()[..cut]).unwrap();
        }
    }
    assert!((undisturbed(&server) - before).abs() < 1e-4);
    server.until("all of them are gone", || server.metric("lens_connections") == 1.0);
    server.stop();
}

#[test]
fn whatever_is_sent_instead_of_json_is_refused() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    let described = server.get("/openapi.json").ok();
    let mut valid: Vec<(String, String)> = Vec::new();
    for (path, operations) in described["paths"].as_object().unwrap() {
        let example = &operations["post"]["requestBody"]["content"]["application/json"]["example"];
        if !example.is_null() && path != "/v1/models/reload" {
            valid.push((path.clone(), example.to_string()));
        }
    }
    let hostile = prop_oneof![
        // Anything at all.
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Mutation::Instead),
        // A valid request with something of it changed, cut off, or put in.
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, b)| Mutation::Byte(i, b)),
        any::<prop::sample::Index>().prop_map(Mutation::Cut),
        (any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9eEnulNaInfity-]{1,8}")
            .prop_map(|(i, text)| Mutation::Put(i, text)),
        json_value().prop_map(|v| Mutation::Instead(v.to_string().into_bytes())),
        (any::<prop::sample::Index>(), json_value()).prop_map(|(i, v)| Mutation::Field(i, v)),
    ];
    let mut runner =
        TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let client = std::cell::RefCell::new(server.client());
    runner
        .run(&(0..valid.len(), hostile), |(route, mutation)| {
            let (path, example) = &valid[route];
            let body = mutation.of(example);
            let mut client = client.borrow_mut();
            let reply = client.call("POST", path, &[], &body).unwrap();
            if reply.header("connection") == Some("close") {
                *client = server.client();
            }
            // Some mutations leave a request that is as good as before.
            prop_assert!([200, 400, 404, 413, 422].contains(&reply.status), "{}", reply.text());
            let answer: Value = serde_json::from_slice(&reply.body).unwrap();
            if reply.status != 200 {
                prop_assert!(answer["error"]["message"].is_string(), "{answer}");
            }
            Ok(())
        })
        .unwrap();
    drop(client);
    assert!((undisturbed(&server) - before).abs() < 1e-4);
    assert_eq!(server.metric("lens_encoder_panics_total"), 0.0);
    assert_eq!(server.get("/ready").status, 200);
    server.stop();
}

#[derive(Debug, Clone)]
enum Mutation {
    Instead(Vec<u8>),
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Put(prop::sample::Index, String),
    Field(prop::sample::Index, Value),
}

impl Mutation {
    fn of(&self, example: &str) -> Vec<u8> {
        let mut body = example.as_bytes().to_vec();
        match self {
            Mutation::Instead(bytes) => return bytes.clone(),
            Mutation::Byte(at, byte) => body[at.index(example.len())] = *byte,
            Mutation::Cut(at) => body.truncate(at.index(example.len())),
            Mutation::Put(at, text) => {
                let at = at.index(body.len());
                body.splice(at..at, text.bytes());
            }
            Mutation::Field(at, value) => {
                let mut whole: Value = serde_json::from_str(example).unwrap();
                let fields = whole.as_object_mut().unwrap();
                let name = fields.keys().nth(at.index(fields.len())).unwrap().clone();
                fields.insert(name, value.clone());
                return whole.to_string().into_bytes();
            }
        }
        body
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,9}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

#[test]
fn a_body_of_a_hundred_megabytes_is_refused_and_takes_no_memory() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    undisturbed(&server);
    let before = server.resident();
    let block = "x".repeat(1 << 20);
    // A client that sends all of it before it reads, as most do.
    let mut client = server.client();
    let length = (100u64 << 20).to_string();
    client.send("POST", "/get_reward", &[("content-length", &length)], b"").unwrap();
    for _ in 0..100 {
        client.raw(block.as_bytes()).unwrap();
    }
    assert_eq!(client.receive().unwrap().code(), "body_too_large");
    let mut client = server.client();
    client.send("POST", "/get_reward", &[("transfer-encoding", "chunked")], b"").unwrap();
    for _ in 0..100 {
        if client.raw(format!("{:x}\r\n{block}\r\n", block.len()).as_bytes()).is_err() {
            break;
        }
    }
    let code = client.receive().map(|r| r.code());
    assert!(code.is_err() || code.unwrap() == "body_too_large");
    let after = server.resident();
    assert!(after < before + (80 << 20), "{before} {after}");
    undisturbed(&server);
    server.stop();
}

#[test]
fn a_reward_that_is_no_number_is_never_answered() {
    let lens = Lens::new();
    let arrays = safetensors(&[
        ("chosen", [20, 4], &cloud(20, 4, 1.0)),
        ("rejected", [20, 4], &cloud(20, 4, -1.0)),
    ]);
    lens.write("arrays.safetensors", arrays);
    lens.ok("train arrays.safetensors -o rm --quiet");
    let server = Serving::start(&lens, "rm");
    let good = json!({"embeddings": [[1, 1, 1, 1]]});
    server.post("/v1/reward", &good).ok();
    // Finite, but not after the head has added them up.
    let refused = server
        .post("/v1/reward", &json!({"embeddings": [[1, 1, 1, 1], [3e38, 3e38, -3e38, 3e38]]}));
    assert!(refused.refusal(500).contains("row 1 is not a finite number"), "{}", refused.text());
    for bad in ["[[1, 1, 1, NaN]]", "[[1, 1, 1, Infinity]]", "[[1, 1, 1, 1e999]]"] {
        let body = format!("{{\"embeddings\": {bad}}}");
        server.call("POST", "/v1/reward", &[], body.as_bytes()).refusal(400);
    }
    for (bad, place) in [
        ("[[1, 1, 1, 1], [1, null, 1, 1]]", "row 1, column 1"),
        ("[[1, 1, 1e39, 1]]", "row 0, column 2"),
        ("[[1, 1]]", "row 0 has 2 columns"),
    ] {
        let body = format!("{{\"embeddings\": {bad}}}");
        let refused = server.call("POST", "/v1/reward", &[], body.as_bytes()).refusal(422);
        assert!(refused.contains(place), "{refused}");
    }
    server.post("/v1/reward", &good).ok();
    server.stop();
}

#[test]
fn a_model_whose_folder_is_gone_goes_on() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    std::fs::rename(lens.path("rm"), lens.path("elsewhere")).unwrap();
    std::fs::rename(lens.path("tiny.gguf"), lens.path("gone.gguf")).unwrap();
    assert_eq!(undisturbed(&server), before);
    let refused = server.post("/v1/models/reload", &json!({})).refusal(409);
    assert!(refused.contains("the old one goes on"), "{refused}");
    std::fs::rename(lens.path("elsewhere"), lens.path("rm")).unwrap();
    server.post("/v1/models/reload", &json!({})).refusal(409);
    std::fs::rename(lens.path("gone.gguf"), lens.path("tiny.gguf")).unwrap();
    server.post("/v1/models/reload", &json!({})).ok();
    assert_eq!(undisturbed(&server), before);
    server.stop();
}

#[test]
fn after_a_crash_the_same_port_is_served_again() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    let address = server.address;
    let mut kept = server.client();
    kept.call("GET", "/health", &[], b"").unwrap();
    server.signal(Signal::KILL);
    assert_eq!(server.end().code, 128 + 9);
    let server = Serving::of(lens.command(&format!("serve rm --bind {address}")));
    assert_eq!(server.address, address);
    assert_eq!(undisturbed(&server), before);
    // While it is taken, nobody else gets it.
    let error = lens.fails(1, &format!("serve rm --bind {address}"));
    assert!(error.contains("cannot listen on") && error.contains("--bind"), "{error}");
    server.stop();
}

/// A clock of the day that is off by as many seconds as a test says, for one process.
#[cfg(target_os = "linux")]
struct Clock {
    file: std::path::PathBuf,
    library: std::path::PathBuf,
}

#[cfg(target_os = "linux")]
impl Clock {
    fn new(lens: &Lens) -> Clock {
        let clock = Clock { file: lens.path("clock"), library: lens.path("clock.so") };
        clock.jump(0);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/common/clock.c");
        let compiled = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&clock.library)
            .arg(source)
            .status();
        assert!(compiled.unwrap().success());
        clock
    }

    fn jump(&self, seconds: i64) {
        use std::io::Write;
        // In place: the file is mapped by the server.
        let mut options = std::fs::File::options();
        options.create(true).truncate(false).write(true);
        let mut file = options.open(&self.file).unwrap();
        file.write_all(&seconds.to_ne_bytes()).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_clock_that_jumps_disturbs_nothing() {
    const YEAR: i64 = 365 * 24 * 3600;
    let lens = Lens::with_reward_model();
    let clock = Clock::new(&lens);
    let mut command = lens.command("serve rm --bind 127.0.0.1:0 --read-timeout 2");
    command.env("LD_PRELOAD", &clock.library).env("LENS_TEST_CLOCK", &clock.file);
    let server = Serving::of(command);
    let before = undisturbed(&server);
    let created = || {
        let body = json!({"prompt": "p", "responses": ["r"]});
        server.post("/v1/reward", &body).ok()["created"].as_i64().unwrap()
    };
    let now = created();
    // Forward, back, to before 1970, to where 32 bits do not reach, and home.
    for jump in [10 * YEAR, -10 * YEAR, -100 * YEAR, 100 * YEAR, 0] {
        // One connection is idle meanwhile, and one request on its way.
        let mut kept = server.client();
        kept.call("GET", "/health", &[], b"").unwrap();
        let body = json!({"query": ["undisturbed"]}).to_string();
        let mut slow = server.client();
        let length = body.len().to_string();
        let headers = [("content-length", length.as_str())];
        slow.send("POST", "/get_reward", &headers, &body.as_bytes()[..10]).unwrap();
        clock.jump(jump);
        let seen = created();
        let expected = (now + jump).max(0);
        assert!((seen - expected).abs() < 600, "the clock did not jump: {seen}, not {expected}");
        slow.raw(&body.as_bytes()[10..]).unwrap();
        assert_eq!(slow.receive().unwrap().ok()["rewards"][0].as_f64(), Some(before));
        assert_eq!(kept.call("GET", "/ready", &[], b"").unwrap().status, 200);
        // Times allowed are still as long as they are.
        let begin = std::time::Instant::now();
        let mut late = server.client();
        late.send("POST", "/get_reward", &headers, b"{").unwrap();
        late.receive().unwrap().refusal(408);
        assert!((1.5..30.0).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
    }
    // What was measured meanwhile are times that passed.
    let seconds = server.metric("lens_request_duration_seconds_sum{route=\"/get_reward\"}");
    assert!(seconds > 1.0 && seconds < 120.0, "{seconds}");
    clock.jump(YEAR);
    server.signal(Signal::TERM);
    clock.jump(-YEAR);
    assert_eq!(server.end().code, 0);
}

#[test]
fn nothing_is_kept_on_disk_by_serving() {
    let lens = Lens::with_reward_model();
    let before = lens.cached_bytes();
    let server = Serving::start(&lens, "rm");
    for i in 0..20 {
        server.post("/get_reward", &json!({"query": [format!("text number {i}")]})).ok();
    }
    server.stop();
    assert_eq!(lens.cached_bytes(), before);
}

#[test]
fn a_signal_before_the_server_listens_ends_it() {
    let encoder = Server::start(|r| {
        let pause = if r.path.contains("embed") { Duration::from_secs(2) } else { Duration::ZERO };
        Reply { pause, ..well(r, "vllm") }
    });
    let lens = Lens::new();
    let quick = Server::start(|r| well(r, "vllm"));
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok(&format!("run pairs.jsonl --server {} -o rm --quiet", quick.url));
    let running = lens.start(&format!("serve rm --bind 127.0.0.1:0 --server {}", encoder.url));
    while encoder.seen().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal(Signal::TERM);
    let said = running.end();
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(!said.err.contains("listening"), "{}", said.err);
}

#[test]
fn a_model_file_that_becomes_shorter_is_an_error_about_the_text_and_the_server_goes_on() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    let whole = std::fs::read(lens.path("tiny.gguf")).unwrap();
    let file = std::fs::File::options().write(true).open(lens.path("tiny.gguf")).unwrap();
    file.set_len(64).unwrap();
    for text in ["a new text", "and one more"] {
        let refused = server.post("/get_reward", &json!({"query": [text]}));
        assert!(refused.refusal(500).contains("became shorter"), "{}", refused.text());
    }
    assert_eq!(server.get("/health").status, 200);
    lens.write("tiny.gguf", &whole);
    assert_eq!(undisturbed(&server), before);
    server.stop();
}
