"""The settings of speed on their way to the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from daemon import compose
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
        )
        raise Reached

    monkeypatch.setattr(compose, "Keeper", keeper)
    for name, value in {
        "COMPILE": "regional",
        "ATTENTION": "_native_cudnn",
        "CHANNELS_LAST": "false",
        "PROMPT_CACHE": "3",
        "PARALLEL_LOADING": "false",
    }.items():
        monkeypatch.setenv(f"EASELD_{name}", value)
    nothing: Any = None
    with pytest.raises(Reached):
        compose.service(load(data=tmp_path), nothing, nothing, shutdown=Shutdown())
