//! Texts that went through a template before they came here, such as what a trainer decodes: told
//! by how they begin, and brought to the form in which the template itself would have written them.
//!
//! A decoded text ends at the token with which generation ended, or after the white space that the
//! template writes behind it; padding may stand on either side; BOS may be there or not. All of
//! these are one conversation, and have to be the same tokens.

use super::renderer::Renderer;
use crate::tokenizer::TextTokenizer;
use lens_core::Message;

/// Contents of the conversations whose rendering shows what a template writes around them. No
/// template changes or repeats such a word.
const SYSTEM: &str = "qxsystemqx";
const QUESTION: &str = "qxquestionqx";
const ANSWER: &str = "qxanswerqx";
const AGAIN: &str = "qxagainqx";

/// How turns begin in the templates of known families: a model without a template of its own may know
/// their tokens, so that texts may have gone through one of them.
const KNOWN: [&str; 10] = [
    "<|im_start|>system",
    "<|im_start|>user",
    "<|im_start|>assistant",
    "<start_of_turn>user",
    "<start_of_turn>model",
    "<|start_header_id|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "[INST]",
];

/// What a template and a tokenizer put around texts.
#[derive(Debug, Default)]
pub(crate) struct RenderedForm {
    /// Tokens that may stand before a text: padding, BOS, and ends that serve as padding.
    before: Vec<String>,
    /// Tokens that may stand after a text: ends and padding.
    after: Vec<String>,
    /// Those of them that only fill lists up to one length.
    padding: Vec<String>,
    /// What the chat template writes; `None` without one.
    chat: Option<ChatForm>,
    /// Without a chat template: the known openings that hold a special token of the model.
    known: Vec<Opening>,
}

/// What a chat template writes around the contents of messages.
#[derive(Debug)]
struct ChatForm {
    /// What stands before the first turn: BOS or nothing.
    start: String,
    /// How turns begin, the assistant's among them.
    openings: Vec<Opening>,
    /// How the assistant's turn begins, where that is known.
    assistant: Option<Opening>,
    /// What stands after the assistant's last words.
    tail: String,
    /// Whether white space around contents is dropped.
    trims: bool,
    /// The special tokens that the template writes.
    tokens: Vec<String>,
}

/// The mark with which a turn begins, and the white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opening {
    lead: String,
    mark: String,
    gap: String,
}

/// A text in the template's own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Canonical {
    pub text: String,
    /// Bytes that were taken away from its beginning.
    pub removed: usize,
    /// Bytes that were put there instead.
    pub added: usize,
}

impl Opening {
    /// The first line of what stands before a content; `None` where nothing does.
    fn of(before: &str) -> Option<Self> {
        let rest = before.trim_start();
        let lead = &before[..before.len() - rest.len()];
        let line = rest.split('\n').next().unwrap_or_default();
        let mark = line.trim_end();
        let gap = &rest[mark.len()..];
        let gap = &gap[..gap.len() - gap.trim_start().len()];
        (!mark.is_empty()).then(|| Self { lead: lead.into(), mark: mark.into(), gap: gap.into() })
    }

    /// Whether a text begins with the mark, and the mark does not go on in another word.
    fn begins(&self, text: &str) -> bool {
        let word = |c: char| c.is_alphanumeric();
        text.strip_prefix(&self.mark).is_some_and(|rest| {
            !(self.mark.ends_with(word) && rest.starts_with(|c: char| word(c) || c == '_'))
        })
    }
}

impl RenderedForm {
    /// The form of texts that went through `chat`, or through no chat template.
    pub fn new(chat: Option<&Renderer>, tokenizer: &TextTokenizer) -> Self {
        let padding = tokenizer.names_of_padding();
        let after = [tokenizer.names_after(), padding.clone()].concat();
        let before = [tokenizer.names_before(), after.clone()].concat();
        let is_special = |mark: &&str| tokenizer.special_names_in(mark).next().is_some();
        let known = match chat {
            Some(_) => Vec::new(),
            None => KNOWN.iter().copied().filter(is_special).filter_map(Opening::of).collect(),
        };
        let mut form = Self { before, after, padding, chat: None, known };
        form.chat = chat.and_then(|jinja| form.probe(jinja, tokenizer));
        form
    }

    /// Finds out what a template writes around contents; `None` for one that repeats or drops them.
    fn probe(&self, jinja: &Renderer, tokenizer: &TextTokenizer) -> Option<ChatForm> {
        let render = |turns: &[(&str, &str)]| {
            let message = |(role, content): &(&str, &str)| Message {
                role: (*role).to_owned(),
                content: (*content).to_owned(),
            };
            let messages: Vec<Message> = turns.iter().map(message).collect();
            jinja.render(&messages, false, &tokenizer.roles).ok()
        };
        let (user, assistant) = (("user", QUESTION), ("assistant", ANSWER));
        let whole = render(&[user, assistant])?;
        let (before, rest) = split_once_only(&whole, QUESTION)?;
        let (between, tail) = split_once_only(rest, ANSWER)?;
        let head = self.without_start(before);
        let start = before[..before.len() - head.len()].trim_end().to_owned();

        let mut openings: Vec<Opening> = Opening::of(head).into_iter().collect();
        if let Some(text) = render(&[("system", SYSTEM), user, assistant])
            && let Some((before, _)) = split_once_only(&text, SYSTEM)
        {
            openings.extend(Opening::of(self.without_start(before)));
        }
        // Of a later turn, before which no system prompt stands that the template adds itself.
        if let Some(text) = render(&[user, assistant, ("user", AGAIN), assistant])
            && let Some((before, _)) = split_once_only(&text, AGAIN)
            && let Some(at) = before.rfind(ANSWER)
            && let Some(again) = before[at + ANSWER.len()..].strip_prefix(tail)
        {
            openings.extend(Opening::of(self.without_start(again)));
        }
        let assistant = render(&[user]).and_then(|text| {
            let (_, after) = split_once_only(&text, QUESTION)?;
            Opening::of(between.strip_prefix(after)?)
        });
        openings.extend(assistant.clone());
        openings.dedup();

        let spaced = format!("{ANSWER} \n");
        let trims = render(&[user, ("assistant", &spaced)]).is_some_and(|text| text == whole);
        let mut tokens: Vec<String> =
            tokenizer.special_names_in(&whole).map(str::to_owned).collect();
        for opening in &openings {
            tokens.extend(tokenizer.special_names_in(&opening.mark).map(str::to_owned));
        }
        tokens.sort_unstable();
        tokens.dedup();
        let tail = tail.to_owned();
        Some(ChatForm { start, openings, assistant, tail, trims, tokens })
    }

    /// Whether a text went through the chat template already: it begins as the template begins a
    /// conversation or a turn, BOS or not, and has one of the special tokens that the template writes.
    /// A text that only names such a token is none. For a model without a template, the openings of
    /// known families count whose tokens it has.
    pub fn is_rendered(&self, text: &str) -> bool {
        let rest = self.without_start(text);
        let Some(chat) = &self.chat else {
            return self.known.iter().any(|opening| opening.begins(rest.trim_start()));
        };
        let writes = |text: &str| chat.tokens.iter().any(|token| text.contains(token));
        if chat.begins(rest.trim_start()) {
            return writes(text);
        }
        // A system prompt without a mark of its own, as some templates write it.
        let bare = self.without_padding_before(text).trim_start();
        let started = !chat.start.is_empty() && bare.starts_with(&chat.start);
        started && chat.openings.iter().any(|o| writes(&o.mark) && rest.contains(&o.mark))
    }

    /// A text that went through no chat template, decoded with the tokens around it: without them.
    pub fn unframed(&self, text: &str) -> Canonical {
        let rest = self.without_start(text);
        let kept = self.without_end(rest, &[]).unwrap_or(rest);
        Canonical { text: kept.to_owned(), removed: text.len() - rest.len(), added: 0 }
    }

    /// A text that went through the template, or that a model wrote after one that did, in the form
    /// in which the template writes the whole conversation: without padding, with the template's BOS
    /// and its own end. A text that the template cannot have begun loses its padding only.
    pub fn canonical(&self, text: &str) -> Canonical {
        let bare = self.without_padding_before(text);
        let unpadded = self.without_padding_after(bare);
        let only_unpadded =
            || Canonical { text: unpadded.to_owned(), removed: text.len() - bare.len(), added: 0 };
        let Some(chat) = &self.chat else { return only_unpadded() };
        let rest = self.without_start(text);
        let (head, body) = match chat.opening(rest.trim_start()) {
            Some(opening) => (format!("{}{}", chat.start, opening.lead), rest.trim_start()),
            None if self.is_rendered(text) => (chat.start.clone(), rest),
            // Its beginning was cut off.
            None if chat.ends(unpadded.trim_end()) => (String::new(), bare),
            None => return only_unpadded(),
        };
        let removed = text.len() - body.len();
        let mut kept = self.without_end(body, &[chat.tail.trim()]).unwrap_or(body);
        let trimmed = kept.trim_end();
        let open = chat.assistant.as_ref().filter(|a| trimmed.ends_with(&a.mark));
        let mut gap = "";
        if let Some(assistant) = open {
            // Nothing was answered.
            (kept, gap) = (trimmed, &assistant.gap);
        } else if chat.trims {
            kept = trimmed;
        } else {
            let lead = &chat.tail[..chat.tail.len() - chat.tail.trim_start().len()];
            kept = kept.strip_suffix(lead).unwrap_or(kept);
        }
        let added = head.len();
        Canonical { text: format!("{head}{kept}{gap}{}", chat.tail), removed, added }
    }

    /// A text without the tokens before it, and without the white space before and between them.
    fn without_start<'a>(&self, text: &'a str) -> &'a str {
        let opens = |text: &str| self.chat.as_ref().is_some_and(|chat| chat.begins(text));
        let mut rest = text;
        loop {
            let next = rest.trim_start();
            if opens(next) {
                return rest;
            }
            match self.before.iter().find_map(|name| next.strip_prefix(name.as_str())) {
                Some(after) => rest = after,
                None => return rest,
            }
        }
    }

    /// A text without the tokens after it, without the white space after and between them; `None`
    /// where there are none.
    fn without_end<'a>(&self, text: &'a str, others: &[&str]) -> Option<&'a str> {
        let names = || self.after.iter().map(String::as_str).chain(others.iter().copied());
        let mut kept = None;
        let mut rest = text;
        loop {
            let trimmed = rest.trim_end();
            let mut names = names().filter(|name| !name.is_empty());
            match names.find_map(|name| trimmed.strip_suffix(name)) {
                Some(before) => (kept, rest) = (Some(before), before),
                None => return kept,
            }
        }
    }

    fn without_padding_before<'a>(&self, text: &'a str) -> &'a str {
        let mut rest = text;
        let next = |text: &'a str| {
            self.padding.iter().find_map(|name| text.trim_start().strip_prefix(name.as_str()))
        };
        while let Some(after) = next(rest) {
            rest = after;
        }
        rest
    }

    fn without_padding_after<'a>(&self, text: &'a str) -> &'a str {
        let mut rest = text;
        let next = |text: &'a str| {
            self.padding.iter().find_map(|name| text.trim_end().strip_suffix(name.as_str()))
        };
        while let Some(before) = next(rest) {
            rest = before;
        }
        rest
    }
}

impl ChatForm {
    /// The opening with which a text begins.
    fn opening(&self, text: &str) -> Option<&Opening> {
        self.openings.iter().find(|opening| opening.begins(text))
    }

    fn begins(&self, text: &str) -> bool {
        self.opening(text).is_some()
    }

    /// Whether a text ends as the template ends a conversation, and with a special token.
    fn ends(&self, text: &str) -> bool {
        let tail = self.tail.trim();
        self.tokens.iter().any(|token| tail.contains(token)) && text.ends_with(tail)
    }
}

/// What stands before and after a word that occurs once.
fn split_once_only<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(word).filter(|(_, after)| !after.contains(word))
}
