"""Lets a UNet's attention be chosen by name, as diffusers does for transformers only."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import AttnProcessor2_0


class Dispatched:
    """``AttnProcessor2_0`` of diffusers 0.42 as far as SDXL's UNet uses it, with the kernel that was chosen.

    ``set_attention_backend`` sets the attribute of this name on every processor that has it, and ``AttnProcessor2_0``
    has not: there the choice would pass without effect and without a word.
    """

    _attention_backend: str | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend to ``encoder_hidden_states``, or to the states themselves; both (items, tokens, width)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        # (items, tokens, heads, width of a head)
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1))
            for projected in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        attended = dispatch_attention_fn(query, key, value, attn_mask=attention_mask, backend=self._attention_backend)
        projected: torch.Tensor = attn.to_out[0](attended.flatten(-2).to(query.dtype))
        return projected


def dispatched(network: Any) -> None:
    """Give the UNet's transformer blocks processors whose kernel can be chosen; others have such already."""
    for module in network.modules():
        if type(getattr(module, "processor", None)) is AttnProcessor2_0 and module.group_norm is None:
            module.set_processor(Dispatched())
