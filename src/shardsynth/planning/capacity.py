"""Whether so many rows can be made at all, said before the first: their numbers, their identifiers, the disk.

Only what is certain is refused. A job is judged by its input's bytes a row, so by the size of the whole disk and with
a margin; a model that is at hand by a few rows of its own, written to see how large they are.
"""

from __future__ import annotations

from pathlib import Path

from shardsynth.data.shards import Dataset
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.standalone.files import disk_of, human_bytes

_MARGIN = 10  # by which synthetic rows may be smaller on disk than the input's
_MOST_PARTS = 10_000_000


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
