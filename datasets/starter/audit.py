#!/usr/bin/env python3
"""Measure what a reader could guess the better answer by, without reading.

    python3 datasets/starter/audit.py [--limit 0.58] FILE..

Reads preference pairs (JSON lines with prompt, chosen, rejected, subject) and
prints, for every shallow cue (length, punctuation, a polite phrase, the first
word), the share of pairs that the cue alone would get right, ties counted as
half. A cue that points the wrong way is as telling as one that points the
right way, so the figure compared with the limit is max(share, 1 - share).
Exit status 1 when a limit is broken. Python's standard library only.
"""

import argparse
import collections
import json
import math
import re
import sys

POLITE = re.compile(
    r"\b(please|thanks?|thank you|sorry|apolog\w+|of course|certainly|sure|absolutely|"
    r"happy to|glad to|feel free|great question|good question|hope (this|that|it) helps|"
    r"unfortunately|i can't|i cannot|i won't|i'm unable|as an ai|let me know|"
    r"i understand|i'd be|you're welcome|kindly|appreciate)\b",
    re.IGNORECASE,
)


def count(pattern):
    compiled = re.compile(pattern)
    return lambda text: len(compiled.findall(text))


CUES = {
    "length: characters": len,
    "length: words": lambda t: len(t.split()),
    "length: sentences": count(r"[.!?](\s|$)"),
    "length: lines": lambda t: t.count("\n"),
    "punctuation: commas": lambda t: t.count(","),
    "punctuation: full stops": lambda t: t.count("."),
    "punctuation: exclamation marks": lambda t: t.count("!"),
    "punctuation: question marks": lambda t: t.count("?"),
    "punctuation: colons and semicolons": count(r"[:;]"),
    "punctuation: quotation marks": count(r"[\"“”]"),
    "punctuation: apostrophes": count(r"['’]"),
    "punctuation: brackets": count(r"[()\[\]{}]"),
    "punctuation: dashes": count(r"[-–—]"),
    "punctuation: backticks": lambda t: t.count("`"),
    "punctuation: digits": count(r"\d"),
    "punctuation: all marks": count(r"[^\w\s]"),
    "punctuation: ends in a full stop": lambda t: t.rstrip().endswith("."),
    "politeness: any phrase": lambda t: bool(POLITE.search(t)),
    "politeness: number of phrases": lambda t: len(POLITE.findall(t)),
    "first person: I": count(r"\bI\b"),
    "second person: you": count(r"\b[Yy]ou(r|rs)?\b"),
    "capital letters": count(r"[A-Z]"),
}


def first_word(text):
    match = re.search(r"[\w']+", text.lower())
    return match.group(0) if match else ""


def share(pairs, feature):
    """Share of pairs in which `feature` is larger for the chosen side; ties half."""
    right = 0.0
    for pair in pairs:
        a, b = feature(pair["chosen"]), feature(pair["rejected"])
        right += 0.5 if a == b else float(a > b)
    return right / len(pairs)


def first_word_share(pairs):
    """Leave-one-out log-odds of the first word: what counting words would learn."""
    good = collections.Counter(first_word(p["chosen"]) for p in pairs)
    bad = collections.Counter(first_word(p["rejected"]) for p in pairs)
    right = 0.0
    for pair in pairs:
        a, b = first_word(pair["chosen"]), first_word(pair["rejected"])

        def odds(word):
            g = good[word] - (word == a)
            r = bad[word] - (word == b)
            return math.log((g + 1) / (r + 1))

        x, y = odds(a), odds(b)
        right += 0.5 if x == y else float(x > y)
    return right / len(pairs)


def read(paths):
    pairs = []
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                pair = json.loads(line)
                for field in ("prompt", "chosen", "rejected", "subject"):
                    if not isinstance(pair.get(field), str) or not pair[field].strip():
                        sys.exit(f"{path}:{number}: field {field} is missing or empty")
                if pair["chosen"].strip() == pair["rejected"].strip():
                    sys.exit(f"{path}:{number}: both answers are the same")
                pairs.append(pair)
    if not pairs:
        sys.exit("no pairs")
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--limit", type=float, default=0.58)
    options = parser.parse_args()
    pairs = read(options.files)
    failures = []

    prompts = collections.Counter(p["prompt"].strip().lower() for p in pairs)
    repeated = [p for p, n in prompts.items() if n > 1]
    if repeated:
        failures.append(f"{len(repeated)} prompts occur more than once: {repeated[:3]}")

    print(f"{len(pairs)} pairs, {len(prompts)} prompts")
    for name, feature in CUES.items():
        value = share(pairs, feature)
        print(f"  {name:40} {value:6.3f}")
        if max(value, 1 - value) > options.limit:
            failures.append(f"{name} alone predicts the label: {value:.3f}")
        if name == "length: characters" and not 0.45 <= value <= 0.55:
            failures.append(f"the longer answer is the better one in {value:.3f}")
    value = first_word_share(pairs)
    print(f"  {'first word (leave one out)':40} {value:6.3f}")
    if value > options.limit:
        failures.append(f"the first word alone predicts the label: {value:.3f}")

    print("by subject: pairs, longer answer is better")
    by_subject = collections.defaultdict(list)
    for pair in pairs:
        by_subject[pair["subject"]].append(pair)
    for subject, group in sorted(by_subject.items()):
        print(f"  {subject:40} {len(group):4} {share(group, len):6.3f}")

    for failure in failures:
        print(f"FAIL {failure}")
    print("audit:", "failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
