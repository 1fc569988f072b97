//! Text to hidden states of a language model, in process.
//!
//! [`Encoder::open`] takes a GGUF file or a Hugging Face folder: weights, tokenizer, chat template. [`Encoder::encode_exchanges`] turns prompts with responses into vectors:
//!
//! 1. **render** (`template`): an exchange becomes one text, by the model's own chat template or
//!    plainly;
//! 2. **tokenise** (`tokenizer`, `input`): as transformers does, BOS exactly once; users' text
//!    never becomes a control token; over-long texts keep the response and are flagged;
//! 3. **plan** (`forward::plan`): what several texts have in common at their beginning is computed once,
//!    batches are packed without padding;
//! 4. **compute** (`forward`): one forward pass for all families, described by `family`, on weights
//!    from `model`; it yields any number of views (`view`) of a text at once, and runs no layer
//!    beyond the deepest;
//! 5. **keep** (`cache`): vectors are stored by content, so a second run computes nothing.
//!
//! A text has the same vector alone, in any batch and behind any shared beginning (to rounding),
//! and it agrees with transformers' float32 reference on the same weights.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use lens_core::{Content, Exchange, Quiet};
//! use lens_encoder::{Encoder, EncoderOptions};
//!
//! # fn main() -> Result<(), lens_encoder::EncoderError> {
//! let options = EncoderOptions { cache_dir: Some("cache".into()), ..Default::default() };
//! let encoder = Encoder::open(Path::new("gemma-3-270m-q4_k_m.gguf"), &options)?;
//! let exchange = Exchange {
//!     prompt: Content::Text("What is the capital of France?".into()),
//!     response: Content::Text("Paris.".into()),
//! };
//! let encoded = encoder.encode_exchanges(&[exchange], &Quiet)?;
//! assert_eq!(encoded[0].vector.len(), encoder.identity().dim);
//! # Ok(())
//! # }
//! ```

pub mod bench;
mod cache;
mod encoder;
mod error;
mod export;
mod family;
mod fetch;
mod forward;
mod generate;
mod http;
mod identity;
mod input;
mod model;
mod options;
mod remote;
mod score_head;
mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text_encoder;
mod tokenizer;
mod view;

pub use encoder::{EncodeStats, Encoded, Encoder, Likeness, MemoryEstimate, Refused};
pub use error::{EncoderError, Result, ServerError};
pub use export::{Checkpoint, CheckpointClass, CheckpointOptions, ExportType, HeadTensor};
pub use family::{
    Activation, Biases, LayerKind, ModelSpec, NormKind, NormPlacement, Rope, RopeScaling, SUPPORTED,
};
pub use generate::{Finish, GenerateOptions, Generated, Generator, LogLikelihood, Sampling};
pub use http::{HttpError, Secret};
pub use input::Input;
pub use lens_data::encoder::{
    Difference, EncoderIdentity, LayerChoice, Pooling, ServerApi, ServerRecord, SpecialTokens,
    TemplateChoice, View, ViewChoice,
};
pub use model::memory::Precision;
pub use options::EncoderOptions;
pub use remote::{RemoteEncoder, RemoteOptions};
pub use score_head::ScoreHead;
pub use template::sandbox;
pub use text_encoder::TextEncoder;

/// Models by name: where they come from, and how they get into the cache.
pub mod models {
    pub use crate::error::{FetchError, Listed};
    pub use crate::fetch::{
        DEFAULT, DatasetName, Hub, KNOWN, KnownModel, dataset_files, find_or_pull,
        find_or_pull_for, find_or_pull_from, known, public_name, pull,
    };
}
