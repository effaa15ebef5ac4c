"""Keeps the model libraries from writing what does not belong in a daemon's log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

_DROPPED = {
    # On import, diffusers names processors of given pictures, which no model here takes.
    "transformers.utils.import_utils": "requires torchvision",
    # The built-in model has the smallest of diffusers' decoders in the place of SDXL's own, on purpose.
    "diffusers.pipelines.pipeline_utils": "got <class 'diffusers.models.autoencoders.autoencoder_tiny",
    "diffusers.configuration_utils": "were passed to AutoencoderTiny, but are not expected",
    # The operator has chosen one (models.spec.Attention), and the versions are pinned.
    "diffusers.models.modeling_utils": "Attention backends are an experimental feature",
    # A long prompt is cut to what the text encoders read (models.sdxl says so); the line about it quotes the prompt.
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl": "part of your input was truncated",
    "transformers.tokenization_utils_base": "Token indices sequence length is longer",
}


@cache
def quiet_libraries() -> None:
    """Import diffusers and transformers without loading bars, and without lines that are harmless or tell secrets.

    Every other line stays. Only the first call of a process does anything.
    """
    for logger, words in _DROPPED.items():
        logging.getLogger(logger).addFilter(_without(words))

    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _without(words: str) -> Callable[[logging.LogRecord], bool]:
    return lambda record: words not in record.getMessage()
