"""The contract that says what a room may import."""

from __future__ import annotations

from pathlib import Path

import pytest
from grimp import ImportGraph

from make.paths import machine_paths
from make.rooms import OnlyContract


def _violations(imports: list[tuple[str, str]], **options: list[str]) -> list[str]:
    graph = ImportGraph()
    for importer, imported in imports:
        for module in (importer, imported):
            graph.add_module(module)
        graph.add_import(importer=importer, imported=imported, line_number=3, line_contents=f"import {imported}")
    check = OnlyContract("a room", {}, {"name": "a room", "type": "only", **options}).check(graph, verbose=False)
    violations: list[str] = check.metadata["violations"]
    assert check.kept == (not violations)
    return violations


def test_a_room_may_import_what_is_listed_and_the_standard_library() -> None:
    """Listed packages stand for all below them; `dataclasses` needs no listing."""
    imports = [
        ("house.core.job", "house.core.errors"),
        ("house.core.job", "pydantic"),
        ("house.core.job", "dataclasses"),
    ]
    assert not _violations(imports, source_modules=["house.core.job"], allowed_modules=["house.core", "pydantic"])


def test_an_import_that_is_not_listed_is_named_with_its_line() -> None:
    """Nobody has to think of a library in order to forbid it."""
    violations = _violations(
        [("house.core", "requests")], source_modules=["house.core"], allowed_modules=["house.core"]
    )
    assert violations == ["house.core must not import requests (l.3)"]


def test_a_name_that_only_begins_alike_is_another_module() -> None:
    """`house.core` does not stand for `house.corel`."""
    violations = _violations(
        [("house.core", "house.corel")], source_modules=["house.core"], allowed_modules=["house.core"]
    )
    assert violations == ["house.core must not import house.corel (l.3)"]


def test_a_part_of_the_standard_library_can_be_denied() -> None:
    """A pure room has no clock."""
    violations = _violations(
        [("house.core", "time")], source_modules=["house.core"], allowed_modules=["house.core"], denied_modules=["time"]
    )
    assert violations == ["house.core must not import time (l.3)"]


def test_a_room_inside_another_can_have_rules_of_its_own() -> None:
    """What is excepted is not looked at."""
    imports = [("house", "house.adapters"), ("house.adapters", "requests")]
    assert not _violations(
        imports, source_modules=["house"], except_modules=["house.adapters"], allowed_modules=["house"]
    )


def test_a_room_that_does_not_exist_is_a_mistake_unless_it_is_in_parentheses() -> None:
    """A misspelt room would otherwise be kept clean for ever."""
    imports = [("house.core", "time")]
    assert not _violations(imports, source_modules=["(house.cellar)"], allowed_modules=["house"])
    with pytest.raises(ValueError, match=r"house\.cellar does not exist"):
        _violations(imports, source_modules=["house.cellar"], allowed_modules=["house"])


def test_a_checkout_below_a_folder_of_its_own_gives_that_folder_away() -> None:
    """A folder that every machine has tells nothing, any other does."""
    assert machine_paths(Path("/home/ada/easeld"), Path("/home/ada")) == ["/home/ada/easeld", "/home/ada/"]
    assert "/projects/" in machine_paths(Path("/projects/easeld"), Path("/home/ada"))
