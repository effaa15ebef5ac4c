"""What may be imported without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = "import models, models.spec, models.errors, models.catalog, models.keeper, models.weights, models.null\n"
NULL_MODEL = """
from pathlib import Path
from models.catalog import with_entries
from models.keeper import Keeper
spec = with_entries({"n": {"family": "null", "task": "text2image"}})["n"]
Keeper(cache_dir=Path("unused")).resident(spec, print)
"""


@pytest.mark.parametrize("code", [IMPORTS, NULL_MODEL], ids=["imports", "null model"])
def test_neither_imports_nor_the_null_model_need_torch(code: str) -> None:
    """The shim, the client commands and the daemon's own tests start quickly."""
    script = code + "import sys\nassert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
