"""Fetches weights ahead of need: one process at a time, checked against the hub's digests, and then never again.

The hub's own client resumes what was cut off, and renames each file into place when it is whole. No torch here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from models import weights
from models.errors import ModelMissing

if TYPE_CHECKING:
    from models.spec import ModelSpec, OnLoad

SPARE = 2**30  # bytes that stay free on the disk
CHUNK = 2**22  # bytes


def pull(spec: ModelSpec, *, cache_dir: Path, say: OnLoad) -> Path:
    """Return the folder of the model's weights, whole and checked; other processes that pull wait meanwhile.

    Raises:
        ModelMissing: they are not to be had, with what to do.
    """
    if spec.repository is None:
        return weights.folder(spec, cache_dir=cache_dir, local_files_only=False, on_load=say)
    from filelock import FileLock
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    try:
        hub.mkdir(parents=True, exist_ok=True)
        lock = FileLock(hub / ".easeld.lock")
        say("waiting for another process that fetches" if _is_held(lock) else f"looking for {spec.repository}")
        with lock:
            return _pulled(spec, hub=hub, cache_dir=cache_dir, say=say)
    except OSError as error:
        raise ModelMissing(f"Model {spec.name} cannot be fetched into {hub}: {error.strerror or error}") from error


def _is_held(lock: object) -> bool:
    from filelock import FileLock, Timeout

    assert isinstance(lock, FileLock)  # noqa: S101 - narrows the type of a library that is imported late
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _pulled(spec: ModelSpec, *, hub: Path, cache_dir: Path, say: OnLoad) -> Path:
    for _ in range(2):  # what turns out to be damaged is fetched once more
        if not weights.is_pulled(spec, cache_dir=cache_dir):
            _check_disk(spec, hub)
        folder = weights.folder(spec, cache_dir=cache_dir, local_files_only=False, on_load=say)
        say("checking every file")
        bad = damaged(folder)
        if not bad:
            weights.remember(spec, folder, cache_dir=cache_dir)
            return folder
        weights.forget(spec, cache_dir=cache_dir)
        for file in bad:
            say(f"{file.relative_to(folder)} is damaged; it is fetched again")
            file.resolve().unlink()
            file.unlink(missing_ok=True)
    raise ModelMissing(f"Model {spec.name} arrives damaged, twice now: check the disk, and what lies before the hub")


def damaged(folder: Path) -> list[Path]:
    """Return the files of a snapshot whose content is not what their names in the hub's cache say.

    A snapshot consists of links to files that are named by their digest: SHA-256 for large ones, and git's SHA-1 of a
    blob for the rest (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
    """
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not _is_whole(file.resolve())]


def _is_whole(blob: Path) -> bool:
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return True  # nothing to compare it with
    with blob.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == blob.name


def _check_disk(spec: ModelSpec, hub: Path) -> None:
    """Raise ModelMissing where the disk is too small for the weights that are not there yet."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.file_download import repo_folder_name

    repository, revision = str(spec.repository), str(spec.revision)
    try:
        siblings = HfApi().model_info(repository, revision=revision, files_metadata=True).siblings or []
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return  # fetching will say it better
    there = hub / repo_folder_name(repo_id=repository, repo_type="model") / "snapshots" / revision
    variants = [file for file in siblings if spec.variant and f".{spec.variant}." in file.rfilename]
    needed = sum(
        file.size or 0
        for file in (variants or siblings)
        if re.search(r"/.*\.safetensors$", file.rfilename) and not (there / file.rfilename).exists()
    )
    free = shutil.disk_usage(hub).free
    if free < needed + SPARE:
        raise ModelMissing(
            f"Model {spec.name} needs {needed / 1e9:.1f} GB in {hub}, where {free / 1e9:.1f} GB are free: free some, "
            "or let HF_HOME name a folder on a larger disk"
        )
