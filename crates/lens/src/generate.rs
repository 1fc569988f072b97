//! Responses of a language model to prompts, as rows that [`crate::score()`] reads.

use crate::data_source;
use crate::error::stop_if_cancelled;
use crate::models::open_generator;
use crate::notes;
use crate::options::ModelOptions;
use crate::outputs::check_output;
use crate::{Error, Progress};
use lens_core::Content;
use lens_data::{DataSource, ReadOptions, read_prompts_with, write_atomic_with};
use lens_encoder::{Finish, GenerateOptions as SamplingOptions, Generated};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// What [`generate()`] is told.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Rows with a prompt.
    pub file: DataSource,
    /// The file to write: JSON lines with prompt, responses, log_likelihoods and finish.
    pub output: PathBuf,
    /// The language model.
    pub model: ModelOptions,
    /// How many responses, how long, and how tokens are drawn.
    pub sampling: SamplingOptions,
    /// How rows are read. Defaults to counting and listing malformed ones.
    pub reading: ReadOptions,
}

impl GenerateOptions {
    /// The defaults, for a file of prompts and a file to write.
    pub fn new(file: impl Into<DataSource>, output: impl Into<PathBuf>) -> Self {
        GenerateOptions {
            file: file.into(),
            output: output.into(),
            model: ModelOptions::default(),
            sampling: SamplingOptions::default(),
            reading: ReadOptions::default(),
        }
    }

    /// Checks the options before any work.
    ///
    /// # Errors
    /// [`Error::is_wrong_option`].
    pub fn check(&self) -> Result<(), Error> {
        self.model.check()?;
        Ok(self.sampling.check()?)
    }
}

/// What [`generate()`] did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerateResult {
    /// Rows read.
    pub read: usize,
    /// Prompts answered.
    pub prompts: usize,
    /// Rows without a usable prompt.
    pub malformed: usize,
    /// Responses of all prompts.
    pub responses: usize,
    /// Tokens generated.
    pub tokens: usize,
    /// Responses that ended at the limit of new tokens.
    pub cut_off: usize,
    /// The file written.
    pub output: PathBuf,
    /// Wall-clock time in seconds.
    pub seconds: f64,
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    prompt: &'a Content,
    responses: Vec<&'a str>,
    log_likelihoods: Vec<f64>,
    finish: Vec<Finish>,
}

/// Has a language model answer every prompt of a file.
///
/// # Errors
/// What is wrong with the options, the file, the model or the output.
pub fn generate(
    options: &GenerateOptions,
    progress: &dyn Progress,
) -> Result<GenerateResult, Error> {
    let start = Instant::now();
    options.check()?;
    check_output(&options.file, &options.output)?;
    let input = data_source::resolve(&options.file, &options.model.runtime, progress)?;
    let set = read_prompts_with(&input, &options.reading, progress)?;
    notes::each_malformed(&set.malformed, progress);
    let generator = open_generator(&options.model, progress)?;
    let prompts: Vec<Content> = set.rows.into_iter().map(|r| r.value).collect();
    let all = generator.generate(&prompts, &options.sampling, progress)?;
    stop_if_cancelled(progress)?;
    write_atomic_with(&options.output, |file| {
        for (prompt, samples) in prompts.iter().zip(&all) {
            serde_json::to_writer(&mut *file, &line(prompt, samples))?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })?;
    let samples = || all.iter().flatten();
    Ok(GenerateResult {
        read: set.read,
        prompts: prompts.len(),
        malformed: set.malformed.len(),
        responses: samples().count(),
        tokens: samples().map(|s| s.ids.len()).sum(),
        cut_off: samples().filter(|s| s.finish == Finish::Length).count(),
        output: options.output.clone(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn line<'a>(prompt: &'a Content, samples: &'a [Generated]) -> Line<'a> {
    Line {
        prompt,
        responses: samples.iter().map(|s| s.text.as_str()).collect(),
        log_likelihoods: samples.iter().map(|s| s.log_likelihood).collect(),
        finish: samples.iter().map(|s| s.finish).collect(),
    }
}
