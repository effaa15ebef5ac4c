"""How documents are shown: as JSON for programs, as plain text for people. What is in a document is never markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from daemon.core.job import Document, Fields, Status
from daemon.core.pace import Turn
from daemon.core.record import moment

PIPE_WIDTH = 200  # columns


def as_json(fields: Fields | None, *, indent: int | None = 2) -> str:
    """A document as JSON, times in ISO 8601 with a Z, as the contract writes them."""
    return json.dumps(_plain_values(fields), indent=indent, default=str)


def as_line(document: Document) -> str:
    """A document as one line of JSON, with its path beside it."""
    return json.dumps({"path": document.id.path, "document": _plain_values(document.fields)}, default=str)


def plain(text: object) -> str:
    """Text that cannot steer a terminal: on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def warnings(fields: Fields | None) -> list[str]:
    """What the worker says to the client beside the result, each plain."""
    ours = (fields or {}).get("easeld")
    found = ours.get("warnings") if isinstance(ours, Mapping) else None
    return [plain(text) for text in found] if isinstance(found, list) else []


def shortened(text: object, length: int) -> str:
    """The beginning of a text, plain, in at most ``length`` characters."""
    line = plain(text)
    return line if len(line) <= length else line[: length - 1] + "…"


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as wide as the terminal; into a pipe, so wide that what follows may cut it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def ended(fields: Fields | None) -> bool:
    """Whether nothing more will happen to the document by itself."""
    return fields is None or fields.get("status") in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


def stage(fields: Fields | None) -> str:
    """Where a job stands, in a few words: queued, claimed, step 3 of 20, uploaded."""
    if fields is None:
        return "deleted"
    status = fields.get("status")
    if status == Status.PROCESSING:
        progress = _map(fields.get("progress"))
        phase = progress.get("phase")
        if phase == "generating":
            return f"step {plain(progress.get('step'))} of {plain(progress.get('steps'))}"
        return {"loading": "loading the model"}.get(str(phase), shortened(phase or status, 20))
    if status == Status.COMPLETED:
        return "uploaded"
    if status == Status.FAILED:
        return f"failed: {shortened(fields.get('error_message', 'no reason given'), 200)}"
    return shortened(status, 20)


def place(turn: Turn) -> str:
    """A queued job's turn in words: 3 jobs before it, about 40 s."""
    before = {0: "next in the queue", 1: "1 job before it"}.get(turn.before, f"{turn.before} jobs before it")
    return before if turn.seconds is None else f"{before}, about {duration(turn.seconds)}"


def duration(seconds: float) -> str:
    """A time as people say it, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def preview(fields: Fields | None) -> str | None:
    """Where a small picture is of what a running job is making, where there is one."""
    address = _map((fields or {}).get("progress")).get("preview_url")
    return plain(address) if isinstance(address, str) else None


def done_percent(fields: Fields | None) -> float:
    """How much of a job is done, from 0 to 100."""
    if fields is None or ended(fields):
        return 100.0
    percent = _map(fields.get("progress")).get("percent")
    return float(min(percent, 100)) if isinstance(percent, int | float) else 0.0


def created(fields: Fields | None) -> datetime | None:
    """When a document was made, where it says so."""
    return moment((fields or {}).get("created_at"))


def addresses(fields: Fields | None) -> list[str]:
    """Where a finished job's media are."""
    found = (fields or {}).get("images") or (fields or {}).get("videos")
    return [str(address) for address in found] if isinstance(found, list | tuple) else []


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain_values(value: Any) -> Any:
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
        return zoned.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): _plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_values(item) for item in value]
    return value
