#!/usr/bin/env python3
"""Score with exported reward models in the libraries that they are for; scripts/test_export.py calls it.

    python scripts/check_exports.py exported.json

Each folder's own verify.py is run. Folders for transformers are also scored as TRL does it (its template function and
its call of the tokenizer, as in `GRPOTrainer`), and by rewardbench's pipeline, which adds a second BOS and masks it.
"""

import contextlib
import importlib.util
import io
import json
import pathlib
import runpy
import sys

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl.data_utils import apply_chat_template

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def rewardbench_pipeline():
    """rewardbench's pipeline, without the package's other files and their needs; on the CPU."""
    packages = importlib.util.find_spec("rewardbench").submodule_search_locations
    path = pathlib.Path(packages[0]) / "models" / "pipeline.py"
    spec = importlib.util.spec_from_file_location("rewardbench_pipeline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    transformers.BatchEncoding.to = lambda self, *_: self
    return module.RewardBenchPipeline


def by_trl(model, tokenizer, rows):
    """`GRPOTrainer._calculate_rewards` of TRL 1.16 with a model as its reward function."""
    texts = [apply_chat_template({"messages": row["messages"]}, tokenizer)["text"] for row in rows]
    inputs = tokenizer(text=texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    with torch.no_grad():
        return model(**inputs).logits[:, 0]


def by_rewardbench(model, tokenizer, rows):
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    pipeline = rewardbench_pipeline()("text-classification", model, tokenizer)
    return pipeline(texts, padding=True, truncation=True, max_length=2048)[:, 0]


def main():
    failed = 0
    for one in json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")):
        folder = pathlib.Path(one["folder"])
        said = io.StringIO()
        try:
            sys.argv = ["verify.py"]
            with contextlib.redirect_stdout(said):
                runpy.run_path(str(folder / "verify.py"), run_name="__main__")
            outcome = said.getvalue().strip()
            if one["target"] == "transformers":
                rows = [json.loads(line) for line in open(folder / "verify.jsonl", encoding="utf-8")]
                tokenizer = AutoTokenizer.from_pretrained(folder)
                model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
                expected = torch.tensor([row["reward"] for row in rows]) + model.config.mean
                for name, score in (("TRL", by_trl), ("rewardbench", by_rewardbench)):
                    error = (score(model, tokenizer, rows).float() - expected).abs().max().item()
                    outcome += f"; {name} {error:.2e}"
                    if not error <= 1e-3:
                        raise SystemExit(f"{outcome}: other rewards")
        except SystemExit as end:
            outcome, failed = f"FAILED: {said.getvalue().strip()} {end}", failed + 1
        except Exception as error:  # what a library raises about a folder is what is tested here
            outcome, failed = f"FAILED: {type(error).__name__}: {error}", failed + 1
        print(f"{one['target']}: {one['what']}\n    {outcome}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
