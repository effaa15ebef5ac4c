"""The catalogue as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.catalog import BUILTIN, WrongEntry, with_entries
from models.spec import Family, Range, Task

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_every_name_is_its_entrys() -> None:
    """What is found under a name calls itself that."""
    assert all(name == spec.name for name, spec in BUILTIN.items())


@pytest.mark.parametrize("spec", BUILTIN.values(), ids=BUILTIN.keys())
def test_every_entry_has_exactly_one_source_and_a_pinned_revision(spec: Any) -> None:
    """A moving branch would change what a seed gives."""
    assert [spec.repository, spec.path, spec.builtin].count(None) == 2
    assert spec.repository is None or len(spec.revision) == 40


def test_an_operator_adds_models_of_its_own() -> None:
    """By path or by repository, with the limits it wants; the family gives the rest."""
    catalog = with_entries(
        {
            "mine": {"family": "sdxl", "path": "/models/mine", "width": [512, 768], "max_batch": 2},
            "clip": {"family": "wan", "repository": "someone/clip", "revision": COMMIT},
            "null-video": {"family": "null", "task": "text2video", "step_seconds": 0.05},
        }
    )
    assert catalog["mine"].path == Path("/models/mine")
    assert catalog["mine"].task is Task.TEXT2IMAGE
    assert catalog["mine"].width == Range(minimum=512, maximum=768)
    assert (catalog["clip"].size_grid, catalog["clip"].frame_grid) == (16, 4)
    assert catalog["null-video"].family is Family.NULL
    assert catalog["null-video"].step_seconds == 0.05
    assert catalog["sdxl"] is BUILTIN["sdxl"]


def test_an_operators_entry_takes_the_place_of_one_of_the_same_name() -> None:
    """So that ``sdxl`` can be served from a local folder."""
    assert with_entries({"sdxl": {"family": "sdxl", "path": "/models/sdxl"}})["sdxl"].repository is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("sdxl", "models.x: must be a table"),
        ({"path": "/m"}, "models.x.family is missing: one of sdxl, wan, null"),
        ({"family": "flux", "path": "/m"}, "models.x.family: must be one of sdxl, wan, null"),
        ({"family": "sdxl", "paht": "/m"}, "models.x.paht is not known; known are family, "),
        ({"family": "sdxl"}, "exactly one of path, repository and builtin"),
        ({"family": "sdxl", "path": "/m", "builtin": "shapes"}, "exactly one of"),
        ({"family": "sdxl", "path": 3}, "models.x.path: must be a text"),
        ({"family": "sdxl", "repository": "a/b"}, "repository and revision belong together"),
        ({"family": "sdxl", "repository": "a/b", "revision": "main"}, "40 hexadecimal digits"),
        ({"family": "sdxl", "path": "/m", "dtype": "int8"}, "must be one of float16, bfloat16, float32"),
        ({"family": "sdxl", "path": "/m", "width": 512}, r"models.x.width: must be \[minimum, maximum\]"),
        ({"family": "sdxl", "path": "/m", "width": [512, 256]}, "models.x.width: the minimum must be"),
        ({"family": "sdxl", "path": "/m", "guidance": [True, 2]}, "models.x.guidance"),
        ({"family": "sdxl", "path": "/m", "max_batch": 0}, "models.x.max_batch: must be a whole number from 1"),
        ({"family": "sdxl", "path": "/m", "task": "text2video"}, "the family sdxl makes text2image"),
        ({"family": "null"}, "models.x.task is missing"),
        ({"family": "null", "task": "text2image", "path": "/m"}, "has no weights, so no path"),
        ({"family": "null", "task": "text2image", "step_seconds": -1}, "seconds from 0"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(entry: Any, message: str) -> None:
    """The message names the model and the field."""
    with pytest.raises(WrongEntry, match=message):
        with_entries({"x": entry})
