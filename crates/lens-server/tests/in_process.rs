//! Stories of programs that have a server, or several, in their own process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::http::Client;
use common::{Folders, PATIENCE, Server, bundle, expected, options, rows, told, within};
use lens_data::Bundle;
use lens_encoder::TextEncoder;
use lens_server::{BoxedError, Control, ModelSource, ServeError, serve, serve_blocking};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// A client whose request is under way: the server waits for the rest of its body.
fn under_way(server: &Server) -> Client {
    let mut client = server.client();
    let headers = [("content-length", "100"), ("expect", "100-continue")];
    client.send("POST", "/v1/reward", &headers, b"").unwrap();
    // The server answers so once it reads the body.
    let mut line = [0; 25];
    client.stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    client
}

/// The server must have closed a connection, which is not the same as to be silent on it.
#[track_caller]
fn assert_closed(client: &mut Client) {
    let error = client.receive().unwrap_err();
    assert!(![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()), "{error}");
}

#[test]
fn two_servers_answer_side_by_side_and_each_stops_by_its_future() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (first, second) = (bundle(1), bundle(2));
    first.write(&a, false).unwrap();
    second.write(&b, false).unwrap();
    assert_ne!(expected(&first, 3, 0.1), expected(&second, 3, 0.1));

    let runtime = Runtime::new().unwrap();
    let one = Server::start(&runtime, options("a", &a), Folders);
    let other = Server::start(&runtime, options("b", &b), Folders);
    assert_ne!(one.address, other.address);
    for _ in 0..3 {
        assert_eq!(one.rewards(3, 0.1), expected(&first, 3, 0.1));
        assert_eq!(other.rewards(3, 0.1), expected(&second, 3, 0.1));
    }
    let text = serde_json::json!({"prompt": "a", "responses": ["b"]});
    let refused = one.client().post("/v1/reward", &text).unwrap().refusal(422);
    assert!(refused.contains("takes embeddings, not text"), "{refused}");

    // Each counts what it answered itself, and the end of one is not the other's.
    let address = one.address;
    one.stop(&runtime).unwrap();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(other.rewards(2, -0.2), expected(&second, 2, -0.2));
    let counted = other.client().call("GET", "/metrics", &[], b"").unwrap().text();
    let line = "lens_requests_total{route=\"/v1/reward\",status=\"200\"} 4";
    assert!(counted.lines().any(|l| l == line), "{counted}");
    other.stop(&runtime).unwrap();
}

#[test]
fn what_is_under_way_is_answered_before_a_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    bundle(1).write(&folder.path().join("rm"), false).unwrap();
    let runtime = Runtime::new().unwrap();
    let server = Server::start(&runtime, options("rm", &folder.path().join("rm")), Folders);
    let mut waiting = under_way(&server);
    let address = server.address;
    let stopped = std::thread::spawn(move || {
        let done = server.stop(&runtime);
        (done, runtime)
    });
    while TcpStream::connect(address).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let body = format!("{{\"embeddings\": {:?}}}", rows(1, 0.0));
    waiting.raw(format!("{body:100}").as_bytes()).unwrap();
    let reply = waiting.receive().unwrap();
    assert_eq!(
        (reply.ok()["results"].as_array().unwrap().len(), reply.header("connection")),
        (1, Some("close"))
    );
    stopped.join().unwrap().0.unwrap();
}

#[test]
fn a_drain_can_be_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    bundle(1).write(&folder.path().join("rm"), false).unwrap();
    let runtime = Runtime::new().unwrap();
    let server = Server::start(&runtime, options("rm", &folder.path().join("rm")), Folders);
    let mut waiting = under_way(&server);
    let begin = Instant::now();
    let error = server.stop_at_once(&runtime).unwrap_err();
    assert!(matches!(error, ServeError::CutShort { left: 1 }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20), "not the 30 s that a body may take");
    assert_closed(&mut waiting);
}

#[test]
fn a_server_whose_future_is_dropped_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    bundle(1).write(&folder.path().join("rm"), false).unwrap();
    let runtime = Runtime::new().unwrap();
    let server = Server::start(&runtime, options("rm", &folder.path().join("rm")), Folders);
    let mut waiting = under_way(&server);
    server.served.abort();
    assert_closed(&mut waiting);
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address).is_ok() {
        assert!(Instant::now() < end, "still listening");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bundles_are_read_again_when_the_owner_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rm");
    let (old, new) = (bundle(1), bundle(2));
    old.write(&path, false).unwrap();
    let runtime = Runtime::new().unwrap();
    let server = Server::start(&runtime, options("rm", &path), Folders);
    new.write(&path, true).unwrap();
    assert_eq!(server.rewards(3, 0.1), expected(&old, 3, 0.1), "not before that");
    server.reload.notify_one();
    let end = Instant::now() + PATIENCE;
    while server.rewards(3, 0.1) != expected(&new, 3, 0.1) {
        assert!(Instant::now() < end, "the new one is never served");
    }
    server.stop(&runtime).unwrap();
}

/// A source that waits until the test lets it go on.
struct Slow(Mutex<Receiver<()>>);

impl ModelSource for Slow {
    fn bundle(&self, path: &Path) -> Result<Bundle, BoxedError> {
        self.0.lock().unwrap().recv()?;
        Folders.bundle(path)
    }

    fn encoder(
        &self,
        _bundle: &Bundle,
        _path: &Path,
        _keep_vectors: bool,
    ) -> Result<Option<Box<dyn TextEncoder>>, BoxedError> {
        Ok(None)
    }
}

#[test]
fn a_server_can_be_stopped_while_its_models_load() {
    let runtime = Runtime::new().unwrap();
    let (go, gate) = channel();
    let (stop, stopped) = oneshot::channel();
    let control = Control::until(told(stopped)).on_listening(|url| panic!("{url}"));
    let source = Box::new(Slow(Mutex::new(gate)));
    let served = runtime.spawn(serve(options("rm", Path::new("absent")), source, control));
    stop.send(()).unwrap();
    let error = within(&runtime, served).unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Stopped), "{error}");
    drop(go);
}

#[test]
fn what_cannot_be_served_is_an_error_of_its_own_type() {
    let runtime = Runtime::new().unwrap();
    let start = |options| {
        let control = Control::until(std::future::pending());
        within(&runtime, serve(options, Box::new(Folders), control)).unwrap_err()
    };
    let error = start(options("rm", Path::new("absent")));
    assert!(matches!(&error, ServeError::Model(e) if e.to_string().contains("absent")), "{error}");
    let error = start(options("<rm>", Path::new("absent")));
    assert!(matches!(error, ServeError::Option { option: "--name", .. }), "{error}");
    let open = "0.0.0.0:0".parse().unwrap();
    let error = start(lens_server::Options { bind: open, ..options("rm", Path::new("absent")) });
    assert!(matches!(error, ServeError::Open { bind } if bind == open), "{error}");
}

#[test]
fn a_runtime_of_one_thread_serves_too_also_large_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rm");
    let bundle = bundle(1);
    bundle.write(&path, false).unwrap();
    let (say, listening) = channel();
    let (stop, stopped) = oneshot::channel();
    let serving = std::thread::spawn(move || {
        let control = Control::until(told(stopped))
            .on_listening(move |url| say.send(url.to_owned()).unwrap());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(options("rm", &path), Box::new(Folders), control))
    });
    let url = listening.recv_timeout(PATIENCE).unwrap();
    let mut client = Client::to(url.strip_prefix("http://").unwrap().parse().unwrap());
    // Half a megabyte, which a runtime of several threads parses beside other requests.
    let n = 10_000;
    let body = serde_json::json!({"embeddings": rows(n, 0.0).chunks(5).collect::<Vec<_>>()});
    assert!(body.to_string().len() > 500_000);
    let answer = client.post("/v1/reward", &body).unwrap().ok();
    let last = answer["results"][n - 1]["reward"].as_f64().unwrap() as f32;
    assert_eq!(last, *expected(&bundle, n, 0.0).last().unwrap());
    stop.send(()).unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_program_without_a_runtime_serves_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rm");
    let bundle = bundle(1);
    bundle.write(&path, false).unwrap();
    let (say, listening) = channel();
    let (stop, stopped) = oneshot::channel();
    let serving = std::thread::spawn(move || {
        serve_blocking(options("rm", &path), Box::new(Folders), || {
            // Within the runtime that serves.
            let stopped = tokio::spawn(told(stopped));
            let until = async { drop(stopped.await) };
            Ok(Control::until(until).on_listening(move |url| say.send(url.to_owned()).unwrap()))
        })
    });
    let url = listening.recv_timeout(PATIENCE).unwrap();
    let mut client = Client::to(url.strip_prefix("http://").unwrap().parse().unwrap());
    let answer = client.post("/v1/reward", &serde_json::json!({"embeddings": rows(1, 0.1)}));
    let reward = answer.unwrap().ok()["results"][0]["reward"].as_f64().unwrap() as f32;
    assert_eq!(reward, expected(&bundle, 1, 0.1)[0]);
    stop.send(()).unwrap();
    serving.join().unwrap().unwrap();
}
