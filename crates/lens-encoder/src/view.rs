//! The views of a model that a user's choices stand for.

use crate::error::{EncoderError, Result};
use crate::family::{ModelSpec, resolve_layer};
use lens_data::encoder::{LayerChoice, Pooling, View, ViewChoice};

/// Refuses a layer that a model with so many of them does not have, which can be known before the model
/// itself is here.
///
/// # Errors
/// [`EncoderError::LayerOutOfRange`].
pub(crate) fn check_layers(choices: &[ViewChoice], layers: usize) -> Result<()> {
    choices.iter().try_for_each(|choice| match choice.layer {
        LayerChoice::Index(index) => resolve_layer(index, layers).map(drop),
        LayerChoice::All => Ok(()),
    })
}

/// Whether there is a layer among the choices that some model does not have.
pub(crate) fn name_layers(choices: &[ViewChoice]) -> bool {
    let beyond = |layer| !matches!(layer, LayerChoice::Index(-1 | 0) | LayerChoice::All);
    choices.iter().any(|choice| beyond(choice.layer))
}

/// Resolves choices for a model: layers counted from 0, every layer where all are asked.
pub(crate) fn resolve(choices: &[ViewChoice], spec: &ModelSpec) -> Result<Vec<View>> {
    let invalid = |option, detail: String| Err(EncoderError::InvalidOption { option, detail });
    let mut views = Vec::new();
    for choice in choices {
        let pooling = choice.pooling;
        match (spec.causal, pooling, &choice.suffix) {
            (true, Pooling::First, _) => {
                return invalid(
                    "pooling",
                    "'first' is for encoders such as BERT: in a decoder the first token has seen \
                     nothing"
                        .into(),
                );
            }
            (false, Pooling::PromptLast, _) => {
                return invalid(
                    "pooling",
                    "'prompt-last' is for decoders: in an encoder such as BERT every token also \
                     sees the response"
                        .into(),
                );
            }
            (false, _, Some(_)) => {
                return invalid("view", "suffixes are for decoders".into());
            }
            (true, Pooling::PromptLast, Some(_)) => {
                return invalid("view", "the prompt's end does not see a suffix".into());
            }
            _ => {}
        }
        let layers = match choice.layer {
            LayerChoice::Index(index) => {
                let layer = spec.resolve_layer(index)?;
                layer..=layer
            }
            LayerChoice::All => 0..=spec.layers.len(),
        };
        for layer in layers {
            let view = View { layer, pooling, suffix: choice.suffix.clone() };
            if views.contains(&view) {
                return invalid("view", format!("'{view}' is there twice"));
            }
            views.push(view);
        }
    }
    if views.is_empty() {
        return invalid("view", "there is none".into());
    }
    Ok(views)
}
