//! The interface of an encoder, wherever it computes.

use crate::encoder::{EncodeStats, Encoded, Likeness, Refused};
use crate::error::Result;
use crate::input::Input;
use crate::score_head::ScoreHead;
use lens_core::{Exchange, Progress};
use lens_data::encoder::{EncoderIdentity, ServerRecord, TemplateChoice, ViewChoice};

/// Turns texts into hidden states: in this process ([`crate::Encoder`]) or on a server.
pub trait TextEncoder: Send + Sync {
    /// Everything that decides the numbers this encoder returns.
    fn identity(&self) -> &EncoderIdentity;

    /// The template choice that the encoder was opened with.
    fn template(&self) -> &TemplateChoice;

    /// Width of the vectors.
    fn dim(&self) -> usize {
        self.identity().width()
    }

    /// Takes other views from now on, without opening anything again.
    ///
    /// # Errors
    /// The problem of the views; [`ServerError::Views`](crate::ServerError::Views) where a server
    /// decides which hidden state a vector is. The encoder then is as it was.
    fn set_views(&mut self, views: &[ViewChoice]) -> Result<()>;

    /// Counts and times of all calls since the encoder was opened.
    fn stats(&self) -> EncodeStats;

    /// What is remarkable about the encoder, in sentences: files that contradict each other, a pooling
    /// that the model declares and no view has.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The model's own reward, as [`Encoder::score_head`](crate::Encoder::score_head); `None` where
    /// there is none, or it is not known.
    ///
    /// # Errors
    /// What is wrong with the head.
    fn score_head(&self, _label: Option<&str>) -> Result<Option<ScoreHead>> {
        Ok(None)
    }

    /// The server that computes, where one does, as a reward model remembers it.
    fn server(&self) -> Option<&ServerRecord> {
        None
    }

    /// The address of that server.
    fn address(&self) -> Option<&str> {
        None
    }

    /// Vectors of exchanges, in their order. Each is rendered with the template first.
    fn encode_exchanges(
        &self,
        exchanges: &[Exchange],
        progress: &dyn Progress,
    ) -> Result<Vec<Encoded>>;

    /// Vectors of texts as they are, in their order; no template is applied.
    fn encode_texts(&self, texts: &[String], progress: &dyn Progress) -> Result<Vec<Encoded>>;

    /// Vectors of inputs of any kind, in their order: what they have in common is computed once.
    fn encode_inputs(&self, inputs: &[Input], progress: &dyn Progress) -> Result<Vec<Encoded>>;

    /// Vectors of the texts of a file, in their order: one that the template refuses costs no other.
    /// No vector is kept of it, so that it is refused again.
    ///
    /// # Errors
    /// As [`TextEncoder::encode_inputs`]; before anything is computed
    /// [`EncoderError::AlreadyRendered`](crate::EncoderError::AlreadyRendered), for exchanges and texts
    /// that the chat template would wrap, or the tokenizer spell out, a second time. What a server
    /// makes of texts cannot be told: there every text is taken as it is.
    fn encode_each(
        &self,
        inputs: &[Input],
        progress: &dyn Progress,
    ) -> Result<Vec<std::result::Result<Encoded, Refused>>> {
        Ok(self.encode_inputs(inputs, progress)?.into_iter().map(Ok).collect())
    }

    /// How far two exchanges are the same to the encoder, before they are shortened;
    /// [`Likeness::None`] from one that does not know.
    ///
    /// # Errors
    /// The problem of the tokenizer or the template.
    fn likeness(&self, _: &Exchange, _: &Exchange) -> Result<Likeness> {
        Ok(Likeness::None)
    }
}
