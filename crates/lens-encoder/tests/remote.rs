//! Stories of users whose model is on a server, told against one that misbehaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stand_in;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lens_core::{Content, Exchange, Message, Progress, Quiet};
use lens_encoder::{
    Encoded, EncoderError, RemoteEncoder, RemoteOptions, Secret, ServerApi, ServerError,
    TemplateChoice, TextEncoder,
};
use serde_json::json;
use stand_in::embeddings::{DIM, MODEL, answer, is_work, models, texts, unit, vector, well};
use stand_in::{Reply, Request, Server};

const KEY: &str = "sk-verySecretKey";

/// Everything that was said; can ask to stop.
#[derive(Default)]
struct Watcher {
    said: Mutex<String>,
    stop: AtomicBool,
    stop_at: Option<usize>,
    done: AtomicUsize,
}

impl Progress for Watcher {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, n: u64) {
        let done = self.done.fetch_add(n as usize, Ordering::SeqCst) + n as usize;
        if self.stop_at.is_some_and(|at| done >= at) {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
    fn end(&self) {}
    fn note(&self, line: &str) {
        self.said.lock().unwrap().push_str(&format!("{line}\n"));
    }
    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn options(server: &Server) -> RemoteOptions {
    RemoteOptions {
        key: Secret::new(KEY),
        first_pause: Duration::from_millis(2),
        timeout: Duration::from_secs(5),
        retries: 3,
        batch: 4,
        ..RemoteOptions::new(&server.url)
    }
}

fn open(server: &Server) -> RemoteEncoder {
    RemoteEncoder::open(&options(server), &Quiet).unwrap()
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("text {i}")).collect()
}

/// Every text has its own vector, in order.
fn right(texts: &[String], encoded: &[Encoded]) {
    assert_eq!(texts.len(), encoded.len());
    for (text, encoded) in texts.iter().zip(encoded) {
        assert_eq!(encoded.vector[..], vector(text), "{text}");
    }
}

/// A vLLM that misbehaves at work, but not at the opening.
fn misbehaving(bad: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |r| {
        let bad = is_work(r).then(|| bad(r, count.fetch_add(1, Ordering::SeqCst))).flatten();
        bad.unwrap_or_else(|| well(r, "vllm"))
    })
}

fn is_work_request(request: &Request) -> bool {
    is_work(request)
}

#[test]
fn each_kind_of_server_is_found_out_and_asked_not_to_normalise() {
    for (owner, architecture) in
        [("vllm", "openai-embeddings"), ("llamacpp", "openai-embeddings"), ("tei", "tei")]
    {
        let server = Server::start(move |r| well(r, owner));
        let watcher = Watcher::default();
        let encoder = RemoteEncoder::open(&options(&server), &watcher).unwrap();
        let identity = encoder.identity();
        assert_eq!((identity.dim, &*identity.architecture), (DIM, architecture));
        assert_eq!(identity.model_file, MODEL);
        assert_eq!(*watcher.said.lock().unwrap(), "", "{owner}");
        assert!(!encoder.record().normalised);
        let texts = numbered(11);
        right(&texts, &encoder.encode_texts(&texts, &Quiet).unwrap());
        let stats = encoder.stats();
        assert_eq!((stats.texts, stats.tokens, stats.computed), (11, 110, 110), "{owner}");
        let bearer = format!("Bearer {KEY}");
        assert!(server.seen().iter().all(|r| r.header("authorization") == Some(&*bearer)));
    }
}

#[test]
fn a_server_decides_its_view_itself() {
    let server = Server::start(move |r| well(r, "vllm"));
    let mut encoder = open(&server);
    let before = encoder.identity().clone();
    let error = encoder.set_views(&[lens_encoder::ViewChoice::default()]).unwrap_err();
    let EncoderError::Server(ServerError::Views { url }) = &error else { panic!("{error}") };
    assert_eq!(*url, server.url);
    assert_eq!(encoder.identity(), &before);
}

#[test]
fn normalised_vectors_are_accepted_with_a_warning_and_are_another_model() {
    for owner in ["openai", "infinity"] {
        let server = Server::start(move |r| well(r, owner));
        let watcher = Watcher::default();
        let encoder = RemoteEncoder::open(&options(&server), &watcher).unwrap();
        let said = watcher.said.lock().unwrap().clone();
        assert!(said.contains("warning") && said.contains("length 1"), "{said}");
        assert!(encoder.record().normalised);
        let got = encoder.encode_texts(&numbered(3), &Quiet).unwrap();
        assert_eq!(got[2].vector[..], unit("text 2"));
        let plain = open(&Server::start(|r| well(r, "vllm")));
        let differences = plain.identity().differences(encoder.identity());
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(!plain.record().differences(encoder.record()).is_empty());

        let strict = RemoteOptions { allow_normalised: false, ..options(&server) };
        let error = RemoteEncoder::open(&strict, &Quiet).err().unwrap();
        assert!(matches!(error, EncoderError::Server(ServerError::Normalised { .. })));
    }
}

#[test]
fn exchanges_are_rendered_plainly_or_sent_as_messages() {
    let server = Server::start(|r| well(r, "vllm"));
    let exchange = Exchange {
        prompt: Content::Text("What is it?".into()),
        response: Content::Text("It is.".into()),
    };
    let same = std::slice::from_ref(&exchange);
    let got = open(&server).encode_exchanges(same, &Quiet).unwrap();
    assert_eq!(got[0].vector[..], vector("What is it?\n\nIt is."));

    let chat = RemoteOptions { template: TemplateChoice::Chat, ..options(&server) };
    let encoder = RemoteEncoder::open(&chat, &Quiet).unwrap();
    assert_eq!(encoder.identity().template, "chat");
    let other = Exchange {
        prompt: Content::Messages(vec![Message { role: "system".into(), content: "Be.".into() }]),
        response: Content::Text("Yes.".into()),
    };
    let got = encoder.encode_exchanges(&[exchange, other], &Quiet).unwrap();
    assert_ne!(got[0].ids_hash, got[1].ids_hash);
    assert_eq!(got[0].vector[..], vector(r#"<"user">"What is it?"<"assistant">"It is.""#));
    let asked = server.seen();
    let body = asked.iter().rfind(|r| r.body.windows(10).any(|w| w == b"\"messages\"")).unwrap();
    assert!(body.json()["input"].is_null());

    let tei = Server::start(|r| well(r, "tei"));
    let chat = RemoteOptions { template: TemplateChoice::Chat, ..options(&tei) };
    let error = RemoteEncoder::open(&chat, &Quiet).err().unwrap().to_string();
    assert!(error.contains("vLLM"), "{error}");
}

#[test]
fn passing_failures_are_tried_again() {
    let start = Instant::now();
    let server = misbehaving(|_, n| match n {
        0 => Some(Reply::hang_up()),
        1 => Some(Reply::new(429, "busy").with("retry-after", "1")),
        2 => Some(Reply::new(429, "busy")),
        3 => Some(Reply::new(500, "oops")),
        4 => Some(Reply::new(503, "loading")),
        5 => Some(Reply { cut: Some(20), ..Reply::new(200, vec![b' '; 100]) }),
        _ => None,
    });
    let one = RemoteOptions { concurrency: 1, retries: 6, ..options(&server) };
    let encoder = RemoteEncoder::open(&one, &Quiet).unwrap();
    let texts = numbered(9);
    right(&texts, &encoder.encode_texts(&texts, &Quiet).unwrap());
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After is heeded");
    assert_eq!(server.seen().iter().filter(|r| is_work_request(r)).count(), 6 + 3);

    let server = misbehaving(|_, _| Some(Reply::new(502, "bad gateway")));
    let error = open(&server).encode_texts(&numbered(1), &Quiet).unwrap_err();
    assert!(
        matches!(error, EncoderError::Server(ServerError::Refused { status: 502, .. })),
        "{error}"
    );
    assert_eq!(server.seen().iter().filter(|r| is_work_request(r)).count(), 4);
    let slow = misbehaving(|r, _| Some(Reply { pause: Duration::from_secs(3), ..well(r, "vllm") }));
    let hasty = RemoteOptions { timeout: Duration::from_millis(200), retries: 1, ..options(&slow) };
    let encoder = RemoteEncoder::open(&hasty, &Quiet).unwrap();
    let error = encoder.encode_texts(&numbered(1), &Quiet).unwrap_err().to_string();
    assert!(error.contains("in time"), "{error}");
}

#[test]
fn a_server_that_trickles_is_not_waited_for() {
    let trickle = |status| Reply {
        endless: true,
        every: Duration::from_millis(50),
        ..Reply::new(status, " ")
    };
    let limited = |server: &Server| RemoteOptions {
        timeout: Duration::from_secs(1),
        retries: 0,
        ..options(server)
    };
    for status in [200, 400] {
        let server = misbehaving(move |_, _| Some(trickle(status)));
        let encoder = RemoteEncoder::open(&limited(&server), &Quiet).unwrap();
        let start = Instant::now();
        let error = encoder.encode_texts(&numbered(1), &Quiet).unwrap_err().to_string();
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        let expected = if status == 200 { "did not answer in time" } else { "no message" };
        assert!(error.contains(expected), "{error}");
        // Also where it is asked what it is.
        let server = Server::start(move |_| trickle(status));
        let start = Instant::now();
        assert!(RemoteEncoder::open(&limited(&server), &Quiet).is_err());
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    }
    // More than any answer has.
    let server =
        misbehaving(|_, _| Some(Reply { endless: true, ..Reply::new(200, vec![b' '; 1 << 16]) }));
    let patient = RemoteOptions { timeout: Duration::from_secs(60), ..limited(&server) };
    let encoder = RemoteEncoder::open(&patient, &Quiet).unwrap();
    let error = encoder.encode_texts(&numbered(1), &Quiet).unwrap_err().to_string();
    assert!(error.contains("answered with more than"), "{error}");
}

#[test]
fn other_refusals_fail_at_once_with_the_servers_words() {
    let server = misbehaving(|_, _| Some(Reply::new(404, r#"{"error":{"message":"model gone"}}"#)));
    let error = open(&server).encode_texts(&numbered(3), &Quiet).unwrap_err().to_string();
    assert!(error.contains("model gone") && error.contains("404"), "{error}");
    assert_eq!(server.seen().iter().filter(|r| is_work_request(r)).count(), 1);

    let server = Server::start(|_| Reply::new(401, format!("wrong key {KEY}")));
    let error = RemoteEncoder::open(&options(&server), &Quiet).err().unwrap();
    assert!(matches!(error, EncoderError::Server(ServerError::Unauthorised { .. })));
    assert!(!format!("{error} {error:?} {:?}", options(&server)).contains(KEY), "{error}");
    assert_eq!(server.seen().len(), 1);

    // Nobody there: said soon, not after many tries.
    let gone = options(&server);
    drop(server);
    std::thread::sleep(Duration::from_millis(50));
    let error =
        RemoteEncoder::open(&RemoteOptions { url: "http://127.0.0.1:9".into(), ..gone }, &Quiet);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("cannot reach http://127.0.0.1:9"), "{error}");
}

#[test]
fn a_text_that_is_too_long_is_named_and_never_shortened() {
    let too_long = |r: &Request| texts(r).iter().any(|t| t == "text 6");
    for (status, message) in [
        (400, "This model's maximum context length is 512 tokens."),
        (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 785"),
        (500, "input (785 tokens) is too large to process. increase the physical batch size"),
    ] {
        let server = misbehaving(move |r, _| {
            let body = json!({"error": {"message": message}}).to_string();
            too_long(r).then(|| Reply::new(status, body))
        });
        let error = open(&server).encode_texts(&numbered(10), &Quiet).unwrap_err();
        let EncoderError::Server(ServerError::TooLong { index, message: said, .. }) = error else {
            panic!("{status}: {error}");
        };
        assert_eq!((index, &*said), (6, message));
    }
    // A refusal of the batch as a whole: each text goes alone.
    let server = misbehaving(|r, _| {
        (texts(r).len() > 1).then(|| Reply::new(413, "the request is too large"))
    });
    let texts = numbered(5);
    right(&texts, &open(&server).encode_texts(&texts, &Quiet).unwrap());
    let encoder = open(&Server::start(|r| well(r, "vllm")));
    let empty = encoder.encode_texts(&["a".into(), String::new()], &Quiet).unwrap_err();
    assert!(matches!(empty, EncoderError::EmptyText { index: 1 }));
}

#[test]
fn answers_are_checked_number_by_number() {
    let vectors = |r: &Request| -> Vec<Vec<f32>> { texts(r).iter().map(|t| vector(t)).collect() };
    type Spoil = fn(&mut serde_json::Value);
    let spoils: [(Spoil, &str); 8] = [
        (|a| drop(a["data"].as_array_mut().unwrap().pop()), "3 vectors to 4 texts, from text 4 on"),
        (|a| a["data"][1]["index"] = 0.into(), "two vectors with index 0"),
        (|a| a["data"][1]["index"] = 9.into(), "index 9"),
        (|a| drop(a["data"][1].as_object_mut().unwrap().remove("index")), "others none"),
        (|a| a["data"][2]["embedding"] = json!([1.0, 2.0]), "width 2 to text 6, not 8"),
        (|a| a["data"][2]["embedding"][1] = json!(null), "text 6 is not finite"),
        (|a| a["data"][2]["embedding"][1] = json!("NaN-here"), "not understood"),
        (|a| a["data"][2]["embedding"][1] = json!(1e300), "text 6 is not finite"),
    ];
    for (spoil, expected) in spoils {
        let server = misbehaving(move |r, _| {
            texts(r).contains(&"text 4".to_owned()).then(|| {
                let mut answer = answer(&vectors(r));
                spoil(&mut answer);
                Reply::json(&answer)
            })
        });
        let error = open(&server).encode_texts(&numbered(8), &Quiet).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let nan = misbehaving(move |r, _| {
        let text = answer(&vectors(r)).to_string();
        Some(Reply::new(200, text.replacen("\"embedding\":[", "\"embedding\":[NaN,", 1)))
    });
    let error = open(&nan).encode_texts(&numbered(1), &Quiet).unwrap_err();
    assert!(matches!(error, EncoderError::NonFinite { index: 0 }), "{error}");
    let garbage = misbehaving(|_, _| Some(Reply::new(200, "<html>")));
    let error = open(&garbage).encode_texts(&numbered(1), &Quiet).unwrap_err();
    assert!(matches!(error, EncoderError::Server(ServerError::Garbage { .. })), "{error}");
    let endless =
        misbehaving(|_, _| Some(Reply { endless: true, ..Reply::new(200, vec![b' '; 65536]) }));
    let error = open(&endless).encode_texts(&numbered(1), &Quiet).unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

#[test]
fn order_and_encoding_of_an_answer_do_not_matter() {
    let server = misbehaving(|r, n| {
        let vectors: Vec<_> = texts(r).iter().map(|t| vector(t)).collect();
        let mut answer = answer(&vectors);
        answer["data"].as_array_mut().unwrap().reverse();
        if n % 2 == 0 {
            for item in answer["data"].as_array_mut().unwrap() {
                let v: Vec<f32> = serde_json::from_value(item["embedding"].clone()).unwrap();
                let bytes: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
                item["embedding"] = base64(&bytes).into();
            }
        }
        // The later requests are answered first.
        Some(Reply {
            pause: Duration::from_millis(60u64.saturating_sub(10 * n as u64)),
            ..Reply::json(&answer)
        })
    });
    let texts = numbered(41);
    right(&texts, &open(&server).encode_texts(&texts, &Quiet).unwrap());
}

fn base64(bytes: &[u8]) -> String {
    const ALL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for i in 0..4 {
            let digit = char::from(ALL[(bits >> (18 - 6 * i)) as usize & 63]);
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[test]
fn requests_run_side_by_side_but_not_more_than_asked_for() {
    let server =
        misbehaving(|r, _| Some(Reply { pause: Duration::from_millis(100), ..well(r, "vllm") }));
    let encoder =
        RemoteEncoder::open(&RemoteOptions { concurrency: 6, ..options(&server) }, &Quiet).unwrap();
    let start = Instant::now();
    let texts = numbered(48);
    right(&texts, &encoder.encode_texts(&texts, &Quiet).unwrap());
    assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
    assert!((4..=6).contains(&server.most_at_once()), "{}", server.most_at_once());
    // Equal texts are asked for once.
    let before = server.seen().len();
    encoder.encode_texts(&vec!["same".to_owned(); 100], &Quiet).unwrap();
    assert_eq!(server.seen().len(), before + 1);
}

#[test]
fn finished_batches_are_kept_and_a_new_run_asks_for_the_rest() {
    let cache = tempfile::tempdir().unwrap();
    let fail = Arc::new(AtomicBool::new(true));
    let server = misbehaving({
        let fail = Arc::clone(&fail);
        move |r, _| {
            let bad = fail.load(Ordering::SeqCst) && texts(r).contains(&"text 30".to_owned());
            bad.then(|| Reply::new(404, "gone"))
        }
    });
    let kept = RemoteOptions {
        cache_dir: Some(cache.path().to_owned()),
        concurrency: 1,
        ..options(&server)
    };
    let texts = numbered(40);
    let encoder = RemoteEncoder::open(&kept, &Quiet).unwrap();
    encoder.encode_texts(&texts, &Quiet).unwrap_err();
    fail.store(false, Ordering::SeqCst);
    // A request that was under way when the run failed may still arrive.
    let mut before = 0;
    while before != server.seen().len() {
        before = server.seen().len();
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let encoder = RemoteEncoder::open(&kept, &Quiet).unwrap();
    right(&texts, &encoder.encode_texts(&texts, &Quiet).unwrap());
    let asked = server.seen()[before..].iter().filter(|r| is_work_request(r)).count();
    assert!((1..=3).contains(&asked), "{asked}: at least 28 of the 40 texts were there");
    assert!(encoder.stats().cached >= 280);
    let before = server.seen().len();
    right(
        &texts,
        &RemoteEncoder::open(&kept, &Quiet).unwrap().encode_texts(&texts, &Quiet).unwrap(),
    );
    assert!(!server.seen()[before..].iter().any(is_work_request));

    // Another model under the same name: nothing of the old one is taken for its own.
    let other = Server::start(|r| {
        let mut reply = well(r, "vllm");
        if r.path == "/v1/embeddings" {
            let vectors: Vec<_> = stand_in::embeddings::texts(r)
                .iter()
                .map(|t| vector(&format!("other {t}")))
                .collect();
            reply = Reply::json(&answer(&vectors));
        }
        reply
    });
    let swapped = RemoteOptions { url: other.url.clone(), ..kept };
    let swapped = RemoteEncoder::open(&swapped, &Quiet).unwrap();
    assert!(swapped.identity().differences(encoder.identity()).is_empty());
    assert_eq!(encoder.record().differences(swapped.record()).len(), 1);
    let got = swapped.encode_texts(&texts[..1], &Quiet).unwrap();
    assert_eq!(got[0].vector[..], vector("other text 0"));
    // Nor does the key stand in the cache.
    for entry in std::fs::read_dir(cache.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|w| w == KEY.as_bytes()));
    }
}

#[test]
fn stopping_does_not_wait_for_the_server_and_keeps_what_came() {
    let cache = tempfile::tempdir().unwrap();
    let server = misbehaving(|r, n| {
        let pause = if n < 3 { 0 } else { 4 };
        Some(Reply { pause: Duration::from_secs(pause), ..well(r, "vllm") })
    });
    let kept = RemoteOptions {
        cache_dir: Some(cache.path().to_owned()),
        concurrency: 2,
        ..options(&server)
    };
    let watcher = Watcher { stop_at: Some(12), ..Watcher::default() };
    let encoder = RemoteEncoder::open(&kept, &watcher).unwrap();
    let start = Instant::now();
    let error = encoder.encode_texts(&numbered(40), &watcher).unwrap_err();
    assert!(matches!(error, EncoderError::Cancelled));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(encoder.stats().computed, 120);
}

#[test]
fn unsteady_servers_and_unclear_models_are_told() {
    let count = AtomicUsize::new(0);
    let unsteady = Server::start(move |r| {
        if r.path != "/v1/embeddings" {
            return well(r, "vllm");
        }
        let shift = 0.1 * count.fetch_add(1, Ordering::SeqCst) as f32;
        let shifted = |t: &String| vector(t).iter().map(|x| x + shift).collect();
        Reply::json(&answer(&texts(r).iter().map(shifted).collect::<Vec<_>>()))
    });
    let watcher = Watcher::default();
    RemoteEncoder::open(&options(&unsteady), &watcher).unwrap();
    assert!(watcher.said.lock().unwrap().contains("different vectors"));

    let two = Server::start(|r| match r.path.as_str() {
        "/v1/models" => {
            let mut all = models("vllm");
            all["data"].as_array_mut().unwrap().push(json!({"id": "other", "owned_by": "vllm"}));
            Reply::json(&all)
        }
        _ => well(r, "vllm"),
    });
    let error = RemoteEncoder::open(&options(&two), &Quiet).err().unwrap().to_string();
    assert!(error.contains("--model") && error.contains("org/served-model, other"), "{error}");
    let named = RemoteOptions { model: Some("other".into()), ..options(&two) };
    assert_eq!(RemoteEncoder::open(&named, &Quiet).unwrap().identity().model_file, "other");
    let wrong = RemoteOptions { model: Some("third".into()), ..options(&two) };
    assert!(RemoteEncoder::open(&wrong, &Quiet).is_err());
    let not_tei = RemoteOptions { api: ServerApi::Tei, ..options(&two) };
    assert!(RemoteEncoder::open(&not_tei, &Quiet).err().unwrap().to_string().contains("/info"));
}

#[test]
fn addresses_with_secrets_are_refused_without_repeating_them() {
    for url in
        ["http://me:pa55@host", "http://host?api_key=pa55", "localhost:8000", "http://", "ftp://x"]
    {
        let error = RemoteEncoder::open(&RemoteOptions::new(url), &Quiet).err().unwrap();
        assert!(matches!(error, EncoderError::InvalidOption { option: "server", .. }));
        assert!(!error.to_string().contains("pa55"), "{error}");
    }
    let server = Server::start(|r| well(r, "vllm"));
    for end in ["/", "/v1", "/v1/", "/v1/embeddings"] {
        let options = RemoteOptions { url: format!("{}{end}", server.url), ..options(&server) };
        let encoder = RemoteEncoder::open(&options, &Quiet).unwrap();
        assert_eq!(encoder.address(), Some(server.url.as_str()));
    }
}
