"""Training of the built-in model: its optimiser, and that it can be stopped anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.builtin.language import vocabulary
from models.builtin.train import diffusion
from models.builtin.train.diffusion import DiffusionTraining
from models.builtin.train.muon import Muon
from models.builtin.train.network import tokenizer


@pytest.mark.parametrize("shape", [(6, 12), (12, 6), (8, 4, 3, 3)], ids=str)
def test_muon_steps_as_far_in_every_direction(shape: tuple[int, ...]) -> None:
    """Also where the gradient is a thousand times as large in one as in another."""
    parameter = nn.Parameter(torch.zeros(shape))
    rows = shape[0]
    matrix = torch.randn(rows, parameter.numel() // rows, generator=torch.Generator().manual_seed(1))
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    sizes = torch.logspace(0, -1.5, len(sizes))
    parameter.grad = (left * sizes @ right).view(shape)
    Muon([parameter]).step(rate=0.1)
    tall = max(1.0, rows / matrix.shape[1]) ** 0.5
    changed = left.T @ -parameter.detach().view_as(matrix) @ right.T / (0.1 * tall)
    assert (changed.diagonal() > 0.4).all()
    assert (changed.diagonal() < 1.3).all()
    assert (changed - changed.diagonal().diag()).abs().max() < 0.2


def test_muon_wants_gradients_and_its_own_state() -> None:
    """A layer that takes no part in the loss, or a network of another size, is a mistake that would go unseen."""
    parameter = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no gradient"):
        Muon([parameter]).step(rate=0.1)
    with pytest.raises(ValueError, match="other parameters"):
        Muon([parameter]).load_state_dict([torch.zeros(1, 3, 2)])


def test_training_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next steps after a stop are those that they would have been without."""
    monkeypatch.setattr(diffusion, "CELLS_IN_BATCH", 256)  # one picture
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
