"""What a model hears of a prompt: the built-in ones know few words, and say which they did not know. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from models.builtin.motions import normalise_clip
from models.builtin.words import normalise
from models.spec import Item, ModelSpec

LANGUAGES = {"shapes": normalise, "motion": normalise_clip}  # of the built-in models
MOST_WORDS, LONGEST_WORD = 20, 30  # that a warning names, and letters of each: it stands on the client's document


def heard(spec: ModelSpec, item: Item) -> tuple[Item, tuple[str, ...]]:
    """Return the item with the prompts that the model should get, and warnings for the client, in its words."""
    if spec.builtin not in LANGUAGES:
        return item, ()
    bring = LANGUAGES[spec.builtin]
    prompt, negative = bring(item.prompt), bring(item.negative_prompt)
    warnings = [
        f"Model {spec.name} does not know these words of the {which}, and ignored them: {_listed(ignored)}"
        for which, ignored in (("prompt", prompt.ignored), ("negative prompt", negative.ignored))
        if ignored
    ]
    return replace(item, prompt=prompt.prompt, negative_prompt=negative.prompt), tuple(warnings)


def _listed(words: Sequence[str]) -> str:
    named = list(dict.fromkeys(word[:LONGEST_WORD] for word in words))
    more = len(named) - MOST_WORDS
    return ", ".join(named[:MOST_WORDS]) + (f" and {more} more" if more > 0 else "")
