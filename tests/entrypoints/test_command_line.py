from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.entrypoints.conftest import Easeld, QuickEaseld

COMMANDS = ["up", "worker", "submit", "jobs", "show", "cancel", "retry", "models", "version"]


def test_help_names_every_command(quick: QuickEaseld) -> None:
    """Who types --help sees what there is."""
    shown = quick("--help")
    assert shown.status == 0
    assert [name for name in COMMANDS if not re.search(rf"^  {name} ", shown.out, re.MULTILINE)] == []


@pytest.mark.parametrize("command", ["submit", "jobs", "show", "cancel", "retry", "models", "up", "worker"])
def test_the_help_of_a_command_has_examples(command: str, quick: QuickEaseld) -> None:
    """The help of each command ends with lines that can be copied as they are."""
    shown = quick(command, "--help")
    assert shown.status == 0
    assert re.search(rf"Examples:\n  .*easeld {command}", shown.out)


def test_the_version_is_that_of_the_distribution(quick: QuickEaseld) -> None:
    """As a command and as an option."""
    assert quick("version").out == quick("--version").out == f"{version('easeld')}\n"


@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_wrong_setting_ends_a_daemon_before_anything_loads(command: str, easeld: Easeld) -> None:
    """One line says which it is, with status 2, which tells a supervisor not to try again; the store is not opened."""
    ended = easeld(command, EASELD_LEASE="soon")
    assert ended.status == 2
    assert ended.complaint.startswith("easeld: wrong setting: EASELD_LEASE: ")
    assert ended.out == ""
    assert not (easeld.folder / "data").exists()


@pytest.mark.parametrize("command", [("submit", "a cat"), ("jobs",), ("models",)])
def test_a_wrong_setting_ends_a_client_command(command: tuple[str, ...], quick: QuickEaseld) -> None:
    """A misspelled name is a wrong setting too, not one that is silently left out."""
    ended = quick(*command, EASELD_LEASES="60")
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint == "easeld: wrong setting: EASELD_LEASES: there is no such setting"
    assert not (quick.folder / "data").exists()


@pytest.mark.parametrize("setting", ["EASELD_MODELS", "EASELD_FLEET"])
def test_a_model_that_nobody_knows_is_a_wrong_setting(setting: str, easeld: Easeld) -> None:
    """The complaint names those that there are, and the store has not been opened."""
    ended = easeld("up", **{setting: "null-image,mona-lisa"})
    assert ended.status == 2
    assert ended.complaint.startswith(f"easeld: wrong setting: {setting}: no such model: mona-lisa; there are ")
    assert not (easeld.folder / "data").exists()


def test_models_refuses_a_model_that_nobody_knows(quick: QuickEaseld) -> None:
    """As the daemon would: a list without it would look as if all were well."""
    assert quick("models", EASELD_MODELS="mona-lisa").status == 2


def test_a_settings_file_that_is_not_there_is_a_wrong_setting(quick: QuickEaseld) -> None:
    """No command goes on with the defaults in its place."""
    ended = quick("--config", "none.toml", "jobs")
    assert ended.status == 2
    assert "none.toml" in ended.complaint


def test_a_settings_file_that_is_no_toml_is_a_wrong_setting(quick: QuickEaseld) -> None:
    """One line, not a parser's traceback."""
    (quick.folder / "easeld.toml").write_text("models = [", encoding="utf-8")
    ended = quick("--config", "easeld.toml", "jobs")
    assert ended.status == 2
    assert ended.complaint.startswith("easeld: wrong setting: ")


def test_the_environment_goes_before_the_file(quick: QuickEaseld) -> None:
    """What both name is the environment's; what only the file names is the file's."""
    (quick.folder / "easeld.toml").write_text(
        '[catalog.from-file]\nfamily = "null"\ntask = "text2image"\n', encoding="utf-8"
    )
    own = {key: value for key, value in quick.environment.items() if key != "EASELD_CATALOG"}
    quick.environment = own | {"EASELD_MODELS": "shapes"}
    assert _served(quick) == ["shapes"]
    with (quick.folder / "easeld.toml").open("r+", encoding="utf-8") as file:
        rest = file.read()
        file.seek(0)
        file.write(f'models = ["from-file"]\n{rest}')
    assert _served(quick) == ["shapes"]
    del quick.environment["EASELD_MODELS"]
    assert _served(quick) == ["from-file"]


def _served(quick: QuickEaseld) -> list[str]:
    return [model["name"] for model in quick("--config", "easeld.toml", "models", "--json").json if model["served"]]


def test_models_lists_the_catalogue(quick: QuickEaseld) -> None:
    """Every model that can be served, where its weights come from, and which the settings serve."""
    rows = {row["name"]: row for row in quick("models", "--json").json}
    assert rows["null-image"] == {
        "name": "null-image",
        "task": "text2image",
        "source": "no weights",
        "served": True,
    }
    assert rows["shapes"]["source"] == "built in"
    assert not rows["shapes"]["served"]
    assert rows["sdxl"]["source"].startswith("stabilityai/")
    table = quick("models").out
    assert all(name in table for name in rows)


def test_client_commands_need_nothing_that_only_a_worker_has() -> None:
    """They start without torch, numpy, Pillow or PyAV, and without Google's clients until a setting asks for them."""
    code = "import sys, json, daemon.entrypoints.cli; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)))
    heavy = {
        "torch",
        "diffusers",
        "transformers",
        "numpy",
        "PIL",
        "av",
        "google.cloud.firestore",
        "google.cloud.storage",
    }
    assert loaded & heavy == set()


def test_a_store_that_is_away_is_one_line_and_status_1(quick: QuickEaseld) -> None:
    """A folder that cannot be used is said in one line."""
    blocked = quick.folder / "data"
    blocked.mkdir()
    (blocked / "jobs.db").mkdir()
    ended = quick("jobs")
    assert ended.status == 1
    assert "jobs.db" in ended.complaint


def test_a_firestore_that_is_away_is_one_line_and_status_1(quick: QuickEaseld, free_port: int) -> None:
    """So is a server that nobody runs, once the deadline of a call is over."""
    ended = quick(
        "show",
        "alice/4f2a",
        EASELD_STORE="firestore",
        EASELD_BLOBS="folder",
        EASELD_PROJECT="nowhere",
        FIRESTORE_EMULATOR_HOST=f"127.0.0.1:{free_port}",
    )
    assert ended.status == 1
    assert ended.complaint.startswith("easeld: Firestore")


@pytest.fixture(name="free_port")
def _free_port() -> int:
    from tests.parts.process import free_port

    return free_port()


def test_the_console_script_is_the_same_command(easeld: Easeld) -> None:
    """What pip installs as ``easeld`` is this command line."""
    script = Path(sys.executable).parent / "easeld"
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, env=easeld.environment)
    assert shown.stdout == f"{version('easeld')}\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("easeld sub", ["submit"]),
        ("easeld jobs --sta", ["--status"]),
        ("easeld jobs --status c", ["completed", "cancelled"]),
    ],
)
def test_the_shell_completes_commands_options_and_values(easeld: Easeld, words: str, offered: list[str]) -> None:
    """As the script that `--install-completion` puts in place asks for it."""
    script = Path(sys.executable).parent / "easeld"
    asked = {"_EASELD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    shown = subprocess.run([script], capture_output=True, text=True, check=True, env=easeld.environment | asked)
    assert shown.stdout.split() == offered
