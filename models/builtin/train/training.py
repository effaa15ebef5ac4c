"""Training by steps that can be stopped anywhere and taken up again, until a budget of time is spent."""

from __future__ import annotations

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from models.builtin.train.clock import Clock
from models.builtin.train.muon import Muon

WARM_UP = 100  # steps
SAVE_EVERY = 120.0  # seconds


class Trained(Protocol):
    """The networks that a training changes, as one value."""

    def modules(self) -> Sequence[nn.Module]: ...


Networks = TypeVar("Networks", bound=Trained)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far training has come."""

    step: int
    seconds: float  # of training, over every run
    loss: float  # mean of the last hundred steps or so


class Training(ABC, Generic[Networks]):
    """The state of training: weights, their moving average, the optimisers, and how far it has come.

    Muon changes ``matrices``, AdamW the parameters of ``others``, each group with its share of the rate. Step ``n``
    sees the same examples, noise and timesteps for the same seed, however often training was interrupted; the rates
    follow the share of the time budget that is spent, so another machine takes other steps.
    """

    matrix_rate: float  # of Muon
    peak_rate: float  # of AdamW

    def __init__(
        self,
        folder: Path,
        live: Networks,
        *,
        matrices: Sequence[Tensor],
        others: Sequence[tuple[Sequence[Tensor], float]],
        seed: int,
        seconds: float,
    ) -> None:
        self._folder, self._seed, self._budget = folder, seed, seconds
        self._live = live
        self.averaged: Networks = copy.deepcopy(live)
        self._muon = Muon(matrices)
        self._measured = [parameter for parameters, _ in others for parameter in parameters]  # in length; Muon is not
        groups = [{"params": list(parameters), "share": share} for parameters, share in others]
        self._optimiser = torch.optim.AdamW(
            groups, lr=self.peak_rate, betas=(0.9, 0.98), weight_decay=1e-3, foreach=True
        )
        self.progress = Progress(step=0, seconds=0.0, loss=math.nan)

    @abstractmethod
    def _losses(self, random: Random, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a batch; return what is to become less, and the part of it that is told."""

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "diffusion.pt"

    @property
    def _spent(self) -> float:
        """The share of the budget that is spent."""
        return min(1.0, self.progress.seconds / self._budget)

    def resume(self) -> None:
        """Take up the saved state where there is one."""
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, weights_only=True)
        for name, kept in (("live", self._live), ("averaged", self.averaged)):
            for module, values in zip(kept.modules(), state[name], strict=True):
                module.load_state_dict(values)
        self._optimiser.load_state_dict(state["optimiser"])
        self._muon.load_state_dict(state["muon"])
        self.progress = Progress(**state["progress"])

    def start(self, teach: Callable[[Networks], None]) -> None:
        """Let ``teach`` change the untrained networks, unless training has begun."""
        if self.progress.step == 0:
            teach(self._live)
            for averaged, live in zip(self.averaged.modules(), self._live.modules(), strict=True):
                averaged.load_state_dict(live.state_dict())

    def save(self) -> None:
        """Save the state; a reader never sees half of it."""
        progress = self.progress
        state = {
            "live": [module.state_dict() for module in self._live.modules()],
            "averaged": [module.state_dict() for module in self.averaged.modules()],
            "optimiser": self._optimiser.state_dict(),
            "muon": self._muon.state_dict(),
            "progress": {"step": progress.step, "seconds": progress.seconds, "loss": progress.loss},
        }
        half = self._checkpoint.with_suffix(".half")
        torch.save(state, half)
        half.replace(self._checkpoint)

    def run(self, report: Callable[[Progress], None]) -> None:
        """Train until the budget is spent, saving now and then."""
        saved, clock = time.monotonic(), Clock()
        earlier = self.progress.seconds
        while self.progress.seconds < self._budget:
            loss = self._step()
            before = self.progress
            self.progress = Progress(
                step=before.step + 1,
                seconds=earlier + clock.tick(),
                loss=loss if math.isnan(before.loss) else 0.99 * before.loss + 0.01 * loss,
            )
            if self.progress.step % 25 == 0:
                report(self.progress)
                self._log()
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        self.save()

    def _log(self) -> None:
        progress = self.progress
        line = {"step": progress.step, "seconds": round(progress.seconds, 1), "loss": round(progress.loss, 5)}
        with (self._folder / "loss.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _rate(self) -> float:
        """Return the share of the peak rates: a linear rise, then a cosine down to a fiftieth."""
        rise = min(1.0, (self.progress.step + 1) / WARM_UP)
        return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self._spent)))

    def _step(self) -> float:
        step = self.progress.step
        random, generator = Random(f"{self._seed}/{step}"), torch.Generator().manual_seed(self._seed * 10**9 + step)
        whole, told = self._losses(random, generator)
        whole.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        rate = self._rate()
        for group in self._optimiser.param_groups:
            group["lr"] = self.peak_rate * rate * group["share"]
        torch.nn.utils.clip_grad_norm_(self._measured, 1.0)
        self._optimiser.step()
        self._muon.step(self.matrix_rate * rate)
        for module in self._live.modules():
            module.zero_grad(set_to_none=True)
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(_parameters(self.averaged), _parameters(self._live), 1 - decay)
        return float(told.detach())


def _parameters(networks: Trained) -> list[Tensor]:
    return [parameter for module in networks.modules() for parameter in module.parameters()]
