"""The floor of row e: import and load the pipeline, as few lines as that takes."""

from __future__ import annotations

import sys

import torch
from diffusers import StableDiffusionXLPipeline

from models import builtin

folder = builtin.folder("shapes")
pipeline = StableDiffusionXLPipeline.from_pretrained(
    folder, dtype=torch.float32, use_safetensors=True, add_watermarker=False
).to("cpu")
print("ready", flush=True)
sys.stdin.read()
