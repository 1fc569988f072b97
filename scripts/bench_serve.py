#!/usr/bin/env python3
"""Measure `lens serve` under load, and print what was measured as Markdown.

    python3 scripts/bench_serve.py BUNDLE [--texts FILE ..] [--soak 3600] [--infinity URL]

Parts, each with a server of its own (`--only embeddings,text,clients,soak`):

  embeddings  rewards a second with embeddings as input (f16, wrk at full load), and the time of an answer
              at half of that load and at half of the aimed-at 50,000 rewards/s, at a constant rate
  text        `/v1/reward`, a prompt and a response a request, against `lens embed` on the same texts,
              and with --infinity URL against Infinity (`/classify` or `/rerank`), in turns
  clients     1,000 clients at once, none of which may get an error
  soak        text and embeddings at full load for --soak seconds, and the server's memory meanwhile

Needs `wrk` (apt-get install wrk) and a built `lens`; otherwise Python's standard library. wrk has no
constant rate, so that client is written here. Clients run beside the server, on the same cores. Any
answer but 200 ends its part, and the run with status 1, as does memory that grows.
"""

import argparse
import asyncio
import contextlib
import datetime
import itertools
import json
import math
import os
import pathlib
import platform
import random
import re
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import urllib.request

from serve_load import (Client, Failed, Server, Wrk, closed_loop, constant_rate, cpu_seconds, percentile,
                        raise_limit, request_bytes)

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ["embeddings", "text", "clients", "soak"]
# What is aimed at: rewards/s, milliseconds, share of `lens embed`.
AIM_REWARDS, AIM_P99, AIM_TEXT = 50_000, 5.0, 0.9
BYTES = {"Content-Type": "application/octet-stream", "X-Lens-Dtype": "f16"}
PLAIN = {**BYTES, "Accept": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
# A request of the 1,000 clients, and the requests of each.
FEW_ROWS, A_CLIENT = 8, 20


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def middle(values, form="{:,.0f}"):
    """Median and range."""
    low, high = min(values), max(values)
    text = form.format(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({form.format(low)} to {form.format(high)})"


def load_average():
    return f"{os.getloadavg()[0]:.1f}"


def rows_of(count, width, seed=0):
    """Rows of normally distributed numbers, as f16."""
    draw = random.Random(seed)
    return b"".join(struct.pack(f"<{width}e", *(draw.gauss(0, 1) for _ in range(width)))
                    for _ in range(count))


def width_of(server):
    with urllib.request.urlopen(server.url("/v1/models"), timeout=60) as answer:
        return json.load(answer)["data"][0]["lens"]["embedding_width"]


class Report:
    """Tables of one kind: what, how, measured, aim."""

    def __init__(self):
        self.rows = []
        self.status = 0

    def add(self, what, how, measured, aim=""):
        self.rows.append((what, how, measured, aim))
        say(f"{what}: {measured} {aim}")

    def write(self, args):
        cpu = "unknown processor"
        with contextlib.suppress(OSError):
            found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text("utf-8"))
            cpu = found[1] if found else cpu
        version = subprocess.run([args.lens, "--version"], capture_output=True, text=True, check=True)
        commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True,
                                text=True, check=False)
        print(f"{datetime.date.today()}, {os.cpu_count()} cores ({cpu}), "
              f"{platform.system()} {platform.release()}, {version.stdout.strip()} "
              f"at {commit.stdout.strip() or 'no commit'}; load average {args.load} before and {load_average()} "
              f"after, clients on the same cores.\n")
        print(f"    python3 scripts/bench_serve.py {' '.join(sys.argv[1:])}\n")
        print("| What | How | Measured | Aim |\n|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")


def met(good):
    return "met" if good else "**missed**"


# Embeddings as input.

def embeddings(args, report):
    with Server(args.lens, args.bundle) as server:
        width = width_of(server)
        body = rows_of(args.rows, width)
        request = request_bytes(f"127.0.0.1:{server.port}", "/v1/reward", body, PLAIN)
        plain_rewards(server, request, args.rows)
        how = f"{args.rows} rows of {width} f16 a request, {args.connections} connections, " \
              f"{args.repeats} times {args.seconds} s"
        wrk(server, args, body, PLAIN, min(3, args.seconds))
        full = [wrk(server, args, body, PLAIN, args.seconds) for _ in range(args.repeats)]
        rate = [one["rate"] for one in full]
        report.add("Embeddings, full load, rewards/s", f"wrk; {how}", middle(rate),
                   f"{AIM_REWARDS:,}: {met(statistics.median(rate) >= AIM_REWARDS)}")
        report.add("the same, for a second of processor time of the server",
                   f"it had {middle([one['cores'] for one in full], '{:.2f}')} cores beside its clients",
                   middle([one["a_second"] for one in full]))
        report.add("the same, time of an answer, p50 and p99", "wrk; the queue is always full",
                   middle([one["p50"] for one in full], "{:.1f}") + " and "
                   + middle([one["p99"] for one in full], "{:.1f}") + " ms")
        for name, rewards in (("half of that load", statistics.median(rate) / 2),
                              ("half of the aim", AIM_REWARDS / 2)):
            at_rate(server, args, report, request, name, rewards)
        full = [wrk(server, args, body, BYTES, args.seconds)["rate"] for _ in range(args.repeats)]
        report.add("the same answered as JSON, full load, rewards/s", f"wrk; {how}", middle(full))
        server.check()


def at_rate(server, args, report, request, name, rewards):
    halves, p50, p99, late = rewards / args.rows, [], [], []
    constant_rate(server.port, request, args.rows * 4, halves, 1)
    for _ in range(args.repeats):
        times, lateness = constant_rate(server.port, request, args.rows * 4, halves, args.seconds)
        p50.append(percentile(times, 0.5))
        p99.append(percentile(times, 0.99))
        late.append(percentile(lateness, 0.99))
    report.add(f"Embeddings, {name} ({rewards:,.0f} rewards/s), p50 and p99",
               f"constant rate, {halves:,.0f} requests/s, timed from when each was due; the client itself "
               f"late by {max(late):.1f} ms at p99",
               f"{middle(p50, '{:.2f}')} and {middle(p99, '{:.2f}')} ms",
               f"p99 {AIM_P99} ms: {met(statistics.median(p99) < AIM_P99)}")


def plain_rewards(server, request, rows):
    """One answer, looked at: the right number of finite rewards, not all equal."""
    rewards = struct.unpack(f"<{rows}f", Client(server.port).ask(request))
    if not all(map(math.isfinite, rewards)) or len(set(rewards)) < rows / 2:
        raise Failed(f"these are no rewards of {rows} different rows: {rewards[:8]}")


def wrk(server, args, body, headers, seconds):
    before, used = server.metrics()["lens_rewards_total"], server.cpu()
    running = Wrk(server.url("/v1/reward"), body, headers, seconds, args.connections)
    result = running.result()
    used = server.cpu() - used
    rewards = result["requests"] * args.rows
    counted = server.metrics()["lens_rewards_total"] - before
    # What is under way when wrk stops is counted by the server alone.
    if not rewards <= counted <= rewards + args.connections * args.rows * 2:
        raise Failed(f"wrk counted {rewards} rewards, the server {counted:.0f}")
    return {**result, "rate": rewards / result["seconds"], "a_second": counted / used,
            "cores": used / result["seconds"]}


# Text.

def read_texts(args):
    """Different (prompt, response) of files of preference pairs."""
    found = {}
    for path in args.texts:
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            for side in ("chosen", "rejected", "response"):
                if side in row:
                    if not isinstance(row["prompt"], str) or not isinstance(row[side], str):
                        raise Failed(f"{path}: prompts and responses have to be text here")
                    found[row["prompt"], row[side]] = None
    texts = list(found)
    if args.n_texts:
        texts = texts[:args.n_texts]
    if not texts:
        raise Failed("no texts")
    return texts


def reward_requests(server, texts):
    host = f"127.0.0.1:{server.port}"
    return [request_bytes(host, "/v1/reward", json.dumps({"prompt": p, "responses": [r]}).encode(), JSON)
            for p, r in texts]


def tokens_of(body):
    """Tokens of an answer of `/v1/reward`, which has to hold one finite reward."""
    answer = json.loads(body)
    (one,) = answer["results"]
    if not all(math.isfinite(one[key]) for key in ("reward", "normalised", "deviation")):
        raise Failed(f"no finite reward: {body[:300]!r}")
    return answer["usage"]["prompt_tokens"]


class Infinity:
    """A running Infinity server: `infinity_emb v2 --model-id .. --engine ..`."""

    def __init__(self, args):
        url = urllib.parse.urlsplit(args.infinity)
        self.host, self.port, self.route = url.hostname, url.port or 80, args.infinity_route
        self.base = url.path.rstrip("/")
        with urllib.request.urlopen(f"{args.infinity}/models", timeout=60) as answer:
            self.model = args.infinity_model or json.load(answer)["data"][0]["id"]

    def requests(self, texts):
        def body(prompt, response):
            if self.route == "rerank":
                return {"model": self.model, "query": prompt, "documents": [response], "raw_scores": True}
            return {"model": self.model, "input": [f"{prompt}\n\n{response}"], "raw_scores": True}

        return [request_bytes(f"{self.host}:{self.port}", f"{self.base}/{self.route}",
                              json.dumps(body(*text)).encode(), JSON) for text in texts]

    def check(self, body):
        answer = json.loads(body)
        if self.route == "rerank":
            (one,) = answer["results"]
            score = one["relevance_score"]
        else:
            score = answer["data"][0][0]["score"]
        if not math.isfinite(score):
            raise Failed(f"no finite score: {body[:300]!r}")
        return score


def lens_embed(args, texts, folder):
    """`lens embed` with nothing cached but the model; what it reports."""
    home = pathlib.Path(args.cache or os.environ.get("LENS_CACHE") or pathlib.Path.home() / ".cache" / "lens")
    cache = pathlib.Path(tempfile.mkdtemp(dir=folder))
    (cache / "models").symlink_to((home / "models").resolve())
    rows = cache / "texts.jsonl"
    rows.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in texts), "utf-8")
    command = [args.lens, "embed", rows, "--like", args.bundle, "-o", cache / "out.safetensors",
               "--cache", cache, "--json", "--quiet"]
    before = children_cpu()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    used = children_cpu() - before
    if done.returncode != 0:
        raise Failed(f"lens embed: {done.stderr}")
    shutil.rmtree(cache)
    return {**json.loads(done.stdout), "cpu": used}


def children_cpu():
    """Processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def text(args, report):
    texts, clients = read_texts(args), args.clients_text
    infinity = Infinity(args) if args.infinity else None
    ours, theirs, net, gross, latency, shared, costs, peer_costs = [], [], [], [], [], [], [], []
    batches = []
    with tempfile.TemporaryDirectory() as folder, Server(args.lens, args.bundle) as server:
        requests = reward_requests(server, texts)

        def serve(some):
            before, used = server.metrics(), server.cpu()
            tokens, times, seconds = asyncio.run(
                closed_loop("127.0.0.1", server.port, iter(some), clients, tokens_of, timeout=3600))
            used, after = server.cpu() - used, server.metrics()
            computed, calls, busy = (after[name] - before[name] for name in (
                "lens_tokens_computed_total", "lens_batch_texts_count", "lens_encoder_seconds_total"))
            batches.append((len(some) / calls, busy / seconds))
            return sum(tokens), computed, times, seconds, used

        serve(requests[:clients])
        if infinity:
            asked = infinity.requests(texts)
            asyncio.run(closed_loop(infinity.host, infinity.port, iter(asked[:clients]), clients,
                                    infinity.check, timeout=3600))
        for number in range(args.text_repeats):
            # In turns, the other way round every second time: a machine gets slower and faster.
            turns = ["load", "embed", "serve"] + (["infinity"] if infinity else [])
            for turn in turns if number % 2 == 0 else reversed(turns):
                say(f"text, repeat {number + 1} of {args.text_repeats}: {turn}")
                if turn == "load":
                    loading = lens_embed(args, [("a", "b")], folder)
                elif turn == "embed":
                    embed = lens_embed(args, texts, folder)
                elif turn == "serve":
                    tokens, computed, times, seconds, used = serve(requests)
                else:
                    peer_used = cpu_seconds(args.infinity_pid) if args.infinity_pid else 0.0
                    _, _, peer = asyncio.run(closed_loop(infinity.host, infinity.port, iter(asked), clients,
                                                         infinity.check, timeout=3600))
                    peer_used = cpu_seconds(args.infinity_pid) - peer_used if args.infinity_pid else 0.0
            if tokens != embed["tokens"]:
                raise Failed(f"the server counted {tokens} tokens, lens embed {embed['tokens']}")
            ours.append(len(texts) / seconds)
            net.append(len(texts) / (embed["seconds"] - loading["seconds"]))
            gross.append(len(texts) / embed["seconds"])
            latency.append((percentile(times, 0.5), percentile(times, 0.99)))
            shared.append((computed, embed["computed"]))
            costs.append((embed["cpu"] - loading["cpu"]) / used)
            if infinity:
                theirs.append(len(texts) / peer)
                peer_costs.append(peer_used / used)
        server.check()
    each = tokens / len(texts)
    how = f"{len(texts)} different texts of {each:.0f} tokens on average, {clients} clients, a text a request, " \
          f"{args.text_repeats} runs in turns with the others"
    # The first was to warm up.
    sizes, busy = zip(*batches[1:])
    report.add("Text, `/v1/reward`, rewards/s", how, middle(ours, "{:.2f}"))
    report.add("the same, tokens/s", f"{middle(sizes, '{:.1f}')} texts in a call of the encoder, which was busy "
               f"{middle(busy, '{:.1%}')} of the time", middle([x * each for x in ours]))
    report.add("the same, time of an answer, p50 and p99", f"all {clients} clients always waiting",
               f"{middle([p for p, _ in latency], '{:,.0f}')} and {middle([p for _, p in latency], '{:,.0f}')} ms")
    report.add("`lens embed`, texts/s", "fresh --cache, the time to load the model taken off",
               middle(net, "{:.2f}"))
    report.add("the same, tokens/s", f"loading not taken off: {middle([x * each for x in gross])}",
               middle([x * each for x in net]))
    ratios = [a / b for a, b in zip(ours, net)]
    report.add("Ratio of `lens serve` to `lens embed`",
               f"by run; tokens computed {middle([c for c, _ in shared])} and {middle([c for _, c in shared])}",
               middle(ratios, "{:.3f}"), f"{AIM_TEXT}: {met(statistics.median(ratios) >= AIM_TEXT)}")
    report.add("the same by processor time", "that of `lens embed`, loading taken off, to that of the server",
               middle(costs, "{:.3f}"))
    if infinity:
        report.add(f"Infinity, `/{infinity.route}`, {infinity.model}, texts/s",
                   args.infinity_note or "the same texts, clients and turns", middle(theirs, "{:.2f}"))
        report.add("Ratio of `lens serve` to Infinity", "by run",
                   middle([a / b for a, b in zip(ours, theirs)], "{:.2f}"))
        if args.infinity_pid:
            report.add("the same by processor time", "Infinity's to that of the server",
                       middle(peer_costs, "{:.2f}"))


# Many clients.

def clients(args, report):
    count = args.clients
    # Clients of text wait for all who came before them, which takes longer than any one should wait.
    with Server(args.lens, args.bundle, ["--timeout", "3600"]) as server:
        request = request_bytes(f"127.0.0.1:{server.port}", "/v1/reward",
                                rows_of(FEW_ROWS, width_of(server)), PLAIN)
        plain_rewards(server, request, FEW_ROWS)

        def check(body):
            if len(body) != FEW_ROWS * 4:
                raise Failed(f"{len(body)} bytes of {FEW_ROWS} rewards")

        report_clients(report, "embeddings", f"{count} connections at once, {A_CLIENT} requests of {FEW_ROWS} "
                       "rows each", server, itertools.repeat(request, count * A_CLIENT), count, check)
        texts = list(itertools.islice(itertools.cycle(read_texts(args)), count))
        report_clients(report, "text", f"{count} connections at once, a text each, "
                       f"{len(set(texts))} of them different, `--timeout 3600`", server,
                       iter(reward_requests(server, texts)), count, tokens_of)
        server.check()


def report_clients(report, kind, how, server, requests, count, check):
    before = server.metrics()
    done, times, seconds = asyncio.run(
        closed_loop("127.0.0.1", server.port, requests, count, check, timeout=3600))
    refused = server.metrics().get("lens_refused_total", 0) - before.get("lens_refused_total", 0)
    if refused:
        raise Failed(f"the server refused {refused:.0f} requests")
    report.add(f"{count:,} clients at once, {kind}", how,
               f"{len(done):,} answers in {seconds:.1f} s, the slowest after {max(times) / 1e3:.1f} s; no error",
               "no error: met")


# Memory over time.

def slope(points):
    """Least squares, per hour, of the server's own memory."""
    xs, ys, _ = zip(*points)
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    across = sum((a - x) ** 2 for a in xs)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / across * 3600 if across else 0.0


def soak(args, report):
    texts, seconds = read_texts(args), args.soak
    every = max(0.5, min(5.0, seconds / 60))
    with Server(args.lens, args.bundle) as server:
        body = rows_of(args.rows, width_of(server))
        requests = reward_requests(server, texts)
        before = server.metrics()
        ended, points, troubles = threading.Event(), [], []
        begin = time.monotonic()

        def watch():
            try:
                while not ended.wait(every):
                    points.append((time.monotonic() - begin, *server.memory()))
            except Exception as error:
                troubles.append(error)
                ended.set()

        running = Wrk(server.url("/v1/reward"), body, PLAIN, seconds, args.connections)
        try:
            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            timer = threading.Timer(seconds, ended.set)
            timer.daemon = True
            timer.start()
            done, _, _ = asyncio.run(closed_loop("127.0.0.1", server.port, itertools.cycle(requests),
                                                 args.clients_text, tokens_of, ended, seconds + 600))
            result = running.result()
        finally:
            ended.set()
            running.end()
        watcher.join(10)
        if troubles:
            raise troubles[0]
        server.check()
        after = server.metrics()
    rate = result["requests"] * args.rows / result["seconds"]
    computed = after["lens_tokens_total"] - before["lens_tokens_total"]
    # The first part fills pools and buffers.
    kept = [point for point in points if point[0] >= max(seconds * 0.2, min(60, seconds / 3))]
    if len(kept) < 5:
        raise Failed("too few measurements of memory: soak longer")
    memory = [own for _, own, _ in kept]
    tenth = max(1, len(kept) // 10)
    first, last = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
    grown = last / first - 1
    report.add(f"Soak of {seconds:,} s: answered", f"wrk on {args.connections} connections ({args.rows} rows a "
               f"request) beside {args.clients_text} clients of text", f"{result['requests'] * args.rows:,} rewards of "
               f"embeddings ({rate:,.0f}/s) and {len(done):,} of texts ({computed / seconds:,.0f} tokens/s); no error")
    report.add("the same: the server's own memory", f"every {every:g} s, after the first {kept[0][0]:.0f} s; before "
               f"the load {points[0][1]:,.0f} MB at {points[0][0]:.1f} s",
               f"{min(memory):,.0f} to {max(memory):,.0f} MB; slope of the second half "
               f"{slope(kept[len(kept) // 2:]):+,.1f} MB an hour; median of the last tenth against the first "
               f"{grown:+.2%}",
               f"flat (at most {args.growth:.0%} more): {met(grown <= args.growth)}")
    report.add("the same: pages of the model's file", "weights that texts asked for; at most the size of the file, "
               "and given back when the system needs memory", f"{kept[0][2]:,.0f} to {kept[-1][2]:,.0f} MB")
    # Unlike the speeds, no matter of the machine.
    if grown > args.growth:
        report.status = 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("bundle", type=pathlib.Path, help="reward model to serve")
    add("--lens", default=str(ROOT / "target" / "release" / "lens"), help="the binary")
    add("--only", default=",".join(PARTS), help="parts to run")
    add("--texts", type=pathlib.Path, nargs="+", default=[ROOT / "datasets/starter/train.jsonl",
        ROOT / "datasets/starter/heldout.jsonl"], help="rows of prompt and chosen, rejected, response")
    add("--n-texts", type=int, default=0, help="at most so many texts; 0 takes all")
    add("--rows", type=int, default=256, help="embeddings in a request")
    add("--connections", type=int, default=16, help="of wrk")
    add("--seconds", type=int, default=10, help="of each run with embeddings")
    add("--repeats", type=int, default=5, help="runs with embeddings")
    add("--text-repeats", type=int, default=3, help="runs with text")
    add("--clients-text", type=int, default=64, help="clients of text at a time, enough to fill batches")
    add("--clients", type=int, default=1000, help="clients of the part of that name")
    add("--soak", type=int, default=60, help="seconds of the soak")
    add("--growth", type=float, default=0.05, help="growth of memory that still counts as flat")
    add("--infinity", metavar="URL", help="address of a running Infinity server")
    add("--infinity-model", help="its name there; by default the first that it lists")
    add("--infinity-route", choices=["classify", "rerank"], default="classify")
    add("--infinity-pid", type=int, help="its process, to compare processor time as well")
    add("--infinity-note", help="what it runs, for the table")
    add("--cache", help="where lens keeps its models, as its own --cache")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    if not shutil.which("wrk"):
        parser.error("wrk is not installed (apt-get install wrk)")
    if args.infinity:
        args.infinity = args.infinity.rstrip("/")
    args.load = load_average()
    return args


def main():
    args = arguments()
    # Servers and wrk end with this process, but their folders only if it ends in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    limit = raise_limit()
    if limit < args.clients + 64:
        sys.exit(f"this system lets a process open {limit} files, too few for {args.clients} clients")
    report = Report()
    run = {"embeddings": embeddings, "text": text, "clients": clients, "soak": soak}
    for part in args.only:
        say(f"{part} (load average {load_average()})")
        try:
            run[part](args, report)
        except Exception as error:  # of any kind: what the other parts measured is still printed
            report.status = 1
            report.add(part, "", f"**failed**: {error or type(error).__name__}".split("\n")[0])
            if not isinstance(error, Failed):
                traceback.print_exc()
            print(f"{part} failed: {error}", file=sys.stderr)
    report.write(args)
    sys.exit(report.status)


if __name__ == "__main__":
    main()
