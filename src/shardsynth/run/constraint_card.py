"""The constraints file of a run and of a model's folder: how a model's rows become rows of the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardsynth.errors import ModelError
from shardsynth.run.rundir import RunDir
from shardsynth.run.trust import signed_sha256
from shardsynth.standalone.files import read_json, sha256_of
from shardsynth.standalone.regular import read_regular

if TYPE_CHECKING:
    from shardsynth.sampling.constraints.table import TableConstraints

#: File of a model folder that says how its rows become rows of the table.
FILE = "constraints.json"
#: Under ``private/summary``: columns that are computed from restored ones, as guessed on the row sample; and those of
#: them that all rows confirm.
GUESSED, COMPUTED = "constraints.guessed.json", "constraints.computed.json"


def load_constraints(card: Mapping[str, Any], run: RunDir | None, *, trust: bool = False) -> TableConstraints:
    """Learned constraints, from their file.

    Args:
        card: Content of ``constraints.json``.
        run: The run of the file, which has the pickle of the job's own constraint classes; None outside of a run.
        trust: Open the pickle even if this user did not sign it.

    Raises:
        ModelError: The job has constraint classes of its own, and their pickle is not here, or this user did not sign
            it.
    """
    from shardsynth.data.columns import schema_from_text
    from shardsynth.models.columns.computed import ComputedColumn
    from shardsynth.sampling.constraints.programmed import load_programs
    from shardsynth.sampling.constraints.table import TableConstraints

    if not card.get("programs"):
        schema = schema_from_text(card["schema"])
        computed = [ComputedColumn.from_json(column, schema) for column in card.get("computed", [])]
        return TableConstraints.from_json(card, computed=computed)
    path = (run.private if run is not None else Path()) / "summary" / "constraints.pkl"
    if run is None or not path.exists():
        raise ModelError(
            "the job's own constraints lie as a pickle under the run's private/summary: a model under them can be "
            "sampled where the run is, not elsewhere"
        )
    signed = sha256_of(path) if trust else signed_sha256(run.private, path)
    return TableConstraints.from_json(card, load_programs(read_regular(path), signed))


def keeps(folder: Path) -> bool:
    """Whether the model of a folder was fitted under constraints."""
    return (folder / FILE).exists()


def read_card(folder: Path, *, trust: bool = False) -> TableConstraints | None:
    """Constraints of a model folder; None if its model was fitted without. ``trust`` is that of `load_constraints`."""
    path = folder / FILE
    if not path.exists():
        return None
    card = read_json(path)
    run = RunDir(folder.resolve().parents[1]) if card.get("programs") else None
    return load_constraints(card, run, trust=trust)
