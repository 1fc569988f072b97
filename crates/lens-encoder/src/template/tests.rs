#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod rendered;

use super::*;
use crate::tokenizer::TokenRoles;

/// Shortened from the templates these families ship, with the parts that decide white space.
const GEMMA: &str = r#"{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"#;

const QWEN: &str = r#"{%- if tools %}
    {{- '<|im_start|>system\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"#;

const LLAMA: &str = r#"{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

fn text(prompt: &str, response: &str) -> Exchange {
    Exchange { prompt: Content::Text(prompt.into()), response: Content::Text(response.into()) }
}

fn turn(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into() }
}

fn resolved(source: &str) -> Template {
    let choice = TemplateChoice::Chat;
    Template::resolve(&choice, Some(source), SpecialTokens::Text, Path::new("m")).unwrap()
}

fn roles() -> TokenRoles {
    let mut roles = TokenRoles::default();
    roles.set("bos", "<bos>");
    roles.set("eos", "<eos>");
    roles
}

fn chat(source: &str, exchange: &Exchange) -> String {
    let (messages, _) = to_messages(exchange);
    resolved(source).jinja.unwrap().render(&messages, false, &roles()).unwrap()
}

#[test]
fn gemma_renders() {
    let got =
        chat(GEMMA, &text("\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A\n\nAssistant:", " B "));
    let want = "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n\
        <start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n";
    assert_eq!(got, want);
    let system = Exchange {
        prompt: Content::Messages(vec![turn("system", "Be kind."), turn("user", "Hi")]),
        response: Content::Text("Hello".into()),
    };
    let want = "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n\
        <start_of_turn>model\nHello<end_of_turn>\n";
    assert_eq!(chat(GEMMA, &system), want);
}

#[test]
fn qwen_renders() {
    let want = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful \
        assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n";
    assert_eq!(chat(QWEN, &text("Hi", "Hello")), want);
}

#[test]
fn llama_renders() {
    let want = "<bos><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n\
        <|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
        <|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>";
    assert_eq!(chat(LLAMA, &text("Hi", "Hello")), want);
}

#[test]
fn roles_that_do_not_alternate_are_refused() {
    let exchange = Exchange {
        prompt: Content::Messages(vec![turn("user", "a"), turn("user", "b")]),
        response: Content::Text("c".into()),
    };
    let (messages, _) = to_messages(&exchange);
    let error = resolved(GEMMA).jinja.unwrap().render(&messages, false, &roles()).unwrap_err();
    assert!(matches!(error, EncoderError::Template { .. }));
}

#[test]
fn plain_texts_are_joined_by_what_the_seam_needs() {
    let join = |p, r| plain(&text(p, r));
    assert_eq!(join("\n\nHuman: Hi\n\nAssistant:", "Yes").0, "\n\nHuman: Hi\n\nAssistant: Yes");
    assert_eq!(join("\n\nHuman: Hi\n\nAssistant:", " Yes").0, "\n\nHuman: Hi\n\nAssistant: Yes");
    assert_eq!(join("Hi\n", "Yes").0, "Hi\nYes");
    assert_eq!(join("Hi", "Yes"), ("Hi\n\nYes".into(), 2));
    assert_eq!(join("", "Yes"), ("Yes".into(), 0));
}

#[test]
fn plain_messages_are_a_transcript() {
    let exchange = Exchange {
        prompt: Content::Messages(vec![turn("system", "S"), turn("user", "Hi")]),
        response: Content::Messages(vec![turn("assistant", "Yes")]),
    };
    assert_eq!(plain(&exchange), ("S\n\nHuman: Hi\n\nAssistant: Yes".into(), 24));
    let mixed = Exchange { response: Content::Text("Yes".into()), ..exchange };
    assert_eq!(plain(&mixed).0, "S\n\nHuman: Hi\n\nAssistant: Yes");
}

#[test]
fn the_implicit_form_is_taken_apart() {
    let (messages, of_prompt) = to_messages(&text("", "\n\nHuman: Hi\n\nAssistant: Yes"));
    assert_eq!(messages, [turn("user", "Hi"), turn("assistant", "Yes")]);
    assert_eq!(of_prompt, 1);
    let (messages, of_prompt) = to_messages(&text("\n\nHuman: Hi\n\nAssistant: Well,", "yes"));
    assert_eq!(messages, [turn("user", "Hi"), turn("assistant", "Well, yes")]);
    assert_eq!(of_prompt, 1);
}

#[test]
fn a_transcript_that_parts_before_its_last_turn_is_taken_apart() {
    let prompt = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A tyre is flat.\n\nAssistant:";
    let response = " Mend it.\n\nHuman: And then?\n\nAssistant: Ride on.\n\nAssistant: Slowly.";
    let turns = [
        turn("user", "Hi"),
        turn("assistant", "Yes?"),
        turn("user", "A tyre is flat."),
        turn("assistant", "Mend it."),
        turn("user", "And then?"),
        turn("assistant", "Ride on.\n\nSlowly."),
    ];
    assert_eq!(to_messages(&text(prompt, response)), (turns.to_vec(), 3));
    // Wherever the transcript is cut, it is the same conversation.
    let whole = format!("{prompt}{response}");
    for (at, mark) in whole.match_indices("\n\nAssistant:") {
        let (prompt, response) = whole.split_at(at + mark.len());
        assert_eq!(to_messages(&text(prompt, response)).0, turns, "{prompt:?} | {response:?}");
    }
    assert_eq!(to_messages(&text("", &whole)).0, turns);
    let (messages, of_prompt) = to_messages(&text("\n\nHuman: Hi", "\n\nAssistant: Yes?"));
    assert_eq!((messages.as_slice(), of_prompt), (&turns[..2], 1));
    let cut_short = text("\n\nHuman: Hi\n\nAssistant: Well,", "yes.\n\nHuman: Good.");
    let turns = [turn("user", "Hi"), turn("assistant", "Well, yes."), turn("user", "Good.")];
    assert_eq!(to_messages(&cut_short), (turns.to_vec(), 1));
    // An answer to what is no transcript may quote one.
    let quoted = text("What is a transcript?", "Such as:\n\nHuman: Hi\n\nAssistant: Yes?");
    assert_eq!(to_messages(&quoted).0.len(), 2);
    assert_eq!(plain(&text(prompt, response)).0, whole);
}

#[test]
fn choices_resolve() {
    let model = Path::new("m");
    let text = SpecialTokens::Text;
    let name = |choice, own| Template::resolve(&choice, own, text, model).map(|t| t.name);
    assert_eq!(name(TemplateChoice::Auto, None).unwrap(), "plain");
    assert_eq!(name(TemplateChoice::Auto, Some(QWEN)).unwrap(), "chat");
    assert_eq!(name(TemplateChoice::Plain, Some(QWEN)).unwrap(), "plain");
    assert_eq!(name(TemplateChoice::Custom("x".into()), None).unwrap(), "custom");
    assert!(matches!(name(TemplateChoice::Chat, None), Err(EncoderError::NoChatTemplate { .. })));
    let sha = |choice, own, special| {
        Template::resolve(&choice, Some(own), special, model).unwrap().sha256
    };
    let (chat, plain) = (TemplateChoice::Chat, TemplateChoice::Plain);
    assert_ne!(sha(chat.clone(), QWEN, text), sha(chat, GEMMA, text));
    // Where texts are parsed, the model's own template decides how they end.
    let parsed = |own| sha(plain.clone(), own, SpecialTokens::Parse);
    assert_ne!(parsed(QWEN), parsed(GEMMA));
    assert_eq!(sha(plain.clone(), QWEN, text), sha(plain.clone(), GEMMA, text));
}
