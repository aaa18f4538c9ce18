"""Claim: a run directory that somebody else prepared runs no code, whatever proofs lie in it.

A run with a stock model and a run with a constraint class of its own are made by one user (one key). Each pickle is
replaced by one that makes a marker file, with its checksum in the commit record; then another user, whose key is
another one, samples, resumes and describes the runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict

import shardsynth as ss
from shardsynth.errors import ShardsynthError

CLASS = """
from pathlib import Path

from sdv.cag import SingleTableProgrammableConstraint

if Path(__file__).with_name("armed").exists():
    Path(__file__).with_name("marker").touch()


class Anything(SingleTableProgrammableConstraint):
    def transform(self, data):
        return data

    def get_updated_metadata(self, metadata):
        return metadata

    def reverse_transform(self, transformed_data):
        return transformed_data

    def is_valid(self, synthetic_data):
        return synthetic_data["a"] > -1
"""


class Payload:
    """Makes the marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path(self.marker),)  # type: ignore[return-value]


def _job(folder: Path, name: str, **changes: object) -> ss.Job:
    return ss.Job.parse(
        {
            "input": str(folder / "shard.parquet"),
            "output": str(folder / name),
            "sample": {"rows": 50},
            "cluster": {"workers": 1},
            **changes,
        }
    )


def _forge(root: Path, path: Path, marker: Path) -> None:
    """Replace a pickle, and write its size and checksum into the commit record that names it, and that one's own."""
    path.write_bytes(pickle.dumps(Payload(marker)))
    for record in root.glob("tasks/*/*/*.json"):
        content = json.loads(record.read_text())
        for output in content["outputs"]:
            if output["path"] == str(path.relative_to(root)):
                output.update(size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
                if content.pop("checksum", None):
                    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
                    content["checksum"] = hashlib.sha256(text.encode()).hexdigest()
                record.write_text(json.dumps(content))


def attack(folder: Path) -> list[str]:
    """What ran code, or was not refused; empty if the promise held."""
    marker, broken = folder / "marker", []
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.integers(0, 9, 60), "b": rng.choice(["x", "y"], 60)})
    pq.write_table(table, folder / "shard.parquet")
    own = folder / "own.py"
    own.write_text(CLASS)
    os.environ["SHARDSYNTH_KEY"] = str(folder / "key of the one who made them")
    stock = ss.run_job(_job(folder, "stock", models={"m": {"model": "gaussian_copula", "engine": "sdv"}}))
    constraints = [{"class_name": f"{own}:Anything", "parameters": {}}]
    under = ss.run_job(_job(folder, "under", models={"gaussian_copula": {}}, constraints=constraints))
    _forge(stock.dir.root, stock.dir.stock_pickle("m"), marker)
    _forge(under.dir.root, under.dir.private / "summary" / "constraints.pkl", marker)
    for run in (stock, under):
        for part in run.dir.root.glob("samples/*/part-*.parquet"):
            part.unlink()  # so that `resume` has to sample again
    (folder / "armed").touch()
    sys.modules = {name: module for name, module in sys.modules.items() if not name.startswith("shardsynth_constraint")}
    os.environ["SHARDSYNTH_KEY"] = str(folder / "key of the one who got them")
    deeds: dict[str, Callable[[], object]] = {
        "load a stock model": lambda: ss.load_model(stock.dir.model("m")).sample(5),
        "describe a stock model": lambda: ss.load_model(stock.dir.model("m")).learned_distributions(),
        "resume a run with a stock model": lambda: ss.Run(stock.dir.root).resume(),
        "load a model under constraints": lambda: ss.load_model(under.dir.model("gaussian_copula")).sample(5),
        "resume a run under constraints": lambda: ss.Run(under.dir.root).resume(),
    }
    for name, deed in deeds.items():
        try:
            deed()
            broken.append(f"{name}: not refused")
        except ShardsynthError as error:
            if "--trust-pickle" not in str(error) and "resume" not in name:
                broken.append(f"{name}: refused for another reason: {error}")
        except Exception as error:
            broken.append(f"{name}: {type(error).__name__}")
        if marker.exists():
            broken.append(f"{name}: ran the payload")
            marker.unlink()
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
