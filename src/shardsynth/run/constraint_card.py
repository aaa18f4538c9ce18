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
    """Learned constraints of their card.

    Args:
        card: The file's content.
        run: The run that the card lies in: the job's own classes are kept there.

    Raises:
        ModelError: They are the job's own, and the run does not vouch for their file.
    """
    from shardsynth.sampling.constraints.programmed import load_programs
    from shardsynth.sampling.constraints.table import TableConstraints

    if not card.get("programs"):
        return TableConstraints.from_json(card)
    path = (run.private if run is not None else Path()) / "summary" / "constraints.pkl"
    record = None if run is None else run.last_record("profile_merge", 0)
    recorded = [o["sha256"] for o in (record or {"outputs": []})["outputs"] if o["path"].endswith("constraints.pkl")]
    if not recorded or not path.exists():
        raise ModelError(
            "the job's own constraints lie as a pickle under the run's private/summary: a model under them can be "
            "sampled where the run is, not elsewhere"
        )
    return TableConstraints.from_json(card, load_programs(path.read_bytes(), recorded[0]))


def keeps(folder: Path) -> bool:
    """Whether the model of a folder was fitted under constraints."""
    return (folder / FILE).exists()


def read_card(folder: Path) -> TableConstraints | None:
    """Constraints of a model folder; None where it has none."""
    path = folder / FILE
    if not path.exists():
        return None
    card = read_json(path)
    run: RunDir | None = None
    if card.get("programs"):
        run = RunDir(folder.resolve().parents[1])
    return load_constraints(card, run)
