"""Writing and reading one synthetic part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardsynth.data.stored_types import plain_batch
from shardsynth.data.writer import PartWriter
from shardsynth.errors import MergeError
from shardsynth.sources.sources import Source


def write_part(
    path: Path, schema: pa.Schema, source: Source, rows: range, watch: Callable[[pa.RecordBatch], None]
) -> dict[str, Any]:
    """Write one part.

    Args:
        path: Of the part.
        schema: The part's.
        source: Of the rows.
        rows: Global numbers of the rows.
        watch: Gets every batch after it was written.

    Returns:
        ``rows``, ``size`` in bytes and ``sha256`` of the part.
    """
    drawn = source.for_writing()
    has_spare_cpu = pa.cpu_count() > 1  # a writer in its own thread helps only where a CPU is free
    columns = source.dictionary_columns
    with PartWriter(
        path, schema, batch_schema=drawn.schema, dictionary_columns=columns, background=has_spare_cpu
    ) as writer:
        for batch in drawn.batches(rows):
            writer.write(batch)
            watch(batch)
        part = writer.close()
    return {"rows": part.rows, "size": part.bytes, "sha256": part.sha256}


def read_part(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a synthetic part.

    Raises:
        MergeError: It cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(use_threads=False):
                yield plain_batch(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise MergeError(
            f"{path}: the part cannot be read ({str(error).splitlines()[0]}); delete it, then `shardsynth resume` "
            "makes it again"
        ) from None
