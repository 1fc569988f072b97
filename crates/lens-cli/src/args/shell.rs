//! The command lines of `lens completions` and `lens man`.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// Arguments of `lens completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `lens man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// An existing folder; pages of the same names in it are replaced
    pub folder: PathBuf,
}
