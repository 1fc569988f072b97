//! Stories of users who name a model of the Hub or an address, told against a stand-in for the Hub.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stand_in;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lens_core::Progress;
use lens_encoder::models::{DEFAULT, FetchError, Hub, KNOWN, find_or_pull_for, find_or_pull_from};
use lens_encoder::{EncoderError, LayerChoice, Secret, ViewChoice};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stand_in::{Reply, Request, Server};
use tempfile::TempDir;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_verySecretToken";

/// Everything that was said; can ask to stop.
#[derive(Default)]
struct Watcher {
    said: Mutex<String>,
    done: AtomicUsize,
    stop_at: Option<usize>,
    stop: AtomicBool,
}

impl Progress for Watcher {
    fn begin(&self, stage: &str, _total: u64, _unit: &str) {
        self.note(stage);
    }
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

impl Watcher {
    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }
}

/// A user: a cache folder, and a Hub to ask.
struct Desk {
    folder: TempDir,
    hub: Hub,
}

impl Desk {
    fn new(server: &Server) -> Desk {
        let hub = Hub {
            endpoint: server.url.clone(),
            token: Secret::new(TOKEN),
            attempts: 3,
            first_pause: Duration::from_millis(5),
            patience: Duration::from_secs(5),
            ..Hub::default()
        };
        Desk { folder: tempfile::tempdir().unwrap(), hub }
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn find(&self, name: &str) -> Result<PathBuf, EncoderError> {
        self.find_with(name, &Watcher::default())
    }

    fn find_with(&self, name: &str, watcher: &Watcher) -> Result<PathBuf, EncoderError> {
        let found = find_or_pull_from(&self.hub, name, &self.models(), watcher);
        let told = format!("{found:?} {} {:?}", watcher.said(), self.hub);
        assert!(!told.contains(TOKEN), "{told}");
        if let Err(e) = &found {
            assert!(!e.to_string().contains(TOKEN), "{e}");
        }
        found
    }

    fn fails(&self, name: &str) -> (EncoderError, String) {
        let error = self.find(name).unwrap_err();
        let text = error.to_string();
        (error, text)
    }

    /// Every file below the folder of models, by its path there.
    fn files(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(&self.models(), &self.models(), &mut all);
        all.sort();
        all
    }
}

fn list(at: &Path, root: &Path, all: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(at) else { return };
    for path in entries.map(|e| e.unwrap().path()) {
        if path.is_dir() {
            list(&path, root, all);
        } else {
            all.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// The files of a repository.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn model() -> Files {
    let weights: Vec<u8> = (0..400_000u32).map(|i| (i * 7 % 251) as u8).collect();
    Files::from([
        ("README.md", b"not needed".to_vec()),
        ("config.json", b"{\"model_type\": \"llama\"}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("tokenizer_config.json", b"{}".to_vec()),
        ("model.safetensors", weights),
        ("pytorch_model.bin", b"never fetched".to_vec()),
        ("onnx/tokenizer.json", b"never fetched".to_vec()),
    ])
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn listing(files: &Files) -> Value {
    let entry = |(name, bytes): (&&str, &Vec<u8>)| {
        let mut entry = json!({"rfilename": name, "size": bytes.len()});
        if is_weights(name) {
            entry["lfs"] = json!({"sha256": sha256(bytes), "size": bytes.len()});
        }
        entry
    };
    json!({"id": "org/name", "sha": SHA, "siblings": files.iter().map(entry).collect::<Vec<_>>()})
}

/// What a well-behaved Hub answers.
fn well(request: &Request, files: &Files) -> Reply {
    let path = request.path.split('?').next().unwrap();
    if path == "/api/models/org/name/revision/main" {
        return Reply::json(&listing(files));
    }
    let file = path.strip_prefix(&format!("/org/name/resolve/{SHA}/"));
    match file.and_then(|f| files.get(f).map(|b| (f, b))) {
        Some((name, bytes)) => {
            let hash = sha256(bytes);
            let etag = if is_weights(name) { format!("\"{hash}\"") } else { "\"abc\"".to_owned() };
            Reply::file(request, bytes, &etag)
        }
        None => Reply::new(404, r#"{"error":"Repository not found"}"#),
    }
}

fn is_model(request: &Request) -> bool {
    request.path.ends_with("/model.safetensors")
}

#[test]
fn a_model_is_fetched_whole_and_only_what_is_needed() {
    let server = Server::start(|r| well(r, &model()));
    let desk = Desk::new(&server);
    let watcher = Watcher::default();
    let folder = desk.find_with("org/name", &watcher).unwrap();
    assert_eq!(folder, desk.models().join("hub").join(format!("org--name@{SHA}")));
    let hub = format!("hub/org--name@{SHA}");
    assert_eq!(
        desk.files(),
        [
            format!("{hub}/config.json"),
            format!("{hub}/model.safetensors"),
            format!("{hub}/tokenizer.json"),
            format!("{hub}/tokenizer_config.json"),
            "hub/refs/org--name@main".to_owned(),
        ]
    );
    assert_eq!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        model()["model.safetensors"]
    );
    assert!(watcher.said().contains("fetching org/name at 0123456789ab (4 files, 1 MB)"));
    let agent = format!("lens/{}", env!("CARGO_PKG_VERSION"));
    assert!(server.seen().iter().all(|r| r.header("user-agent") == Some(&*agent)));
    let bearer = format!("Bearer {TOKEN}");
    assert!(server.seen().iter().all(|r| r.header("authorization") == Some(&*bearer)));

    // Again: the branch is asked for, nothing is fetched; a commit is not even asked for.
    let before = server.seen().len();
    assert_eq!(desk.find("org/name").unwrap(), folder);
    assert_eq!(server.seen().len(), before + 1);
    assert_eq!(desk.find(&format!("org/name@{SHA}")).unwrap(), folder);
    assert_eq!(server.seen().len(), before + 1);
}

#[test]
fn a_layer_that_the_model_does_not_have_is_refused_before_its_weights_are_fetched() {
    let configured = |config: &'static str| {
        let mut files = model();
        files.insert("config.json", config.as_bytes().to_vec());
        Server::start(move |r| well(r, &files))
    };
    let views = |layer| [ViewChoice { layer, ..ViewChoice::default() }];
    let find = |desk: &Desk, layer| {
        find_or_pull_for(&desk.hub, &views(layer), "org/name", &desk.models(), &Watcher::default())
    };
    for config in [
        r#"{"model_type": "llama", "num_hidden_layers": 4}"#,
        r#"{"model_type": "gemma3", "text_config": {"num_hidden_layers": 4}}"#,
    ] {
        let server = configured(config);
        let desk = Desk::new(&server);
        for layer in [99, 5, -6] {
            let error = find(&desk, LayerChoice::Index(layer)).unwrap_err();
            let expected =
                format!("layer {layer} is out of range: the model has hidden states 0 to 4");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        assert!(!server.seen().iter().any(is_model));
        for layer in [LayerChoice::Index(4), LayerChoice::Index(-5), LayerChoice::All] {
            find(&desk, layer).unwrap();
        }
        // The configuration that was fetched to see it is not fetched again.
        let configs = server.seen().iter().filter(|r| r.path.ends_with("/config.json")).count();
        assert_eq!(configs, 1);
    }
    // A configuration that does not say is left to whoever opens the model.
    let server = configured(r#"{"model_type": "llama"}"#);
    find(&Desk::new(&server), LayerChoice::Index(99)).unwrap();
    // Of a known model it is known without asking anybody.
    let desk = Desk::new(&server);
    let (views, models) = (views(LayerChoice::Index(19)), desk.models());
    let error = find_or_pull_for(&desk.hub, &views, DEFAULT, &models, &Watcher::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("hidden states 0 to 18"), "{error}");
    assert!(KNOWN.iter().all(|m| m.about.contains(&format!(" {} layers", m.layers))));
}

#[test]
fn a_dropped_connection_is_taken_up_where_it_broke() {
    let drops = AtomicUsize::new(0);
    let server = Server::start(move |r| {
        let mut reply = well(r, &model());
        if is_model(r) && drops.fetch_add(1, Ordering::SeqCst) < 4 {
            reply.cut = Some(90_000);
        }
        reply
    });
    let desk = Desk::new(&server);
    let folder = desk.find("org/name").unwrap();
    assert_eq!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        model()["model.safetensors"]
    );
    let ranges: Vec<_> = server.seen().into_iter().filter(is_model).collect();
    let ranges: Vec<_> = ranges.iter().map(|r| r.header("range")).collect();
    assert_eq!(ranges.len(), 5);
    assert_eq!(ranges[1], Some("bytes=90000-"));
    assert_eq!(ranges[4], Some("bytes=360000-"));
}

#[test]
fn after_a_failure_and_a_new_start_only_the_rest_is_fetched() {
    let broken = std::sync::Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let broken = std::sync::Arc::clone(&broken);
        move |r| {
            let mut reply = well(r, &model());
            if is_model(r) && broken.load(Ordering::SeqCst) {
                if r.header("range").is_some() {
                    return Reply::hang_up();
                }
                reply.cut = Some(100_000);
            }
            reply
        }
    });
    let desk = Desk::new(&server);
    let (error, text) = desk.fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::Network { .. })), "{text}");
    assert!(text.contains("org/name/model.safetensors"), "{text}");
    assert!(!desk.models().join("hub").join(format!("org--name@{SHA}")).exists());
    broken.store(false, Ordering::SeqCst);
    let before = server.seen().len();
    desk.find("org/name").unwrap();
    let asked: Vec<_> = server.seen()[before..].to_vec();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[1].header("range"), Some("bytes=100000-"));
    assert!(desk.files().iter().all(|f| !f.contains("part")), "{:?}", desk.files());
}

#[test]
fn a_server_that_ignores_ranges_starts_again() {
    let drops = AtomicUsize::new(0);
    let server = Server::start(move |r| {
        let mut plain = r.clone();
        plain.headers.remove("range");
        let mut reply = well(&plain, &model());
        if is_model(r) && drops.fetch_add(1, Ordering::SeqCst) < 1 {
            reply.cut = Some(90_000);
        }
        reply
    });
    let desk = Desk::new(&server);
    let folder = desk.find("org/name").unwrap();
    assert_eq!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        model()["model.safetensors"]
    );
}

#[test]
fn a_wrong_file_is_refused_and_removed() {
    let server = Server::start(|r| {
        let mut reply = well(r, &model());
        if is_model(r) {
            reply.body[1000] ^= 1;
        }
        reply
    });
    let desk = Desk::new(&server);
    let (error, text) = desk.fails("org/name");
    assert!(matches!(error, EncoderError::Checksum { .. }), "{text}");
    assert!(desk.files().iter().all(|f| !f.contains("model.safetensors")), "{:?}", desk.files());

    // The hash can also come with the answer that points to the file.
    let server = Server::start(|r| {
        let mut files = listing(&model());
        for sibling in files["siblings"].as_array_mut().unwrap() {
            sibling.as_object_mut().unwrap().remove("lfs");
        }
        match r.path.as_str() {
            p if p.starts_with("/api/") => Reply::json(&files),
            "/elsewhere" => Reply::new(200, vec![0; 400_000]),
            _ if is_model(r) => Reply::new(302, "")
                .with("location", "/elsewhere")
                .with("x-linked-etag", format!("\"{}\"", sha256(&model()["model.safetensors"]))),
            _ => well(r, &model()),
        }
    });
    let (error, text) = Desk::new(&server).fails("org/name");
    assert!(matches!(error, EncoderError::Checksum { .. }), "{text}");
}

#[test]
fn closed_doors_say_what_to_do() {
    for status in [401, 403] {
        let server = Server::start(move |_| {
            Reply::new(status, "")
                .with("x-error-message", "Access to model org/name is restricted.")
        });
        let (error, text) = Desk::new(&server).fails("org/name");
        assert!(matches!(error, EncoderError::Fetch(FetchError::Denied { .. })));
        for part in ["HF_TOKEN", "licence", "is restricted", &format!("{}/org/name", server.url)] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(server.seen().len(), 1, "no use asking again");
    }
    let server = Server::start(|r| well(r, &model()));
    let (error, text) = Desk::new(&server).fails("org/nonesuch@v2");
    assert!(matches!(error, EncoderError::Fetch(FetchError::NotFound { .. })));
    assert!(text.contains("org/nonesuch@v2") && text.contains("Repository not found"), "{text}");

    // A server that repeats the token in its message.
    let server = Server::start(|_| Reply::new(400, format!("bad token {TOKEN}")));
    assert!(Desk::new(&server).fails("org/name").1.contains("bad token ***"));
}

#[test]
fn a_busy_hub_is_asked_again_when_it_says() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |r| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429, "slow down").with("retry-after", "1"),
        1 => Reply::new(503, ""),
        _ => well(r, &model()),
    });
    let start = std::time::Instant::now();
    Desk::new(&server).find("org/name").unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let server = Server::start(|_| Reply::new(500, "out of order"));
    let (error, text) = Desk::new(&server).fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::Status { status: 500, .. })), "{text}");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn the_token_is_not_sent_to_another_host() {
    // Another port is another host.
    let other = Server::start(|r| Reply::file(r, &model()["model.safetensors"], "\"x\""));
    let there = other.url.clone();
    let server = Server::start(move |r| {
        if is_model(r) {
            return Reply::new(302, "")
                .with("location", format!("{there}/blob?X-Signature=s3cret"));
        }
        well(r, &model())
    });
    Desk::new(&server).find("org/name").unwrap();
    assert_eq!(other.seen().len(), 1);
    assert_eq!(other.seen()[0].header("authorization"), None);
    assert!(server.seen().iter().all(|r| r.header("authorization").is_some()));
    // A redirect without end is an error, not a hang.
    let server = Server::start(|r| Reply::new(307, "").with("location", &r.path));
    let (_, text) = Desk::new(&server).fails("org/name");
    assert!(text.contains("without end"), "{text}");
}

#[test]
fn shards_are_those_of_the_index() {
    let sharded = || {
        let mut files = model();
        files.remove("model.safetensors");
        let map = json!({"weight_map": {"a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}});
        files.insert("model.safetensors.index.json", map.to_string().into_bytes());
        files.insert("model-00001-of-00002.safetensors", vec![1; 1000]);
        files.insert("model-00002-of-00002.safetensors", vec![2; 1000]);
        files.insert("other.safetensors", vec![3; 1000]);
        files
    };
    let server = Server::start(move |r| well(r, &sharded()));
    let desk = Desk::new(&server);
    let folder = desk.find("org/name").unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let evil = || {
        let mut files = model();
        files.insert("../tokenizer.json", b"x".to_vec());
        files
    };
    let server = Server::start(move |r| well(r, &evil()));
    let desk = Desk::new(&server);
    let (error, text) = desk.fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::UnsafeName { .. })), "{text}");
    assert_eq!(desk.files(), [""; 0]);
    let evil = || {
        let mut files = model();
        let map = json!({"weight_map": {"a": "../../evil.safetensors"}});
        files.insert("model.safetensors.index.json", map.to_string().into_bytes());
        files
    };
    let server = Server::start(move |r| well(r, &evil()));
    let (error, text) = Desk::new(&server).fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::UnsafeName { .. })), "{text}");
}

#[test]
fn all_parts_of_a_split_model_are_fetched_and_a_missing_one_is_named() {
    let parts = || {
        Files::from([
            ("q/m-00001-of-00003.gguf", vec![1; 90_000]),
            ("q/m-00002-of-00003.gguf", vec![2; 80_000]),
            ("q/m-00003-of-00003.gguf", vec![3; 70_000]),
        ])
    };
    let server = Server::start(move |r| well(r, &parts()));
    let desk = Desk::new(&server);
    let named = desk.find("org/name/q/m-00002-of-00003.gguf").unwrap();
    let fetched = desk.files();
    let weights: Vec<&String> = fetched.iter().filter(|f| f.ends_with(".gguf")).collect();
    assert_eq!(weights.len(), 3, "{fetched:?}");
    // What an interrupted run left out is fetched by the next.
    let lost = named.with_file_name("m-00003-of-00003.gguf");
    std::fs::remove_file(&lost).unwrap();
    assert_eq!(desk.find("org/name/q/m-00002-of-00003.gguf").unwrap(), named);
    assert!(lost.is_file());

    let incomplete = || Files::from([("m-00001-of-00002.gguf", vec![1; 9_000])]);
    let server = Server::start(move |r| well(r, &incomplete()));
    let (_, text) = Desk::new(&server).fails("org/name/m-00001-of-00002.gguf");
    assert!(text.contains("m-00002-of-00002.gguf"), "{text}");
}

#[test]
fn what_an_embedding_model_declares_of_its_vectors_is_fetched_too() {
    let server = Server::start(|r| {
        let mut files = model();
        files.insert("modules.json", b"[]".to_vec());
        files.insert("1_Pooling/config.json", b"{}".to_vec());
        well(r, &files)
    });
    let desk = Desk::new(&server);
    let folder = desk.find("org/name").unwrap();
    assert!(folder.join("modules.json").is_file());
    assert!(folder.join("1_Pooling/config.json").is_file());
}

#[test]
fn gguf_files_are_listed_and_one_is_named() {
    let quantised = || {
        Files::from([
            ("README.md", b"x".to_vec()),
            ("model-Q4_K_M.gguf", vec![4; 3_000_000]),
            ("sub/model-Q8_0.gguf", vec![8; 5_100_000]),
        ])
    };
    let server = Server::start(move |r| well(r, &quantised()));
    let desk = Desk::new(&server);
    let (_, text) = desk.fails("org/name");
    assert!(text.contains("\n  org/name/model-Q4_K_M.gguf  (3 MB)"), "{text}");
    assert!(text.contains("\n  org/name/sub/model-Q8_0.gguf  (6 MB)"), "{text}");
    let (_, text) = desk.fails("org/name/nonesuch.gguf");
    assert!(text.contains("org/name/model-Q4_K_M.gguf"), "{text}");
    let file = desk.find("org/name/sub/model-Q8_0.gguf").unwrap();
    assert!(file.ends_with(format!("hub/files/org--name@{SHA}/sub/model-Q8_0.gguf")));
    assert_eq!(std::fs::metadata(file).unwrap().len(), 5_100_000);

    let unsafe_only = || {
        let mut files = model();
        files.remove("model.safetensors");
        files
    };
    let server = Server::start(move |r| well(r, &unsafe_only()));
    let (error, text) = Desk::new(&server).fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::OnlyPickle { .. })));
    assert!(text.contains("pytorch_model.bin") && text.contains("run code"), "{text}");
}

#[test]
fn stopping_leaves_what_can_be_taken_up() {
    let server = Server::start(|r| {
        let mut reply = well(r, &model());
        if is_model(r) && r.header("range").is_none() {
            // The rest never comes.
            reply.cut = Some(120_000);
            reply.claim = Some(400_000);
            reply.headers.push(("x-slow".into(), "yes".into()));
        }
        reply
    });
    let desk = Desk::new(&server);
    let watcher = Watcher { stop_at: Some(100_000), ..Watcher::default() };
    let error = desk.find_with("org/name", &watcher).unwrap_err();
    assert!(matches!(error, EncoderError::Cancelled));
    let left: Vec<_> = desk.files();
    let partial = format!("hub/org--name@{SHA}.partial/");
    assert!(left.iter().all(|f| f.starts_with(&partial)), "{left:?}");
    assert!(left.contains(&format!("{partial}model.safetensors.part")), "{left:?}");
    desk.find("org/name").unwrap();
    let last = server.seen().into_iter().rfind(is_model).unwrap();
    assert!(last.header("range").is_some());
}

#[test]
fn a_stalled_connection_does_not_keep_the_user() {
    let server = Server::start(|r| {
        let reply = well(r, &model());
        if is_model(r) { Reply { pause: Duration::from_secs(4), ..reply } } else { reply }
    });
    let desk = Desk::new(&server);
    let watcher = Watcher { stop_at: Some(1), ..Watcher::default() };
    let start = std::time::Instant::now();
    assert!(matches!(desk.find_with("org/name", &watcher), Err(EncoderError::Cancelled)));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_hub_that_trickles_is_given_up() {
    let trickle =
        || Reply { endless: true, every: Duration::from_millis(20), ..Reply::new(200, " ") };
    let hasty = |server: &Server| {
        let mut desk = Desk::new(server);
        desk.hub.patience = Duration::from_secs(1);
        desk.hub.attempts = 2;
        desk
    };
    let start = std::time::Instant::now();
    let server = Server::start(move |r| if is_model(r) { trickle() } else { well(r, &model()) });
    let (error, text) = hasty(&server).fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::Network { .. })), "{text}");
    assert!(text.contains("sends too slowly: less than 1024 bytes in 1 s"), "{text}");
    assert_eq!(server.seen().iter().filter(|r| is_model(r)).count(), 2);
    let server = Server::start(move |r| match r.path.starts_with("/api/") {
        true => trickle(),
        false => well(r, &model()),
    });
    let (_, text) = hasty(&server).fails("org/name");
    assert!(text.contains("did not answer in time"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn lengths_are_not_believed() {
    // Lengths beyond every disk, and no data.
    for (name, too_long) in [("tokenizer.json", true), ("model.safetensors", false)] {
        let server = Server::start(move |r| {
            let mut files = listing(&model());
            for sibling in files["siblings"].as_array_mut().unwrap() {
                let sibling = sibling.as_object_mut().unwrap();
                sibling.remove("lfs");
                sibling.remove("size");
            }
            match well(r, &model()) {
                _ if r.path.starts_with("/api/") => Reply::json(&files),
                reply if r.path.ends_with(name) => Reply { claim: Some(1 << 41), ..reply },
                reply => reply,
            }
        });
        let (error, text) = Desk::new(&server).fails("org/name");
        let is = matches!(error, EncoderError::Fetch(FetchError::TooLong { .. }));
        assert_eq!(is, too_long, "{text}");
    }
    // More data than was announced.
    let server = Server::start(|r| {
        let mut reply = well(r, &model());
        if r.path.ends_with("/tokenizer.json") {
            reply = Reply { endless: true, ..Reply::new(200, vec![b'x'; 65536]) };
        }
        reply
    });
    let desk = Desk::new(&server);
    let (error, text) = desk.fails("org/name");
    assert!(matches!(error, EncoderError::Fetch(FetchError::TooLong { limit: 2, .. })), "{text}");
    assert!(desk.files().iter().all(|f| !f.ends_with("part")), "{:?}", desk.files());
    // A listing that is none.
    for garbage in ["", "{", "[]", r#"{"sha": "../../x", "siblings": []}"#] {
        let server = Server::start(move |_| Reply::new(200, garbage));
        let (error, text) = Desk::new(&server).fails("org/name");
        assert!(matches!(error, EncoderError::Fetch(FetchError::Garbage { .. })), "{text}");
    }
}

#[test]
fn without_a_network_what_is_here_is_used() {
    let gone;
    let mut desk;
    let folder = {
        let server = Server::start(|r| well(r, &model()));
        desk = Desk::new(&server);
        gone = server.url.clone();
        desk.find("org/name").unwrap()
    };
    let watcher = Watcher::default();
    assert_eq!(desk.find_with("org/name", &watcher).unwrap(), folder);
    assert!(watcher.said().contains("using what was fetched before"), "{}", watcher.said());
    assert!(watcher.said().contains(&gone), "{}", watcher.said());
    assert!(desk.find("org/other").is_err());
    desk.hub.offline = true;
    let watcher = Watcher::default();
    assert_eq!(desk.find_with("org/name", &watcher).unwrap(), folder);
    assert!(watcher.said().contains("HF_HUB_OFFLINE"));
    let (error, text) = desk.fails("org/other");
    assert!(matches!(error, EncoderError::Fetch(FetchError::Offline { .. })), "{text}");
}

#[test]
fn the_users_own_cache_of_the_hub_comes_first() {
    let server = Server::start(|_| Reply::new(500, "not to be asked"));
    let mut desk = Desk::new(&server);
    let cache = desk.folder.path().join("hf");
    let repo = cache.join("models--org--name");
    let snapshot = repo.join("snapshots").join(SHA);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), SHA).unwrap();
    for (name, bytes) in model() {
        if !name.contains('/') {
            std::fs::write(snapshot.join(name), bytes).unwrap();
        }
    }
    desk.hub.cache = Some(cache);
    assert_eq!(desk.find("org/name").unwrap(), snapshot);
    assert_eq!(desk.find(&format!("org/name@{SHA}")).unwrap(), snapshot);
    assert_eq!(server.seen().len(), 0);
    // A snapshot that lacks its weights does not count.
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    assert!(desk.find("org/name").is_err());
    assert!(!server.seen().is_empty());
}

#[test]
fn a_file_at_an_address_is_kept_until_it_changes() {
    let version = std::sync::Arc::new(AtomicUsize::new(1));
    let content = |v: usize| vec![v as u8; 50_000];
    let server = Server::start({
        let version = std::sync::Arc::clone(&version);
        move |r| {
            let v = version.load(Ordering::SeqCst);
            match r.path.split('?').next().unwrap() {
                "/m/x.gguf" => Reply::file(r, &content(v), &format!("\"v{v}\"")),
                "/m/plain.gguf" => Reply::new(200, content(v)),
                _ => Reply::new(404, "nothing here"),
            }
        }
    });
    let mut desk = Desk::new(&server);
    // Not the Hub's host: no token for it.
    desk.hub.endpoint = "https://hub.invalid".into();
    let url = format!("{}/m/x.gguf?signature=one", server.url);
    let file = desk.find(&url).unwrap();
    assert!(file.ends_with("x.gguf"));
    assert_eq!(std::fs::read(&file).unwrap(), content(1));
    assert_eq!(desk.find(&url.replace("one", "two")).unwrap(), file);
    assert_eq!(server.seen()[1].header("if-none-match"), Some("\"v1\""));
    assert!(server.seen().iter().all(|r| r.header("authorization").is_none()));
    version.store(2, Ordering::SeqCst);
    assert_eq!(std::fs::read(desk.find(&url).unwrap()).unwrap(), content(2));

    let plain = format!("{}/m/plain.gguf", server.url);
    let watcher = Watcher::default();
    let file = desk.find(&plain).unwrap();
    assert_eq!(desk.find_with(&plain, &watcher).unwrap(), file);
    assert!(watcher.said().contains("tells no version"), "{}", watcher.said());

    let (_, text) = desk.fails(&format!("{}/m/nonesuch.gguf?signature=abc", server.url));
    assert!(text.contains("nothing here") && !text.contains("abc"), "{text}");
    let (_, text) = desk.fails(&format!("{}/m/x.bin", server.url));
    assert!(text.contains(".gguf"), "{text}");
    let (_, text) = desk.fails("https://me:pa55@hub.invalid/x.gguf");
    assert!(!text.contains("pa55"), "{text}");
    drop(server);
    assert_eq!(desk.find(&url).unwrap(), desk.find(&url).unwrap());
}
