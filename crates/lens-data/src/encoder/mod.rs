//! Which encoder made embeddings, and which hidden states they are: plain data, as it stands in the
//! manifest of a bundle and in the metadata of an embeddings file.
//!
//! An [`EncoderRecord`] is enough to open the same encoder again. Its [`EncoderIdentity`] decides
//! whether two sets of embeddings are comparable. A [`View`] is one hidden state of a text; a
//! [`ViewChoice`] is how a user asks for views. Nothing here computes: models, tokenizers and
//! servers are the business of `lens-encoder`.

mod identity;
mod server;
mod view;

use serde::{Deserialize, Serialize};

pub use identity::{Difference, EncoderIdentity, SpecialTokens};
pub use server::{ServerApi, ServerRecord, relative_distance};
pub use view::{LayerChoice, Pooling, View, ViewChoice};

/// The template that renders an exchange (a prompt and a response) as one text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateChoice {
    /// The model's chat template if it has one, else plain.
    #[default]
    Auto,
    /// The model's chat template; an error if it has none.
    Chat,
    /// Text as it is, messages as a transcript (`"\n\nHuman: ..\n\nAssistant: .."`).
    Plain,
    /// A chat template in Jinja.
    Custom(String),
}

/// How texts became embeddings: enough to do the same to new texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderRecord {
    /// The model as the user named it.
    pub model: String,
    /// The template that was asked for; a custom one with its text.
    pub template: TemplateChoice,
    /// Everything that decides the numbers.
    pub identity: EncoderIdentity,
    /// The embedding server, where one computed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerRecord>,
}
