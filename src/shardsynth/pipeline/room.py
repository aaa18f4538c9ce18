"""Whether so many rows can be made at all, said before the first: their numbers, their identifiers, the disk.

Only what is certain is refused. A job is judged by its input's bytes a row, so by the size of the whole disk and with
a margin; a model that is at hand by a few rows of its own, written to see how large they are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from shardsynth.data.shards import Dataset
from shardsynth.errors import InputError, JobError
from shardsynth.job import Job
from shardsynth.pipeline.files import disk_of, human_bytes
from shardsynth.sampling.identifiers import UNBOUNDED, check_capacity

_TRIAL_ROWS = 16_384
_WORTH_A_TRIAL = 100  # times the trial's rows: it costs a hundredth of the work then
_MARGIN = 10  # by which synthetic rows may be smaller on disk than the input's
_MOST_PARTS = 10_000_000


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


def check_room_for_job(job: Job, dataset: Dataset) -> None:
    """Refuse a job whose samples no disk of this size holds, or whose parts no folder does.

    Raises:
        JobError: What of ``sample`` is too much.
    """
    rows, models = job.sample.total_rows(dataset.rows), len(job.models)
    total = disk_of(Path(job.output)).total
    needed = rows * models * sum(shard.size for shard in dataset.shards) / max(1, dataset.rows)
    if needed > _MARGIN * total:
        raise JobError(
            f"sample.rows: {rows:,} rows a model would take about {human_bytes(needed)} in all by the input's bytes a "
            f"row, and the disk of {job.output} has {human_bytes(total)}; ask for fewer rows"
        )
    parts = models * -(-rows // job.sample.rows_per_shard)
    if parts > _MOST_PARTS:
        raise JobError(
            f"sample.rows_per_shard: {rows:,} rows a model would be {parts:,} parts in all, wanted at most "
            f"{_MOST_PARTS:,}; raise it, or ask for fewer rows"
        )


def _bytes_per_row(source: Any, rows: int) -> float:
    """Bytes that a row takes in a part; the rows written to see it are not kept."""
    from shardsynth.pipeline.stages import write_part

    with tempfile.TemporaryDirectory() as folder:
        written = write_part(Path(folder) / "trial.parquet", source.schema, source, range(rows), lambda batch: None)
    source.acceptance()  # the trial's proposals are not those of the sample
    return float(written["size"] / rows)
