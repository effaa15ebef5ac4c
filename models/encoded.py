"""Prompts as a model's text encoders give them, the latest of them kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

Encode = Callable[[str], tuple[torch.Tensor, ...]]


class Encoded:
    """Encodes texts one at a time, so that what one gives depends on no neighbour and not on whether it was kept.

    ``encode`` gives one or more tensors of a text, each with 1 as its first dimension. They are kept in the machine's
    memory and not on the device: ``most`` texts, the least recently used leaving first; 0 keeps none.
    """

    def __init__(self, encode: Encode, *, most: int) -> None:
        self._encode = encode
        self._most = most
        self._kept: OrderedDict[str, tuple[torch.Tensor, ...]] = OrderedDict()

    def of(self, texts: Sequence[str], device: torch.device) -> tuple[torch.Tensor, ...]:
        """The tensors of all texts, one below the other in their order, on the device; each text is encoded once."""
        found = {text: self._one(text) for text in dict.fromkeys(texts)}
        return tuple(torch.cat(parts).to(device) for parts in zip(*(found[text] for text in texts), strict=True))

    def _one(self, text: str) -> tuple[torch.Tensor, ...]:
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        encoded = tuple(part.cpu() for part in self._encode(text))
        if self._most:
            self._kept[text] = encoded
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return encoded
