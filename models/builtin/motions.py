"""The words of a motion that the built-in video model knows, and free prompts in its language. Pure: no torch."""

from __future__ import annotations

import re
from dataclasses import replace

from models.builtin.language import COUNTS, PLACES, SIZES
from models.builtin.words import SHAPE, Normalised, Reader, Thing, article, meanings, phrase

_VERB = r"(?:mov|go|fly|fli|slid|roll|drift|float|travell?|runn?|glid|walk|com|driv|jump|bounc|shoot)(?:e|es|s|ing)?"
_HOW = r"(?:(?:slowly|quickly|fast|steadily|smoothly|straight|over|across|along|in|into|back|away|out|just)\s+){0,2}"
_MOVE = rf"{_VERB}\s+{_HOW}"
_FROM = rf"(?:{_MOVE})?(?:from\s+)?(?:the\s+)?"
_OFF = rf"{_MOVE}from\s+(?:the\s+)?"
_TO = r"(?:\s+side)?\s+to\s+(?:the\s+)?"
_TOWARDS = rf"{_MOVE}(?:(?:to|towards?)\s+)?(?:the\s+)?"
KNOWN = (  # the first of these that is found in a prompt counts, and what else the prompt says describes the shape
    (rf"{_FROM}left{_TO}right(?:\s+side)?", "moving right"),
    (rf"{_FROM}right{_TO}left(?:\s+side)?", "moving left"),
    (rf"{_FROM}(?:bottom|below){_TO}(?:top|above)", "moving up"),
    (rf"{_FROM}(?:top|above){_TO}(?:bottom|below)", "moving down"),
    (rf"{_OFF}left(?:\s+side)?|{_TOWARDS}right(?:wards?)?(?:\s+side)?|right\s+moving", "moving right"),
    (rf"{_OFF}right(?:\s+side)?|{_TOWARDS}left(?:wards?)?(?:\s+side)?|left\s+moving", "moving left"),
    (rf"{_OFF}(?:bottom|below)|{_TOWARDS}(?:up(?:wards?)?|top)|(?:ris|ascend)(?:es?|s|ing)(?:\s+up)?", "moving up"),
    (rf"{_OFF}(?:top|above)|{_TOWARDS}(?:down(?:wards?)?|bottom)", "moving down"),
    (r"(?:fall|sink|descend|dropp?)(?:s|ing)?(?:\s+down)?", "moving down"),
    (r"(?:grow|expand|swell|inflat)(?:es?|s|ing)?|(?:gett?|becom)(?:s|es?|ing)?\s+(?:bigger|larger)", "growing"),
    (r"(?:shrink|contract|deflat)(?:es?|s|ing)?|(?:gett?|becom)(?:s|es?|ing)?\s+smaller", "shrinking"),
    (r"(?:spinn?|rotat|twirl|whirl|revolv)(?:es?|s|ing)?(?:\s+around)?|turn(?:s|ing)?\s+a?round", "spinning"),
)
OF_PICTURES = {*SIZES, *COUNTS, *PLACES}  # of clips the motion decides on size and place, and a clip has one shape
RELATIONS = ("above", "below", "left of", "right of")


def normalise_clip(prompt: str) -> Normalised:
    """Bring a prompt into the language of clips: "Tiny crimson disc flies left" becomes "a red circle moving left".

    "Tiny" is left out, as everything is but one shape, its colour, a motion and the background.
    """
    said = re.sub(r"(?<=\w)-(?=\w)", " ", prompt.lower())
    motion, rest = _motion(said)
    reader, ignored = Reader(), []
    for word, meaning in meanings(rest):
        if meaning in OF_PICTURES or meaning in RELATIONS:
            ignored.append(word.removesuffix("of"))
        reader.read(word, "and" if meaning in RELATIONS else meaning)
    reader.close()
    thing, *others = reader.things or [Thing()]
    ignored += reader.ignored + [word for other in others for word in other.said]
    ignored = sorted(dict.fromkeys(ignored), key=said.find)
    if not (thing or motion or reader.background):
        return Normalised(prompt="", ignored=tuple(ignored))
    parts = [phrase(replace(thing, kind=thing.kind or SHAPE, size="", count=""))]
    parts += [motion] if motion else []
    parts += [f"on {article(reader.background)} {reader.background} background"] if reader.background else []
    return Normalised(prompt=" ".join(parts), ignored=tuple(ignored))


def _motion(prompt: str) -> tuple[str, str]:
    """Return the motion that a prompt asks for, "" for none, and the prompt without the words that do."""
    for pattern, motion in KNOWN:
        rest, found = re.subn(rf"\b(?:{pattern})\b", " ", prompt)
        if found:
            return motion, rest
    return "", prompt
