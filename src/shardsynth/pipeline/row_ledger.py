"""Which rows of a model were handed out: ``ledger/<number>.json`` beside its ``model.json``.

Each entry is created once, so that two calls at the same time get different rows. The rows that the run itself made
come first. Asking again without ``--continue`` is refused: nobody gets the same rows by accident.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardsynth.errors import RunError
from shardsynth.pipeline.files import create_once, read_json

if TYPE_CHECKING:
    from shardsynth.pipeline.resample import SampleRequest


def reserve(request: SampleRequest, card: dict[str, Any], asked: dict[str, Any]) -> int:
    """First global row for this request, recorded in the ledger before any row is made.

    What is recorded stays, whatever becomes of the call: its rows may lie in parts already, and it goes on with them
    when it is made again.
    """
    (request.model / "ledger").mkdir(exist_ok=True)
    while True:
        start, entry = next_row(request, card, asked)
        content = {"first_row": start, "rows": request.rows, **_stream(asked)}
        if create_once(entry, (json.dumps(content) + "\n").encode()):
            return start


def next_row(request: SampleRequest, card: dict[str, Any], asked: dict[str, Any]) -> tuple[int, Path]:
    """First global row that a request would get, and the entry of the ledger that would say so.

    Raises:
        RunError: Rows that were made before.
    """
    ledger = request.model / "ledger"
    base = int(card.get("rows", 0)) if asked["seed"] == card.get("seed") else 0  # rows that the run made itself
    found = sorted(ledger.glob("*.json"))
    entries = [read_json(path) for path in found]
    mine = [entry for entry in entries if {key: entry[key] for key in _stream(asked)} == _stream(asked)]
    last = max([base, *(entry["first_row"] + entry["rows"] for entry in mine)])
    start = int(request.first_row if request.first_row is not None else last if request.go_on else base)
    clash = [e for e in mine if start < e["first_row"] + e["rows"] and e["first_row"] < start + request.rows]
    if (clash or (start < base and request.where is None)) and not request.same_rows:
        raise RunError(
            f"{request.model}: rows {start:,} to {start + request.rows:,} of this model were asked for before; "
            "--continue makes other rows, --same-rows makes the same ones on purpose, and a call that was stopped "
            "goes on by the same command with the same --output"
        )
    return start, ledger / f"{int(found[-1].stem) + 1 if found else 0:06d}.json"


def _stream(asked: dict[str, Any]) -> dict[str, Any]:
    """What names a stream of rows, of which no two calls get the same by accident."""
    return {"seed": asked["seed"], "where": _digest(asked["where"])}


def _digest(condition: str | None) -> str | None:
    """A condition names values of people: the ledger, which leaves with the model, knows only its digest."""
    return hashlib.sha256(condition.encode("utf-8")).hexdigest() if condition is not None else None
