//! The words that options take one of, and the headings under which help lists the options.

use clap::builder::{PossibleValue, PossibleValuesParser};
use lens_eval::figures::Benchmark;

/// Headings of the help.
pub mod heading {
    /// What is read, and how strictly.
    pub const DATA: &str = "Data";
    /// The model that reads texts.
    pub const MODEL: &str = "Language model";
    /// Which of its hidden states are taken.
    pub const VIEWS: &str = "Views of the texts";
    /// A server in place of a local model.
    pub const SERVER: &str = "Embedding server";
    /// How the reward model is trained.
    pub const METHOD: &str = "Method";
    /// What is measured.
    pub const EVALUATION: &str = "Evaluation";
    /// Which study, and how large.
    pub const STUDY: &str = "Study";
    /// How tokens are drawn.
    pub const SAMPLING: &str = "Sampling";
    /// What is written.
    pub const OUTPUT: &str = "Output";
    /// What is served.
    pub const REWARD_MODELS: &str = "Reward models";
    /// Who may reach a server, and where.
    pub const ACCESS: &str = "Address and access";
    /// What a server takes on.
    pub const LIMITS: &str = "Limits";
    /// Texts that are measured.
    pub const WORKLOAD: &str = "Workload";
    /// Options that every command has.
    pub const GENERAL: &str = "General";
}

/// Each word with what it does, for help; any other word is a usage error that names all of them.
fn words<const N: usize>(all: [(&'static str, &'static str); N]) -> PossibleValuesParser {
    all.map(value).into()
}

fn value((word, help): (&'static str, &'static str)) -> PossibleValue {
    match word {
        // Its name before.
        "fixed" => PossibleValue::new(word).help(help).alias("asked"),
        _ => PossibleValue::new(word).help(help),
    }
}

/// `--to` of `lens export`.
pub fn export_target() -> PossibleValuesParser {
    words([
        (
            "transformers",
            "a linear head on the last token of the last layer: what TRL, vLLM and others load",
        ),
        ("sentence-transformers", "any head on poolings of the last layer"),
        ("remote-code", "any views and head: transformers with a file of Python that you trust"),
    ])
}

/// `--dtype` of `lens export`.
pub fn export_type() -> PossibleValuesParser {
    words([
        ("f32", "the same rewards"),
        ("f16", "half the size, rewards a little off"),
        ("bf16", "half the size, rewards further off"),
    ])
}

/// `--weights`.
pub fn weights() -> PossibleValuesParser {
    words([
        ("auto", "f32 where it fits into four fifths of the free memory, else stored"),
        ("f32", "decoded to 4 bytes a weight: the fastest"),
        ("bf16", "rounded to 2 bytes a weight"),
        ("stored", "as in the file, decoded when used: slower, the same numbers as f32"),
    ])
}

/// `--bos`.
pub fn bos() -> PossibleValuesParser {
    words([
        ("auto", "as the model's file says"),
        ("always", "once, at the beginning of each text"),
        ("never", "no text gets one"),
    ])
}

/// `--special-tokens`.
pub fn special_tokens() -> PossibleValuesParser {
    words([
        ("text", "plain letters, as somebody typed them"),
        ("parse", "the tokens: with --template plain, for texts that a chat template has written"),
    ])
}

/// `--pooling`.
pub fn pooling() -> PossibleValuesParser {
    words([
        ("last", "the last token, which has seen the whole text"),
        ("mean", "the mean over all tokens"),
        ("prompt-last", "the prompt's last token"),
        ("first", "the first token ([CLS]), for encoders such as BERT"),
    ])
}

/// `--server-api`.
pub fn server_api() -> PossibleValuesParser {
    words([
        ("auto", "tries both"),
        ("openai", "/v1/embeddings: vLLM, llama.cpp, Infinity and others"),
        ("tei", "/embed of text-embeddings-inference"),
    ])
}

/// `--dtype`.
pub fn dtype() -> PossibleValuesParser {
    words([
        ("f32", "4 bytes a number, as computed"),
        ("f16", "2 bytes: 11 bits of precision, up to 65,504"),
        ("bf16", "2 bytes: 8 bits of precision, the range of f32"),
    ])
}

/// `--keep`.
pub fn keep() -> PossibleValuesParser {
    words([
        (
            "auto",
            "the augmented head if it is clearly better in cross-validation on the training pairs",
        ),
        ("none", "the head trained on real pairs alone"),
        ("augmented", "the head trained on real and synthetic pairs"),
    ])
}

/// `--views` of `lens run`.
pub fn views_and_head() -> PossibleValuesParser {
    words([
        (
            "fixed",
            "as options and settings name them; by default the last token of the last layer, and a \
             small network on it",
        ),
        ("auto", "chosen by cross-validation on the training pairs, from one pass of the model"),
        ("exportable", "the same among poolings of the last layer, which `lens export` can write"),
    ])
}

/// `--views` of `lens train`, whose views are stored already.
pub fn head_on_stored_views() -> PossibleValuesParser {
    words([
        ("fixed", "as the settings name it"),
        (
            "auto",
            "that one or a logistic one, chosen by cross-validation on the training pairs of each \
             split",
        ),
    ])
}

/// `--benchmark`.
pub fn benchmark() -> PossibleValuesParser {
    let auto = PossibleValue::new("auto").help("recognised from the rows of each file");
    let named = Benchmark::ALL.map(|b| PossibleValue::new(b.name()).help(b.title()));
    std::iter::once(auto).chain(named).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::args::Cli;
    use crate::settings::Settings;
    use clap::{CommandFactory, Parser};

    /// Whatever help offers is accepted by the settings too, under every command that offers it.
    #[test]
    fn every_possible_value_is_a_setting() {
        let words = |command: &str, long: &str| match command {
            "export" if long == "to" => vec!["export", "bundle", "-o", "out"],
            "export" => vec!["export", "bundle", "-o", "out", "--to", "transformers"],
            "run" => vec!["run", "pairs"],
            "embed" => vec!["embed", "pairs", "-o", "out"],
            "train" => vec!["train", "arrays"],
            "study" => vec!["study", "noise", "pairs"],
            "eval" => vec!["eval", "bundle", "pairs"],
            "score" => vec!["score", "bundle", "pairs"],
            "serve" => vec!["serve", "bundle"],
            "generate" => vec!["generate", "prompts", "-o", "out"],
            "likelihood" => vec!["likelihood", "rows"],
            other => unreachable!("{other} is not told here"),
        };
        let mut seen = 0;
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments().filter(|a| a.get_action().takes_values()) {
                for value in arg.get_possible_values() {
                    // A shell is an argument, not an option.
                    let Some(long) = arg.get_long() else { continue };
                    let flag = format!("--{long}={}", value.get_name());
                    let name = command.get_name();
                    let mut all = vec!["lens"];
                    all.extend(words(name, long));
                    all.push(&flag);
                    let cli = Cli::try_parse_from(&all).unwrap();
                    assert!(Settings::resolve(&cli).is_ok(), "lens {name} {flag}");
                    assert!(value.get_help().is_some(), "lens {name} {flag} is not explained");
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "{seen}");
    }

    /// No option of a command stands under the bare heading "Options".
    #[test]
    fn every_option_stands_under_a_heading() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|a| a.get_long().is_some()) {
                let long = arg.get_long().unwrap_or_default();
                let heading = arg.get_help_heading();
                assert!(heading.is_some(), "lens {} --{long}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        // Before it is built, clap has not added --help and --version.
        check(&Cli::command());
    }
}
