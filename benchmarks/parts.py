"""The real parts that several rows share: one emulator and one bucket server, started when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.place import Place, emulated, sqlite
from tests.parts.fake_gcs import GcsServer, gcs_server
from tests.parts.firestore_emulator import FirestoreEmulator, firestore_emulator


class Parts:
    """Keeps what it started until the block ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @cached_property
    def emulator(self) -> FirestoreEmulator:
        return self._stack.enter_context(firestore_emulator())

    @cached_property
    def server(self) -> GcsServer:
        return self._stack.enter_context(gcs_server())

    @contextmanager
    def place(self, kind: str, folder: Path) -> Iterator[Place]:
        """A place of its own, ``sqlite`` or ``emulator``."""
        folder.mkdir(parents=True)
        with sqlite(folder) if kind == "sqlite" else emulated(folder, self.emulator, self.server) as place:
            yield place
