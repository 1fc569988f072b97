//! The model card of an exported reward model: what it is, how good it was, and what it cannot do.

use super::{ExportResult, ExportTarget};
use lens_data::bundle::Bundle;
use lens_encoder::models;

/// What a card is written from.
pub(super) struct Card<'a> {
    pub bundle: &'a Bundle,
    /// Its report, in Markdown; empty without one.
    pub report: &'a str,
    /// Texts of more tokens are rotated by other angles; `None` where all texts are rotated alike.
    pub long_from: Option<usize>,
    /// The language model, as its user named it.
    pub model: &'a str,
    pub result: &'a ExportResult,
}

impl Card<'_> {
    /// The card, in Markdown with the head that the Hub reads.
    pub fn text(&self) -> String {
        let Card { bundle, model, result, .. } = self;
        let known = models::KNOWN.iter().find(|known| known.name == *model);
        let licence = known.map_or_else(
            || "not known here; look it up before you share this".to_owned(),
            |known| known.licence.to_owned(),
        );
        let library = match result.target {
            ExportTarget::SentenceTransformers => "sentence-transformers",
            _ => "transformers",
        };
        let data = &bundle.manifest.data;
        let mut text = format!(
            "---\nlibrary_name: {library}\npipeline_tag: text-classification\ntags:\n- reward-model\n\
             - lens\n---\n\n# Reward model from {}\n\nMade by LENS {} from {} preference pairs and the \
             language model {model}. Licence of the language model's weights: {licence}.\n\n",
            as_code(&data.file),
            bundle.manifest.lens_version,
            data.used,
            model = as_code(model),
        );
        text.push_str(self.usage());
        text.push_str(&format!(
            "\nRewards of {} texts were compared after export: the largest difference is {:.1e}, where \
             rewards of training had a standard deviation of {:.2} (weights in {}). `python verify.py` does \
             the same with {library}.\n",
            result.texts, result.largest_difference, result.reward_deviation, result.dtype,
        ));
        text.push_str("\n## How good it is\n\n");
        text.push_str(&self.figures());
        text.push_str("\n## What it cannot do\n\n");
        for limit in self.limits() {
            text.push_str(&format!("- {limit}\n"));
        }
        text
    }

    fn usage(&self) -> &'static str {
        match self.result.target {
            ExportTarget::Transformers => {
                "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n\
                 tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n\
                 model = AutoModelForSequenceClassification.from_pretrained(FOLDER)\n\
                 text = tokenizer.apply_chat_template(messages, tokenize=False)\n\
                 batch = tokenizer(text, add_special_tokens=False, return_tensors=\"pt\")\n\
                 reward = model(**batch).logits[0, 0] - model.config.mean\n```\n"
            }
            ExportTarget::SentenceTransformers => {
                "```python\nfrom sentence_transformers import SentenceTransformer\n\n\
                 model = SentenceTransformer(FOLDER)\n\
                 # A conversation as the chat template writes it, without BOS: see `text` in verify.jsonl.\n\
                 reward = model.encode([text])[0, 0]\n```\n"
            }
            ExportTarget::RemoteCode => {
                "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n\
                 tokenizer = AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)\n\
                 model = AutoModelForSequenceClassification.from_pretrained(FOLDER, trust_remote_code=True)\n\
                 text = tokenizer.apply_chat_template(messages, tokenize=False)\n\
                 batch = tokenizer(text, add_special_tokens=False, return_tensors=\"pt\")\n\
                 reward = model(**batch).logits[0, 0]\n```\n\
                 \nThe code that is trusted is `modeling_lens.py`.\n"
            }
        }
    }

    /// The head and the table of the reward model's own report.
    fn figures(&self) -> String {
        let body = self.report.split_once("\n\n").map_or("", |(_, rest)| rest);
        let end = ["\n## On held-out pairs", "\n## Training", "\n## "]
            .iter()
            .find_map(|mark| {
                let skip = body.find("\n## Result").map_or(0, |at| at + 1);
                body[skip..].find(mark).map(|at| skip + at)
            })
            .unwrap_or(body.len());
        let figures = body[..end].replace("\n## Result", "\n### Result");
        match figures.trim().is_empty() {
            true => "Its training left no figures.\n".to_owned(),
            false => format!("{}\n", figures.trim()),
        }
    }

    fn limits(&self) -> Vec<String> {
        let identity = self.bundle.manifest.encoder.as_ref().map(|record| &record.identity);
        let longest = identity.map_or(0, |identity| identity.max_length);
        let mut limits = vec![
            format!(
                "Texts of more than {longest} tokens: LENS leaves out the beginning of the prompt, other \
                 tools cut elsewhere or not at all."
            ),
            "Names of special tokens that somebody typed into a text are control tokens here; LENS takes \
             them for the letters they are."
                .to_owned(),
        ];
        match self.result.target {
            ExportTarget::Transformers => limits.extend([
                "transformers has no constant in this head: its rewards are higher by `mean` of the \
                 configuration. OpenRLHF takes that away, vLLM adds `score.bias`; differences of two rewards \
                 are the same everywhere."
                    .to_owned(),
                "Plain prompts in TRL, which are tokenised without BOS: give conversations.".to_owned(),
            ]),
            ExportTarget::SentenceTransformers => limits.push(
                "The reward is a vector of one number; a similarity of two of them means nothing."
                    .to_owned(),
            ),
            ExportTarget::RemoteCode => limits.push(
                "vLLM and SGLang, which have no class for it: `lens serve` answers on their routes."
                    .to_owned(),
            ),
        }
        if let Some(tokens) = self.long_from {
            limits.push(format!(
                "Batches in which some texts have more than {tokens} tokens and some fewer: transformers \
                 rotates all of a batch by the angles of its longest text, LENS each by its own."
            ));
        }
        if self.result.dtype != "float32" {
            limits.push(format!(
                "Its weights are rounded to {}: rewards differ from those of the reward model, here by up to \
                 {:.3}.",
                self.result.dtype, self.result.largest_difference
            ));
        }
        limits
    }
}

/// A name that somebody else chose, as code: no mark-up in it is any.
fn as_code(name: &str) -> String {
    let kept = |c: char| if c == '`' || c.is_control() { '?' } else { c };
    format!("`{}`", name.chars().map(kept).collect::<String>())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_no_mark_up() {
        assert_eq!(super::as_code("a`<b>\u{1b}[31m\n# c"), "`a?<b>?[31m?# c`");
    }
}
