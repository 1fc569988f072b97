//! From rows of text to embeddings: what `run`, `embed`, `eval` and `score` have in common.

use crate::error::CliError;
use crate::progress::Reporter;
use crate::server;
use crate::settings::Settings;
use lens_core::{EmbeddedPairs, Exchange, Matrix, PreferencePair, Progress};
use lens_data::bundle::Bundle;
use lens_data::vet::LeftOut;
use lens_data::{EncoderRecord, Reason, Vetted};
use lens_encoder::{
    Difference, Encoded, Encoder, EncoderOptions, Generator, TextEncoder, View, ViewChoice, models,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Time, and tokens where there are any, of one stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageTime {
    /// `embed`, `train vae`, ..
    pub name: &'static str,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Tokens of all texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Tokens that went through the model: not cached, not shared between texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computed: Option<u64>,
}

/// The model file of a name or path; a known model that is not here yet is fetched.
pub fn find_model(
    name: &str,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<PathBuf, CliError> {
    let folder = settings.cache_dir()?.join("models");
    Ok(models::find_or_pull(name, &folder, reporter)?)
}

/// Opens the encoder that the settings name, and says what it is.
pub fn open_encoder(
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Box<dyn TextEncoder>, CliError> {
    if let Some(url) = &settings.server {
        return server::open(url, settings, reporter);
    }
    let path = find_model(&settings.model, settings, reporter)?;
    let encoder = Encoder::open(&path, &settings.encoder()?)?;
    let id = encoder.identity();
    reporter.note(&format!(
        "encoder: {} ({}, {} layers, width {}), {}, {} template{}",
        id.model_file,
        id.architecture,
        id.layers,
        id.dim,
        shown_views(&id.views),
        id.template,
        if id.add_bos { ", BOS" } else { "" },
    ));
    Ok(Box::new(encoder))
}

/// Opens the language model that the settings name, with its output head, and says what it is.
pub fn open_generator(settings: &Settings, reporter: &Reporter) -> Result<Generator, CliError> {
    here_only(settings)?;
    let path = find_model(&settings.model, settings, reporter)?;
    let generator = Generator::open(&path, &settings.encoder()?)?;
    let spec = generator.spec();
    reporter.note(&format!(
        "model: {} ({}, {} layers, width {})",
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy(),
        spec.architecture,
        spec.layers.len(),
        spec.dim,
    ));
    Ok(generator)
}

/// Refuses a server where the model must run in this process.
pub fn here_only(settings: &Settings) -> Result<(), CliError> {
    if settings.server.is_none() {
        return Ok(());
    }
    let detail = "must not be set: this command runs a model here".to_owned();
    Err(CliError::Settings { origin: "server".to_owned(), detail })
}

/// `layer 18, last token`, or how many views there are.
fn shown_views(views: &[View]) -> String {
    match views {
        [one] => one.in_words(),
        many => format!("{} views", many.len()),
    }
}

/// What a bundle remembers of the encoder.
pub fn encoder_record(encoder: &dyn TextEncoder, model: &str) -> EncoderRecord {
    EncoderRecord {
        model: encoder.server().map_or_else(|| models::public_name(model), |s| s.model.clone()),
        template: encoder.template().clone(),
        identity: encoder.identity().clone(),
        server: encoder.server().cloned(),
    }
}

/// Refuses embeddings of another encoder than the bundle's. Arrays from elsewhere do not say what
/// made them, which is noted.
pub fn check_arrays(
    bundle: &Bundle,
    stored: Option<&EncoderRecord>,
    path: &Path,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let Some(trained) = &bundle.manifest.encoder else { return Ok(()) };
    let Some(stored) = stored else {
        reporter.note(&format!(
            "warning: {} does not say which encoder made it; nothing checks that it fits",
            path.display()
        ));
        return Ok(());
    };
    let differences = trained.identity.differences(&stored.identity);
    if differences.is_empty() {
        return Ok(());
    }
    Err(CliError::ArraysMismatch {
        path: path.to_owned(),
        differences: shown(&differences, "the reward model", "the file"),
    })
}

/// `layer is 6 in the bundle, 2 in tiny.gguf; ..`
fn shown(differences: &[Difference], ours: &str, theirs: &str) -> String {
    let one = |d: &Difference| {
        let Difference { field, ours: a, theirs: b } = d;
        format!("{field} is {a} in {ours}, {b} in {theirs}")
    };
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Opens the encoder that a bundle was trained with, and refuses any other.
pub fn encoder_of_bundle(
    bundle: &Bundle,
    path: &Path,
    model: Option<&str>,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Box<dyn TextEncoder>, CliError> {
    let Some(record) = &bundle.manifest.encoder else {
        return Err(CliError::Refused(format!(
            "{} was trained on arrays of unknown origin: it scores arrays, not text",
            path.display()
        )));
    };
    let theirs = &record.identity;
    let mismatch =
        |differences: String| CliError::EncoderMismatch { bundle: path.to_owned(), differences };
    let trained_at = record.server.as_ref();
    // What the user of a warm start named is used, so that it is refused where it differs.
    let asked = |names: &[&str]| names.iter().any(|&name| settings.given.contains(name));
    let ours = settings.encoder()?;
    let template =
        if asked(&["template"]) { ours.template.clone() } else { record.template.clone() };
    if trained_at.is_some() || settings.server.is_some() {
        let name = model.unwrap_or(&record.model);
        let encoder = server::reopen(trained_at, name, template, settings, reporter)?;
        let mut differences = theirs.differences(encoder.identity());
        if let (true, Some(then)) = (differences.is_empty(), trained_at) {
            differences = server::differences(then, encoder.server(), reporter);
        }
        if differences.is_empty() {
            return Ok(encoder);
        }
        return Err(mismatch(shown(&differences, "the bundle", "the server")));
    }
    let options = EncoderOptions {
        template,
        views: if asked(&["layer", "layers", "pooling", "view"]) {
            ours.views
        } else {
            theirs.views.iter().map(ViewChoice::from).collect()
        },
        max_length: if asked(&["max_length"]) { ours.max_length } else { theirs.max_length },
        add_bos: if asked(&["bos"]) { ours.add_bos } else { Some(theirs.add_bos) },
        special_tokens: if asked(&["special_tokens"]) {
            ours.special_tokens
        } else {
            theirs.special_tokens
        },
        ..ours
    };
    let file = find_model(model.unwrap_or(&record.model), settings, reporter)?;
    let encoder = Encoder::open(&file, &options).map_err(|e| match e {
        // A model with fewer layers, or without a chat template, is another model.
        lens_encoder::EncoderError::LayerOutOfRange { .. }
        | lens_encoder::EncoderError::NoChatTemplate { .. } => mismatch(e.to_string()),
        e => CliError::Encoder(e),
    })?;
    let differences = theirs.differences(encoder.identity());
    if differences.is_empty() {
        return Ok(Box::new(encoder));
    }
    Err(mismatch(shown(&differences, "the bundle", &file.display().to_string())))
}

/// Encodes both sides of every pair: all chosen, then all rejected.
pub fn encode_pairs(
    encoder: &dyn TextEncoder,
    pairs: &[&PreferencePair],
    progress: &dyn Progress,
) -> Result<Vec<Encoded>, CliError> {
    let chosen = pairs.iter().map(|p| p.chosen_exchange());
    let exchanges: Vec<Exchange> =
        chosen.chain(pairs.iter().map(|p| p.rejected_exchange())).collect();
    Ok(encoder.encode_exchanges(&exchanges, progress)?)
}

/// Why a pair is left out whose two sides are the same to the encoder, which they can become by
/// shortening; `None` where they differ.
pub fn equal_side(line: u64, chosen: &Encoded, rejected: &Encoded) -> Option<LeftOut> {
    let detail = match chosen.truncated {
        true => "both sides are the same after shortening; raise max_length",
        false => "both sides are the same tokens",
    };
    (chosen.ids_hash == rejected.ids_hash).then(|| LeftOut { line, detail: detail.to_owned() })
}

/// The matrix of some vectors.
pub fn matrix<'a>(
    vectors: impl ExactSizeIterator<Item = &'a Encoded>,
    dim: usize,
) -> Result<Matrix, CliError> {
    let rows = vectors.len();
    let mut data = Vec::with_capacity(rows * dim);
    for encoded in vectors {
        data.extend_from_slice(&encoded.vector);
    }
    Ok(Matrix::new(data, rows, dim)?)
}

/// Embedded pairs of vetted rows, after leaving out those that the encoder cannot tell apart.
pub fn embed_vetted(
    vetted: &mut Vetted,
    encoded: &[Encoded],
    encoder: &dyn TextEncoder,
) -> Result<EmbeddedPairs, CliError> {
    let dim = encoder.dim();
    let n = vetted.used.len();
    let equal: Vec<LeftOut> = (0..n)
        .filter_map(|i| equal_side(vetted.used[i].line, &encoded[i], &encoded[i + n]))
        .collect();
    let gone: std::collections::HashSet<u64> = equal.iter().map(|l| l.line).collect();
    let kept: Vec<usize> = (0..n).filter(|&i| !gone.contains(&vetted.used[i].line)).collect();
    vetted.leave_out(Reason::EqualAfterTruncation, equal);
    let chosen: Vec<&Encoded> = kept.iter().map(|&i| &encoded[i]).collect();
    let rejected: Vec<&Encoded> = kept.iter().map(|&i| &encoded[i + n]).collect();
    let prompts = vetted.prompt_numbers();
    let pairs = EmbeddedPairs::with_prompts(
        matrix(chosen.into_iter(), dim)?,
        matrix(rejected.into_iter(), dim)?,
        prompts,
    )?;
    let pairs = pairs.with_labels(vetted.used.iter().map(|r| r.value.label()).collect())?;
    let id = encoder.identity();
    // A server says nothing of views.
    if pairs.is_empty() || id.views.len() < 2 {
        return Ok(pairs);
    }
    Ok(pairs.with_views(vec![id.dim; id.views.len()])?)
}

/// `shortened` texts of some, as a note; nothing if there are none.
pub fn note_truncated(encoded: &[Encoded], max_length: usize, reporter: &Reporter) {
    let n = encoded.iter().filter(|e| e.truncated).count();
    if n > 0 {
        reporter.note(&format!(
            "{n} of {} texts are longer than {max_length} tokens and lost the beginning of the \
             prompt (max_length)",
            encoded.len()
        ));
    }
}
