"""Rewards from `lens serve`, for Python programs: what the adapters beside this file share.

    from lens_reward import RewardClient

    client = RewardClient("http://127.0.0.1:8080")
    scored = client.score(["How long for an egg?"] * 2, ["Seven minutes.", "No."])
    [one["reward"] for one in scored]

Prompts and responses are texts, or lists of chat messages. Responses to equal prompts travel
together, several requests at a time, over connections that are kept. Python's standard library only.

Environment: LENS_URL (the server), LENS_TOKEN (its bearer token), LENS_MODEL (which of its reward
models), SSL_CERT_FILE (the certificates to trust, where its own is not signed by a public authority).
"""

import concurrent.futures
import http.client
import json
import math
import os
import random
import socket
import threading
import time
import urllib.parse

# Most responses in a request: the server compares no more.
MOST = 64
# Seconds between two attempts where the server names none: doubled each time, up to the second.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
# Answers that another attempt may change: too many requests, starting or stopping, no encoder.
PASSING = (429, 502, 503, 504)


class LensError(RuntimeError):
    """There is no reward, and why. Never a reward that was made up."""


class RewardClient:
    """The reward model at `url`.

    token: bearer token. model: name of the reward model; the server's first one if None.
    timeout: seconds that one request may take. patience: seconds after which a server that is
    busy, restarting or out of reach is given up. concurrency: requests at a time.
    """

    def __init__(self, url=None, token=None, model=None, timeout=180.0, patience=600.0, concurrency=8):
        url = url or os.environ.get("LENS_URL") or "http://127.0.0.1:8080"
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LensError(f"{url!r} is no address of a server: http://HOST:PORT")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/") + "/v1/reward"
        self._token = token or os.environ.get("LENS_TOKEN")
        if self._token and self._token.split() != [self._token]:
            raise LensError("the token holds white space: LENS_TOKEN is to be one token alone")
        self.model = model or os.environ.get("LENS_MODEL")
        self.timeout, self.patience, self.concurrency = timeout, patience, concurrency
        self._local = threading.local()
        self._lock = threading.Lock()
        self._pool, self._owner = None, None

    # Trainers send what they are given to their workers.
    def __getstate__(self):
        state = dict(self.__dict__)
        for own in ("_local", "_lock", "_pool", "_owner"):
            state.pop(own)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._local, self._lock = threading.local(), threading.Lock()
        self._pool, self._owner = None, None

    def score(self, prompts, responses):
        """What the server says of each response to the prompt beside it, in their order: dicts with
        `reward`, `normalised`, `deviation` and `novelty` (None where the model measures none).
        Raises LensError rather than leave one out."""
        prompts, responses = list(prompts), list(responses)
        if len(prompts) != len(responses):
            raise LensError(f"{len(prompts)} prompts, but {len(responses)} responses")
        groups = {}
        for i, (prompt, response) in enumerate(zip(prompts, responses)):
            prompt, response = content(prompt), content(response)
            rows = groups.setdefault(json.dumps(prompt), (prompt, []))[1]
            rows.append((i, response))
        requests = [
            (prompt, rows[first : first + MOST])
            for prompt, rows in groups.values()
            for first in range(0, len(rows), MOST)
        ]
        scored = [None] * len(prompts)
        over = threading.Event()

        def one(request):
            prompt, rows = request
            results = self._ask(prompt, [response for _, response in rows], over)
            for (i, _), result in zip(rows, results):
                scored[i] = result

        if len(requests) == 1:
            one(requests[0])
        else:
            # The first failure is raised; the requests not yet begun are then not made, and those that
            # wait for another attempt give up: Python does not end before its threads do.
            pending = [self._threads().submit(one, request) for request in requests]
            try:
                for done in concurrent.futures.as_completed(pending):
                    done.result()
            finally:
                over.set()
                for future in pending:
                    future.cancel()
        return scored

    def rewards(self, prompts, responses, normalised=False):
        """The rewards alone; normalised: in standard deviations of the training responses' rewards."""
        key = "normalised" if normalised else "reward"
        return [one[key] for one in self.score(prompts, responses)]

    def _threads(self):
        with self._lock:
            # A process that was forked off has the object, but not its threads.
            if self._pool is None or self._owner != os.getpid():
                self._pool = concurrent.futures.ThreadPoolExecutor(self.concurrency, "lens-reward")
                self._owner = os.getpid()
            return self._pool

    def _ask(self, prompt, responses, over):
        asked = {"prompt": prompt, "responses": responses}
        if self.model:
            asked["model"] = self.model
        answer = self._post(json.dumps(asked).encode(), over)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(responses):
            raise LensError(f"{self.url} does not answer like `lens serve`: {str(answer)[:200]}")
        for result in results:
            for key in ("reward", "normalised", "deviation"):
                value = result.get(key)
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                    raise LensError(f"{self.url} answered {key} = {value!r}, no finite number")
        return results

    def _post(self, body, over):
        end = time.monotonic() + self.patience
        attempt = 0
        while True:
            try:
                status, wait, text = self._send(body)
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                why, wait = f"{type(error).__name__}: {error}", None
            else:
                if status == 200:
                    try:
                        return json.loads(text)
                    except ValueError as error:
                        raise LensError(f"{self.url} answered what is no JSON: {error}") from None
                why = f"status {status}: {said(text)}"
                if status not in PASSING:
                    raise LensError(f"{self.url}: {why}")
            pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.75, 1.0)
            # What the server asks for is waited at least.
            pause = pause if wait is None else wait + random.uniform(0.0, FIRST_PAUSE)
            attempt += 1
            if time.monotonic() + pause > end:
                raise LensError(f"{self.url}: {why} (given up after {attempt} attempts)")
            if over.wait(pause):
                raise LensError(f"{self.url}: {why} (given up: another request has failed)")

    def _send(self, body):
        """Status, seconds to wait (None where not said), and body of one answer."""
        for fresh in (False, True):
            connection = None if fresh else self._kept()
            kept = connection is not None
            connection = connection or self._connect()
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            try:
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                text = response.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._drop()
                # A kept connection may have been closed while nobody used it: that is no failure.
                if kept:
                    continue
                raise
            if response.will_close:
                self._drop()
            return response.status, seconds(response.getheader("Retry-After")), text
        raise LensError("unreachable")

    def _kept(self):
        if getattr(self._local, "owner", None) != os.getpid():
            self._local.connection = None
        return self._local.connection

    def _connect(self):
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self.timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._local.connection, self._local.owner = connection, os.getpid()
        return connection

    def _drop(self):
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = None


def content(value):
    """A prompt or response as the server takes it: a text, or messages with role and text alone."""
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):  # An array of messages, as data frames hold them.
        value = value.tolist()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, (list, tuple)) or not value:
        raise LensError(f"neither a text nor chat messages: {value!r:.200}")
    return [message(turn) for turn in value]


def message(turn):
    if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
        raise LensError(f"no chat message: {turn!r:.200}")
    if turn.get("tool_calls"):
        raise LensError("a message has `tool_calls`, which the reward model would not see")
    text = turn.get("content")
    if isinstance(text, (list, tuple)):
        parts = text
        if not all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts):
            raise LensError(f"only texts can be scored, not {text!r:.200}")
        text = "".join(part["text"] for part in parts)
    if not isinstance(text, str):
        raise LensError(f"a message of {turn['role']!r} has no text")
    return {"role": turn["role"], "content": text}


def seconds(header):
    """The seconds of a Retry-After header; None for another form of it, or none."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None


def said(text):
    """The server's own words in an error."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode("utf-8", "replace")


def unlike(scored):
    """The share of responses that are unlike the training data; None where it is not measured."""
    known = [one["novelty"]["out_of_distribution"] for one in scored if one.get("novelty")]
    return sum(known) / len(known) if known else None
