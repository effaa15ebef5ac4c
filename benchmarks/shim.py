"""How many calls the shim takes, beside the runpod SDK's own local server and beside bare writes, in one run.

``make shim-bench``. Everything on loopback. Each round measures every side once, in a shuffled order; ratios are taken
within a round, so that what else the machine does weighs on both. A row is ``ok`` where the 95 % interval of the paired
ratio lies at the target or above, ``SHORT`` where it lies below, ``NOISE`` where it is too wide to tell.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.parts.firestore_emulator import firestore_emulator
from tests.parts.process import free_port, running

HERE = Path(__file__).parent
ROUNDS = 9
SECONDS = 2.0  # of one measurement
T_95 = {7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 11: 2.228}  # Student's t, two-sided, by the number of rounds
WIDE = 1.3  # an interval whose ends differ by more than this factor tells nothing
FLOOR_SQLITE = 1.0  # times the peer's calls
FLOOR_FIRESTORE = 0.4  # of the emulator's bare writes
STORES = ("sqlite", "firestore")

Measure = Callable[[], Any]


class Worker:
    """A child that answers a line with a line."""

    def __init__(self, *arguments: str | Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
            env={**os.environ, "PYTHONPATH": str(HERE.parent), **environment},
        )

    def ask(self, question: Any) -> Any:
        """Ask and wait."""
        questions, answers = self._process.stdin, self._process.stdout
        if questions is None or answers is None:
            raise RuntimeError("the child has no pipes")
        questions.write(json.dumps(question) + "\n")
        questions.flush()
        return json.loads(answers.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def server(name: str, command: list[str | Path], port: int, environment: Mapping[str, str], path: str) -> Iterator[int]:
    """A server that answers at ``path``."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    with running(command, ready=ready, within=60, environment=environment):
        print(f"  {name} is up", flush=True)
        yield port


def shim_of(stack: ExitStack, store: str, environment: Mapping[str, str]) -> int:
    """An ``easeld shim`` process."""
    port = free_port()
    variables = {**environment, "EASELD_STORE": store, "EASELD_SHIM_PORT": str(port), "EASELD_LOG_LEVEL": "warning"}
    variables |= {"EASELD_SHIM_KEYS": "bench", "EASELD_BLOBS": "folder"}
    command: list[str | Path] = [sys.executable, "-m", "daemon.entrypoints.cli", "shim"]
    return stack.enter_context(server(f"shim on {store}", command, port, variables, "/readyz"))


def peer_of(stack: ExitStack) -> int:
    """The runpod SDK's server."""
    port = free_port()
    arguments = ["--rp_serve_api", "--rp_api_port", str(port), "--rp_api_host", "127.0.0.1", "--rp_log_level", "ERROR"]
    command: list[str | Path] = [sys.executable, HERE / "shim_peer.py", *arguments]
    return stack.enter_context(server("runpod's server", command, port, {"UVICORN_LOG_LEVEL": "error"}, "/docs"))


def measures(stack: ExitStack, folder: Path) -> dict[str, Measure]:
    """Every side by its name."""
    emulator = stack.enter_context(firestore_emulator())
    project = emulator.new_project()
    places = {"sqlite": str(folder / "jobs.db"), "firestore": project}
    environment = {**emulator.environment, "EASELD_PROJECT": project, "EASELD_DATA": str(folder)}
    load = Worker("-m", "benchmarks.shim_load", environment={})
    stack.callback(load.close)
    sides: dict[str, Measure] = {}

    def calls(port: int, path: str, clients: int) -> Measure:
        question = {"host": "127.0.0.1", "port": port, "path": path, "clients": clients, "seconds": SECONDS}
        return lambda: load.ask({**question, "user_id": f"user-{random.randrange(10**9)}"})

    for store in STORES:
        port = shim_of(stack, store, environment)
        bare = Worker("-m", "benchmarks.shim_bare", store, places[store], environment=environment)
        stack.callback(bare.close)
        for clients in (1, 32):
            sides[f"{store} {clients}"] = calls(port, "/v2/easeld/runsync", clients)
        sides[f"{store} bare"] = lambda bare=bare: bare.ask(SECONDS)
    port = peer_of(stack)
    for clients in (1, 32):
        sides[f"runpod {clients}"] = calls(port, "/runsync", clients)
    return sides


def verdict(ratios: list[float], target: float) -> str:
    """The geometric mean of paired ratios, its interval, and what that says of the target."""
    logs = [math.log(ratio) for ratio in ratios]
    half = T_95[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.fmean(logs)
    low, high = math.exp(middle - half), math.exp(middle + half)
    if low >= target:
        word = "ok"
    elif high < target:
        word = "SHORT"
    else:
        word = "NOISE" if high / low > WIDE else ("ok" if math.exp(middle) >= target else "SHORT")
    return f"{math.exp(middle):.2f} [{low:.2f}, {high:.2f}] target {target:g}: {word}"


def main() -> int:
    """Measure, print, and fail where a target is missed."""
    found: dict[str, list[Any]] = defaultdict(list)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        sides = measures(stack, Path(folder))
        for measure in sides.values():  # the first call of each loads, connects and compiles
            measure()
        for number in range(ROUNDS):
            for name in random.sample(sorted(sides), len(sides)):
                found[name].append(sides[name]())
            print(f"  round {number + 1} of {ROUNDS}", flush=True)
    errors = sum(result["errors"] for name, results in found.items() if "bare" not in name for result in results)
    for clients in (1, 32):
        for store in (*STORES, "runpod"):
            results = found[f"{store} {clients}"]
            rps, p50, p99 = (
                statistics.median(result[key] for result in results) for key in ("rps", "p50_ms", "p99_ms")
            )
            print(f"  {clients:>2} clients  {store:<10} {rps:7.0f} calls/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms")
    rows = []
    for store in STORES:
        ours, bare, peer = found[f"{store} 32"], found[f"{store} bare"], found["runpod 32"]
        to_peer = [one["rps"] / other["rps"] for one, other in zip(ours, peer, strict=True)]
        to_bare = [one["rps"] / other for one, other in zip(ours, bare, strict=True)]
        rps, p99 = (statistics.median(result[key] for result in ours) for key in ("rps", "p99_ms"))
        print(
            f"shim: store={store} rps={rps:.0f} p99_ms={p99:.1f} bare_writes_per_s={statistics.median(bare):.0f} "
            f"vs_runpod={statistics.median(to_peer):.2f}x"
        )
        if store == "sqlite":
            rows.append(f"sqlite, of runpod's calls: {verdict(to_peer, FLOOR_SQLITE)}")
        else:
            rows.append(f"firestore, of bare writes: {verdict(to_bare, FLOOR_FIRESTORE)}")
    print("\n".join(rows))
    print(f"shim-bench: errors={errors} rounds={ROUNDS} seconds={SECONDS:g}")
    return 1 if errors or any(row.endswith("SHORT") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
