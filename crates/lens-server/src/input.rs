//! The forms in which requests hold texts.

use crate::failure::Failure;
use lens_core::{Content, Exchange, Message};
use lens_encoder::Input;
use serde::Deserialize;
use serde_json::{Map, Value};

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

/// Fields of a message that say something which no reward is given for: without them it would be
/// another message.
const UNREAD_IN_MESSAGES: [&str; 11] = [
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "thinking_blocks",
    "refusal",
    "images",
    "audio",
    "videos",
    "documents",
];

/// Fields beside messages that change how the template writes them.
const UNREAD_BESIDE_MESSAGES: [&str; 5] =
    ["tools", "functions", "documents", "chat_template", "chat_template_kwargs"];

/// The fields of a body that no route reads.
pub(crate) type Beside = Map<String, Value>;

/// Refuses a field of these that says something: null, and what is empty, says nothing.
fn refuse_unread(fields: &Beside, unread: &[&str], place: &str) -> Result<(), Failure> {
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    match unread.iter().find(|name| fields.get(**name).is_some_and(says)) {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "`{place}{name}` cannot be scored: a reward is one of texts, and without it the \
                 conversation would be another one"
            );
            Err(Failure::field(&format!("{place}{name}"), message))
        }
    }
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ChatMessage {
    role: String,
    /// `content`, and what else it has.
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl ChatMessage {
    /// The message at `place` of a body. Its content is text, whole or in OpenAI's parts.
    ///
    /// # Errors
    /// 422, naming the field, for a message that says something else than text.
    fn read(mut self, place: &str) -> Result<Message, Failure> {
        refuse_unread(&self.fields, &UNREAD_IN_MESSAGES, &format!("{place}."))?;
        let place = format!("{place}.content");
        let unreadable = |place: &str, found: &str| {
            let message =
                format!("`{place}` is {found}; expected messages with `role` and `content`, text");
            Failure::field(place, message)
        };
        let content = match self.fields.remove("content") {
            Some(Value::String(text)) => text,
            Some(Value::Array(parts)) => {
                let part = |(i, part): (usize, &Value)| match (&part["type"], &part["text"]) {
                    (Value::String(kind), Value::String(text)) if kind == "text" => {
                        Ok(text.clone())
                    }
                    (Value::String(kind), _) => {
                        Err(unreadable(&format!("{place}[{i}]"), &format!("of type {kind:?}")))
                    }
                    _ => Err(unreadable(&format!("{place}[{i}]"), "no part of type text")),
                };
                parts.iter().enumerate().map(part).collect::<Result<String, Failure>>()?
            }
            None | Some(Value::Null) => return Err(unreadable(&place, "missing or null")),
            Some(_) => return Err(unreadable(&place, "no text")),
        };
        Ok(Message { role: self.role, content })
    }
}

/// Reads the messages of the chat at `place`.
fn read_chat(chat: Chat, place: &str) -> Result<Vec<Message>, Failure> {
    let one = |(i, message): (usize, ChatMessage)| message.read(&format!("{place}[{i}]"));
    chat.into_iter().enumerate().map(one).collect()
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
    /// One exchange a chat: its last message is the response, the others are the prompt. `beside` are
    /// the other fields of the body.
    ///
    /// # Errors
    /// 422 for a chat without messages, and for fields that cannot be scored.
    pub fn exchanges(self, beside: &Beside) -> Result<Vec<Input>, Failure> {
        refuse_unread(beside, &UNREAD_BESIDE_MESSAGES, "")?;
        match self {
            Chats::One(chat) => Ok(vec![exchange(0, chat, "messages")?]),
            Chats::Many(chats) => {
                let one = |(i, chat)| exchange(i, chat, &format!("messages[{i}]"));
                chats.into_iter().enumerate().map(one).collect()
            }
        }
    }
}

fn exchange(index: usize, chat: Chat, place: &str) -> Result<Input, Failure> {
    let mut turns = read_chat(chat, place)?;
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

impl TextOrChat {
    /// What stands at `place` of a body, whose other fields are `beside`.
    ///
    /// # Errors
    /// 422 for messages with fields that cannot be scored.
    pub fn read(self, place: &str, beside: &Beside) -> Result<Content, Failure> {
        match self {
            TextOrChat::Text(text) => Ok(Content::Text(text)),
            TextOrChat::Chat(chat) => {
                refuse_unread(beside, &UNREAD_BESIDE_MESSAGES, "")?;
                Ok(Content::Messages(read_chat(chat, place)?))
            }
        }
    }
}

/// The exchange of a prompt and a response that are both text.
pub(crate) fn pair(prompt: &str, response: &str) -> Input {
    let text = |text: &str| Content::Text(text.to_owned());
    Input::Exchange(Exchange { prompt: text(prompt), response: text(response) })
}

/// The texts of a request that has either `input` or `messages`; `beside` are its other fields.
///
/// # Errors
/// 422 for a request that has both or neither; those of [`Chats::exchanges`].
pub(crate) fn texts_or_chats(
    input: Option<Texts>,
    messages: Option<Chats>,
    beside: &Beside,
) -> Result<Vec<Input>, Failure> {
    match (input, messages) {
        (Some(texts), None) => Ok(texts.rendered()),
        (None, Some(chats)) => chats.exchanges(beside),
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
        assert_eq!(chats.exchanges(&Beside::new()).unwrap(), [expected]);
    }

    #[test]
    fn several_chats_are_told_from_one() {
        let one = json!({"role": "user", "content": "a"});
        let chats: Chats = serde_json::from_value(json!([[one], [one, one]])).unwrap();
        assert_eq!(chats.exchanges(&Beside::new()).unwrap().len(), 2);
        let empty: Chats = serde_json::from_value(json!([[one], []])).unwrap();
        let refused = empty.exchanges(&Beside::new()).unwrap_err();
        assert!(refused.message.contains("conversation 1"));
    }

    #[test]
    fn what_is_no_text_is_named() {
        let error = serde_json::from_value::<Texts>(json!([1])).unwrap_err().to_string();
        assert!(error.contains("a string or a list of strings"), "{error}");
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        let image: Chats = serde_json::from_value(image).unwrap();
        let refused = image.exchanges(&Beside::new()).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("messages[0].content[0]"));
        assert!(refused.message.contains("image_url"), "{}", refused.message);
    }

    #[test]
    fn what_a_message_says_beside_its_text_is_refused_by_name() {
        let read = |fields: Value, beside: Value| {
            let mut message = json!({"role": "assistant", "content": "It is raining."});
            message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let chats: Chats = serde_json::from_value(json!([[message]])).unwrap();
            chats.exchanges(beside.as_object().unwrap())
        };
        let call = json!([{"id": "1", "type": "function", "function": {"name": "weather"}}]);
        for (fields, beside, named) in [
            (json!({"content": null, "tool_calls": call}), json!({}), "messages[0][0].tool_calls"),
            (json!({"tool_calls": call}), json!({}), "messages[0][0].tool_calls"),
            (json!({"function_call": {"name": "x"}}), json!({}), "messages[0][0].function_call"),
            (json!({"reasoning_content": "Hm."}), json!({}), "messages[0][0].reasoning_content"),
            (json!({"thinking": "Hm."}), json!({}), "messages[0][0].thinking"),
            (json!({"refusal": "I will not."}), json!({}), "messages[0][0].refusal"),
            (json!({"content": null}), json!({}), "messages[0][0].content"),
            (json!({"content": 7}), json!({}), "messages[0][0].content"),
            (json!({"content": [7]}), json!({}), "messages[0][0].content[0]"),
            (json!({}), json!({"tools": call}), "tools"),
            (json!({}), json!({"documents": [{"text": "a"}]}), "documents"),
            (json!({}), json!({"chat_template_kwargs": {"a": 1}}), "chat_template_kwargs"),
        ] {
            let refused = read(fields.clone(), beside).unwrap_err();
            assert_eq!(refused.param.as_deref(), Some(named), "{fields}");
            assert!(refused.message.contains(named), "{}", refused.message);
        }
        let nothing = json!({"name": null, "tool_calls": [], "refusal": null, "reasoning": ""});
        let beside = json!({"tools": null, "documents": [], "user": "me"});
        assert_eq!(read(nothing, beside).unwrap(), read(json!({}), json!({})).unwrap());
        let side: TextOrChat =
            serde_json::from_value(json!([{"role": "user", "content": "a", "tool_calls": call}]))
                .unwrap();
        let refused = side.read("responses[2]", &Beside::new()).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("responses[2][0].tool_calls"));
    }
}
