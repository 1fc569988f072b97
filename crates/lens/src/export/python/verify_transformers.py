"""Scores the texts of verify.jsonl with transformers, and compares with what LENS says of them.

    python verify.py [--tolerance 0.001]
"""

import argparse
import json
import pathlib

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = pathlib.Path(__file__).resolve().parent
options = argparse.ArgumentParser()
options.add_argument("--tolerance", type=float, default=@TOLERANCE@)
tolerance = options.parse_args().tolerance
rows = [json.loads(line) for line in open(folder / "verify.jsonl", encoding="utf-8")]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=@REMOTE@)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=@REMOTE@).eval()
# A head of transformers has no constant: it stands in the configuration.
constant = getattr(model.config, "mean", 0.0)

if tokenizer.chat_template:
    # The chat template writes the whole text, BOS and all.
    texts, added = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows], False
else:
    texts, added = [row["text"] for row in rows], True
batch = tokenizer(texts, add_special_tokens=added, padding=True, return_tensors="pt")
tokens = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"])]
same = sum(ours == row["token_ids"] for ours, row in zip(tokens, rows))
with torch.no_grad():
    rewards = model(**batch).logits[:, 0].float() - constant
expected = torch.tensor([row["reward"] for row in rows])
error = (rewards - expected).abs().max().item()
print(f"{len(rows)} texts: {same} with the same tokens, largest difference of rewards {error:.2e}, "
      f"rewards from {expected.min():.2f} to {expected.max():.2f}")
if same < len(rows) or not error <= tolerance:
    raise SystemExit("the rewards are not those of LENS")
