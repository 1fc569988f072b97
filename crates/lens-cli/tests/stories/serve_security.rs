//! Stories of people who should not get in, get more than their share, or learn what is not theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::{Reply, Serving};
use crate::common::{Lens, PATIENCE};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

const TOKEN: &str = "correct-horse-battery";

/// What needs no token: whether the server lives, and the page's files.
const OPEN: [&str; 8] =
    ["/health", "/ready", "/", "/page.js", "/page.css", "/docs", "/docs.js", "/docs.css"];

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn get(server: &Serving, path: &str, headers: &[(&str, &str)]) -> Reply {
    server.call("GET", path, headers, b"")
}

#[test]
fn every_route_wants_a_token_except_the_pages_own_files() {
    let lens = Lens::with_reward_model();
    lens.write("tokens", "# ours\nsecond-token-of-two\n");
    let mut command =
        lens.command(&format!("serve rm --bind 127.0.0.1:0 --token {TOKEN} --token-file tokens"));
    command.env("LENS_TOKENS", "token-from-outside,another-of-those");
    let server = Serving::of(command);
    let described = get(&server, "/openapi.json", &[("authorization", &bearer(TOKEN))]).ok();
    let mut wanted = 0;
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            if OPEN.contains(&path.as_str()) {
                continue;
            }
            wanted += 1;
            for header in [
                None,
                Some("Bearer wrong-horse-battery".to_owned()),
                Some(bearer("")),
                Some(bearer(&TOKEN[..TOKEN.len() - 1])),
                Some(bearer(&format!("{TOKEN}x"))),
                Some(bearer(&TOKEN.to_uppercase())),
                Some(format!("Basic {TOKEN}")),
                Some(TOKEN.to_owned()),
                Some(bearer("# ours")),
            ] {
                let headers: Vec<(&str, &str)> =
                    header.iter().map(|h| ("authorization", h.as_str())).collect();
                let reply = server.call(&method, path, &headers, b"{}");
                assert!(reply.refusal(401).contains("token"), "{method} {path} {header:?}");
                assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"lens\""));
            }
        }
    }
    assert!(wanted > 15);
    for token in [TOKEN, "second-token-of-two", "token-from-outside", "another-of-those"] {
        get(&server, "/v1/models", &[("authorization", &bearer(token))]).ok();
    }
    // Neither is it said which paths there are, nor is a body looked at.
    get(&server, "/no/such/path", &[]).refusal(401);
    server.call("DELETE", "/v1/reward", &[], b"").refusal(401);
    server.call("OPTIONS", "/v1/reward", &[], b"").refusal(401);
    server.call("POST", "/v1/reward", &[("content-type", "text/plain")], b"<").refusal(401);
    for path in OPEN {
        assert_eq!(get(&server, path, &[]).status, 200, "{path}");
    }
    let said = server.stop();
    for token in [TOKEN, "second-token-of-two", "token-from-outside", "wrong-horse-battery"] {
        assert!(!said.err.contains(token), "{}", said.err);
    }
}

#[test]
fn no_way_of_writing_a_path_goes_around_the_token() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, &format!("rm --token {TOKEN}"));
    for path in [
        "/metrics/",
        "//metrics",
        "/./metrics",
        "/health/../metrics",
        "/%6detrics",
        "/metrics?",
        "/metrics#/health",
        "/health/..;/metrics",
        "/metrics%00",
        "/METRICS",
        "/page.js/../metrics",
        "/health%2f..%2fmetrics",
        "/metrics?path=/health",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/../../../../etc/passwd",
        "/docs/../lens.json",
        "http://localhost/metrics",
        "*",
    ] {
        let reply = get(&server, path, &[]);
        assert!([400, 401, 404].contains(&reply.status), "{path}: {}", reply.status);
        assert!(!reply.text().contains("lens_requests") && !reply.text().contains("root:"));
        let reply = get(&server, path, &[("authorization", &bearer(TOKEN))]);
        assert!(!reply.text().contains("root:"), "{path}");
    }
    server.stop();
}

#[test]
fn beyond_this_machine_a_token_is_asked_for() {
    let lens = Lens::with_reward_model();
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let error = lens.fails(2, &format!("serve rm --bind {bind}"));
        assert!(
            error.contains("no token is set") && error.contains("hint: set a token"),
            "{error}"
        );
        assert!(error.contains("--insecure-no-token"), "{error}");
    }
    for (words, why) in [
        ("--token short", "at least 8 characters"),
        ("--token-file absent", "absent"),
        ("--bind nonsense", "nonsense"),
        ("--tls-cert absent", "--tls-key"),
        ("--max-texts 0", "--max-texts"),
        ("--name <script>=rm", "cannot be the name"),
        ("--name x", "NAME=DIR"),
    ] {
        let error = lens.fails(2, &format!("serve rm {words}"));
        assert!(error.contains(why), "{words}: {error}");
    }
    lens.write("empty", "# nothing\n");
    assert!(lens.fails(2, "serve rm --token-file empty").contains("there is no token in it"));

    let open = "serve rm --bind 0.0.0.0:0 --insecure-no-token";
    let mut server = Serving::of(lens.command(open));
    assert!(server.until_said("listening").contains("warning: whoever can reach"));
    server.stop();
    let with = format!("serve rm --bind 0.0.0.0:0 --token {TOKEN}");
    let mut server = Serving::of(lens.command(&with));
    assert!(server.until_said("listening").contains("in the clear"));
    server.stop();
}

#[test]
fn another_sites_page_cannot_use_a_server_without_a_token() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let port = server.address.port();
    // A name that somebody else has made to resolve to this machine.
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", ""] {
        let host = format!("{host}:{port}");
        assert!(get(&server, "/v1/models", &[("host", &host)]).refusal(403).contains("Host"));
        get(&server, "/", &[("host", &host)]).refusal(403);
    }
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        get(&server, "/v1/models", &[("host", &format!("{host}:{port}"))]).ok();
    }
    // A page from elsewhere that sends without asking first.
    let body = json!({"query": ["a"]}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let reply = server.call("POST", "/get_reward", &[("content-type", kind)], body.as_bytes());
        assert!(reply.refusal(415).contains("application/json"));
    }
    let origin = [("origin", "https://evil.example")];
    server.call("POST", "/get_reward", &origin, body.as_bytes()).refusal(403);
    let own = format!("http://127.0.0.1:{port}");
    server.call("POST", "/get_reward", &[("origin", &own)], body.as_bytes()).ok();
    server.stop();
}

#[test]
fn every_answer_tells_browsers_to_be_careful() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, &format!("rm --token {TOKEN}"));
    let auth = bearer(TOKEN);
    let auth = ("authorization", auth.as_str());
    let origin = ("origin", "https://evil.example");
    let replies = [
        get(&server, "/", &[origin]),
        get(&server, "/health", &[origin]),
        get(&server, "/metrics", &[origin]),
        get(&server, "/metrics", &[auth, origin]),
        get(&server, "/absent", &[auth, origin]),
        server.call("POST", "/get_reward", &[auth, origin], b"{"),
        server.call("PUT", "/get_reward", &[auth, origin], b""),
        server.call("OPTIONS", "/get_reward", &[auth, origin], b""),
        server.call("POST", "/get_reward", &[auth], json!({"query": ["a"]}).to_string().as_bytes()),
    ];
    assert_eq!(
        replies.iter().map(|r| r.status).collect::<Vec<_>>(),
        [200, 200, 401, 200, 404, 400, 405, 405, 200]
    );
    for reply in &replies {
        let policy = reply.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.header("x-request-id").is_some());
        assert!(!reply.headers.iter().any(|(n, _)| n.starts_with("access-control")));
        assert!(reply.header("server").is_none());
    }
    assert_eq!(replies[6].header("allow"), Some("POST"));
    server.stop();
}

#[test]
fn what_a_client_writes_stays_text() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let evil = "<script>alert(1)</script>\r\nSet-Cookie: a=b\u{1b}[31m";
    let reply =
        server.post("/v1/reward", &json!({"model": evil, "prompt": "a", "responses": ["b"]}));
    assert!(reply.refusal(404).contains(evil), "as JSON text");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("set-cookie").is_none());
    assert!(!reply.text().contains('\u{1b}') && !reply.text().contains('\n'));
    // A name for the request is taken over only where it can do no harm.
    let id = |id: &str| {
        get(&server, "/health", &[("x-request-id", id)]).header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("run-7.step_3"), "run-7.step_3");
    for bad in ["a b", "<b>", "a\"b", &"x".repeat(100)] {
        assert_ne!(id(bad), bad);
    }
    let said = server.stop();
    assert!(said.err.contains("run-7.step_3") && !said.err.contains('\u{1b}'), "{}", said.err);
    assert!(!said.err.contains("<script>"), "{}", said.err);
}

#[test]
fn texts_are_in_the_log_only_where_asked_for() {
    let lens = Lens::with_reward_model();
    let secret = "my-medical-history";
    let body = json!({"prompt": secret, "responses": [secret, "b"]});
    for (words, there) in [("rm", false), ("rm --json", false), ("rm --log-prompts", true)] {
        let server = Serving::start(&lens, words);
        server.post("/v1/reward", &body).ok();
        server.post("/get_reward", &json!({"query": secret})).ok();
        server.post("/get_reward", &json!({"query": [secret, 1]})).refusal(422);
        server
            .call("POST", "/get_reward", &[], format!("{{\"query\": {secret}").as_bytes())
            .refusal(400);
        get(&server, &format!("/{secret}?q={secret}"), &[]).refusal(404);
        let said = server.stop();
        assert_eq!(said.err.contains(secret), there, "{words}: {}", said.err);
        assert!(said.err.contains("/v1/reward") && said.err.contains("422"), "{}", said.err);
        if words.contains("--json") {
            let lines = said.err.lines().filter(|l| l.starts_with('{'));
            let lines: Vec<Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
            let line = lines.iter().find(|l| l["route"] == "/v1/reward").unwrap();
            assert_eq!(
                (&line["status"], &line["texts"], &line["method"]),
                (&json!(200), &json!(2), &json!("POST"))
            );
            assert!(line["ms"].is_number() && line["tokens"].as_u64().unwrap() > 4);
        }
    }
}

#[test]
fn limits_of_size_are_kept() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --max-body 20000 --max-texts 4 --max-tokens 1000");
    let long = server.post("/get_reward", &json!({"query": ["x".repeat(30_000)]}));
    assert_eq!(
        (long.refusal(413).contains("20000"), long.code()),
        (true, "body_too_large".to_owned())
    );
    // Without a length, and with a false one.
    let mut client = server.client();
    client.send("POST", "/get_reward", &[("transfer-encoding", "chunked")], b"").unwrap();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    for _ in 0..8 {
        // The server may have answered and closed already.
        let _ = client.raw(chunk.as_bytes());
    }
    assert_eq!(client.receive().unwrap().code(), "body_too_large");
    let mut client = server.client();
    client.send("POST", "/get_reward", &[("content-length", "99999999999")], b"{").unwrap();
    assert_eq!(client.receive().unwrap().code(), "body_too_large");
    let many = server.post("/get_reward", &json!({"query": vec!["a"; 5]}));
    assert_eq!(
        (many.refusal(413).contains("at most 4"), many.code()),
        (true, "too_many_texts".to_owned())
    );
    let tokens = server.post("/get_reward", &json!({"query": ["x".repeat(9000)]}));
    assert_eq!((tokens.status, tokens.code()), (413, "too_many_tokens".to_owned()));
    let zipped = [("content-encoding", "gzip")];
    server.call("POST", "/get_reward", &zipped, b"x").refusal(415);
    // Heads.
    let large = "x".repeat(100_000);
    assert_eq!(get(&server, "/health", &[("x-large", &large)]).status, 431);
    let many: Vec<(String, String)> = (0..200).map(|i| (format!("x-{i}"), "y".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(get(&server, "/health", &many).status, 431);
    let deep = format!("{{\"query\": {}", "[".repeat(5000));
    server.call("POST", "/get_reward", &[], deep.as_bytes()).refusal(422);
    server.post("/get_reward", &json!({"query": ["fine"]})).ok();
    server.stop();
}

#[test]
fn limits_of_time_are_kept() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --read-timeout 1");
    // A head that never ends: the connection is closed.
    let mut slow = server.client();
    slow.raw(b"POST /get_reward HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    // A body that never ends: 408.
    let mut body = server.client();
    body.send("POST", "/get_reward", &[("content-length", "100")], b"{\"query\"").unwrap();
    // A connection on which nothing is said.
    let mut silent = server.client();
    let late = body.receive().unwrap();
    assert_eq!(
        (late.refusal(408).contains("1 s"), late.header("connection")),
        (true, Some("close"))
    );
    for client in [&mut slow, &mut silent] {
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 200"));
    }
    server.post("/get_reward", &json!({"query": ["fine"]})).ok();
    server.stop();
}

#[test]
fn no_more_connections_than_allowed_are_served_at_a_time() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --max-connections 2");
    let mut all: Vec<_> = (0..2).map(|_| server.client()).collect();
    for client in &mut all {
        assert_eq!(client.call("GET", "/health", &[], b"").unwrap().status, 200);
    }
    let mut third = server.client();
    third.send("GET", "/health", &[], b"").unwrap();
    third.stream.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.receive().is_err(), "it waits");
    drop(all);
    third.stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(third.receive().unwrap().status, 200);
    drop(third);
    server.stop();
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    for head in [
        "POST /get_reward HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /get_reward HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST /get_reward HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: identity, chunke\r\n\r\n",
        "GET /health HTTP/1.1\r\nhost : localhost\r\n\r\n",
        "GET /health HTTP/1.1\r\nhost: a\r\nhost: localhost\r\n\r\n",
        "GET /he alth HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = server.client();
        client.raw(head.as_bytes()).unwrap();
        let answer = client.receive().map_or(400, |r| r.status);
        assert!((400..500).contains(&answer), "{answer} to {head:?}");
    }
    assert_eq!(server.get("/health").status, 200);
    server.stop();
}

#[test]
fn with_a_certificate_the_server_speaks_tls_and_nothing_else() {
    let lens = Lens::with_reward_model();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    lens.write("cert.pem", made.cert.pem());
    lens.write("key.pem", made.signing_key.serialize_pem());
    let words = format!("rm --token {TOKEN} --tls-cert cert.pem --tls-key key.pem");
    let server = Serving::start(&lens, &words);
    assert!(server.url.starts_with("https://"), "{}", server.url);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = std::net::TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = rustls::StreamOwned::new(session, stream);
    let body = json!({"query": ["a"]}).to_string();
    let request = format!(
        "POST /get_reward HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    tls.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("rewards"), "{answer}");

    // Who speaks plainly gets no HTTP.
    let mut plain = server.client();
    plain.send("GET", "/health", &[], b"").unwrap();
    let mut rest = Vec::new();
    let _ = plain.stream.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"));
    server.stop();

    lens.write("key.pem", "nonsense");
    let error = lens.fails(1, "serve rm --tls-cert cert.pem --tls-key key.pem");
    assert!(error.contains("key.pem"), "{error}");
}
