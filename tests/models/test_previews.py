from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from models import previews
from models.diffusion import DiffusionModel
from models.null import Null
from models.spec import Family, ModelSpec, Task
from tests.models.calls import call, ignore, item

if TYPE_CHECKING:
    from models.spec import Frames


def test_a_linear_decoder_is_measured_exactly() -> None:
    """Then a preview is what the decoder would have made, one pixel for each latent."""
    matrix = torch.tensor([[0.1, 0.0, 0.05], [0.0, 0.1, 0.05], [0.02, 0.03, 0.1], [0.05, 0.0, 0.0]])

    def decode(latents: torch.Tensor) -> torch.Tensor:
        colours = (latents.permute(0, 2, 3, 1) @ matrix + 0.5).permute(0, 3, 1, 2)
        return colours.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)

    projection = previews.measure(decode, channels=4, device=torch.device("cpu"))
    latents = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    scaled = latents / latents.std(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
    wanted = ((scaled.permute(0, 2, 3, 1) @ matrix + 0.5).clamp(0, 1) * 255).round().numpy()
    painted = previews.paint(latents, projection)
    assert [picture.shape for picture in painted] == [(5, 7, 3), (5, 7, 3)]
    assert np.abs(np.stack(painted).astype(float) - wanted).max() <= 1


def test_looking_at_every_step_changes_nothing(model: DiffusionModel) -> None:
    """Each item has its small picture, of a video its middle; the frames are the same to the last bit."""
    seen: list[Sequence[Frames]] = []

    def look(paint: Callable[[], Sequence[Frames]]) -> None:
        seen.append(paint())

    made = call(item(seed=1), item(seed=2), frames=5 if model.spec.task is Task.TEXT2VIDEO else 1)
    alone = model.generate(made, ignore)
    looked_at = model.generate(replace(made, on_look=look), ignore)
    assert all((one == other).all() for one, other in zip(alone, looked_at, strict=True))
    assert len(seen) == made.steps
    for pictures in seen:
        assert len(pictures) == 2
        for picture in pictures:
            assert (picture.ndim, picture.shape[2], str(picture.dtype)) == (3, 3, "uint8")
    assert (seen[-1][0] != seen[-1][1]).any()


def test_a_preview_comes_near_to_the_picture(image_model: DiffusionModel) -> None:
    """The last one, enlarged, is nearer to the picture than a picture of its mean colour."""
    seen: list[Sequence[Frames]] = []
    [picture] = image_model.generate(replace(call(), on_look=lambda paint: seen.append(paint())), ignore)
    small = seen[-1][0].astype(float)
    coarse = picture.reshape(small.shape[0], 8, small.shape[1], 8, 3).mean(axis=(1, 3))
    flat = coarse.mean(axis=(0, 1), keepdims=True)
    assert np.abs(small - coarse).mean() < np.abs(flat - coarse).mean() * 1.5


def test_the_null_model_grows_bright() -> None:
    """It shows something to look at, without torch."""
    spec = ModelSpec(name="null", task=Task.TEXT2IMAGE, family=Family.NULL)
    seen: list[float] = []
    Null(spec=spec).generate(replace(call(), on_look=lambda paint: seen.append(float(paint()[0].mean()))), ignore)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
