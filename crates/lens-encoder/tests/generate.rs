//! Generation and likelihoods against transformers, on tiny random models.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use lens_core::{Content, Exchange, Quiet};
use lens_encoder::{
    EncoderError, EncoderOptions, Finish, GenerateOptions, Generator, Precision, Sampling,
};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

fn reference(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder(name).join("reference.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 0.0, ..Default::default() };
    GenerateOptions { max_new_tokens, sampling, ..Default::default() }
}

/// Models with a tokenizer, which generation needs.
const MODELS: [&str; 4] = ["llama2", "llama3", "qwen2", "gemma3"];

#[test]
fn greedy_text_and_likelihoods_agree_with_transformers() {
    for name in MODELS {
        let reference = reference(name);
        for form in [folder(name), folder(name).join("model.gguf")] {
            for weights in [Precision::F32, Precision::Stored] {
                let options = EncoderOptions { weights, ..Default::default() };
                let generator = Generator::open(&form, &options).unwrap();
                let sequences = reference["sequences"].as_array().unwrap();
                let lists: Vec<Vec<u32>> = sequences.iter().map(|s| ids(&s["input_ids"])).collect();
                let got = generator.generate_from_ids(&lists, &greedy(12), &Quiet).unwrap();
                for (got, sequence) in got.iter().zip(sequences) {
                    // Ours ends with an end token, where transformers was made to go on.
                    let want = ids(&sequence["greedy"]);
                    let [one] = got.as_slice() else { panic!("{name}: {got:?}") };
                    assert_eq!(one.ids, want[..one.ids.len()], "{name} {}", form.display());
                    assert!(one.ids.len() == 12 || one.finish == Finish::Stop, "{name}");
                }
                let longer = lists.iter().zip(sequences).filter(|(l, _)| l.len() > 1);
                let (lists, sequences): (Vec<_>, Vec<_>) =
                    longer.map(|(l, s)| ((l.clone(), 1), s)).unzip();
                let got = generator.log_likelihoods_of_ids(&lists, &Quiet).unwrap();
                for (got, sequence) in got.iter().zip(sequences) {
                    let want = sequence["log_likelihood"].as_f64().unwrap();
                    let off = (got.sum - want).abs() / want.abs();
                    assert!(off < 1e-5, "{name} {}: {} {want}", form.display(), got.sum);
                }
            }
        }
    }
}

#[test]
fn a_sample_depends_on_its_seed_and_number_alone() {
    let generator = Generator::open(&folder("llama3"), &EncoderOptions::default()).unwrap();
    let prompts = ["Hello, world!", "What is the capital of Spain?"];
    let prompts = prompts.map(|p| Content::Text(p.into()));
    let options = GenerateOptions { samples: 4, max_new_tokens: 20, seed: 3, ..Default::default() };
    let run = |options: &GenerateOptions| generator.generate(&prompts, options, &Quiet).unwrap();
    let first = run(&options);
    assert_eq!(first, run(&options));
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
    assert_ne!(first, run(&GenerateOptions { seed: 4, ..options.clone() }));
    let mut texts: Vec<_> = first[0].iter().map(|g| &g.ids).collect();
    texts.sort();
    texts.dedup();
    assert!(texts.len() > 1, "samples are alike: {first:?}");
    // What was drawn is as likely as likelihoods say.
    for (prompt, samples) in prompts.iter().zip(&first) {
        for sample in samples.iter().filter(|s| s.finish == Finish::Length) {
            let Content::Text(text) = prompt else { panic!() };
            let mut list = generator.prompt_ids(&Content::Text(text.clone())).unwrap();
            let at = list.len();
            list.extend(&sample.ids);
            let got = generator.log_likelihoods_of_ids(&[(list, at)], &Quiet).unwrap()[0];
            let off = (got.sum - sample.log_likelihood).abs() / got.sum.abs();
            assert!(off < 1e-5, "{} {}", got.sum, sample.log_likelihood);
        }
    }
}

#[test]
fn a_stop_string_ends_a_sample_and_is_cut_off() {
    let generator = Generator::open(&folder("llama3"), &EncoderOptions::default()).unwrap();
    let prompt = [Content::Text("Hello".into())];
    let options = GenerateOptions { max_new_tokens: 30, seed: 1, ..Default::default() };
    let free = generator.generate(&prompt, &options, &Quiet).unwrap().remove(0).remove(0);
    let stop: String = free.text.chars().skip(6).take(3).collect();
    assert_eq!(stop.chars().count(), 3, "{free:?}");
    let options = GenerateOptions { stop: vec![stop.clone()], ..options };
    let cut = generator.generate(&prompt, &options, &Quiet).unwrap().remove(0).remove(0);
    assert_eq!(cut.finish, Finish::Stop);
    assert_eq!(cut.text, free.text[..free.text.find(&stop).unwrap()]);
    assert!(cut.ids.len() < free.ids.len());
}

#[test]
fn likelier_responses_have_higher_likelihoods() {
    let generator = Generator::open(&folder("qwen2"), &EncoderOptions::default()).unwrap();
    let prompt = Content::Text("\n\nHuman: What is the capital of Spain?\n\nAssistant:".into());
    let one = generator.generate(std::slice::from_ref(&prompt), &greedy(8), &Quiet).unwrap();
    let exchange = |response: &str| Exchange {
        prompt: prompt.clone(),
        response: Content::Text(response.into()),
    };
    let all = [exchange(&one[0][0].text), exchange(" xq zz 77 jj")];
    let got = generator.log_likelihoods(&all, &Quiet).unwrap();
    assert!(got.iter().all(|l| l.sum < 0.0 && l.tokens > 0), "{got:?}");
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let Err(error) = Generator::open(&folder("bert"), &EncoderOptions::default()) else { panic!() };
    assert!(matches!(error, EncoderError::NotGenerative { .. }), "{error}");
    let generator = Generator::open(&folder("llama3"), &EncoderOptions::default()).unwrap();
    let one = |options: GenerateOptions| {
        let error = generator.generate_from_ids(&[vec![1]], &options, &Quiet).unwrap_err();
        assert!(matches!(error, EncoderError::InvalidOption { .. }), "{error}");
    };
    one(GenerateOptions { samples: 0, ..Default::default() });
    one(GenerateOptions { max_new_tokens: 0, ..Default::default() });
    one(GenerateOptions { max_new_tokens: 1 << 20, ..Default::default() });
    one(GenerateOptions { stop: vec![String::new()], ..Default::default() });
    let error = generator.generate_from_ids(&[vec![]], &greedy(1), &Quiet).unwrap_err();
    assert!(matches!(error, EncoderError::EmptyText { index: 0 }), "{error}");
    let error = generator.generate_from_ids(&[vec![1 << 20]], &greedy(1), &Quiet).unwrap_err();
    assert!(matches!(error, EncoderError::Tokenizer { .. }), "{error}");
}
