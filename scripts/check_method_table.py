#!/usr/bin/env python3
"""Checks that every function, test and setting named in the tables of docs/method.md exists.

    python3 scripts/check_method_table.py

Functions are paths such as `vae::loss::wasserstein2` or `folds::Folds::assign`, of the crate lens_core
unless they begin with another crate's name. Standard library only; exits with 1 and one line for each
name that is missing, or where a table or column is not found.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {"Function", "Test", "Setting"}


def cells(line):
    """The cells of one row of a Markdown table; a pipe inside a cell is written \\|."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def tables(text):
    """Every table as a list of rows, each a dictionary by the name of the column."""
    found, header = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells(line)
            found.append([])
        elif not re.fullmatch(r"[\s|:-]+", line):
            found[-1].append(dict(zip(header, cells(line))))
    return found


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


def source_file(path):
    """The file of the longest module in `path`, and the names behind it."""
    parts = path.split("::")
    crate = "lens_core"
    if (ROOT / "crates" / parts[0].replace("_", "-") / "src").is_dir():
        crate = parts.pop(0)
    source = ROOT / "crates" / crate.replace("_", "-") / "src"
    for end in range(len(parts) - 1, 0, -1):
        module = source.joinpath(*parts[:end])
        for file in (module.with_suffix(".rs"), module / "mod.rs"):
            if file.is_file():
                return file, parts[end:]
    return None, parts


def missing_function(path):
    """Why `path` does not exist; None where it does."""
    file, names = source_file(path)
    if file is None:
        return "no such module"
    text = file.read_text(encoding="utf-8")
    where = file.relative_to(ROOT)
    if len(names) > 2:
        return f"no module {names[0]} beside {where}"
    if len(names) == 1:
        item = rf"\b(?:fn|struct|enum|trait|const|type) {re.escape(names[0])}\b"
        return None if re.search(item, text) else f"no {names[0]} in {where}"
    owner, method = names
    # An impl block at the left margin ends with a closing brace there.
    block = rf"^impl\b[^\n{{]*\b{re.escape(owner)}\b[^{{]*\{{\n(.*?)^\}}"
    bodies = re.findall(block, text, re.M | re.S)
    if not bodies:
        return f"no impl of {owner} in {where}"
    if not any(re.search(rf"\bfn {re.escape(method)}\b", body) for body in bodies):
        return f"no {method} in an impl of {owner} in {where}"
    return None


def all_tests():
    """The names of all functions that are marked as tests, in all crates."""
    test = re.compile(r"#\[(?:tokio::)?test\](?:\s*#\[[^\]]*\])*\s*(?:async )?fn (\w+)")
    files = (ROOT / "crates").glob("*/**/*.rs")
    return {name for file in files for name in test.findall(file.read_text(encoding="utf-8"))}


def all_settings():
    rows = tables((ROOT / "docs" / "settings.md").read_text(encoding="utf-8"))
    return {name for table in rows for row in table for name in named(row.get("Setting", ""))}


def main():
    problems, counts = [], dict.fromkeys(COLUMNS, 0)
    tests, settings = all_tests(), all_settings()
    for table in tables((ROOT / "docs" / "method.md").read_text(encoding="utf-8")):
        if not table or not COLUMNS <= table[0].keys():
            continue
        for row in table:
            for path in named(row["Function"]):
                why = missing_function(path)
                if why:
                    problems.append(f"function `{path}`: {why}")
            problems += [f"test `{t}`: not found" for t in named(row["Test"]) if t not in tests]
            problems += [
                f"setting `{s}`: not in docs/settings.md"
                for s in named(row["Setting"])
                if s not in settings
            ]
            for column in COLUMNS:
                counts[column] += len(named(row[column]))
            if not named(row["Function"]) or not named(row["Test"]):
                problems.append(f"row without function or test: {row}")
    for column in COLUMNS:
        if not counts[column]:
            problems.append(f"no table of docs/method.md names anything under {column}")
    for problem in problems:
        print(f"docs/method.md: {problem}", file=sys.stderr)
    if problems:
        return 1
    print(", ".join(f"{counts[c]} {c.lower()}s" for c in sorted(COLUMNS)) + ": all found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
