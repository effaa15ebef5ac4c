"""The device policy, here on the CPU only: a card's paths are tried where there is a card."""

from __future__ import annotations

import pytest
import torch

from models import device as devices
from models.errors import DeviceUnfit
from models.spec import Memory


def test_a_card_comes_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA, else MPS, else the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.choose().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.choose().type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.choose().type == "cpu"


@pytest.mark.parametrize("wanted", ["cuda:7", "mps", "tpu", "xla"])
def test_a_device_that_is_not_there_is_refused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never replaced by another one in silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceUnfit, match=wanted):
        devices.choose(wanted)


def test_a_cpu_computes_in_float32_and_a_card_as_the_model_says() -> None:
    """Half precision on a CPU is slower and not exact."""
    assert devices.dtype(torch.device("cpu"), "bfloat16") is torch.float32
    assert devices.dtype(torch.device("cuda"), "bfloat16") is torch.bfloat16


def test_the_probe_computes_and_tells_the_memory() -> None:
    """In words for a log line."""
    assert devices.probe(torch.device("cpu")).startswith("cpu, ")
    left = devices.memory(torch.device("cpu"))
    assert 0 < left.free <= left.total


def test_a_device_that_cannot_compute_is_refused() -> None:
    """The meta device holds no numbers, so a product on it cannot be looked at."""
    with pytest.raises(DeviceUnfit, match="does not compute"):
        devices.probe(torch.device("meta"))


def test_memory_that_torch_caches_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a card, torch keeps what it has freed and would use it again."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert devices.memory(torch.device("cuda")) == Memory(free=30, total=80)
