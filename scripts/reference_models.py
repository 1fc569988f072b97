#!/usr/bin/env python3
"""Write the tiny reference models that the encoder's tests read.

    python scripts/reference_models.py            # every model
    python scripts/reference_models.py gemma2     # only these

Run by hand, only to change the test data: it needs `torch`, `transformers` 5, `safetensors` and `gguf`
(`benches/peer/requirements.txt`). Seeds are fixed, so a second run writes the same weights.

For each model `crates/lens-encoder/tests/data/models/<name>/` gets:

* `config.json`: as published models of that family have it (`rope_theta`, `rope_scaling`); `qwen3` has the newer
  `rope_parameters` instead. transformers loads this very file before anything is computed.
* `model.safetensors`, random weights in float32 (`gemma2`, `phi3`), float16 (`llama2`, `qwen3`, `bert`,
  `xlm-roberta`) or bfloat16 (the others); `qwen2` in two shards with an index. Norm weights and biases are
  random too, so that a forgotten one shows.
* `model.gguf` where llama.cpp has the architecture: the names, metadata and layout (permuted q and k, norms + 1,
  fused tensors) that llama.cpp's converter writes, in float32, or in the type of the safetensors.
* `tokenizer.json`, `tokenizer_config.json` (`llama2`, `llama3`, `qwen2`, `gemma3`, `bert`): copies of
  `tests/data/tokenizers/` (`scripts/reference_tokenizers.py`); the GGUF has them in its own form.
* `reference.json`: what transformers computes in float32, one sequence at a time, without padding,
  `attn_implementation="eager"`, no cache.

`reference.json`:

    name, architecture  this model and transformers' class of it
    dim, layers         embedding width; number of blocks
    gguf_max_tokens     (only where so) the longest sequence on which llama.cpp's form of the model is the same model
    sequences           list of
      input_ids         token ids, no special tokens
      last, mean        layers + 1 vectors each: transformers' `hidden_states` at the last token, and their mean over
                        all tokens. Index 0 is the (scaled, for BERT normed) embedding, index `layers` is after the
                        final norm. Each vector is base64 of little-endian float32.
      top5              (decoders) [id, log-probability] of the five likeliest next tokens
      log_likelihood    (decoders) sum over positions i > 0 of log p(token i | tokens before)
      greedy            (decoders) the 12 tokens that follow when the likeliest is taken each time
    texts               (models with a tokenizer) the same for texts: `text`, and `input_ids` with the special tokens
                        that the tokenizer adds

Checked against llama.cpp (xllamacpp 2026.10): its embeddings of every sequence (of `mistral` up to the window, where
llama.cpp knows none), pooled last and mean, agree with `reference.json` to a cosine of 0.9997 for each stored
`model.gguf`, and to 5e-6 relative (5e-4 for those with gelu, which ggml takes from a half-precision table) for the
same with float32 tensors (`--float32-gguf DIR`); so do those of `texts`, which llama.cpp tokenized itself from the
GGUF. `phi3-longrope` on both sides of the switch (see `float32_gguf`). `gemma3-multimodal` has no GGUF: in that
format it is `gemma3`.

The script also switches off each special property of a model (a window, a softcap, a bias ..) and fails if the
vectors stay the same: then the model would not test that property.
"""

import base64
import json
import math
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, Gemma3ForConditionalGeneration

ROOT = Path(__file__).resolve().parent.parent / "crates/lens-encoder/tests/data/models"
TOKENIZERS = ROOT.parent / "tokenizers"
LENGTHS = (1, 2, 7, 40, 120)
GREEDY = 12
TEXTS = (
    "Hello, world! It's the capital of France.",
    "\n\nHuman: What is the capital of Spain?\n\nAssistant: It is Madrid, which lies in the middle of the country.",
    "Die Hauptstadt von Österreich ist Wien.  \tÜber die Straße? \u6211\u4eec \U0001f600 1234",
)


def decoder(**over):
    """The keys that every decoder's config.json has, with `over` replacing or (None) removing some."""
    base = dict(
        vocab_size=96, hidden_size=32, intermediate_size=28, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, hidden_act="silu", max_position_embeddings=256, rms_norm_eps=1e-6,
        rope_theta=10000.0, attention_dropout=0.0, initializer_range=0.02, tie_word_embeddings=False,
        use_cache=True, bos_token_id=1, eos_token_id=2, torch_dtype="float32",
    )
    base.update(over)
    return {k: v for k, v in base.items() if v is not None}


def gemma(**over):
    return decoder(**(dict(
        hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=None,
        attention_bias=False, head_dim=12, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    ) | over))


GEMMA3_TEXT = dict(
    model_type="gemma3_text", architectures=["Gemma3ForCausalLM"], hidden_act=None, hidden_size=32,
    num_attention_heads=4, num_key_value_heads=1, head_dim=12, num_hidden_layers=7, intermediate_size=24,
    query_pre_attn_scalar=48, sliding_window=16, sliding_window_pattern=6, rope_theta=1000000.0,
    rope_local_base_freq=10000.0, attn_logit_softcapping=None, final_logit_softcapping=None,
)

# name -> config.json, and under "_": what the script does with it
#   dtype: of the stored weights; shards: into how many files; off: properties that must matter, as changes of the
#   loaded configuration; no_bias: switch off the biases too; gguf_max_tokens: see above
MODELS = {
    "llama2": decoder(
        model_type="llama", architectures=["LlamaForCausalLM"], num_key_value_heads=4, rms_norm_eps=1e-5,
        torch_dtype="float16",
        _=dict(dtype=torch.float16, tokenizer="llama2", off=[{"rope_theta": 500.0}]),
    ),
    "llama3": decoder(
        model_type="llama", architectures=["LlamaForCausalLM"], head_dim=8, rms_norm_eps=1e-5, rope_theta=500000.0,
        rope_scaling=dict(
            factor=32.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=64,
            rope_type="llama3",
        ),
        tie_word_embeddings=True, mlp_bias=False, attention_bias=False,
        torch_dtype="bfloat16", bos_token_id=558, eos_token_id=[559, 563, 564],
        _=dict(dtype=torch.bfloat16, tokenizer="llama3", off=[{"rope_scaling": None}]),
    ),
    "mistral": decoder(
        model_type="mistral", architectures=["MistralForCausalLM"], head_dim=12, sliding_window=32, rms_norm_eps=1e-5,
        torch_dtype="bfloat16",
        _=dict(dtype=torch.bfloat16, off=[{"sliding_window": None}], gguf_max_tokens=32),
    ),
    "qwen2": decoder(
        model_type="qwen2", architectures=["Qwen2ForCausalLM"], rope_theta=1000000.0, sliding_window=256,
        use_sliding_window=False, max_window_layers=3, tie_word_embeddings=True,
        torch_dtype="bfloat16", bos_token_id=556, eos_token_id=558,
        # published ones too have more rows than tokens
        _=dict(dtype=torch.bfloat16, tokenizer="qwen2", extra_rows=8, shards=2, no_bias=True),
    ),
    "qwen3": decoder(
        model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=16, rope_theta=None,
        rope_parameters=dict(rope_theta=1000000.0, rope_type="default"), attention_bias=False, sliding_window=None,
        use_sliding_window=False, max_window_layers=3, torch_dtype=None, dtype="float16",
        _=dict(dtype=torch.float16),
    ),
    "gemma2": gemma(
        model_type="gemma2", architectures=["Gemma2ForCausalLM"], attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0, query_pre_attn_scalar=48, sliding_window=16, num_hidden_layers=4,
        _=dict(
            qk=5.5,
            off=[{"attn_logit_softcapping": None}, {"sliding_window": 512}, {"query_pre_attn_scalar": 12}],
        ),
    ),
    "gemma3": gemma(**GEMMA3_TEXT, torch_dtype="bfloat16", _=dict(
        dtype=torch.bfloat16, tokenizer="gemma",
        off=[{"sliding_window": 512}, {"rope_local_base_freq": 1000000.0}, {"query_pre_attn_scalar": 12}],
    )),
    # the larger ones: rope_scaling on the global layers only
    "gemma3-linear": gemma(**GEMMA3_TEXT | dict(head_dim=8, query_pre_attn_scalar=32, intermediate_size=16), rope_scaling=dict(factor=8.0, rope_type="linear"), torch_dtype="bfloat16",
        _=dict(dtype=torch.bfloat16, off=[{"rope_scaling": None}])),
    "phi3": decoder(
        model_type="phi3", architectures=["Phi3ForCausalLM"], num_key_value_heads=4, rms_norm_eps=1e-5,
        original_max_position_embeddings=256, sliding_window=255, resid_pdrop=0.0, embd_pdrop=0.0,
        pad_token_id=0, _=dict(),
    ),
    "phi3-longrope": decoder(
        model_type="phi3", architectures=["Phi3ForCausalLM"], rms_norm_eps=1e-5, max_position_embeddings=512,
        original_max_position_embeddings=32, sliding_window=512, resid_pdrop=0.0, embd_pdrop=0.0, pad_token_id=0,
        rope_scaling=dict(type="longrope", short_factor=[1.05, 1.1, 1.3, 1.7], long_factor=[1.2, 1.9, 4.5, 14.0]),
        torch_dtype="bfloat16",
        _=dict(dtype=torch.bfloat16, off=[{"rope_scaling": None}]),
    ),
    "bert": dict(
        model_type="bert", architectures=["BertModel"], vocab_size=96, hidden_size=32, intermediate_size=48,
        num_hidden_layers=3, num_attention_heads=4, hidden_act="gelu", max_position_embeddings=128,
        type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0, attention_probs_dropout_prob=0.1,
        hidden_dropout_prob=0.1, initializer_range=0.02, position_embedding_type="absolute",
        torch_dtype="float16",
        _=dict(dtype=torch.float16, tokenizer="bert", no_bias=True, off=[{"hidden_act": "gelu_pytorch_tanh"}]),
    ),
    "xlm-roberta": dict(
        model_type="xlm-roberta", architectures=["XLMRobertaForMaskedLM"], vocab_size=96, hidden_size=32,
        intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, hidden_act="gelu",
        max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5, bos_token_id=0, pad_token_id=1,
        eos_token_id=2, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1, initializer_range=0.02,
        position_embedding_type="absolute",
        torch_dtype="float16",
        _=dict(dtype=torch.float16, prefix="roberta."),
    ),
    "gemma3-multimodal": dict(
        model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"], boi_token_index=90,
        eoi_token_index=91, image_token_index=92, mm_tokens_per_image=4, initializer_range=0.02, eos_token_id=[1, 94],
        torch_dtype="bfloat16",
        # like the published ones, most of text_config is left to the defaults: here only what the size needs is given
        text_config=dict(
            model_type="gemma3_text", vocab_size=96, hidden_size=32, intermediate_size=32, num_hidden_layers=6,
            num_attention_heads=4, num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=12,
            sliding_window=16, rope_scaling=dict(factor=8.0, rope_type="linear"),
        ),
        vision_config=dict(
            model_type="siglip_vision_model", hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, image_size=28, patch_size=14, vision_use_head=False,
        ),
        _=dict(dtype=torch.bfloat16),
    ),
}
# llama.cpp's architecture of each
GGUF = {
    "llama2": "llama", "llama3": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2",
    "gemma3": "gemma3", "gemma3-linear": "gemma3", "phi3": "phi3", "phi3-longrope": "phi3", "bert": "bert",
    "xlm-roberta": "bert",
}
ENCODERS = ("bert", "xlm-roberta")


def b64(vector):
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def randomise(model, seed, qk):
    """Random values for every parameter, of a size at which each block changes its input about as much as its size."""
    generator = torch.Generator().manual_seed(seed)
    gemma_norms = "gemma" in model.config.model_type
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(noise * 0.25 + (0.0 if gemma_norms else 1.0))
            elif name.endswith("bias"):
                parameter.copy_(noise * 0.3)
            elif "embed" in name:
                # the tied output of a decoder should give log-probabilities that differ
                parameter.copy_(noise * (0.5 if "word_emb" in name or "embed_tokens" in name else 0.4))
            elif name == "lm_head.weight":
                parameter.copy_(noise * 3.0 / math.sqrt(parameter.shape[-1]))
            else:
                scale = qk if ("q_proj" in name or "k_proj" in name) else 1.2
                parameter.copy_(noise * scale / math.sqrt(parameter.shape[-1]))


def build(name, config):
    how = config["_"]
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model*"):
        old.unlink()
    written = {k: v for k, v in config.items() if k != "_"}
    if "tokenizer" in how:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(TOKENIZERS / how["tokenizer"] / file, folder / file)
        written["vocab_size"] = len(AutoTokenizer.from_pretrained(folder)) + how.get("extra_rows", 0)
    ordered = {k: written[k] for k in ("architectures", "model_type")} | dict(sorted(written.items()))
    (folder / "config.json").write_text(json.dumps(ordered, indent=1) + "\n")

    dtype = how.get("dtype", torch.float32)
    auto = AutoModel if name in ENCODERS or "multimodal" in name else AutoModelForCausalLM
    if "multimodal" in name:
        model = Gemma3ForConditionalGeneration(AutoConfig.from_pretrained(folder)).float()
    else:
        model = auto.from_config(AutoConfig.from_pretrained(folder)).float()
    seed = 1000 + sorted(MODELS).index(name)
    randomise(model, seed, how.get("qk", 2.0))
    tensors = {k: v.detach().to(dtype).contiguous() for k, v in model.state_dict().items()}
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if name not in ENCODERS and tied:
        tensors.pop("lm_head.weight", None)
    if "multimodal" in name:  # the names of the published checkpoints; the image tower is not needed
        tensors = {
            k.replace("model.language_model.", "language_model.model."): v
            for k, v in tensors.items() if "language_model" in k
        }
    tensors = {how.get("prefix", "") + k: v for k, v in tensors.items() if "position_ids" not in k}

    shards = how.get("shards", 1)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        keys = sorted(tensors)
        index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())}, "weight_map": {}}
        for i in range(shards):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            part = keys[i * len(keys) // shards:(i + 1) * len(keys) // shards]
            save_file({k: tensors[k] for k in part}, folder / file, metadata={"format": "pt"})
            index["weight_map"] |= {k: file for k in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    if name in GGUF:
        write_gguf(name, written, tensors, folder / "model.gguf")
    return folder


def write_gguf(name, config, tensors, path, **metadata):
    """`model.gguf` as llama.cpp's converter writes it; `metadata` overrides keys (`rope.scaling.factor=8.0`).

    llama.cpp has no key for `query_pre_attn_scalar`: it divides by the square root of the head's width. Where the two
    differ, the ratio (a power of two, so without rounding) goes into the weights of q.
    """
    arch = GGUF[name]
    text = config.get("text_config", config)
    width, heads, layers = text["hidden_size"], text["num_attention_heads"], text["num_hidden_layers"]
    kv_heads = text.get("num_key_value_heads", heads)
    head_dim = text.get("head_dim", width // heads)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], layers)
    writer = gguf.GGUFWriter(path, arch)

    keys = {
        "context_length": text.get("max_position_embeddings", 131072), "embedding_length": width,
        "block_count": layers, "feed_forward_length": text["intermediate_size"], "attention.head_count": heads,
    }
    if name == "xlm-roberta":
        keys["context_length"] -= 1 + text["pad_token_id"]
    if arch == "bert":
        keys |= {"attention.layer_norm_epsilon": text["layer_norm_eps"], "attention.causal": False}
    else:
        rope = text.get("rope_parameters") or {}
        scaling = text.get("rope_scaling") or {}
        theta = text.get("rope_theta", rope.get("rope_theta", 1000000.0 if arch == "gemma3" else 10000.0))
        keys |= {"attention.head_count_kv": kv_heads,
                 "attention.layer_norm_rms_epsilon": text.get("rms_norm_eps", 1e-6)}
        if arch != "gemma2":
            keys["rope.freq_base"] = float(theta)
        if "head_dim" in text:
            keys |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
        if arch in ("llama", "phi3"):
            keys["rope.dimension_count"] = head_dim
        if arch == "llama":
            keys["vocab_size"] = text["vocab_size"]
        if arch in ("gemma2", "gemma3", "phi3"):
            keys["attention.sliding_window"] = text["sliding_window"]
        if arch == "gemma2":
            keys |= {"attn_logit_softcapping": text["attn_logit_softcapping"],
                     "final_logit_softcapping": text["final_logit_softcapping"]}
        if "rope_local_base_freq" in text and not scaling:  # older converters leave it out, newer write it
            keys["rope.freq_base_swa"] = text["rope_local_base_freq"]
        if scaling.get("rope_type") == "linear":
            keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": scaling["factor"]}
        if arch == "phi3":
            original = text["original_max_position_embeddings"]
            keys["rope.scaling.original_context_length"] = original
            if scaling:
                ratio = text["max_position_embeddings"] / original
                keys |= {"rope.scaling.type": "longrope",
                         "rope.scaling.attn_factor": math.sqrt(1 + math.log(ratio) / math.log(original))}
    keys |= metadata
    writer.add_type("model")
    writer.add_name("Tiny")  # llama.cpp expects more of the vocabulary where the name says phi3
    for key, value in keys.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](f"{arch}.{key}", value)
    (real_vocabulary if "tokenizer" in MODELS[name]["_"] else trivial_vocabulary)(writer, name, text)

    wide = {torch.float32: None, torch.float16: gguf.GGMLQuantizationType.F16, torch.bfloat16: gguf.GGMLQuantizationType.BF16}
    stored = {}
    for key, tensor in tensors.items():
        key = key.replace("language_model.model.", "model.").removeprefix("roberta.")
        if key.startswith("pooler."):
            continue
        value = tensor.float()
        if arch == "llama" and key.endswith(("q_proj.weight", "k_proj.weight")):
            # rows of each head: rotated pairs next to each other, as llama's own weights have them
            n = heads if "q_proj" in key else kv_heads
            value = value.reshape(n, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(value.shape)
        if arch.startswith("gemma") and key.endswith("norm.weight"):
            value = value + 1
        scalar = text.get("query_pre_attn_scalar", head_dim)
        if key.endswith("q_proj.weight" if arch == "gemma2" else "q_norm.weight") and scalar != head_dim and "gemma" in arch:
            value = value * math.sqrt(head_dim / scalar)
        if name == "xlm-roberta" and "position_embeddings" in key:
            value = value[1 + text["pad_token_id"]:]
        stem, suffix = key.rsplit(".", 1)
        small = value.dim() == 1 or "position_embeddings" in key or "token_type" in key
        kind = None if small else wide[tensor.dtype]
        stored[f"{names.get_name(stem)}.{suffix}"] = (value.contiguous().numpy(), kind)
    if (text.get("rope_scaling") or {}).get("rope_type") == "llama3":
        stored["rope_freqs.weight"] = (llama3_factors(text, head_dim), None)
    if arch == "phi3" and text.get("rope_scaling"):
        for k in ("long", "short"):
            stored[f"rope_factors_{k}.weight"] = (np.array(text["rope_scaling"][f"{k}_factor"], np.float32), None)
    for key, (value, kind) in sorted(stored.items()):
        if kind is not None:
            value = gguf.quants.quantize(value, kind)
        writer.add_tensor(key, value, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3_factors(text, head_dim):
    """By what each rotation's frequency is divided under rope_scaling `llama3`."""
    scaling = text["rope_scaling"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    original = scaling["original_max_position_embeddings"]
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * text["rope_theta"] ** (i / head_dim)
        smooth = min(max((original / wavelength - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def real_vocabulary(writer, name, text):
    """The folder's tokenizer.json in GGUF's form."""
    kind = gguf.TokenType
    folder = ROOT / name
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    pieces = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    added = {t["id"]: t for t in tokenizer["added_tokens"]}
    by_id = {i: piece for piece, i in pieces.items()}
    spm = "<0x00>" in pieces
    model = "bert" if name == "bert" else "llama" if spm else "gpt2"
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"].get("merges", [])]
    ranks = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    tokens, scores, kinds = [], [], []
    for i in range(text["vocab_size"]):
        piece = by_id.get(i, f"[PAD{i}]")
        score, this = 0.0, kind.NORMAL
        if i not in by_id:
            this = kind.UNUSED
        elif i in added:
            this = kind.CONTROL if added[i]["special"] else kind.USER_DEFINED
            score = -1000.0
            if this == kind.USER_DEFINED:
                piece = piece.replace("\u2581", " ")
            if spm and piece == "<unk>" and model == "llama":
                this = kind.UNKNOWN
        elif spm and len(piece) == 6 and piece.startswith("<0x"):
            this = kind.BYTE
        elif spm:
            score = -float(ranks.get(piece, len(merges) + i))
        elif model == "bert":
            piece = piece[2:] if piece.startswith("##") else "\u2581" + piece
        tokens.append(piece)
        scores.append(score)
        kinds.append(int(this))
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre({"llama3": "llama-bpe", "qwen2": "qwen2", "bert": "jina-v2-en"}.get(name, "default"))
    writer.add_token_list(tokens)
    if spm:
        writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    if model == "gpt2":
        writer.add_token_merges(merges)
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "cls": "cls", "sep": "seperator", "mask": "mask"}
    for role, key in roles.items():
        if settings.get(f"{role}_token"):
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", pieces[settings[f"{role}_token"]])
    if model == "bert":
        writer.add_bos_token_id(pieces["[CLS]"])
        writer.add_token_type_count(text["type_vocab_size"])
    else:
        writer.add_add_bos_token(name != "qwen2")
    if spm:
        writer.add_add_space_prefix(name != "gemma3")
    if "chat_template" in settings:
        writer.add_chat_template(settings["chat_template"])


def trivial_vocabulary(writer, name, text):
    """Enough of a tokenizer that llama.cpp opens the file: ids have names, nothing more is meant by them."""
    kind = gguf.TokenType
    model, special = {
        "bert": ("bert", {"[PAD]": "padding", "[UNK]": "unknown", "[CLS]": "cls", "[SEP]": "seperator", "[MASK]": "mask"}),
        "xlm-roberta": ("t5", {"<s>": "bos", "<pad>": "padding", "</s>": "eos", "<unk>": "unknown"}),
    }.get(name, ("llama", {"<unk>": "unknown", "<s>": "bos", "</s>": "eos", "<0x0A>": None}))
    words = [f"\u2581{chr(97 + i % 26)}{i // 26 or ''}" for i in range(text["vocab_size"] - len(special))]
    kinds = [kind.BYTE if role is None else kind.UNKNOWN if role == "unknown" else kind.CONTROL for role in special.values()]
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(special) + words)
    if model != "bert":
        writer.add_token_scores([0.0] * len(special) + [-float(i + 1) for i in range(len(words))])
    writer.add_token_types([int(k) for k in kinds] + [int(kind.NORMAL)] * len(words))
    for i, role in enumerate(special.values()):
        if role is not None:  # the format's own spelling is "seperator"
            writer.add_uint32(f"tokenizer.ggml.{role}_token_id", i)
    if model == "llama":
        writer.add_add_bos_token(True)
    else:
        writer.add_token_type_count(text["type_vocab_size"])


def load(name, folder, config=None):
    """The stored model as transformers reads it, in float32; fails if a weight is missing."""
    options = dict(dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    if config is not None:
        options["config"] = config
    if "multimodal" in name:
        model, info = Gemma3ForConditionalGeneration.from_pretrained(folder, **options)
        missing = [k for k in info["missing_keys"] if "vision" not in k and "projector" not in k]
    else:
        auto = AutoModel if name in ENCODERS else AutoModelForCausalLM
        if name == "xlm-roberta":
            options["add_pooling_layer"] = False
        model, info = auto.from_pretrained(folder, **options)
        missing = list(info["missing_keys"])
    assert not missing, f"{name}: missing {missing}"
    assert not info["unexpected_keys"] or name in ENCODERS, f"{name}: unexpected {info['unexpected_keys']}"
    return model.eval()


@torch.inference_mode()
def hidden(model, ids):
    return model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)


@torch.inference_mode()
def encoder_hidden(model, ids):
    return model(input_ids=torch.tensor([ids]), output_hidden_states=True)


def sequences(vocab, specials):
    rng = np.random.default_rng(7)
    allowed = [i for i in range(vocab) if i not in specials]
    return [[int(t) for t in rng.choice(allowed, size=n)] for n in LENGTHS]


def reference(name, model):
    config = model.config.get_text_config()
    run = encoder_hidden if name in ENCODERS else hidden
    specials = set(range(4)) | {90, 91, 92, 94}
    out = dict(
        name=name, architecture=type(model).__name__, dim=config.hidden_size, layers=config.num_hidden_layers,
    )
    if "gguf_max_tokens" in MODELS[name]["_"]:
        out["gguf_max_tokens"] = MODELS[name]["_"]["gguf_max_tokens"]
    out["sequences"] = []
    smallest_gap = math.inf
    inputs = [(ids, "sequences", {}) for ids in sequences(config.vocab_size, specials)]
    if "tokenizer" in MODELS[name]["_"]:
        out["texts"] = []
        tokenizer = AutoTokenizer.from_pretrained(ROOT / name)
        inputs += [(tokenizer(text)["input_ids"], "texts", {"text": text}) for text in TEXTS]
    for ids, where, entry in inputs:
        result = run(model, ids)
        states = [h[0].float() for h in result.hidden_states]
        entry |= dict(
            input_ids=ids, last=[b64(h[-1]) for h in states], mean=[b64(h.double().mean(0).float()) for h in states],
        )
        assert len(states) == config.num_hidden_layers + 1
        if name not in ENCODERS:
            log_probs = torch.log_softmax(result.logits[0].double(), -1)
            top = torch.topk(log_probs[-1], 5)
            entry["top5"] = [[int(i), round(float(v), 6)] for v, i in zip(top.values, top.indices)]
            entry["log_likelihood"] = round(float(sum(log_probs[i - 1, ids[i]] for i in range(1, len(ids)))), 5)
            text, greedy = list(ids), []
            for _ in range(GREEDY):
                step = torch.log_softmax(hidden(model, text).logits[0, -1].double(), -1)
                best = torch.topk(step, 2)
                smallest_gap = min(smallest_gap, float(best.values[0] - best.values[1]))
                greedy.append(int(best.indices[0]))
                text.append(greedy[-1])
            entry["greedy"] = greedy
        out[where].append(entry)
    return out, smallest_gap


def vectors(entry, layers):
    return np.frombuffer(b"".join(base64.b64decode(v) for k in ("last", "mean") for v in entry[k][1:]), "<f4")


def must_matter(name, folder, out):
    """Each special property, switched off, changes the vectors of the longest text."""
    how = MODELS[name]["_"]
    want = vectors(out["sequences"][-1], out["layers"])
    changes = []
    for off in how.get("off", []):
        changed = {k: v for k, v in json.loads((folder / "config.json").read_text()).items()} | off
        config = AutoConfig.for_model(**{k: v for k, v in changed.items() if v is not None or k in off})
        model = load(name, folder, config)
        got, _ = reference(name, model)
        changes.append((str(off), vectors(got["sequences"][-1], out["layers"])))
    model = load(name, folder)
    kinds = {"norm weights": lambda n: "norm" in n.lower() and n.endswith("weight")}
    if how.get("no_bias"):
        kinds["biases"] = lambda n: n.endswith("bias")
    for kind, chosen in kinds.items():
        model = load(name, folder)
        with torch.no_grad():
            for n, p in model.named_parameters():
                if chosen(n):
                    p.fill_(0.0 if kind == "biases" or "gemma" in name else 1.0)
        got, _ = reference(name, model)
        changes.append((kind, vectors(got["sequences"][-1], out["layers"])))
    for kind, got in changes:
        difference = float(np.linalg.norm(got - want) / np.linalg.norm(want))
        print(f"    without {kind}: vectors change by {difference:.4f}")
        # the two forms of gelu are within 5e-4 of each other everywhere
        assert difference > (5e-5 if "gelu" in kind else 1e-3), f"{name}: {kind} does not matter"


def float32_gguf(into):
    """GGUF files of the stored models with every tensor in float32, for a comparison without llama.cpp's rounding.

    llama.cpp takes the long factors of `phi3-longrope` when the context (256 at least) is longer than the original:
    `phi3-longrope-short` says that the original is longer, so that the short ones can be compared too.
    """
    into.mkdir(parents=True, exist_ok=True)
    for name in GGUF:
        folder = ROOT / name
        tensors = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= {k: v.float() for k, v in load_file(file).items()}
        config = json.loads((folder / "config.json").read_text())
        write_gguf(name, config, tensors, into / f"{name}.gguf")
        if name == "phi3-longrope":
            longer = {"rope.scaling.original_context_length": 4096}
            write_gguf(name, config, tensors, into / f"{name}-short.gguf", **longer)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arguments = sys.argv[1:]
    if arguments[:1] == ["--float32-gguf"]:
        return float32_gguf(Path(arguments[1]))
    names = arguments or list(MODELS)
    for name in names:
        folder = build(name, MODELS[name])
        model = load(name, folder)
        out, gap = reference(name, model)
        (folder / "reference.json").write_text(json.dumps(out, separators=(",", ":")).replace('{"input_ids', '\n{"input_ids') + "\n")
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: {size / 1000:.0f} kB, smallest greedy gap {gap:.4f}")
        must_matter(name, folder, out)


if __name__ == "__main__":
    main()
