//! Chat templates in Jinja, rendered as transformers renders them.

mod bounds;
mod python;

use super::limits::{self, Failure, MAX_SOURCE};
use crate::tokenizer::TokenRoles;
use bounds::{Bounded, check_depth, excess_of};
use lens_core::Message;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, escape_formatter};
use std::collections::BTreeMap;

/// A compiled chat template.
pub(super) struct Jinja {
    environment: Environment<'static>,
}

const TEMPLATE: &str = "chat";
/// Stack on which templates are compiled, which takes some for every operator in a row: 2 kB for
/// each byte of the longest template. Only what is used takes memory.
const STACK: usize = MAX_SOURCE << 11;

impl Jinja {
    /// Compiles a template, on a stack on which every one of them can be.
    pub fn compile(source: &str) -> Result<Self, Failure> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || Self::compile_here(source))
                .map_err(|e| Failure::refused(format!("no thread to compile it on: {e}")))?
                .join()
                .unwrap_or_else(|_| Err(Failure::refused("the template engine fails on it")))
        })
    }

    /// Compiles a template on the stack of the caller.
    pub fn compile_here(source: &str) -> Result<Self, Failure> {
        if source.len() > MAX_SOURCE {
            let detail = format!("it has {} bytes, above {MAX_SOURCE}", source.len());
            return Err(Failure::refused(detail));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(failed)?;
        environment.set_syntax(syntax);
        // An error would quote the values of variables, however long.
        environment.set_debug(false);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(|out, state, value| {
            check_depth(value)?;
            escape_formatter(out, state, value)
        });
        python::add_to(&mut environment);
        environment
            .add_template_owned(TEMPLATE, python::without_generation_marks(source))
            .map_err(failed)?;
        Ok(Self { environment })
    }

    /// Renders messages; with `open`, the beginning of the assistant's next turn is appended. The
    /// template knows the special tokens that there are, as with transformers; a role that no token
    /// has is undefined.
    pub fn render(
        &self,
        messages: &[Message],
        open: bool,
        roles: &TokenRoles,
    ) -> Result<String, Failure> {
        // A copy shares what was compiled.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(limits::fuel(messages)));
        let template = environment.get_template(TEMPLATE).map_err(failed)?;
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
        let mut written = Bounded::new(limits::output(messages));
        template.render_captured_to(variables, &mut written).map_err(failed)?;
        String::from_utf8(written.bytes).map_err(|e| Failure::refused(e.to_string()))
    }
}

fn failed(error: Error) -> Failure {
    if let Some(excess) = excess_of(&error) {
        return Failure::Exceeded(excess);
    }
    let raised =
        std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<python::Raised>());
    match raised {
        Some(python::Raised(words)) => Failure::refused(words.clone()),
        // The alternate form adds the line and the cause.
        None => Failure::refused(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests;
