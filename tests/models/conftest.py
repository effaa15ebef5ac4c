"""Real tiny pipelines, loaded once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import builtin
from models.catalog import BUILTIN
from models.diffusion import DiffusionModel
from models.keeper import Keeper

Load = Callable[[str], DiffusionModel]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads on busy cores are many times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the built-in weights are made, once for the session."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def random_weights(cache_dir: Path) -> Callable[[str], Path]:
    """Return the folder of a built-in model's random weights, whether or not trained ones are shipped."""

    def folder(name: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builtin, "SHIPPED", cache_dir / "nothing")
            return builtin.folder(name, cache_dir=cache_dir)

    return folder


@pytest.fixture(scope="session")
def load(cache_dir: Path, random_weights: Callable[[str], Path]) -> Load:
    """Load a built-in model anew, on the CPU, with random weights."""

    def loaded(name: str) -> DiffusionModel:
        spec = replace(BUILTIN[name], builtin=None, path=random_weights(name))
        resident = Keeper(cache_dir=cache_dir, device="cpu").resident(spec, lambda what: None)
        assert isinstance(resident, DiffusionModel)
        return resident

    return loaded


@pytest.fixture(scope="session")
def image_model(load: Load) -> DiffusionModel:
    """The built-in model of pictures."""
    return load("shapes")


@pytest.fixture(scope="session")
def video_model(load: Load) -> DiffusionModel:
    """The built-in model of videos."""
    return load("motion")


@pytest.fixture(scope="session", params=["shapes", "motion"])
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    """Each of the two families in turn."""
    fixture = {"shapes": "image_model", "motion": "video_model"}[request.param]
    found = request.getfixturevalue(fixture)
    assert isinstance(found, DiffusionModel)
    return found
