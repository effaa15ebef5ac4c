"""Where weights are found, made and missed."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from diffusers import StableDiffusionXLPipeline
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from models import builtin, weights
from models.catalog import BUILTIN
from models.errors import ModelMissing
from models.keeper import Keeper
from models.spec import Family, ModelSpec, Task

ANSWER: Any = SimpleNamespace(headers={}, request=None)  # what the hub's errors look at


def found(spec: ModelSpec, cache_dir: Path) -> Path:
    """Return the folder, without asking the hub."""
    return weights.folder(spec, cache_dir=cache_dir, local_files_only=True, on_load=lambda what: None)


def sdxl(**source: object) -> ModelSpec:
    """Return an operator's own entry with the given source."""
    return ModelSpec(name="mine", task=Task.TEXT2IMAGE, family=Family.SDXL, **source)  # type: ignore[arg-type]


def test_a_path_without_a_model_is_missing(tmp_path: Path) -> None:
    """The message names the model, the place, and what should be there."""
    with pytest.raises(ModelMissing, match=f"Model mine is not at {tmp_path}: .* model_index.json"):
        found(sdxl(path=tmp_path), tmp_path)


def test_a_repository_that_cannot_be_fetched_is_missing(tmp_path: Path) -> None:
    """The message has the command that mends it."""
    spec = sdxl(repository="easeld/there-is-no-such-model", revision="0" * 40)
    with pytest.raises(ModelMissing, match=r"`hf download easeld/there-is-no-such-model --revision 0{40}`"):
        found(spec, tmp_path)


def test_an_unknown_built_in_model_is_missing(tmp_path: Path) -> None:
    """The message names those that there are."""
    with pytest.raises(ModelMissing, match="'cubes': shapes and motion are built in"):
        found(sdxl(builtin="cubes"), tmp_path)


def test_an_installation_without_its_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the place and what to do."""
    monkeypatch.setattr(builtin, "SHIPPED", tmp_path)
    with pytest.raises(ModelMissing, match=f"shapes is not at {tmp_path}/shapes, .* install easeld again"):
        found(BUILTIN["shapes"], tmp_path)


@pytest.mark.parametrize("name", builtin.NAMES)
def test_shipped_weights_name_no_folder_of_whoever_made_them(name: str) -> None:
    """Diffusers writes down where a part was loaded from; a reader of the package has no such folder."""
    files = [*builtin.folder(name).rglob("*.json")]
    assert len(files) > 5
    for file in files:
        assert "_name_or_path" not in json.loads(file.read_text()), file


def test_parameters_are_counted_from_the_files_heads(cache_dir: Path) -> None:
    """What loading will take, known without loading; other variants do not count."""
    from diffusers import WanPipeline

    folder = found(BUILTIN["motion"], cache_dir)
    pipeline = WanPipeline.from_pretrained(folder)
    networks = (pipeline.text_encoder, pipeline.transformer, pipeline.vae)
    loaded = sum(parameter.numel() for network in networks for parameter in network.parameters())
    assert weights.parameters(folder, None) == pytest.approx(loaded, rel=0.2)
    assert weights.parameters(folder, "fp16") == 0


@pytest.mark.parametrize("damage", ["file gone", "head cut", "file cut", "other variant"])
def test_damaged_weights_are_missing(cache_dir: Path, tmp_path: Path, damage: str) -> None:
    """An interrupted copy is named as what it is, before any job fails over it."""
    folder = tmp_path / "copy"
    shutil.copytree(found(BUILTIN["motion"], cache_dir), folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    spec = replace(BUILTIN["motion"], builtin=None, path=folder)
    match damage:
        case "file gone":
            file.unlink()
        case "head cut":
            file.write_bytes(file.read_bytes()[:1000])
        case "file cut":
            file.write_bytes(file.read_bytes()[:-1000])
        case _:
            spec = replace(spec, variant="fp16")
    expected = f"in {file} are damaged" if damage == "head cut" else f"Model motion cannot be loaded from {folder}: "
    with pytest.raises(ModelMissing, match=expected):
        Keeper(cache_dir=cache_dir, device="cpu").resident(spec, lambda what: None)


def test_a_repository_in_the_hubs_cache_loads_without_the_network(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its pinned commit, through the same code as every other model."""
    snapshot = tmp_path / "models--easeld--motion" / "snapshots" / ("0" * 40)
    shutil.copytree(found(BUILTIN["motion"], cache_dir), snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = replace(BUILTIN["motion"], builtin=None, repository="easeld/motion", revision="0" * 40)
    assert found(spec, cache_dir) == snapshot
    kept = Keeper(cache_dir=cache_dir, device="cpu", local_files_only=True)
    assert kept.resident(spec, lambda what: None).spec is spec


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (GatedRepoError("403", response=ANSWER), "accept its licence on the hub"),
        (RepositoryNotFoundError("404", response=ANSWER), "check its name and revision"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
    ids=["gated", "not found", "disk full"],
)
def test_what_keeps_weights_from_being_fetched_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    """Each with what mends it."""

    def download(*arguments: object, **keywords: object) -> NoReturn:
        raise error

    monkeypatch.setattr(StableDiffusionXLPipeline, "download", download)
    with pytest.raises(ModelMissing, match=f"Model sdxl .* cannot be fetched: {remedy}"):
        found(BUILTIN["sdxl"], tmp_path)
