"""`shardsynth sample`: whether the requested rows can be numbered, identified and stored."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from shardsynth.errors import InputError
from shardsynth.sampling.identifiers import UNBOUNDED, check_capacity
from shardsynth.sources.parts import write_part
from shardsynth.standalone.files import disk_of, human_bytes

#: Rows that are written on trial, to see how many bytes one takes.
_TRIAL_ROWS = 16_384
#: The trial is made from this multiple of its rows on: it then costs at most a hundredth of the work.
_TRIAL_PAYS = 100


def check_room(source: Any, first_row: int, rows: int, rows_per_shard: int, output: Path) -> None:
    """Refuse rows that cannot be made, or that do not fit on the disk.

    Args:
        source: Rows of a model: a ``Source`` with its ``model``.
        first_row: Global number of the first row.
        rows: Number of rows.
        rows_per_shard: Rows of one part.
        output: Folder for the parts; need not exist.

    Raises:
        InputError: More rows than the model can number, than one of its identifiers has values, or than fit on the
            disk.
    """
    last = first_row + rows
    if last > UNBOUNDED:
        raise InputError(
            f"--rows {rows:,}: their numbers would end at {last:,}, and a model's rows are numbered up to "
            f"{UNBOUNDED:,}; ask for fewer rows, or with another --seed"
        )
    for name, generator in source.model.generators.items():
        if name not in source.known_columns:
            check_capacity(generator, last, name)
    trial = min(rows_per_shard, _TRIAL_ROWS)
    if rows < _TRIAL_PAYS * trial:
        return
    needed, free = rows * _bytes_per_row(source, first_row, trial), disk_of(output).free
    if needed > free:
        raise InputError(
            f"--rows {rows:,}: about {human_bytes(needed)} would be written, {human_bytes(free)} are free in "
            f"{output}; ask for fewer rows, or choose a folder on a larger disk"
        )


def _bytes_per_row(source: Any, first_row: int, rows: int) -> float:
    """Bytes of a row in a part, from a part of ``rows`` rows that is written and deleted again."""
    trial = range(first_row, first_row + rows)
    with tempfile.TemporaryDirectory() as folder:
        part = write_part(Path(folder) / "trial.parquet", source.schema, source, trial, lambda batch: None)
    source.acceptance()  # forget the trial's proposals: the manifest counts those of the sample alone
    return float(part["size"] / rows)
