"""Builds the wheel from setup.cfg and shows that it installs, and that shim and client run where there is no torch.

The wheel goes into a virtual environment of its own that borrows every dependency from the one we run in. In place of
what only a worker needs stand modules that refuse to be imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

# what the extra `worker` brings
HEAVY = ["PIL", "accelerate", "av", "diffusers", "ftfy", "numpy", "safetensors", "torch", "transformers"]
LIGHT_COMMANDS = [["--version"], ["--help"], ["submit", "--help"], ["models"]]
LIGHT_MODULES = ["daemon.entrypoints.shim.app"]


def main() -> None:
    """Build, install, run; the first step that fails ends the program with its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = _build(Path(folder) / "dist")
        environment = Path(folder) / "environment"
        site_packages = _install(wheel, environment)
        outside = Path(folder) / "outside"  # a working folder from which the source tree cannot be imported by chance
        outside.mkdir()
        _run([environment / "bin/python", "-c", _WHERE.format(site_packages=str(site_packages))], outside)
        for arguments in LIGHT_COMMANDS:
            _run([environment / "bin/easeld", *arguments], outside)
        for module in LIGHT_MODULES:
            _run([environment / "bin/python", "-c", f"import {module}"], outside)
    print("The wheel installs, and its shim and client commands run without torch.")


_WHERE = """
import daemon, models, pathlib
for package in daemon, models:
    assert pathlib.Path(package.__file__).is_relative_to(pathlib.Path({site_packages!r}).resolve()), package.__file__
page = pathlib.Path(daemon.__file__).parent / "entrypoints/page/static"
assert {{"index.html", "page.css", "page.js", "icon.svg"}} <= {{part.name for part in page.iterdir()}}, page
for name in "shapes", "motion":
    assert list((pathlib.Path(models.__file__).parent / "builtin" / name).rglob("*.safetensors")), name
"""


def _build(folder: Path) -> Path:
    """Source distribution first and the wheel from it, so that nothing unlisted slips in from the working tree."""
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder], Path.cwd())
    (wheel,) = folder.glob("easeld-*.whl")
    return wheel


def _install(wheel: Path, environment: Path) -> Path:
    venv.create(environment, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = (environment / "lib" / version / "site-packages").resolve()
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "--quiet"]
    _run([*pip, "install", "--no-deps", "--no-index", wheel], Path.cwd())
    for name in HEAVY:
        (site_packages / f"{name}.py").write_text(f"raise ImportError('{name} is not installed here')\n")
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site_packages


def _run(command: list[str | Path], folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    completed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        print(completed.stdout, completed.stderr, sep="\n", file=sys.stderr)
        print("This failed:", " ".join(map(str, command)), file=sys.stderr)
        sys.exit(completed.returncode)


if __name__ == "__main__":
    main()
