//! The forms in which requests hold texts.

use crate::failure::Failure;
use lens_core::{Content, Exchange, Message};
use lens_encoder::Input;
use serde::Deserialize;

/// One text, or several.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }

    /// Texts as they are: special tokens in them are read as such.
    pub fn rendered(self) -> Vec<Input> {
        self.into_vec().into_iter().map(Input::Rendered).collect()
    }
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ChatMessage {
    role: String,
    content: MessageContent,
}

/// The content of a message: its text, whole or in OpenAI's parts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected the content of a message: a string, or parts of `type` text"
)]
enum MessageContent {
    Text(String),
    Parts(Vec<TextPart>),
}

/// A part of a message; only texts are taken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct TextPart {
    #[serde(rename = "type")]
    _kind: TextKind,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TextKind {
    Text,
}

impl From<ChatMessage> for Message {
    fn from(turn: ChatMessage) -> Message {
        let content = match turn.content {
            MessageContent::Text(text) => text,
            MessageContent::Parts(parts) => parts.into_iter().map(|p| p.text).collect(),
        };
        Message { role: turn.role, content }
    }
}

/// The messages of one chat, in their order.
pub(crate) type Chat = Vec<ChatMessage>;

/// One chat, or several.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected messages with `role` and `content`, or a list of such conversations"
)]
pub(crate) enum Chats {
    One(Chat),
    Many(Vec<Chat>),
}

impl Chats {
    /// One exchange a chat: its last message is the response, the others are the prompt.
    ///
    /// # Errors
    /// 422 for a chat without messages.
    pub fn exchanges(self) -> Result<Vec<Input>, Failure> {
        let all = match self {
            Chats::One(chat) => vec![chat],
            Chats::Many(chats) => chats,
        };
        all.into_iter().enumerate().map(|(i, chat)| exchange(i, chat)).collect()
    }
}

fn exchange(index: usize, chat: Chat) -> Result<Input, Failure> {
    let mut turns: Vec<Message> = chat.into_iter().map(Message::from).collect();
    let Some(last) = turns.pop() else {
        return Err(Failure::field("messages", format!("conversation {index} has no message")));
    };
    Ok(Input::Exchange(Exchange {
        prompt: Content::Messages(turns),
        response: Content::Messages(vec![last]),
    }))
}

/// A prompt or a response: text, or messages of a chat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string, or messages with `role` and `content`")]
pub(crate) enum TextOrChat {
    Text(String),
    Chat(Chat),
}

impl From<TextOrChat> for Content {
    fn from(side: TextOrChat) -> Content {
        match side {
            TextOrChat::Text(text) => Content::Text(text),
            TextOrChat::Chat(chat) => {
                Content::Messages(chat.into_iter().map(Message::from).collect())
            }
        }
    }
}

/// The exchange of a prompt and a response that are both text.
pub(crate) fn pair(prompt: &str, response: &str) -> Input {
    let text = |text: &str| Content::Text(text.to_owned());
    Input::Exchange(Exchange { prompt: text(prompt), response: text(response) })
}

/// The texts of a request that has either `input` or `messages`.
///
/// # Errors
/// 422 for a request that has both or neither, and for a chat without messages.
pub(crate) fn texts_or_chats(
    input: Option<Texts>,
    messages: Option<Chats>,
) -> Result<Vec<Input>, Failure> {
    match (input, messages) {
        (Some(texts), None) => Ok(texts.rendered()),
        (None, Some(chats)) => chats.exchanges(),
        _ => Err(Failure::field("input", "either `input` or `messages` is needed")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn a_chat_is_its_last_turn_in_answer_to_the_others() {
        let chats: Chats = serde_json::from_value(json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "name": "ignored"},
        ]))
        .unwrap();
        let expected = Input::Exchange(Exchange {
            prompt: Content::Messages(vec![message("user", "ab")]),
            response: Content::Messages(vec![message("assistant", "c")]),
        });
        assert_eq!(chats.exchanges().unwrap(), [expected]);
    }

    #[test]
    fn several_chats_are_told_from_one() {
        let one = json!({"role": "user", "content": "a"});
        let chats: Chats = serde_json::from_value(json!([[one], [one, one]])).unwrap();
        assert_eq!(chats.exchanges().unwrap().len(), 2);
        let empty: Chats = serde_json::from_value(json!([[one], []])).unwrap();
        assert!(empty.exchanges().unwrap_err().message.contains("conversation 1"));
    }

    #[test]
    fn what_is_no_text_is_named() {
        let error = serde_json::from_value::<Texts>(json!([1])).unwrap_err().to_string();
        assert!(error.contains("a string or a list of strings"), "{error}");
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        assert!(serde_json::from_value::<Chats>(image).is_err());
    }
}
