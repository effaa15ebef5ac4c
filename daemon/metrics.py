"""What a worker counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One worker's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter("easeld_jobs", "Jobs ended by this worker", ["task", "status"], registry=self.registry)
        self.transitions = Counter(
            "easeld_transitions", "Writes to documents by their reason", ["reason"], registry=self.registry
        )
        self.stages = Histogram(
            "easeld_stage_seconds", "Time of finished jobs by stage", ["stage"], buckets=SECONDS, registry=self.registry
        )
        self.idle = Histogram(
            "easeld_device_idle_seconds",
            "Gap on the device between two calls",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 1, 5, 30, 300),
            registry=self.registry,
        )
        self.batches = Histogram(
            "easeld_batch_items", "Items in a pipeline call", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        self.losses = Counter(
            "easeld_lease_losses", "Claims that ended under this worker, by reason", ["why"], registry=self.registry
        )
        self.rescues = Counter("easeld_rescues", "Jobs taken back from dead workers", registry=self.registry)
        self.mends = Counter(
            "easeld_listener_mends", "Subscriptions that were lost and opened again", registry=self.registry
        )
