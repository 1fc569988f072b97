#!/usr/bin/env python3
"""Feed a server requests made from its own OpenAPI document, and hold its answers against that document.

    python3 scripts/fuzz_server.py [--examples N] [--seed N] [--lens FILE]
    python3 scripts/fuzz_server.py --install

Schemathesis makes the requests: the document's examples, values at every limit that the document names, and random
ones, valid and not. No answer may be a server error, a status, media type or body that the document does not have, or
the acceptance of what the document forbids, a request without a token among it. What the document cannot say is said
here: `null` stands for a field that is left out. The reward model is trained on the spot,
on a tiny random language model of the tests, so that a request costs a millisecond. The same seed makes the same
requests. --install only gets the packages, into target/test-tools/schemathesis.

Needs a built `lens`; otherwise Python's standard library.
"""

import argparse
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv

from serve_load import Server

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "test-tools" / "schemathesis"
# What makes the requests, and what decides which.
PACKAGES = ["schemathesis==4.32.5", "hypothesis==6.170.17", "jsonschema_rs==0.60.3"]
MODEL = ROOT / "crates" / "lens-encoder" / "tests" / "data" / "models" / "gemma3" / "model.gguf"
PAIRS = ROOT / "datasets" / "starter" / "train.jsonl"
TOKEN = "a-token-for-schemathesis"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
]
# Fewer requests than this are not what was asked for: something was left out.
LEAST_REQUESTS = 1000


def install():
    """Get the packages, unless they are there; returns the program."""
    pins, installed = "\n".join(PACKAGES), FOLDER / "installed.txt"
    if not installed.is_file() or installed.read_text(encoding="utf-8") != pins:
        shutil.rmtree(FOLDER, ignore_errors=True)
        venv.create(FOLDER, with_pip=True)
        pip = [FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        installed.write_text(pins, encoding="utf-8")
    return FOLDER / "bin" / "schemathesis"


def reward_model(lens, folder):
    """A reward model of a tiny language model; returns its folder."""
    pairs, bundle = folder / "pairs.jsonl", folder / "reward-model"
    with open(PAIRS, encoding="utf-8") as file:
        pairs.write_text("".join(itertools.islice(file, 60)), encoding="utf-8")
    settings = [f"--set={key}" for key in ("vae.epochs=3", "head.epochs=10")]
    subprocess.run([lens, "run", pairs, "--model", MODEL, "--template", "plain", "--views", "fixed", "--augment", "2",
                    *settings, "--cache", folder / "cache", "--quiet", "-o", bundle],
                   check=True, stdout=subprocess.DEVNULL)
    return bundle


def with_nulls(schema):
    """A schema in which the fields that may be left out may be null, and a null field is none that is there."""
    if isinstance(schema, list):
        return [with_nulls(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if set(schema) == {"required"}:
        there = {field: {"not": {"type": "null"}} for field in schema["required"]}
        return {**schema, "properties": there}
    changed = {key: with_nulls(inner) for key, inner in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        needed = schema.get("required", [])
        changed["properties"] = {field: inner if field in needed else {"anyOf": [inner, {"type": "null"}]}
                                 for field, inner in changed["properties"].items()}
    return changed


def described(server, folder):
    """The server's document, as a file, with `null` for fields of requests that are left out."""
    with urllib.request.urlopen(urllib.request.Request(server.url("/openapi.json"), headers=HEADERS)) as answer:
        document = json.load(answer)
    schemas = document["components"]["schemas"]
    for name in schemas:
        if name.endswith("Request"):
            schemas[name] = with_nulls(schemas[name])
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            body["schema"] = with_nulls(body["schema"])
    file = folder / "openapi.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10, help="random requests of each kind for a route")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lens", type=pathlib.Path, default=ROOT / "target" / "release" / "lens")
    parser.add_argument("--install", action="store_true", help="only get the packages")
    args = parser.parse_args()
    schemathesis = install()
    if args.install:
        return
    if not args.lens.is_file():
        sys.exit(f"{args.lens} is missing: run `make build` first")
    with tempfile.TemporaryDirectory(prefix="lens-fuzz-server-") as folder:
        folder = pathlib.Path(folder)
        bundle, report = reward_model(args.lens, folder), folder / "report.json"
        # Its end is checked too: a server that died, or does not stop, is a failure.
        with Server(args.lens, bundle, ["--token", TOKEN]) as server:
            command = [schemathesis, "--no-color", "run", described(server, folder), "--url", server.url(""),
                       "--header", f"Authorization: Bearer {TOKEN}", "--checks", ",".join(CHECKS),
                       "--phases", "examples,coverage,fuzzing", "--max-examples", str(args.examples),
                       "--seed", str(args.seed), "--continue-on-failure", "--request-timeout", "60",
                       "--report", "json", "--report-json-path", report]
            status = subprocess.run(command, cwd=folder).returncode
        counted = json.loads(report.read_text(encoding="utf-8"))
        requests, operations = counted["test_cases"]["generated"], counted["operations"]
    print(f"{requests} requests, {operations['tested']} of {operations['total']} operations, "
          f"{counted['running_time']:.0f} s")
    if status == 0 and (requests < LEAST_REQUESTS or operations["tested"] < operations["total"]):
        sys.exit(f"at least {LEAST_REQUESTS} requests to every operation were to be made")
    sys.exit(status)


if __name__ == "__main__":
    main()
