//! Chat templates in Jinja, rendered as transformers renders them.

use crate::error::{EncoderError, Result};
use crate::tokenizer::TokenRoles;
use lens_core::Message;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde::Serialize;
use std::collections::BTreeMap;

/// A compiled chat template.
pub(super) struct Jinja {
    name: String,
    environment: Environment<'static>,
}

const TEMPLATE: &str = "chat";
/// Work one rendering may do, far above any conversation's need: a template that came with a
/// downloaded model must not be able to hang the program.
const FUEL: u64 = 50_000_000;
/// Longest template: those of real models have a tenth of it.
const MAX_BYTES: usize = 128 << 10;
/// Stack on which templates are compiled, which takes some for every operator in a row: 2 kB for
/// each byte of the longest template. Only what is used takes memory.
const STACK: usize = MAX_BYTES << 11;

impl Jinja {
    /// Compiles the template.
    pub fn compile(name: &str, source: &str) -> Result<Self> {
        let broken = |detail: String| EncoderError::Template { name: name.to_owned(), detail };
        if source.len() > MAX_BYTES {
            return Err(broken(format!("it has {} bytes, above {MAX_BYTES}", source.len())));
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || Self::compile_here(name, source))
                .map_err(|e| broken(format!("no thread to compile it on: {e}")))?
                .join()
                .unwrap_or_else(|_| Err(broken("the template engine fails on it".into())))
        })
    }

    fn compile_here(name: &str, source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|e| refused(name, &e))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(TEMPLATE, without_generation_marks(source))
            .map_err(|e| refused(name, &e))?;
        Ok(Self { name: name.to_owned(), environment })
    }

    /// Renders messages; with `open`, the beginning of the assistant's next turn is appended. The
    /// template knows the special tokens that there are, as with transformers; a role that no token
    /// has is undefined.
    pub fn render(&self, messages: &[Message], open: bool, roles: &TokenRoles) -> Result<String> {
        let template =
            self.environment.get_template(TEMPLATE).map_err(|e| refused(&self.name, &e))?;
        let turn = |m: &Message| {
            Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())])
        };
        let turns: Vec<Value> = messages.iter().map(turn).collect();
        let mut variables: BTreeMap<&str, Value> =
            roles.named().map(|(variable, token)| (variable, Value::from(token))).collect();
        if !roles.additional().is_empty() {
            let additional = Value::from(roles.additional().to_vec());
            variables.insert("additional_special_tokens", additional);
        }
        variables.insert("messages", Value::from(turns));
        variables.insert("add_generation_prompt", Value::from(open));
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        template.render(variables).map_err(|e| refused(&self.name, &e))
    }
}

fn refused(name: &str, error: &Error) -> EncoderError {
    let raised = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Raised>());
    let detail = match raised {
        Some(Raised(words)) => words.clone(),
        // The alternate form adds the line and the cause.
        None => format!("{error:#}"),
    };
    EncoderError::Template { name: name.to_owned(), detail }
}

/// `{% generation %}` marks which tokens to train on; it renders to nothing.
fn without_generation_marks(source: &str) -> String {
    let mut source = source.to_owned();
    for (word, instead) in [("endgeneration", "endif"), ("generation", "if true")] {
        for open in ["{%", "{%-"] {
            for close in ["%}", "-%}"] {
                let mark = format!("{open} {word} {close}");
                source = source.replace(&mark, &format!("{open} {instead} {close}"));
            }
        }
    }
    source
}

/// A refusal in the template's own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<String, Error> {
    let kind = ErrorKind::InvalidOperation;
    Err(Error::new(kind, message.clone()).with_source(Raised(message)))
}

/// The date in templates that state one. It stands still: the same text must have the same vector
/// tomorrow. It is the day that Llama 3's own template falls back to, a Friday.
fn strftime_now(format: &str) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let code = match chars.next() {
            // `%-d`: without the zero in front, which the fixed date does not have anyway.
            Some('-') => chars.next(),
            code => code,
        };
        out.push_str(match code {
            Some('d' | 'e') => "26",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('m') => "07",
            Some('Y') => "2024",
            Some('y') => "24",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('j') => "208",
            Some('F') => "2024-07-26",
            Some('H' | 'M' | 'S') => "00",
            Some('T' | 'X') => "00:00:00",
            Some('%') => "%",
            _ => "",
        });
    }
    out
}

/// `json.dumps(value, ensure_ascii=False)`: a space after commas and colons, no HTML escapes.
fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let _: Option<Value> = kwargs.get("ensure_ascii")?;
    let _: Option<Value> = kwargs.get("sort_keys")?;
    let _: Option<Value> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let mut out = Vec::new();
    let failed = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let format = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            let mut to = serde_json::Serializer::with_formatter(&mut out, format);
            value.serialize(&mut to).map_err(failed)?;
        }
        None => {
            let mut to = serde_json::Serializer::with_formatter(&mut out, PythonFormat);
            value.serialize(&mut to).map_err(failed)?;
        }
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out).into_owned()))
}

struct PythonFormat;

impl serde_json::ser::Formatter for PythonFormat {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
    ) -> std::io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn render(source: &str) -> String {
        let hello = Message { role: "user".into(), content: "a <b> \"ü\"".into() };
        let mut roles = TokenRoles::default();
        roles.set("bos", "<s>");
        roles.set("pad", "<pad>");
        roles.add("<extra>");
        Jinja::compile("test", source).unwrap().render(&[hello], false, &roles).unwrap()
    }

    #[test]
    fn json_is_pythons() {
        assert_eq!(
            render("{{ messages[0] | tojson }}{{ {'a': [1, 2]} | tojson }}"),
            r#"{"role": "user", "content": "a <b> \"ü\""}{"a": [1, 2]}"#
        );
    }

    #[test]
    fn blocks_leave_no_white_space() {
        assert_eq!(render("  {% if true %}\n  x\n  {% endif %}\ny\n"), "  x\ny");
        assert_eq!(
            render(
                "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
            ),
            "1"
        );
    }

    #[test]
    fn python_methods_and_dates_work() {
        assert_eq!(render("{{ ' Ab '.strip().upper() }}{{ 'a,b'.split(',')[1] }}"), "ABb");
        assert_eq!(render("{{ messages[0]['content'].startswith('a') }}"), "True");
        // What templates that strip thoughts are made of: turns backwards, a namespace, parts of a text.
        let thoughts = "{% set seen = namespace(n=0) %}{% for m in messages[::-1] %}\
            {% set seen.n = seen.n + 1 %}{{ m.role }}{{ 'x</think>y'.split('</think>')[-1] }}\
            {% endfor %}{{ seen.n }}";
        assert_eq!(render(thoughts), "usery1");
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}"), "26 Jul 2024");
        assert_eq!(render("{%- generation -%} x {%- endgeneration %}"), "x");
    }

    #[test]
    fn special_tokens_have_their_names_and_what_there_is_not_is_undefined() {
        assert_eq!(render("{{ bos_token }}{{ pad_token }}{{ eos_token }}"), "<s><pad>");
        assert_eq!(render("{{ eos_token is defined }}{{ tools is none }}"), "FalseTrue");
        assert_eq!(render("{{ additional_special_tokens | join(' ') }}"), "<extra>");
        assert_eq!(render("{{ enable_thinking is defined }}"), "False");
    }

    #[test]
    fn refusals_say_why() {
        let jinja =
            Jinja::compile("test", "{{ raise_exception('roles must alternate') }}").unwrap();
        let error = jinja.render(&[], false, &TokenRoles::default()).unwrap_err().to_string();
        assert_eq!(error, "template 'test': roles must alternate");
        assert!(Jinja::compile("test", "{% if %}").is_err());
    }
}
