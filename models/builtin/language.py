"""The language of the built-in models: the words that they were trained on, as data. Pure: standard library only."""

from __future__ import annotations

KINDS = ("circle", "square", "triangle", "star", "heart", "ring")
RGB = {  # each colour as the model shows it, sRGB
    "red": (220, 45, 45),
    "orange": (240, 140, 40),
    "yellow": (245, 215, 50),
    "green": (45, 165, 75),
    "cyan": (70, 200, 220),
    "blue": (45, 85, 215),
    "purple": (130, 60, 180),
    "pink": (245, 125, 185),
    "brown": (125, 80, 45),
    "white": (245, 245, 245),
    "grey": (140, 140, 145),
    "black": (20, 20, 25),
}
COLOURS = tuple(RGB)
SIZES = ("small", "large")
COUNTS = ("two", "three")
PLACES = ("left", "right", "top", "bottom")
PLURALS = {kind: f"{kind}s" for kind in KINDS}
GLUE = ("a", "an", "one", "on", "the", "at", "to", "of", "with", "and", "in", "background", "shape", "shapes")
"""Words without a picture of their own that the training prompts contain."""


def vocabulary() -> tuple[str, ...]:
    """Every word of the language of pictures, once, in a fixed order: the tokenizer is built from it."""
    words = (*GLUE, *SIZES, *COUNTS, *COLOURS, *KINDS, *PLURALS.values(), *PLACES, "above", "below")
    return tuple(dict.fromkeys(words))


MOTIONS = (*(f"moving {way}" for way in ("right", "left", "up", "down")), "growing", "shrinking", "spinning")
"""What a clip shows a shape do."""


FRAMES = 17  # of a clip
ROUND = ("circle", "ring")  # nobody sees them spin


def clip_vocabulary() -> tuple[str, ...]:
    """Every word of the language of clips, once: "a red star spinning on a blue background"."""
    words = ("a", "an", "on", "background", "shape", *COLOURS, *KINDS, *" ".join(MOTIONS).split())
    return tuple(dict.fromkeys(words))


def is_held_out(kind: str, colour: str, background: str) -> bool:
    """Say whether training never shows this combination, about one in eleven; the check draws its prompts from them."""
    return (KINDS.index(kind) * 7 + COLOURS.index(colour) * 5 + COLOURS.index(background) * 3) % 11 == 0
