//! The names of arrays and of metadata entries in an embeddings file.

/// Array `[n, d]`: embeddings of the preferred responses.
pub const CHOSEN: &str = "chosen";
/// Array `[n, d]`: embeddings of the other responses.
pub const REJECTED: &str = "rejected";
/// Array `[n]`: the line of the dataset that each embedding is of, counted from 1.
pub const ROW: &str = "row";
/// Array `[n]`: a number for each prompt; equal prompts have equal numbers. A metadata entry of the
/// same name says which numbers they are: see [`PROMPT_NUMBERS`].
pub const PROMPT: &str = "prompt";
/// The metadata entry [`PROMPT`] where the numbers are those of
/// [`prompt_key`](crate::prompts::prompt_key), which mean the same in every file. Without the entry
/// they mean something within the file only.
pub const PROMPT_NUMBERS: &str = "lens-prompt-v1";
/// Array `[n]`: by how much the chosen response is better, in units of reward.
pub const MARGIN: &str = "margin";
/// Array `[n]`: 1 where both responses are as good, else 0.
pub const TIE: &str = "tie";
/// Metadata entry: which view lies in which columns, a list of `{"columns": [from, to], "view": ..}`.
pub const VIEWS: &str = "views";
/// Metadata entry: the [`EncoderRecord`](crate::encoder::EncoderRecord) of the encoder.
pub const ENCODER: &str = "encoder";
/// Metadata entry: the version of the library that wrote the file.
pub const LENS_VERSION: &str = "lens_version";
/// Array `[n]` of synthetic responses: the row of the seed pair that each was made of, counted from 0.
pub const PAIR: &str = "pair";
/// Array `[n]` of synthetic responses: the number of each among those of its seed response, counted
/// from 1.
pub const COPY: &str = "copy";
/// Metadata entry of synthetic responses: the settings that they were drawn with.
pub const SYNTHETIC: &str = "synthetic";
