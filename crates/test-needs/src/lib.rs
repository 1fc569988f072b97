//! `#[needs(VARIABLE)]`: a test that runs where an environment variable is set, and is reported as
//! ignored, with the reason, where it is not.
//!
//! Some tests need what no repository can hold: a model of 1 GB, a browser, somebody else's data.
//! Such a test must not pass where it did nothing. `cargo test` says "ignored" only of tests that
//! carry
//! `#[ignore]` when they are compiled; this attribute adds it, or does not, by the environment. Cargo
//! compiles the test file again when the variable changes.
//!
//! ```
//! # use test_needs::needs;
//! #[needs(LENS_MODEL_TESTS)] // above #[test]
//! #[test]
//! fn the_model_agrees() {}
//! ```
//!
//! `docs/testing.md` lists the variables.

#![allow(clippy::test_attr_in_doctest)] // The example is a test that is to stand in a test file.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Ignores the test below it unless one of the named environment variables is set, to anything but
/// nothing or `0`. Stands above `#[test]`.
#[proc_macro_attribute]
pub fn needs(variables: TokenStream, test: TokenStream) -> TokenStream {
    let mut names = Vec::new();
    for token in variables {
        match token {
            TokenTree::Ident(name) => names.push(name.to_string()),
            TokenTree::Punct(comma) if comma.as_char() == ',' => {}
            other => return error(&format!("expected a variable's name, found `{other}`")),
        }
    }
    if names.is_empty() {
        return error("expected the name of an environment variable");
    }
    if !is_test(&test) {
        return error("#[needs] stands above #[test]");
    }
    let is_set = |name: &String| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    let ignore = match names.iter().any(is_set) {
        true => String::new(),
        false => format!("#[ignore = \"needs {}: see docs/testing.md\"]", names.join(" or ")),
    };
    // By these cargo knows of which variables the compiled test depends.
    let read: String =
        names.iter().map(|n| format!("const _: Option<&str> = option_env!({n:?});")).collect();
    match format!("{read} {ignore}").parse::<TokenStream>() {
        Ok(mut all) => {
            all.extend(test);
            all
        }
        Err(e) => error(&e.to_string()),
    }
}

/// Whether an item still has its `#[test]`.
fn is_test(item: &TokenStream) -> bool {
    item.clone().into_iter().any(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            group.stream().to_string() == "test"
        }
        _ => false,
    })
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});").parse().unwrap_or_default()
}
