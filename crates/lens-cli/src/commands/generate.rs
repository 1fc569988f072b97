//! `lens generate`: responses of a language model to prompts, as rows that `lens score` reads.

use crate::args::GenerateArgs;
use crate::commands::embed::check_output;
use crate::embedding::open_generator;
use crate::error::CliError;
use crate::output;
use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::{Content, Progress};
use lens_data::{read_prompts_with, write_atomic_with};
use lens_encoder::{Finish, Generated};
use serde::Serialize;
use serde_json::json;
use std::time::Instant;

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    prompt: &'a Content,
    responses: Vec<&'a str>,
    log_likelihoods: Vec<f64>,
    finish: Vec<Finish>,
}

/// Runs the command.
pub fn run(args: &GenerateArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    let start = Instant::now();
    check_output(&args.file, &args.output)?;
    let set = read_prompts_with(&args.file, &settings.reading(), reporter)?;
    for row in &set.malformed {
        reporter.note(&format!("left out: {row}"));
    }
    let generator = open_generator(settings, reporter)?;
    let prompts: Vec<Content> = set.rows.into_iter().map(|r| r.value).collect();
    let all = generator.generate(&prompts, &settings.generate, reporter)?;
    reporter.go_on()?;
    write_atomic_with(&args.output, |file| {
        for (prompt, samples) in prompts.iter().zip(&all) {
            serde_json::to_writer(&mut *file, &line(prompt, samples))?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })?;

    let samples = || all.iter().flatten();
    let tokens: usize = samples().map(|s| s.ids.len()).sum();
    let cut = samples().filter(|s| s.finish == Finish::Length).count();
    let (count, seconds) = (samples().count(), start.elapsed().as_secs_f64());
    if settings.json {
        return output::json(&json!({
            "read": set.read, "prompts": prompts.len(), "malformed": set.malformed.len(),
            "responses": count, "tokens": tokens, "cut_off": cut, "output": args.output,
            "seconds": seconds,
        }));
    }
    output::line(&output::aligned(&[
        ("rows".into(), format!("{} read, {} malformed", set.read, set.malformed.len())),
        (
            "responses".into(),
            format!(
                "{count}, of which {cut} reached the most tokens ({})",
                settings.generate.max_new_tokens
            ),
        ),
        ("tokens".into(), format!("{} in {seconds:.1} s", output::thousands(tokens as u64))),
        ("file".into(), args.output.display().to_string()),
    ]))
}

fn line<'a>(prompt: &'a Content, samples: &'a [Generated]) -> Line<'a> {
    Line {
        prompt,
        responses: samples.iter().map(|s| s.text.as_str()).collect(),
        log_likelihoods: samples.iter().map(|s| s.log_likelihood).collect(),
        finish: samples.iter().map(|s| s.finish).collect(),
    }
}
