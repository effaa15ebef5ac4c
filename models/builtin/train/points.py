"""What the part of the decoder that works on pixels learns from: what is meant at a point, and the colour there.

It works on every pixel for itself, so it learns from points, most of them near an edge, without the pictures about
them: a few thousand points cost what one crop of a picture costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad, relu

from models.builtin.train.draw import CELL, MEANT, SIDE, meaning, pixels
from models.builtin.train.scenes import draw_scene

SCENES = 256  # at hand
NEW = 2  # of these in each step: drawing them takes more time than learning from them
KEPT = 4096  # points of each
BATCH = 8192  # points
NEAR = 3  # pixels from an edge
FAR_WEIGHT = 0.12  # how often a point that is not near an edge is kept, against one that is
DOUBT = 0.1  # most standard deviation of kinds and colours that are meant: there are only so many
TRIANGLE = (0.25, 0.5, 0.25)  # of a pixel and its neighbours, once each is doubled: this interpolates linearly


class Pointwise:
    """The layers that work on pixels, as matrices: from what is meant, (points, MEANT), to colours, (points, 3)."""

    def __init__(self, layers: nn.Module) -> None:
        self._convolutions = convolutions(layers)
        self.matrices = [nn.Linear(layer.in_channels, layer.out_channels) for layer in self._convolutions]
        for first, second, third in self._blocks():
            for matrix in (first, second):
                nn.init.normal_(matrix.weight, std=math.sqrt(2 / matrix.in_features))
                nn.init.uniform_(matrix.bias, -0.5, 0.5)
            nn.init.zeros_(third.weight)  # at first a block changes nothing
            nn.init.zeros_(third.bias)

    def _blocks(self) -> Iterator[tuple[nn.Linear, nn.Linear, nn.Linear]]:
        inner = self.matrices[:-1]
        return zip(inner[::3], inner[1::3], inner[2::3], strict=True)

    def __call__(self, meant: Tensor) -> Tensor:
        last = self.matrices[-1]
        found = torch.zeros(len(meant), last.in_features)
        found[:, :MEANT] = meant
        for first, second, third in self._blocks():
            found = relu(found + third(relu(second(relu(first(found))))))  # as AutoencoderTinyBlock does
        colours: Tensor = last(found)
        return colours

    def parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for matrix in self.matrices for parameter in matrix.parameters())

    @torch.no_grad()
    def write(self) -> None:
        """Put the matrices in the middle of the convolutions, which then look at nothing around."""
        for convolution, matrix in zip(self._convolutions, self.matrices, strict=True):
            nn.init.zeros_(convolution.weight)
            convolution.weight[:, :, 1, 1] = matrix.weight
            convolution.get_parameter("bias").copy_(matrix.bias)


def convolutions(layers: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of layers in their order; each block has three."""
    return [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)]


class PointExamples:
    """Draws examples without end."""

    def __init__(self, seed: int) -> None:
        self._random, self._generator = Random(seed), torch.Generator().manual_seed(seed)
        self._points = torch.cat([self._drawn(NEW) for _ in range(SCENES // NEW)])

    def loss(self, pointwise: Pointwise) -> Tensor:
        """Return how far the colours of the next points are from those that they should have."""
        first = self._random.randrange(0, SCENES, NEW)
        self._points[first : first + NEW] = self._drawn(NEW)
        chosen = torch.randint(SCENES * KEPT, (BATCH,), generator=self._generator)
        points = self._points.flatten(0, 1)[chosen]
        meant, colours = points[:, :MEANT], points[:, MEANT:]
        doubts = DOUBT * torch.rand(BATCH, 1, generator=self._generator) ** 2
        meant[:, 2:-1] += doubts * torch.randn(BATCH, MEANT - 3, generator=self._generator)
        apart: Tensor = pointwise(meant) * 2 - 1 - colours
        return apart.square().mean()

    def _drawn(self, count: int) -> Tensor:
        """Return what is meant at points of new scenes, with their colours, (count, KEPT, MEANT + 3)."""
        scenes = [draw_scene(self._random, 1.0, 1.0) for _ in range(count)]
        shown = pixels(scenes, SIDE * CELL, SIDE * CELL)
        known = torch.cat([spread(meaning(scenes, SIDE, SIDE)), shown], dim=1).flatten(2)
        often = (near_edges(shown) + FAR_WEIGHT).flatten(1)
        kept = torch.multinomial(often, KEPT, generator=self._generator)
        return known.gather(2, kept.unsqueeze(1).expand(-1, known.shape[1], -1)).transpose(1, 2)


def spread(meant: Tensor) -> Tensor:
    """Return what is meant in cells, (scenes, MEANT, rows, columns), for each pixel, as the decoder interpolates it."""
    weights = torch.tensor(TRIANGLE)
    kernel = (weights.view(-1, 1) * weights).expand(meant.shape[1], 1, 3, 3)
    for _ in range(int(math.log2(CELL))):
        meant = conv2d(interpolate(meant, scale_factor=2), kernel, padding=1, groups=meant.shape[1])
    return meant


def near_edges(pictures: Tensor) -> Tensor:
    """Return 1 where a pixel differs from its surroundings, and 0 elsewhere; no colour is as beyond the picture."""
    framed = pad(pictures, (NEAR, NEAR, NEAR, NEAR), value=3.0)
    around = avg_pool2d(framed, 2 * NEAR + 1, stride=1)
    return ((pictures - around).abs().amax(dim=1, keepdim=True) > 0.05).float()
