"""The floor of row a: diffusers' own pipeline in a loop that throws its pictures away.

Reads ``{"pictures": n, "batch": n}`` a line, answers with pictures a second.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from diffusers import StableDiffusionXLPipeline

from benchmarks.place import REQUEST
from models import builtin


def main() -> None:
    """Measure what is asked for until the input ends."""
    torch.set_num_threads(1)
    folder = builtin.folder("shapes")
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(measure(pipeline, asked["pictures"], asked["batch"]), flush=True)


def measure(pipeline: StableDiffusionXLPipeline, pictures: int, batch: int) -> float:
    """Pictures a second."""
    began = time.perf_counter()
    for start in range(0, pictures, batch):
        pipeline(
            prompt=[f"a red circle, job-{number}" for number in range(start, start + batch)],
            guidance_scale=7.5,
            generator=[torch.Generator("cpu").manual_seed(number) for number in range(start, start + batch)],
            **REQUEST,
        )
    return pictures / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
