//! Flags that other trainers and servers have, and what does the same here: an error that only says that
//! a flag is unknown would leave their users to search.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A line for each of them: `name, other-name: advice`.
const FOREIGN: &str = include_str!("foreign.txt");

/// The names and the advice of each line.
fn foreign() -> impl Iterator<Item = (Vec<&'static str>, &'static str)> {
    FOREIGN.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (names, advice) = line.split_once(": ")?;
        Some((names.split(", ").collect(), advice))
    })
}

/// The error with what does here what the unknown flag does elsewhere, where that is known.
pub fn explained(mut error: clap::Error) -> clap::Error {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => flag.clone(),
        _ => return error,
    };
    if let Some(advice) = advice(&unknown) {
        // What is only spelt alike would lead astray.
        error.remove(ContextKind::SuggestedArg);
        let advice = ContextValue::StyledStrs(vec![advice.into()]);
        error.insert(ContextKind::Suggested, advice);
    }
    error
}

/// The advice on a flag as it was typed. Configurations of several parts have a dot before its name.
fn advice(flag: &str) -> Option<&'static str> {
    let name = flag.strip_prefix("--")?.to_ascii_lowercase().replace('_', "-");
    let name = name.rsplit('.').next().unwrap_or(&name);
    foreign().find(|(names, _)| names.contains(&name)).map(|(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Cli;
    use crate::settings::Settings;
    use clap::{CommandFactory, Parser};
    use std::collections::BTreeSet;

    fn said(words: &str) -> String {
        let error = Cli::try_parse_from(words.split(' ')).unwrap_err();
        let error = explained(error);
        assert_eq!(error.exit_code(), 2, "{words}");
        error.to_string()
    }

    #[test]
    fn a_flag_from_elsewhere_names_the_setting_in_every_spelling() {
        for words in [
            "lens run pairs.jsonl --lr 1e-4",
            "lens run pairs.jsonl --learning_rate=1e-4",
            "lens run pairs.jsonl --Learning-Rate 1e-4",
            "lens train pairs.safetensors --actor.learning_rate 1e-4",
            "lens score rm rows.jsonl --lr 1e-4",
        ] {
            let said = said(words);
            assert!(said.contains("--set head.learning_rate=0.0003"), "{said}");
            assert!(said.contains("unexpected argument"), "{said}");
        }
        for (flag, part) in [
            ("batch-size", "head.batch"),
            ("num_train_epochs", "head.epochs"),
            ("cutoff_len", "--max-length"),
            ("model_name_or_path", "--model"),
            ("lora_rank", "head.*"),
            ("output_dir", "--output"),
        ] {
            let said = said(&format!("lens run pairs.jsonl --{flag} 1"));
            assert!(said.contains(part), "{flag}: {said}");
        }
        let said = said("lens run pairs.jsonl --wholly-unknown");
        assert!(said.contains("unexpected argument '--wholly-unknown'"), "{said}");
    }

    /// Settings and flags that an advice names are there, and no flag is explained that `lens run` has.
    #[test]
    fn advice_names_only_what_there_is() {
        let settings: toml::Table =
            toml::from_str(&Settings::default().to_toml().unwrap()).unwrap();
        let mut flags: BTreeSet<String> = BTreeSet::new();
        for command in Cli::command().get_subcommands() {
            flags.extend(command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)));
        }
        flags
            .extend(Cli::command().get_arguments().filter_map(|a| a.get_long().map(str::to_owned)));
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "-_.=*".contains(c));
        let mut names = BTreeSet::new();
        assert!(foreign().count() > 20);
        for (own, advice) in foreign() {
            for name in own {
                assert!(names.insert(name), "{name} is there twice");
            }
            for word in advice.split(ends).map(|w| w.trim_end_matches('.')) {
                if let Some(flag) = word.strip_prefix("--") {
                    assert!(flags.contains(flag), "{word}");
                    continue;
                }
                let key = word.split('=').next().unwrap();
                if let Some((table @ ("head" | "vae"), key)) = key.split_once('.') {
                    let table = settings[table].as_table().unwrap();
                    assert!(key == "*" || table.contains_key(key), "{word}");
                }
            }
        }
        let run = Cli::command();
        let run = run.find_subcommand("run").unwrap();
        let own = run.get_arguments().filter_map(|a| a.get_long());
        // Some commands have these, others get the advice.
        let shared = ["max-length", "seed"];
        let both: Vec<&str> =
            own.filter(|flag| names.contains(*flag) && !shared.contains(flag)).collect();
        assert_eq!(both, Vec::<&str>::new());
    }
}
