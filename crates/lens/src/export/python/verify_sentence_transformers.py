"""Scores the texts of verify.jsonl with sentence-transformers, and compares with what LENS says of them.

    python verify.py [--tolerance 0.001]
"""

import argparse
import json
import pathlib

import torch
from sentence_transformers import SentenceTransformer

folder = pathlib.Path(__file__).resolve().parent
options = argparse.ArgumentParser()
options.add_argument("--tolerance", type=float, default=@TOLERANCE@)
tolerance = options.parse_args().tolerance
rows = [json.loads(line) for line in open(folder / "verify.jsonl", encoding="utf-8")]
model = SentenceTransformer(str(folder), device="cpu")

# `text` is the conversation as the chat template writes it, without the tokens that the tokenizer adds.
texts = [row["text"] for row in rows]
same = sum(model.tokenizer(text)["input_ids"] == row["token_ids"] for text, row in zip(texts, rows))
rewards = model.encode(texts, convert_to_tensor=True)[:, 0].float()
expected = torch.tensor([row["reward"] for row in rows])
error = (rewards - expected).abs().max().item()
print(f"{len(rows)} texts: {same} with the same tokens, largest difference of rewards {error:.2e}, "
      f"rewards from {expected.min():.2f} to {expected.max():.2f}")
if same < len(rows) or not error <= tolerance:
    raise SystemExit("the rewards are not those of LENS")
