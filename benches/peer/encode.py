#!/usr/bin/env python3
"""Embed preference pairs with transformers: the peer that `lens embed` is measured against.

    pip install -r benches/peer/requirements.txt
    python benches/peer/encode.py --model all-MiniLM-L6-v2/ --pairs hh.jsonl.gz --n-pairs 60 --dtype f32 --json
    python benches/peer/encode.py --model gemma.gguf --pairs hh.jsonl.gz --dtype bf16 --json
    python benches/peer/encode.py --model gemma.gguf --pairs hh.jsonl.gz --best-of 8 --prompt-tokens 200 \
        --response-tokens 100 [--share-prompt] --json

What is measured is what a careful user of transformers would write: both texts of a pair (prompt and response as
stored), tokenized and cut to `--max-length`, sorted by length, in right-padded batches of at most `--batch-tokens`
tokens (padding counted), scaled-dot-product attention, inference mode, all cores; the vector is the last real token's
after the final norm, or for a bidirectional encoder the mean over the real tokens. Loading, tokenizing and one
warm-up batch are not in `seconds`.

`--best-of N` instead embeds N responses to one prompt, made of the pairs' own tokens: as N whole texts in one batch,
or with `--share-prompt` the prompt once and the N responses as a batch on copies of its keys and values. The cost of
either is in `seconds`; tokens are counted as N (prompt + response) both times, so that the two compare.

Output (`--json`: one line of JSON):

    model, dtype, threads, texts, tokens   the job; tokens without padding
    padded_tokens                          what the model had to compute
    seconds                                best of `--repeat` runs; `all_seconds` has every one
    cpu_seconds                            processor time of the cheapest run, all threads: on a busy machine it tells
                                           more than `seconds`
    tokens_per_s, texts_per_s              of the best run
    tokenize_seconds, load_seconds         not in `seconds`
    peak_mb                                the process's largest resident size so far, loading included
"""

import argparse
import gzip
import json
import os
import resource
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file or a folder of transformers")
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines (.gz) with prompt, chosen, rejected")
    parser.add_argument("--n-pairs", type=int, default=60)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--best-of", type=int, metavar="N")
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--response-tokens", type=int, default=100)
    parser.add_argument("--share-prompt", action="store_true")
    parser.add_argument("--save", type=Path, help="write the vectors as .npy, in the order of the texts")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def load(path, dtype):
    place = dict(pretrained_model_name_or_path=path)
    if path.suffix == ".gguf":
        place = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    model = AutoModel.from_pretrained(**place, dtype=DTYPES[dtype], attn_implementation="sdpa").eval()
    return tokenizer, model


def texts_of(path, n_pairs):
    """Both texts of the first `n_pairs` pairs: chosen, rejected, chosen, .."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(n_pairs))]
    return [row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")]


def batches(lengths, budget):
    """Indices of texts, longest first, in groups whose padded size stays within `budget` tokens."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups, group = [], []
    for i in order:
        if group and lengths[group[0]] * (len(group) + 1) > budget:
            groups.append(group)
            group = []
        group.append(i)
    return groups + ([group] if group else [])


def padded(ids, group, pad):
    longest = len(ids[group[0]])
    tokens = torch.full((len(group), longest), pad)
    mask = torch.zeros_like(tokens)
    for row, i in enumerate(group):
        tokens[row, :len(ids[i])] = torch.tensor(ids[i])
        mask[row, :len(ids[i])] = 1
    return tokens, mask


def pooled(states, mask, bidirectional):
    if bidirectional:
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)
    return states[torch.arange(len(mask)), mask.sum(1) - 1]


@torch.inference_mode()
def embed(model, ids, groups, pad, bidirectional):
    vectors = [None] * len(ids)
    options = {} if bidirectional else {"use_cache": False}
    for group in groups:
        tokens, mask = padded(ids, group, pad)
        states = model(input_ids=tokens, attention_mask=mask, **options).last_hidden_state
        for i, vector in zip(group, pooled(states, mask, bidirectional)):
            vectors[i] = vector.float()
    return torch.stack(vectors)


@torch.inference_mode()
def embed_shared(model, prompt, responses):
    """The prompt once; all responses as one batch on its repeated cache."""
    cache = model(input_ids=torch.tensor([prompt]), use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(responses))
    return model(input_ids=torch.tensor(responses), past_key_values=cache, use_cache=True).last_hidden_state[:, -1].float()


def main():
    options = arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    tokenizer, model = load(options.model, options.dtype)
    load_seconds = time.perf_counter() - start

    start = time.perf_counter()
    texts = texts_of(options.pairs, options.n_pairs)
    ids = tokenizer(texts, truncation=True, max_length=options.max_length)["input_ids"]
    tokenize_seconds = time.perf_counter() - start
    bidirectional = not getattr(model.config, "is_decoder", False) and model.config.model_type in ("bert", "xlm-roberta", "roberta")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    if options.best_of:
        stream = [token for text in ids for token in text]
        needed = options.prompt_tokens + options.best_of * options.response_tokens
        stream = stream * (needed // len(stream) + 1)
        prompt = stream[:options.prompt_tokens]
        rest = iter(stream[options.prompt_tokens:])
        responses = [[next(rest) for _ in range(options.response_tokens)] for _ in range(options.best_of)]
        ids = [prompt + response for response in responses]
    groups = batches([len(i) for i in ids], options.batch_tokens)
    padded_tokens = sum(len(ids[g[0]]) * len(g) for g in groups)
    if options.best_of and options.share_prompt:
        padded_tokens = options.prompt_tokens + options.best_of * options.response_tokens

        def job():
            return embed_shared(model, prompt, responses)
    else:

        def job():
            return embed(model, ids, groups, pad, bidirectional)

    warm_up = groups[:1]
    order = {index: position for position, index in enumerate(warm_up[0])}
    embed(model, [ids[index] for index in order], [list(order.values())], pad, bidirectional)
    all_seconds, cpu_seconds = [], []
    for _ in range(options.repeat):
        start, cpu = time.perf_counter(), time.process_time()
        vectors = job()
        all_seconds.append(round(time.perf_counter() - start, 4))
        cpu_seconds.append(round(time.process_time() - cpu, 4))
    assert torch.isfinite(vectors).all()

    seconds, tokens = min(all_seconds), sum(len(i) for i in ids)
    report = dict(
        model=options.model.name, dtype=options.dtype, threads=options.threads, texts=len(ids), tokens=tokens,
        padded_tokens=padded_tokens, seconds=seconds, tokens_per_s=round(tokens / seconds, 1),
        texts_per_s=round(len(ids) / seconds, 2), all_seconds=all_seconds, cpu_seconds=min(cpu_seconds),
        load_seconds=round(load_seconds, 2),
        tokenize_seconds=round(tokenize_seconds, 3),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
    )
    if options.best_of:
        report |= dict(best_of=options.best_of, prompt_tokens=options.prompt_tokens,
                       response_tokens=options.response_tokens, share_prompt=options.share_prompt)
    if options.save:
        import numpy
        numpy.save(options.save, vectors.numpy())
    if options.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:17} {value}")


if __name__ == "__main__":
    main()
