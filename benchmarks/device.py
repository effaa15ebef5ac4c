"""What a card does: a plain diffusers loop, ours, and ours with each setting of speed.

    python -m benchmarks.device --what sdxl --seconds 420 --json build/device-sdxl.json
    python -m benchmarks.device --what wan --seconds 420 --json build/device-wan.json
    python -m benchmarks.device --tiny        # on any CPU, to try this file: its figures mean nothing

Full-size models with random weights (``benchmarks.device_models``). Every side is loaded and warmed up once, compiling
included; then rounds in shuffled orders measure each side once, until ``--seconds`` are over, warming up counted. A
figure is the median of its rounds, a ratio the median of those within a round. Peak memory is a side's own: its
weights and what its call adds. A side that the time does not reach, or that memory or packages lack for, says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import device_models
from models import device as devices
from models.catalog import BUILTIN
from models.diffusion import DiffusionModel
from models.errors import ModelError
from models.quiet import quiet_libraries
from models.sdxl import StableDiffusionXL
from models.spec import Attention, Call, Compile, Item, ModelSpec, Speed
from models.speed import prepare
from models.wan import Wan

PROMPT, NEGATIVE, GUIDANCE = "a red sports car on a mountain road", "blurry, low quality", 7.5
MOST_ROUNDS = 7
GIBIBYTE = 2**30  # bytes

CHOSEN = Speed()
SETTINGS: Mapping[str, Speed] = {  # beside the defaults, one thing each
    "channels-first": replace(CHOSEN, channels_last=False),
    "attention cudnn": replace(CHOSEN, attention=Attention.CUDNN),
    "attention flash of torch": replace(CHOSEN, attention=Attention.TORCH_FLASH),
    "prompts not kept": replace(CHOSEN, prompts_kept=0),
    "compiled": replace(CHOSEN, compile=Compile.REGIONAL),
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one model is measured with."""

    build: device_models.Build
    model: type[DiffusionModel]
    spec: ModelSpec
    call: Call  # of one item
    batches: Sequence[int]
    video: bool = False


def works(*, tiny: bool, steps: int | None) -> dict[str, Work]:
    """The work of each model, at the size and steps of the goal or at next to none."""
    item = Item(prompt=PROMPT, negative_prompt=NEGATIVE, seed=1, guidance_scale=GUIDANCE)
    picture = Call(width=1024, height=1024, steps=steps or 30, items=(item,))
    video = Call(width=832, height=480, steps=steps or 30, frames=81, items=(item,))
    sdxl = Work(
        build=device_models.sdxl, model=StableDiffusionXL, spec=BUILTIN["sdxl"], call=picture, batches=(2, 4, 8)
    )
    wan = Work(build=device_models.wan, model=Wan, spec=BUILTIN["wan-2.1-1.3b"], call=video, batches=(), video=True)
    if tiny:
        small = replace(picture, width=64, height=64, steps=2)
        sdxl = replace(sdxl, build=device_models.tiny_sdxl, spec=BUILTIN["shapes"], call=small, batches=(2,))
        short = replace(video, width=256, height=256, steps=2, frames=17)
        wan = replace(wan, build=device_models.tiny_wan, spec=BUILTIN["motion"], call=short)
    return {"sdxl": sdxl, "wan": wan}


@dataclass(kw_only=True)
class Side:
    """One way to do the work. ``run`` does it once, ``items`` pictures or videos."""

    name: str
    run: Callable[[], object]
    items: int
    weights: int  # bytes
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0  # GiB
    trouble: str = ""

    def measure(self, device: torch.device) -> None:
        """Do it once; a failure ends this side only."""
        before = _allocated(device, reset=True)
        began = time.perf_counter()
        try:
            self.run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except (ModelError, RuntimeError) as error:
            self.trouble = str(error).partition("\n")[0]
            gc.collect()
            devices.release_memory(device)
            return
        self.seconds.append(time.perf_counter() - began)
        self.peak = max(self.peak, (_peak(device) - before + self.weights) / GIBIBYTE)


def _allocated(device: torch.device, *, reset: bool) -> int:
    if device.type != "cuda":
        return 0
    if reset:
        torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def plain(work: Work, device: torch.device) -> Side:
    """Diffusers' own pipeline as its documentation calls it, its result thrown away."""
    pipeline = work.build(device).to(device)
    if not work.video:  # its weights are published in half precision, and it raises the decoder's while it decodes
        pipeline.vae.to(pipeline.unet.dtype)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "width": work.call.width,
        "height": work.call.height,
        "num_inference_steps": work.call.steps,
        "guidance_scale": GUIDANCE,
    }
    if work.video:
        arguments["num_frames"] = work.call.frames

    def run() -> object:
        return pipeline(**arguments, generator=torch.Generator("cpu").manual_seed(1))

    return Side(name="plain", run=run, items=1, weights=_weights(pipeline))


def ours(name: str, work: Work, model: DiffusionModel, weights: int, *, items: int) -> Side:
    """Our own call, from prompts to frames in memory."""
    (one,) = work.call.items
    call = replace(work.call, items=tuple(replace(one, seed=seed) for seed in range(items)))
    return Side(name=name, run=lambda: model.generate(call, lambda *_: None), items=items, weights=weights)


def sides(work: Work, device: torch.device) -> Iterator[Side]:
    """Every side, each with a model of its own but for the batches; loaded when it is asked for."""
    yield plain(work, device)
    for name, speed in {"ours": CHOSEN, **SETTINGS}.items():
        batches = (1, *work.batches) if name == "ours" else (1,)
        if name == "compiled" and work.batches:
            batches = (1, work.batches[-1])
        pipeline = work.build(device)
        weights = _weights(pipeline)
        try:
            model = work.model(spec=work.spec, pipeline=pipeline, device=device, speed=speed)
            if speed.compile is not Compile.OFF:
                model.warm_up()
        except ModelError as error:
            yield Side(name=name, run=lambda: None, items=1, weights=weights, trouble=str(error))
            continue
        for items in batches:
            yield ours(name if items == 1 else f"{name}, {items} at once", work, model, weights, items=items)


def _weights(pipeline: Any) -> int:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(number.numel() * number.element_size() for part in modules for number in part.parameters())


def measured(work: Work, device: torch.device, *, until: float) -> list[Side]:
    """All sides, measured in turn until a moment of the monotonic clock."""
    found: list[Side] = []
    for side in sides(work, device):
        found.append(side)
        if not side.trouble:
            side.measure(device)  # the first time chooses kernels, and is no measurement
            side.seconds.clear()
        if time.monotonic() > until:
            break
    for _ in range(MOST_ROUNDS):
        for side in random.sample(found, len(found)):
            if not side.trouble and time.monotonic() < until:
                side.measure(device)
    return found


def figures(what: str, found: Sequence[Side]) -> Iterator[dict[str, Any]]:
    """One entry for each side."""
    first = found[0].seconds
    for side in found:
        each = [seconds / side.items for seconds in side.seconds]  # seconds for one picture or video
        entry: dict[str, Any] = {"what": what, "side": side.name, "rounds": len(each), "trouble": side.trouble}
        if each and first:
            entry |= {"seconds_each": each, "seconds": median(each), "peak_gib": round(side.peak, 2)}
            entry["times_plain"] = median(one / other for one, other in zip(first, each, strict=False))
        yield entry


def line(entry: Mapping[str, Any], *, video: bool) -> str:
    """What is printed of an entry."""
    head = f"device {entry['what']} {entry['side']}:"
    if "seconds" not in entry:
        return f"{head} {entry['trouble'] or 'not reached in the time given'}"
    speed = f"{entry['seconds']:.2f} s a video" if video else f"{60 / entry['seconds']:.1f} images a minute"
    return (
        f"{head} {speed}, {entry['times_plain']:.2f} times plain, "
        f"peak {entry['peak_gib']:.1f} GiB, {entry['rounds']} rounds"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=["sdxl", "wan", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=240.0, help="for each model, about")
    parser.add_argument("--steps", type=int, help="of denoising; 30 by default")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--tiny", action="store_true", help="tiny models at a tiny size, on any device")
    asked = parser.parse_args(arguments)
    quiet_libraries()
    device = devices.choose("cpu" if asked.tiny else "cuda")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card"
    import diffusers  # noqa: PLC0415 - for its version only

    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "cuda": torch.version.cuda}
    print(f"device card: {card}, {', '.join(f'{name} {version}' for name, version in versions.items())}")
    entries: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="easeld-device-") as folder:
        cache = Path(folder)
        prepare(replace(CHOSEN, compile=Compile.REGIONAL), cache_dir=cache)
        for what, work in works(tiny=asked.tiny, steps=asked.steps).items():
            if asked.what in {what, "both"}:
                found = measured(work, device, until=time.monotonic() + asked.seconds)
                new = list(figures(what, found))
                entries += new
                print("\n".join(line(entry, video=work.video) for entry in new), flush=True)
                del found
                gc.collect()
                devices.release_memory(device)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        about = {"card": card, "versions": versions, "tiny": asked.tiny, "seconds": asked.seconds}
        asked.json.write_text(json.dumps({**about, "figures": entries}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
