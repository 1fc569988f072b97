//! Opening language models: of options, and of bundles, which refuse any model but their own.

use crate::options::{BundleModelOptions, ModelOptions, RuntimeOptions, template};
use crate::{Error, Progress};
use lens_core::Matrix;
use lens_data::bundle::Bundle;
use lens_data::{EncoderRecord, file_name};
use lens_encoder::{
    Difference, Encoded, Encoder, EncoderError, EncoderOptions, Generator, RemoteEncoder,
    RemoteOptions, ServerRecord, TemplateChoice, TextEncoder, ViewChoice, models,
};
use std::path::{Path, PathBuf};

/// Relative distance between a server's vectors now and in training that is worth a note.
const NOTED_DISTANCE: f64 = 0.02;

/// The model file of a name or path; a known model that is not here yet is fetched.
pub(crate) fn find_model(
    name: &str,
    runtime: &RuntimeOptions,
    progress: &dyn Progress,
) -> Result<PathBuf, Error> {
    Ok(models::find_or_pull(name, &runtime.models_folder()?, progress)?)
}

/// Opens the encoder of the options.
///
/// # Errors
/// What is wrong with the options, the model or the server.
pub fn open_encoder(
    options: &ModelOptions,
    progress: &dyn Progress,
) -> Result<Box<dyn TextEncoder>, Error> {
    if let Some(url) = &options.runtime.server.url {
        let template = template(&options.template)?;
        return connect(&options.runtime.remote(url, &options.model, template)?, progress);
    }
    let folder = options.runtime.models_folder()?;
    let (hub, name) = (models::Hub::from_env(), &options.model);
    let path = models::find_or_pull_for(&hub, &options.views, name, &folder, progress)?;
    Ok(Box::new(Encoder::open(&path, &options.encoder_options()?)?))
}

/// Says which encoder is used, and with which views.
pub(crate) fn note_encoder(encoder: &dyn TextEncoder, progress: &dyn Progress) {
    let id = encoder.identity();
    if let (Some(server), Some(address)) = (encoder.server(), encoder.address()) {
        progress.note(&format!(
            "encoder: {} at {address} ({}, width {}), {} template",
            server.model, id.architecture, id.dim, id.template
        ));
        return;
    }
    let views = match &id.views[..] {
        [one] => one.in_words(),
        many => format!("{} views", many.len()),
    };
    progress.note(&format!(
        "encoder: {} ({}, {} layers, width {}), {views}, {} template{}{}",
        id.model_file,
        id.architecture,
        id.layers,
        id.dim,
        id.template,
        if id.add_bos { ", BOS" } else { "" },
        if id.add_eos { ", EOS" } else { "" },
    ));
    encoder.notes().iter().for_each(|note| progress.note(note));
}

/// Says which server computes the embeddings, if one does.
pub(crate) fn note_server(encoder: &dyn TextEncoder, progress: &dyn Progress) {
    if encoder.server().is_some() {
        note_encoder(encoder, progress);
    }
}

/// Opens the language model of the options with its output head, and says which it is.
pub(crate) fn open_generator(
    options: &ModelOptions,
    progress: &dyn Progress,
) -> Result<Generator, Error> {
    refuse_server(&options.runtime)?;
    let path = find_model(&options.model, &options.runtime, progress)?;
    let generator = Generator::open(&path, &options.encoder_options()?)?;
    let spec = generator.spec();
    progress.note(&format!(
        "model: {} ({}, {} layers, width {})",
        file_name(&path),
        spec.architecture,
        spec.layers.len(),
        spec.dim,
    ));
    Ok(generator)
}

/// Refuses a server where the model must run in this process.
pub(crate) fn refuse_server(runtime: &RuntimeOptions) -> Result<(), Error> {
    match runtime.server.url {
        None => Ok(()),
        Some(_) => Err(Error::option("server", "must not be set: this job runs a model here")),
    }
}

fn connect(
    options: &RemoteOptions,
    progress: &dyn Progress,
) -> Result<Box<dyn TextEncoder>, Error> {
    Ok(Box::new(RemoteEncoder::open(options, progress)?))
}

/// What a bundle remembers of an encoder that was opened as `model`.
pub(crate) fn encoder_record(encoder: &dyn TextEncoder, model: &str) -> EncoderRecord {
    EncoderRecord {
        model: encoder.server().map_or_else(|| models::public_name(model), |s| s.model.clone()),
        template: encoder.template().clone(),
        identity: encoder.identity().clone(),
        server: encoder.server().cloned(),
    }
}

/// Refuses embeddings of another encoder than the bundle's. Arrays from elsewhere do not say which
/// encoder made them, which is noted.
pub(crate) fn check_arrays(
    bundle: &Bundle,
    stored: Option<&EncoderRecord>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let Some(trained) = &bundle.manifest.encoder else { return Ok(()) };
    let Some(stored) = stored else {
        progress.note(&format!(
            "warning: {} does not say which encoder made it; nothing checks that it fits",
            path.display()
        ));
        return Ok(());
    };
    let differences = trained.identity.differences(&stored.identity);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::ArraysMismatch {
        path: path.to_owned(),
        differences: in_words(&differences, "the reward model", "the file"),
    })
}

/// `layer is 6 in the bundle, 2 in tiny.gguf; ..`
fn in_words(differences: &[Difference], ours: &str, theirs: &str) -> String {
    let one = |d: &Difference| {
        let Difference { field, ours: a, theirs: b } = d;
        format!("{field} is {a} in {ours}, {b} in {theirs}")
    };
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Opens the encoder that the bundle in the folder `path` was trained with, and refuses any other.
///
/// # Errors
/// [`Error::EncoderMismatch`] with the fields that differ; [`Error::Refused`] for a bundle that was
/// trained on arrays of unknown origin; what is wrong with the options, the model or the server.
pub fn open_encoder_of_bundle(
    bundle: &Bundle,
    path: &Path,
    options: &BundleModelOptions,
    progress: &dyn Progress,
) -> Result<Box<dyn TextEncoder>, Error> {
    let record = record_of(bundle, path)?;
    let trained_with = &record.identity;
    let mismatch =
        |differences: String| Error::EncoderMismatch { bundle: path.to_owned(), differences };
    let template = match &options.template {
        Some(name) => template(name)?,
        None => record.template.clone(),
    };
    let runtime = &options.runtime;
    if record.server.is_some() || runtime.server.url.is_some() {
        let server = server_of_bundle(record, path, options.model.as_deref(), template, runtime)?;
        let encoder = connect(&server, progress)?;
        let mut differences = trained_with.differences(encoder.identity());
        if let (true, Some(then)) = (differences.is_empty(), &record.server) {
            differences = server_differences(then, encoder.server(), progress);
        }
        if differences.is_empty() {
            return Ok(encoder);
        }
        return Err(mismatch(in_words(&differences, "the bundle", "the server")));
    }
    Ok(Box::new(own_encoder(record, path, options, template, progress)?))
}

/// Opens the language model that the bundle in the folder `path` was trained with in this process, and
/// refuses any other. Its record must name no server.
///
/// # Errors
/// As [`open_encoder_of_bundle`].
pub(crate) fn open_own_encoder_of_bundle(
    bundle: &Bundle,
    path: &Path,
    options: &BundleModelOptions,
    progress: &dyn Progress,
) -> Result<Encoder, Error> {
    refuse_server(&options.runtime)?;
    let record = record_of(bundle, path)?;
    own_encoder(record, path, options, record.template.clone(), progress)
}

/// What a bundle remembers of its encoder.
fn record_of<'a>(bundle: &'a Bundle, path: &Path) -> Result<&'a EncoderRecord, Error> {
    bundle.manifest.encoder.as_ref().ok_or_else(|| {
        Error::Refused(format!(
            "{} was trained on arrays of unknown origin: it scores arrays, not text",
            path.display()
        ))
    })
}

fn own_encoder(
    record: &EncoderRecord,
    path: &Path,
    options: &BundleModelOptions,
    template: TemplateChoice,
    progress: &dyn Progress,
) -> Result<Encoder, Error> {
    let (trained_with, runtime) = (&record.identity, &options.runtime);
    let mismatch =
        |differences: String| Error::EncoderMismatch { bundle: path.to_owned(), differences };
    let trained_views = || trained_with.views.iter().map(ViewChoice::from).collect();
    let encoder_options = EncoderOptions {
        template,
        views: options.views.clone().unwrap_or_else(trained_views),
        max_length: options.max_length.unwrap_or(trained_with.max_length),
        add_bos: options.add_bos.unwrap_or(Some(trained_with.add_bos)),
        special_tokens: options.special_tokens.unwrap_or(trained_with.special_tokens),
        ..runtime.encoder()?
    };
    let name = options.model.as_deref().unwrap_or(&record.model);
    let file = find_model(name, runtime, progress)?;
    let encoder = Encoder::open(&file, &encoder_options).map_err(|e| match e {
        // A model with fewer layers, or without a chat template, is another model.
        EncoderError::LayerOutOfRange { .. } | EncoderError::NoChatTemplate { .. } => {
            mismatch(e.to_string())
        }
        e => Error::Encoder(e),
    })?;
    let differences = trained_with.differences(encoder.identity());
    if differences.is_empty() {
        return Ok(encoder);
    }
    Err(mismatch(in_words(&differences, "the bundle", &file.display().to_string())))
}

/// The server that the user named for a bundle. Where none is, nothing is sent anywhere: a bundle
/// of somebody else must not decide where texts and a key go.
fn server_of_bundle(
    record: &EncoderRecord,
    bundle: &Path,
    model: Option<&str>,
    template: TemplateChoice,
    runtime: &RuntimeOptions,
) -> Result<RemoteOptions, Error> {
    let then = record.server.as_ref();
    let Some(url) = &runtime.server.url else {
        return Err(Error::ServerNotNamed {
            bundle: bundle.to_owned(),
            model: record.model.clone(),
            recorded: then.and_then(|then| then.url.clone()),
        });
    };
    let mut options = runtime.remote(url, model.unwrap_or(models::DEFAULT), template)?;
    if then.is_some() {
        options.model = Some(model.unwrap_or(&record.model).to_owned());
    }
    Ok(options)
}

/// Whether the server has another model than in training. A small distance is only noted.
fn server_differences(
    then: &ServerRecord,
    now: Option<&ServerRecord>,
    progress: &dyn Progress,
) -> Vec<Difference> {
    let Some(now) = now else { return Vec::new() };
    let (differences, distance) = (then.differences(now), then.distance(now));
    if differences.is_empty() && distance > NOTED_DISTANCE {
        progress.note(&format!(
            "warning: the server's vectors differ a little from those of training (relative distance \
             {distance:.3}), as with another build or machine; so will rewards"
        ));
    }
    differences
}

/// The vectors as the rows of a matrix `[n, dim]`.
pub(crate) fn matrix<'a>(
    vectors: impl ExactSizeIterator<Item = &'a Encoded>,
    dim: usize,
) -> Result<Matrix, Error> {
    let rows = vectors.len();
    let mut data = Vec::with_capacity(rows * dim);
    for encoded in vectors {
        data.extend_from_slice(&encoded.vector);
    }
    Ok(Matrix::new(data, rows, dim)?)
}

/// Notes how many texts were shortened, if any.
pub(crate) fn note_truncated(encoded: &[&Encoded], max_length: usize, progress: &dyn Progress) {
    let n = encoded.iter().filter(|e| e.truncated).count();
    if n > 0 {
        progress.note(&format!(
            "{n} of {} texts are longer than {max_length} tokens and lost the beginning of the \
             prompt (max_length)",
            encoded.len()
        ));
    }
}
