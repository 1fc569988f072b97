//! The command and the settings file with which `lens` trains the same reward model again, for reports.

use super::{Keep, MethodOptions, ModelOptions, ViewSelection};
use crate::Error;
use crate::run::RunOptions;
use crate::train::TrainOptions;
use lens_data::{DataSource, file_name};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How `lens run` is called, its settings being in a file.
pub(crate) fn run_command(options: &RunOptions) -> String {
    let mut command = format!("lens run {}", inputs(&options.pairs));
    if let Some(eval) = &options.eval {
        command += &format!(" --eval {}", inputs(eval));
    }
    finished(command, options.warm_start.as_ref().map(|w| &*w.bundle))
}

/// The parts of a dataset as a shell takes them.
fn inputs(input: &DataSource) -> String {
    let named: Vec<String> = input.parts().iter().map(|part| quoted(&file_name(part))).collect();
    named.join(" ")
}

/// How `lens train` is called, its settings being in a file.
pub(crate) fn train_command(options: &TrainOptions) -> String {
    let quoted_name = |a: &PathBuf| quoted(&file_name(a));
    let files: Vec<String> = options.pairs.files.iter().map(quoted_name).collect();
    finished(format!("lens train {}", files.join(" ")), options.warm_start.as_deref())
}

fn finished(mut command: String, warm_start: Option<&Path>) -> String {
    if let Some(bundle) = warm_start {
        command += &format!(" --warm-start {}", quoted(&file_name(bundle)));
    }
    command + " --config lens.toml -o reward-model"
}

/// A file name as a shell takes it.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+,=@%/".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', "'\\''"))
}

/// The settings of a run that decide its result. Where files lie and where results go is not in it.
pub(crate) fn run_settings(options: &RunOptions) -> Result<String, Error> {
    let mut table = method(&options.method)?;
    model(&options.model, &mut table)?;
    table.insert("strict".to_owned(), options.reading.strict.into());
    if !options.reading.columns.is_empty() {
        table.insert("columns".to_owned(), options.reading.columns.to_string().into());
    }
    if options.reading.no_prompt {
        table.insert("no_prompt".to_owned(), true.into());
    }
    table.insert("holdout".to_owned(), options.holdout.into());
    text(&table)
}

/// The settings of a training on stored embeddings that decide its result.
pub(crate) fn train_settings(options: &TrainOptions) -> Result<String, Error> {
    let mut table = method(&options.method)?;
    let keys = &options.pairs.keys;
    table.insert("chosen_key".to_owned(), keys.chosen.clone().into());
    table.insert("rejected_key".to_owned(), keys.rejected.clone().into());
    table.insert("splits".to_owned(), whole(options.splits)?);
    if let Some(seed_pairs) = options.seed_pairs {
        table.insert("seed_pairs".to_owned(), whole(seed_pairs)?);
    }
    if !options.pairs.views.is_empty() {
        let views = options.pairs.views.iter().map(|v| Value::from(v.to_string()));
        table.insert("view".to_owned(), Value::Array(views.collect()));
    }
    text(&table)
}

fn method(options: &MethodOptions) -> Result<Table, Error> {
    let mut table = Table::try_from(&options.settings).map_err(unwritable)?;
    let keep = match options.keep {
        Keep::Auto => "auto",
        Keep::None => "none",
        Keep::Augmented => "augmented",
    };
    let views = if options.views == ViewSelection::Fixed { "fixed" } else { "auto" };
    table.insert("keep".to_owned(), keep.into());
    table.insert("views".to_owned(), views.into());
    if options.select_augmentation {
        table.insert("augment".to_owned(), "auto".into());
    }
    Ok(table)
}

fn model(options: &ModelOptions, table: &mut Table) -> Result<(), Error> {
    let mut insert = |key: &str, value: Value| table.insert(key.to_owned(), value);
    insert("model", lens_encoder::models::public_name(&options.model).into());
    let views = options.views.iter().map(|v| Value::from(v.to_string()));
    insert("view", Value::Array(views.collect()));
    insert("template", options.template.clone().into());
    insert("max_length", whole(options.max_length)?);
    let bos = match options.add_bos {
        None => "auto",
        Some(true) => "always",
        Some(false) => "never",
    };
    insert("bos", bos.into());
    insert("special_tokens", options.special_tokens.to_string().into());
    if let Some(label) = &options.runtime.label {
        insert("label", label.clone().into());
    }
    let runtime = &options.runtime;
    insert("weights", runtime.weights.to_string().into());
    insert("batch_tokens", whole(runtime.batch_tokens)?);
    // Its address is left away: reports are given to others, and name the server by its model.
    if runtime.server.url.is_some() {
        insert("server_api", Value::try_from(runtime.server.api).map_err(unwritable)?);
        insert("server_batch", whole(runtime.server.batch)?);
    }
    Ok(())
}

fn whole(n: usize) -> Result<Value, Error> {
    i64::try_from(n).map(Value::from).map_err(|e| Error::option("settings", e))
}

fn text(table: &Table) -> Result<String, Error> {
    toml::to_string(table).map_err(unwritable)
}

fn unwritable(error: toml::ser::Error) -> Error {
    Error::option("settings", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoredPairsOptions;

    #[test]
    fn commands_hold_no_folders_and_are_safe_to_copy() {
        let options = RunOptions {
            eval: Some("/a/b/held out.jsonl".into()),
            ..RunOptions::new("/home/me/it's.jsonl")
        };
        assert_eq!(
            run_command(&options),
            "lens run 'it'\\''s.jsonl' --eval 'held out.jsonl' --config lens.toml -o reward-model"
        );
        let files = vec![PathBuf::from("x/a.npy"), PathBuf::from("x/b.npy")];
        let options = TrainOptions::new(StoredPairsOptions::new(files));
        assert_eq!(
            train_command(&options),
            "lens train a.npy b.npy --config lens.toml -o reward-model"
        );
    }
}
