"""An import-linter contract that says what a room may import, where import-linter's own say what it may not."""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

# Typed as what they parse into, which is what the checked contract holds.
_LIST: Any = fields.ListField(subfield=fields.StringField())
_OPTIONAL_LIST: Any = fields.ListField(subfield=fields.StringField(), required=False, default=[])


class OnlyContract(Contract):
    """The source modules import nothing but what is listed, directly.

    Configuration options, each a list of modules that stands for all that lies below them too:
        - source_modules: the rooms. A name in parentheses may not exist yet.
        - except_modules: what lies below the sources and is another room.
        - allowed_modules: what may be imported.
        - denied_modules: exceptions from that. The standard library is allowed but for what is named here.
    """

    type_name = "only"

    source_modules: list[str] = _LIST
    except_modules: list[str] = _OPTIONAL_LIST
    allowed_modules: list[str] = _LIST
    denied_modules: list[str] = _OPTIONAL_LIST

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - the base class's signature
        """Look at every direct import of every source module."""
        violations: list[str] = []
        for source in self._sources(graph):
            for imported in sorted(graph.find_modules_directly_imported_by(source)):
                if not self._may_import(imported):
                    details = graph.get_import_details(importer=source, imported=imported)
                    lines = ", ".join(f"l.{detail['line_number']}" for detail in details)
                    violations.append(f"{source} must not import {imported} ({lines})")
        return ContractCheck(kept=not violations, metadata={"violations": violations})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line for each violation."""
        for violation in check.metadata["violations"]:
            output.print_error(f"- {violation}")
        output.new_line()

    def _sources(self, graph: ImportGraph) -> list[str]:
        sources: set[str] = set()
        for expression in self.source_modules:
            name = expression.strip("()")
            if name in graph.modules:
                sources |= {name} | graph.find_descendants(name)
            elif name == expression:
                raise ValueError(f"The module {name} does not exist: put it in parentheses if it is still to come.")
        return sorted(source for source in sources if not _is_within(source, self.except_modules))

    def _may_import(self, module: str) -> bool:
        if _is_within(module, self.denied_modules):
            return False
        return _is_within(module, self.allowed_modules) or module.partition(".")[0] in sys.stdlib_module_names


def _is_within(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
