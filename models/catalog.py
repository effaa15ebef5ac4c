"""The catalogue: every model that a daemon can serve, as data. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.spec import Family, ModelSpec, Range, Task

_WAN_SIDE = Range(minimum=256, maximum=832)  # pixels: trained at 832x480 and 480x832, unstable above

BUILTIN = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            # A few megabytes each, so the demo and the tests run anywhere; float32, where precision costs nothing.
            ModelSpec(
                name="shapes",
                task=Task.TEXT2IMAGE,
                family=Family.SDXL,
                builtin="shapes",
                dtype="float32",
                size_grid=16,
            ),
            ModelSpec(
                name="motion",
                task=Task.TEXT2VIDEO,
                family=Family.WAN,
                builtin="motion",
                dtype="float32",
                size_grid=16,
                frame_grid=4,
                width=_WAN_SIDE,
                height=_WAN_SIDE,
                max_batch=4,
            ),
            ModelSpec(
                name="sdxl",
                task=Task.TEXT2IMAGE,
                family=Family.SDXL,
                repository="stabilityai/stable-diffusion-xl-base-1.0",
                revision="462165984030d82259a11f4367a4eed129e94a7b",
                variant="fp16",
                dtype="float16",  # as its weights are published; its VAE, which overflows in it, is kept in float32
                max_batch=4,
            ),
            ModelSpec(
                name="wan-2.1-1.3b",
                task=Task.TEXT2VIDEO,
                family=Family.WAN,
                repository="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
                revision="0fad780a534b6463e45facd96134c9f345acfa5b",
                dtype="bfloat16",
                size_grid=16,
                frame_grid=4,
                width=_WAN_SIDE,
                height=_WAN_SIDE,
                max_batch=1,  # 81 frames at 832x480 are 32,760 tokens: one video fills a card
            ),
        )
    }
)


class WrongEntry(ValueError):
    """An operator's catalogue entry cannot be used."""


_OF_FAMILY: Mapping[Family, Mapping[str, Any]] = {
    Family.SDXL: {"task": Task.TEXT2IMAGE, "dtype": "float16"},
    Family.WAN: {"task": Task.TEXT2VIDEO, "size_grid": 16, "frame_grid": 4, "width": _WAN_SIDE, "height": _WAN_SIDE},
    Family.NULL: {},
}


def with_entries(entries: Mapping[str, Any]) -> Mapping[str, ModelSpec]:
    """Return the built-in catalogue with an operator's own entries added to it, or put over those of the same name.

    ``entries`` is what a TOML file's ``[models.NAME]`` tables give: ``family`` and either ``path`` or ``repository``
    with ``revision``, and any of ``variant``, ``dtype``, ``width``, ``height`` and ``guidance`` (each
    ``[minimum, maximum]``) and ``max_batch``. The null family takes ``task`` and ``step_seconds`` and no weights.

    Raises:
        WrongEntry: an entry cannot be used; the message names it and the field.
    """
    return MappingProxyType(dict(BUILTIN) | {name: _entry(name, table) for name, table in entries.items()})


def _entry(name: str, table: object) -> ModelSpec:
    if not isinstance(table, Mapping):
        raise WrongEntry(f"models.{name}: must be a table of fields, such as family and path")
    values = {field: _read(f"models.{name}.{field}", field, value) for field, value in table.items()}
    if "family" not in values:
        raise WrongEntry(f"models.{name}.family is missing: one of {', '.join(Family)}")
    values = {"name": name} | dict(_OF_FAMILY[values["family"]]) | values
    if "task" not in values:
        raise WrongEntry(f"models.{name}.task is missing: one of {', '.join(Task)}")
    spec = ModelSpec(**values)
    _check(spec)
    return spec


def _read(where: str, field: str, value: object) -> Any:
    if field not in _READERS:
        raise WrongEntry(f"{where} is not known; known are {', '.join(_READERS)}")
    return _READERS[field](where, value)


def _range(where: str, value: Any) -> Range:
    if not (isinstance(value, list) and len(value) == 2 and all(_is_number(end) for end in value)):
        raise WrongEntry(f"{where}: must be [minimum, maximum]")
    if not 0 < value[0] <= value[1]:
        raise WrongEntry(f"{where}: the minimum must be positive and not above the maximum")
    return Range(minimum=value[0], maximum=value[1])


def _count(where: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongEntry(f"{where}: must be a whole number from 1")
    return value


def _seconds(where: str, value: Any) -> float:
    if not _is_number(value) or value < 0:
        raise WrongEntry(f"{where}: must be a number of seconds from 0")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise WrongEntry(f"{where}: must be a text")
    return value


def _path(where: str, value: Any) -> Path:
    return Path(_text(where, value)).expanduser()


def _one_of(choices: Iterable[str]) -> Callable[[str, Any], str]:
    def read(where: str, value: Any) -> str:
        for choice in choices:
            if value == choice:
                return choice
        raise WrongEntry(f"{where}: must be one of {', '.join(choices)}")

    return read


def _commit(where: str, value: Any) -> str:
    """A branch or a tag may move, and with it the picture that a seed gives."""
    if not re.fullmatch(r"[0-9a-f]{40}", _text(where, value)):
        raise WrongEntry(f"{where}: must be a commit of the repository, 40 hexadecimal digits")
    return str(value)


# What an entry may say, and how each field is read. The grids are the family's and no choice.
_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "family": _one_of(Family),
    "task": _one_of(Task),
    "path": _path,
    "repository": _text,
    "revision": _commit,
    "builtin": _text,
    "variant": _text,
    "dtype": _one_of(("float16", "bfloat16", "float32")),
    "width": _range,
    "height": _range,
    "guidance": _range,
    "max_batch": _count,
    "step_seconds": _seconds,
}


def _check(spec: ModelSpec) -> None:
    """Raise WrongEntry where the fields, each legal, do not belong together."""
    where = f"models.{spec.name}"
    sources = [name for name in ("path", "repository", "builtin") if getattr(spec, name) is not None]
    if spec.family is Family.NULL:
        if sources:
            raise WrongEntry(f"{where}: the null family has no weights, so no {sources[0]}")
        return
    if len(sources) != 1:
        raise WrongEntry(f"{where}: must have exactly one of path, repository and builtin")
    if (spec.repository is None) != (spec.revision is None):
        raise WrongEntry(f"{where}: repository and revision belong together")
    if spec.task is not _OF_FAMILY[spec.family]["task"]:
        raise WrongEntry(f"{where}.task: the family {spec.family} makes {_OF_FAMILY[spec.family]['task']}")
