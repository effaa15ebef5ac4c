"""The security rules that open a project to its users."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.firebase.node import FOLDER, run
from tests.parts.firestore_emulator import FirestoreEmulator

FIREBASE = Path(__file__).parents[2] / "firebase"
RULES = FIREBASE / "firestore.rules"
WITHIN = 240.0  # seconds; 15 on two idle cores
LEAST_FORBIDDEN = 100


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_user_may_write_what_the_contract_says_and_nothing_else(
    node: str, firestore_emulator: FirestoreEmulator
) -> None:
    """Each write that an app makes is allowed in each state, and what only a worker may write is refused to it."""
    arguments = (RULES, firestore_emulator.new_project())
    rules = run(node, FOLDER / "rules.mjs", *arguments, environment=firestore_emulator.environment, within=WITHIN)
    assert rules.returncode == 0, rules.stdout + rules.stderr
    counted = re.fullmatch(r"rules: allowed=(\d+) forbidden=(\d+) wrong=0", rules.stdout.strip())
    assert counted is not None, rules.stdout
    assert int(counted[1]) > 0
    assert int(counted[2]) >= LEAST_FORBIDDEN


def test_the_block_to_merge_is_the_whole_of_the_rules() -> None:
    """An app with rules of its own gets the same block that an empty project gets."""
    rules = RULES.read_text()
    block = (FIREBASE / "easeld.rules.fragment").read_text()
    assert block in rules
    rest = rules.replace(block, "")
    assert "allow" not in rest
    assert rules.count("{") == rules.count("}")


def test_the_files_that_the_firebase_cli_deploys_are_there() -> None:
    """``firebase deploy`` finds in the folder all that its configuration names."""
    named = json.loads((FIREBASE / "firebase.json").read_text())
    files = [named["firestore"]["rules"], named["firestore"]["indexes"], named["storage"]["rules"]]
    assert [name for name in files if not (FIREBASE / name).is_file()] == []


def test_nobody_but_a_worker_writes_media() -> None:
    """A worker's service account passes the rules by; every write of an app is refused."""
    rules = (FIREBASE / "storage.rules").read_text()
    assert re.findall(r"allow (?:write|create|update|delete)[^;]*;", rules) == ["allow write: if false;"]
