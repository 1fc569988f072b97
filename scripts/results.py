#!/usr/bin/env python3
"""Run the ready-made studies on public preference data, and put their tables into docs/results.md.

    python3 scripts/results.py run DATA OUT [--only DATASET/STUDY ..] [--qwen MODEL]
    python3 scripts/results.py tables OUT

DATA is a folder with hh-rlhf/{harmless,helpful}-{seed,heldout}.jsonl.gz, tldr/pairs.jsonl.gz,
finegrained-qa/{pairs,best-of-4}.jsonl.gz and embeddings/ (the states of a larger model that are at hand);
OUT is where embeddings and studies go. What is there already is not done again, so that an interrupted
run goes on where it was. About two hours on two cores, half of it embedding; another two with
`--qwen`, a Qwen2.5-Coder-1.5B as `lens embed --model` takes it. `tables` replaces what stands
between `<!-- table NAME -->` and `<!-- end -->` in docs/results.md, and leaves the words around it
alone. Python's standard library only; target/release/lens has to be built.
"""

import argparse
import gzip
import json
import pathlib
import re
import struct
import subprocess
import sys

import best_of_n

ROOT = pathlib.Path(__file__).resolve().parent.parent
LENS = ROOT / "target" / "release" / "lens"
PAGE = ROOT / "docs" / "results.md"

# Name: what tables call it, files, seed pairs of most studies, those of `seeds`, and those of `views` and
# `synthesis`.
HH_SEEDS = "50,100,200,400,800,1600"
DATASETS = {
    "harmless": ("HH harmless", ["hh-rlhf/harmless-seed", "hh-rlhf/harmless-heldout"], "1000",
                 HH_SEEDS, "100,300,1000"),
    "helpful": ("HH helpful", ["hh-rlhf/helpful-seed", "hh-rlhf/helpful-heldout"], "1000",
                HH_SEEDS, "100,300,1000"),
    "tldr": ("TL;DR", ["tldr/pairs"], "all", "50,100,200,400,800", "100,300,700"),
}
# The same sets with states of a model that is six times larger, and so slow on a processor that only the
# shortest pairs are embedded, as many as here: for the study of views alone.
QWEN = {
    "qwen-harmless": ("Qwen, HH harmless", "harmless", 640, "100,300,420"),
    "qwen-helpful": ("Qwen, HH helpful", "helpful", 700, "100,300,500"),
    "qwen-tldr": ("Qwen, TL;DR", "tldr", 420, "100,200,300"),
}
QWEN_STATES = "embeddings/hh-harmless-test.qwen2.5-coder-1.5b.views.safetensors"
STUDIES = ["table-1", "noise", "gamma", "factor", "seeds", "encoders", "layer", "cost", "views",
           "synthesis"]
# All the views that some study asks for, in one pass.
VIEWS = ["layer=all,pooling=last", "layer=all,pooling=mean",
         "suffix= Is this answer helpful, honest and harmless? Answer:"]
# These name their views themselves.
NAMES_VIEWS = {"layer", "encoders"}
# The views of these: what `lens run --views auto` chooses from, and those that a VAE is trained on in
# little time. All others have the last token of the last layer.
LAST, MEAN = "layer=-1,pooling=last", "layer=-1,pooling=mean"
SEVERAL = {
    "views": [LAST, MEAN, "layer=6,pooling=last", "layer=6,pooling=mean", "layer=12,pooling=last",
              "layer=12,pooling=mean", f"{LAST},{VIEWS[2]}"],
    "synthesis": [LAST, MEAN],
}

QWEN_QUESTION = " Is the last reply helpful, honest and harmless? Answer:"
QWEN_VIEWS = [f"layer={layer},pooling={pooling}" for layer in (28, 19, 10) for pooling in ("last", "mean")]
QWEN_VIEWS.append(f"layer=28,pooling=last,suffix={QWEN_QUESTION}")


def lens(*arguments):
    command = [str(LENS), *map(str, arguments)]
    print("$ lens", *arguments, flush=True)
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"lens {arguments[0]} failed")


def named(views):
    """Views as the flags that name them."""
    return [x for view in views for x in ("--view", view)]


def pool(data, out, name):
    """All pairs of a set in one file."""
    pairs = out / f"{name}.jsonl"
    if not pairs.exists():
        parts = [gzip.open(data / f"{file}.jsonl.gz", "rt", encoding="utf-8") for file in DATASETS[name][1]]
        pairs.write_text("".join(part.read() for part in parts), encoding="utf-8")
    return pairs


def shortest(pairs, count):
    """The lines of the shortest pairs, in their order."""
    lines = pairs.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    length = [sum(len(row[part]) for part in ("prompt", "chosen", "rejected")) for row in rows]
    return "".join(lines[i] for i in sorted(sorted(range(len(rows)), key=length.__getitem__)[:count]))


def side_by_side(stored, out):
    """Turns a file with a tensor for each side and view into one of embeddings with several views."""
    whole = stored.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8:start])
    views, columns = [], 0
    for name in ("plain_last", "plain_layer14", "plain_mean", "asked_last", "asked_layer20", "asked_mean"):
        layer = re.search(r"layer(\d+)", name)
        view = {"layer": int(layer[1]) if layer else 28, "pooling": "mean" if "mean" in name else "last"}
        if name.startswith("asked"):
            view["suffix"] = QWEN_QUESTION
        width = header[f"chosen_{name}"]["shape"][1]
        views.append((name, {"columns": [columns, columns + width], "view": view}))
        columns += width
    sides, tensors, at = [], {}, 0
    for side in ("chosen", "rejected"):
        rows = header[f"{side}_plain_last"]["shape"][0]
        parts = []
        for name, _ in views:
            first, last = (start + offset for offset in header[f"{side}_{name}"]["data_offsets"])
            step = (last - first) // rows
            parts.append([whole[first + i * step:first + (i + 1) * step] for i in range(rows)])
        sides.append(b"".join(b"".join(row) for row in zip(*parts)))
        tensors[side] = {"dtype": "F16", "shape": [rows, columns], "data_offsets": [at, at + len(sides[-1])]}
        at += len(sides[-1])
    metadata = {"views": json.dumps([view for _, view in views])}
    text = json.dumps({"__metadata__": metadata, **tensors}).encode()
    text += b" " * (-len(text) % 8)
    out.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(sides))


def run_qwen(data, out, name, model):
    _, of, count, seeds = QWEN[name]
    stored = out / f"{name}.safetensors"
    if not stored.exists() and of == "harmless":
        side_by_side(data / QWEN_STATES, stored)
    elif not stored.exists():
        if model is None:
            print(f"{name}: left out, for want of --qwen", flush=True)
            return
        pairs = out / f"{name}.jsonl"
        pairs.write_text(shortest(pool(data, out, of), count), encoding="utf-8")
        lens("embed", pairs, "-o", stored, "--model", model, "--dtype", "f16",
             *named(QWEN_VIEWS))
    flags = [] if of == "harmless" else named(QWEN_VIEWS)
    lens("study", "views", stored, "-o", out / name / "views", "--seed-pairs", seeds, *flags)


def run(data, out, only, qwen):
    out.mkdir(parents=True, exist_ok=True)
    for name, (_, _, seeds, many_seeds, few_seeds) in DATASETS.items():
        studies = [s for s in STUDIES if not only or f"{name}/{s}" in only or name in only]
        if not studies:
            continue
        stored = out / f"{name}.safetensors"
        if not stored.exists():
            lens("embed", pool(data, out, name), "-o", stored, *named(VIEWS))
        for study in studies:
            views = SEVERAL.get(study, [] if study in NAMES_VIEWS else [LAST])
            flags = named(views)
            numbers = {"seeds": many_seeds, "views": few_seeds, "synthesis": few_seeds}
            flags += ["--seed-pairs", numbers.get(study, seeds)]
            lens("study", study, stored, "-o", out / name / study, *flags)
    for name in QWEN:
        if not only or name in only:
            run_qwen(data, out, name, qwen)
    if not only or "best-of-4" in only:
        best_of_n.run(LENS, data, out)


class Study:
    """The summary of one study on one dataset."""

    def __init__(self, out, dataset, study):
        text = (out / dataset / study / "summary.json").read_text(encoding="utf-8")
        self.summary = json.loads(text)
        self.rows = self.summary["rows"] + self.summary["chosen"]

    def find(self, **wanted):
        """The first row with these values."""
        return next((r for r in self.rows if all(r[k] == v for k, v in wanted.items())), None)


def accuracy(row):
    if row is None:
        return ""
    if row["accuracy"] is None:
        return "ran away"
    low, high = row["accuracy"]["ci95"]
    return f"{100 * row['accuracy']['value']:.1f}% ({100 * low:.1f} to {100 * high:.1f})"


def points(d):
    """A difference in points, with a star where it is clear after correction."""
    return f"{100 * d['value']:+.1f}" + ("*" if d["p_holm"] < 0.05 else "")


def difference(row):
    """In points, with its interval."""
    if row is None or (row["accuracy"] is not None and row["difference"] is None):
        return ""
    if row["accuracy"] is None:
        return "ran away"
    d = row["difference"]
    low, high = d["ci95"]
    gone = f", {row['ran_away']} ran away" if row["ran_away"] else ""
    return f"{points(d)} ({100 * low:+.1f} to {100 * high:+.1f}{gone})"


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def on(out, study, datasets=DATASETS):
    """The datasets on which a study was run."""
    there = [d for d in datasets if (out / d / study / "summary.json").exists()]
    return [(datasets[d][0], Study(out, d, study)) for d in there]


def rivals(out):
    parts = []
    for name, study in on(out, "table-1"):
        s = study.summary
        factors = [f"{f}x" for f in s["factors"]]
        rows = []
        for rival in s["rivals"]:
            chosen = study.find(rival=rival["name"], variant="chosen")
            cells = [difference(study.find(rival=rival["name"], variant=f)) for f in factors]
            last = difference(chosen)
            if rival["name"] == s["baseline"]:
                last = accuracy(study.find(rival=rival["name"]))
            rows.append([rival["name"], *cells, last])
        table = markdown([name, *factors, "Chosen on the folds"], rows)
        text = f"{table}\n\n{s['data']['pairs']:,} pairs, {s['seeds'][0]:,} seeds, " \
               f"{s['held_out']:.0f} held out in each of {s['splits']} splits, {s['cells']} trainings. " \
               f"{s['findings'][0]}"
        parts.append(text)
    return "\n\n".join(parts)


SHORT = {"synthesis.noise_variance": "s^2", "vae.gamma": "gamma", "vae.beta": "beta"}


def grid(study_name, across):
    """Rows of the datasets, and of the other setting where two are varied."""
    def table(out):
        rows, head = [], None
        for name, study in on(out, study_name):
            axes = {a["name"]: a["values"] for a in study.summary["grid"]}
            values = axes.pop(across)
            others = [{k: v} for k, all_values in axes.items() for v in all_values] or [{}]
            head = ["", "none", *[f"{SHORT[across]} {v}" for v in values]]
            for other in others:
                label = ", ".join([name, *[f"{SHORT[k]} {v}" for k, v in other.items()]])
                cells = [difference(study.find(rival="lens", grid={**other, across: v}))
                         for v in values]
                rows.append([label, accuracy(study.find(rival="none")), *cells])
        return markdown(head, rows)
    return table


def factors(out):
    rows, head = [], None
    for name, study in on(out, "factor"):
        of = [f"{f}x" for f in study.summary["factors"]]
        head = ["", "none", *of, "lens, chosen on the folds", "tuned"]
        cells = [difference(study.find(rival="lens", variant=f)) for f in [*of, "chosen"]]
        tuned = difference(study.find(rival="tuned", variant="chosen"))
        rows.append([name, accuracy(study.find(rival="none")), *cells, tuned])
    return markdown(head, rows)


def seeds(out):
    parts = []
    for name, study in on(out, "seeds"):
        numbers = study.summary["seeds"]
        rows = [["none", *[accuracy(study.find(rival="none", seeds=n)) for n in numbers]]]
        for rival in ["lens", "tuned"]:
            of = [study.find(rival=rival, variant="chosen", seeds=n) for n in numbers]
            rows.append([rival, *[difference(row) for row in of]])
        readings = []
        for e in study.summary["efficiency"]:
            if e["rival"] == "lens" and e["variant"] == "chosen":
                readings = [reading(p["like"]) + worth(p) for p in e["points"]]
        rows.append(["so many labels with lens work like", *readings])
        parts.append(markdown([name, *[f"{n:,}" for n in numbers]], rows))
    return "\n\n".join(parts)


def reading(like):
    (kind, n), = like.items()
    word = {"labels": "", "at_most": "at most ", "more_than": "more than "}[kind]
    return f"{word}{n:,.0f}"


def worth(point):
    if point["ci95"] is None:
        return ""
    low, high = map(reading, point["ci95"])
    return f" ({low} to {high})"


def encoders(out):
    rows = []
    for name, study in on(out, "encoders"):
        for e in study.summary["data"]["encoders"]:
            none = study.find(rival="none", encoder=e["name"])
            lens_row = study.find(rival="lens", encoder=e["name"])
            rows.append([name, e["name"], str(e["dim"]), accuracy(none), difference(lens_row)])
    return markdown(["", "Encoder", "Width", "none", "lens 4x"], rows)


def layers(out):
    studies = on(out, "layer")
    head, columns = ["Layer"], []
    for name, study in studies:
        for pooling in ["last", "mean"]:
            head += [f"{name}, {pooling}", "lens 4x"]
            columns.append((study, pooling))
    names = [e["name"] for e in studies[0][1].summary["data"]["encoders"]]
    numbers = sorted({int(re.match(r"layer (\d+),", n)[1]) for n in names})
    rows = []
    for layer in numbers:
        cells = []
        for study, pooling in columns:
            encoder = f"layer {layer}, pooling {pooling}"
            none = study.find(rival="none", encoder=encoder)
            row = study.find(rival="lens", encoder=encoder)
            gain = points(row["difference"]) if row["difference"] else "ran away"
            cells += [f"{100 * none['accuracy']['value']:.1f}%", gain]
        rows.append([str(layer), *cells])
    return markdown(head, rows)


def cost(out):
    (name, study), *_ = on(out, "cost")
    rows = []
    for c in study.summary["cost"]:
        if c["generator_parameters"] is None and c["synthetic_pairs"] == 0:
            continue
        rows.append([c["rival"], c["variant"], f"{c['generator_parameters'] or 0:,}",
                     f"{c['seconds_source']:.2f}", f"{c['seconds_head']:.2f}",
                     f"{c['synthetic_pairs']:,}", f"{c['seconds_per_thousand']:.3f}"])
    head = [name, "Factor", "Parameters", "s, source", "s, head", "Synthetic pairs",
            "s, source, per 1,000 pairs"]
    return markdown(head, rows)


def by_seeds(study_name, about, datasets=DATASETS):
    """A row for each rival, a column for each number of seeds; the baseline's accuracy first."""
    def table(out):
        parts = []
        for name, study in on(out, study_name, datasets):
            s = study.summary
            rows = []
            for rival in s["rivals"]:
                def row(n, of=rival["name"]):
                    tuned = study.find(rival=of, variant="chosen", seeds=n)
                    return tuned or study.find(rival=of, seeds=n)
                figure = accuracy if rival["name"] == s["baseline"] else difference
                rows.append([about.get(rival["name"], rival["name"]),
                             *[figure(row(n)) for n in s["seeds"]]])
            table = markdown([name, *[f"{n:,} seeds" for n in s["seeds"]]], rows)
            parts.append(f"{table}\n\n{s['splits']} splits, {s['held_out']:.0f} pairs held out of each.")
        return "\n\n".join(parts)
    return table


CONTROL = {"control": "control: network, last token"}
TABLES = {"views": by_seeds("views", CONTROL), "views-qwen": by_seeds("views", CONTROL, QWEN),
          "synthesis": by_seeds("synthesis", {}),
          "best-of-n": lambda out: best_of_n.table(out, markdown), "rivals": rivals, "noise": grid("noise", "synthesis.noise_variance"),
          "gamma": grid("gamma", "vae.gamma"), "factor": factors,
          "seeds": seeds, "encoders": encoders, "layer": layers, "cost": cost}


def tables(out):
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(r"(<!-- table ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)
    text = pattern.sub(lambda m: f"{m[1]}\n{TABLES[m[2]](out)}\n\n{m[3]}", text)
    PAGE.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("data", type=pathlib.Path)
    command.add_argument("out", type=pathlib.Path)
    known = ["best-of-4", *QWEN, *DATASETS, *[f"{d}/{s}" for d in DATASETS for s in STUDIES]]
    command.add_argument("--only", action="append", metavar="DATASET[/STUDY]", choices=known)
    command.add_argument("--qwen", metavar="MODEL", help="a Qwen2.5-Coder-1.5B, to embed with")
    command = commands.add_parser("tables")
    command.add_argument("out", type=pathlib.Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.data, given.out, given.only, given.qwen)
    else:
        tables(given.out)


if __name__ == "__main__":
    main()
