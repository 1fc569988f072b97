//! What templates take from Python and from transformers: functions, filters, methods of strings.

use super::bounds::{Bounded, check_depth, exceeded};
use crate::template::limits::{Excess, MAX_INDENT, MAX_STRING};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

/// Adds all of it.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
}

/// `{% generation %}` marks which tokens to train on; it renders to nothing.
pub(super) fn without_generation_marks(source: &str) -> String {
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
pub(super) struct Raised(pub String);

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
    if let Some(spaces) = indent.filter(|spaces| *spaces > MAX_INDENT) {
        return Err(exceeded(Excess::Indent { spaces }));
    }
    check_depth(&value)?;
    let mut out = Bounded::new(MAX_STRING);
    // An error of writing is one of the bound: memory takes everything else.
    let failed = |e: serde_json::Error| match e.is_io() {
        true => exceeded(Excess::Memory),
        false => Error::new(ErrorKind::BadSerialization, e.to_string()),
    };
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
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out.bytes).into_owned()))
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

/// A method of a string as Python has it. The engine counts what filters and operators build, before
/// they do; of these methods only what they have built.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && built_by(text, name, args)? > MAX_STRING
    {
        return Err(exceeded(Excess::Memory));
    }
    unknown_method_callback(state, value, name, args)
}

/// At least as many bytes as a method of `text` builds, or 0 where it cannot build more than it reads.
fn built_by(text: &str, name: &str, args: &[Value]) -> Result<usize, Error> {
    let len = |value: &Value| value.as_str().map_or(0, str::len);
    Ok(match (name, args) {
        ("replace", [old, new, ..]) => {
            let most = (text.len() + 1).saturating_mul(len(new));
            match old.as_str() {
                Some(old) if most > MAX_STRING => {
                    let times = text.matches(old).count();
                    times.saturating_mul(len(new)).saturating_add(text.len())
                }
                _ => most,
            }
        }
        // Other iterables may be read once only, and that is the method's to do.
        ("join", [values]) if values.kind() == ValueKind::Seq => {
            let mut built = 0usize;
            for item in values.try_iter()? {
                check_depth(&item)?;
                built = built.saturating_add(text.len() + len(&item));
            }
            built
        }
        ("format", args) => {
            let longest = args.iter().map(len).max().unwrap_or(0);
            let fields = text.matches('{').count();
            let most = fields.saturating_mul(longest).saturating_add(text.len());
            args.iter().try_for_each(check_depth)?;
            most.saturating_add(widths(text))
        }
        _ => 0,
    })
}

/// The sum of the numbers in the fields of a format: widths, precisions and positions.
fn widths(format: &str) -> usize {
    let in_fields = format.split('{').skip(1).map(|field| field.split('}').next().unwrap_or(""));
    let numbers = in_fields.flat_map(|field| field.split(|c: char| !c.is_ascii_digit()));
    let number = |digits: &str| digits.parse().unwrap_or(usize::MAX);
    numbers.filter(|digits| !digits.is_empty()).map(number).fold(0, usize::saturating_add)
}
