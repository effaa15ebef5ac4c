"""Guidance scales that differ from item to item within one call."""

from __future__ import annotations

import torch


class PerItemGuidance:
    """Stands in for the one number that diffusers' pipelines take as ``guidance_scale``.

    They use it in two ways only: ``scale > 1`` decides whether the unconditional half is computed at all, and
    ``scale * (conditional - unconditional)`` weighs it (classifier-free guidance, Ho and Salimans 2022, equation 6).
    Here the first is true when any item asks for guidance, and the second weighs each item with its own scale; an item
    of scale 1.0 keeps its conditional prediction. The product is computed in float32 and rounded once to the tensor's
    dtype, as torch does for a Python number, so that an item is weighed alike whatever its neighbours ask for.
    """

    def __init__(self, scales: list[float], device: torch.device) -> None:
        self._largest = max(scales)
        # Copied to the device once: a copy at every step would wait for the device at every step.
        self._scales = torch.tensor(scales, dtype=torch.float32, device=device)

    def __gt__(self, threshold: float) -> bool:
        return self._largest > threshold

    def __mul__(self, difference: torch.Tensor) -> torch.Tensor:
        scales = self._scales.view(-1, *(1,) * (difference.ndim - 1))
        return (difference * scales).to(difference.dtype)  # float32 inside: torch promotes half precision
