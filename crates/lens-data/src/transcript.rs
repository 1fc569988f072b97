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
    let whole = format!("\n\n{}", text.trim_start());
    let mut messages = Vec::new();
    add(&mut messages, &whole);
    if messages.last().is_some_and(|m| m.role == "assistant" && m.content.is_empty()) {
        messages.pop();
    }
    Some(messages)
}

/// Whether the text begins as a transcript does.
pub fn begins(text: &str) -> bool {
    text.trim_start().starts_with(HUMAN.trim_start())
}

/// Goes on with a transcript, of which `turns` have been parsed, by the text of the response to it; it
/// may have more turns in it. Returns all turns, and how many of them are the prompt's: an answer that
/// was begun there belongs to the response.
pub fn go_on(mut turns: Vec<Message>, response: &str) -> (Vec<Message>, usize) {
    let end = [HUMAN, ASSISTANT].iter().filter_map(|mark| response.find(mark)).min();
    let (answer, rest) = response.split_at(end.unwrap_or(response.len()));
    let mut of_prompt = turns.len();
    match turns.last_mut() {
        // The prompt breaks off inside the assistant's turn: the response goes on.
        Some(last) if last.role == "assistant" => {
            let gap = if answer.starts_with(char::is_whitespace) { "" } else { " " };
            last.content = format!("{}{gap}{}", last.content, answer.trim_end());
            of_prompt -= 1;
        }
        _ => turns.push(Message { role: "assistant".into(), content: answer.trim().into() }),
    }
    add(&mut turns, rest);
    (turns, of_prompt)
}

/// Adds the turns of `text`, which begins with the mark of one.
fn add(turns: &mut Vec<Message>, text: &str) {
    let mut rest = text;
    while let Some((role, body)) = strip_role(rest) {
        let end = [HUMAN, ASSISTANT].iter().filter_map(|m| body.find(m)).min();
        let (content, after) = body.split_at(end.unwrap_or(body.len()));
        let content = content.trim();
        match turns.last_mut() {
            Some(last) if last.role == role => {
                last.content = format!("{}\n\n{content}", last.content);
            }
            _ => turns.push(Message { role: role.into(), content: content.into() }),
        }
        rest = after;
    }
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
