#!/usr/bin/env python3
"""Write what transformers makes of our reference texts with three real models.

    python scripts/reference_vectors.py gemma-3-270m gemma-3-270m-q4_k_m.gguf
    python scripts/reference_vectors.py qwen2.5-coder-1.5b qwen2.5-coder-1.5b.gguf
    python scripts/reference_vectors.py all-MiniLM-L6-v2 minilm/

Run by hand, only to change the test data: it needs `torch`, `transformers` 5, `gguf` and `safetensors`
(`benches/peer/requirements.txt`), and the very model files that the tests read (docs/testing.md says how to get
them). Qwen takes 13 GB of memory. A second run writes the same ids, and the same numbers up to rounding of the
processor at hand.

Reads `crates/lens-encoder/tests/data/reference/texts.json`: a list of `{"name", "text"}` or `{"name", "messages"}`.
Every text in it was written for this repository.

Writes `crates/lens-encoder/tests/data/reference/MODEL.json`:

    model, sha256        name of the model; SHA-256 of its GGUF file, or of its model.safetensors
    transformers, torch  versions that computed the vectors
    dim, layers          width of a hidden state; number of blocks
    chat_template        the Jinja template that the chat was rendered with; null where a model does not chat
    texts                list of
      name               as in texts.json
      input_ids          token ids: of a text with the special tokens that the tokenizer adds, and with names of
                         special tokens in it read as plain letters; of a chat as the template renders it
      vectors            "LAYER/POOLING" -> base64 of little-endian float32: transformers' `hidden_states[LAYER]` (0
                         is the embedding, -1 is after the final norm) at the last token (`last`), or their mean over
                         all tokens, special ones included (`mean`)

Weights are dequantised to float32 by transformers and `gguf`; one text at a time, no padding, no cache, eager
attention.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import normalizers
from transformers import AutoModel, AutoTokenizer

REFERENCE = Path(__file__).resolve().parent.parent / "crates/lens-encoder/tests/data/reference"

# hidden states by model, as (layer, pooling)
VIEWS = {
    "gemma-3-270m": [(0, "last"), (9, "last"), (17, "last"), (-1, "last"), (-1, "mean")],
    "qwen2.5-coder-1.5b": [(0, "last"), (14, "last"), (-1, "last"), (-1, "mean")],
    "all-MiniLM-L6-v2": [(0, "mean"), (3, "last"), (-1, "last"), (-1, "mean")],
}

# Gemma's base model has no template of its own: this one has the turns that its instruction-tuned sister was taught.
GEMMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{{ message.content }}<end_of_turn>\n{% endfor %}"
)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load(name, path):
    """Tokenizer and float32 model of a GGUF file or a folder."""
    if path.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModel.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    else:
        where = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
        tokenizer = AutoTokenizer.from_pretrained(**where)
        if name.startswith("qwen"):
            # Qwen2Tokenizer normalises; what transformers makes of a GGUF file goes without.
            tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
        model = AutoModel.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager")
    kinds = {parameter.dtype for parameter in model.parameters()}
    assert kinds == {torch.float32}, kinds
    return tokenizer, model.eval()


def chat_template(name, tokenizer):
    if name.startswith("gemma"):
        return GEMMA_CHAT
    return tokenizer.chat_template


def token_ids(tokenizer, template, case):
    if "text" in case:
        return tokenizer(case["text"], split_special_tokens=True)["input_ids"]
    text = tokenizer.apply_chat_template(case["messages"], chat_template=template, tokenize=False)
    return tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]


def states(model, ids, views):
    with torch.no_grad():
        hidden = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    vectors = {}
    for layer, pooling in views:
        state = hidden[layer][0]
        vector = state[-1] if pooling == "last" else state.double().mean(0)
        vectors[f"{layer}/{pooling}"] = np.asarray(vector, dtype="<f4")
    return vectors


def main(name, path):
    views, path = VIEWS[name], Path(path)
    tokenizer, model = load(name, path)
    template = chat_template(name, tokenizer)
    head = {
        "model": name,
        "sha256": sha256(path / "model.safetensors" if path.is_dir() else path),
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "dim": model.config.hidden_size,
        "layers": model.config.num_hidden_layers,
        "chat_template": template,
    }
    rows = []
    for case in json.loads((REFERENCE / "texts.json").read_text()):
        if "messages" in case and template is None:
            continue
        ids = token_ids(tokenizer, template, case)
        vectors = states(model, ids, views)
        coded = {view: base64.b64encode(vector.tobytes()).decode() for view, vector in vectors.items()}
        rows.append(json.dumps({"name": case["name"], "input_ids": ids, "vectors": coded}))
        print(f"{case['name']}: {len(ids)} tokens")
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines.append('  "texts": [\n    ' + ",\n    ".join(rows) + "\n  ]")
    out = REFERENCE / f"{name}.json"
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(out.name, out.stat().st_size, "bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in VIEWS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
