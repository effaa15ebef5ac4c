"""Random scenes of coloured shapes, and the prompts that describe them. Pure: standard library only.

Lengths are in half heights of the shorter side of the picture: the picture spans ``[-across, across]`` by
``[-down, down]`` with ``min(across, down) == 1``; x grows to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from models.builtin.language import COLOURS, KINDS, PLURALS, is_held_out

EDGE = 0.96  # nothing is drawn beyond this share of the picture
ALONE = {"small": (0.32, 0.39), "": (0.52, 0.61), "large": (0.76, 0.86)}
"""Smallest and largest outer radius of a thing that has the picture for itself."""
SHARED = {"small": (0.26, 0.29), "": (0.36, 0.40), "large": (0.44, 0.46)}
"""The same where the picture has room beside the thing. Below 0.26, two latent cells, stars and hearts look alike."""
SLOTS = {2: ((-0.5, 0.0), (0.5, 0.0)), 3: ((0.0, -0.48), (-0.5, 0.48), (0.5, 0.48))}
"""Where two things are in a row and three in a triangle, in reading order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One shape in the picture; ``turn`` is clockwise, in radians."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    turn: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture: its background and its shapes, with a prompt that is true of it."""

    prompt: str
    background: str
    things: tuple[Thing, ...]


def draw_scene(random: Random, across: float, down: float) -> Scene:
    """Draw a scene at random for a picture of this extent, with a prompt that names most of what it shows."""
    while True:
        background = random.choice(COLOURS)
        background_named = random.random() < 0.8
        if not background_named and random.random() < 0.7:
            background = "white"  # the default of a prompt that names none
        scene = random.choices((_one, _placed, _several, _related, _bare), (30, 12, 14, 39, 5))[0]
        subject, things = scene(random, across, down, background)
        if any(is_held_out(thing.kind, thing.colour, background) for thing in things):
            continue
        if scene is _bare or not background_named:
            return Scene(prompt=subject, background=background, things=tuple(things))
        prompt = _with_background(random, subject, background)
        return Scene(prompt=prompt, background=background, things=tuple(things))


def _with_background(random: Random, subject: str, background: str) -> str:
    article = "an" if background[0] in "aeiou" else "a"
    forms = (
        f"{subject} on {article} {background} background",
        f"{subject} with {article} {background} background",
        f"{subject} on {background}",
        f"{subject}, {background} background",
        f"{background} background, {subject}",
        f"{subject} {background} background",
    )
    return random.choices(forms, (60, 10, 8, 8, 7, 7))[0]


def _phrase(random: Random, kind: str, colour: str, size: str, *, count: str = "") -> str:
    """Name a shape, sometimes without its colour or its kind, and with or without an article."""
    said = [size, colour] if random.random() < 0.92 else [colour, size]
    if random.random() < 0.07:
        said.remove(colour)
    unnamed = random.random() < 0.03
    noun = ("shapes" if unnamed else PLURALS[kind]) if count else ("shape" if unnamed else kind)
    words = [word for word in (*said, noun) if word]
    if count:
        words.insert(0, count)
    elif random.random() < 0.75:
        words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    elif random.random() < 0.2:
        words.insert(0, "one")
    return " ".join(words)


def _size(random: Random) -> str:
    return random.choices(("", "small", "large"), (50, 25, 25))[0]


def _thing(kind: str, colour: str, radius: float, place: tuple[float, float]) -> Thing:
    x, y = place
    return Thing(kind=kind, colour=colour, x=x, y=y, radius=radius)


def _clamp(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def _other(random: Random, *taken: str) -> str:
    return random.choice([colour for colour in COLOURS if colour not in taken])


def _one(random: Random, across: float, down: float, background: str) -> tuple[str, list[Thing]]:
    kind, colour, size = random.choice(KINDS), _other(random, background), _size(random)
    radius = random.uniform(*ALONE[size])
    x = _clamp(random.uniform(-0.1, 0.1), EDGE * across - radius)
    y = _clamp(random.uniform(-0.1, 0.1), EDGE * down - radius)
    return _phrase(random, kind, colour, size), [_thing(kind, colour, radius, (x, y))]


def _placed(random: Random, across: float, down: float, background: str) -> tuple[str, list[Thing]]:
    kind, colour, size = random.choice(KINDS), _other(random, background), _size(random)
    radius = random.uniform(*SHARED[size])
    off, jitter = random.uniform(0.0, 0.14), random.uniform(-0.18, 0.18)
    place, x, y = random.choice(
        (
            ("left", radius + off - EDGE * across, jitter),
            ("right", EDGE * across - radius - off, jitter),
            ("top", jitter, radius + off - EDGE * down),
            ("bottom", jitter, EDGE * down - radius - off),
        )
    )
    preposition = "on" if place in ("left", "right") else "at"
    where = random.choices((f"{preposition} the {place}", place), (80, 20))[0]
    return f"{_phrase(random, kind, colour, size)} {where}", [_thing(kind, colour, radius, (x, y))]


def _slots(random: Random, number: int, *, upright: bool) -> list[tuple[float, float]]:
    """Return the centres of things in reading order, two of them in a column when ``upright``."""
    aside = random.uniform(-0.12, 0.12) if number == 2 else 0.0
    centres = []
    for main, cross in SLOTS[number]:
        x, y = main + random.uniform(-0.03, 0.03), cross + aside + random.uniform(-0.04, 0.04)
        centres.append((y, x) if upright and number == 2 else (x, y))
    return centres


def _several(random: Random, across: float, down: float, background: str) -> tuple[str, list[Thing]]:
    kind, colour, size = random.choice(KINDS), _other(random, background), _size(random)
    count, number = random.choices((("two", 2), ("three", 3)), (62, 38))[0]
    radius = random.uniform(*SHARED[size])
    things = [
        _thing(kind, colour, radius * random.uniform(0.95, 1.0), (x, y))
        for x, y in _slots(random, number, upright=down > 1.2 * across)
    ]
    return _phrase(random, kind, colour, size, count=count), things


def _related(random: Random, across: float, down: float, background: str) -> tuple[str, list[Thing]]:
    relation = random.choice(("above", "below", "left of", "right of", "and"))
    upright = relation in ("above", "below") or (relation == "and" and down > 1.2 * across)
    slots = _slots(random, 2, upright=upright)
    if relation in ("below", "right of"):
        slots.reverse()
    phrases: list[str] = []
    things: list[Thing] = []
    for index, (x, y) in enumerate(slots):
        kind, colour, size = random.choice(KINDS), _other(random, background), _size(random)
        if index and (kind, colour) == (things[0].kind, things[0].colour):
            colour = _other(random, background, colour)
        things.append(_thing(kind, colour, random.uniform(*SHARED[size]), (x, y)))
        phrases.append(_phrase(random, kind, colour, size))
    if relation in ("left of", "right of") and random.random() < 0.4:
        relation = f"to the {relation}"
    return f"{phrases[0]} {relation} {phrases[1]}", things


def _bare(random: Random, across: float, down: float, background: str) -> tuple[str, list[Thing]]:
    """Describe a picture by one property: negative prompts are often no more than that."""
    _, things = _one(random, across, down, background)
    kind, colour = things[0].kind, things[0].colour
    prompts = (colour, kind, f"a {colour} shape", f"{background} background", f"shape on {background}")
    return random.choice(prompts), things


def with_noise_word(random: Random, prompt: str) -> str:
    """Put a meaningless word into one prompt of twenty, so that the network learns to overlook such."""
    if random.random() > 0.05:
        return prompt
    words = prompt.split()
    letters = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 6)))
    words.insert(random.randint(0, len(words)), letters)
    return " ".join(words)
