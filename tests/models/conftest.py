"""Real tiny pipelines, loaded once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.catalog import BUILTIN
from models.diffusion import DiffusionModel
from models.keeper import Keeper
from models.spec import ModelSpec
from tests.parts.random_weights import save

Load = Callable[[str], DiffusionModel]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads on busy cores are many times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workers' cache, and where random weights are made, once for the session."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def random_weights(cache_dir: Path) -> Callable[[str], Path]:
    """Return the folder of a model of the same class as a built-in one, with random weights."""

    def folder(name: str) -> Path:
        made = cache_dir / f"{name}-random"
        if not (made / "model_index.json").exists():
            save(name, made)
        return made

    return folder


@pytest.fixture(scope="session")
def random_spec(random_weights: Callable[[str], Path]) -> Callable[[str], ModelSpec]:
    """Return the entry of such a model."""

    def spec(name: str) -> ModelSpec:
        return replace(BUILTIN[name], builtin=None, path=random_weights(name))

    return spec


@pytest.fixture(scope="session")
def load(cache_dir: Path, random_spec: Callable[[str], ModelSpec]) -> Load:
    """Load a model with random weights anew, on the CPU."""

    def loaded(name: str) -> DiffusionModel:
        resident = Keeper(cache_dir=cache_dir, device="cpu").resident(random_spec(name), lambda what: None)
        assert isinstance(resident, DiffusionModel)
        return resident

    return loaded


@pytest.fixture(scope="session")
def image_model(load: Load) -> DiffusionModel:
    """A model of pictures."""
    return load("shapes")


@pytest.fixture(scope="session")
def video_model(load: Load) -> DiffusionModel:
    """A model of videos."""
    return load("motion")


@pytest.fixture(scope="session", params=["shapes", "motion"])
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    """Each of the two families in turn."""
    fixture = {"shapes": "image_model", "motion": "video_model"}[request.param]
    found = request.getfixturevalue(fixture)
    assert isinstance(found, DiffusionModel)
    return found
