//! The options of an encoder.

use crate::model::memory::Precision;
use lens_data::encoder::{LayerChoice, Pooling, SpecialTokens, TemplateChoice, ViewChoice};
use std::path::PathBuf;

/// How to turn texts into vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderOptions {
    /// How prompt and response become one text. Defaults to [`TemplateChoice::Auto`].
    pub template: TemplateChoice,
    /// Which hidden states; a text's vector is all of them side by side. Defaults to the last
    /// token's at the last layer.
    pub views: Vec<ViewChoice>,
    /// In which form weights are held. Defaults to [`Precision::Auto`].
    pub weights: Precision,
    /// Longer texts are shortened (and flagged). At most what the model was made for. Defaults to
    /// 2048.
    pub max_length: usize,
    /// Whether a BOS token begins each text. Defaults to what the model file says.
    pub add_bos: Option<bool>,
    /// How names of special tokens in texts are read. Defaults to [`SpecialTokens::Text`].
    pub special_tokens: SpecialTokens,
    /// Where finished vectors are kept; `None` keeps none. Defaults to `None`.
    pub cache_dir: Option<PathBuf>,
    /// Whether vectors are kept there; if not, only the model's hash is, so that a big model is not
    /// hashed at every start. Defaults to `true`.
    pub keep_vectors: bool,
    /// Tokens computed in one pass; more take more memory. Defaults to 2048.
    pub batch_tokens: usize,
    /// Whether common beginnings of texts are computed once. Changes speed, not results. Defaults
    /// to `true`.
    pub share_prefixes: bool,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self {
            template: TemplateChoice::Auto,
            views: vec![ViewChoice::default()],
            weights: Precision::Auto,
            max_length: 2048,
            add_bos: None,
            special_tokens: SpecialTokens::Text,
            cache_dir: None,
            keep_vectors: true,
            batch_tokens: 2048,
            share_prefixes: true,
        }
    }
}

impl EncoderOptions {
    /// The defaults, with one view of whole texts: `layer` by transformers' index.
    pub fn with_view(layer: i32, pooling: Pooling) -> Self {
        let view = ViewChoice { layer: LayerChoice::Index(layer), pooling, suffix: None };
        Self { views: vec![view], ..Self::default() }
    }
}
