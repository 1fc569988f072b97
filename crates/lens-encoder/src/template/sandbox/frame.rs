//! Messages between a program and its renderer: a length of four bytes, little-endian, and JSON.

use crate::template::limits::Excess;
use crate::tokenizer::TokenRoles;
use lens_core::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes of a buffer that are kept from message to message.
const KEPT: usize = 1 << 20;

/// What a program asks of its renderer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request<'a> {
    /// Compiles the template that the next ones render.
    Compile { source: Cow<'a, str> },
    /// Renders messages; without `roles`, with those of the request before.
    Render { messages: Cow<'a, [Message]>, open: bool, roles: Option<Cow<'a, TokenRoles>> },
}

/// What a renderer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It has taken its limits, or compiled the template.
    Ready,
    /// The rendered text.
    Text(String),
    /// As [`crate::template::limits::Failure::Refused`].
    Refused(String),
    /// As [`crate::template::limits::Failure::Exceeded`].
    Exceeded(Excess),
}

/// A message as it goes out: one write.
pub(super) fn packed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len =
        u32::try_from(bytes.len() - 4).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

/// Reads the length of a message; `None` at the end of the stream.
pub(super) fn read_length(from: &mut impl Read) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => Ok(Some(u32::from_le_bytes(length) as usize)),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads a message of that length, which the caller has found sensible, by way of `bytes`.
pub(super) fn read_body<T: DeserializeOwned>(
    from: &mut impl Read,
    length: usize,
    bytes: &mut Vec<u8>,
) -> io::Result<T> {
    bytes.resize(length, 0);
    from.read_exact(bytes)?;
    let message = serde_json::from_slice(bytes)?;
    // A long message leaves nothing to the next one.
    bytes.truncate(KEPT);
    bytes.shrink_to(KEPT);
    Ok(message)
}

/// Writes a message.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&packed(message)?)?;
    to.flush()
}
