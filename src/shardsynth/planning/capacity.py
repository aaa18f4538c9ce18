"""Whether the disk and the folders can hold the rows of a job, before its first task.

A job is refused only if this is certain: the size of its rows is estimated from the bytes per row of the input, so it
is compared with the size of the whole disk, and with a margin.
"""

from __future__ import annotations

from pathlib import Path

from shardsynth.data.shards import Dataset
from shardsynth.errors import JobError
from shardsynth.job import Job
from shardsynth.standalone.files import disk_of, human_bytes

_MARGIN = 10  # synthetic rows may take this many times fewer bytes than those of the input
_MOST_PARTS = 10_000_000


def check_room_for_job(job: Job, dataset: Dataset) -> None:
    """Check that the samples fit the disk, and that the parts are not too many for a folder.

    Raises:
        JobError: ``sample.rows`` or ``sample.rows_per_shard`` do not fit.
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
