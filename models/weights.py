"""Where a model's weights are: every source comes down to one local folder in diffusers' layout. No torch here."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from models import builtin
from models.errors import ModelMissing
from models.spec import Family

if TYPE_CHECKING:
    from models.spec import ModelSpec, OnLoad


def folder(spec: ModelSpec, *, cache_dir: Path, local_files_only: bool, on_load: OnLoad) -> Path:
    """Return the folder of the model's weights, fetching them first where they are not there yet.

    Weights from the hub lie in the hub's own cache (``HF_HOME``), which other programs share; the hub's client locks
    and renames, so that several daemons may fetch at once. ``cache_dir`` holds our notes of what is whole.

    Raises:
        ModelMissing: they are not to be had, with what to do.
    """
    if spec.builtin is not None:
        return builtin.folder(spec.builtin)
    if spec.path is not None:
        if not (spec.path / "model_index.json").is_file():
            raise ModelMissing(
                f"Model {spec.name} is not at {spec.path}: a folder in diffusers' layout, with model_index.json, "
                "is expected there"
            )
        return spec.path
    local_files_only = local_files_only or is_pulled(spec, cache_dir=cache_dir)
    return _from_hub(spec, local_files_only=local_files_only, on_load=on_load)


def remember(spec: ModelSpec, folder: Path, *, cache_dir: Path) -> None:
    """Note that the weights in ``folder`` are whole, so that the hub is not asked about them again."""
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    note = _note(spec, cache_dir)
    note.parent.mkdir(parents=True, exist_ok=True)
    begun = note.with_suffix(f".{os.getpid()}")
    begun.write_text(json.dumps({"folder": str(folder), "sizes": sizes}), encoding="utf-8")
    begun.replace(note)


def forget(spec: ModelSpec, *, cache_dir: Path) -> None:
    """Take the note back."""
    _note(spec, cache_dir).unlink(missing_ok=True)


def is_pulled(spec: ModelSpec, *, cache_dir: Path) -> bool:
    """Whether the weights were noted as whole, and each of their files is there still."""
    try:
        noted = json.loads(_note(spec, cache_dir).read_text(encoding="utf-8"))
        folder = Path(noted["folder"])
        return all((folder / name).stat().st_size == size for name, size in noted["sizes"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _note(spec: ModelSpec, cache_dir: Path) -> Path:
    name = f"{spec.repository}@{spec.revision}.{spec.variant or 'any'}".replace("/", "--")
    return cache_dir / "pulled" / f"{name}.json"


def _from_hub(spec: ModelSpec, *, local_files_only: bool, on_load: OnLoad) -> Path:
    # Which of a repository's files a pipeline needs, for a variant and without the older formats, diffusers knows.
    from diffusers import StableDiffusionXLPipeline, WanPipeline
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    pipeline_class = {Family.SDXL: StableDiffusionXLPipeline, Family.WAN: WanPipeline}[spec.family]
    on_load(f"fetching {spec.repository}, unless it is in the cache")
    try:
        return Path(
            pipeline_class.download(
                spec.repository,
                revision=spec.revision,
                variant=spec.variant,
                use_safetensors=True,
                local_files_only=local_files_only,
            )
        )
    except GatedRepoError as error:
        raise _unfetched(spec, "accept its licence on the hub and set HF_TOKEN") from error
    except HfHubHTTPError as error:
        raise _unfetched(spec, "check its name and revision, and HF_TOKEN if it is private") from error
    except (OSError, ValueError) as error:  # what comes of a missing cache, a dead network or a full disk
        raise _unfetched(spec, getattr(error, "strerror", None) or "check the network") from error


def _unfetched(spec: ModelSpec, remedy: str) -> ModelMissing:
    return ModelMissing(
        f"Model {spec.name} is not in the cache and cannot be fetched: {remedy}, or fetch it beforehand with "
        f"`hf download {spec.repository} --revision {spec.revision}`"
    )


def parameters(folder: Path, variant: str | None) -> int:
    """Return how many numbers the model's weights hold, from the heads of its safetensors files.

    The head is a little-endian 64-bit length and that many bytes of JSON
    (https://huggingface.co/docs/safetensors/index#format).

    Raises:
        ModelMissing: a head cannot be read.
    """
    total = 0
    for file in folder.rglob("*.safetensors"):
        if variant is not None and f".{variant}." not in file.name:
            continue
        with file.open("rb") as opened:
            try:
                head = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            except (ValueError, OverflowError) as error:
                raise ModelMissing(f"The weights in {file} are damaged: remove the model and fetch it again") from error
        total += sum(math.prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")
    return total
