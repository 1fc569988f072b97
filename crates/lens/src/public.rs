//! Public reward models: `*ForSequenceClassification` checkpoints and GGUF files with a classification
//! head, taken as reward models as they are, or as the prior of a head that corrects them.

use crate::models::{encoder_record, find_model};
use crate::options::{BundleModelOptions, ModelOptions, RuntimeOptions, ViewSelection, template};
use crate::run::RunOptions;
use crate::views::candidate_views;
use crate::{Error, Progress};
use lens_core::activation::Activation;
use lens_core::head::logistic::{Prior, PriorReport};
use lens_core::head::{Head, HeadKind, HeadShape};
use lens_core::metrics::Estimate;
use lens_core::{
    Content, CoreError, EmbeddedPairs, Exchange, Extras, MethodSettings, Outcome, RewardModel,
    Standardiser, Threads, fit_with,
};
use lens_data::bundle::{Bundle, DataRecord, Kept};
use lens_encoder::{
    Encoder, EncoderError, EncoderIdentity, EncoderOptions, Pooling, ScoreHead, TextEncoder, View,
    ViewChoice,
};
use lens_eval::figures::heldout::{HeadScores, PairRewards, difference_in_words};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The label by which a model with a score head is taken as a mere encoder.
const NO_LABEL: &str = "none";

/// The reward model in the folder `path`: a bundle; or a public reward model, where `path` is its folder
/// or GGUF file, or the very name that `options` give for the language model.
///
/// # Errors
/// What is wrong with the bundle or the model; [`EncoderError::NoScoreHead`].
pub(crate) fn read_reward_model(
    path: &Path,
    options: &BundleModelOptions,
    progress: &dyn Progress,
) -> Result<Bundle, Error> {
    let named = options.model.as_deref().filter(|name| Path::new(name) == path);
    let is_gguf = path.is_file() && path.extension().is_some_and(|e| e == "gguf");
    let is_folder = path.join("config.json").is_file();
    if Bundle::is_at(path) || (named.is_none() && !is_gguf && !is_folder) {
        refuse_label(options.runtime.label.as_deref())?;
        return Ok(Bundle::read(path)?);
    }
    let name = path.to_string_lossy();
    let file = find_model(&name, &options.runtime, progress)?;
    let own = EncoderOptions::default();
    let encoder_options = EncoderOptions {
        template: template(options.template.as_deref().unwrap_or("auto"))?,
        views: vec![ViewChoice::default()],
        max_length: options.max_length.unwrap_or(own.max_length),
        add_bos: options.add_bos.unwrap_or(own.add_bos),
        special_tokens: options.special_tokens.unwrap_or(own.special_tokens),
        ..options.runtime.encoder()?
    };
    let encoder = Encoder::open(&file, &encoder_options)?;
    let head = encoder.score_head(options.runtime.label.as_deref())?;
    let head = head.ok_or(EncoderError::NoScoreHead { path: file })?;
    note(&head, &encoder, progress);
    let model = as_reward_model(&head, 0, encoder.dim())?;
    // It was trained elsewhere: of its data nothing is known.
    let data = DataRecord {
        file: String::new(),
        fingerprint: String::new(),
        read: 0,
        used: 0,
        left_out: BTreeMap::new(),
    };
    let method = MethodSettings { augment: 1, ..MethodSettings::default() };
    let mut bundle = Bundle::new(model, None, None, None, method, Kept::None, data);
    let mut record = encoder_record(&encoder, &name);
    // It is opened by this name again, and never saved.
    record.model = name.into_owned();
    bundle.manifest.encoder = Some(record);
    Ok(bundle)
}

/// Says what is taken for the reward, and warns where transformers would take another token.
fn note(head: &ScoreHead, encoder: &Encoder, progress: &dyn Progress) {
    let id = encoder.identity();
    progress.note(&format!(
        "reward: the score head of {} ({}), label '{}', {} template",
        id.model_file, id.architecture, head.label, id.template
    ));
    let any = Exchange { prompt: Content::Text("a".into()), response: Content::Text("b".into()) };
    let last = encoder.exchange_ids(&any).ok().and_then(|ids| ids.last().copied());
    if last.is_some() && last == encoder.pad_token().ok().flatten() {
        progress.note(
            "warning: texts end in this model's padding token; transformers takes the reward at the \
             token before, LENS at the last one",
        );
    }
}

/// The public reward model as it is, on embeddings of this width whose columns from `start` on are the
/// last layer at the last token.
pub(crate) fn as_reward_model(
    head: &ScoreHead,
    start: usize,
    width: usize,
) -> Result<RewardModel, CoreError> {
    let mut parameters = vec![0.0; width];
    parameters[start..start + head.weights.len()].copy_from_slice(&head.weights);
    let mut standardiser = Standardiser::identity(width);
    if head.bias != 0.0 {
        // A linear head has no bias: w (h - m) with w m = -bias is the same reward.
        let square: f64 = head.weights.iter().map(|w| f64::from(*w).powi(2)).sum();
        let factor = -f64::from(head.bias) / square;
        let mean = standardiser.mean[start..].iter_mut().zip(&head.weights);
        mean.for_each(|(m, w)| *m = (factor * f64::from(*w)) as f32);
    }
    let shape = HeadShape { dim: width, hidden: Vec::new(), members: 1 };
    let head = Head::with_parameters(shape, Activation::default(), parameters)?;
    Ok(RewardModel { standardiser, head, reward_mean: 0.0, reward_deviation: 1.0 })
}

/// A public reward model that a training corrects.
pub(crate) struct Public {
    head: ScoreHead,
}

/// The figures of a public reward model and of its correction on the held-out pairs. Serialises to the
/// object `public_model` of `lens run --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublicFigures {
    /// The label whose score is the reward.
    pub label: String,
    /// What became of its reward as the prior.
    pub prior: Option<PriorReport>,
    /// The public model as it is.
    pub as_it_is: Option<HeadScores>,
    /// The head that knows nothing of its reward.
    pub from_nothing: Option<HeadScores>,
    /// The head that corrects it, without augmentation.
    pub corrected: Option<HeadScores>,
    /// Accuracy of the corrected head minus that of the public model, on the same pairs.
    pub corrected_minus_public: Option<Estimate>,
    /// Accuracy of the corrected head minus that of the head from nothing, on the same pairs.
    pub corrected_minus_nothing: Option<Estimate>,
}

/// The public reward model of the options, if their language model is one, with the options for a head
/// that corrects it: logistic, on views among which its own is. `None` as well where training `goes_on` from
/// an earlier reward model, in which a prior is already.
///
/// # Errors
/// What is wrong with its head, or with the options for such a head.
pub(crate) fn find(
    encoder: &mut dyn TextEncoder,
    options: &mut RunOptions,
    goes_on: bool,
    progress: &dyn Progress,
) -> Result<Option<Public>, Error> {
    let RuntimeOptions { label, .. } = &options.model.runtime;
    let label = label.as_deref();
    if label == Some(NO_LABEL) {
        return Ok(None);
    }
    let head = match goes_on || encoder.server().is_some() {
        true => None,
        false => encoder.score_head(label)?,
    };
    let Some(head) = head else { return refuse_label(label).map(|()| None) };
    let ModelOptions { views, .. } = &mut options.model;
    if options.method.views != ViewSelection::Fixed
        && let Some(candidates) = candidate_views(views, encoder.identity())
    {
        *views = candidates;
    }
    encoder.set_views(views)?;
    if own_view(encoder.identity()).is_none() {
        views.push(ViewChoice::default());
        encoder.set_views(views)?;
    }
    options.method.views = ViewSelection::Fixed;
    options.method.settings.head.kind = HeadKind::Logistic;
    options.method.settings.check()?;
    progress.note(&format!(
        "this is a reward model: its own reward (label '{}') is the prior of a logistic head on {} \
         views (label = \"{NO_LABEL}\" takes it as an encoder only)",
        head.label,
        encoder.identity().views.len()
    ));
    Ok(Some(Public { head }))
}

/// Refuses a label where no public reward model is corrected or scores: it would change nothing.
fn refuse_label(label: Option<&str>) -> Result<(), Error> {
    match label {
        None | Some(NO_LABEL) => Ok(()),
        Some(label) => Err(Error::option(
            "label",
            format!("`{label}` names a score of a public reward model, and here is none"),
        )),
    }
}

/// Which of the views a score head reads.
fn own_view(encoder: &EncoderIdentity) -> Option<usize> {
    let own = View { layer: encoder.layers, pooling: Pooling::Last, suffix: None };
    encoder.views.iter().position(|view| *view == own)
}

impl Public {
    /// Its reward as the prior of a head on the encoder's views.
    pub(crate) fn prior(&self, encoder: &EncoderIdentity) -> Option<Prior> {
        let start = own_view(encoder)? * encoder.dim;
        let weights = self.head.weights.clone();
        Some(Prior { columns: start..start + encoder.dim, weights })
    }

    /// The public model, the head from nothing and the corrected one on held-out pairs.
    pub(crate) fn measure(
        self,
        prior: &Prior,
        [train, heldout]: [&EmbeddedPairs; 2],
        outcome: &Outcome,
        settings: &MethodSettings,
        progress: &dyn Progress,
    ) -> Result<PublicFigures, Error> {
        let Public { head } = self;
        let threads = Threads::available();
        let mut figures = PublicFigures {
            label: head.label.clone(),
            prior: outcome.none.report.prior.clone(),
            as_it_is: None,
            from_nothing: None,
            corrected: None,
            corrected_minus_public: None,
            corrected_minus_nothing: None,
        };
        if heldout.is_empty() {
            return Ok(figures);
        }
        let taken = figures.prior.as_ref().is_some_and(|prior| prior.weight != 0.0);
        let from_nothing = match taken {
            // The corrected head is the one from nothing, to the byte.
            false => outcome.none.model.clone(),
            true => {
                let settings = MethodSettings { augment: 1, ..settings.clone() };
                fit_with(train, &settings, Extras::default(), threads, progress)?.none.model
            }
        };
        let as_it_is = as_reward_model(&head, prior.columns.start, heldout.dim())?;
        let (prompts, seed) = (&heldout.prompts, settings.seed);
        let scores = |model: &RewardModel| -> Result<Option<HeadScores>, CoreError> {
            let rewards = PairRewards::score(model, heldout, threads)?;
            Ok(HeadScores::new(rewards, prompts, seed))
        };
        figures.as_it_is = scores(&as_it_is)?;
        figures.from_nothing = scores(&from_nothing)?;
        figures.corrected = scores(&outcome.none.model)?;
        let minus = |other: &Option<HeadScores>| {
            let (ours, theirs) = (figures.corrected.as_ref()?, other.as_ref()?);
            ours.rewards.accuracy_minus(&theirs.rewards, prompts, seed)
        };
        let public = minus(&figures.as_it_is);
        let nothing = minus(&figures.from_nothing);
        Ok(PublicFigures {
            corrected_minus_public: public,
            corrected_minus_nothing: nothing,
            ..figures
        })
    }
}

impl PublicFigures {
    /// Lines of the result table.
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let mut add = |label: &str, text: String| lines.push((label.to_owned(), text));
        if let (Some(public), Some(nothing), Some(corrected)) =
            (&self.as_it_is, &self.from_nothing, &self.corrected)
        {
            add("public model as it is", public.accuracy.to_string());
            add("head from nothing", nothing.accuracy.to_string());
            add("public model, corrected", corrected.accuracy.to_string());
        }
        let differences = [
            ("  against the public model", &self.corrected_minus_public),
            ("  against nothing", &self.corrected_minus_nothing),
        ];
        for (label, difference) in differences {
            if let Some(difference) = difference {
                add(label, difference_in_words(difference));
            }
        }
        let gain = self.prior.as_ref().and_then(|prior| prior.gain);
        let on_folds = gain.map_or_else(String::new, |gain| {
            let (change, error) = (-gain.mean, gain.standard_error);
            format!("; on the folds it changes log-loss by {change:+.4}, standard error {error:.4}")
        });
        let words = match &self.prior {
            Some(PriorReport { weight, share, .. }) if *weight != 0.0 => {
                format!("its reward times {weight:.4} ({share} of the fitted scale){on_folds}")
            }
            Some(_) if gain.is_some() => format!("not taken{on_folds}"),
            _ => "not taken: its reward does not fit the training pairs".to_owned(),
        };
        add("prior", words);
        lines
    }
}

/// The figures of a manifest with those of a public reward model, where there was one.
pub(crate) fn record(public: Option<&PublicFigures>, mut figures: Value) -> Value {
    if let Some(public) = public {
        figures["public_model"] = json!(public);
    }
    figures
}
