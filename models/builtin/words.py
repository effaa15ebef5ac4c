"""The words that the built-in models know, and what becomes of those they do not. Pure: no torch.

The image model was trained on a small language (``models.builtin.language``): shapes, colours, sizes, counts, places
and a background. ``normalise`` brings a free prompt as near to it as it can be brought, and says which words it left
out.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from models.builtin.language import COLOURS, COUNTS, KINDS, PLACES, PLURALS, SIZES

SHAPE = "shape"  # stands for any kind
MOST_THINGS = 2  # that a prompt can name apart
NEAR_ENOUGH = 0.84  # share of letters in common from which a word is taken for a misspelled one
SHORTEST_MISSPELLING = 5  # letters: among shorter words too many real ones are near

SYNONYMS = {  # known meaning: other words for it
    "circle": "circles disc discs disk disks ball balls sphere spheres dot dots sun suns moon moons round oval coin",
    "square": "squares box boxes cube cubes rectangle rectangles block blocks tile tiles quad diamond",
    "triangle": "triangles pyramid pyramids cone cones wedge mountain",
    "star": "stars starlet pentagram asterisk starfish",
    "heart": "hearts love valentine",
    "ring": "rings hoop hoops donut donuts doughnut doughnuts annulus torus wheel wheels halo tyre tire",
    SHAPE: "shapes object objects thing things figure figures form forms something",
    "red": "crimson scarlet ruby vermilion cherry maroon",
    "orange": "amber tangerine apricot peach",
    "yellow": "gold golden lemon mustard",
    "green": "emerald lime olive jade",
    "cyan": "turquoise teal aqua aquamarine azure",
    "blue": "navy cobalt indigo sapphire",
    "purple": "violet lilac lavender mauve plum",
    "pink": "magenta rose fuchsia salmon",
    "brown": "chocolate tan beige sienna bronze wooden",
    "white": "ivory snow snowy cream pale",
    "grey": "gray silver slate ash",
    "black": "dark ebony jet charcoal",
    "small": "tiny little mini miniature wee minuscule",
    "large": "big huge giant enormous massive great gigantic",
    "two": "2 pair couple both double",
    "three": "3 trio several many some few four five six 4 5 6",
    "one": "1 single a an lone",
    "above": "over atop",
    "below": "under underneath beneath",
    "and": "plus beside near by alongside & with",
    "top": "upper up",
    "bottom": "lower down",
    "left": "leftmost",
    "right": "rightmost",
    "on": "against upon before",
    "background": "backdrop canvas field wall paper sky floor ground",
}
MEANINGS = {word: meaning for meaning, others in SYNONYMS.items() for word in (meaning, *others.split())}
PHRASES = (  # of several words, the longer before those they contain
    (r"(?:to|on|at) the (left|right)(?: side)? of", r"\1of"),
    (r"(left|right) of", r"\1of"),
    (r"on top of", "above"),
    (r"next to", "and"),
    (r"(?:light|sky|pale) blue", "cyan"),
    (r"(?:dark|deep) (?=[a-z])", ""),
    (r"(?:light|bright) (?=[a-z])", ""),
    (r"in front of", "on"),
)
SILENT = frozenset(
    """the of at to in is are there it its this that very which s t i want me please make show draw paint photo picture
    image drawing painting illustration with coloured colored color colour side hand part middle center centre centred
    centered""".split()  # noqa: SIM905 forty words are easier to read this way
)
"""Words that say nothing the model could leave out: nobody needs to hear that they were ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """A prompt in the training language, ``""`` where nothing was understood, and the words left out, in order."""

    prompt: str
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """What a prompt says of one shape, or of several alike."""

    kind: str = ""
    colour: str = ""
    size: str = ""
    count: str = ""
    place: str = ""
    said: tuple[str, ...] = ()  # the words that made it

    def __bool__(self) -> bool:
        return bool(self.kind or self.colour or self.size)


def normalise(prompt: str) -> Normalised:
    """Bring a prompt into the training language: "Tiny crimson discs, 2!" becomes "two small red circles".

    Words of a known meaning are replaced by the word that the model knows, misspelled ones by the nearest, and others
    are left out. More than two things, and a count of one thing among two, are beyond the language and left out too.
    """
    reader = Reader()
    for word, meaning in meanings(prompt):
        reader.read(word, meaning)
    reader.close()
    return reader.finish()


def meanings(prompt: str) -> Iterator[tuple[str, str | None]]:
    """Yield the words of a prompt with the known word that each means, None if there is none."""
    letters = unicodedata.normalize("NFKD", prompt.lower())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    for pattern, replacement in PHRASES:
        plain = re.sub(rf"\b{pattern}", replacement, plain)
    for word in re.findall(r"[^\W\d_]+|\d+|&|,", plain):
        if word == ",":
            yield word, ","
        elif word in ("leftof", "rightof"):
            yield word, f"{word[:-2]} of"
        elif word in MEANINGS:
            yield word, MEANINGS[word]
        elif word not in SILENT:
            near = []
            if len(word) >= SHORTEST_MISSPELLING:
                near = difflib.get_close_matches(word, MEANINGS, n=1, cutoff=NEAR_ENOUGH)
            yield word, MEANINGS[near[0]] if near else None


class Reader:
    """Reads meanings one by one into things, the relation between them, and a background."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self._thing = Thing()
        self._place = ""  # said before the thing it is about
        self._relation = "and"
        self.background = ""
        self._apart = False  # a word has set what follows apart from the thing before
        self._on = False  # the words since "on" may yet turn out to name the background
        self._ground_said = False  # "background" came before its colour
        self.ignored: list[str] = []

    def read(self, word: str, meaning: str | None) -> None:
        """Take in the next word."""
        if meaning is None:
            self.ignored.append(word)
        elif meaning in KINDS or meaning == SHAPE:
            self._set(word, kind=meaning)
            if word[:-1] in MEANINGS and word.endswith("s") and not self._thing.count:
                self._set(word, count="two")
            self.close()
        elif meaning in COLOURS:
            self._colour(word, meaning)
        elif meaning in SIZES:
            self._set(word, size=meaning)
        elif meaning in COUNTS:
            self._set(word, count=meaning)
        elif meaning in PLACES:
            self._put(meaning)
        elif meaning != "one":
            self._join(meaning)

    def _colour(self, word: str, colour: str) -> None:
        if self._ground_said and not self.background:
            self.background, self._ground_said = colour, False
        elif self._thing.colour:
            self.ignored.append(word)
        else:
            self._set(word, colour=colour)

    def _join(self, meaning: str) -> None:
        """Take in a word that joins things with each other or with the background."""
        if meaning == "background":
            self._ground()
            return
        self.close()
        if meaning == "on":
            self._on = True
        elif meaning != ",":
            self._apart = True
            if self.things and meaning != "and":
                self._relation = meaning

    def finish(self) -> Normalised:
        """Return what was read."""
        kept, rest = self.things[:MOST_THINGS], self.things[MOST_THINGS:]
        ignored = self.ignored + [word for thing in rest for word in thing.said]
        if len(kept) == MOST_THINGS:
            kept = [self._uncounted(thing, ignored) for thing in kept]
        if not kept and not self.background:
            return Normalised(prompt="", ignored=tuple(ignored))
        parts = [phrase(thing) for thing in kept] or ["a shape"]
        subject = f" {self._related(kept)} ".join(parts)
        if len(kept) == 1 and kept[0].place:
            place = kept[0].place
            subject += f" on the {place}" if place in ("left", "right") else f" at the {place}"
        if self.background:
            subject += f" on {article(self.background)} {self.background} background"
        return Normalised(prompt=subject, ignored=tuple(ignored))

    def _set(self, word: str, *, kind: str = "", colour: str = "", size: str = "", count: str = "") -> None:
        thing = self._thing
        self._thing = replace(
            thing,
            kind=kind or thing.kind,
            colour=colour or thing.colour,
            size=size or thing.size,
            count=count or thing.count,
            said=(*thing.said, word),
        )

    def _put(self, place: str) -> None:
        """Give the place to the thing just named, or keep it for the first one."""
        self._on = False
        self.close()
        if self.things and not self.things[-1].place:
            self.things[-1] = replace(self.things[-1], place=place)
        else:
            self._place = place

    def _ground(self) -> None:
        if self._thing.colour and not self._thing.kind:
            self.background, self._thing, self._on = self._thing.colour, Thing(), False
        elif not self.background:
            self._ground_said = True

    def close(self) -> None:
        """End the thing under way, which is the background if it is only a colour that came after "on"."""
        thing = self._thing
        if thing and self._on and not thing.kind and thing.colour and not self.background and self.things:
            self.background = thing.colour
        elif (thing or thing.count) and self.things and not (thing.kind or self._apart) and self._lacks(thing):
            last = self.things[-1]
            self.things[-1] = replace(
                last,
                colour=last.colour or thing.colour,
                size=last.size or thing.size,
                count=last.count or thing.count,
                said=last.said + thing.said,
            )
        elif thing:
            self.things.append(replace(thing, kind=thing.kind or SHAPE, place=self._place))
            self._place = ""
        else:
            return  # nothing between two words that close
        self._thing, self._on, self._apart = Thing(), False, False

    def _lacks(self, thing: Thing) -> bool:
        """Say whether a description without a noun fits what the thing before has left open: "the star is red"."""
        last = self.things[-1]
        return not (
            (last.colour and thing.colour)
            or (last.size and thing.size)
            or (last.count and thing.count and last.count != thing.count)
        )

    def _related(self, things: list[Thing]) -> str:
        """Return the relation between two things, which their places can tell as well: left and right, say."""
        places = tuple(thing.place for thing in things)
        if self._relation != "and" or not any(places):
            return self._relation
        if places[0] in ("left", "top") or (places[0] == "" and places[-1] in ("right", "bottom")):
            return "left of" if {"left", "right"} & set(places) else "above"
        return "right of" if {"left", "right"} & set(places) else "below"

    @staticmethod
    def _uncounted(thing: Thing, ignored: list[str]) -> Thing:
        if thing.count:
            ignored.extend(word for word in thing.said if MEANINGS.get(word) == thing.count)
        return replace(thing, count="")


def article(word: str) -> str:
    """Return "a" or "an"."""
    return "an" if word[0] in "aeiou" else "a"


def phrase(thing: Thing) -> str:
    """Name a thing, without its place."""
    noun = {**PLURALS, SHAPE: "shapes"}[thing.kind] if thing.count else thing.kind
    words = " ".join(word for word in (thing.count, thing.size, thing.colour, noun) if word)
    return words if thing.count else f"{article(words)} {words}"
