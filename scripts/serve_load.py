"""A server as a child, and clients that load it: for scripts/bench_serve.py. Standard library only."""

import asyncio
import ctypes
import json
import math
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

# Connections that a server may have open where nobody raised the limit: what most systems start with.
DESCRIPTORS = 1024
# Longest wait for a server to start: its model may be read from a cold disk.
START_SECONDS = 300
# What is kept of a server's log, to be shown where it fails.
LOG_BYTES = 64 << 10

# wrk counts what is 400 and above; anything but 200 is wrong here.
WRK = """
local file = assert(io.open(os.getenv("LENS_BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
local headers = os.getenv("LENS_HEADERS")
for name, value in headers:gmatch("([^:\\n]+): ([^\\n]+)") do wrk.headers[name] = value end
done = function(all, latency, requests)
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "connect": %d, "read": %d, ' ..
    '"write": %d, "status": %d, "timeout": %d}\\n',
    all.requests, all.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    all.errors.connect, all.errors.read, all.errors.write, all.errors.status, all.errors.timeout))
end
"""


class Failed(Exception):
    """A measurement that cannot stand."""


def die_with_parent():
    """In a child: ends when this process does, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def raise_limit():
    """Lets this process open as many sockets as the system has for it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_seconds(pid):
    """Processor time of a process and all its threads so far. On a busy machine it tells more than the
    clock does."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """`lens serve` on a free port; a context that ends it, and fails where it does not end well."""

    def __init__(self, lens, bundle, options=()):
        self.command = [str(lens), "serve", str(bundle), "--bind", "127.0.0.1:0", *options]
        self.log = b""

    def __enter__(self):
        def before():
            die_with_parent()
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))

        environment = {k: v for k, v in os.environ.items() if k != "LENS_TOKENS"}
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, preexec_fn=before, env=environment)
        self.heard = threading.Event()
        self.port = None
        threading.Thread(target=self._listen, daemon=True).start()
        self.heard.wait(START_SECONDS)
        if self.port is None:
            self.kill()
            raise Failed(f"{' '.join(self.command)} did not start:\n{self.tail()}")
        self.pid = self.process.pid
        return self

    def _listen(self):
        # A line a request: read in blocks, so that the clients' time does not go into it.
        while block := os.read(self.process.stderr.fileno(), 1 << 16):
            self.log = (self.log + block)[-LOG_BYTES:]
            if self.port is None:
                if found := re.search(rb"listening on http://127\.0\.0\.1:(\d+)", self.log):
                    self.port = int(found[1])
                    self.heard.set()
        self.heard.set()

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.kill()
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("the server did not end on SIGTERM") from None
        if status != 0:
            raise Failed(f"the server ended with status {status}:\n{self.tail()}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def tail(self):
        return self.log.decode(errors="replace")[-4000:]

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"the server ended with status {self.process.returncode}:\n{self.tail()}")

    def memory(self):
        """Resident memory in MB (10^6 bytes): the server's own, and pages of files that it has mapped, which
        are the model's weights and the program. The latter come as texts ask for them, up to the size of the
        files, and go when the system needs memory."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            text = file.read()
        found = [re.search(rf"{field}:\s+(\d+) kB", text) for field in ("RssAnon", "RssFile")]
        if None in found:
            raise Failed("the server has no memory: it has ended")
        own, mapped = (int(match[1]) * 1024 / 1e6 for match in found)
        return own, mapped

    def cpu(self):
        return cpu_seconds(self.pid)

    def metrics(self):
        """Counters and gauges by name, those with labels summed."""
        with urllib.request.urlopen(self.url("/metrics"), timeout=60) as answer:
            text = answer.read().decode()
        sums = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.M):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums


def request_bytes(host, path, body, headers):
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def head_of(head):
    """Status and length of the body of an answer."""
    status = int(head.split(b" ", 2)[1])
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    if not found:
        raise Failed(f"an answer without a length: {head[:300]!r}")
    return status, int(found[1])


class Client:
    """One connection, one request at a time, as bytes made beforehand."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request):
        self.socket.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            block = self.socket.recv(1 << 16)
            if not block:
                raise Failed("the connection was closed before an answer")
            got += block
        head, body = got.split(b"\r\n\r\n", 1)
        status, length = head_of(head)
        while len(body) < length:
            block = self.socket.recv(1 << 16)
            if not block:
                raise Failed("the connection was closed within an answer")
            body += block
        if status != 200:
            raise Failed(f"status {status}: {body[:300]!r}")
        return body


def percentile(values, share):
    """The value that `share` of all do not exceed."""
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def constant_rate(port, request, expected, rate, seconds, clients=16):
    """Requests at fixed times, whether or not earlier ones are answered (an open loop).

    A latency counts from the time at which its request was due, so a wait for a free connection is
    in it, and a stall of the server is felt by all who should have come meanwhile. Returns latencies and
    how late the client itself was when a connection was free, in ms.
    """
    total = int(rate * seconds)
    latencies, lateness, errors = [], [], []
    lock, taken = threading.Lock(), [0]
    connections = [Client(port) for _ in range(clients)]
    start = time.perf_counter() + 0.2

    def work(connection):
        try:
            while not errors:
                with lock:
                    number = taken[0]
                    taken[0] += 1
                if number >= total:
                    return
                due = start + number / rate
                wait = due - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                    lateness.append((time.perf_counter() - due) * 1e3)
                if len(connection.ask(request)) != expected:
                    raise Failed("an answer of another length")
                latencies.append((time.perf_counter() - due) * 1e3)
        except Exception as error:  # of any kind: it ends the measurement
            errors.append(error)

    threads = [threading.Thread(target=work, args=(c,), daemon=True) for c in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 120)
    if errors:
        raise errors[0]
    if len(latencies) != total:
        raise Failed(f"{total - len(latencies)} of {total} requests at a constant rate were not answered")
    return latencies, lateness or [0.0]


class Wrk:
    """wrk, running: the same request again and again on some connections."""

    def __init__(self, url, body, headers, seconds, connections):
        self.seconds = seconds
        self.folder = tempfile.TemporaryDirectory()
        paths = [os.path.join(self.folder.name, name) for name in ("body", "wrk.lua")]
        for path, content in zip(paths, (body, WRK.encode())):
            with open(path, "wb") as file:
                file.write(content)
        self.command = ["wrk", "-t1", f"-c{connections}", f"-d{int(seconds)}s", "--timeout", "60s",
                        "-s", paths[1], url]
        lines = "\n".join(f"{name}: {value}" for name, value in headers.items())
        environment = {**os.environ, "LENS_BODY": paths[0], "LENS_HEADERS": lines}
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=environment, text=True, preexec_fn=die_with_parent)

    def result(self):
        try:
            said, _ = self.process.communicate(timeout=self.seconds + 120)
        except subprocess.TimeoutExpired:
            raise Failed("wrk did not end") from None
        finally:
            self.end()
        found = re.search(r"^RESULT (\{.*\})$", said, re.M)
        if self.process.returncode != 0 or not found:
            raise Failed(f"{' '.join(self.command)}:\n{said}")
        result = json.loads(found[1])
        wrong = {k: result[k] for k in ("connect", "read", "write", "status", "timeout") if result[k]}
        if wrong or result["requests"] == 0:
            raise Failed(f"wrk counted errors: {wrong}\n{said}")
        return result

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


async def closed_loop(host, port, requests, clients, check, gate=None, timeout=600):
    """`clients` connections, each of which sends the next of `requests` (an iterator of bytes) when it
    has its answer. `check` takes the body of each, and returns what is kept of it.

    Returns what was kept, latencies in ms, and seconds from the first request to the last answer.
    """
    kept, latencies = [], []
    open_now = asyncio.Semaphore(128)
    ready, everybody = [0], asyncio.Event()

    async def one():
        async with open_now:
            reader, writer = await asyncio.open_connection(host, port)
        try:
            ready[0] += 1
            if ready[0] == clients:
                everybody.set()
            await everybody.wait()
            for request in requests:
                if gate is not None and gate.is_set():
                    return
                begin = time.perf_counter()
                writer.write(request)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                status, length = head_of(head)
                body = await reader.readexactly(length)
                if status != 200:
                    raise Failed(f"status {status}: {body[:300]!r}")
                latencies.append((time.perf_counter() - begin) * 1e3)
                kept.append(check(body))
        finally:
            writer.close()

    async def timed():
        tasks = [asyncio.ensure_future(one()) for _ in range(clients)]
        try:
            await everybody_or_error(everybody, tasks)
            begin = time.perf_counter()
            await asyncio.gather(*tasks)
            return time.perf_counter() - begin
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    try:
        seconds = await asyncio.wait_for(timed(), timeout)
    except asyncio.TimeoutError:
        raise Failed(f"{clients} clients were not answered within {timeout} s") from None
    except (ConnectionError, asyncio.IncompleteReadError, OSError) as error:
        raise Failed(f"a client lost its connection: {error!r}") from error
    return kept, latencies, seconds


async def everybody_or_error(everybody, tasks):
    """Waits until all are connected, or one cannot."""
    waiting = asyncio.ensure_future(everybody.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if waiting not in done:
        waiting.cancel()
        for task in done:
            task.result()
