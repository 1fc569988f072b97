#!/usr/bin/env python3
"""Export reward models of every kind and family, and score with the libraries that they are for.

    python3 scripts/test_export.py [BUNDLE]
    python3 scripts/test_export.py --install

--install only gets the packages, which needs neither a binary nor a model. BUNDLE is a reward model whose
language model is at hand; `reward-model`, which `make quickstart` makes, by default: it is exported with code
of its own. All other reward models are trained here, in seconds, on the tiny random models of
crates/lens-encoder/tests/data/models. The packages (torch, transformers, sentence-transformers, TRL,
rewardbench) are put into target/test-tools/transformers. Standard library only; what cannot be had is an error,
not a reason to leave a test out.
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target" / "release" / "lens"
MODELS = ROOT / "crates" / "lens-encoder" / "tests" / "data" / "models"
PACKAGES = [
    "numpy==2.4.6",
    "sentence-transformers==6.2.0",
    "torch==2.15.0",
    "transformers==5.24.0",
    "trl==1.16.0",
]
# Of it only the pipeline is run, which needs torch alone.
BARE = ["rewardbench==0.1.4"]
WORDS = ["good", "bad", "kind", "rude", "long", "short", "clear", "vague", "yes", "no", "maybe", "never", "red", "blue"]
LINEAR = ["--set", "head.kind=logistic"]
LAST = ["--view", "layer=-1,pooling=last"]
MEAN = ["--view", "layer=-1,pooling=mean"]
FIRST = ["--view", "layer=-1,pooling=first"]
INNER = ["--view", "layer=1,pooling=mean"]
ASKED = ["--view", "layer=-1,pooling=last,suffix= good or bad?"]
# What is exported to what: a model, how its reward model is trained, and the target.
CASES = [(family, LINEAR + LAST, "transformers") for family in (
    "llama2", "llama3", "llama3/model.gguf", "mistral", "qwen2", "qwen2/model.gguf", "qwen3", "gemma2", "gemma3",
    "gemma3/model.gguf", "gemma3-linear", "phi3")]
CASES += [
    ("gemma3", LINEAR + ASKED, "transformers"),
    ("gemma3", LAST, "sentence-transformers"),
    ("qwen2/model.gguf", MEAN + LAST, "sentence-transformers"),
    ("llama3", LINEAR + MEAN, "sentence-transformers"),
    ("bert", MEAN + FIRST, "sentence-transformers"),
    ("gemma3", LINEAR + LAST + MEAN + INNER + ASKED, "remote-code"),
    ("qwen2", LAST + INNER + ["--set", "head.hidden=[8,4]", "--set", "head.activation=tanh"], "remote-code"),
    ("bert", LINEAR + FIRST + INNER, "remote-code"),
]


def install():
    """Get the packages, unless they are there; returns the interpreter that has them."""
    folder = ROOT / "target" / "test-tools" / "transformers"
    python = folder / "bin" / "python"
    pins, installed = "\n".join(PACKAGES + BARE), folder / "installed.txt"
    if not installed.is_file() or installed.read_text(encoding="utf-8") != pins:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*pip, *PACKAGES], check=True)
        subprocess.run([*pip, "--no-deps", *BARE], check=True)
        installed.write_text(pins, encoding="utf-8")
    return python


def lens(*words):
    done = subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"lens {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def write_tokenizer(folder):
    """A tokenizer of a few words, for a tiny model that has none."""
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    vocab = {word: number for number, word in enumerate([*special, *WORDS, "?", ":", ".", "Human", "Assistant"])}
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": vocab[name], "content": name, **token} for name in special]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 0}}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, other],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
              "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_pairs(path):
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(60):
            words = lambda n: " ".join(draw.choice(WORDS) for _ in range(n))
            prompt = f"{words(3)} ? {number}"
            row = {"prompt": prompt, "chosen": f"good {words(4)}", "rejected": f"bad {words(4)}"}
            turns = [{"role": "user", "content": prompt}]
            row = {"prompt": turns, **{side: [{"role": "assistant", "content": row[side]}]
                                       for side in ("chosen", "rejected")}}
            file.write(json.dumps(row) + "\n")


def come_back(folder, home):
    """An exported sequence classifier is a public reward model: LENS scores with it as with any other."""
    rows = [json.loads(line) for line in open(folder / "verify.jsonl", encoding="utf-8")]
    texts = home / "texts.jsonl"
    texts.write_text("".join(json.dumps({"messages": row["messages"]}) + "\n" for row in rows), encoding="utf-8")
    said = lens("score", "--model", folder, texts, "--json", "--cache", home / "cache")
    rewards = [json.loads(line)["reward"] for line in said.splitlines()]
    error = max(abs(reward - row["reward"]) for reward, row in zip(rewards, rows, strict=True))
    if not error <= 1e-3:
        sys.exit(f"{folder} comes back with other rewards, by up to {error}")


def main():
    if sys.argv[1:] == ["--install"]:
        install()
        return
    bundle = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "reward-model").resolve()
    for path, remedy in ((BINARY, "make build"), (bundle / "lens.json", "make quickstart")):
        if not path.is_file():
            sys.exit(f"{path} is missing: run `{remedy}` first")
    python = install()
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        models, exported = home / "models", []
        shutil.copytree(MODELS, models)
        for folder in models.iterdir():
            if not (folder / "tokenizer.json").is_file():
                write_tokenizer(folder)
        write_pairs(home / "pairs.jsonl")
        for number, (family, training, target) in enumerate(CASES):
            made, folder = home / f"reward-model-{number}", home / f"exported-{number}"
            lens("run", home / "pairs.jsonl", "--model", models / family, "--views", "fixed", *training, "--holdout", "0",
                 "--cache", home / "cache", "--quiet", "-o", made)
            said = json.loads(lens("export", made, "--to", target, "-o", folder, "--cache", home / "cache", "--json"))
            if target == "transformers":
                come_back(folder, home)
            exported.append({"folder": str(folder), "target": target, "what": f"{family} {' '.join(training)}",
                             "difference": said["largest_difference"]})
        folder = home / "quickstart"
        said = json.loads(lens("export", bundle, "--to", "remote-code", "-o", folder, "--json"))
        exported.append({"folder": str(folder), "target": "remote-code", "what": bundle.name,
                         "difference": said["largest_difference"]})
        (home / "exported.json").write_text(json.dumps(exported), encoding="utf-8")
        check = [python, ROOT / "scripts" / "check_exports.py", home / "exported.json"]
        sys.exit(subprocess.run(check, cwd=home).returncode)


if __name__ == "__main__":
    main()
