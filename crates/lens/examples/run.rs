//! What `lens run PAIRS --eval HELD-OUT` does, without the binary.
//!
//! ```sh
//! cargo run --release --example run -- datasets/starter/train.jsonl datasets/starter/heldout.jsonl
//! ```

use lens::{Quiet, RunOptions, run};

fn main() -> Result<(), lens::Error> {
    // Templates are programs of whoever made the model: they run in processes of their own.
    lens::sandbox::install();
    let mut files = std::env::args().skip(1);
    let pairs = files.next().unwrap_or_else(|| "datasets/starter/train.jsonl".to_owned());
    let options = RunOptions {
        eval: files.next().map(Into::into),
        output: Some("reward-model".into()),
        overwrite: true,
        ..RunOptions::new(pairs)
    };
    // `Quiet` shows no progress; a type of your own that implements `Progress` can.
    let result = run(&options, &Quiet)?;
    for (label, value) in &result.table {
        println!("{label}: {value}");
    }
    println!("saved head: {}", result.decision);
    for stage in &result.stages {
        println!("{}: {:.1} s", stage.name, stage.seconds);
    }
    Ok(())
}
