"""docs/walkthroughs.md, as it stands there: its commands on datasets in the shapes that it shows, and
behind them the trainers' own code, which has to get the rewards that `lens score -o` wrote.

Run by scripts/test_adapters.py.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import requests
import test_trainers
from lens_trl import reward_function
from peers import Torch, taken
from serving import Server
from test_trainers import assistant, user

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "walkthroughs.md"
# As many pairs of the starter dataset as a model can be trained further on within seconds.
PAIRS = 16


def starter(name, first):
    """Pairs of the starter dataset: prompt, chosen, rejected."""
    lines = (ROOT / "datasets" / "starter" / name).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[first : first + PAIRS]]
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows]


class Walkthroughs(unittest.TestCase):
    def walk(self, heading, files):
        """Runs the commands below a heading among these files; returns the scored held-out pairs."""
        section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
        (commands,) = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        home = pathlib.Path(folder.name)
        (home / "reward-model").symlink_to(os.environ["LENS_BUNDLE"])
        for name, rows in files.items():
            lines = [json.dumps(row) for row in rows]
            text = "\n".join(lines) if name.endswith(".jsonl") else f"[{', '.join(lines)}]"
            (home / name).write_text(text, encoding="utf-8")
        binary = pathlib.Path(os.environ["LENS_BINARY"])
        env = dict(os.environ, PATH=f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
        shell = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(shell, cwd=home, env=env, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{commands}\n{done.stdout}{done.stderr}")
        self.assertIn(f"{PAIRS} read, {PAIRS} used, 0 left out", done.stdout)
        self.assertIn("prompts shuffled", done.stdout)
        # Read by the program itself: the standard library has no reader of Parquet.
        again = [binary, "score", "mine", "scored.parquet", "--json", "-o", "again.jsonl", "--prefix", "again_"]
        subprocess.run(again, cwd=home, env=env, capture_output=True, check=True)
        self.server = Server(str(home / "mine"), "--any-model")
        self.addCleanup(self.server.stop)
        lines = (home / "again.jsonl").read_text(encoding="utf-8").splitlines()
        scored = [json.loads(line) for line in lines]
        self.assertEqual(len(scored), PAIRS)
        return [row["chosen_reward"] for row in scored] + [row["rejected_reward"] for row in scored]

    def close(self, rewards, expected):
        test_trainers.Trainers.close(self, rewards, expected)

    def test_a_user_of_trl(self):
        row = lambda p, c, r: {"chosen": user(p) + assistant(c), "rejected": user(p) + assistant(r)}
        train, heldout = starter("train.jsonl", 0), starter("heldout.jsonl", 0)
        files = {"train.jsonl": [row(*pair) for pair in train], "heldout.jsonl": [row(*pair) for pair in heldout]}
        expected = self.walk("TRL", files)
        prompts = [user(p) for p, _, _ in heldout] * 2
        answers = [assistant(c) for _, c, _ in heldout] + [assistant(r) for _, _, r in heldout]
        table, _ = test_trainers.Trainers.trl(self, [reward_function(self.server.url)], prompts, answers)
        self.close(table[:, 0], expected)

    def test_a_user_of_openrlhf(self):
        row = lambda p, c, r: {"prompt": f"{p}\n\n", "chosen": c, "rejected": r}
        train, heldout = starter("train.jsonl", 0), starter("heldout.jsonl", 0)
        files = {"train.jsonl": [row(*pair) for pair in train], "heldout.jsonl": [row(*pair) for pair in heldout]}
        expected = self.walk("OpenRLHF", files)
        texts = [f"{p}\n\n{c}" for p, c, _ in heldout] + [f"{p}\n\n{r}" for p, _, r in heldout]
        self.close(test_trainers.Trainers.openrlhf(self, texts), expected)

    def test_a_user_of_llamafactory(self):
        row = lambda p, c, r: {"instruction": p, "input": "", "chosen": c, "rejected": r}
        said = lambda who, text: {"from": who, "value": text}
        turns = lambda p, c, r: {"conversations": [said("human", p)], "chosen": said("gpt", c), "rejected": said("gpt", r)}
        train, heldout = starter("train.jsonl", 0), starter("heldout.jsonl", 0)
        files = {
            "train.json": [row(*pair) for pair in train],
            "sharegpt.json": [turns(*pair) for pair in train],
            "heldout.json": [row(*pair) for pair in heldout],
        }
        expected = self.walk("LLaMA-Factory", files)
        ppo = "train/ppo/ppo_utils.py"
        get = taken("llamafactory", ppo, "get_rewards_from_server", requests=requests, json=json, torch=Torch())
        texts = [f"{p}\n\n{c}" for p, c, _ in heldout] + [f"{p}\n\n{r}" for p, _, r in heldout]
        self.close(get(f"{self.server.url}/v1/score/evaluation", texts), expected)


if __name__ == "__main__":
    unittest.main()
