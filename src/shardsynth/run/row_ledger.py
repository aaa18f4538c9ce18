"""Which rows of a model were made: ``ledger/<number>.json`` beside its ``model.json``.

A file is created once and never changed, so that two calls at the same time get different rows. The rows of the run
itself come first. A second call without ``--continue`` is refused, so that nobody gets the same rows by accident.
Completed rows have numbers of their own, too, from which their ids are made: the same known rows always the same ones.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError
from shardsynth.run.documents import RowEntry, read_document
from shardsynth.standalone.files import create_once

_REMEDY = "restore it from a copy, or write {first_row, rows, seed, where} of the rows that were made"


@dataclass(frozen=True)
class RowsWanted:
    """Rows of a model that a call of `shardsynth sample` is to make.

    Attributes:
        model: Model folder.
        rows: Number of rows.
        seed: Seed of the stream.
        where: Condition as text, or None.
        first_row: Global number of the first row; None: as the ledger says.
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
        """Seed and condition: within one stream, each row is made once.

        A condition holds values of the table, and the ledger is copied with the model. So it holds the condition's
        SHA-256 digest only.
        """
        where = None if self.where is None else hashlib.sha256(self.where.encode("utf-8")).hexdigest()
        return {"seed": self.seed, "where": where}


def reserve(wanted: RowsWanted, card: dict[str, Any]) -> int:
    """Record rows in the ledger, before the first of them is made.

    The entry stays also when the call fails or is stopped: some of its rows may be in parts already, and the same call
    made again continues with them.

    Args:
        wanted: The rows.
        card: ``model.json`` of the model.

    Returns:
        Global number of the first row.

    Raises:
        RunError: Rows of them were made before.
    """
    (wanted.model / "ledger").mkdir(exist_ok=True)
    while True:
        start, entry = next_row(wanted, card)
        content = {"first_row": start, "rows": wanted.rows, **wanted.stream}
        if create_once(entry, (json.dumps(content) + "\n").encode()):
            return start


def next_row(wanted: RowsWanted, card: dict[str, Any]) -> tuple[int, Path]:
    """Where rows would start, without recording them.

    Args:
        wanted: The rows.
        card: ``model.json`` of the model.

    Returns:
        Global number of the first row, and the ledger's next file.

    Raises:
        RunError: Rows of them were made before.
    """
    run_rows = int(card.get("rows", 0)) if wanted.seed == card.get("seed") else 0  # rows that the run itself made
    entries, entry_file = _entries(wanted.model)
    same_stream = [entry for entry in entries if _is_of(entry, wanted)]
    stop = max([run_rows, *(entry["first_row"] + entry["rows"] for entry in same_stream)])
    if wanted.first_row is not None:
        start = looked_from = int(wanted.first_row)
    elif wanted.go_on:
        start = looked_from = _beyond_completed(entries, stop, wanted.rows)
    else:  # refused also where only numbers of completed rows stand between the rows made before and these
        start, looked_from = _usual_start(entries, wanted, run_rows), run_rows
    overlap = any(
        looked_from < entry["first_row"] + entry["rows"] and entry["first_row"] < start + wanted.rows
        for entry in same_stream
    )
    if (overlap or (start < run_rows and wanted.where is None)) and not wanted.same_rows:
        raise RunError(
            f"{wanted.model}: rows {start:,} to {start + wanted.rows:,} of this model were asked for before; "
            "--continue makes other rows, --same-rows makes the same ones on purpose, and a call that was stopped "
            "goes on by the same command with the same --output"
        )
    return start, entry_file


def _is_of(entry: dict[str, Any], wanted: RowsWanted) -> bool:
    """Whether an entry is of drawn rows, not completed ones, and of the stream that is wanted."""
    return "known" not in entry and {key: entry[key] for key in wanted.stream} == wanted.stream


def _beyond_completed(entries: list[dict[str, Any]], start: int, rows: int) -> int:
    """The start, moved past the completed rows among the entries, whose ids are taken."""
    for first, end in sorted((e["first_row"], e["first_row"] + e["rows"]) for e in entries if "known" in e):
        if first < start + rows and start < end:
            start = end
    return start


def _usual_start(entries: list[dict[str, Any]], wanted: RowsWanted, run_rows: int) -> int:
    """Where a call starts that names no first row and does not go on: where the stream's first such call started.

    That one was moved past the rows completed before it, and rows completed since then change nothing.
    """
    for place, entry in enumerate(entries):
        if _is_of(entry, wanted) and entry["first_row"] == _beyond_completed(entries[:place], run_rows, entry["rows"]):
            return int(entry["first_row"])
    return run_rows if wanted.same_rows else _beyond_completed(entries, run_rows, wanted.rows)


def reserve_known(model: Path, rows: int, seed: int, digest: str, card: dict[str, Any]) -> int:
    """Record known rows that are completed in the ledger; returns the number of the first one.

    Args:
        model: Model folder.
        rows: Number of rows.
        seed: Seed of the completions.
        digest: Of the known rows.
        card: ``model.json`` of the model.
    """
    (model / "ledger").mkdir(exist_ok=True)
    while True:
        start, entry = next_known(model, rows, seed, digest, card)
        content = {"first_row": start, "rows": rows, "seed": seed, "where": None, "known": digest}
        if entry is None or create_once(entry, (json.dumps(content) + "\n").encode()):
            return start


def next_known(model: Path, rows: int, seed: int, digest: str, card: dict[str, Any]) -> tuple[int, Path | None]:
    """Number of the first of some known rows, and the file that is to record them; None where they are recorded.

    The arguments are those of ``reserve_known``. No number of these rows is that of another row of the model.
    """
    entries, entry_file = _entries(model)
    for entry in entries:
        if entry.get("known") == digest and (entry["seed"], entry["rows"]) == (seed, rows):
            return int(entry["first_row"]), None
    stops = (entry["first_row"] + entry["rows"] for entry in entries)
    return int(max([int(card.get("rows", 0)), *stops])), entry_file


def _entries(model: Path) -> tuple[list[dict[str, Any]], Path]:
    """The entries of a model's ledger, and its next file."""
    ledger = model / "ledger"
    files = sorted(ledger.glob("*.json"))
    odd = next((path for path in files if not path.stem.isdigit()), None)
    if odd is not None:
        raise RunError(f"{odd}: no file of a ledger of rows, which are numbered; move it away")
    remedy = f"the rows that it reserved are not known: {_REMEDY}"
    return [
        read_document(path, RowEntry, remedy) for path in files
    ], ledger / f"{int(files[-1].stem) + 1 if files else 0:06d}.json"
