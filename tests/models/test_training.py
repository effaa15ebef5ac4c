"""Training of the built-in model: its optimiser, and that it can be stopped anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from models.builtin.language import COLOURS, KINDS, vocabulary
from models.builtin.train import cells, decoding, diffusion, draw, understanding
from models.builtin.train.diffusion import DiffusionTraining
from models.builtin.train.muon import Muon
from models.builtin.train.network import decoder, network, tokenizer
from models.builtin.train.points import Pointwise, spread
from models.builtin.train.redraw import redrawn, settled
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


def test_what_a_cell_means_says_where_it_lies_and_what_is_there() -> None:
    """Places grow from 0 to 2 across and down; between two things a cell says that it is between."""
    left = Thing(kind="star", colour="red", x=-0.5, y=0.0, radius=0.4)
    right = Thing(kind="ring", colour="blue", x=0.5, y=0.0, radius=0.4)
    scene = Scene(prompt="", background="white", things=(left, right))
    [meant] = draw.meaning([scene], 16, 16)
    assert meant.shape == (draw.MEANT, 16, 16)
    assert meant.min() >= 0
    place, kind, colour, background, between, whole = meant.split((2, 6, 4, 4, 1, 1))
    middle = (left.x + 1) * 8 - 0.5  # of the left one, in cells
    assert place[0, 0, 3].item() == pytest.approx(1 + (3 - middle) / 8 / left.radius / draw.REACH)
    assert (place[1].diff(dim=0) >= 0).all()
    assert torch.equal(kind[:, 8, 0], torch.tensor([0.0, 0, 0, 1, 0, 0]))
    assert torch.equal(kind[:, 8, 15], torch.tensor([0.0, 0, 0, 0, 0, 1]))
    assert torch.equal(colour[:, 8, 0] * 2 - 1, draw.BITS["red"])
    assert torch.equal(colour[:, 8, 15] * 2 - 1, draw.BITS["blue"])
    assert (background * 2 - 1 == draw.BITS["white"].view(-1, 1, 1)).all()
    assert torch.equal(between[0].nonzero()[:, 1].unique(), torch.tensor([7, 8]))
    assert (whole == 1).all()


def test_an_untrained_decoder_says_where_clean_cells_lie() -> None:
    """It starts where only what is wrong in latents is left to be learnt."""
    first, between, _ = decoding.parts(decoder())
    decoding.start(first, between)
    random = Random(1)
    scenes = [draw_scene(random, 1.0, 1.0) for _ in range(20)]
    with torch.no_grad():
        found = first(cells.bounded(draw.latents(scenes, 16, 16)))
    assert torch.allclose(found[:, :2], draw.meaning(scenes, 16, 16)[:, :2], atol=0.01)


def test_what_points_learn_is_what_the_decoder_draws() -> None:
    """Trained as matrices on points, its last layers give each pixel the same colour as convolutions, to the rim."""
    torch.manual_seed(1)
    first, between, pixels = decoding.parts(decoder())
    decoding.start(first, between)
    pointwise = Pointwise(pixels)
    for matrix in pointwise.matrices:
        nn.init.normal_(matrix.weight, std=0.1)
    pointwise.write()
    meant = draw.meaning([draw_scene(Random(1), 1.0, 1.0)], 16, 16)
    with torch.no_grad():
        drawn = torch.zeros(1, between[0].in_channels, 16, 16)
        drawn[:, : draw.MEANT] = meant
        for layer in between:
            drawn = layer(nn.functional.interpolate(drawn, scale_factor=2))
        learnt = pointwise(spread(meant).flatten(2)[0].T).T.view(3, 256, 256)
        assert torch.allclose(pixels(drawn)[0], learnt, atol=1e-4)


def test_a_scene_in_a_mirror_has_its_latents_mirrored() -> None:
    """So the decoder may see each scene that was drawn anew from both sides."""
    random = Random(1)
    for _ in range(20):
        scene = draw_scene(random, 1.0, 1.0)
        [found], [mirrored] = (draw.latents([one], 16, 16) for one in (scene, cells.mirrored_scene(scene)))
        assert torch.allclose(cells.mirrored_latents(found), mirrored, atol=1e-5)


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


def test_a_scene_settles_where_its_latents_have_it() -> None:
    """Also where they are fainter than they should be; so the decoder learns to draw what is there.

    Things that nearly touch are left out: moved as far as here, one takes cells over from the other.
    """
    random = Random(1)
    for _ in range(20):
        scene = draw_scene(random, 1.0, 1.0)
        if len(scene.things) > 1:
            scene = replace(scene, things=tuple(replace(thing, radius=0.3) for thing in scene.things))
        moved = replace(scene, things=tuple(_moved(thing) for thing in scene.things))
        [found] = draw.latents([moved], 16, 16)
        for ours, theirs in zip(settled(scene, 0.8 * found).things, moved.things, strict=True):
            assert (ours.x, ours.y) == pytest.approx((theirs.x, theirs.y), abs=0.05 * theirs.radius)
            assert ours.radius == pytest.approx(theirs.radius, rel=0.05)


def _moved(thing: Thing) -> Thing:
    off = 0.1 * thing.radius
    return replace(thing, x=thing.x + off, y=thing.y - off, radius=thing.radius + off)


def test_the_text_encoder_is_asked_what_is_where() -> None:
    """Of things side by side for left and right, of one above another for top and bottom, of one for all four."""
    star = Thing(kind="star", colour="red", x=-0.5, y=0.0, radius=0.4)
    ring = Thing(kind="ring", colour="blue", x=0.5, y=0.0, radius=0.4)
    shapes, colours = [KINDS.index(kind) for kind in ("star", "ring")], [COLOURS.index(one) for one in ("red", "blue")]
    first, second = ([colour, kind] for colour, kind in zip(colours, shapes, strict=True))
    nothing = [understanding.ASKED_NOTHING] * 2
    upright = replace(star, x=0.0, y=0.5), replace(ring, x=0.0, y=-0.5)
    for things, where in (
        ((star, ring), [first, second, nothing, nothing]),
        ((ring, star), [first, second, nothing, nothing]),
        (upright, [nothing, nothing, second, first]),
        ((star,), [first] * 4),
        ((star, replace(star, x=0.5)), [first] * 4),
    ):
        answers = understanding._answers(Scene(prompt="", background="white", things=things))
        assert answers[:2] == [COLOURS.index("white"), len(things) - 1]
        assert answers[2:] == [answer for station in where for answer in station]
