//! What a model's files say about texts: its template, its tokenizer, and the tokens around a text.

use crate::error::Result;
use crate::family::ModelSpec;
use crate::model::ModelFiles;
use crate::tokenizer::{
    TextTokenizer, adds_bos, adds_bos_of_folder, adds_eos_of_folder, chat_template_of_folder,
};
use lens_data::encoder::SpecialTokens;

/// The model's own chat template.
pub(crate) fn own_template(files: &ModelFiles) -> Result<Option<String>> {
    match files {
        ModelFiles::Gguf(file) => Ok(file.text("tokenizer.chat_template")?.map(str::to_owned)),
        ModelFiles::Folder(folder) => chat_template_of_folder(folder.path()),
    }
}

/// Whether the model asks for a BOS token.
pub(crate) fn own_bos(files: &ModelFiles) -> Result<bool> {
    match files {
        ModelFiles::Gguf(file) => adds_bos(file),
        // A model without a tokenizer takes lists of ids; texts are refused when they come.
        ModelFiles::Folder(folder) if !folder.path().join("tokenizer.json").is_file() => Ok(false),
        ModelFiles::Folder(folder) => adds_bos_of_folder(folder.path()),
    }
}

/// Whether the configuration asks for an EOS token where the tokenizer adds none, and what is to be
/// said of that.
pub(super) fn own_eos(files: &ModelFiles) -> Result<(bool, Vec<String>)> {
    match files {
        // The format has but one place for it.
        ModelFiles::Gguf(_) => Ok((false, Vec::new())),
        ModelFiles::Folder(folder) => {
            let (adds, note) = adds_eos_of_folder(folder.path())?;
            Ok((adds, note.into_iter().collect()))
        }
    }
}

/// The model's tokenizer.
pub(crate) fn own_tokenizer(
    files: &ModelFiles,
    spec: &ModelSpec,
    add_bos: bool,
    special: SpecialTokens,
) -> Result<TextTokenizer> {
    match files {
        ModelFiles::Gguf(file) => TextTokenizer::from_gguf(file, spec.vocab, add_bos, special),
        ModelFiles::Folder(folder) => {
            TextTokenizer::from_folder(folder.path(), spec.vocab, add_bos, special)
        }
    }
}
