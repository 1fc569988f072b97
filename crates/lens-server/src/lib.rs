//! The reward model over HTTP, as trainers call it.
//!
//! [`serve`] answers the routes of OpenRLHF, LLaMA-Factory, verl, vLLM and
//! text-embeddings-inference, and one of its own, `/v1/reward`. A request goes
//!
//! 1. through the guard (`guard`): host, token, time, and the log behind it;
//! 2. to its route (`routes`, a file for each of the peers), which reads the body (`body`) and finds
//!    the model (`models`);
//! 3. with text, into the queue of the model's encoder (`engine`), which computes the texts of
//!    several requests in one call; embeddings skip it (`embeddings`);
//! 4. through the head (`score`), and back.
//!
//! Who opens bundles and encoders is the caller's business ([`Source`]): `lens serve` does as `lens
//! score` would.
//!
//! ```no_run
//! use lens_server::{Cause, Limits, Options, Source, Tokens, serve};
//! # use lens_data::Bundle;
//! # use lens_encoder::TextEncoder;
//! # use std::path::Path;
//!
//! struct Arrays;
//!
//! impl Source for Arrays {
//!     fn bundle(&self, path: &Path) -> Result<Bundle, Cause> {
//!         Ok(Bundle::read(path)?)
//!     }
//!     // This server scores embeddings only.
//!     fn encoder(&self, _: &Bundle, _: &Path, _: bool) -> Result<Option<Box<dyn TextEncoder>>, Cause> {
//!         Ok(None)
//!     }
//! }
//!
//! let options = Options {
//!     bind: "127.0.0.1:8080".parse()?,
//!     models: vec![("helpful".to_owned(), "reward-model".into())],
//!     any_model: false,
//!     pairs: None,
//!     tokens: Tokens::default(),
//!     insecure: false,
//!     tls: None,
//!     limits: Limits::default(),
//!     log_prompts: false,
//!     log_json: false,
//!     quiet: false,
//! };
//! serve(options, Box::new(Arrays), &|address| println!("listening on {address}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod app;
mod auth;
mod body;
mod embeddings;
mod engine;
mod error;
mod failure;
mod guard;
mod input;
mod log;
mod metrics;
mod models;
mod nearest;
mod net;
mod options;
mod routes;
mod run;
mod score;

pub use auth::Tokens;
pub use error::{Cause, ServeError};
pub use failure::Failure;
pub use models::Source;
pub use options::{Limits, Options};
pub use run::serve;
