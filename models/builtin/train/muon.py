"""Muon: descent by orthogonal steps (Jordan et al. 2024, kellerjordan.github.io/posts/muon), for what multiplies.

A step of about the same size in every direction of a weight matrix, and not only in those in which gradients are
large. torch has one for plain matrices only; most weights of a UNet are convolutions, whose matrix is
``(channels out, channels in x height x width)``.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from models.builtin.train.network import FAST

MOMENTUM = 0.95
ROUNDS = 5  # of Newton and Schulz: most singular values are then between 0.7 and 1.2
FIRST, THIRD, FIFTH = 3.4445, -4.7750, 2.0315  # coefficients of their polynomial, from the same source


class Muon:
    """Nesterov momentum, made about orthogonal. Parameters must have two dimensions or more."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters:
            rows = len(parameter)
            by_shape.setdefault((rows, parameter.numel() // rows), []).append(parameter)
        self._parameters = list(by_shape.values())
        self._momenta = [torch.zeros(len(members), *shape) for shape, members in by_shape.items()]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change every parameter by its gradient's direction; ``rate`` is about the spectral norm of the change.

        A matrix with more rows than columns changes by the root of their ratio more.
        """
        for parameters, momentum in zip(self._parameters, self._momenta, strict=True):
            gradient = torch.stack([_given(parameter).reshape(momentum.shape[1:]) for parameter in parameters])
            momentum.lerp_(gradient, 1 - MOMENTUM)
            rows, columns = momentum.shape[1:]
            change = _orthogonal(gradient.lerp_(momentum, MOMENTUM)) * (rate * max(1.0, rows / columns) ** 0.5)
            for parameter, own in zip(parameters, change.unbind(), strict=True):
                parameter.sub_(own.view_as(parameter))

    def state_dict(self) -> list[Tensor]:
        return self._momenta

    def load_state_dict(self, momenta: list[Tensor]) -> None:
        """Take up a saved state. Raises ValueError where it is of other parameters."""
        if [saved.shape for saved in momenta] != [own.shape for own in self._momenta]:
            raise ValueError("the saved momenta are of other parameters")
        for own, saved in zip(self._momenta, momenta, strict=True):
            own.copy_(saved)


def _given(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("a parameter has no gradient: every one given to Muon must take part in the loss")
    return parameter.grad


def _orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices of the same singular vectors, (count, rows, columns), most singular values near 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    found = (matrices.mT if tall else matrices).to(FAST)
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = found @ found.mT
        found = FIRST * found + (THIRD * square + FIFTH * square @ square) @ found
    orthogonal: Tensor = (found.mT if tall else found).float()
    return orthogonal
