//! Flags that other trainers and servers have, and what does the same here: an error that only says that
//! a flag is unknown would leave their users to search.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names of a flag elsewhere, without dashes and in lower case, and where to turn to instead.
struct Foreign {
    names: &'static [&'static str],
    advice: &'static str,
}

const FOREIGN: [Foreign; 27] = [
    Foreign {
        names: &["lr", "learning-rate", "actor-learning-rate", "critic-learning-rate"],
        advice: "the head's learning rate is the setting head.learning_rate (--set \
                 head.learning_rate=0.0003), the VAE's is vae.learning_rate; `lens run` and `lens \
                 train` take them",
    },
    Foreign {
        names: &[
            "batch-size",
            "train-batch-size",
            "micro-batch-size",
            "micro-train-batch-size",
            "per-device-train-batch-size",
            "gradient-accumulation-steps",
        ],
        advice: "the pairs of a training step are the setting head.batch (--set head.batch=128), of \
                 the VAE's vae.batch; the tokens that the language model computes at a time are \
                 batch_tokens (--set batch_tokens=2048)",
    },
    Foreign {
        names: &["eval-batch-size", "per-device-eval-batch-size", "micro-rollout-batch-size"],
        advice: "the tokens that the language model computes at a time are the setting batch_tokens \
                 (--set batch_tokens=2048); results do not depend on it",
    },
    Foreign {
        names: &["epochs", "epoch", "num-epochs", "num-train-epochs", "max-epochs", "max-steps"],
        advice: "the most passes over the pairs are the setting head.epochs (--set head.epochs=60), \
                 of the VAE's training vae.epochs; the head stops early by head.patience",
    },
    Foreign {
        names: &["patience", "early-stopping-patience"],
        advice: "it is the setting head.patience (--set head.patience=8)",
    },
    Foreign {
        names: &["weight-decay", "l2", "wd"],
        advice: "it is the setting head.weight_decay (--set head.weight_decay=0.3); of a logistic head \
                 head.l2",
    },
    Foreign {
        names: &["dropout", "label-smoothing", "label-smoothing-factor", "hidden-size"],
        advice: "they are the settings head.dropout, head.label_smoothing and head.hidden, such as \
                 --set head.dropout=0.1",
    },
    Foreign {
        names: &[
            "warmup-ratio",
            "warmup-steps",
            "lr-warmup-ratio",
            "lr-scheduler",
            "lr-scheduler-type",
            "optim",
            "max-grad-norm",
        ],
        advice: "the head is trained by Adam at one learning rate (--set \
                 head.learning_rate=0.0003); the VAE's loss warms up over vae.warm_up epochs",
    },
    Foreign {
        names: &["center-rewards-coefficient", "margin-loss", "loss", "use-margin"],
        advice: "the loss is that of Bradley and Terry, with the margins of the data times \
                 head.margin_weight (--set head.margin_weight=1); --normalise and /v1/reward give \
                 centred rewards",
    },
    Foreign {
        names: &[
            "max-length",
            "max-len",
            "max-seq-length",
            "max-seq-len",
            "max-prompt-length",
            "model-max-length",
            "max-model-len",
            "cutoff-len",
            "block-size",
        ],
        advice: "texts are shortened where they are embedded for training: `lens run .. --max-length \
                 2048`, or `lens embed`; a reward model keeps the length that it was trained with",
    },
    Foreign {
        names: &["seed", "random-seed", "data-seed"],
        advice: "the seed of everything random is the setting seed (--set seed=0)",
    },
    Foreign {
        names: &[
            "model-name-or-path",
            "model-name",
            "model-path",
            "base-model",
            "pretrain",
            "tokenizer",
            "tokenizer-name-or-path",
        ],
        advice: "the language model is named by --model, of `lens run` and `lens embed`; its \
                 tokenizer comes with it",
    },
    Foreign {
        names: &["reward-model-path", "reward-pretrain", "reward-model", "checkpoint", "ckpt-path"],
        advice: "the folder of the reward model is an argument, not a flag: `lens eval reward-model \
                 heldout.jsonl`; one that is to be trained further is --warm-start",
    },
    Foreign {
        names: &[
            "dataset",
            "dataset-name",
            "dataset-path",
            "data",
            "data-path",
            "train-file",
            "input",
        ],
        advice: "the file of pairs is an argument, not a flag: `lens run pairs.jsonl`",
    },
    Foreign {
        names: &["eval-dataset", "eval-data", "eval-file", "test-file", "validation-file"],
        advice: "held-out pairs are named by --eval, of `lens run`",
    },
    Foreign {
        names: &[
            "test-size",
            "val-size",
            "eval-ratio",
            "validation-split-percentage",
            "test-split",
        ],
        advice: "the share of the prompts that is held out is --holdout, of `lens run`",
    },
    Foreign {
        names: &["output-dir", "output-path", "save-path", "save-dir", "out", "out-file"],
        advice: "the output is named by --output, or -o",
    },
    Foreign {
        names: &["overwrite-output-dir", "force", "overwrite-cache"],
        advice: "an output that is there is replaced with --overwrite",
    },
    Foreign {
        names: &["resume", "resume-from-checkpoint", "load-checkpoint"],
        advice: "finished embeddings are kept and taken up by themselves; an earlier reward model is \
                 trained further with --warm-start",
    },
    Foreign {
        names: &["logging-dir", "use-tensorboard", "tensorboard-dir", "report-to", "use-wandb"],
        advice: "training curves, also for TensorBoard, go into the folder of --log-dir, of `lens \
                 run` and `lens train`",
    },
    Foreign {
        names: &["chat-template", "apply-chat-template", "chat-template-path", "input-template"],
        advice: "how prompt and response become one text is --template, of `lens run` and `lens \
                 embed`",
    },
    Foreign {
        names: &[
            "bf16",
            "fp16",
            "torch-dtype",
            "dtype",
            "load-in-4bit",
            "load-in-8bit",
            "quantization",
            "quantization-bit",
        ],
        advice: "the form of the language model's weights in memory is --weights, of `lens run` and \
                 `lens embed`; quantised models are read from GGUF files",
    },
    Foreign {
        names: &[
            "use-peft",
            "lora-r",
            "lora-rank",
            "lora-alpha",
            "lora-target-modules",
            "finetuning-type",
            "gradient-checkpointing",
            "deepspeed",
            "zero-stage",
            "fsdp",
            "flash-attn",
            "attn-implementation",
        ],
        advice: "the language model is not trained here, only a small head on its hidden states: the \
                 settings head.* (--show-settings lists them)",
    },
    Foreign {
        names: &[
            "num-workers",
            "num-proc",
            "dataset-num-proc",
            "preprocessing-num-workers",
            "jobs",
        ],
        advice: "the number of threads is --threads",
    },
    Foreign {
        names: &["device", "gpu", "gpus", "n-gpus", "num-gpus", "tensor-parallel-size"],
        advice: "models run on the processor here; a server with a GPU computes the embeddings with \
                 --server",
    },
    Foreign {
        names: &["host", "port", "served-model-name", "api-key"],
        advice: "`lens serve` listens where --bind says (HOST:PORT), calls a model as --name says, and \
                 asks for the tokens of --token-file",
    },
    Foreign {
        names: &["num-generations", "num-return-sequences", "n-samples-per-prompt"],
        advice: "the number of responses to a prompt is --samples, of `lens generate`",
    },
];

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
    FOREIGN.iter().find(|one| one.names.contains(&name)).map(|one| one.advice)
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
        for Foreign { names: own, advice } in &FOREIGN {
            for name in *own {
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
            own.filter(|flag| names.contains(flag) && !shared.contains(flag)).collect();
        assert_eq!(both, Vec::<&str>::new());
    }
}
