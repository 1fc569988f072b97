"""What the adapters do when the server is busy, gone, or says nonsense: a server that follows a script."""

import http.server
import json
import os
import pathlib
import pickle
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import lens_reward
import lens_verl
from lens_reward import LensError, RewardClient
from lens_trl import reward_function


class Scripted(http.server.ThreadingHTTPServer):
    """Answers each request with the next (status, headers, body) of a script; after its end, with a
    reward for each response: its length."""

    daemon_threads = True

    def __init__(self, *script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.connections = list(script), [], 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            step = self.server.script.pop(0) if self.server.script else None
        if step == "hang up":
            self.close_connection = True
            return
        status, headers, answer = step or (200, {}, rewards(body["responses"]))
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def rewards(responses, far=False):
    size = lambda r: float(len(r if isinstance(r, str) else r[-1]["content"]))
    novelty = {"distance": 2.0, "threshold": 1.0 if far else 3.0, "out_of_distribution": far}
    one = lambda i, r: {"index": i, "reward": size(r), "normalised": size(r) / 2, "deviation": 0.1, "novelty": novelty}
    return {"results": [one(i, r) for i, r in enumerate(responses)]}


def refusal(status, message, **headers):
    return (status, headers, {"error": {"message": message}})


class Client(unittest.TestCase):
    def setUp(self):
        # Waiting is the server's to ask for here.
        self.addCleanup(setattr, lens_reward, "FIRST_PAUSE", lens_reward.FIRST_PAUSE)
        lens_reward.FIRST_PAUSE = 0.001
        for name in ("LENS_URL", "LENS_TOKEN", "LENS_MODEL"):
            os.environ.pop(name, None)

    def test_responses_to_one_prompt_travel_together_and_come_back_in_order(self):
        with Scripted() as server:
            prompts = ["p", "q", "p", [{"role": "user", "content": "p"}], "q"]
            answers = ["a", "bb", "ccc", [{"role": "assistant", "content": "dddd"}], "eeeee"]
            client = RewardClient(server.url, token="secret", model="m")
            self.assertEqual(client.rewards(prompts, answers), [1, 2, 3, 4, 5])
            self.assertEqual(client.rewards(prompts, answers, normalised=True), [0.5, 1, 1.5, 2, 2.5])
            self.assertEqual(len(server.seen), 6)
            path, headers, body = server.seen[0]
            self.assertEqual((path, headers["Authorization"], body["model"]), ("/v1/reward", "Bearer secret", "m"))
            many = client.rewards(["p"] * 150, ["x" * i for i in range(1, 151)])
            self.assertEqual(many, list(range(1, 151)))
            self.assertEqual(sorted(len(b["responses"]) for _, _, b in server.seen[6:]), [22, 64, 64])
            self.assertEqual(client.score([], []), [])

    def test_connections_are_kept_and_one_that_was_closed_is_opened_again(self):
        with Scripted() as server:
            client = RewardClient(server.url)
            for _ in range(5):
                client.rewards(["p"], ["a"])
            self.assertEqual(server.connections, 1)
            server.script = ["hang up"]
            self.assertEqual(client.rewards(["p"], ["ab"]), [2])
            self.assertEqual(server.connections, 2)

    def test_a_busy_server_is_asked_again_when_it_says(self):
        busy = refusal(429, "the queue is full", **{"Retry-After": "0"})
        with Scripted(busy, refusal(503, "starting"), busy) as server:
            self.assertEqual(RewardClient(server.url).rewards(["p"], ["abc"]), [3])
            self.assertEqual(len(server.seen), 4)
        # One that asks for more patience than there is is given up, with its words.
        with Scripted(refusal(429, "the queue is full", **{"Retry-After": "3600"})) as server:
            with self.assertRaisesRegex(LensError, "the queue is full.*given up after 1 attempt"):
                RewardClient(server.url, patience=5).rewards(["p"], ["abc"])

    def test_a_refusal_is_told_at_once_in_the_servers_words(self):
        for status in (400, 401, 404, 413, 422, 500):
            with Scripted(refusal(status, "it is so")) as server:
                with self.assertRaisesRegex(LensError, f"status {status}: it is so"):
                    RewardClient(server.url).rewards(["p"], ["a"])
                self.assertEqual(len(server.seen), 1)

    def test_what_is_no_reward_is_never_returned(self):
        good = rewards(["a"])["results"][0]
        bad = [{**good, "reward": value} for value in (None, "1", True)]
        answers = [json.dumps({"results": [b]}).encode() for b in bad]
        answers += [b'{"results":[{"reward":NaN,"normalised":0,"deviation":0}]}', b'{"results":[]}']
        answers += [b"<html>", b"[]", b'{"results":[{"reward":1,"normalised":Infinity,"deviation":0}]}']
        for answer in answers:
            with Scripted((200, {}, answer)) as server:
                with self.assertRaises(LensError, msg=answer):
                    RewardClient(server.url).rewards(["p"], ["a"])

    def test_a_server_out_of_reach_is_named(self):
        with Scripted() as server:
            url = server.url
        with self.assertRaisesRegex(LensError, f"{url}: ConnectionRefusedError"):
            RewardClient(url, patience=0.01).rewards(["p"], ["a"])
        for url in ("localhost:8080", "ftp://x", "http://"):
            with self.assertRaisesRegex(LensError, "no address"):
                RewardClient(url)

    def test_one_failure_among_many_requests_is_raised(self):
        with Scripted(*[refusal(422, "empty")] * 1) as server:
            with self.assertRaisesRegex(LensError, "empty"):
                RewardClient(server.url).rewards([str(i) for i in range(20)], ["a"] * 20)

    def test_after_a_failure_no_other_request_is_waited_for(self):
        with Scripted((503, {"Retry-After": "60"}, {}), refusal(422, "empty")) as server:
            client, begun = RewardClient(server.url, concurrency=2), time.monotonic()
            with self.assertRaisesRegex(LensError, "empty"):
                client.rewards(["p", "q"], ["a", "a"])
            client._pool.shutdown(wait=True)
            self.assertLess(time.monotonic() - begun, 30)

    def test_what_the_reward_model_would_not_see_is_refused(self):
        client = RewardClient("http://127.0.0.1:1", patience=0)
        call = {"role": "assistant", "content": "", "tool_calls": [{}]}
        image = {"role": "user", "content": [{"type": "image"}]}
        for prompt, response in (("p", [call]), ([image], "a"), ("p", None), ("p", 3), ([], "a"), (["x"], "a")):
            with self.assertRaisesRegex(LensError, "tool_calls|texts|neither|message"):
                client.rewards([prompt], [response])
        with self.assertRaisesRegex(LensError, "2 prompts, but 1"):
            client.rewards(["p", "q"], ["a"])
        parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
        self.assertEqual(lens_reward.content(parts), [{"role": "user", "content": "ab"}])

    def test_it_goes_to_other_processes(self):
        with Scripted() as server:
            function = pickle.loads(pickle.dumps(reward_function(server.url, name="help")))
            self.assertEqual(function.__name__, "help")
            self.assertEqual(function(prompts=["p", "q"], completions=["a", "bb"]), [1, 2])
            if hasattr(os, "fork"):
                child = os.fork()
                if child == 0:
                    os._exit(0 if function(prompts=["p", "q"], completions=["a", "bb"]) == [1, 2] else 1)
                self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_the_share_unlike_the_training_data_is_logged(self):
        logged = {}
        with Scripted((200, {}, rewards(["a", "bbb"], far=True)), (200, {}, rewards(["a"]))) as server:
            function = reward_function(server.url)
            function(["p"] * 2, ["a", "bbb"], log_metric=logged.__setitem__)
            self.assertEqual(logged, {"lens/reward_mean": 2.0, "lens/out_of_distribution": 1.0})
            function(["p"], ["a"], log_metric=logged.__setitem__)
            self.assertEqual(logged["lens/out_of_distribution"], 0.0)

    def test_verl_without_a_prompt_is_refused(self):
        for extra in (None, {}, {"question": "p", "prompt": None}):
            with self.assertRaisesRegex(LensError, "extra_info has no `prompt`"):
                lens_verl.compute_score("d", "a", "g", extra, url="http://127.0.0.1:1")
        with Scripted() as server:
            url, extra = server.url, {"question": "p", "num_turns": 1}
            got = lens_verl.compute_score("d", "abc", "g", extra, url=url, prompt_key="question")
            self.assertEqual(got, {"score": 3.0, "deviation": 0.1, "out_of_distribution": 0.0})


if __name__ == "__main__":
    unittest.main()
