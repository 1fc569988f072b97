//! A real server: llama.cpp's, from its Python package, on the model that we compute ourselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lens_core::Quiet;
use lens_encoder::{
    Encoder, EncoderError, EncoderOptions, RemoteEncoder, RemoteOptions, ServerError,
    TemplateChoice, TextEncoder,
};
use test_needs::needs;

/// A server that ends with its test.
struct LlamaCpp {
    child: Child,
    url: String,
}

impl LlamaCpp {
    fn start(model: &Path, normalise: &str) -> LlamaCpp {
        let python = common::python_with("xllamacpp");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/embedding_server.py");
        let mut child = Command::new(&python)
            .args([script.as_ref(), model.as_os_str(), normalise.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://"), "the server does not start: {url}");
        LlamaCpp { child, url: url.trim().to_owned() }
    }
}

impl Drop for LlamaCpp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[needs(LENS_MODEL_TESTS)]
#[test]
fn llama_cpp_gives_the_vectors_that_we_compute() {
    let model = common::model();
    let texts: Vec<String> = [
        "The capital of France is Paris.",
        "Question: how do I boil an egg?\n\nAnswer: in water, for eight minutes.",
        "def add(a, b):\n    return a + b\n",
        "Grüße aus Köln, 東京 and Санкт-Петербург!",
        "no",
    ]
    .map(String::from)
    .into();
    let plain = EncoderOptions { template: TemplateChoice::Plain, ..EncoderOptions::default() };
    let ours = Encoder::open(&model, &plain).unwrap().encode_texts(&texts, &Quiet).unwrap();
    // Started either way, it gives unnormalised vectors where we ask for them.
    for normalise in ["-1", "2"] {
        let server = LlamaCpp::start(&model, normalise);
        let options = RemoteOptions { batch: 2, ..RemoteOptions::new(&server.url) };
        let encoder = RemoteEncoder::open(&options, &Quiet).unwrap();
        assert_eq!(encoder.identity().dim, 640);
        assert!(!encoder.record().normalised);
        let theirs = encoder.encode_texts(&texts, &Quiet).unwrap();
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        for ((a, b), text) in ours.iter().zip(&theirs).zip(&texts) {
            let (cosine, length) =
                (cosine(&a.vector, &b.vector), norm(&b.vector) / norm(&a.vector));
            println!("cosine {cosine:.6}, length {length:.4}: {text:?}");
            // llama.cpp rounds activations to 8 bits on quantised weights: it differs from itself
            // by as much (0.997) from one setting to another. On float weights it is 1.000000.
            assert!(cosine > 0.995, "{cosine} {text}");
            assert!((length - 1.0).abs() < 0.05, "{length} {text}");
        }
        let tokens: usize = ours.iter().map(|e| e.tokens).sum();
        assert_eq!(encoder.stats().tokens, tokens as u64);
        // Too long for it: named, not shortened.
        let long = ["fine".to_owned(), "word ".repeat(9000)];
        let error = encoder.encode_texts(&long, &Quiet).unwrap_err();
        let too_long = matches!(error, EncoderError::Server(ServerError::TooLong { index: 1, .. }));
        assert!(too_long, "{error}");
    }
}
