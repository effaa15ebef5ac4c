"""Schemathesis, which makes calls of what the shim says of itself, finds nothing that it does otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daemon.adapters.sqlite import SqliteStore
from tests.entrypoints.shim.running import ENDPOINT, KEY, running

EXAMPLES = 25  # for each operation, in each phase
# What is accepted and what refused is the contract's, and has a test of its own for each field: a schema cannot say
# all of it (legal ids, blank prompts, null for absent, both spellings).
NOT_CHECKED = "positive_data_acceptance,negative_data_rejection"


@pytest.mark.usefixtures("uncounted")
@pytest.mark.timeout(300)
def test_schemathesis_runs_clean(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """Every operation, legal and illegal calls: each answer is one that the OpenAPI page describes."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.endpoint_id" = "{ENDPOINT}"\n')
    with running(sqlite_store) as shim:
        command = [str(Path(sys.executable).parent / "st"), "--config-file", str(config), "run"]
        command += [f"{shim.address}/openapi.json", "-H", f"Authorization: Bearer {KEY}", "--no-color"]
        command += ["--exclude-checks", NOT_CHECKED]
        command += ["--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing", "--seed", "5"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
