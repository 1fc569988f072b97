"""Best-of-4 on questions whose four answers people have compared: the part of scripts/results.py that no
ready-made study covers. Each split trains on the pairs of some questions, and picks among the answers to
others. Python's standard library only."""

import gzip
import json
import random
import shutil
import statistics
import subprocess

SPLITS = 10
# What tables call it, and the number of questions trained on.
SIZES = [("about 300 pairs", 58), ("about 1,310 pairs", 250)]
# The control has the weight decay of the least log-loss on its folds, as in the study `views`.
DECAYS = ["0.1", "0.3", "1.0"]
ASKED = ["--layer", "-1", "--pooling", "last"]
ARMS = {"auto": ["--augment", "1"], "auto, 4x": []}
ARMS |= {f"control {d}": ["--augment", "1", *ASKED, "--set", f"head.weight_decay={d}"] for d in DECAYS}


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(lens, data, out):
    """One file a split, size and arm; what is there already is not done again."""
    folder = out / "best-of-4"
    folder.mkdir(parents=True, exist_ok=True)
    ranked = read(data / "finegrained-qa" / "best-of-4.jsonl.gz")
    pairs = read(data / "finegrained-qa" / "pairs.jsonl.gz")
    for split in range(SPLITS):
        questions = [row["prompt"] for row in ranked]
        random.Random(split).shuffle(questions)
        held = set(questions[max(n for _, n in SIZES):])
        keys = ("prompt", "responses", "scores")
        answers = [{k: row[k] for k in keys} for row in ranked if row["prompt"] in held]
        write(folder / "answers.jsonl", answers)
        for _, count in SIZES:
            seen = set(questions[:count])
            keys = ("prompt", "chosen", "rejected")
            write(folder / "pairs.jsonl", [{k: p[k] for k in keys} for p in pairs if p["prompt"] in seen])
            for arm, flags in ARMS.items():
                done = cell(folder, count, arm, split)
                if not done.exists():
                    done.write_text(json.dumps(one(lens, folder, split, flags)), encoding="utf-8")


def cell(folder, count, arm, split):
    return folder / f"{count}-{arm.replace(', ', '-').replace(' ', '-')}-{split}.json"


def one(lens, folder, split, flags):
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    command = [lens, "run", folder / "pairs.jsonl", "--holdout", "0", "--seed", split, "-o", model, *flags]
    print("$", *map(str, command), flush=True)
    subprocess.run([*map(str, command), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    command = [lens, "eval", model, folder / "answers.jsonl", "--json", "--quiet"]
    said = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout
    folds = json.loads((model / "lens.json").read_text(encoding="utf-8"))["figures"]["folds"]
    return {"folds": folds, "best_of_n": json.loads(said)["evaluation"]["best_of_n"]}


def table(out, markdown):
    """Normalised gain, (R_n - random) / (oracle - random), in the mean over splits."""
    folder, parts = out / "best-of-4", []
    for label, count in SIZES:
        load = lambda arm, split: json.loads(cell(folder, count, arm, split).read_text(encoding="utf-8"))
        runs = {"control": []}
        for split in range(SPLITS):
            tried = [load(f"control {d}", split) for d in DECAYS]
            runs["control"].append(min(tried, key=lambda r: r["folds"]["none"]["log_loss"]))
        for arm in ["auto", "auto, 4x"]:
            runs[arm] = [load(arm, split) for split in range(SPLITS)]
        gain = lambda r: (r["gold"] - r["random"]) / (r["oracle"] - r["random"])
        figures = {}
        for arm, of in runs.items():
            curves = [r["best_of_n"] for r in of]
            flat = [{"random": c["random"]["value"], **c["curve"][i]} for i in (1, 3) for c in curves]
            figures[arm] = {2: [gain(r) for r in flat[:SPLITS]], 4: [gain(r) for r in flat[SPLITS:]],
                            "accuracy": [c["pair_accuracy"]["value"] for c in curves]}
        rows = []
        for arm, of in figures.items():
            better = sum(a > b for a, b in zip(of[4], figures["control"][4]))
            deviation = statistics.stdev(a - b for a, b in zip(of[4], figures["control"][4]))
            rows.append([arm, *[f"{100 * statistics.mean(of[n]):.1f}%" for n in (2, 4)],
                         "" if arm == "control" else f"{better} of {SPLITS} (deviation {100 * deviation:.1f})",
                         f"{100 * statistics.mean(of['accuracy']):.1f}%"])
        head = [label, "best of 2", "best of 4", "splits in which best of 4 is higher", "pair accuracy"]
        parts.append(markdown(head, rows))
    return "\n\n".join(parts)
