#!/usr/bin/env python3
"""Run the shell commands of a Markdown file, in order, as a reader would.

    python3 scripts/tour.py README.md

Every fenced block marked `sh` is run by bash with -e in the repository root,
target/release first on the PATH. Blocks that call make are left out: those are
the README's two commands, which are run by themselves. Stops at the first
command that fails. Python's standard library only.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile


def main():
    path = pathlib.Path(sys.argv[1])
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    tour = [block for block in blocks if not block.startswith("make ")]
    if not tour:
        sys.exit(f"{path}: no commands found")
    root = pathlib.Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as scratch:
        env = dict(os.environ)
        env["PATH"] = f"{root / 'target' / 'release'}{os.pathsep}{env['PATH']}"
        env["TMPDIR"] = scratch
        for number, block in enumerate(tour, 1):
            print(f"--- block {number} of {len(tour)}\n{block}", end="", flush=True)
            command = ["bash", "-euo", "pipefail", "-c", block]
            shell = subprocess.Popen(command, cwd=root, env=env, start_new_session=True)
            try:
                status = shell.wait()
            finally:
                # A server that the block started does not outlive it, also where it fails.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGTERM)
            if status != 0:
                sys.exit(f"block {number} failed with status {status}")
    print(f"{len(tour)} blocks ran")


if __name__ == "__main__":
    main()
