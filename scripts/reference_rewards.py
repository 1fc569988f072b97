#!/usr/bin/env python3
"""Write the tiny reward models that the encoder's tests read: `*ForSequenceClassification` of each family.

    python scripts/reference_rewards.py            # every model
    python scripts/reference_rewards.py gemma2     # only these

Run by hand, only to change the test data; it needs what `scripts/reference_models.py` needs, whose configurations it
makes smaller. For each model `crates/lens-encoder/tests/data/reward-models/<name>/` gets what transformers'
`save_pretrained` writes of a model with random weights (float32, norms and biases random too), and

* `model.gguf` (`llama3`, `qwen3`): llama.cpp's names, the score head as `cls.output.weight`;
* `tokenizer.json`, `tokenizer_config.json` (`llama3`, `labels`): copies of `tests/data/tokenizers/`;
* `rewards.json`: what transformers computes in float32, one sequence at a time:

    architecture        transformers' class
    labels              names of the columns, in their order
    sequences           list of {input_ids, logits: [labels]}
    texts               (with a tokenizer) the same for texts: `text`, and `input_ids` with special tokens

`llama3` also has a tensor `score.bias`, which transformers ignores and vLLM adds: `logits` hold it.
The script checks that a padded batch has the same logits, and that every model depends on its last token.
"""

import json
import shutil
import sys

import torch
from tokenizers import Tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import reference_models as base

ROOT = base.ROOT.parent / "reward-models"
SMALL = dict(hidden_size=16, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2)
ONE = dict(num_labels=1, pad_token_id=0)

# name -> (the model of reference_models.py, changes of its config.json, what is done beside)
MODELS = {
    "llama3": ("llama3", dict(architectures=["LlamaForSequenceClassification"], head_dim=8, num_key_value_heads=1),
              dict(tokenizer="llama3", bias=True, gguf=True)),
    "mistral": ("mistral", dict(architectures=["MistralForSequenceClassification"], head_dim=8, num_key_value_heads=1), {}),
    "qwen2": ("qwen2", dict(architectures=["Qwen2ForSequenceClassification"], num_key_value_heads=1, vocab_size=96,
                            bos_token_id=1, eos_token_id=2), {}),
    "qwen3": ("qwen3", dict(architectures=["Qwen3ForSequenceClassification"], head_dim=8, num_key_value_heads=1),
              dict(gguf=True)),
    "gemma2": ("gemma2", dict(architectures=["Gemma2ForSequenceClassification"], head_dim=8, num_key_value_heads=1,
                              query_pre_attn_scalar=8), {}),
    "gemma3-text": ("gemma3", dict(architectures=["Gemma3TextForSequenceClassification"], head_dim=8,
                                   query_pre_attn_scalar=8, sliding_window_pattern=2), {}),
    "gemma3": ("gemma3-multimodal", dict(architectures=["Gemma3ForSequenceClassification"]), {}),
    "phi3": ("phi3", dict(architectures=["Phi3ForSequenceClassification"], num_key_value_heads=1), {}),
    "labels": ("llama3", dict(architectures=["LlamaForSequenceClassification"], head_dim=8, num_key_value_heads=1,
                              id2label={0: "helpfulness", 1: "safety", 2: "verbosity"},
                              label2id={"helpfulness": 0, "safety": 1, "verbosity": 2}), dict(tokenizer="llama3")),
}


def configuration(name):
    source, changes, how = MODELS[name]
    config = {k: v for k, v in base.MODELS[source].items() if k != "_"}
    config.pop("torch_dtype", None), config.pop("dtype", None)
    if "text_config" in config:
        config["text_config"] = config["text_config"] | SMALL | dict(head_dim=8, query_pre_attn_scalar=8)
        config["text_config"].pop("rope_scaling", None)
    else:
        config |= SMALL
    if "id2label" not in changes:
        config |= ONE
    config |= dict(pad_token_id=0) | changes
    return config, how


def build(name):
    config, how = configuration(name)
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if "tokenizer" in how:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(base.TOKENIZERS / how["tokenizer"] / file, folder / file)
        config["vocab_size"] = len(AutoTokenizer.from_pretrained(folder))
    (folder / "config.json").write_text(json.dumps(config))
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.from_pretrained(folder), attn_implementation="eager"
    ).float().eval()
    seed = 2000 + sorted(MODELS).index(name)
    base.randomise(model, seed, 2.0)
    model.save_pretrained(folder)
    bias = None
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    if "gemma3" == name:  # the image tower is not needed, and transformers makes it up when it is missing
        tensors = {k: v for k, v in tensors.items() if "vision" not in k and "projector" not in k}
        save_file(tensors, weights, metadata={"format": "pt"})
    if how.get("bias"):
        bias = torch.tensor([0.375])
        tensors["score.bias"] = bias
        save_file(tensors, weights, metadata={"format": "pt"})
    if how.get("gguf"):
        as_gguf(name, config, tensors, folder / "model.gguf")
    return folder, bias


def as_gguf(name, config, tensors, path):
    source = MODELS[name][0]
    rest = {k: v for k, v in tensors.items() if not k.startswith("score.")}
    add = base.gguf.GGUFWriter.write_header_to_file

    def with_head(writer, *args):
        writer.add_tensor("cls.output.weight", tensors["score.weight"].numpy())
        if "score.bias" in tensors:
            writer.add_tensor("cls.output.bias", tensors["score.bias"].numpy())
        writer.add_array(f"{base.GGUF[source]}.classifier.output_labels", ["LABEL_0"])
        add(writer, *args)

    base.gguf.GGUFWriter.write_header_to_file = with_head
    root, base.ROOT = base.ROOT, path.parent.parent
    try:
        base.write_gguf(source, config, rest, path)
    finally:
        base.gguf.GGUFWriter.write_header_to_file = add
        base.ROOT = root


def rewards(model, lists, bias):
    rows = []
    with torch.no_grad():
        for ids in lists:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            rows.append(logits + bias if bias is not None else logits)
    return rows


def write(name):
    folder, bias = build(name)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    missing = [k for k in info["missing_keys"] if "vision" not in k and "projector" not in k]
    assert not missing, missing
    model = model.eval()
    text = model.config.get_text_config()
    generator = torch.Generator().manual_seed(77)
    lists = [torch.randint(3, min(text.vocab_size, 96), (n,), generator=generator).tolist() for n in base.LENGTHS[:4]]
    found = rewards(model, lists, bias)
    padded = torch.zeros((len(lists), max(map(len, lists))), dtype=torch.long)
    mask = torch.zeros_like(padded)
    for i, ids in enumerate(lists):
        padded[i, :len(ids)], mask[i, :len(ids)] = torch.tensor(ids), 1
    with torch.no_grad():
        batch = model(input_ids=padded, attention_mask=mask, use_cache=False).logits + (0 if bias is None else bias)
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(batch, found)), name
    other = rewards(model, [ids[:-1] + [3 + (ids[-1] + 1) % 90] for ids in lists], bias)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(other, found)), name
    entry = lambda ids, row: dict(input_ids=ids, logits=[float(x) for x in row])
    labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
    answer = dict(architecture=type(model).__name__, labels=labels,
                  sequences=[entry(i, r) for i, r in zip(lists, found)])
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = [tokenizer.encode(t).ids for t in base.TEXTS]
        answer["texts"] = [dict(text=t) | entry(i, r) for t, i, r in zip(base.TEXTS, ids, rewards(model, ids, bias))]
    (folder / "rewards.json").write_text(json.dumps(answer) + "\n")
    print(name, labels, [round(float(r[0]), 3) for r in found], sum(f.stat().st_size for f in folder.iterdir()) // 1024, "kB")


if __name__ == "__main__":
    for each in sys.argv[1:] or MODELS:
        write(each)
