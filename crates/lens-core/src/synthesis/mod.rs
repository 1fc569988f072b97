//! Synthesis in latent space (docs/method.md, step 3).
//!
//! For the latent code z of each seed response, candidates z + eta with eta ~ N(0, s^2 I) are drawn,
//! and the k most likely under the encoder's own Gaussian N(mu, sigma^2) are kept ([`synthesise`]).
//! Nothing is decoded: the head trains on the codes (see [`crate::head`]). The codes of a pair come
//! from a random stream of their own. They need not be kept: where they would fill too much memory
//! they are drawn again, the same to the bit, whenever a step needs them.
//!
//! [`variants`] has what is ours and off by default.

mod codes;
mod settings;
pub mod variants;

pub use codes::{SyntheticCodes, synthesise};
pub use settings::{Origin, SynthesisSettings};
pub use variants::{Centring, Decoding, Emphasis, Gate, Noise, Weighing};
