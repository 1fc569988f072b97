#!/usr/bin/env python3
"""Tests of check_docs.py, on small repositories with one fault each: python3 scripts/test_check_docs.py"""

import pathlib
import tempfile
import unittest

from check_docs import check, slug

SUMMARY = "- [A](a.md)\n- [B](b.md)\n"
PAGE = "# Page\n\n## It's `lens run`, twice\n\n## Again\n\n## Again\n"


def faults(**changed):
    """What is said of a small repository, with these pages in place of its own."""
    pages = {"README.md": "[a](docs/a.md#again-1)\n", "docs/SUMMARY.md": SUMMARY}
    pages |= {"docs/a.md": PAGE, "docs/b.md": "[a](a.md)\n"}
    pages |= {name.replace("__", "/") + ".md": text for name, text in changed.items()}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder).resolve()
        for name, text in pages.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        (root / "crates").mkdir()
        (root / "crates/here.rs").touch()
        return check(root, sorted(pages))


class Check(unittest.TestCase):
    def one(self, expected, **changed):
        found = faults(**changed)
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_a_sound_repository_has_no_faults(self):
        self.assertEqual(faults(), [])

    def test_links_and_anchors(self):
        self.one("README.md:3: gone.md: there is no gone.md", README="\n\n[x](gone.md)\n")
        self.one("no heading for #nowhere", README="[x](docs/a.md#nowhere)\n")
        self.one("no heading for #again-2", docs__b="[x](a.md#again-2)\n")
        self.one("there is no gone.md", README="[x]: gone.md\n")
        self.one("there is no gone.svg", README="![a [b] c](gone.svg)\n")
        self.one("outside the repository", README="[x](../../up.md)\n")
        self.one("links out of docs/", docs__b="[x](../README.md)\n")
        self.assertEqual(faults(README="[x](docs/a.md#its-lens-run-twice) [y](https://example.org/gone.md)\n"), [])

    def test_examples_are_no_links(self):
        self.assertEqual(faults(README="```md\n[x](gone.md)\n```\n`[x](gone.md)` <!-- [x](gone.md) -->\n"), [])

    def test_every_page_is_listed_once(self):
        self.one("c.md is not listed", docs__c="# C\n")
        self.one("a.md is listed twice", docs__SUMMARY=SUMMARY + "- [A](a.md)\n")

    def test_tables_are_whole(self):
        table = "| a | b |\n|---|:-:|\n| 1 | `x \\| y` |\n"
        self.assertEqual(faults(README=table), [])
        self.one("README.md:5: a table without a header", README=table + "\n| 3 | 4 |\n")
        self.assertEqual(faults(README="The bound is on\n|a - b| and on |a|.\n"), [])
        self.one("README.md:3: 1 cells in a table of 2", README="| a | b |\n|---|---|\n| 1 |\n")

    def test_paths_in_code_type(self):
        self.assertEqual(faults(README="`crates/here.rs`, `crates/NAME/src`, `other/gone.rs`, `crates/*`\n"), [])
        self.one("README.md:2: there is no crates/gone.rs", README="\n`crates/gone.rs`\n")

    def test_anchors_are_those_of_github(self):
        self.assertEqual(slug("`lens generate`, `lens likelihood`"), "lens-generate-lens-likelihood")
        self.assertEqual(slug("Rivals and factors (`table-1`)"), "rivals-and-factors-table-1")
        self.assertEqual(slug("[Files](x.md) in, out"), "files-in-out")


if __name__ == "__main__":
    unittest.main()
