//! The one error type of this crate.

use thiserror::Error;

/// What can go wrong between rewards and figures.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The method itself refused or was interrupted.
    #[error(transparent)]
    Core(#[from] lens_core::CoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    Data(#[from] lens_data::Error),
}
