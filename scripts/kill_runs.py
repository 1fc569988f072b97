#!/usr/bin/env python3
"""Kill `lens` at random moments, and look at what is left.

    python3 scripts/kill_runs.py [--kills N] [--seed N] [--lens FILE]

Jobs on small inputs are killed with SIGKILL, of which no program hears. What has to hold after each: an output is there
whole, with the very bytes of a job that nobody killed, or not at all; the same command then succeeds with the same
result; and nothing but inputs and outputs is left in the folder or in the cache. A study keeps what it finished instead:
it has to go on where it was. Ends with status 1 at the first failure. Needs a built `lens`; otherwise Python's standard
library.
"""

import argparse
import collections
import itertools
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "crates" / "lens-encoder" / "tests" / "data" / "models" / "gemma3" / "model.gguf"
PAIRS = ROOT / "datasets" / "starter" / "train.jsonl"
STUDY = """splits = 4
seeds = [30]
rivals = ["none", "lens"]
factors = [2]
[settings]
vae.epochs = 4
head.epochs = 4
"""
SMALL = ["--set", "vae.epochs=4", "--set", "head.epochs=10"]
TINY = ["--model", str(MODEL), "--template", "plain"]
# A job by its output, and the words of its command.
JOBS = {
    "reward-model": ["run", "pairs.jsonl", *TINY, "--views", "fixed", "--augment", "2", *SMALL],
    "store.safetensors": ["embed", "pairs.jsonl", *TINY],
    "pairs.parquet": ["convert", "pairs.jsonl"],
    "study": ["study", "study.toml", "embedded.safetensors"],
}
INPUTS = ["pairs.jsonl", "study.toml", "embedded.safetensors"]


class Failed(Exception):
    """Something that must not be."""


def command(args, folder, job, output):
    return [str(args.lens), *JOBS[job], "-o", output, "--cache", str(folder / "cache"), "--quiet"]


def run(args, folder, job, output):
    """Runs a job to its end; returns the seconds that it took."""
    begin = time.monotonic()
    done = subprocess.run(command(args, folder, job, output), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{job}: status {done.returncode}: {done.stderr}")
    return time.monotonic() - begin


def contents(path):
    """The bytes of a file, or of all files of a folder; without seconds, which are never the same twice."""
    if path.is_file():
        return path.read_bytes()
    files = {file.relative_to(path): file for file in sorted(path.rglob("*")) if file.is_file()}
    if path.name == "study":
        summary = json.loads(files[pathlib.Path("summary.json")].read_text(encoding="utf-8"))
        return sorted(map(str, files)), without_seconds(summary)
    return {name: file.read_bytes() for name, file in files.items()}


def without_seconds(value):
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if "seconds" not in key}
    return [without_seconds(inner) for inner in value] if isinstance(value, list) else value


def temporary(folder):
    """What bears a temporary name."""
    names = (path.name for path in folder.rglob("*"))
    return sorted(name for name in names if ".tmp-" in name or ".old-" in name or name.startswith("."))


def prepare(args, folder):
    """The inputs, what each job gives where nobody kills it, and the seconds that it takes."""
    with open(PAIRS, encoding="utf-8") as file:
        (folder / "pairs.jsonl").write_text("".join(itertools.islice(file, 60)), encoding="utf-8")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    run(args, folder, "store.safetensors", "embedded.safetensors")
    whole, seconds = {}, {}
    for job in JOBS:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        seconds[job] = run(args, folder, job, job)
        whole[job] = contents(folder / job)
    return whole, seconds


def trial(args, inputs, job, whole, after):
    """Kills a job after some seconds; returns what was left: nothing, a part of a study, or all."""
    with tempfile.TemporaryDirectory(prefix="lens-kill-") as folder:
        folder = pathlib.Path(folder)
        for name in INPUTS:
            shutil.copy(inputs / name, folder / name)
        process = subprocess.Popen(command(args, folder, job, job), cwd=folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        output = folder / job
        left = "nothing"
        if output.exists():
            part = job == "study" and not (output / "summary.json").exists()
            left = "a part" if part else "all"
            if not part and job != "study" and contents(output) != whole:
                raise Failed(f"{job}, killed after {after:.3f} s: it is there, but not as it should be")
        killed = process.returncode != 0
        if left == "all" and job != "study":
            # A job that had ended does not write over its output.
            output.unlink() if output.is_file() else shutil.rmtree(output)
        run(args, folder, job, job)
        if contents(output) != whole:
            raise Failed(f"{job}, killed after {after:.3f} s: the next run gives something else")
        rest = sorted(path.name for path in folder.iterdir())
        if rest != sorted([*INPUTS, job, "cache"]) and rest != sorted([*INPUTS, job]):
            raise Failed(f"{job}, killed after {after:.3f} s: the folder holds {rest}")
        if names := temporary(folder):
            raise Failed(f"{job}, killed after {after:.3f} s: {names} stay")
        return left if killed else "ended before"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lens", type=pathlib.Path, default=ROOT / "target" / "release" / "lens")
    args = parser.parse_args()
    args.lens = args.lens.resolve()
    if not args.lens.is_file():
        sys.exit(f"{args.lens} is missing: run `make build` first")
    draw = random.Random(args.seed)
    outcomes = collections.defaultdict(collections.Counter)
    try:
        with tempfile.TemporaryDirectory(prefix="lens-kill-inputs-") as folder:
            folder = pathlib.Path(folder)
            whole, seconds = prepare(args, folder)
            kills = 0
            while kills < args.kills:
                job = list(JOBS)[kills % len(JOBS)]
                outcome = trial(args, folder, job, whole[job], draw.uniform(0, seconds[job] * 1.02))
                outcomes[job][outcome] += 1
                kills += outcome != "ended before"
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
    print("| Output | Killed | Nothing was left | A part, to go on from | All |\n|---|---|---|---|---|")
    for job, counted in outcomes.items():
        killed = sum(counted.values()) - counted["ended before"]
        print(f"| `{job}` | {killed} | {counted['nothing']} | {counted['a part']} | {counted['all']} |")


if __name__ == "__main__":
    main()
