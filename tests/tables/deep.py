"""Tables as a fit task holds them: profile, coder and counts, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.ends import EndRule
from shardsynth.data.values import kind_of
from shardsynth.models.base import FitSetup, Fitting
from shardsynth.models.ctgan.fit import fit_deep
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.sampling.identifiers import learn_all
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile, ProfileOptions

#: What a test may change of the setup of a fit.
SETUP = ("seed", "name", "threads", "checkpoint", "should_stop", "progress", "scratch", "generators")


class Prepared(NamedTuple):
    table: pa.Table
    columns: list[Column]
    profile: Profile
    coder: TableCoder
    counts: Counts


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(f) for f in sorted(folder.glob("*.parquet"))]).unify_dictionaries()


def columns_of(table: pa.Table, sdtypes: dict[str, str] | None = None) -> list[Column]:
    columns = []
    for field in table.schema:
        kind, values = kind_of(field.type), table[field.name]
        sdtype = (sdtypes or {}).get(field.name)
        if sdtype is None:
            few = kind == "integer" and len(pc.unique(values.drop_null())) <= 2
            sdtype = "categorical" if kind in ("text", "boolean") or few else "numerical"
            sdtype = "datetime" if kind == "temporal" else sdtype
        role = "empty" if values.null_count == len(values) else role_of_sdtype(sdtype)
        options = {"datetime_format": "%Y-%m-%d"} if sdtype == "datetime" and kind == "text" else {}
        columns.append(Column(field.name, field.type, sdtype, role, options))
    return columns


def prepare(table: pa.Table, sdtypes: dict[str, str] | None = None, sample_rows: int = 200_000) -> Prepared:
    columns = columns_of(table, sdtypes)
    profile = Profile.empty(table.schema, ProfileOptions(total_rows=len(table), sample_rows=sample_rows))
    batch = table.combine_chunks().to_batches()[0]
    profile.update(batch, 0).cut()
    coder = TableCoder.from_profile(profile, columns, ends=EndRule())
    counts = Counts.empty(coder, fit=False, score=None).update(batch, 0)
    return Prepared(table, columns, profile, coder, counts)


def fit(family: str, prepared: Prepared, options: dict[str, Any], **more: Any) -> DeepModel:
    table, columns, profile, coder, counts = prepared
    generators, device = learn_all(profile.sample, columns, [], seed=3), more.pop("device", None)
    of_setup = {name: more.pop(name) for name in SETUP if name in more}
    setup = FitSetup(table.schema, columns, coder, options, **{"seed": 3, "generators": generators, **of_setup})
    return fit_deep(family, Fitting(setup, profile, counts, **more), device=device)
