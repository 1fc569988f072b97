//! Parsers behind the encoder, for whoever feeds them anything.

use crate::encoder::own_tokenizer;
use crate::error::Result;
use crate::family::ModelSpec;
use crate::model::ModelFiles;
use crate::template::Template;
use crate::tokenizer::TextTokenizer;
use lens_core::Exchange;
use lens_data::encoder::{ServerApi, SpecialTokens, TemplateChoice};
use std::path::{Path, PathBuf};

/// The vectors of an embedding server's answer to a request of so many texts; `None` for an answer
/// that is refused.
pub fn server_vectors(api: ServerApi, body: &[u8], texts: usize) -> Option<Vec<Vec<f32>>> {
    crate::remote::vectors_of(api, body, texts)
}

/// What an embedding server's refusal says, as it is shown.
pub fn server_refusal(body: &[u8]) -> String {
    crate::http::said(body)
}

/// Renders any template with the tokenizer of one model.
pub struct Templates {
    model: PathBuf,
    tokenizer: TextTokenizer,
}

impl Templates {
    /// Loads a model's tokenizer.
    ///
    /// # Errors
    /// The problem of the model's files.
    pub fn open(model: &Path) -> Result<Self> {
        let files = ModelFiles::open(model)?;
        let (spec, _) = ModelSpec::from_files(&files)?;
        let tokenizer = own_tokenizer(&files, &spec, true, SpecialTokens::Text)?;
        Ok(Self { model: model.to_owned(), tokenizer })
    }

    /// The response of an exchange, as it stands at the end of the rendered text.
    ///
    /// # Errors
    /// [`EncoderError::Template`](crate::EncoderError::Template).
    pub fn response(&self, template: &str, exchange: &Exchange) -> Result<String> {
        let template = self.resolve(template)?;
        let rendered = template.render(exchange, &self.tokenizer)?;
        let at = template.response_start(exchange, &rendered, &self.tokenizer)?;
        Ok(rendered.text.split_at(at).1.to_owned())
    }

    /// A text that was rendered before, as the template writes its conversation.
    ///
    /// # Errors
    /// As [`Templates::response`].
    pub fn canonical(&self, template: &str, text: &str) -> Result<String> {
        Ok(self.resolve(template)?.canonical(text, &self.tokenizer))
    }

    fn resolve(&self, template: &str) -> Result<Template> {
        let choice = TemplateChoice::Custom(template.to_owned());
        Template::resolve(&choice, None, SpecialTokens::Text, &self.model)
    }
}
