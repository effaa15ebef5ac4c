"""What a worker counts, for Prometheus. ``docs/metrics.md`` is written from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
GAPS = (0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 1, 5, 30, 300)  # seconds
CALLS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 10, 30)  # seconds

Sample = tuple[tuple[str, ...], float]
"""The values of a metric's labels, and its value."""


class Metrics:
    """One worker's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.jobs = Counter(
            "easeld_jobs",
            "Jobs that this worker ended, or gave back after a failure (queued)",
            ["task", "status"],
            registry=registry,
        )
        self.failures = Counter("easeld_failures", "Jobs that failed here for good", ["error_type"], registry=registry)
        self.retries = Counter("easeld_retries", "Jobs given back to be tried again later", registry=registry)
        self.losses = Counter(
            "easeld_lease_losses",
            "Claims that ended under this worker: cancelled, changed, deleted, or another's",
            ["why"],
            registry=registry,
        )
        self.rescues = Counter("easeld_rescues", "Jobs taken back from workers that died", registry=registry)
        self.stages = Histogram(
            "easeld_stage_seconds",
            "Time that completed jobs spent in each stage",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.idle = Histogram(
            "easeld_device_idle_seconds",
            "Time that the device waited before a batch, for work or for room in the finisher",
            buckets=GAPS,
            registry=registry,
        )
        self.batches = Histogram(
            "easeld_batch_items",
            "Pictures or videos in a batch",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self.mends = Counter(
            "easeld_listener_mends",
            "Subscriptions that were lost and opened again",
            ["listener"],
            registry=registry,
        )
        self.store_calls = Histogram(
            "easeld_store_seconds",
            "Time of the store's calls, one for each operation",
            ["operation"],
            buckets=CALLS,
            registry=registry,
        )
        self.store_errors = Counter(
            "easeld_store_errors", "Calls that found the store away", ["operation"], registry=registry
        )
        self.worker = Info("easeld_worker", "This worker", registry=registry)

    def describe(self, *, worker: str) -> None:
        """Say which worker it is."""
        self.worker.info({"worker": worker, "version": version("easeld")})

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show what ``read`` tells when somebody looks."""
        Gauge(name, description, registry=self.registry).set_function(read)

    def gauges(
        self, name: str, description: str, read: Callable[[], Iterable[Sample]], *, labels: tuple[str, ...] = ()
    ) -> None:
        """Show the samples that ``read`` tells when somebody looks; without samples the metric is absent."""
        self.registry.register(_Read(name, description, labels, read))


class _Read(Collector):
    def __init__(
        self, name: str, description: str, labels: tuple[str, ...], read: Callable[[], Iterable[Sample]]
    ) -> None:
        self._about = (name, description, None, labels)
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(*self._about)]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(*self._about)
        for labels, value in self._read():
            family.add_metric(labels, value)
        return [family]
