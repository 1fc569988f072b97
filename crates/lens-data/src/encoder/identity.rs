//! The identity of an encoder: everything that decides the numbers it returns, so that vectors of equal
//! identities are comparable.

use super::View;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The field that is left unsaid where it does not hold.
const ADD_EOS: &str = "add_eos";

/// Everything that decides the numbers an encoder returns for a text.
///
/// A head trained on one identity must not score vectors of another: compare with
/// [`EncoderIdentity::differences`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderIdentity {
    /// Name of the model file, without folders. For people; a renamed file is the same model.
    pub model_file: String,
    /// SHA-256 of the model file, in hex.
    pub model_sha256: String,
    /// Architecture as the model file names it.
    pub architecture: String,
    /// Width of one view's vector.
    pub dim: usize,
    /// Number of blocks of the model; the hidden states are numbered from 0 to this.
    pub layers: usize,
    /// `chat`, `plain` or `custom`.
    pub template: String,
    /// SHA-256 of the template, in hex.
    pub template_sha256: String,
    /// Whether a BOS token begins each text.
    pub add_bos: bool,
    /// Whether an EOS token ends each text because `add_eos_token` asks for it, where the
    /// post-processor of the model's tokenizer adds none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub add_eos: bool,
    /// How names of special tokens in texts are read.
    #[serde(default)]
    pub special_tokens: SpecialTokens,
    /// The hidden states that lie side by side in a vector; none where a server decides.
    pub views: Vec<View>,
    /// Precision of the computation.
    pub dtype: String,
    /// Texts are shortened to this many tokens.
    pub max_length: usize,
}

/// One field in which two identities differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the field.
    pub field: &'static str,
    /// Its value in the first identity.
    pub ours: String,
    /// Its value in the other.
    pub theirs: String,
}

impl EncoderIdentity {
    /// Width of the vectors: of all views together.
    pub fn width(&self) -> usize {
        self.dim * self.views.len().max(1)
    }

    /// The fields that differ, in declaration order; empty if vectors of the two are comparable.
    /// The file's name does not count.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        self.all_fields()
            .into_iter()
            .zip(other.all_fields())
            .filter(|(ours, theirs)| ours.1 != theirs.1)
            .map(|((field, ours), (_, theirs))| Difference { field, ours, theirs })
            .collect()
    }

    /// Every field with its value as text, for people: the file's name, then [those that
    /// count](EncoderIdentity::fields).
    pub fn listed(&self) -> Vec<(&'static str, String)> {
        std::iter::once(("model_file", self.model_file.clone())).chain(self.fields()).collect()
    }

    /// The fields that decide the numbers, each with its value as text, in declaration order: all
    /// but the file's name, and `add_eos` only where it holds.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = self.all_fields().to_vec();
        fields.retain(|(field, _)| *field != ADD_EOS || self.add_eos);
        fields
    }

    fn all_fields(&self) -> [(&'static str, String); 12] {
        [
            ("model_sha256", self.model_sha256.clone()),
            ("architecture", self.architecture.clone()),
            ("dim", self.dim.to_string()),
            ("layers", self.layers.to_string()),
            ("template", self.template.clone()),
            ("template_sha256", self.template_sha256.clone()),
            ("add_bos", self.add_bos.to_string()),
            (ADD_EOS, self.add_eos.to_string()),
            ("special_tokens", self.special_tokens.to_string()),
            ("views", self.views.iter().map(View::to_string).collect::<Vec<_>>().join("; ")),
            ("dtype", self.dtype.clone()),
            ("max_length", self.max_length.to_string()),
        ]
    }
}

/// How names of special tokens (`<|im_end|>`, `[SEP]`) that stand in a text are read. Those that a
/// chat template writes are special tokens in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecialTokens {
    /// They are text like any other: a `<|im_end|>` that somebody typed becomes the letters it
    /// consists of. The same as transformers with `split_special_tokens=True`.
    #[default]
    Text,
    /// They become special tokens, as transformers does by default: for texts that were rendered
    /// with a chat template before. A BOS that the text begins with is not added again.
    Parse,
}

impl fmt::Display for SpecialTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpecialTokens::Text => "text",
            SpecialTokens::Parse => "parse",
        })
    }
}

impl FromStr for SpecialTokens {
    type Err = Error;

    fn from_str(text: &str) -> Result<SpecialTokens, Error> {
        match text {
            "text" => Ok(SpecialTokens::Text),
            "parse" => Ok(SpecialTokens::Parse),
            other => Err(Error::option("special_tokens", "'text' or 'parse'", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::encoder::Pooling;

    fn identity() -> EncoderIdentity {
        EncoderIdentity {
            model_file: "a.gguf".into(),
            model_sha256: "00".into(),
            architecture: "gemma3".into(),
            dim: 8,
            layers: 2,
            template: "plain".into(),
            template_sha256: "11".into(),
            add_bos: true,
            add_eos: false,
            special_tokens: SpecialTokens::Text,
            views: vec![View { layer: 2, pooling: Pooling::Last, suffix: None }],
            dtype: "f32".into(),
            max_length: 2048,
        }
    }

    #[test]
    fn differences_are_named() {
        let a = identity();
        let mut b = EncoderIdentity { model_file: "b.gguf".into(), ..identity() };
        assert!(a.differences(&b).is_empty());
        b.dim = 9;
        b.views[0].pooling = Pooling::Mean;
        let fields: Vec<_> = a.differences(&b).into_iter().map(|d| d.field).collect();
        assert_eq!(fields, ["dim", "views"]);
        let text = serde_json::to_string(&a).unwrap();
        assert_eq!(serde_json::from_str::<EncoderIdentity>(&text).unwrap(), a);
        assert!(!text.contains("add_eos") && a.fields().len() == 11);
        b = EncoderIdentity { add_eos: true, ..identity() };
        assert_eq!(a.differences(&b)[0].field, "add_eos");
        assert_eq!(b.fields()[7], ("add_eos", "true".to_owned()));
        let text = serde_json::to_string(&b).unwrap();
        assert_eq!(serde_json::from_str::<EncoderIdentity>(&text).unwrap(), b);
    }

    #[test]
    fn a_vector_is_as_wide_as_its_views_together() {
        let mut identity = identity();
        assert_eq!(identity.width(), 8);
        identity.views.push(View { layer: 1, pooling: Pooling::Mean, suffix: None });
        assert_eq!(identity.width(), 16);
        identity.views.clear();
        assert_eq!(identity.width(), 8);
    }

    #[test]
    fn special_tokens_are_read_as_they_are_written() {
        for choice in [SpecialTokens::Text, SpecialTokens::Parse] {
            assert_eq!(choice.to_string().parse::<SpecialTokens>().unwrap(), choice);
        }
        let error = "both".parse::<SpecialTokens>().unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "special_tokens", .. }), "{error}");
    }
}
