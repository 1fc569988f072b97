//! From preference pairs to the rewards of new responses, in one process.
//!
//! ```sh
//! cargo run --release --example pairs_to_scores -- datasets/starter/train.jsonl
//! ```

use lens::core::{Content, Exchange};
use lens::{BundleModelOptions, Quiet, RunOptions, Scorer, run};
use std::path::Path;

fn main() -> Result<(), lens::Error> {
    // Templates are programs of whoever made the model: they run in processes of their own.
    lens::sandbox::install();
    let pairs = std::env::args().nth(1);
    let pairs = pairs.unwrap_or_else(|| "datasets/starter/train.jsonl".to_owned());
    let folder = "target/example-reward-model";
    let output = Some(folder.into());
    run(&RunOptions { output, overwrite: true, ..RunOptions::new(pairs) }, &Quiet)?;

    let scorer = Scorer::open(Path::new(folder), &BundleModelOptions::default(), &Quiet)?;
    let prompt = Content::Text("How long should I boil an egg?".to_owned());
    let responses = ["Seven minutes for a yolk that is just set.", "No idea."];
    let exchange = |text: &&str| Exchange {
        prompt: prompt.clone(),
        response: Content::Text((*text).to_owned()),
    };
    let exchanges: Vec<Exchange> = responses.iter().map(exchange).collect();
    for (text, reward) in responses.iter().zip(scorer.score(&exchanges, &Quiet)?) {
        println!("{reward:8.4}  {text}");
    }
    Ok(())
}
