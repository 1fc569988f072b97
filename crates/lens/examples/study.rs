//! A study: is synthesis better than none on these embedded pairs, and is that more than chance?
//!
//! ```sh
//! lens embed datasets/starter/train.jsonl -o pairs.safetensors
//! cargo run --release --example study -- pairs.safetensors
//! ```

use lens::eval::study::StudyFile;
use lens::{Quiet, StudyOptions, study};

const STUDY: &str = r#"
name = "synthesis-or-none"
question = "Does latent synthesis help on these pairs?"
splits = 5
seeds = ["50%"]
factors = [4]
rivals = ["none", "lens"]
"#;

fn main() -> Result<(), lens::Error> {
    let pairs = std::env::args().nth(1).unwrap_or_else(|| "pairs.safetensors".to_owned());
    let file = StudyFile::parse(STUDY, "synthesis-or-none.toml")?;
    let options = StudyOptions { overwrite: true, ..StudyOptions::new(file, Some(pairs.into()))? };
    let result = study(&options, &Quiet)?;
    for finding in &result.summary.findings {
        println!("{finding}");
    }
    println!("all of it: {}", result.folder.display());
    Ok(())
}
