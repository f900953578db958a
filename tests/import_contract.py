"""The third-party column of the architecture table as an import-linter contract.

Owns the check alone; the table stands in pyproject.toml. A line reads "package: names": that package and
everything below it may import those third-party packages. Lines of nested packages add up. A package on no
line may import any.
"""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck


class ThirdPartyContract(Contract):
    """Breaks on every import of a package neither ours, nor the standard library's, nor in the table."""

    type_name = "third_party"

    table = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare each direct import with the table; the metadata lists the violations in reading order."""
        table = _read_table(self.table)
        violations = [
            f"{importer} must not import {imported}"
            for importer in sorted(graph.modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if _is_third_party(graph, imported) and not _is_allowed(table, importer, imported)
        ]
        return ContractCheck(kept=not violations, metadata={"violations": violations})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per violation."""
        for violation in check.metadata["violations"]:
            output.print_error(violation)


def _read_table(lines: Any) -> dict[str, frozenset[str]]:
    rows = (line.split(":") for line in lines)
    return {package.strip(): frozenset(names.split()) for package, names in rows}


def _is_allowed(table: dict[str, frozenset[str]], importer: str, imported: str) -> bool:
    rows = [names for package, names in table.items() if f"{importer}.".startswith(f"{package}.")]
    return not rows or any(imported.split(".")[0] in names for names in rows)


def _is_third_party(graph: ImportGraph, module: str) -> bool:
    return graph.is_module_squashed(module) and module.split(".")[0] not in sys.stdlib_module_names
