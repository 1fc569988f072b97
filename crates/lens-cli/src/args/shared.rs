//! Options that several commands have: the language model, views of texts, an embedding server, the
//! method, names of arrays.

use super::values::{self, heading};
use super::{merged, not_given, table};
use clap::Args;
use serde::Serialize;

/// A language model, and how texts come to it.
#[derive(Debug, Args, Serialize)]
pub struct TextArgs {
    /// Language model: a name that `lens pull` lists, a file or folder, org/name of the Hugging Face
    /// Hub, or an https address [default: gemma-3-270m]; with --server, its name there
    #[arg(long, value_name = "MODEL", help_heading = heading::MODEL)]
    pub model: Option<String>,
    /// How the model's weights are held in memory [default: auto]
    #[arg(long, value_name = "FORM", help_heading = heading::MODEL, value_parser = values::weights())]
    pub weights: Option<String>,
    /// How prompt and response become one text: chat (the model's own chat template), plain (joined),
    /// auto (chat where the model has a template, else plain), or the path of a Jinja template
    /// [default: auto]
    #[arg(long, value_name = "TEMPLATE", help_heading = heading::MODEL)]
    pub template: Option<String>,
    /// Most tokens of a text; a longer one loses the beginning of its prompt [default: 2048]
    #[arg(long, value_name = "TOKENS", help_heading = heading::MODEL)]
    pub max_length: Option<usize>,
    /// Whether a BOS token (beginning of sequence) is put before each text [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = heading::MODEL, value_parser = values::bos())]
    pub bos: Option<String>,
    /// How the names of special tokens, such as <|im_end|>, are read where a text contains them
    /// [default: text]
    #[arg(long, value_name = "HOW", help_heading = heading::MODEL,
        value_parser = values::special_tokens())]
    pub special_tokens: Option<String>,
    /// How rows are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub reading: ReadingArgs,
}

/// How the rows of a dataset are read.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading::DATA)]
pub struct ReadingArgs {
    /// Columns that have other names than those that are known, such as
    /// prompt=question_text,chosen=good,rejected=bad
    #[arg(long, value_name = "NAME=COLUMN,..")]
    pub columns: Option<String>,
    /// Pairs without a prompt are meant to have none: such pairs are read although other columns of text
    /// are left, and are kept beside pairs that have one
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub no_prompt: bool,
    /// Stop at the first malformed row instead of counting it and going on
    #[arg(long)]
    #[serde(skip_serializing_if = "not_given")]
    pub strict: bool,
}

/// How texts become embeddings.
#[derive(Debug, Args, Serialize)]
pub struct EncoderArgs {
    /// The model.
    #[command(flatten)]
    #[serde(skip)]
    pub text: TextArgs,
    /// Layer whose hidden states are taken, as transformers counts: 0 is the embedding, -1 the last
    /// layer [default: -1]
    #[arg(long, allow_negative_numbers = true, value_name = "L", help_heading = heading::VIEWS)]
    pub layer: Option<i32>,
    /// Several layers side by side: all, or a list such as 0,9,-1
    #[arg(long, allow_hyphen_values = true, value_name = "LIST", help_heading = heading::VIEWS)]
    pub layers: Option<String>,
    /// Which tokens' hidden states make the embedding [default: last]
    #[arg(long, value_name = "POOLING", help_heading = heading::VIEWS,
        value_parser = values::pooling())]
    pub pooling: Option<String>,
    /// A view of the texts, layer=..,pooling=..,suffix=..: a suffix is a text put after the response,
    /// such as a question about it. May be repeated; all views lie side by side in the embedding
    #[arg(long, value_name = "VIEW", help_heading = heading::VIEWS)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub view: Vec<String>,
}

impl EncoderArgs {
    pub(super) fn table(&self) -> Result<toml::Table, toml::ser::Error> {
        merged(&[&table(&self.text)?, &table(self)?])
    }
}

/// A server that computes the embeddings. Its key is read from $LENS_API_KEY.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading::SERVER)]
pub struct ServerArgs {
    /// Have a server compute the embeddings: its address, such as http://localhost:8000; its key is
    /// read from $LENS_API_KEY
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Which of its interfaces is used [default: auto]
    #[arg(long, value_name = "API", value_parser = values::server_api())]
    pub server_api: Option<String>,
    /// Requests under way at a time [default: 8]
    #[arg(long, value_name = "N")]
    pub server_concurrency: Option<usize>,
    /// Texts in a request [default: 16]
    #[arg(long, value_name = "N")]
    pub server_batch: Option<usize>,
}

/// The method's main settings; all others by --set or in the settings file.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading::METHOD)]
pub struct MethodArgs {
    /// Augmentation factor: training pairs for each real pair, itself included. 1 adds no synthetic
    /// pairs; auto chooses by nested cross-validation on the training pairs whether to add any, and
    /// which [default: 4]
    #[arg(long, value_name = "F")]
    pub augment: Option<String>,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Which head is saved, of the one trained with synthetic pairs and the one without [default: auto]
    #[arg(long, value_name = "WHICH", value_parser = values::keep())]
    pub keep: Option<String>,
}

/// Where both sides lie in a file of embeddings.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading::DATA)]
pub struct KeyArgs {
    /// Name of the array of chosen embeddings in a safetensors file [default: chosen]
    #[arg(long, value_name = "KEY")]
    pub chosen_key: Option<String>,
    /// Name of the array of rejected embeddings in a safetensors file [default: rejected]
    #[arg(long, value_name = "KEY")]
    pub rejected_key: Option<String>,
}
