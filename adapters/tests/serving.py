"""`lens serve` and `lens score`, as the tests run them."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

PROMPTS = ["How long should I boil an egg?", "How long should I boil an egg?", "Is the earth flat?"]
ANSWERS = ["Seven minutes for a soft yolk.", "No idea, go away.", "No: it is close to a sphere."]
TOKEN = "a-token-for-the-adapters"


class Server:
    """`lens serve` on a free port."""

    def __init__(self, *words):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LENS_") or k == "LENS_CACHE"}
        command = [os.environ["LENS_BINARY"], "serve", *words, "--bind", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r"listening on (http://\S+)", line):
                self.url = found.group(1)
                break
        else:
            raise RuntimeError(f"{command} ended:\n{said}")
        # Nobody reads on: what it logs goes nowhere, and does not hold it up.
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)
        self.process.stderr.close()

    def stop(self):
        self.process.terminate()
        status = self.process.wait(60)
        self.drain.wait(60)
        if status != 0:
            raise RuntimeError(f"the server ended with status {status}")


def scored(bundle, prompts, answers=ANSWERS):
    """What `lens score` says of the answers to these."""
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder) / "rows.jsonl"
        lines = [json.dumps({"prompt": p, "response": r}) for p, r in zip(prompts, answers)]
        rows.write_text("\n".join(lines))
        command = [os.environ["LENS_BINARY"], "score", bundle, str(rows), "--json"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line)["reward"] for line in said.splitlines()]
