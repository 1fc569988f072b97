//! What `lens run PAIRS` does, without the binary.
//!
//! ```sh
//! cargo run --release --example run -- datasets/starter/train.jsonl datasets/starter/heldout.jsonl
//! ```

use lens::{Progress, RunOptions, run};

/// Says on standard error what the job says.
struct Notes;

impl Progress for Notes {
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        eprintln!("{stage}: {total} {unit}");
    }
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        eprintln!("{line}");
    }
    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> Result<(), lens::Error> {
    let mut files = std::env::args().skip(1);
    let pairs = files.next().unwrap_or_else(|| "datasets/starter/train.jsonl".to_owned());
    let eval = files.next().map(Into::into);
    let output = Some("reward-model".into());
    let options = RunOptions { eval, output, overwrite: true, ..RunOptions::new(pairs) };
    let result = run(&options, &Notes)?;
    for (label, value) in &result.table {
        println!("{label}: {value}");
    }
    println!("saved head: {}", result.decision);
    Ok(())
}
