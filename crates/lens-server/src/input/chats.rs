//! Conversations as requests hold them.

use super::beside::unread;
use super::skim::{Count, Gather, Skimmed};
use super::{Asked, Beside, Text, bytes_of_messages};
use crate::failure::Failure;
use lens_core::{Content, Message};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Fields of a message that say something which no reward is given for: without them it would be
/// another message.
const UNREAD: [&str; 11] = [
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

/// What a conversation is expected to be.
const CHAT: &str = "messages with `role` and `content`";

/// Why a message cannot be scored.
#[derive(Debug, Clone, PartialEq)]
enum Fault {
    /// A field that is not read says something.
    Unread(&'static str),
    /// The content, or a part of it, is no text.
    Content { part: Option<usize>, found: String },
}

impl Fault {
    /// The refusal of the message at `place` of the body.
    fn failure(&self, place: &str) -> Failure {
        match self {
            Fault::Unread(field) => unread(&format!("{place}.{field}")),
            Fault::Content { part, found } => {
                let part = part.map_or_else(String::new, |i| format!("[{i}]"));
                let place = format!("{place}.content{part}");
                let message = format!(
                    "`{place}` is {found}; expected messages with `role` and `content`, text"
                );
                Failure::field(&place, message)
            }
        }
    }
}

/// Messages of conversations, one behind the other, up to the first that cannot be scored.
#[derive(Debug, Clone, Default, PartialEq)]
struct Messages {
    read: Vec<Message>,
    /// The message that cannot be scored: it would be the next.
    fault: Option<Fault>,
}

/// One conversation, or several.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chats {
    messages: Messages,
    /// Where each ends among the messages.
    ends: Vec<usize>,
    /// Whether it stands there as one, not as a list of one.
    single: bool,
}

/// One exchange a conversation: its last message is the response, the others are the prompt.
impl Asked for Chats {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        bytes_of_messages(&self.messages.read).max(self.ends.len())
    }

    fn texts(self) -> Result<Vec<Text>, Failure> {
        let place = |chat: usize| {
            if self.single { "messages".to_owned() } else { format!("messages[{chat}]") }
        };
        let mut all = self.messages.read.into_iter();
        let mut texts = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for (chat, end) in self.ends.into_iter().enumerate() {
            let mut turns: Vec<Message> = all.by_ref().take(end - start).collect();
            if let (true, Some(fault)) = (turns.len() < end - start, &self.messages.fault) {
                return Err(fault.failure(&format!("{}[{}]", place(chat), turns.len())));
            }
            start = end;
            let Some(last) = turns.pop() else {
                return Err(Failure::field(
                    "messages",
                    format!("conversation {chat} has no message"),
                ));
            };
            texts.push(Text::Exchange {
                prompt: Arc::new(Content::Messages(turns)),
                response: Content::Messages(vec![last]),
            });
        }
        Ok(texts)
    }
}

/// A prompt or a response: text, or messages of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextOrChat(TextOrMessages);

#[derive(Debug, Clone, PartialEq)]
enum TextOrMessages {
    Text(String),
    Messages(Messages),
}

impl TextOrChat {
    /// What stands at `place` of a body, whose other fields are `beside`.
    ///
    /// # Errors
    /// 422 for messages with fields that cannot be scored.
    pub fn read(self, place: &str, beside: Beside) -> Result<Content, Failure> {
        match self.0 {
            TextOrMessages::Text(text) => Ok(Content::Text(text)),
            TextOrMessages::Messages(messages) => {
                beside.refuse()?;
                match messages.fault {
                    None => Ok(Content::Messages(messages.read)),
                    Some(fault) => Err(fault.failure(&format!("{place}[{}]", messages.read.len()))),
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Chats {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ChatsVisitor)
    }
}

struct ChatsVisitor;

impl<'de> Visitor<'de> for ChatsVisitor {
    type Value = Chats;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{CHAT}, or a list of such conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Chats, A::Error> {
        let (mut messages, mut ends) = (Messages::default(), Vec::new());
        let (mut count, mut single) = (0, None);
        while let Some(read) = seq.next_element_seed(Element(&mut messages))? {
            let is_message = read.is_none();
            if *single.get_or_insert(is_message) != is_message {
                return Err(A::Error::custom("messages and conversations side by side"));
            }
            count += read.unwrap_or(1);
            if !is_message {
                ends.push(count);
            }
        }
        let single = single.unwrap_or(true);
        if single {
            ends.push(count);
        }
        Ok(Chats { messages, ends, single })
    }
}

/// Reads a message or a conversation; of a conversation it says how many messages it has.
struct Element<'a>(&'a mut Messages);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        ChatsVisitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<usize>, A::Error> {
        self.0.push(message(map)?);
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<usize>, A::Error> {
        self.0.read(seq).map(Some)
    }
}

impl<'de> Deserialize<'de> for TextOrChat {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrChatVisitor).map(TextOrChat)
    }
}

struct TextOrChatVisitor;

impl<'de> Visitor<'de> for TextOrChatVisitor {
    type Value = TextOrMessages;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a string, or {CHAT}")
    }

    fn visit_str<E>(self, text: &str) -> Result<TextOrMessages, E> {
        Ok(TextOrMessages::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TextOrMessages, A::Error> {
        let mut messages = Messages::default();
        messages.read(seq)?;
        Ok(TextOrMessages::Messages(messages))
    }
}

impl Messages {
    /// Adds the messages of a conversation, and says how many it has.
    fn read<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while let Some(One(read)) = seq.next_element()? {
            self.push(read);
            count += 1;
        }
        Ok(count)
    }

    /// Adds a message; behind one that cannot be scored none is kept.
    fn push(&mut self, read: Result<Message, Fault>) {
        match read {
            _ if self.fault.is_some() => {}
            Ok(message) => self.read.push(message),
            Err(fault) => self.fault = Some(fault),
        }
    }
}

/// One message, or why it cannot be scored.
struct One(Result<Message, Fault>);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneVisitor)
    }
}

struct OneVisitor;

impl<'de> Visitor<'de> for OneVisitor {
    type Value = One;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(CHAT)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<One, A::Error> {
        message(map).map(One)
    }
}

/// A message of a chat. Its content is text, whole or in OpenAI's parts.
fn message<'de, A: MapAccess<'de>>(mut map: A) -> Result<Result<Message, Fault>, A::Error> {
    let (mut role, mut content, mut unread) = (None, Skimmed::Null, None);
    while let Some(field) = map.next_key::<Cow<str>>()? {
        match &*field {
            "role" => role = Some(map.next_value::<String>()?),
            "content" => content = map.next_value::<Skimmed<Parts>>()?,
            other => match UNREAD.into_iter().find(|name| *name == other) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(name) => {
                    if map.next_value::<Skimmed<Count>>()?.says() {
                        unread = unread.or(Some(name));
                    }
                }
            },
        }
    }
    let role = role.ok_or_else(|| A::Error::custom(format_args!("expected {CHAT}")))?;
    if let Some(name) = unread {
        return Ok(Err(Fault::Unread(name)));
    }
    let no_text = |found: &str| Err(Fault::Content { part: None, found: found.to_owned() });
    let content = match content {
        Skimmed::Text(text) => Ok(text),
        Skimmed::List(Parts(whole)) => whole,
        Skimmed::Null => no_text("missing or null"),
        Skimmed::Scalar | Skimmed::Object(_) => no_text("no text"),
    };
    Ok(content.map(|content| Message { role, content }))
}

/// The text of all parts of a content.
#[derive(Debug)]
struct Parts(Result<String, Fault>);

impl Default for Parts {
    fn default() -> Self {
        Parts(Ok(String::new()))
    }
}

impl Gather for Parts {
    fn list<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(part) = seq.next_element::<Skimmed<Part>>()? {
            if let Ok(whole) = &mut self.0 {
                match part.text() {
                    Ok(text) => whole.push_str(&text),
                    Err(found) => self.0 = Err(Fault::Content { part: Some(index), found }),
                }
            }
            index += 1;
        }
        Ok(())
    }
}

/// A part of a content.
#[derive(Debug, Default)]
struct Part {
    kind: Option<String>,
    text: Option<String>,
}

impl Gather for Part {
    fn object<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Cow<str>>()? {
            let value = map.next_value::<Skimmed<Count>>()?;
            let value = if let Skimmed::Text(text) = value { Some(text) } else { None };
            match &*field {
                "type" => self.kind = value,
                "text" => self.text = value,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Skimmed<Part> {
    /// Its text, or what it is instead.
    fn text(self) -> Result<String, String> {
        let Skimmed::Object(part) = self else { return Err("no part of type text".to_owned()) };
        match (part.kind, part.text) {
            (Some(kind), Some(text)) if kind == "text" => Ok(text),
            (Some(kind), _) => Err(format!("of type {kind:?}")),
            _ => Err("no part of type text".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::input::{TextsOrChats, WithBeside};
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Debug, Deserialize)]
    struct Body {
        messages: Chats,
    }

    fn read(body: Value) -> Result<Vec<Text>, Failure> {
        let read: WithBeside<Body> = serde_json::from_str(&body.to_string()).unwrap();
        TextsOrChats::of(None, Some(read.body.messages), read.beside)?.texts()
    }

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn a_chat_is_its_last_turn_in_answer_to_the_others() {
        let chat = json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "name": "ignored"},
        ]);
        let expected = Text::Exchange {
            prompt: Arc::new(Content::Messages(vec![message("user", "ab")])),
            response: Content::Messages(vec![message("assistant", "c")]),
        };
        assert_eq!(read(json!({"messages": chat})).unwrap(), std::slice::from_ref(&expected));
        let two = read(json!({"messages": [chat, chat]})).unwrap();
        assert_eq!(two, [expected.clone(), expected]);
    }

    #[test]
    fn several_chats_are_told_from_one() {
        let one = json!({"role": "user", "content": "a"});
        assert_eq!(read(json!({"messages": [[one], [one, one]]})).unwrap().len(), 2);
        let refused = read(json!({"messages": [[one], []]})).unwrap_err();
        assert!(refused.message.contains("conversation 1"));
        assert!(read(json!({"messages": []})).unwrap_err().message.contains("conversation 0"));
        for bad in [json!([one, [one]]), json!([[[one]]]), json!([7]), json!("a"), json!([{}])] {
            let error = serde_json::from_value::<Chats>(bad.clone()).unwrap_err().to_string();
            assert!(error.contains("messages"), "{bad}: {error}");
        }
    }

    #[test]
    fn messages_take_no_more_memory_than_eight_times_their_json() {
        for message in [r#"{"role":"","content":""},"#, r#"{"role":"a","content":"b"},"#] {
            let json = format!("[{}{}]", message.repeat(50_000), message.trim_end_matches(','));
            let chats: Chats = serde_json::from_str(&json).unwrap();
            // The least piece of memory that the system hands out.
            let heap = if message.contains('a') { 2 * 32 } else { 0 };
            let list = chats.messages.read.capacity() * size_of::<Message>() / 2 * 3;
            let held = list + heap * chats.messages.read.len();
            assert!(held <= crate::input::PARSED * json.len(), "{held} of {}", json.len());
        }
        // Each message counts with what the template writes around it.
        let chats: Chats = serde_json::from_str(r#"[{"role":"ab","content":""}]"#).unwrap();
        assert_eq!((chats.count(), chats.bytes()), (1, 26));
        // What cannot be scored is not kept.
        let json = format!("[{}{{\"role\":\"\"}}]", "{\"role\":\"\"},".repeat(1000));
        let chats: Chats = serde_json::from_str(&json).unwrap();
        assert!(chats.messages.read.is_empty() && chats.messages.fault.is_some());
    }

    #[test]
    fn what_is_no_text_is_named() {
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        let refused = read(json!({"messages": image})).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("messages[0].content[0]"));
        assert!(refused.message.contains("image_url"), "{}", refused.message);
    }

    #[test]
    fn what_a_message_says_beside_its_text_is_refused_by_name() {
        let read = |fields: Value, beside: Value| {
            let mut message = json!({"role": "assistant", "content": "It is raining."});
            message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let mut body = json!({"messages": [[message]]});
            body.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
            read(body)
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
            (json!({"content": {"text": "a"}}), json!({}), "messages[0][0].content"),
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
        let side = json!([{"role": "user", "content": "a", "tool_calls": call}]);
        let side: TextOrChat = serde_json::from_value(side).unwrap();
        let refused = side.read("responses[2]", Beside::default()).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("responses[2][0].tool_calls"));
    }
}
