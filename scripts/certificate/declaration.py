"""Gates and margins, declared before there is a result: what was declared, when, and who can say so."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit.audit import declared
from scripts.audit.gates import check_gates
from scripts.audit.measure import Statistics
from scripts.run.files import json_sha256, write_text

NAME = "declaration.json"
logger = logging.getLogger(__name__)


class Declaration:
    """What an audit will judge by, written to a file before it is known how it comes out.

    The verb ``declare`` writes it before the unlearning run, whose record then holds its hash; an audit without one
    writes it before it reads a result. Once written it is not replaced: other gates are refused.

    Args:
        gates: Acceptance gates, see :func:`scripts.audit.gates.judge`.
        statistics: Settings of intervals and equivalence tests.
        weights: The weights that will be audited; the file ``declaration.json`` lies beside them.

    Every other setting of the running configuration that decides what is found is declared by its hash, see
    :func:`scripts.audit.audit.declared`.

    Raises:
        ValueError: gates that could not be judged.
    """

    def __init__(self, gates: Sequence[Mapping], statistics: Statistics, weights: str | Path) -> None:
        check_gates(gates)
        self.declared = declared(gates, statistics)
        self.weights = Path(weights)
        self.path = self.weights.with_name(NAME)

    def check(self, record: str | Path | None = None) -> None:
        """Refuse an audit by other gates than those that were declared.

        Args:
            record: The record of the run to be audited, which holds the hash of what was declared before it.

        Raises:
            ValueError: naming the file and the fields that differ.
        """
        held = None if record is None else json.loads(Path(record).read_text(encoding="utf-8")).get("declaration")
        found = declared_sha256(self.path.parent)
        if held is not None and held != found:
            raise ValueError(
                f"{self.path}: expected what was declared before the unlearning run (SHA-256 {held} in {record}), "
                f"found {'none' if found is None else found}"
            )
        if found is None:
            return
        written = read_declaration(self.path)
        earlier, now = _parts(written["declared"]), _parts(self.declared)
        differ = [name for name in dict.fromkeys([*now, *earlier]) if earlier.get(name) != now.get(name)]
        if differ:
            raise ValueError(
                f"{self.path}: {', '.join(differ)}: declared on {written['created']}, expected the same now, "
                "found others; audit by what was declared, or audit another run"
            )

    def write(self) -> dict[str, Any]:
        """The declaration that is there, else a new one, written now."""
        self.check()
        if not self.path.is_file():
            content = {
                "declared": self.declared,
                "sha256": json_sha256(self.declared),
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "before": "the audit" if self.weights.is_file() else "the unlearning run",
            }
            write_text(self.path, json.dumps(content, indent=2) + "\n")
            logger.info("%s: gates and margins are declared, SHA-256 %s", self.path, content["sha256"])
        return read_declaration(self.path)


def _parts(declared: Mapping[str, Any]) -> dict[str, Any]:
    """What is declared, by name, the settings one by one."""
    settings = {f"settings/{name}": digest for name, digest in declared.get("settings", {}).items()}
    return {**{name: value for name, value in declared.items() if name != "settings"}, **settings}


def declared_sha256(folder: str | Path) -> str | None:
    """The hash of what is declared in a folder, for the record of the run that follows; None where nothing is."""
    path = Path(folder) / NAME
    return read_declaration(path)["sha256"] if path.is_file() else None


def read_declaration(path: str | Path) -> dict[str, Any]:
    """The content of a declaration.

    Raises:
        ValueError: no declaration, or one whose content was changed.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        whole = json_sha256(content["declared"]) == content["sha256"] and {"created", "before"} <= set(content)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: expected a declaration of gates as the verb declare writes it, found other content")
    return content
