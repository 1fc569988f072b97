//! The reward model over HTTP, as trainers call it.
//!
//! [`serve`] answers the routes of OpenRLHF, LLaMA-Factory, verl, vLLM and
//! text-embeddings-inference, and one of its own, `/v1/reward`. A request goes
//!
//! 1. through the guard (`guard`), which checks host and token, limits the time, and writes the
//!    log;
//! 2. to its route (`routes`, a file for each kind of client), which reads the body (`body`) and
//!    finds the model (`models`);
//! 3. with text, into the queue of the model's encoder (`engine`), which computes the texts of
//!    several requests in one call; embeddings skip it (`embeddings`);
//! 4. through the head of the reward model (`score`), and back (`response`, `failure`).
//!
//! The server lives in the caller's process and keeps no global state: the caller opens bundles and
//! encoders ([`ModelSource`]), says when to stop ([`Control`]), and has signals, the log's
//! subscriber and the exit to itself.
//!
//! ```no_run
//! use lens_data::Bundle;
//! use lens_encoder::TextEncoder;
//! use lens_server::{BoxedError, Control, ModelSource, Options, serve};
//! use std::path::Path;
//!
//! /// Scores embeddings only.
//! struct NoEncoder;
//!
//! impl ModelSource for NoEncoder {
//!     fn bundle(&self, path: &Path) -> Result<Bundle, BoxedError> {
//!         Ok(Bundle::read(path)?)
//!     }
//!     fn encoder(
//!         &self,
//!         _bundle: &Bundle,
//!         _path: &Path,
//!         _keep_vectors: bool,
//!     ) -> Result<Option<Box<dyn TextEncoder>>, BoxedError> {
//!         Ok(None)
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options {
//!     models: vec![("helpful".to_owned(), "reward-model".into())],
//!     ..Options::default()
//! };
//! let an_hour = tokio::time::sleep(std::time::Duration::from_secs(3600));
//! let control = Control::until(an_hour).on_listening(|url| println!("listening on {url}"));
//! serve(options, Box::new(NoEncoder), control).await?;
//! # Ok(())
//! # }
//! ```

mod app;
mod auth;
mod body;
mod bundles;
mod clock;
mod control;
mod embeddings;
mod engine;
mod error;
mod failure;
mod files;
mod guard;
mod input;
mod log;
mod memory;
mod metrics;
mod models;
mod nearest;
mod net;
mod options;
mod patient;
mod printable;
mod response;
mod routes;
mod score;
mod serve;
mod size;
#[doc(hidden)]
pub mod testing;

pub use auth::BearerTokens;
pub use bundles::Bundles;
pub use control::Control;
pub use error::{BoxedError, ServeError};
pub use files::{raise_open_file_limit, read_small_file};
pub use log::LogLines;
pub use models::ModelSource;
pub use options::{Limits, Options};
pub use serve::{serve, serve_blocking};
pub use size::{ByteSize, NoByteSize};
