"""Training of the built-in model: its optimiser, and that it can be stopped anywhere."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from models.builtin.language import vocabulary
from models.builtin.train import decoding, diffusion, draw
from models.builtin.train.diffusion import DiffusionTraining
from models.builtin.train.muon import Muon
from models.builtin.train.network import network, tokenizer
from models.builtin.train.redraw import redrawn
from models.builtin.train.scenes import Scene, Thing, draw_scene


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
    for ours, theirs in zip(second.averaged.modules(), first.averaged.modules(), strict=True):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


def test_every_cell_tells_of_the_thing_nearest_to_it() -> None:
    """Colour and kind as words, and on which side of it the cell lies; what is shown is what the picture shows."""
    left = Thing(kind="star", colour="red", x=-0.5, y=0.0, radius=0.4)
    right = Thing(kind="ring", colour="blue", x=0.5, y=0.0, radius=0.4)
    scene = Scene(prompt="", background="white", things=(left, right))
    found = draw.latents([scene], 16, 16)[0]
    assert found.shape == (draw.CHANNELS, 16, 16)
    assert found.abs().max() <= 1
    for columns, thing in ((slice(0, 8), left), (slice(8, 16), right)):
        cells = found[:, :, columns]
        assert (cells[draw.COLOUR] == draw.BITS[thing.colour].view(-1, 1, 1)).all()
        assert (cells[draw.KIND] == draw.KIND_BITS[thing.kind].view(-1, 1, 1)).all()
    assert torch.equal(found[draw.SHOWN, 0, 0], draw.BITS["white"])
    assert torch.equal(found[draw.SHOWN, 8, 4], draw.BITS["red"])
    assert torch.equal(found[draw.SHOWN, 8, 12], draw.BITS["white"]), "a ring has a hole"
    across, down = found[draw.PLACE][:3], found[draw.PLACE][3:]
    assert (across[1, :, 0] == -1).all(), "left of the middle of the left one"
    assert (across[1, :, 7] == 1).all(), "right of it"
    assert (across[1, :, 8] == -1).all(), "left of the middle of the right one"
    assert (down[:, 0] == -1).all(), "above both"
    assert (down[:, 15] == 1).all(), "below them"


def test_a_scene_in_a_mirror_has_its_latents_mirrored() -> None:
    """So the decoder may see each scene that was drawn anew from both sides."""
    random = Random(1)
    for _ in range(20):
        scene = draw_scene(random, 1.0, 1.0)
        [found], [mirrored] = (draw.latents([one], 16, 16) for one in (scene, decoding._mirrored_scene(scene)))
        assert torch.allclose(decoding._mirrored(found), mirrored, atol=1e-5)


def test_what_is_drawn_anew_has_the_form_of_latents() -> None:
    """Within the bounds of clean latents, and of its own scene more than of any other's."""
    torch.manual_seed(1)
    pairs = redrawn(network(tokenizer(vocabulary())), tokenizer(vocabulary()), random=Random(1), count=3)
    clean = draw.latents([scene for scene, _ in pairs], 16, 16)
    for index, (_, found) in enumerate(pairs):
        assert found.shape == clean[index].shape
        assert found.abs().max() <= 1
        apart = (clean - found).square().mean(dim=(1, 2, 3))
        assert apart.argmin() == index
