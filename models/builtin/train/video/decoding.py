"""Sets and trains the decoder of videos.

Of its eight levels six are set by hand and only compute: of two places of a group those of its four frames, and of
what is the same everywhere in a picture, which is all that a latent says, where each part of the picture lies from the
thing. The seventh level (64 x 64) learns how far each point is within the outline of a thing, and the last (128 x 128,
four pixels at each) to paint by it. Each of the two learns from points, without the other and without pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from models.builtin.train.decoding import Report, descend
from models.builtin.train.video.latents import FIRST, LAST, OFFSET, SCALE, WORDS
from models.builtin.train.video.points import A_AND_B, Form, FormExamples, Paint, PaintExamples, U, V

FORM_SHARE = 0.7  # of the time
MATRIX_RATE = 0.03  # of Muon
# Channels of the levels that are set. The words of a latent are the first of them.
ONE = WORDS  # always 1
PLACE = slice(ONE + 1, ONE + 5)  # A, B, C and D
PRODUCTS = slice(PLACE.stop, PLACE.stop + 4)  # A * X, B * Y, B * X and A * Y
AT_FIRST, AT_LAST = slice(PLACE.start, PRODUCTS.stop), slice(PRODUCTS.stop, PRODUCTS.stop + 8)
"""Place and products of the first and of the last frame, until time is divided."""
FACTORS = ((0, 1), (1, 0), (1, 1), (0, 0))  # of products: which number of the place, and 0 for Y or 1 for X
COPIED = torch.tensor([0.0, 1.0, 0.0])
INTERPOLATED = torch.tensor([0.25, 0.5, 0.25])  # linearly: what is given has been doubled


def train_decoder(vae: AutoencoderKLWan, *, seed: int, seconds: float, report: Report) -> None:
    """Set what is set, and train the rest for the given time."""
    torch.manual_seed(seed)
    wire(vae)
    decoder = vae.decoder
    form, form_examples = Form(decoder.up_blocks[-2]), FormExamples(seed)
    paint, paint_examples = Paint(decoder.up_blocks[-1], decoder.norm_out, decoder.conv_out), PaintExamples(seed)

    def train(part: str, learner: nn.Module, loss: Callable[[], Tensor], share: float) -> None:
        spend = share * seconds
        descend(learner.parameters(), loss, part=part, rate=MATRIX_RATE, seconds=spend, report=report)

    train("form", form, lambda: form_examples.loss(form), FORM_SHARE)
    train("paint", paint, lambda: paint_examples.loss(paint), 1 - FORM_SHARE)
    form.write()
    paint.write()


@torch.no_grad()
def wire(vae: AutoencoderKLWan) -> None:
    """Set the levels that are set, all of which are linear."""
    decoder = vae.decoder
    set_blocks = decoder.up_blocks[:-2]
    for layer in (vae.post_quant_conv, decoder.conv_in, *decoder.mid_block.modules(), *set_blocks.modules()):
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))
    _pass_on(vae.post_quant_conv)
    _read(decoder.conv_in)
    for level, block in enumerate(set_blocks):
        for resnet in block.resnets:
            if isinstance(resnet.conv_shortcut, nn.Conv3d):
                _pass_on(resnet.conv_shortcut)
        [upsampler] = block.upsamplers
        if upsampler.mode == "upsample3d":
            _divide_time(upsampler.time_conv, last=level > 0)
        finer = upsampler.resample[1]
        if block is set_blocks[-1]:
            _join(finer, 2**level)
        else:
            _double(finer, 2**level, (AT_FIRST, AT_LAST) if level == 0 else (AT_FIRST,))


def _pass_on(layer: nn.Conv3d) -> None:
    for channel in range(min(layer.in_channels, layer.out_channels)):
        layer.weight[channel, channel, -1, 0, 0] = 1


def _read(layer: nn.Conv3d) -> None:
    """Bring the numbers of latents to their scale. Only the last tap in time is of the frame itself."""
    here = layer.weight[:, :, -1, 1, 1]
    bias = layer.get_parameter("bias")
    for channel in range(WORDS):
        here[channel, channel] = 1
    bias[ONE] = 1
    for frame, given in ((AT_FIRST, FIRST), (AT_LAST, LAST)):
        for number in range(4):
            here[frame.start + number, given.start + number] = SCALE[number]
            bias[frame.start + number] = OFFSET[number]


def _divide_time(layer: nn.Conv3d, *, last: bool) -> None:
    """Make two frames of one: of a group its halves, each with two frames in it, or at ``last`` the two."""
    halves = layer.weight[:, :, -1, 0, 0].view(2, -1, layer.in_channels)
    # Where in the group each half has its first and its last frame, 0 to 1; at last each half is one frame.
    for half, (at_first, at_last) in enumerate(((0.0, 0.0), (1.0, 1.0)) if last else ((0.0, 1 / 3), (2 / 3, 1.0))):
        for channel in range(AT_FIRST.start):
            halves[half, channel, channel] = 1
        for number in range(8):
            first, final = AT_FIRST.start + number, AT_LAST.start + number
            halves[half, first, first], halves[half, first, final] = 1 - at_first, at_first
            halves[half, final, first], halves[half, final, final] = 1 - at_last, at_last


def _double(layer: nn.Conv2d, side: int, frames: tuple[slice, ...]) -> None:
    """Make of ``side`` points, each way, twice as many."""
    for channel in range(AT_FIRST.start):
        _add(layer, channel, channel, COPIED, COPIED)
    for frame in frames:
        for number in range(4):
            place = frame.start + number
            _add(layer, place, place, COPIED, COPIED)
            _multiply(layer, frame.start + 4 + number, frame, number, side)


def _join(layer: nn.Conv2d, side: int) -> None:
    """Do the same, and sum up: what remains are the words, 1, and for every point U and V, with A and B."""
    for channel in range(AT_FIRST.start):
        _add(layer, channel, channel, COPIED, COPIED)
    for out, products, signs, rest in ((U, (0, 1), (1, 1), 2), (V, (2, 3), (-1, 1), 3)):
        for product, sign in zip(products, signs, strict=True):
            _multiply(layer, out, AT_FIRST, product, side, sign=sign)
        _add(layer, out, PLACE.start + rest, COPIED, COPIED)
    for number, channel in enumerate(range(A_AND_B.start, A_AND_B.stop)):
        _add(layer, channel, PLACE.start + number, COPIED, COPIED)


def _multiply(layer: nn.Conv2d, out: int, frame: slice, product: int, side: int, *, sign: int = 1) -> None:
    """Make a product, of a number and where a point lies, finer.

    Points of a line of ``side`` from -1 to 1 lie at (2 i + 1 - side) / side. Doubled and interpolated, a product is
    right but at the two ends, where a point beyond the picture counts as 0. What is missing there is in proportion to
    the number itself, and the number, copied from one side less from the other, is 0 everywhere else.
    """
    number, axis = FACTORS[product]
    end = 0.25 + 0.25 / side
    missing = torch.tensor([end, 0.0, -end])
    for channel, kernel in ((frame.start + 4 + product, INTERPOLATED), (frame.start + number, missing)):
        rows, columns = (COPIED, kernel) if axis else (kernel, COPIED)
        _add(layer, out, channel, sign * rows, columns)


def _add(layer: nn.Conv2d, out: int, channel: int, rows: Tensor, columns: Tensor) -> None:
    layer.weight[out, channel] += rows.view(-1, 1) * columns
