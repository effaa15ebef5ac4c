"""Writes what lists every setting, from the settings themselves: ``python -m daemon.entrypoints.settings_page``.

That is the page ``docs/settings.md``, and ``systemd/easeld.env``, the environment file of the services.
"""

from __future__ import annotations

import textwrap
import types
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from daemon.settings import CONFIG, Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
ENVIRONMENT_FILE = Path(__file__).parents[2] / "systemd" / "easeld.env"
HEAD = f"""# Settings

<!-- Written by `python -m daemon.entrypoints.settings_page` from daemon/settings.py: change it there. -->

Each setting is an environment variable or a line of a TOML file; where both name it, the environment wins. The file is
the one that `{CONFIG}` names, or `easeld --config FILE`. A wrong setting, and a variable that begins with `EASELD_`
and is none of these, ends the command at once with one line and exit status 2.

```toml
# easeld.toml
store = "firestore"
project = "my-project"
bucket = "my-project.firebasestorage.app"
models = ["sdxl", "wan-2.1-1.3b"]
grace = 60.0

[catalog.my-sdxl]                 # a model of your own, for `models` to name
family = "sdxl"
path = "/srv/models/my-sdxl"      # a folder in the layout of diffusers
```

In the environment, lists are separated by commas and tables are JSON:

```sh
export EASELD_MODELS=my-sdxl,motion
export EASELD_CATALOG='{{"my-sdxl": {{"family": "sdxl", "path": "/srv/models/my-sdxl"}}}}'
```

Durations are in seconds.

| Environment | TOML | Value | Default | What it does |
|---|---|---|---|---|
"""
ENVIRONMENT_HEAD = """\
# Settings of the easeld services: remove the # before what you set, then restart (systemctl restart easeld.target).
# What stands behind a # is the default. Written by `python -m daemon.entrypoints.settings_page`.
# Only root reads this file; systemd hands its lines to the services. JSON goes between single quotes.

# A service account's key, where the machine has no account of its own: root:easeld, mode 0640.
#GOOGLE_APPLICATION_CREDENTIALS=/etc/easeld/key.json

# For models on the hub that ask for a login; and nothing is fetched any more once all of them are there.
#HF_TOKEN=
#HF_HUB_OFFLINE=1
"""
SERVICE_DEFAULTS = {  # what the units set, which goes before the default of the code
    "data": "/var/lib/easeld",
    "cache": "/var/cache/easeld",
}
KINDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "`true` or `false`",
    Path: "path",
    SecretStr: "secret",
}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def environment_file() -> str:
    """The whole environment file: every setting, commented out."""
    return ENVIRONMENT_HEAD + "".join(_lines(name, field) for name, field in Settings.model_fields.items())


def main() -> None:
    """Write both."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    ENVIRONMENT_FILE.write_text(environment_file(), encoding="utf-8")


def _lines(name: str, field: FieldInfo) -> str:
    description = f"{field.description} ({_value(field).replace('`', '')})"
    comment = "\n".join(textwrap.wrap(description, 116, initial_indent="# ", subsequent_indent="# "))
    default = SERVICE_DEFAULTS.get(name) or _default(field).strip("`")
    return f"\n{comment}\n#EASELD_{name.upper()}={default}\n"


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`EASELD_{name.upper()}`", f"`{name}`", _value(field), _default(field), field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _value(field: FieldInfo) -> str:
    """What may be written there: the type, or the choices, and the limits."""
    for constraint in field.metadata:
        pattern = getattr(constraint, "pattern", None)
        if pattern:  # ours are all of the form ^(one|other)$
            return _choices(str(pattern).strip("^$()").split("|"))
    limits = []
    for constraint in field.metadata:
        match constraint:
            case annotated_types.Ge(ge=limit):
                limits.append(f"from {limit}")
            case annotated_types.Gt(gt=limit):
                limits.append(f"above {limit}")
            case annotated_types.Le(le=limit):
                limits.append(f"to {limit}")
    return " ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, Annotated):
        return _kind(arguments[0])
    if origin is Literal:
        return _choices(arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}s"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _choices([item.value for item in annotation])
    return KINDS[annotation]


def _choices(values: list[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _default(field: FieldInfo) -> str:
    """The default, where it is the same on every machine."""
    value = field.default
    if field.default_factory is dict or value in (None, PydanticUndefined, []):
        return ""
    if isinstance(value, list):
        return f"`{','.join(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    main()
