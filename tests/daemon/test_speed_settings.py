"""The settings of speed on their way to the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from daemon import compose, serving
from daemon.core.errors import WrongSettings
from daemon.settings import load
from daemon.shutdown import Shutdown
from models.spec import Attention, Compile, Speed


def test_attention_that_nobody_knows_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line that names those that there are."""
    monkeypatch.setenv("EASELD_ATTENTION", "fastest")
    with pytest.raises(WrongSettings, match=r"^EASELD_ATTENTION: .*'native'.*'_native_cudnn'.*'flash'"):
        load()


def test_the_settings_reach_the_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of them."""

    class Reached(Exception):
        """The keeper was asked for."""

    def keeper(*, speed: Speed, **_: object) -> NoReturn:
        assert speed == Speed(
            compile=Compile.REGIONAL,
            attention=Attention.CUDNN,
            channels_last=False,
            prompts_kept=3,
            parallel_loading=False,
            step_cache=0.1,
        )
        raise Reached

    monkeypatch.setattr(compose, "Keeper", keeper)
    for name, value in {
        "COMPILE": "regional",
        "ATTENTION": "_native_cudnn",
        "CHANNELS_LAST": "false",
        "PROMPT_CACHE": "3",
        "PARALLEL_LOADING": "false",
        "STEP_CACHE": "0.1",
    }.items():
        monkeypatch.setenv(f"EASELD_{name}", value)
    nothing: Any = None
    with pytest.raises(Reached):
        compose.service(load(data=tmp_path), nothing, nothing, shutdown=Shutdown())


def test_where_steps_are_cached_a_video_has_a_call_of_its_own() -> None:
    """The cache looks at a whole call, and what a seed shows must not depend on its neighbours. Pictures have none."""
    plain, cached = (serving.served(load(step_cache=share)) for share in (0.0, 0.1))
    assert {name: spec.max_batch for name, spec in plain.items()} == {"shapes": 8, "motion": 4}
    assert {name: spec.max_batch for name, spec in cached.items()} == {"shapes": 8, "motion": 1}
