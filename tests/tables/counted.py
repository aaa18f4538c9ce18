"""Tables as their counts, with roles by a rule of thumb."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.values import kind_of
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile, ProfileOptions
from shardsynth.summaries.ranges import ScoreRanges


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(f) for f in sorted(folder.glob("*.parquet"))]).unify_dictionaries()


def one_chunk(table: pa.Table) -> pa.RecordBatch:
    return table.unify_dictionaries().combine_chunks().to_batches()[0]


def profile_of(table: pa.Table) -> Profile:
    profile = Profile.empty(table.schema, ProfileOptions(total_rows=table.num_rows))
    return profile.update(one_chunk(table), 0)


def columns_of(table: pa.Table, sdtypes: dict[str, str] | None = None) -> list[Column]:
    columns = []
    for field in table.schema:
        kind, values = kind_of(field.type), table[field.name]
        sdtype = (sdtypes or {}).get(field.name)
        if sdtype is None:
            few = kind == "integer" and len(pc.unique(values)) <= 3
            sdtype = "categorical" if kind in ("text", "boolean") else "ordinal" if few else "numerical"
            sdtype = "datetime" if kind == "temporal" else sdtype
        role = "empty" if values.null_count == len(values) else role_of_sdtype(sdtype)
        options = {"datetime_format": "%Y-%m-%d"} if sdtype == "datetime" and kind == "text" else {}
        columns.append(Column(field.name, field.type, sdtype, role, options))
    return columns


def counts_of(coder: TableCoder, table: pa.Table) -> Counts:
    ranges = ScoreRanges.empty(coder.columns)
    batches = table.to_batches(max_chunksize=1000)
    for batch in batches:
        ranges.update(batch)
    counts = Counts.empty(coder, fit=False, score=ranges)
    for batch in batches:
        counts.update(batch, 0)
    return counts


def coder_of(table: pa.Table, roles: dict[str, str] | None = None) -> TableCoder:
    columns = []
    for f in table.schema:
        number = pa.types.is_integer(f.type) or pa.types.is_floating(f.type)
        sdtype = (roles or {}).get(f.name, "numerical" if number else "categorical")
        columns.append(Column(f.name, f.type, sdtype, "number" if sdtype == "numerical" else "category"))
    profile = Profile.empty(table.schema, ProfileOptions(total_rows=table.num_rows))
    profile.update(table.combine_chunks().to_batches()[0], 0)
    return TableCoder.from_profile(profile, columns)
