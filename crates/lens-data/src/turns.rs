//! One conversation, whatever the shape it is written in: its turns, and a key by which it is known.

use crate::transcript;
use lens_core::{Content, Exchange, Message};
use sha2::{Digest, Sha256};

/// An exchange as messages, and how many of them are the prompt's. A transcript in the manner of
/// HH-RLHF is taken apart, also where it goes on in the response; any other text is one turn.
pub fn turns(exchange: &Exchange) -> (Vec<Message>, usize) {
    of(&exchange.prompt, &exchange.response)
}

fn of(prompt: &Content, response: &Content) -> (Vec<Message>, usize) {
    let message =
        |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let mut from_transcript = false;
    let mut messages = match prompt {
        Content::Messages(messages) => messages.clone(),
        Content::Text(text) if text.trim().is_empty() => Vec::new(),
        Content::Text(text) => match transcript::parse(text) {
            Some(messages) => {
                from_transcript = true;
                messages
            }
            None => vec![message("user", text)],
        },
    };
    let mut of_prompt = messages.len();
    match response {
        Content::Messages(response) => messages.extend(response.iter().cloned()),
        Content::Text(text) if from_transcript => of_prompt -= go_on(&mut messages, text),
        Content::Text(text) => {
            // The implicit form: the whole conversation stands in the response.
            match messages.is_empty().then(|| transcript::parse(text)).flatten() {
                Some(whole) => {
                    of_prompt = whole.len().saturating_sub(1);
                    messages = whole;
                }
                None => messages.push(message("assistant", text)),
            }
        }
    }
    (messages, of_prompt)
}

/// Goes on with a transcript's response: the assistant's words, and the turns that follow them.
/// Returns how many turns of the prompt (one or none) the response goes on with.
fn go_on(messages: &mut Vec<Message>, response: &str) -> usize {
    let (words, turns) = transcript::until_turn(response);
    let mut shared = 0;
    match messages.last_mut() {
        // The prompt's last turn ends where another begins.
        _ if words.trim().is_empty() && !turns.is_empty() => {}
        // The prompt breaks off inside the assistant's turn.
        Some(last) if last.role == "assistant" => {
            let (gap, words) = match words.starts_with(char::is_whitespace) {
                // Another turn of the assistant has just begun.
                _ if last.content.ends_with("\n\n") => ("", words.trim()),
                true => ("", words.trim_end()),
                false => (" ", words.trim_end()),
            };
            last.content = format!("{}{gap}{words}", last.content);
            shared = 1;
        }
        // Turns of a transcript are trimmed, so this one is too.
        _ => messages.push(Message { role: "assistant".into(), content: words.trim().into() }),
    }
    if !turns.is_empty() {
        transcript::append(messages, turns);
    }
    shared
}

/// 128 bits that name a judgement: the two conversations that were compared. The same conversation has
/// the same bits in every shape, white space around its turns aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct JudgementKey {
    pub chosen: u128,
    pub rejected: u128,
}

impl JudgementKey {
    pub fn new(prompt: &Content, chosen: &Content, rejected: &Content) -> JudgementKey {
        let key = |response| conversation_key(prompt, response);
        JudgementKey { chosen: key(chosen), rejected: key(rejected) }
    }

    /// The same comparison with the sides swapped.
    pub fn swapped(self) -> JudgementKey {
        JudgementKey { chosen: self.rejected, rejected: self.chosen }
    }
}

/// 128 bits of the SHA-256 of the turns.
fn conversation_key(prompt: &Content, response: &Content) -> u128 {
    let mut hash = TurnHash::default();
    match (prompt, response) {
        // Most rows, without a copy of their texts.
        (Content::Text(prompt), Content::Text(response))
            if !transcript::begins(prompt) && !prompt.trim().is_empty() =>
        {
            hash.turn("user", prompt);
            hash.turn("assistant", response);
        }
        _ => {
            for turn in of(prompt, response).0 {
                hash.turn(&turn.role, &turn.content);
            }
        }
    }
    hash.finish()
}

/// A key of a prompt that is the same in every shape; `None` if it is blank.
pub(crate) fn prompt_turns_key(prompt: &Content) -> Option<u128> {
    if prompt.is_blank() {
        return None;
    }
    let mut hash = TurnHash::default();
    for turn in of(prompt, &Content::Messages(Vec::new())).0 {
        hash.turn(&turn.role, &turn.content);
    }
    Some(hash.finish())
}

#[derive(Default)]
struct TurnHash(Sha256);

impl TurnHash {
    fn turn(&mut self, role: &str, content: &str) {
        for part in [role, content.trim()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn finish(self) -> u128 {
        let digest = self.0.finalize();
        digest.iter().take(16).fold(0, |bits, &byte| bits << 8 | u128::from(byte))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    fn messages(turns: &[(&str, &str)]) -> Content {
        let message = |&(role, content): &(&str, &str)| Message {
            role: role.into(),
            content: content.into(),
        };
        Content::Messages(turns.iter().map(message).collect())
    }

    #[test]
    fn one_conversation_has_one_key_in_every_shape() {
        let key = conversation_key(&text("Why?"), &text("So."));
        for (prompt, response) in [
            (text(" Why?\n"), text("So. ")),
            (messages(&[("user", "Why?")]), text("So.")),
            (text("Why?"), messages(&[("assistant", "So.")])),
            (text("\n\nHuman: Why?\n\nAssistant:"), text(" So.")),
            (text(""), text("\n\nHuman: Why?\n\nAssistant: So.")),
            (messages(&[]), messages(&[("user", "Why?"), ("assistant", "So.")])),
        ] {
            assert_eq!(conversation_key(&prompt, &response), key, "{prompt:?} {response:?}");
        }
        assert_ne!(conversation_key(&text("Why? So."), &text("")), key);
        assert_ne!(
            conversation_key(&messages(&[("system", "s"), ("user", "Why?")]), &text("So.")),
            key
        );
    }

    #[test]
    fn a_transcript_that_parts_early_has_all_its_turns() {
        let start = text("\n\nHuman: a\n\nAssistant:");
        let exchange = Exchange { prompt: start, response: text(" b\n\nHuman: c\n\nAssistant: d") };
        let (found, of_prompt) = turns(&exchange);
        let expected =
            messages(&[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]);
        assert_eq!((Content::Messages(found), of_prompt), (expected, 1));
    }

    #[test]
    fn a_prompt_has_one_key_in_every_shape() {
        let key = prompt_turns_key(&text("Why?"));
        assert_eq!(prompt_turns_key(&messages(&[("user", " Why?")])), key);
        assert_eq!(prompt_turns_key(&text("\n\nHuman: Why?\n\nAssistant:")), key);
        assert_eq!(prompt_turns_key(&text(" ")), None);
    }
}
