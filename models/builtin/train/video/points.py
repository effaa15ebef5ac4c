"""What the two levels of the video decoder that are trained learn from, and themselves as layers on points.

``Form`` makes of what is known of a point, (points, KNOWN), how far within the thing it is, and the colours of thing
and background. ``Paint`` makes of these the colours of four pixels. Convolutions of the decoder look around; here they
do not, so each is trained as a matrix and then written into the middle of its kernel.
"""

from __future__ import annotations

from random import Random

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock, WanUpBlock
from torch import Tensor, nn
from torch.nn.functional import normalize, silu

from models.builtin.language import COLOURS
from models.builtin.train.draw import SEEN, distance, within
from models.builtin.train.video.clips import draw_clip
from models.builtin.train.video.latents import WORDS, placed, words_of

SIDE = 64  # points of a picture, each way, at which ``Form`` works
PIXELS = 256 // SIDE  # to a point, each way
U, V, A_AND_B = WORDS + 1, WORDS + 2, slice(WORDS + 3, WORDS + 5)  # what is known of a point, after the words and 1
KNOWN = A_AND_B.stop
RIM = 6.0  # pixels on each side of an outline in which ``within`` goes from 2 to 0
WITHIN, THING, GROUND = slice(0, 1), slice(1, 4), slice(4, 7)  # what ``Form`` says of a point; colours are 0 to 2
PARTS = 4  # pixels to a point of ``Paint``: two columns of two rows
SCENES, NEW = 256, 4  # at hand, and of these new in each step
BATCH = 8192  # points
NEAR_WEIGHT = 8.0  # of a point within ``RIM`` of an outline
COLOUR_WEIGHT = 4.0  # of colours, which are the same all over a picture, and seen to be
DOUBT = 0.15  # most standard deviation of the bits of a word
FAINTEST = 0.6  # times


class Residual(nn.Module):
    """A ``WanResidualBlock`` on points."""

    def __init__(self, block: WanResidualBlock) -> None:
        super().__init__()
        self._block = [block]  # not a part of this module: its weights are not what is trained
        self.norm_1, self.norm_2 = nn.Parameter(torch.ones(block.in_dim)), nn.Parameter(torch.ones(block.out_dim))
        self.first, self.second = nn.Linear(block.in_dim, block.out_dim), nn.Linear(block.out_dim, block.out_dim)
        self.beside = nn.Linear(block.in_dim, block.out_dim) if block.in_dim != block.out_dim else None

    def forward(self, given: Tensor) -> Tensor:
        changed = self.second(silu(_norm(self.first(silu(_norm(given, self.norm_1))), self.norm_2)))
        found: Tensor = changed + (given if self.beside is None else self.beside(given))
        return found

    def write(self) -> None:
        [block] = self._block
        for norm, gain in ((block.norm1, self.norm_1), (block.norm2, self.norm_2)):
            _set_gain(norm, gain)
        write(block.conv1, self.first)
        write(block.conv2, self.second)
        if self.beside is not None:
            write(block.conv_shortcut, self.beside)


def _norm(given: Tensor, gain: Tensor) -> Tensor:
    """Normalise as ``WanRMS_norm`` does."""
    normal: Tensor = normalize(given, dim=1) * given.shape[1] ** 0.5 * gain
    return normal


def _set_gain(norm: nn.Module, gain: Tensor) -> None:
    own = norm.get_parameter("gamma")
    own.copy_(gain.view_as(own))


def write(convolution: nn.Conv3d, matrix: nn.Linear) -> None:
    """Put a matrix where a convolution looks at the point itself: its last tap in time, its middle in space."""
    nn.init.zeros_(convolution.weight)
    rows, columns = convolution.kernel_size[1:]
    convolution.weight[:, :, -1, rows // 2, columns // 2] = matrix.weight
    convolution.get_parameter("bias").copy_(matrix.bias)


class Form(nn.Module):
    """The level at which a thing gets its outline: what is known, (points, KNOWN), to (points, GROUND.stop)."""

    def __init__(self, block: WanUpBlock) -> None:
        super().__init__()
        self._finer = [block.upsamplers[0].resample[1]]
        self._residuals = [Residual(resnet) for resnet in block.resnets]
        self.blocks = nn.ModuleList(self._residuals)
        self._width = block.resnets[0].in_dim
        self.says = nn.Linear(block.resnets[-1].out_dim, GROUND.stop, bias=False)

    def forward(self, known: Tensor) -> Tensor:
        found = nn.functional.pad(known, (0, self._width - known.shape[1]))
        for block in self._residuals:
            found = block(found)
        said: Tensor = self.says(found)
        return said

    @torch.no_grad()
    def write(self) -> None:
        """Write the level. Going to twice the points, ``within`` is interpolated for each of four pixels there."""
        for block in self._residuals:
            block.write()
        [finer] = self._finer
        nn.init.zeros_(finer.weight)
        nn.init.zeros_(finer.bias)
        # A pixel lies at 1/8 or 3/8 of the way from one point to the next; what is given has been doubled.
        ways = torch.tensor([[0.375, 0.5, 0.125], [0.125, 0.5, 0.375]])
        for part in range(PARTS):
            column, row = divmod(part, 2)
            kernel = ways[row].view(-1, 1) * ways[column]
            finer.weight[part] = self.says.weight[WITHIN].view(-1, 1, 1) * kernel
        finer.weight[PARTS : PARTS + 6, :, 1, 1] = self.says.weight[THING.start :]
        finer.bias[PARTS + 6] = 1


class Paint(nn.Module):
    """The level that paints: how far within pixels are, and two colours, to (points, 3 * PARTS) in [-1, 1]."""

    def __init__(self, block: WanUpBlock, norm: nn.Module, last: nn.Conv3d) -> None:
        super().__init__()
        self._ends = (norm, last)
        self._residuals = [Residual(resnet) for resnet in block.resnets]
        self.blocks = nn.ModuleList(self._residuals)
        self._width = block.resnets[0].in_dim
        self.norm = nn.Parameter(torch.ones(last.in_channels))
        self.shows = nn.Linear(last.in_channels, last.out_channels)

    def forward(self, known: Tensor) -> Tensor:
        found = nn.functional.pad(known, (0, self._width - known.shape[1]))
        for block in self._residuals:
            found = block(found)
        shown: Tensor = self.shows(silu(_norm(found, self.norm)))
        return shown

    @torch.no_grad()
    def write(self) -> None:
        """Write the level and what comes after it."""
        for block in self._residuals:
            block.write()
        norm, last = self._ends
        _set_gain(norm, self.norm)
        write(last, self.shows)


class FormExamples:
    """Draws points of scenes without end."""

    def __init__(self, seed: int) -> None:
        self._random, self._generator = Random(seed), torch.Generator().manual_seed(seed)
        self._points = torch.cat([self._drawn(NEW) for _ in range(SCENES // NEW)])

    def loss(self, form: Form) -> Tensor:
        """Return how far what is said of the next points is from what is so."""
        first = self._random.randrange(0, SCENES, NEW)
        self._points[first : first + NEW] = self._drawn(NEW)
        chosen = torch.randint(SCENES * SIDE**2, (BATCH,), generator=self._generator)
        known, wanted = torch.split(self._points.flatten(0, 1)[chosen], [KNOWN, GROUND.stop], dim=1)
        doubt = torch.rand(BATCH, 2, generator=self._generator)
        words = known[:, :WORDS] * (1 - (1 - FAINTEST) * doubt[:, :1])
        words = words + DOUBT * doubt[:, 1:] ** 2 * torch.randn(words.shape, generator=self._generator)
        apart = (form(torch.cat([words, known[:, WORDS:]], dim=1)) - wanted).square()
        on_rim = ((wanted[:, WITHIN] > 0) & (wanted[:, WITHIN] < 2)).float()
        near = apart[:, WITHIN] * (1 + (NEAR_WEIGHT - 1) * on_rim)
        off: Tensor = near.mean() + COLOUR_WEIGHT * apart[:, THING.start :].mean()
        return off

    def _drawn(self, count: int) -> Tensor:
        """Return what is known and what is so of the points of new scenes, (count, SIDE**2, KNOWN + GROUND.stop)."""
        found = []
        for _ in range(count):
            scene = self._random.choice(draw_clip(self._random).frames)
            [thing] = scene.things
            [u], [v] = within([thing], SIDE, SIDE)
            pixels = distance(thing.kind, u, v) * thing.radius * 128
            same = torch.cat([words_of(scene), torch.ones(1)])
            seen = torch.cat([SEEN[thing.colour], SEEN[scene.background]]) + 1
            parts = (
                same.expand(SIDE**2, -1),
                torch.stack([u, v], dim=-1).view(-1, 2),
                torch.tensor(placed(thing)[:2]).expand(SIDE**2, -1),
                inside(pixels).view(-1, 1),
                seen.expand(SIDE**2, -1),
            )
            found.append(torch.cat(parts, dim=1))
        return torch.stack(found)


class PaintExamples:
    """Draws points near edges without end."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._colours = torch.stack([SEEN[colour] + 1 for colour in COLOURS])

    def loss(self, paint: Paint) -> Tensor:
        """Return how far the colours of the next pixels are from those that they should have."""
        random = self._generator
        thing, ground = self._colours[torch.randint(len(COLOURS), (2, BATCH), generator=random)]
        away = torch.rand(BATCH, 1, generator=random) * 2 - 1
        away = torch.where(torch.rand(BATCH, 1, generator=random) < 0.7, 3 * away, 12 * away)  # pixels
        turn = 2 * torch.pi * torch.rand(BATCH, 1, generator=random)
        column = torch.tensor([-0.5, -0.5, 0.5, 0.5])
        row = torch.tensor([-0.5, 0.5, -0.5, 0.5])
        away = away + column * turn.cos() + row * turn.sin()  # (BATCH, PARTS)
        known = torch.cat([inside(away), thing, ground], dim=1)
        known = known + 0.01 * torch.randn(known.shape, generator=random)
        shown = paint(torch.cat([known, torch.ones(BATCH, 1)], dim=1)).view(BATCH, 3, PARTS)
        cover = (0.5 - away).clamp(0, 1).unsqueeze(1)
        wanted = torch.lerp(ground.unsqueeze(2), thing.unsqueeze(2), cover) - 1
        apart: Tensor = (shown - wanted).square()
        return apart.mean()


def inside(pixels: Tensor) -> Tensor:
    """Return how far within an outline something is whose distance from it, negative within, is given in pixels."""
    return (1 - pixels / RIM).clamp(0, 2)
