"""``python -m models.builtin.check``: do the built-in models draw what prompts say?

It draws held-out prompts, whose combinations of shape, colour and background training never showed, through the code
that serves every model, reads pictures and clips back, and prints one line. The exit status is 1 where the line is too
low.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from models.builtin.language import COLOURS, FRAMES, KINDS, MOTIONS, PLACES, PLURALS, ROUND, is_held_out
from models.builtin.moving import motion_of
from models.builtin.reading import Reading, read_picture
from models.catalog import BUILTIN
from models.keeper import Keeper
from models.spec import Call, Item, ModelSpec

if TYPE_CHECKING:
    from models.spec import Frames

LEAST = {"colour": 0.95, "background": 0.95, "shape": 0.85, "motion": 0.85}  # shares of right ones that pass
OF_PICTURES = ("colour", "background", "shape")
BATCH = 8
CLIPS = 28  # four of each motion
CLIP_GUIDANCE = 5.0  # the contract's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A prompt with what its picture should show."""

    prompt: str
    seed: int
    background: str
    things: tuple[tuple[str, str], ...]  # kind and colour; of a relation the first is the more to the left or the top
    motion: str = ""  # of a clip's one thing
    place: str = ""  # of a single thing, or the direction in which ``things`` are in order: "right" or "bottom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What of a picture is right."""

    colour: bool
    background: bool
    shape: bool
    place: bool


def cases(number: int) -> list[Case]:
    """Return held-out prompts, always the same: of ten, six of one thing, one placed, two of several, one of a pair."""
    random = Random("held out")
    makers = (_single, _single, _single, _single, _single, _single, _placed, _counted, _counted, _paired)
    return [makers[index % len(makers)](random, 1_000_000 + index) for index in range(number)]


def clip_cases(number: int) -> list[Case]:
    """Return held-out prompts of clips, always the same, of all motions in turn."""
    random = Random("held out clips")
    found: list[Case] = []
    while len(found) < number:
        motion = MOTIONS[len(found) % len(MOTIONS)]
        kind, colour, ground = _combination(random)
        if motion == "spinning" and kind in ROUND:
            continue
        prompt = f"{_named(colour, kind)} {motion} on {_named(ground)} background"
        case = Case(prompt=prompt, seed=2_000_000 + len(found), background=ground, things=((kind, colour),))
        found.append(replace(case, motion=motion))
    return found


def _combination(random: Random, background: str | None = None) -> tuple[str, str, str]:
    while True:
        kind, colour, ground = random.choice(KINDS), random.choice(COLOURS), background or random.choice(COLOURS)
        if colour != ground and is_held_out(kind, colour, ground):
            return kind, colour, ground


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _named(*words: str) -> str:
    said = " ".join(word for word in words if word)
    return f"{_article(said)} {said}"


def _single(random: Random, seed: int) -> Case:
    kind, colour, ground = _combination(random)
    subject = _named(random.choice(("", "", "small", "large")), colour, kind)
    return _case(subject, seed, ground, [(kind, colour)])


def _placed(random: Random, seed: int) -> Case:
    kind, colour, ground = _combination(random)
    place = random.choice(PLACES)
    where = f"on the {place}" if place in ("left", "right") else f"at the {place}"
    return _case(f"{_named(colour, kind)} {where}", seed, ground, [(kind, colour)], place)


def _counted(random: Random, seed: int) -> Case:
    kind, colour, ground = _combination(random)
    count, number = random.choice((("two", 2), ("two", 2), ("three", 3)))
    return _case(f"{count} {colour} {PLURALS[kind]}", seed, ground, [(kind, colour)] * number)


def _paired(random: Random, seed: int) -> Case:
    kind, colour, ground = _combination(random)
    other = _combination(random, ground)[:2]
    while other == (kind, colour):
        other = _combination(random, ground)[:2]
    relation = random.choice(("above", "below", "left of", "right of"))
    subject = f"{_named(colour, kind)} {relation} {_named(other[1], other[0])}"
    things = [(kind, colour), other]
    if relation in ("below", "right of"):
        things.reverse()
    return _case(subject, seed, ground, things, "bottom" if relation in ("above", "below") else "right")


def _case(subject: str, seed: int, ground: str, things: Iterable[tuple[str, str]], place: str = "") -> Case:
    prompt = f"{subject} on {_named(ground)} background"
    return Case(prompt=prompt, seed=seed, background=ground, things=tuple(things), place=place)


def judge(case: Case, reading: Reading) -> Verdict:
    """Compare what a picture shows with what it should show; one region too many or too few is wrong."""
    regions = reading.regions
    return Verdict(
        background=reading.background == case.background,
        colour=Counter(region.colour for region in regions) == Counter(colour for _, colour in case.things),
        shape=Counter(region.kind for region in regions) == Counter(kind for kind, _ in case.things),
        place=_is_in_place(case, reading),
    )


def is_right_clip(case: Case, clip: Frames) -> bool:
    """Say whether a clip, (frames, height, width, 3), begins with what it should show and has the motion."""
    first = judge(case, read_picture(clip[0]))
    return motion_of(clip) == case.motion and first.colour and first.background and first.shape


def _is_in_place(case: Case, reading: Reading) -> bool:
    if not case.place:
        return True
    if len(reading.regions) != len(case.things):
        return False
    if len(case.things) == 1:
        region = reading.regions[0]
        return {"left": -region.x, "right": region.x, "top": -region.y, "bottom": region.y}[case.place] > 0.2
    in_order = sorted(reading.regions, key=lambda region: region.x if case.place == "right" else region.y)
    return [region.colour for region in in_order] == [colour for _, colour in case.things]


def draw(spec: ModelSpec, items: Sequence[Item], *, side: int, steps: int, frames: int = 1) -> list[Frames]:
    """Draw the items through the keeper, as the daemon does, in batches."""
    pictures: list[Frames] = []
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(cache_dir=Path(folder))
        for first in range(0, len(items), BATCH):
            batch = tuple(items[first : first + BATCH])
            call = Call(width=side, height=side, steps=steps, frames=frames, items=batch)
            pictures.extend(keeper.resident(spec, lambda _: None).generate(call, lambda *_: None))
        keeper.close()
    return pictures


def main() -> int:
    """Draw, read, print one line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m models.builtin.check", description=__doc__)
    parser.add_argument("--only", choices=("pictures", "clips"))
    parser.add_argument("--folder", type=Path, help="weights of pictures, in diffusers' layout, not the shipped ones")
    parser.add_argument("--clips-folder", type=Path, help="the same of clips")
    parser.add_argument("--number", type=int, default=200, help="of prompts of pictures")
    parser.add_argument("--side", type=int, default=256, help="of the pictures, in pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5, help="of pictures")
    parser.add_argument("--verbose", action="store_true", help="name each wrong picture and clip")
    arguments = parser.parse_args()
    told: list[str] = []
    shares = {} if arguments.only == "clips" else _pictures(arguments, told)
    shares |= {} if arguments.only == "pictures" else _clips(arguments, told)
    if arguments.verbose:
        sys.stdout.writelines(f"{line}\n" for line in told)
    said = " ".join(f"{name}={share:.0%}" for name, share in shares.items())
    sys.stdout.write(f"builtin: {said}\n")
    return 0 if all(shares[name] >= least for name, least in LEAST.items() if name in shares) else 1


def _pictures(arguments: argparse.Namespace, told: list[str]) -> dict[str, float]:
    wanted = cases(arguments.number)
    pictures = draw(
        _weights("shapes", arguments.folder),
        _items(wanted, arguments.guidance),
        side=arguments.side,
        steps=arguments.steps,
    )
    readings = [read_picture(picture) for picture in pictures]
    verdicts = [judge(case, reading) for case, reading in zip(wanted, readings, strict=True)]
    for case, reading, verdict in zip(wanted, readings, verdicts, strict=True):
        if not (verdict.colour and verdict.background and verdict.shape and verdict.place):
            seen = ", ".join(f"{region.colour} {region.kind}" for region in reading.regions)
            told.append(f"{case.prompt} (seed {case.seed}): {seen or 'nothing'} on {reading.background}")
    told.append(f"place={sum(verdict.place for verdict in verdicts) / len(verdicts):.0%}")
    return {name: sum(getattr(verdict, name) for verdict in verdicts) / len(verdicts) for name in OF_PICTURES}


def _clips(arguments: argparse.Namespace, told: list[str]) -> dict[str, float]:
    wanted = clip_cases(CLIPS)
    spec = _weights("motion", arguments.clips_folder)
    clips = draw(spec, _items(wanted, CLIP_GUIDANCE), side=256, steps=arguments.steps, frames=FRAMES)
    right = [is_right_clip(case, clip) for case, clip in zip(wanted, clips, strict=True)]
    told += [
        f"{case.prompt} (seed {case.seed}): {motion_of(clip)}"
        for case, clip, is_right in zip(wanted, clips, right, strict=True)
        if not is_right
    ]
    return {"motion": sum(right) / len(right)}


def _weights(name: str, folder: Path | None) -> ModelSpec:
    return BUILTIN[name] if folder is None else replace(BUILTIN[name], builtin=None, path=folder)


def _items(wanted: Iterable[Case], guidance: float) -> list[Item]:
    return [Item(prompt=case.prompt, negative_prompt="", seed=case.seed, guidance_scale=guidance) for case in wanted]


if __name__ == "__main__":
    raise SystemExit(main())
