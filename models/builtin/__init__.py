"""The small models that easeld ships, each in a folder beside this file. No torch here."""

from __future__ import annotations

from pathlib import Path

from models.errors import ModelMissing

SHIPPED = Path(__file__).parent
NAMES = ("shapes", "motion")


def folder(name: str) -> Path:
    """Return the folder of the built-in model ``name``.

    Raises:
        ModelMissing: there is no built-in model of that name, or this installation lacks its files.
    """
    if name not in NAMES:
        raise ModelMissing(f"There is no built-in model {name!r}: {' and '.join(NAMES)} are built in")
    found = SHIPPED / name
    if not (found / "model_index.json").is_file():
        raise ModelMissing(f"Model {name} is not at {found}, where easeld has it: install easeld again")
    return found
