"""Which rows of a model were handed out: ``ledger/<number>.json`` beside its ``model.json``.

Each entry is created once, so that two calls at the same time get different rows. The rows that the run itself made
come first. Asking again without ``--continue`` is refused: nobody gets the same rows by accident.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError
from shardsynth.standalone.files import create_once, read_json


@dataclass(frozen=True)
class RowsWanted:
    """Rows of a model that somebody asks for.

    Attributes:
        model: Model folder.
        rows: How many.
        seed: Of the stream.
        where: Condition, as text; None: none.
        first_row: Global number of the first row; None: by the ledger.
        go_on: Start after the last row in the ledger.
        same_rows: Rows that were made before may be made again.
    """

    model: Path
    rows: int
    seed: int
    where: str | None
    first_row: int | None
    go_on: bool
    same_rows: bool

    @property
    def stream(self) -> dict[str, Any]:
        """What names a stream of rows, of which no two calls get the same by accident.

        A condition names values of people: the ledger, which leaves with the model, knows only its digest.
        """
        where = None if self.where is None else hashlib.sha256(self.where.encode("utf-8")).hexdigest()
        return {"seed": self.seed, "where": where}


def reserve(wanted: RowsWanted, card: dict[str, Any]) -> int:
    """First global row for these rows, recorded in the ledger before any row is made.

    What is recorded stays, whatever becomes of the call: its rows may lie in parts already, and it goes on with them
    when it is made again.
    """
    (wanted.model / "ledger").mkdir(exist_ok=True)
    while True:
        start, entry = next_row(wanted, card)
        content = {"first_row": start, "rows": wanted.rows, **wanted.stream}
        if create_once(entry, (json.dumps(content) + "\n").encode()):
            return start


def next_row(wanted: RowsWanted, card: dict[str, Any]) -> tuple[int, Path]:
    """First global row that these rows would get, and the entry of the ledger that would say so.

    Raises:
        RunError: Rows that were made before.
    """
    ledger = wanted.model / "ledger"
    base = int(card.get("rows", 0)) if wanted.seed == card.get("seed") else 0  # rows that the run made itself
    found = sorted(ledger.glob("*.json"))
    entries = [read_json(path) for path in found]
    mine = [entry for entry in entries if {key: entry[key] for key in wanted.stream} == wanted.stream]
    last = max([base, *(entry["first_row"] + entry["rows"] for entry in mine)])
    start = int(wanted.first_row if wanted.first_row is not None else last if wanted.go_on else base)
    clash = [e for e in mine if start < e["first_row"] + e["rows"] and e["first_row"] < start + wanted.rows]
    if (clash or (start < base and wanted.where is None)) and not wanted.same_rows:
        raise RunError(
            f"{wanted.model}: rows {start:,} to {start + wanted.rows:,} of this model were asked for before; "
            "--continue makes other rows, --same-rows makes the same ones on purpose, and a call that was stopped "
            "goes on by the same command with the same --output"
        )
    return start, ledger / f"{int(found[-1].stem) + 1 if found else 0:06d}.json"
