#!/usr/bin/env python3
"""Test the adapters with the trainers' own code, and the routes with others' client libraries, against a
server with a real reward model.

    python3 scripts/test_adapters.py [BUNDLE]
    python3 scripts/test_adapters.py --install

--install only gets the packages, which needs neither a binary nor a model. BUNDLE is a reward model whose language model is at hand; `reward-model`, which `make quickstart`
makes, by default. The trainers' packages are put into target/test-tools/adapters, without the
packages that they need (torch, ray, ..): of them only the code that asks for rewards is run.
Standard library only; what cannot be had is an error, not a reason to leave a test out.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAINERS = [
    "llamafactory==0.9.5",
    "ms-swift==4.6.0",
    "openrlhf==0.11.2",
    "trl==1.16.0",
    "verl==0.9.1",
]
# What the trainers' clients make their requests with, and NumPy, in which their data is.
NEEDS = ["aiohttp==3.14.5", "numpy==2.4.6", "requests==2.34.2"]
# Clients that others wrote for some of the routes.
CLIENTS = ["cohere==7.3.1", "huggingface_hub==2.4.0", "openai==3.57.0"]


def install():
    """Get the packages, unless they are there; returns the interpreter that has them."""
    folder = ROOT / "target" / "test-tools" / "adapters"
    python = folder / "bin" / "python"
    pins, installed = "\n".join(NEEDS + CLIENTS + TRAINERS), folder / "installed.txt"
    if not installed.is_file() or installed.read_text(encoding="utf-8") != pins:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *NEEDS, *CLIENTS], check=True)
        subprocess.run([*pip, "--no-deps", *TRAINERS], check=True)
        installed.write_text(pins, encoding="utf-8")
    return python


def main():
    if sys.argv[1:] == ["--install"]:
        install()
        return
    bundle = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "reward-model").resolve()
    binary = ROOT / "target" / "release" / "lens"
    for path, remedy in ((binary, "make build"), (bundle / "lens.json", "make quickstart")):
        if not path.is_file():
            sys.exit(f"{path} is missing: run `{remedy}` first")
    python = install()
    env = dict(os.environ, LENS_BINARY=str(binary), LENS_BUNDLE=str(bundle))
    tests = [python, "-m", "unittest", "discover", "--start-directory", ROOT / "adapters" / "tests"]
    sys.exit(subprocess.run(tests, env=env, cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
