//! Stories of many clients at a time: who waits for whom, who is sent away, and that nobody is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::{Client, Reply, Serving};
use crate::common::{Lens, PATIENCE, Signal, pairs};
use crate::stand_in::Server;
use crate::stand_in::embeddings::{is_work, texts, well};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Lets the encoder go on, or makes it wait.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set(&self, closed: bool) {
        *self.0.0.lock().unwrap() = closed;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(closed, PATIENCE, |closed| *closed).unwrap());
    }
}

/// A reward model whose encoder is a server behind a gate.
struct Gated {
    lens: Lens,
    gate: Gate,
    encoder: Server,
}

impl Gated {
    fn new() -> Gated {
        let gate = Gate::default();
        let its = gate.clone();
        let encoder = Server::start(move |r| {
            if is_work(r) && texts(r).iter().any(|t| t.starts_with("gated")) {
                its.pass();
            }
            well(r, "vllm")
        });
        let lens = Lens::new();
        lens.rows("pairs.jsonl", &pairs(0..60));
        lens.ok(&format!("run pairs.jsonl --server {} -o rm --quiet", encoder.url));
        Gated { lens, gate, encoder }
    }

    /// The reward model served, with further options.
    fn serve(&self, options: &str) -> Serving {
        Serving::start(&self.lens, &format!("rm --server {} {options}", self.encoder.url))
    }

    /// The texts of every request for vectors since the gate was there.
    fn computed(&self) -> Vec<Vec<String>> {
        let seen = self.encoder.seen();
        let all = seen.iter().filter(|r| is_work(r)).map(texts);
        all.filter(|t| t.iter().any(|t| t.starts_with("gated"))).collect()
    }

    /// Has a first text computed, at which the encoder waits.
    fn busy(&self, server: &Serving) -> Client {
        self.gate.set(true);
        let first = asked(server, "gated first");
        server.until("the first text is computed", || !self.computed().is_empty());
        first
    }
}

/// A client that has asked for the reward of a text.
fn asked(server: &Serving, text: &str) -> Client {
    let mut client = server.client();
    let body = json!({"query": [text]}).to_string();
    client.send("POST", "/get_reward", &[], body.as_bytes()).unwrap();
    client
}

fn reward(reply: &Reply) -> f64 {
    reply.ok()["rewards"][0].as_f64().unwrap()
}

fn waiting(server: &Serving, texts: f64) {
    server.until("so many texts wait", || server.metric("lens_queue_texts") == texts);
}

#[test]
fn a_full_queue_sends_clients_away_and_says_when_to_come_again() {
    let gated = Gated::new();
    let server = gated.serve("--queue 2");
    let mut all = vec![gated.busy(&server)];
    all.extend([asked(&server, "gated a"), asked(&server, "gated b")]);
    waiting(&server, 2.0);
    let refused = server.post("/get_reward", &json!({"query": ["gated c"]}));
    assert!(refused.refusal(429).contains("2 texts are waiting"));
    assert_eq!(refused.code(), "queue_full");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=120).contains(&seconds));
    // Embeddings do not wait.
    server.post("/v1/reward", &json!({"embeddings": [0, 1, 2, 3, 4, 5, 6, 7]})).ok();
    gated.gate.set(false);
    for client in &mut all {
        reward(&client.receive().unwrap());
    }
    server.post("/get_reward", &json!({"query": ["gated c"]})).ok();
    assert_eq!(server.metric("lens_refused_total{reason=\"queue_full\"}"), 1.0);
    server.stop();
}

#[test]
fn what_waits_is_computed_together_and_what_nobody_waits_for_is_not() {
    let gated = Gated::new();
    let server = gated.serve("");
    let mut first = gated.busy(&server);
    let mut stay: Vec<Client> =
        (0..5).map(|i| asked(&server, &format!("gated and stays {i}"))).collect();
    let leaves = asked(&server, "gated but leaves");
    waiting(&server, 6.0);
    drop(leaves);
    server.until("the server has noticed", || {
        server.metric("lens_refused_total{reason=\"client_left\"}") == 1.0
    });
    gated.gate.set(false);
    reward(&first.receive().unwrap());
    for client in &mut stay {
        reward(&client.receive().unwrap());
    }
    let computed = gated.computed();
    assert_eq!(computed.len(), 2, "one call for all that waited: {computed:?}");
    assert_eq!(computed[1].len(), 5);
    assert!(!computed[1].iter().any(|t| t.contains("leaves")));
    assert_eq!(server.metric("lens_vanished_total"), 1.0);
    server.stop();
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let gated = Gated::new();
    let server = gated.serve("--timeout 1");
    gated.gate.set(true);
    let late = server.post("/get_reward", &json!({"query": ["gated"]}));
    assert!(late.refusal(504).contains("within 1 s"));
    gated.gate.set(false);
    server.until("the next is answered", || {
        server.post("/get_reward", &json!({"query": ["another"]})).status == 200
    });
    server.stop();
}

#[test]
fn after_sigterm_everything_under_way_is_answered_and_nothing_new_is_taken() {
    let gated = Gated::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = gated.serve("");
        let mut under_way = vec![asked(&server, "gated first")];
        gated.gate.set(true);
        under_way.push(asked(&server, "gated a"));
        under_way.push(asked(&server, "gated b"));
        // On a connection that was there before the signal: heard, and told to go.
        let mut kept = server.client();
        assert_eq!(kept.call("GET", "/ready", &[], b"").unwrap().status, 200);
        server.until("all three are asked", || server.metric("lens_connections") >= 4.0);
        server.signal(signal);
        server.until_said("stopping");
        let last = kept.call("GET", "/ready", &[], b"").unwrap();
        assert!(last.refusal(503).contains("stopping"));
        assert_eq!(last.header("connection"), Some("close"));
        server
            .until("the door is closed", || std::net::TcpStream::connect(server.address).is_err());
        gated.gate.set(false);
        for mut client in under_way {
            reward(&client.receive().unwrap());
        }
        let said = server.end();
        assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    }
}

#[test]
fn what_cannot_be_answered_in_time_is_told_so() {
    let gated = Gated::new();
    let server = gated.serve("--drain-timeout 1");
    let mut first = gated.busy(&server);
    let mut second = asked(&server, "gated second");
    waiting(&server, 1.0);
    server.signal(Signal::TERM);
    for client in [&mut first, &mut second] {
        let reply = client.receive().unwrap();
        assert_eq!((reply.status, reply.code()), (503, "stopping".to_owned()));
    }
    let said = server.end();
    assert_eq!(said.code, 1);
    assert!(said.err.contains("2 requests were not answered within the 1 s"), "{}", said.err);
}

#[test]
fn a_second_signal_ends_at_once() {
    let gated = Gated::new();
    let mut server = gated.serve("");
    let _first = gated.busy(&server);
    server.signal(Signal::TERM);
    server.until_said("stopping");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 130);
}

#[test]
fn a_model_is_swapped_under_load_and_no_request_is_lost() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let text = "It is number 21, so yes!";
    let ask = |client: &mut Client| {
        let reply = client.post("/get_reward", &json!({"query": [text]})).unwrap();
        reward(&reply)
    };
    let old = ask(&mut server.client());
    let (stop, address) = (AtomicBool::new(false), server.address);
    let seen = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::to(address);
                    let mut seen = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        seen.push(ask(&mut client));
                    }
                    seen
                })
            })
            .collect();
        lens.ok(
            "run pairs.jsonl --model tiny.gguf --views fixed --seed 9 -o rm --overwrite --quiet",
        );
        let answer = server.post("/v1/models/reload", &json!({"model": "rm"})).ok();
        assert_eq!(answer["reloaded"], json!(["rm"]));
        let new = ask(&mut server.client());
        thread::sleep(std::time::Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<f64> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
        let is = |a: f64, b: f64| (a - b).abs() < 1e-4;
        assert!(!is(old, new), "the new model is another one");
        assert!(seen.iter().all(|r| is(*r, old) || is(*r, new)), "one of the two, nothing else");
        for of in [old, new] {
            assert!(seen.iter().any(|r| is(*r, of)), "{of} of {} was never seen", seen.len());
        }
        seen
    });
    assert!(seen.len() > 10);

    // What cannot be used changes nothing.
    let good = std::fs::read(lens.path("rm/lens.json")).unwrap();
    let now = ask(&mut server.client());
    lens.write("rm/lens.json", &good[..good.len() / 2]);
    let refused = server.post("/v1/models/reload", &json!({}));
    assert!(refused.refusal(409).contains("the old one goes on"));
    assert_eq!(refused.code(), "not_reloaded");
    assert_eq!(ask(&mut server.client()), now);
    server.post("/v1/models/reload", &json!({"model": "absent"})).refusal(404);
    lens.write("rm/lens.json", &good);

    // By signal, as daemons do.
    lens.ok("run pairs.jsonl --model tiny.gguf --views fixed -o rm --overwrite --quiet");
    server.signal(Signal::HUP);
    server.until("the first model is back", || (ask(&mut server.client()) - old).abs() < 1e-4);
    server.stop();
}

#[test]
fn a_reward_does_not_depend_on_the_company() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm --batch-tokens 300");
    let text = |i: usize| format!("Text {} of some: {}", i % 37, "and more ".repeat(i % 37 % 5));
    let alone: Vec<f64> = (0..37)
        .map(|i| reward(&server.post("/get_reward", &json!({"query": [text(i)]}))))
        .collect();
    thread::scope(|scope| {
        for client in 0..16 {
            let (address, alone) = (server.address, &alone);
            scope.spawn(move || {
                let mut connection = Client::to(address);
                for i in client * 5..client * 5 + 5 {
                    let query: Vec<String> = (i..i + 3).map(text).collect();
                    let reply = connection.post("/get_reward", &json!({"query": query})).unwrap();
                    let rewards: Value = reply.ok()["rewards"].clone();
                    for (j, got) in rewards.as_array().unwrap().iter().enumerate() {
                        let (got, want) = (got.as_f64().unwrap(), alone[(i + j) % 37]);
                        assert!((got - want).abs() < 1e-4, "text {}: {got} {want}", i + j);
                    }
                }
            });
        }
    });
    assert!(server.metric("lens_batch_requests_count") < 37.0 + 80.0, "some were together");
    server.stop();
}

#[test]
fn a_thousand_clients_at_a_time_all_get_their_answer() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let mut clients: Vec<Client> =
        (0..1000).map(|i| asked(&server, &format!("Number {} of many", i % 50))).collect();
    let first = reward(&clients[0].receive().unwrap());
    for (i, client) in clients.iter_mut().enumerate().skip(1) {
        let got = reward(&client.receive().unwrap());
        assert!(i % 50 != 0 || (got - first).abs() < 1e-4);
    }
    server.stop();
}

#[test]
fn a_reward_is_the_same_alone_and_beside_others_to_rounding() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let responses: Vec<String> =
        (0..40).map(|i| format!("It is number {}, so {}!", i * 7, "yes ".repeat(i))).collect();
    let prompt = "Question: what of it? ".repeat(6);
    let normalised = |responses: &[String]| -> Vec<f64> {
        let body = json!({"prompt": prompt, "responses": responses});
        let answer = server.post("/v1/reward", &body).ok();
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|r| r["normalised"].as_f64().unwrap()).collect()
    };
    let alone: Vec<f64> =
        responses.iter().flat_map(|one| normalised(std::slice::from_ref(one))).collect();
    for company in [2, 7, 40] {
        for (index, together) in responses.chunks(company).map(normalised).enumerate() {
            for (one, beside) in alone[index * company..].iter().zip(together) {
                // What docs/serving.md promises.
                assert!((one - beside).abs() <= 1e-4, "{one} {beside} of {company}");
            }
        }
    }
    server.stop();
}
