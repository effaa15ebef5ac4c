"""Node, for the tests here."""

from __future__ import annotations

import pytest

from tests.firebase.node import find_node
from tests.parts.missing import PartMissing, skip_or_fail


@pytest.fixture(scope="session")
def node() -> str:
    """Node with Firebase's packages."""
    try:
        return find_node()
    except PartMissing as missing:
        skip_or_fail(missing.part, missing.how)
