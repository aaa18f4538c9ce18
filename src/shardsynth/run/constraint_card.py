"""The constraints file of a run and of a model's folder: how a model's rows become rows of the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardsynth.errors import ModelError
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import read_json

if TYPE_CHECKING:
    from shardsynth.sampling.constraints.table import TableConstraints

#: File of a model folder that says how its rows become rows of the table.
FILE = "constraints.json"


def load_constraints(card: Mapping[str, Any], run: RunDir | None) -> TableConstraints:
    """Learned constraints, from their file.

    Args:
        card: Content of ``constraints.json``.
        run: The run of the file, which has the pickle of the job's own constraint classes; None outside of a run.

    Raises:
        ModelError: The job has constraint classes of its own, and no commit record of the run names their pickle.
    """
    from shardsynth.sampling.constraints.programmed import load_programs
    from shardsynth.sampling.constraints.table import TableConstraints

    if not card.get("programs"):
        return TableConstraints.from_json(card)
    path = (run.private if run is not None else Path()) / "summary" / "constraints.pkl"
    record = None if run is None else run.last_record("profile_merge", 0)
    outputs = (record or {"outputs": []})["outputs"]
    sums = [output["sha256"] for output in outputs if output["path"].endswith("constraints.pkl")]
    if not sums or not path.exists():
        raise ModelError(
            "the job's own constraints lie as a pickle under the run's private/summary: a model under them can be "
            "sampled where the run is, not elsewhere"
        )
    return TableConstraints.from_json(card, load_programs(path.read_bytes(), sums[0]))


def keeps(folder: Path) -> bool:
    """Whether the model of a folder was fitted under constraints."""
    return (folder / FILE).exists()


def read_card(folder: Path) -> TableConstraints | None:
    """Constraints of a model folder; None if its model was fitted without."""
    path = folder / FILE
    if not path.exists():
        return None
    card = read_json(path)
    run = RunDir(folder.resolve().parents[1]) if card.get("programs") else None
    return load_constraints(card, run)
