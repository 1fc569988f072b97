//! Tests of the engine, with an encoder that does what a test tells it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::memory::Budget;
use lens_core::{Exchange, Progress};
use lens_encoder::{EncodeStats, EncoderError, Input, SpecialTokens, TemplateChoice, ViewChoice};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Answers every text with its length; `panic`, `empty` and `fail` do what they say.
struct Fake {
    identity: EncoderIdentity,
    calls: Sender<Vec<String>>,
    /// Waited for before each call, where it is there.
    gate: Option<Mutex<Receiver<()>>>,
}

fn identity() -> EncoderIdentity {
    EncoderIdentity {
        model_file: String::new(),
        model_sha256: String::new(),
        architecture: String::new(),
        dim: 1,
        layers: 1,
        template: String::new(),
        template_sha256: String::new(),
        add_bos: false,
        add_eos: false,
        special_tokens: SpecialTokens::Text,
        views: Vec::new(),
        dtype: String::new(),
        max_length: 0,
    }
}

impl TextEncoder for Fake {
    fn identity(&self) -> &EncoderIdentity {
        &self.identity
    }
    fn template(&self) -> &TemplateChoice {
        &TemplateChoice::Plain
    }
    fn set_views(&mut self, _: &[ViewChoice]) -> lens_encoder::Result<()> {
        panic!("nobody sets views of an encoder at work")
    }
    fn stats(&self) -> EncodeStats {
        EncodeStats::default()
    }
    fn encode_exchanges(
        &self,
        _: &[Exchange],
        _: &dyn Progress,
    ) -> lens_encoder::Result<Vec<Encoded>> {
        panic!("inputs of all kinds come together")
    }
    fn encode_texts(&self, _: &[String], _: &dyn Progress) -> lens_encoder::Result<Vec<Encoded>> {
        panic!("inputs of all kinds come together")
    }
    fn encode_inputs(
        &self,
        inputs: &[Input],
        progress: &dyn Progress,
    ) -> lens_encoder::Result<Vec<Encoded>> {
        let text = |input: &Input| match input {
            Input::Rendered(text) => text.clone(),
            other => panic!("{other:?} was not asked for"),
        };
        let texts: Vec<String> = inputs.iter().map(text).collect();
        self.calls.send(texts.clone()).unwrap();
        if let Some(gate) = &self.gate {
            let gate = gate.lock().unwrap();
            while gate.recv_timeout(Duration::from_millis(5)).is_err() {
                if progress.cancelled() {
                    return Err(EncoderError::Cancelled);
                }
            }
        }
        assert!(!texts.iter().any(|t| t == "panic"), "secret text");
        if let Some(index) = texts.iter().position(|t| t == "empty") {
            return Err(EncoderError::EmptyText { index });
        }
        if texts.iter().any(|t| t == "fail") {
            return Err(EncoderError::Tokenizer { detail: "no more".to_owned() });
        }
        let encoded = |text: &String| Encoded {
            vector: vec![text.len() as f32].into(),
            tokens: 1,
            truncated: false,
            ids_hash: 0,
        };
        Ok(texts.iter().map(encoded).collect())
    }
}

/// An engine, the calls of its encoder, and what lets each go on.
fn engine(gated: bool) -> (Engine, Receiver<Vec<String>>, Sender<()>) {
    let (calls, called) = channel();
    let (go, gate) = channel();
    let gate = gated.then(|| Mutex::new(gate));
    let fake = Fake { identity: identity(), calls, gate };
    let metrics = Arc::new(Metrics::new());
    (Engine::start(Box::new(fake), &Limits::default(), metrics).unwrap(), called, go)
}

fn texts(all: &[&str]) -> Vec<Text> {
    all.iter().map(|t| Text::Rendered((*t).to_owned())).collect()
}

fn held() -> Arc<Held> {
    Budget::new(0).request()
}

fn lengths(answer: Answer) -> Vec<f32> {
    answer.unwrap().iter().map(|e| e.vector[0]).collect()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_panic_ends_a_call_and_not_the_thread() {
    let (engine, _called, _go) = engine(false);
    block_on(async {
        let failure = engine.encode(texts(&["panic"]), held()).await.unwrap_err();
        assert_eq!(failure.status.as_u16(), 500);
        assert!(!failure.message.contains("secret"), "{}", failure.message);
        assert!(engine.alive());
        assert_eq!(lengths(engine.encode(texts(&["a", "bcd"]), held()).await), [1.0, 3.0]);
    });
}

#[test]
fn one_clients_fault_is_not_the_others() {
    let (engine, called, go) = engine(true);
    block_on(async {
        let first = engine.encode(texts(&["first"]), held());
        let rest = async {
            called.recv().unwrap();
            // While the first is computed, three more come; they go together.
            let all = async {
                tokio::join!(
                    engine.encode(texts(&["ab", "c"]), held()),
                    engine.encode(texts(&["d", "empty", "e"]), held()),
                    engine.encode(texts(&["fgh"]), held()),
                )
            };
            let open = async {
                tokio::task::yield_now().await;
                (0..4).for_each(|_| go.send(()).unwrap());
            };
            tokio::join!(all, open).0
        };
        let (_, (good, bad, also_good)) = tokio::join!(first, rest);
        assert_eq!((lengths(good), lengths(also_good)), (vec![2.0, 1.0], vec![3.0]));
        let failure = bad.unwrap_err();
        assert_eq!(failure.status.as_u16(), 422);
        assert!(failure.message.starts_with("text 1: "), "{}", failure.message);
    });
    let calls: Vec<usize> = called.try_iter().map(|c| c.len()).collect();
    assert_eq!(calls, [6, 3], "all, then all without the one");
}

#[test]
fn a_fault_of_no_text_is_everybodys_and_the_next_call_goes_on() {
    let (engine, _called, _go) = engine(false);
    block_on(async {
        let failure = engine.encode(texts(&["a", "fail"]), held()).await.unwrap_err();
        assert_eq!((failure.status.as_u16(), failure.message.contains("no more")), (500, true));
        assert_eq!(lengths(engine.encode(texts(&["a"]), held()).await), [1.0]);
    });
}

#[test]
fn a_call_that_nobody_waits_for_is_stopped() {
    let (engine, called, go) = engine(true);
    block_on(async {
        let wait = Duration::from_millis(50);
        let impatient = tokio::time::timeout(wait, engine.encode(texts(&["a"]), held()));
        assert!(impatient.await.is_err());
        let next = engine.encode(texts(&["bc"]), held());
        // The gate opens for the second call only.
        let open = tokio::task::spawn_blocking(move || {
            let calls = [called.recv().unwrap(), called.recv().unwrap()];
            go.send(()).unwrap();
            calls
        });
        let (next, calls) = tokio::join!(next, open);
        assert_eq!(lengths(next), [2.0]);
        assert_eq!(calls.unwrap(), [["a"], ["bc"]]);
    });
}

#[test]
fn an_engine_that_is_let_go_answers_first() {
    let (engine, called, go) = engine(true);
    block_on(async {
        let shared = Arc::clone(&engine.shared);
        let job = tokio::spawn(async move { engine.encode(texts(&["abc"]), held()).await });
        tokio::task::spawn_blocking(move || called.recv().unwrap()).await.unwrap();
        go.send(()).unwrap();
        assert_eq!(lengths(job.await.unwrap()), [3.0]);
        // The job held the engine; now its thread ends.
        while shared.alive.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
