"""Every trainer's own code against `lens serve` with a real reward model.

Run by scripts/test_adapters.py, which installs the trainers' packages and says where the binary and
the bundle are: LENS_BINARY, LENS_BUNDLE.
"""

import asyncio
import collections
import contextlib
import functools
import importlib.util
import inspect
import itertools
import json
import logging
import os
import pathlib
import re
import sys
import types
import unittest
import unittest.mock

import aiohttp
import numpy
import requests

HERE = pathlib.Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from lens_reward import LensError, RewardClient
from lens_trl import reward_function
from peers import Torch, imported, source, taken
from serving import ANSWERS, PROMPTS, TOKEN, Server, scored


def user(text):
    return [{"role": "user", "content": text}]


def assistant(text):
    return [{"role": "assistant", "content": text}]


class Trainers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        bundle = os.environ["LENS_BUNDLE"]
        # LLaMA-Factory calls every model `model`.
        cls.server = Server("--name", f"model={bundle}")
        cls.addClassCleanup(cls.server.stop)
        cls.guarded = Server(bundle, "--token", TOKEN, "--any-model")
        cls.addClassCleanup(cls.guarded.stop)
        cls.expected = scored(bundle, PROMPTS)
        # A chat is rendered with the names of its roles, as the same text alone is not.
        cls.of_chats = scored(bundle, [user(p) for p in PROMPTS])

    def setUp(self):
        os.environ.update(LENS_URL=self.server.url)
        for name in ("LENS_TOKEN", "LENS_MODEL", "LENS_NORMALISED"):
            os.environ.pop(name, None)

    def close(self, rewards, expected=None):
        numpy.testing.assert_allclose(rewards, self.expected if expected is None else expected, rtol=1e-4, atol=1e-4)

    # TRL

    def trl(self, functions, prompts, completions, module="trl/trainer/grpo_trainer.py", trainer="GRPOTrainer"):
        """TRL's own `_calculate_rewards`, with these reward functions."""
        is_async = taken("trl", "trainer/utils.py", "is_async_callable", functools=functools, inspect=inspect)
        torch = Torch()
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        class Here:
            """asyncio, with the loop that TRL has on a thread run in place."""

            gather = staticmethod(asyncio.gather)

            @staticmethod
            def run_coroutine_threadsafe(coroutine, loop):
                done = loop.run_until_complete(coroutine)
                return types.SimpleNamespace(result=lambda: done)

        calculate = taken(
            "trl",
            module.removeprefix("trl/"),
            f"{trainer}._calculate_rewards",
            torch=torch,
            nn=types.SimpleNamespace(Module=type("Module", (), {})),
            asyncio=Here,
            profiling_context=lambda *_: contextlib.nullcontext(),
            is_async_callable=is_async,
            gather=lambda table: table,
            logger=logging.getLogger("trl"),
        )
        logged = collections.defaultdict(list)
        trainer = types.SimpleNamespace(
            accelerator=types.SimpleNamespace(device="cpu"),
            reward_funcs=functions,
            reward_processing_classes=[None] * len(functions),
            reward_func_names=[f.__name__ for f in functions],
            state=types.SimpleNamespace(global_step=3),
            environments=None,
            async_loop=loop,
            _log_metric=lambda name, value: logged[name].append(value),
            _log_completion_extra=lambda *_: None,
            _current_train_step_time=0.0,
        )
        rows = [{"prompt": p, "origin": "egg"} for p in prompts]
        ids = [[1, 2, 3]] * len(prompts)
        return calculate(trainer, rows, prompts, completions, ids), logged

    def test_trl_calls_the_reward_function_plain_and_chat_sync_and_async(self):
        functions = [reward_function(), reward_function(asynchronous=True, name="later")]
        table, logged = self.trl(functions, PROMPTS, ANSWERS)
        self.assertEqual(table.shape, (3, 2))
        self.close(table[:, 0])
        self.close(table[:, 1])
        self.close(logged["lens/reward_mean"], [sum(self.expected) / 3])
        self.assertTrue(0 <= logged["lens/out_of_distribution"][0] <= 1, dict(logged))
        chat, _ = self.trl(functions, [user(p) for p in PROMPTS], [assistant(a) for a in ANSWERS])
        self.close(chat[:, 0], self.of_chats)
        self.close(chat[:, 1], self.of_chats)

    def test_trls_rloo_calls_it_too(self):
        table, _ = self.trl([reward_function()], PROMPTS, ANSWERS, "trl/trainer/rloo_trainer.py", "RLOOTrainer")
        self.close(table[:, 0])

    def test_a_token_opens_the_server_and_without_one_trl_is_told(self):
        with self.assertRaisesRegex(LensError, "status 401"):
            self.trl([reward_function(self.guarded.url)], PROMPTS, ANSWERS)
        os.environ["LENS_TOKEN"] = TOKEN
        table, _ = self.trl([reward_function(self.guarded.url, model="whatever")], PROMPTS, ANSWERS)
        self.close(table[:, 0])

    # verl

    def verl(self, name, reward_kwargs, extra_info):
        """verl's own loading and calling of a custom reward function."""
        pieces = {"inspect": inspect, "partial": functools.partial}
        utils = imported("verl", "utils/import_utils.py")
        sync = taken("verl", "trainer/ppo/reward.py", "_call_with_kwargs")
        later = taken("verl", "trainer/ppo/reward.py", "_call_with_kwargs_async")
        get = taken(
            "verl",
            "trainer/ppo/reward.py",
            "get_custom_reward_fn",
            _call_with_kwargs=sync,
            _call_with_kwargs_async=later,
            **pieces,
        )
        fake = {"verl": types.ModuleType("verl"), "verl.utils": types.ModuleType("verl.utils")}
        fake["verl.utils.import_utils"] = utils
        path = str(HERE.parents[1] / "lens_verl.py")
        custom = {"path": path, "name": name, "reward_kwargs": reward_kwargs}
        with unittest.mock.patch.dict(sys.modules, fake):
            reward = {"custom_reward_function": custom}
            function = get(types.SimpleNamespace(reward=reward))
        run_single = taken("verl", "experimental/reward_loop/reward_manager/naive.py", "NaiveRewardManager.run_single")

        async def scored():
            results = []
            for prompt, answer in zip(PROMPTS, ANSWERS):
                manager = types.SimpleNamespace(
                    loop=asyncio.get_running_loop(),
                    compute_score=function,
                    is_async_reward_score=inspect.iscoroutinefunction(function),
                    reward_router_address=None,
                    reward_model_tokenizer=None,
                    tokenizer=types.SimpleNamespace(decode=lambda ids, skip_special_tokens, a=answer: a),
                )
                item = types.SimpleNamespace(
                    batch={"responses": numpy.arange(4), "attention_mask": numpy.ones(9, int)},
                    non_tensor_batch={
                        "data_source": "eggs",
                        "reward_model": {"ground_truth": None},
                        "extra_info": extra_info(prompt),
                    },
                )
                results.append(await run_single(manager, [item]))
            return results

        return asyncio.run(scored())

    def test_verl_calls_the_custom_reward_function_sync_and_async(self):
        for name in ("compute_score", "compute_score_async"):
            results = self.verl(name, {"url": self.server.url}, lambda p: {"prompt": p, "index": 1})
            self.close([r["reward_score"] for r in results])
            extra = results[0]["reward_extra_info"]
            self.assertEqual(sorted(extra), ["deviation", "out_of_distribution", "score"])
        # As Parquet gives chats: arrays of messages, under a key of the data's own.
        chat = lambda p: {"question": numpy.array(user(p), dtype=object)}
        results = self.verl("compute_score", {"url": self.server.url, "prompt_key": "question"}, chat)
        self.close([r["reward_score"] for r in results], self.of_chats)
        with self.assertRaisesRegex(RuntimeError, "extra_info has no `prompt`"):
            self.verl("compute_score", {}, lambda p: {"index": 1})

    def test_verls_own_reward_model_client_reads_classify_and_embeddings(self):
        texts = [f"{p}\n\n{a}" for p, a in zip(PROMPTS, ANSWERS)]
        as_they_are = self.openrlhf(texts)
        names = {"aiohttp": aiohttp, "asyncio": asyncio, "logger": logging.getLogger("verl")}
        post = taken("verl", "experimental/reward_loop/reward_loop.py", "RewardLoopWorker._post_request", **names)
        score = taken("verl", "experimental/reward_loop/reward_loop.py", "RewardLoopWorker.compute_score_disrm", **names)
        for engine in ("vllm", "sglang"):
            for text, expected in zip(texts, as_they_are):
                model = types.SimpleNamespace(rollout=types.SimpleNamespace(name=engine), model_path="model")
                reward = types.SimpleNamespace(reward_model=model)

                async def preprocessed(_, text=text):
                    return text

                worker = types.SimpleNamespace(
                    config=types.SimpleNamespace(reward=reward),
                    reward_router_address=self.server.url.removeprefix("http://"),
                    _preprocess_reward_inputs=preprocessed,
                )
                worker._post_request = functools.partial(post, worker)
                self.close(asyncio.run(score(worker, None))["reward_score"], expected)

    # OpenRLHF and LLaMA-Factory

    def openrlhf(self, texts):
        """OpenRLHF's own request, as its rollouts make it."""
        names = {"aiohttp": aiohttp, "asyncio": asyncio, "logger": logging.getLogger("openrlhf")}
        file = source("openrlhf", "utils/agent.py").read_text(encoding="utf-8")
        (owner,) = re.findall(r"^class (\w+)[^\n]*:\n(?:(?!^class ).*\n)*?    async def _fetch_rewards_via_http", file, re.M)
        fetch = taken("openrlhf", "utils/agent.py", f"{owner}._fetch_rewards_via_http", **names)
        endpoints = [f"{self.server.url}/get_reward"]
        executor = types.SimpleNamespace(reward_endpoints=endpoints, _reward_endpoint_cycle=itertools.cycle(endpoints))

        async def all_at_once():
            # One query a call, many at a time.
            calls = [fetch(executor, [text], [text], [None]) for text in texts]
            return await asyncio.gather(*calls)

        answers = [answer for (answer,) in asyncio.run(all_at_once())]
        for answer in answers:
            self.assertEqual([len(answer["rewards"]), len(answer["scores"])], [1, 1])
            self.assertIn(answer["extra_logs"]["out_of_distribution"], ([0.0], [1.0]))
        return [answer["rewards"][0] for answer in answers]

    def test_openrlhf_and_llamafactory_read_the_same_rewards(self):
        texts = [f"{p}\n\n{a}" for p, a in zip(PROMPTS, ANSWERS)]
        rewards = self.openrlhf(texts)
        self.assertEqual(len(set(rewards)), 3)
        get = taken(
            "llamafactory",
            "train/ppo/ppo_utils.py",
            "get_rewards_from_server",
            requests=requests,
            json=json,
            torch=Torch(),
        )
        self.close(get(f"{self.server.url}/v1/score/evaluation", texts), rewards)

    # ms-swift

    def test_swift_finds_the_reward_and_calls_it(self):
        base = taken("swift", "rewards/orm.py", "ORM")
        module = types.ModuleType("swift.rewards")
        module.ORM, module.orms = base, {}
        fake = {"swift": types.ModuleType("swift"), "swift.rewards": module}
        pieces = {"os": os, "sys": sys, "importlib": importlib, "_external_files": [], "hashlib": __import__("hashlib")}
        load = taken("swift", "utils/utils.py", "import_external_file", **pieces)
        with unittest.mock.patch.dict(sys.modules, fake):
            load(str(HERE.parents[1] / "lens_swift.py"))
        reward = module.orms["lens"](args=None)
        self.assertIsInstance(reward, base)

        batched = taken("swift", "dataset/preprocessor/core.py", "RowPreprocessor.rows_to_batched")
        dataset = types.ModuleType("swift.dataset")
        dataset.RowPreprocessor = types.SimpleNamespace(rows_to_batched=batched)
        names = {
            "torch": Torch(),
            "nn": types.SimpleNamespace(Module=type("Module", (), {})),
            "logger": logging.getLogger("swift"),
            "_is_async_reward": taken("swift", "rl_core/grpo_algorithm.py", "_is_async_reward"),
        }
        compute = taken("swift", "rl_core/grpo_algorithm.py", "compute_rewards_per_func", **names)

        def sample(prompt, answer):
            messages = user(prompt) + assistant(answer)
            row = {"messages": messages, "prompt_id": "1", "solution": "x"}
            return types.SimpleNamespace(messages=messages, to_reward_row=lambda: row)

        samples = [sample(p, a) for p, a in zip(PROMPTS, ANSWERS)]
        with unittest.mock.patch.dict(sys.modules, {**fake, "swift.dataset": dataset}):
            table = compute(samples, [reward], None, "cpu")
        self.close(table[:, 0], self.of_chats)

    def test_swift_that_is_not_there_is_no_obstacle(self):
        os.environ["LENS_NORMALISED"] = "1"
        with unittest.mock.patch.dict(sys.modules, {"swift": None}):
            import lens_swift
        reward = lens_swift.LensReward()
        chats = [user(p) for p in PROMPTS]
        self.close(reward(ANSWERS, messages=chats), RewardClient().rewards([user(p) for p in PROMPTS], ANSWERS, normalised=True))
        with self.assertRaisesRegex(LensError, "needs its prompt"):
            reward(ANSWERS)


if __name__ == "__main__":
    unittest.main()
