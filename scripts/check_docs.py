#!/usr/bin/env python3
"""Check the Markdown files of the repository.

    python3 scripts/check_docs.py

- Every relative link leads to a file, and every anchor to a heading of it. (Addresses on the web are not asked.)
- Pages in docs/ link to pages in docs/ only, so that they also work as a book.
- docs/SUMMARY.md lists every page of docs/ once.
- Every table is whole: a header, a line of dashes, and rows of as many cells.
- Every path in code type that begins with a folder of the repository is there (NAME and the like stand for a name).

Prints what is wrong, one line each, and ends with status 1 if anything is. Standard library only;
scripts/test_check_docs.py tests it.
"""

import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)>?", re.M)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.M)
FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[`~]*\s*$", re.M | re.S)
COMMENT = re.compile(r"<!--.*?-->", re.S)
CODE = re.compile(r"(`+)(.+?)\1", re.S)
DASHES = re.compile(r"^:?-+:?$")
# What in a path stands for a name: NAME, PEER, X, <..>, *.
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z0-9-]+\b(?!\.md\b)|[*<>{}$]|\.\.")


def blank(match):
    """As many lines of nothing: numbers of lines stay right."""
    return "\n" * match.group(0).count("\n")


def prose(text):
    """A page without its fenced blocks and comments."""
    return COMMENT.sub(blank, FENCE.sub(blank, text))


def slug(heading):
    """The anchor that GitHub and mdBook give a heading."""
    heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    kept = (c for c in heading.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def anchors(text):
    seen, found = {}, set()
    for heading in HEADING.findall(prose(text)):
        name = slug(heading)
        count = seen.get(name, 0)
        seen[name] = count + 1
        found.add(f"{name}-{count}" if count else name)
    return found


def cells(row):
    """How many cells a row of a table has; a pipe that is escaped is none of its borders."""
    inner = row.strip().removeprefix("|")
    inner = re.sub(r"\\\|", "", inner)
    inner = inner[:-1] if inner.endswith("|") else inner
    return [cell.strip() for cell in inner.split("|")]


def table_faults(text):
    """(line, what is wrong) of every table that is not whole."""
    lines, faults, start = prose(text).split("\n") + [""], [], None
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("|"):
            start = number if start is None else start
        elif start is not None:
            rows = [cells(row) for row in lines[start - 1 : number - 1]]
            if len(rows) < 2 or not all(DASHES.match(cell) for cell in rows[1]):
                # A line of a paragraph may begin with a pipe, as |x| does.
                if start > 1 and lines[start - 2].strip():
                    start = None
                    continue
                faults.append((start, "a table without a header: an empty line cuts it from what it belongs to"))
            else:
                for offset, row in enumerate(rows):
                    if len(row) != len(rows[0]):
                        faults.append((start + offset, f"{len(row)} cells in a table of {len(rows[0])} columns"))
            start = None
    return faults


def link_faults(root, page, texts):
    """(line, what is wrong) of the links of a page. `texts` has every page by its path below `root`."""
    faults, text = [], prose(texts[page])
    # A link in code type is an example.
    text = CODE.sub(lambda m: "`" + blank(m) + "`", text)
    found = [(m.start(), m.group(1)) for m in LINK.finditer(text)]
    found += [(m.start(), m.group(1)) for m in DEFINITION.finditer(text)]
    for at, target in sorted(found):
        line = text.count("\n", 0, at) + 1
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (root / page).parent / path if path else root / page
        try:
            name = goal.resolve().relative_to(root).as_posix()
        except ValueError:
            faults.append((line, f"{target} lies outside the repository"))
            continue
        if not goal.exists():
            faults.append((line, f"{target}: there is no {name}"))
        elif page.startswith("docs/") and not name.startswith("docs/"):
            faults.append((line, f"{target}: a page of the book links out of docs/; use the address on the web"))
        elif anchor and name in texts and anchor not in anchors(texts[name]):
            faults.append((line, f"{target}: {name} has no heading for #{anchor}"))
    return faults


def path_faults(root, page, text, folders):
    """(line, what is wrong) of the paths in code type."""
    faults, text = [], prose(text)
    for match in CODE.finditer(text):
        word = match.group(2).strip()
        if not re.fullmatch(r"[\w./-]+", word) or word.split("/")[0] not in folders or "/" not in word:
            continue
        if not PLACEHOLDER.search(word) and not (root / word).exists():
            faults.append((text.count("\n", 0, match.start()) + 1, f"there is no {word}"))
    return faults


def summary_faults(texts):
    """What is wrong with the list of the book's pages."""
    listed = [target for target in LINK.findall(prose(texts.get("docs/SUMMARY.md", "")))]
    pages = {name[len("docs/") :] for name in texts if name.startswith("docs/")} - {"SUMMARY.md"}
    faults = [(1, f"{name} is not listed") for name in sorted(pages - set(listed))]
    return faults + [(1, f"{name} is listed twice") for name in sorted(set(listed)) if listed.count(name) > 1]


def check(root, names):
    """Every fault of the pages with these names, as lines to print."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in names}
    folders = {path.name for path in root.iterdir() if path.is_dir()} - {"target"}
    said = []
    for page, text in texts.items():
        faults = link_faults(root, page, texts) + table_faults(text) + path_faults(root, page, text, folders)
        if page == "docs/SUMMARY.md":
            faults += summary_faults(texts)
        said += [f"{page}:{line}: {what}" for line, what in sorted(faults)]
    if "docs/SUMMARY.md" not in texts:
        said.append("docs/SUMMARY.md: is not there")
    return said


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\n")
    names = sorted({name for name in names if name and (root / name).exists()})
    said = check(root, names)
    for line in said:
        print(line)
    print(f"{len(names)} pages, {len(said)} faults")
    sys.exit(1 if said else 0)


if __name__ == "__main__":
    main()
