"""Fetching weights ahead of need, from a hub on loopback."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models import fetch, weights
from models.catalog import BUILTIN
from models.errors import ModelMissing
from models.spec import ModelSpec
from tests.parts.hub import Hub, hub_of

LARGEST = "text_encoder/model.safetensors"
Pull = Callable[[], Path]


@pytest.fixture
def hub(random_weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has a small video model, and a cache of its own."""
    from huggingface_hub import constants, hf_api

    with hub_of(random_weights("motion")) as hub:
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "ENDPOINT": hub.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)  # read when it was imported
        yield hub


@pytest.fixture
def spec(hub: Hub) -> ModelSpec:
    """The model as an operator's own entry would name it."""
    return replace(BUILTIN["motion"], name="mine", builtin=None, repository=hub.repository, revision=hub.commit)


@pytest.fixture
def said() -> list[str]:
    """What a person was told meanwhile."""
    return []


@pytest.fixture
def pull(spec: ModelSpec, tmp_path: Path, said: list[str]) -> Pull:
    """Fetch the model."""
    return lambda: fetch.pull(spec, cache_dir=tmp_path / "cache", say=said.append)


def test_what_is_pulled_is_whole_and_asks_no_network_again(
    hub: Hub, spec: ModelSpec, pull: Pull, tmp_path: Path
) -> None:
    """Neither the next pull nor a worker: that is what it is for."""
    folder = pull()
    for name in ("model_index.json", LARGEST):
        assert (folder / name).read_bytes() == hub.files[name]
    hub.asked.clear()
    assert pull() == folder
    found = weights.folder(spec, cache_dir=tmp_path / "cache", local_files_only=False, on_load=lambda _: None)
    assert found == folder
    assert hub.asked == []


def test_what_was_cut_off_goes_on_where_it_stopped(hub: Hub, pull: Pull) -> None:
    """Nobody fetches seven gigabytes twice."""
    hub.files[LARGEST] = os.urandom(25_000_000)  # more than the hub's client holds in memory
    hub.cut[LARGEST] = 20_000_000
    try:
        folder = pull()
    except ModelMissing:  # the hub's client may go on by itself, or give up
        folder = pull()
    assert hub.resumed[LARGEST] > 0
    assert (folder / LARGEST).read_bytes() == hub.files[LARGEST]


def test_a_damaged_file_is_noticed_and_fetched_again(hub: Hub, pull: Pull, said: list[str]) -> None:
    """Its size is right, so only its digest tells."""
    hub.damage.append(LARGEST)
    folder = pull()
    assert f"{LARGEST} is damaged; it is fetched again" in said
    assert (folder / LARGEST).read_bytes() == hub.files[LARGEST]


def test_what_arrives_damaged_every_time_is_no_model(hub: Hub, pull: Pull, spec: ModelSpec, tmp_path: Path) -> None:
    """Nothing remembers it as whole."""
    hub.damage += [LARGEST] * 2
    with pytest.raises(ModelMissing, match="arrives damaged, twice now"):
        pull()
    assert not weights.is_pulled(spec, cache_dir=tmp_path / "cache")


def test_a_file_that_was_lost_since_is_fetched_again(hub: Hub, pull: Pull) -> None:
    """A note is no proof."""
    folder = pull()
    (folder / LARGEST).resolve().unlink()
    assert pull() == folder
    assert (folder / LARGEST).read_bytes() == hub.files[LARGEST]


def test_two_that_pull_at_once_fetch_once(hub: Hub, pull: Pull) -> None:
    """The second waits for the first and finds everything there."""
    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(hub.fetched.values()) == {1}


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(hub: Hub, pull: Pull) -> None:
    """With how much is needed, and what to do."""
    hub.claimed[LARGEST] = 10**15
    with pytest.raises(ModelMissing, match=r"Model mine needs 1000000\.\d GB in .* free some"):
        pull()
    assert not hub.fetched


def test_a_folder_that_cannot_be_written_is_told(hub: Hub, pull: Pull, tmp_path: Path) -> None:
    """With the folder and the reason."""
    (tmp_path / "hub").write_text("a file")
    with pytest.raises(ModelMissing, match=r"cannot be fetched into .*: File exists"):
        pull()


def test_what_needs_no_fetching_is_just_there(cache_dir: Path) -> None:
    """Built-in weights, for one."""
    folder = fetch.pull(BUILTIN["motion"], cache_dir=cache_dir, say=lambda _: None)
    assert (folder / "model_index.json").is_file()
