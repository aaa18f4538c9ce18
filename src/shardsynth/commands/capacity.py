"""`shardsynth sample`: whether the rows asked for can be numbered, identified and stored."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from shardsynth.errors import InputError
from shardsynth.sampling.identifiers import UNBOUNDED, check_capacity
from shardsynth.standalone.files import disk_of, human_bytes

_TRIAL_ROWS = 16_384


_WORTH_A_TRIAL = 100  # times the trial's rows: it costs a hundredth of the work then


def check_room(source: Any, first_row: int, rows: int, rows_per_shard: int, output: Path) -> None:
    """Refuse rows that cannot be made, or that the disk cannot hold.

    Args:
        source: The model's rows, of a kind of ``Source``.
        first_row: Global number of the first.
        rows: How many.
        rows_per_shard: Rows of one part.
        output: Folder for the parts; need not exist.

    Raises:
        InputError: Too many for the numbers of rows, for an identifier of the model, or for the disk.
    """
    last = first_row + rows
    if last > UNBOUNDED:
        raise InputError(
            f"--rows {rows:,}: their numbers would end at {last:,}, and a model's rows are numbered up to "
            f"{UNBOUNDED:,}; ask for fewer rows, or with another --seed"
        )
    for name, generator in source.model.generators.items():
        check_capacity(generator, last, name)
    trial = min(rows_per_shard, _TRIAL_ROWS)
    if rows < _WORTH_A_TRIAL * trial:
        return
    needed, free = rows * _bytes_per_row(source, trial), disk_of(output).free
    if needed > free:
        raise InputError(
            f"--rows {rows:,}: about {human_bytes(needed)} would be written, {human_bytes(free)} are free in "
            f"{output}; ask for fewer rows, or choose a folder on a larger disk"
        )


def _bytes_per_row(source: Any, rows: int) -> float:
    """Bytes that a row takes in a part; the rows written to see it are not kept."""
    from shardsynth.sources.parts import write_part

    with tempfile.TemporaryDirectory() as folder:
        written = write_part(Path(folder) / "trial.parquet", source.schema, source, range(rows), lambda batch: None)
    source.acceptance()  # the trial's proposals are not those of the sample
    return float(written["size"] / rows)
