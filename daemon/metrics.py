"""What a worker counts, for Prometheus. ``docs/metrics.md`` is written from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
GAPS = (0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 1, 5, 30, 300)  # seconds
CALLS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 10, 30)  # seconds
ITEMS = (1, 2, 4, 8, 16, 32)

Sample = tuple[tuple[str, ...], float]
"""The values of a metric's labels, and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A metric in words; the name is the one that queries use, a histogram's without its endings."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Shown(Collector):
    """A gauge that is read when somebody looks. Without samples it is absent."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._about = (name, text, None, labels)
        self._read: Callable[[], Iterable[Sample]] = list

    def show(self, read: Callable[[], float]) -> None:
        """Show what ``read`` tells."""
        self.show_each(lambda: [((), read())])

    def show_each(self, read: Callable[[], Iterable[Sample]]) -> None:
        """Show every sample that ``read`` tells."""
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(*self._about)]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(*self._about)
        for labels, value in self._read():
            family.add_metric(labels, value)
        return [family]


class Metrics:
    """One worker's figures, in a registry of its own."""

    def __init__(self, *, worker: str) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []

        self.jobs = self._counter(
            "easeld_jobs", "Jobs that this worker ended, or gave back after a failure (`queued`)", "task", "status"
        )
        self.failures = self._counter("easeld_failures", "Jobs that failed here for good", "error_type")
        self.retries = self._counter("easeld_retries", "Jobs given back to be tried again later")
        self.losses = self._counter(
            "easeld_lease_losses", "Claims that ended under this worker: cancelled, changed, gone or another's", "why"
        )
        self.rescues = self._counter("easeld_rescues", "Jobs taken back from workers that died")
        self.stages = self._histogram(
            "easeld_stage_seconds", "Time that completed jobs spent in each stage", SECONDS, "stage"
        )
        self.idle = self._histogram(
            "easeld_device_idle_seconds", "Wait of the device before a batch, for work or for the finisher", GAPS
        )
        self.batches = self._histogram("easeld_batch_items", "Pictures or videos in a batch", ITEMS)
        self.mends = self._counter("easeld_listener_mends", "Subscriptions that were lost and opened again", "listener")
        self.store_calls = self._histogram(
            "easeld_store_seconds", "Time of calls of the store; `_count` counts them", CALLS, "operation"
        )
        self.store_errors = self._counter("easeld_store_errors", "Calls that found the store away", "operation")

        self.queue_depth = self._shown("easeld_queue_depth", "Queued jobs of the tasks served here, any worker's")
        self.oldest_queued = self._shown(
            "easeld_oldest_queued_seconds", "Time since the job at the head of the queue was last written"
        )
        self.claiming = self._shown("easeld_claiming", "1 where this worker claims jobs, else 0")
        self.silent = self._shown("easeld_silent_threads", "Threads that have stopped moving")
        self.held = self._shown("easeld_held_jobs", "Jobs that this worker holds")
        self.finishing = self._shown("easeld_finishing_jobs", "Jobs being encoded and uploaded")
        self.resident = self._shown("easeld_model_resident", "1 where the model is loaded, else 0", "model")
        self.memory = self._shown("easeld_device_memory_bytes", "Memory of the device, `free` and `total`", "state")

        Info("easeld_worker", "Which worker this is", registry=self.registry).info(
            {"worker": worker, "version": version("easeld")}
        )
        self._describe("easeld_worker_info", "info", "Which worker this is", "worker", "version")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._describe(f"{name}_total", "counter", text, *labels)
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self._describe(name, "histogram", text, *labels)
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _shown(self, name: str, text: str, *labels: str) -> Shown:
        self._describe(name, "gauge", text, *labels)
        shown = Shown(name, text, labels)
        self.registry.register(shown)
        return shown

    def _describe(self, name: str, kind: str, text: str, *labels: str) -> None:
        self.described.append(Described(name=name, kind=kind, labels=labels, text=text))
