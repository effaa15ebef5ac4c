"""The small models that need no download. No torch here.

A model that is shipped has its folder beside this file. One that is not gets random weights on first use: real
pipelines of the real classes, which load, run and fail like the large ones and show nothing but coloured noise.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from models.errors import ModelMissing

SHIPPED = Path(__file__).parent
NAMES = ("shapes", "motion")
_RECIPE = 1  # counted up whenever models.builtin.random_weights makes something else


def folder(name: str, *, cache_dir: Path) -> Path:
    """Return the folder of the built-in model ``name``, made under ``cache_dir`` first where it is not shipped.

    Several processes may ask at once: one makes it, under a lock, and the others wait; the folder appears complete.

    Raises:
        ModelMissing: there is no built-in model of that name, or the cache cannot be written.
    """
    shipped = SHIPPED / name
    if (shipped / "model_index.json").is_file():
        return shipped
    if name not in NAMES:
        raise ModelMissing(f"There is no built-in model {name!r}: {' and '.join(NAMES)} are built in")
    target = cache_dir / f"{name}-random-{_RECIPE}"
    if target.is_dir():
        return target
    try:
        return _made(name, target)
    except OSError as error:
        raise ModelMissing(f"Model {name} cannot be made in {cache_dir}: {error.strerror or error}") from error


def _made(name: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            from models.builtin import random_weights

            partial = target.parent / f".{target.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # left by a process that died here
            random_weights.save(name, partial)
            partial.rename(target)
    return target
