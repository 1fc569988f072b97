//! Transcripts in the manner of HH-RLHF: `"\n\nHuman: ..\n\nAssistant: .."`.

use lens_core::Message;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// Turns of a transcript, or `None` if the text is none. Turns of one role in a row are joined; an
/// empty last turn of the assistant (where the response goes) is left out.
pub fn parse(text: &str) -> Option<Vec<Message>> {
    if !begins(text) {
        return None;
    }
    let mut messages: Vec<Message> = Vec::new();
    append(&mut messages, &format!("\n\n{}", text.trim_start()));
    Some(messages)
}

/// Whether the text begins as a transcript does.
pub fn begins(text: &str) -> bool {
    text.trim_start().starts_with(HUMAN.trim_start())
}

/// Goes on with the turns of `text`, which begins with the mark of one.
pub fn append(messages: &mut Vec<Message>, text: &str) {
    let mut rest = text;
    while let Some((role, body)) = strip_role(rest) {
        let (content, after) = until_turn(body);
        let content = content.trim();
        match messages.last_mut() {
            Some(last) if last.role == role => {
                last.content = format!("{}\n\n{content}", last.content);
            }
            _ => messages.push(Message { role: role.into(), content: content.into() }),
        }
        rest = after;
    }
    if messages.last().is_some_and(|m| m.role == "assistant" && m.content.is_empty()) {
        messages.pop();
    }
}

/// A text up to the mark of a turn, and from there on.
pub fn until_turn(text: &str) -> (&str, &str) {
    let mark = [HUMAN, ASSISTANT].iter().filter_map(|mark| text.find(mark)).min();
    text.split_at(mark.unwrap_or(text.len()))
}

fn strip_role(text: &str) -> Option<(&'static str, &str)> {
    let user = text.strip_prefix(HUMAN).map(|body| ("user", body));
    user.or_else(|| text.strip_prefix(ASSISTANT).map(|body| ("assistant", body)))
}

/// Messages as a transcript; what the system says stands first and bare.
pub fn write(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages {
        match message.role.as_str() {
            "system" if text.is_empty() => text.push_str(&message.content),
            role => {
                text.push_str(&opening(role));
                text.push(' ');
                text.push_str(&message.content);
            }
        }
    }
    text
}

/// The mark before a turn.
fn opening(role: &str) -> String {
    match role {
        "user" => HUMAN.into(),
        "assistant" => ASSISTANT.into(),
        other => {
            let mut chars = other.chars();
            let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            format!("\n\n{first}{}:", chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn a_prompt_of_hh_is_parsed() {
        let turns =
            parse("\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A\n\nB\n\nAssistant:").unwrap();
        let want = [message("user", "Hi"), message("assistant", "Yes?"), message("user", "A\n\nB")];
        assert_eq!(turns, want);
        assert_eq!(write(&turns), "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A\n\nB");
    }

    #[test]
    fn other_text_is_no_transcript() {
        assert!(parse("Say \n\nHuman: x").is_none());
        assert!(parse("").is_none());
        assert_eq!(parse("Human: a\n\nHuman: b").unwrap(), [message("user", "a\n\nb")]);
    }

    #[test]
    fn roles_are_written() {
        let turns = [message("system", "Be brief."), message("user", "x"), message("tool", "1")];
        assert_eq!(write(&turns), "Be brief.\n\nHuman: x\n\nTool: 1");
    }
}
