from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from daemon import doctor
from daemon.core.errors import StoreUnavailable
from daemon.core.job import Document, JobId
from daemon.doctor import SCRATCH, Check, State, Trouble
from models import examine
from models.errors import DeviceUnfit, OutOfMemory
from models.spec import Memory
from tests.daemon.rig import Rig

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Mute:
    """A subscription that lives and never says anything."""

    def alive(self) -> bool:
        return True

    def close(self) -> None: ...


class Dead(Mute):
    """One that has ended."""

    def alive(self) -> bool:
        return False


class Odd:
    """A store with one thing about it that is not as it should be."""

    def __init__(self, rig: Rig, name: str, instead: Callable[..., object]) -> None:
        self._store = rig.store
        self._odd = {name: instead}

    def __getattr__(self, name: str) -> Callable[..., object]:
        return self._odd.get(name) or getattr(self._store, name)


def raising(error: Exception) -> Callable[[], str]:
    """A check that fails."""

    def run() -> str:
        raise error

    return run


def test_what_needs_a_failed_check_is_skipped_and_the_rest_goes_on() -> None:
    """Errors of the flow are findings; so is every line of a trouble."""
    findings = doctor.examine(
        [
            Check(name="first", run=lambda: "well"),
            Check(name="second", run=raising(StoreUnavailable("away"))),
            Check(name="third", run=lambda: "well", needs=("first", "second")),
            Check(name="fourth", run=lambda: "well", needs=("third",)),
            Check(name="fifth", run=raising(Trouble("do this", "do that")), needs=("first",)),
        ]
    )
    assert [(found.check, found.state, found.lines) for found in findings] == [
        ("first", State.OK, ("well",)),
        ("second", State.TROUBLE, ("away",)),
        ("third", State.SKIPPED, ("needs second",)),
        ("fourth", State.SKIPPED, ("needs third",)),
        ("fifth", State.TROUBLE, ("do this", "do that")),
    ]


@pytest.mark.parametrize("subscription", [Mute, Dead])
def test_a_listener_that_hears_nothing_is_told(rig: Rig, subscription: type[Mute]) -> None:
    """And the scratch document is no longer queued when the check is over."""
    store = Odd(rig, "listen_cancellations", lambda _collections, _wake: subscription())
    with pytest.raises(Trouble, match="not heard of"):
        doctor.listener(store, within=0.0)  # type: ignore[arg-type]  # it passes everything else on
    assert rig.status(SCRATCH) == "cancelled"


def test_a_document_that_is_not_what_was_written_is_told(rig: Rig) -> None:
    """Another program's, or a store that answers from a cache."""
    other = Document(id=SCRATCH, fields={}, version=1, updated_at=NOON, read_at=NOON)
    store = Odd(rig, "read", lambda _job: other)
    with pytest.raises(Trouble, match="not read back"):
        doctor.read_and_write(store)  # type: ignore[arg-type]


def test_a_worker_beside_does_nothing_with_the_scratch_document_but_cancel_it(rig: Rig) -> None:
    """The listener's check runs on the live queue of others."""
    with rig.worker():
        rig.until_status(rig.call("a"), "completed")
        for _ in range(5):
            doctor.listener(rig.store)
        rig.until_status(SCRATCH, "cancelled")
        rig.until_status(rig.call("b"), "completed")
    assert len(rig.device.calls) == 2
    assert JobId.parse(SCRATCH.path) == SCRATCH


@pytest.mark.parametrize(("ahead", "said"), [(31.0, "31 s ahead of"), (-400.0, "400 s behind")])
def test_a_wrong_clock_is_told_with_the_command(ahead: float, said: str) -> None:
    """Half a minute is allowed: the answer needed its time, too."""
    assert doctor.clock(NOON, NOON.timestamp() + 29) == "within 29 s of the store's"
    with pytest.raises(Trouble, match=said) as told:
        doctor.clock(NOON, NOON.timestamp() + ahead)
    assert "timedatectl set-ntp true" in str(told.value)


def test_little_memory_is_told_with_what_shows_its_users() -> None:
    """A card needs more than a CPU, whose models are the small ones."""
    small = Memory(free=2**30 + 2**29, total=2**34)
    assert examine.enough(small, "cpu") == "1.5 of 16.0 GiB free"
    with pytest.raises(OutOfMemory, match="nvidia-smi"):
        examine.enough(small, "cuda")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('NVIDIA L4, 550.1')", "cannot use it"),  # and this torch is on a CPU
        ("import sys; print('Driver/library version mismatch'); sys.exit(18)", "Driver/library version mismatch"),
    ],
)
def test_a_driver_that_torch_cannot_use_or_that_fails_is_told(code: str, said: str) -> None:
    """With the way out."""
    with pytest.raises(DeviceUnfit, match=said):
        examine.driver(None, command=(sys.executable, "-c", code))


def test_a_machine_without_a_driver_needs_none() -> None:
    """Where a card was asked for, the check of the device has failed before."""
    assert examine.driver("cpu", command=("easeld-no-such-command",)) == "no NVIDIA driver, none needed"
