"""What a run of chaos does: how many jobs and faults of which kinds, and with which times."""

from __future__ import annotations

from dataclasses import dataclass, field

LEASE = 3.0  # seconds
RESCUED_WITHIN = LEASE + 20.0  # seconds, 95 % of what a dead worker held

# Where a worker may die or freeze, in the order in which a job comes by.
CLAIMED = "after claim"
STEP = "mid-step"
PUTTING = "before upload"  # the target has been looked at
UPLOADED = "after upload"
COMPLETING = "before complete"  # decided, and not yet written
COMPLETED = "after complete"
DELETING = "before delete"  # the object has been found to be an orphan

KILLS = {CLAIMED: 0.02, STEP: 0.002, UPLOADED: 0.015, COMPLETING: 0.015, COMPLETED: 0.02}
FREEZES = {PUTTING: 0.005, UPLOADED: 0.005, COMPLETING: 0.008, DELETING: 0.02}

# When a frozen worker wakes: as soon as another has its job, or has ended it, or some time after its lease. A plan may
# also say "followed": as soon as another has frozen with the same job, or ended it.
WAKES = ("taken", "ended", "later")

NETWORK = ("cut store", "cut storage", "hole store", "hole storage", "storage 503", "storage 503 after", "slow store")
EVERYWHERE = ("kill", "kill", "stop", "drain")
SQLITE_ONLY = ("lock",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run on one kind of store. Durations in seconds."""

    site: str  # "firestore" or "sqlite"
    jobs: int
    faults: int
    seed: int
    workers: int = 4
    per_tick: int = 5  # jobs queued with each fault
    pace: float = 0.5  # between two faults
    backlog: int = 60  # jobs that wait at most
    acts: float = 0.2  # the part of all jobs that their clients disturb
    kills: dict[str, float] = field(default_factory=lambda: dict(KILLS))
    freezes: dict[str, float] = field(default_factory=lambda: dict(FREEZES))
    defect: str | None = None
    freezers: int = 100  # so many workers, the first ones, freeze at points
    wakes: dict[str, str] = field(default_factory=dict)  # when who froze at a point wakes; else by chance
    poison: bool = False  # one job kills whoever generates it
    max_attempts: int = 50
    step_seconds: float = 0.02
    within: float = 240.0  # from the last fault to the end of the last job

    @property
    def name(self) -> str:
        """What to call this run."""
        return f"{self.site}{'-quarantine' if self.poison else ''}-{self.seed}"

    @property
    def faults_here(self) -> tuple[str, ...]:
        """The kinds of faults that this site can have, each as often as it is to come."""
        return (*EVERYWHERE, *NETWORK) if self.site == "firestore" else (*EVERYWHERE, *SQLITE_ONLY)


def of_form(form: str, site: str, seed: int) -> list[Plan]:
    """The runs of the short form (for continuous integration) or the full one.

    The full one is several runs on an empty store each: the emulator looks at every document of a collection for every
    listener at every commit, and with two thousand of them a commit takes longer than any deadline.
    """
    if form == "full":
        runs = [Plan(site=site, jobs=500, faults=100, seed=seed + number, within=600.0) for number in range(5)]
        return [*runs, quarantine(site, seed)]
    if site == "firestore":
        return [Plan(site=site, jobs=200, faults=45, seed=seed)]
    return [Plan(site=site, jobs=300, faults=60, seed=seed, pace=0.4), quarantine(site, seed)]


def quarantine(site: str, seed: int) -> Plan:
    """Fifty jobs, one of which kills whoever generates it."""
    return Plan(
        site=site, jobs=50, faults=0, seed=seed, workers=2, acts=0.0, kills={}, freezes={}, poison=True,
        max_attempts=3, per_tick=50,
    )  # fmt: skip
