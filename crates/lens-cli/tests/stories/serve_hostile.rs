//! Stories of clients, files and settings that would take more of a machine than there is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::{Reply, Serving};
use crate::common::{Lens, PATIENCE, Said, Signal};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How much a server may grow by what is refused, in bytes.
const LITTLE: u64 = 64 << 20;

/// A command under limits of a shell, such as `-v 3000000`.
fn limited(lens: &Lens, limits: &str, words: &str) -> Command {
    let mut command = lens.command("");
    let inner = std::mem::replace(&mut command, Command::new("sh"));
    let program = inner.get_program();
    command
        .args(["-c", &format!("ulimit {limits}; exec \"$0\" \"$@\"")])
        .arg(program)
        .args(words.split_whitespace())
        .current_dir(inner.get_current_dir().unwrap())
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    command
}

/// Runs a command that has to end soon by itself.
fn soon(mut command: Command, seconds: u64) -> Said {
    let start = Instant::now();
    let said = Said::from(command.output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(seconds), "{:?}", start.elapsed());
    said
}

#[track_caller]
fn undisturbed(server: &Serving) -> f64 {
    let answer = server.post("/get_reward", &json!({"query": ["undisturbed"]})).ok();
    answer["rewards"][0].as_f64().unwrap()
}

#[track_caller]
fn refused(reply: &Reply, code: &str) {
    assert_eq!((reply.status, reply.code()), (413, code.to_owned()), "{}", reply.text());
}

#[test]
fn a_long_prompt_to_many_responses_is_refused_before_it_is_copied() {
    let lens = Lens::with_reward_model();
    let server = Serving::of(limited(&lens, "-v 6000000", "serve rm --bind 127.0.0.1:0"));
    undisturbed(&server);
    let before = server.resident();
    let (query, many) = ("q".repeat(1 << 20), vec!["d"; 20_000]);
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let body = json!({"query": query, "documents": many});
        refused(&server.post(path, &body), "too_many_texts");
        refused(&server.post(path, &json!({"query": query, "texts": many})), "too_many_texts");
        // As many as are allowed, of a prompt that is not.
        let body = json!({"query": query, "documents": vec!["d"; 1000]});
        refused(&server.post(path, &body), "too_many_tokens");
    }
    for path in ["/score", "/v1/score"] {
        let body = json!({"queries": query, "documents": many});
        refused(&server.post(path, &body), "too_many_texts");
        let body = json!({"queries": [query], "documents": vec!["d"; 1000]});
        refused(&server.post(path, &body), "too_many_tokens");
    }
    let body = json!({"prompt": query, "responses": vec!["d"; 64]});
    refused(&server.post("/v1/reward", &body), "too_many_tokens");
    let after = server.resident();
    assert!(after < before + LITTLE, "{before} {after}");
    undisturbed(&server);
    server.stop();
}

#[test]
fn lists_of_nothing_are_counted_and_not_kept() {
    let lens = Lens::with_reward_model();
    let server = Serving::of(limited(&lens, "-v 6000000", "serve rm --bind 127.0.0.1:0"));
    undisturbed(&server);
    let before = server.resident();
    // 6 MB each, which were 50 MB and more as values.
    let list = |of: &str| format!("[{}{of}]", format!("{of},").repeat((6 << 20) / (of.len() + 1)));
    let (texts, lists, chat) = (list("\"\""), list("[]"), list(r#"{"role":"","content":""}"#));
    for (path, body, status) in [
        ("/get_reward", format!(r#"{{"query": {texts}}}"#), 413),
        ("/v1/score/evaluation", format!(r#"{{"messages": {texts}}}"#), 413),
        ("/classify", format!(r#"{{"input": {texts}}}"#), 413),
        ("/classify", format!(r#"{{"messages": {lists}}}"#), 413),
        ("/v1/embeddings", format!(r#"{{"input": {texts}}}"#), 413),
        ("/pooling", format!(r#"{{"input": {texts}}}"#), 413),
        ("/predict", format!(r#"{{"inputs": {lists}}}"#), 413),
        ("/predict", format!(r#"{{"inputs": {texts}}}"#), 422),
        ("/score", format!(r#"{{"queries": {texts}, "documents": {texts}}}"#), 413),
        ("/score", format!(r#"{{"queries": {texts}, "documents": "a"}}"#), 422),
        ("/rerank", format!(r#"{{"query": "q", "documents": {texts}}}"#), 413),
        ("/rerank", format!(r#"{{"query": "q", "texts": {texts}}}"#), 413),
        ("/v1/reward", format!(r#"{{"messages": {lists}}}"#), 413),
        ("/v1/reward", format!(r#"{{"prompt": "p", "responses": {texts}}}"#), 422),
        ("/v1/reward", format!(r#"{{"embeddings": {lists}}}"#), 422),
        ("/v1/reward", format!(r#"{{"embeddings": {}}}"#, list("0")), 422),
        // Fields that nobody reads.
        ("/v1/reward", format!(r#"{{"embeddings": [[]], "user": {lists}}}"#), 422),
        ("/classify", format!(r#"{{"input": [], "tools": {chat}}}"#), 422),
        ("/get_reward", format!(r#"{{"query": [], "labels": {chat}}}"#), 422),
    ] {
        let reply = server.call("POST", path, &[], body.as_bytes());
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    // One conversation of a great many empty turns is a long text.
    let body = format!(r#"{{"messages": {chat}}}"#);
    refused(&server.call("POST", "/classify", &[], body.as_bytes()), "too_many_tokens");
    let deep = format!(r#"{{"query": {}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
    server.call("POST", "/get_reward", &[], deep.as_bytes()).refusal(422);
    let deep = deep.replace("query", "other");
    server.call("POST", "/get_reward", &[], deep.as_bytes()).refusal(422);
    let after = server.resident();
    assert!(after < before + 3 * LITTLE, "{before} {after}");
    undisturbed(&server);
    server.stop();
}

#[test]
fn near_pairs_are_bounded_over_all_rows() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --pairs pairs.jsonl --max-nearest 500");
    let width = server.get("/v1/models").ok()["data"][0]["lens"]["embedding_width"].clone();
    let row = vec![1.0; usize::try_from(width.as_u64().unwrap()).unwrap()];
    let ask = |rows: usize, nearest: usize| {
        let body = json!({"embeddings": vec![&row; rows], "nearest": nearest});
        server.post("/v1/reward", &body)
    };
    let answer = ask(5, 100).ok();
    assert_eq!(answer["results"][4]["nearest"].as_array().unwrap().len(), 100);
    refused(&ask(6, 100), "too_many_nearest");
    refused(&ask(501, 1), "too_many_nearest");
    let body = json!({"prompt": "p", "responses": vec!["r"; 6], "nearest": 100});
    refused(&server.post("/v1/reward", &body), "too_many_nearest");
    server.stop();

    // What is allowed by number is still charged by size.
    let server = Serving::start(&lens, "rm --pairs pairs.jsonl --memory 1M --max-nearest 1000000");
    ask_with(&server, &row, 10, 50).ok();
    refused(&ask_with(&server, &row, 100, 100), "memory");
    ask_with(&server, &row, 10, 50).ok();
    server.stop();
}

fn ask_with(server: &Serving, row: &[f64], rows: usize, nearest: usize) -> Reply {
    let body = json!({"embeddings": vec![row; rows], "nearest": nearest});
    server.post("/v1/reward", &body)
}

#[test]
fn all_requests_together_stay_within_the_memory() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --memory 8M");
    let held = || server.metric("lens_memory_bytes");
    // Alone it is too much, whatever others do.
    let large = json!({"query": ["x".repeat(600 << 10)]}).to_string();
    refused(&server.call("POST", "/get_reward", &[], large.as_bytes()), "memory");
    assert_eq!(held(), 0.0);
    // Bodies that are on their way are held, as far as they have come, and not as they promise.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = server.client();
        let length = (900 << 10).to_string();
        let part = vec![b' '; 890 << 10];
        client.send("POST", "/get_reward", &[("content-length", &length)], &part).unwrap();
        waiting.push(client);
    }
    server.until("their bodies are held", || held() >= ((8 * 890) << 10) as f64);
    assert!(held() <= (8 << 20) as f64);
    let body = json!({"query": ["x".repeat(20 << 10)]});
    let full = server.post("/get_reward", &body);
    let seconds = full.header("retry-after").map(str::to_owned);
    assert_eq!((full.status, full.code(), seconds), (429, "memory_full".into(), Some("1".into())));
    assert_eq!(server.get("/health").status, 200);
    drop(waiting);
    server.until("they are given back", || held() == 0.0);
    undisturbed(&server);
    server.stop();

    for (words, why) in [("--memory 0", "at least"), ("--memory 2X", "no number of bytes")] {
        let error = lens.fails(2, &format!("serve rm {words}"));
        assert!(error.contains("--memory") && error.contains(why), "{error}");
    }
}

#[test]
fn answers_that_wait_for_their_reader_are_held() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --memory 64M --read-timeout 60");
    let width = server.get("/v1/models").ok()["data"][0]["lens"]["embedding_width"].clone();
    let rows = vec![0u8; width.as_u64().unwrap() as usize * 4 * 20_000];
    let headers = [("content-type", "application/octet-stream"), ("x-lens-dtype", "f32")];
    let mut slow = server.client();
    slow.send("POST", "/v1/reward", &headers, &rows).unwrap();
    server.until("the answer is there", || {
        let held = server.metric("lens_memory_bytes");
        held > (1 << 20) as f64 && held < (8 << 20) as f64
    });
    let answer = slow.receive().unwrap().ok();
    assert_eq!(answer["results"].as_array().unwrap().len(), 20_000);
    server.until("it has left", || server.metric("lens_memory_bytes") == 0.0);
    server.stop();
}

/// Asks for a file over and over, and reads nothing.
fn never_reads(server: &Serving) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let ask = b"GET /page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(200);
    while stream.write_all(&ask).is_ok() {}
    stream
}

#[test]
fn who_does_not_read_is_closed_and_others_are_answered() {
    const CONNECTIONS: usize = 4;
    let lens = Lens::with_reward_model();
    let words = format!("rm --max-connections {CONNECTIONS} --read-timeout 2 --token not-a-secret");
    let server = Serving::start(&lens, &words);
    let attackers: Vec<TcpStream> = (0..CONNECTIONS).map(|_| never_reads(&server)).collect();
    let start = Instant::now();
    for path in ["/health", "/", "/page.js", "/docs.css"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop(attackers);
    server.stop();
}

#[test]
fn who_reads_a_byte_a_second_is_closed_too() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --max-connections 1 --read-timeout 2");
    let mut slow = never_reads(&server);
    slow.set_nonblocking(false).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        while stopped.recv_timeout(Duration::from_millis(200)).is_err() {
            if !matches!(slow.read(&mut byte), Ok(1)) {
                break;
            }
        }
    });
    let start = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop(stop);
    reader.join().unwrap();
    server.stop();
}

#[test]
fn bodies_that_trickle_do_not_hold_a_connection_for_long() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --max-connections 1 --read-timeout 1");
    let mut slow = server.client();
    slow.send("POST", "/get_reward", &[("content-length", "1000")], b"{").unwrap();
    let trickle = std::thread::spawn(move || {
        while slow.raw(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let start = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    trickle.join().unwrap();
    server.stop();
}

#[test]
fn no_spelling_of_nothing_is_a_token() {
    let lens = Lens::with_reward_model();
    let nothings = [
        "",
        " ",
        "\t",
        "\n",
        "\r\n\r\n",
        ",",
        " , ,,\n,",
        "# a comment",
        "#\n \n# b\n",
        "\u{feff}",
    ];
    for nothing in nothings {
        let mut by_flag = lens.command("serve rm --bind 127.0.0.1:0 --token");
        by_flag.arg(nothing);
        let mut by_variable = lens.command("serve rm --bind 127.0.0.1:0");
        by_variable.env("LENS_TOKENS", nothing);
        // Also beside a token that is one.
        let mut beside = lens.command("serve rm --bind 127.0.0.1:0 --token long-enough-token");
        beside.env("LENS_TOKENS", nothing);
        lens.write("tokens", nothing);
        let by_file = lens.command("serve rm --bind 127.0.0.1:0 --token-file tokens");
        for command in [by_flag, by_variable, beside, by_file] {
            let said = soon(command, 60);
            assert_eq!(said.code, 2, "{nothing:?}: {}", said.err);
            assert!(said.err.contains("there is no token in it"), "{nothing:?}: {}", said.err);
        }
    }
    for bad in ["\u{1b}[31m-a-token", "null\u{7f}null", "eight\u{200b}long"] {
        let mut command = lens.command("serve rm --bind 127.0.0.1:0");
        command.env("LENS_TOKENS", bad);
        let said = soon(command, 60);
        assert_eq!(said.code, 2, "{}", said.err);
        assert!(said.err.contains("visible ASCII") && !said.err.contains('\u{1b}'), "{}", said.err);
    }
}

#[test]
fn a_bundle_that_was_damaged_is_not_taken_and_the_old_one_goes_on() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    let files = ["lens.json", "model.safetensors"];
    let whole = files.map(|name| std::fs::read(lens.path("rm").join(name)).unwrap());
    let manifest: Value = serde_json::from_slice(&whole[0]).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut edited = manifest.clone();
        *edited.pointer_mut(pointer).unwrap() = value;
        edited.to_string().into_bytes()
    };
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let damages: [(usize, Vec<u8>); 8] = [
        (0, Vec::new()),
        (0, b"{}".to_vec()),
        (0, half(&whole[0])),
        (0, with("/head/dim", json!(7))),
        (0, with("/head/members", json!(1_u64 << 63))),
        (1, Vec::new()),
        (1, half(&whole[1])),
        (1, whole[1][..whole[1].len() - 1].to_vec()),
    ];
    for (number, (file, bytes)) in damages.into_iter().enumerate() {
        let path = lens.path("rm").join(files[file]);
        std::fs::write(&path, bytes).unwrap();
        let refused = server.post("/v1/models/reload", &json!({}));
        assert!(refused.refusal(409).contains("the old one goes on"), "{number}");
        assert_eq!(undisturbed(&server), before, "{number}");
        std::fs::write(&path, &whole[file]).unwrap();
        server.post("/v1/models/reload", &json!({})).ok();
        assert_eq!(undisturbed(&server), before, "{number}");
    }
    let said = server.stop();
    assert!(!said.err.contains('\u{1b}'), "{}", said.err);
}

#[test]
fn many_reloads_at_a_time_take_turns() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let before = undisturbed(&server);
    let mut clients: Vec<_> = (0..40).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("POST", "/v1/models/reload", &[], b"{}").unwrap();
    }
    assert_eq!(server.get("/health").status, 200);
    for client in &mut clients {
        client.receive().unwrap().ok();
    }
    assert_eq!(undisturbed(&server), before);
    server.stop();
}

#[test]
fn a_handful_of_open_files_is_an_error_that_says_so() {
    let lens = Lens::with_reward_model();
    for files in [6, 8, 11, 14, 17, 20] {
        let words = "serve rm --bind 127.0.0.1:0";
        let said = soon(limited(&lens, &format!("-n {files}"), words), 60);
        assert_eq!(said.code, 1, "{files}: {}", said.err);
        assert!(said.err.contains("ulimit -n") && !said.err.contains("panicked"), "{}", said.err);
    }
    // With some more it serves, a few connections at a time.
    let command = limited(&lens, "-n 60", "serve rm --bind 127.0.0.1:0");
    let server = Serving::of(command);
    let mut idle: Vec<_> = (0..40).map(|_| server.client()).collect();
    idle[0].call("GET", "/health", &[], b"").unwrap();
    drop(idle);
    undisturbed(&server);
    server.stop();
}

#[test]
fn a_great_many_threads_are_refused_wherever_they_are_asked_for() {
    let lens = Lens::with_reward_model();
    lens.write("settings.toml", "threads = 100000\n");
    for words in [
        "serve rm --bind 127.0.0.1:0 --threads 100000",
        "serve rm --bind 127.0.0.1:0 --threads 18446744073709551615",
        "serve rm --bind 127.0.0.1:0 --set threads=100000",
        "serve rm --bind 127.0.0.1:0 --config settings.toml",
        "score rm pairs.jsonl --threads 100000",
    ] {
        let said = soon(lens.command(words), 30);
        assert_eq!(said.code, 2, "{words}: {}", said.err);
        assert!(said.err.contains("threads"), "{words}: {}", said.err);
    }
    // What libraries would take from the environment is not taken.
    let mut command = lens.command("serve rm --bind 127.0.0.1:0");
    command.env("RAYON_NUM_THREADS", "100000").env("TOKIO_WORKER_THREADS", "nonsense");
    let server = Serving::of(command);
    undisturbed(&server);
    server.stop();
}

#[test]
fn a_server_whose_log_nobody_reads_still_ends() {
    let lens = Lens::with_reward_model();
    let mut command = lens.command("serve rm --bind 127.0.0.1:0 --drain-timeout 1");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on http://") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
    }
    let address = line.trim().trim_start_matches("listening on http://");
    // Until the pipe is full, and with it every thread that has something to say.
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(address).unwrap();
        let ask = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(200);
        client.write_all(&ask).unwrap();
        clients.push(client);
    }
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(log);
}

#[test]
fn a_pipe_that_nobody_writes_into_is_an_error() {
    let lens = Lens::with_reward_model();
    let made = Command::new("mkfifo").arg(lens.path("pipe")).status().unwrap();
    assert!(made.success());
    lens.write("key.pem", "x");
    for (code, words) in
        [(2, "--token-file pipe"), (1, "--pairs pipe"), (1, "--tls-cert pipe --tls-key key.pem")]
    {
        let said = soon(lens.command(&format!("serve rm --bind 127.0.0.1:0 {words}")), 60);
        assert_eq!(said.code, code, "{words}: {}", said.err);
        assert!(said.err.contains("pipe"), "{words}: {}", said.err);
    }
    // One into which somebody does is a file like any other.
    let mut command = Command::new("sh");
    let inner = lens.command("");
    let script = "echo a-token-by-a-pipe > pipe & exec \"$0\" serve rm --bind 127.0.0.1:0 \
                  --token-file pipe";
    command.args(["-c", script]).arg(inner.get_program());
    command.current_dir(lens.path("")).env("HOME", lens.path(""));
    let server = Serving::of(command);
    let auth = [("authorization", "Bearer a-token-by-a-pipe")];
    assert_eq!(server.call("GET", "/v1/models", &auth, b"").status, 200);
    assert_eq!(server.get("/v1/models").status, 401);
    server.stop();
}

#[test]
fn with_little_address_space_there_is_an_answer_or_an_error() {
    let lens = Lens::with_reward_model();
    for kilobytes in [60_000, 150_000, 300_000, 600_000, 1_500_000] {
        let words = "serve rm --bind 127.0.0.1:0 --drain-timeout 1";
        let mut command = limited(&lens, &format!("-v {kilobytes}"), words);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        let end = Instant::now() + PATIENCE;
        while !line.contains("listening on") && Instant::now() < end {
            line.clear();
            if log.read_line(&mut line).unwrap() == 0 {
                break;
            }
            said += &line;
        }
        if line.contains("listening on") {
            let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
            rustix::process::kill_process(pid, Signal::TERM).unwrap();
        }
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_some(), "{kilobytes}: {status}: {said}{rest}");
    }
}
