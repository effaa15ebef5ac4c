"""Training of the built-in model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.builtin.language import vocabulary
from models.builtin.train import diffusion
from models.builtin.train.diffusion import DiffusionTraining
from models.builtin.train.network import tokenizer


def test_training_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next steps after a stop are those that they would have been without."""
    monkeypatch.setattr(diffusion, "CELLS_IN_BATCH", 1024)  # one picture of the largest size
    words = tokenizer(vocabulary())
    first, second = (DiffusionTraining(tmp_path, words, seed=1, seconds=0.3) for _ in range(2))
    first.start(lambda _: None)
    first.run(lambda _: None)
    second.resume()
    assert second.progress == first.progress
    assert second.progress.step > 0
    for _ in range(2):
        assert second._step() == first._step()
    for ours, theirs in zip(second.averaged.parameters(), first.averaged.parameters(), strict=True):
        assert torch.equal(ours, theirs)
