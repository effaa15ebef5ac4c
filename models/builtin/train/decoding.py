"""Trains the decoder, in two parts that need no pictures between them.

The first part works on cells: it makes of latents, as diffusion leaves them, what is meant (``draw.meaning``). The
layers between the parts only interpolate; they are set and never trained. The second part works on pixels, each for
itself: it makes of what is meant there its colour. Each part trains on its own matter alone. The whole, trained on
pictures, had 64 % of shapes right after half an hour; so it has them all after minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.builtin.train.cells import CellExamples, bounded
from models.builtin.train.clock import Clock
from models.builtin.train.draw import MARKS, MEANT, PLACE
from models.builtin.train.muon import Muon
from models.builtin.train.network import Network
from models.builtin.train.points import TRIANGLE, PointExamples, Pointwise, convolutions

CELLS_SHARE = 0.7  # of the time
CELLS_RATE, POINTS_RATE = 0.02, 0.03  # of Muon
PEAK_RATE = 3e-3  # of AdamW, for what only adds
WARM_UP = 50  # steps

Report = Callable[[str, int, float, float], None]
"""Is told the part that is trained, the step, the seconds it took so far, and the loss."""


def train_decoder(
    vae: AutoencoderTiny, network: Network, words: CLIPTokenizer, *, seed: int, seconds: float, report: Report
) -> None:
    """Train the decoder of ``vae`` for the given time, to draw what ``network`` leaves."""
    torch.manual_seed(seed)
    cells, between, pixels = parts(vae)
    start(cells, between)
    pointwise, point_examples = Pointwise(pixels), PointExamples(seed)
    descend(
        pointwise.parameters(),
        lambda: point_examples.loss(pointwise),
        part="points",
        rate=POINTS_RATE,
        seconds=(1 - CELLS_SHARE) * seconds,
        report=report,
    )
    pointwise.write()
    cell_examples = CellExamples(network, words, seed=seed)
    descend(
        cells.parameters(),
        lambda: cell_examples.loss(cells),
        part="cells",
        rate=CELLS_RATE,
        seconds=CELLS_SHARE * seconds,
        report=report,
    )


def parts(vae: AutoencoderTiny) -> tuple[nn.Sequential, list[nn.Conv2d], nn.Sequential]:
    """Split the layers of the decoder: what works on cells, the convolutions between, and what works on pixels."""
    layers = vae.decoder.layers
    finer = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Upsample)]
    first, last = finer[0], finer[-1] + 2
    return layers[:first], convolutions(layers[first:last]), layers[last:]


@torch.no_grad()
def start(cells: nn.Sequential, between: Sequence[nn.Conv2d]) -> None:
    """Let ``cells`` say at first where a cell lies as if no latent were wrong, and ``between`` interpolate.

    A place is the mean of its three marks: each is a slope where the other two are at an end.
    """
    entry, *inner = convolutions(cells)
    for axis in range(2):
        marks = slice(PLACE.start + axis * len(MARKS), PLACE.start + (axis + 1) * len(MARKS))
        nn.init.zeros_(entry.weight[axis])
        entry.weight[axis, marks, 1, 1] = 1 / (len(MARKS) * bounded(torch.tensor(1.0)))
    nn.init.zeros_(entry.weight[MEANT - 1])  # what is always 1
    entry.get_parameter("bias")[[0, 1, MEANT - 1]] = 1.0
    for first, second, last in zip(inner[::3], inner[1::3], inner[2::3], strict=True):
        for layer in (first, second):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.uniform_(layer.get_parameter("bias"), -0.5, 0.5)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.get_parameter("bias"))
    weights = torch.tensor(TRIANGLE)
    for layer in between:
        nn.init.zeros_(layer.weight)
        for channel in range(MEANT):
            layer.weight[channel, channel] = weights.view(-1, 1) * weights


def descend(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[], Tensor],
    *,
    part: str,
    rate: float,
    seconds: float,
    report: Report,
) -> None:
    """Change parameters for the given time, so that a loss becomes less: Muon what multiplies, AdamW what adds.

    ``rate`` is Muon's.
    """
    parameters = list(parameters)
    muon = Muon(parameter for parameter in parameters if parameter.ndim > 1)
    rest = [parameter for parameter in parameters if parameter.ndim == 1]
    adam = torch.optim.AdamW(rest, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    clock, step, mean = Clock(), 0, math.nan
    while (spent := clock.tick()) < seconds:
        loss = loss_of()
        torch.autograd.backward(loss)
        share = min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / seconds)))
        for group in adam.param_groups:
            group["lr"] = PEAK_RATE * share
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step(rate * share)
        adam.step()
        for parameter in parameters:
            parameter.grad = None
        step += 1
        mean = float(loss.detach()) if math.isnan(mean) else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 50 == 0:
            report(part, step, spent, mean)
