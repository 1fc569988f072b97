//! What a template may take: one set of limits and one wording, wherever it is rendered.

use lens_core::Message;
use serde::{Deserialize, Serialize};

/// Bytes of the longest template: those of real models have a tenth of it.
pub(super) const MAX_SOURCE: usize = 128 << 10;
/// Bytes of the longest conversation.
pub(super) const MAX_INPUT: usize = 64 << 20;
/// Deepest nesting of lists and maps that are written.
pub(super) const MAX_DEPTH: usize = 100;
/// Most lists, maps and items of a value that is written: a list that holds another one twice is
/// small, and its text may be endless.
pub(super) const MAX_ITEMS: usize = 1 << 20;
/// Bytes of the longest string that a method of strings may build.
pub(super) const MAX_STRING: usize = 32 << 20;
/// Spaces of the widest indentation of JSON.
pub(super) const MAX_INDENT: usize = 32;
/// Characters of an error's text: it may quote what the template computed.
const MAX_WORDS: usize = 1000;

/// Why nothing was rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The template does not parse, or refuses the messages: its own words, or the engine's.
    Refused(String),
    /// It took more than rendering may.
    Exceeded(Excess),
}

/// A limit that a rendering exceeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(super) enum Excess {
    #[error("it takes far more steps than any conversation needs")]
    Steps,
    #[error("it takes more time than a rendering may")]
    Time,
    #[error("it takes more memory than a rendering may")]
    Memory,
    #[error("it writes more than {most} bytes")]
    Output { most: usize },
    #[error("it indents JSON by {spaces} spaces, above {MAX_INDENT}")]
    Indent { spaces: usize },
    #[error("its values are nested too deeply, or hold themselves")]
    Depth,
    #[error("the conversation has {bytes} bytes, above {MAX_INPUT}")]
    Input { bytes: usize },
    #[error("the process that renders it ended: {status}")]
    Crash { status: String },
}

impl Failure {
    /// A refusal in words, shortened where they are endless.
    pub fn refused(words: impl Into<String>) -> Self {
        let mut words: String = words.into();
        if let Some((end, _)) = words.char_indices().nth(MAX_WORDS) {
            words.truncate(end);
            words.push_str(" ..");
        }
        Self::Refused(words)
    }
}

/// Bytes of a conversation.
pub(super) fn input(messages: &[Message]) -> usize {
    messages.iter().map(|m| m.role.len() + m.content.len()).sum()
}

/// Work that one rendering may do: an instruction costs one, and so do 64 bytes that are built. The
/// templates of real models take a few thousand and a hundred for each message.
pub(super) fn fuel(messages: &[Message]) -> u64 {
    200_000 + 5_000 * messages.len() as u64 + 4 * input(messages) as u64
}

/// Bytes that one rendering may write: real templates write a conversation once, and a system prompt.
pub(super) fn output(messages: &[Message]) -> usize {
    let input = input(messages);
    (16 * input + (1 << 20)).min(2 * input + (16 << 20))
}
