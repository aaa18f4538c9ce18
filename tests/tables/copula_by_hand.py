"""Copulas made by hand: of real tables by plain means, and of one column of every type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent, Marginal
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions
from tests.tables.copula import function_of, simple_fit


def adult_copula(folder: Path) -> GaussianCopula:
    """Of Adult, with its exact relation."""
    table = ds.dataset(folder).to_table().combine_chunks()
    return GaussianCopula.from_fit(simple_fit(table, [function_of(table, "education", "education-num")]), table.schema)


def mds_copula(folder: Path) -> GaussianCopula:
    """Of the table of patients, without its ids."""
    table = ds.dataset(folder).to_table().combine_chunks().drop_columns(["ID"])
    return GaussianCopula.from_fit(
        simple_fit(table, [], {f.name for f in table.schema if f.type == pa.int8()}), table.schema
    )


def atoms(values: list[float], probability: list[float], missing: float = 0.0) -> Marginal:
    return Marginal("axis", np.array(probability), np.array(values, float), np.array(values, float), missing)


def categories(probability: list[float], missing: float = 0.0) -> Marginal:
    places = np.arange(len(probability), dtype=float)
    return Marginal("category", np.array(probability), places, places, missing)


def independent(columns: list[FittedColumn], schema: pa.Schema, relations=(), formats=None) -> GaussianCopula:
    """A model of independent columns; each column that may be missing has an indicator of its own."""
    latents = [Latent("value", (i,)) for i, c in enumerate(columns) if c.treatment == "latent"]
    latents += [
        Latent("missing", (i,), c.marginal.p_missing)
        for i, c in enumerate(columns)
        if c.marginal and c.marginal.p_missing
    ]
    fit = CopulaFit(columns, latents, np.eye(len(latents)), list(relations))
    declared = [
        Column(f.name, f.type, "datetime", "datetime", {"datetime_format": formats[f.name]})
        for f in schema
        if formats and f.name in formats
    ]
    return GaussianCopula.from_fit(fit, schema, declared)


def stream(batch: pa.RecordBatch) -> bytes:
    """A batch as bytes: NaN equals NaN, and what stands under a null counts."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def zoo() -> tuple[list[FittedColumn], pa.Schema, dict[str, str]]:
    """One column of every type that a table may have."""
    integer, text = Precision("integer"), pa.array(["a", "b", "ü"])
    columns, fields, formats = [], [], {}

    def add(data_type: pa.DataType, marginal: Marginal, *, nullable: bool = True, **options) -> None:
        name = f"{len(columns)} {data_type}"
        role = "category" if marginal.kind == "category" else "number"
        columns.append(FittedColumn(name, role, "latent", marginal, **options))
        fields.append(pa.field(name, data_type, nullable=nullable, metadata={"n": str(len(fields))}))

    for data_type in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        add(data_type, atoms([1, 5, 7], [0.2, 0.3, 0.5], 0.1), precision=integer)
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([-0.498]), np.array([100.498])),
            precision=integer,
            nullable=False,
        )
    for data_type in (pa.float16(), pa.float32(), pa.float64()):
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([0.0]), np.array([9.0]), 0.2),
            precision=Precision("decimal", digits=1),
        )
        add(data_type, Marginal("axis", np.ones(1), np.array([0.0]), np.array([9.0]), 0.2), emit_nan=True)
    for data_type in (pa.decimal128(10, 2), pa.decimal256(40, 3)):
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([-5.0]), np.array([5.0]), 0.2),
            precision=Precision("decimal", digits=2),
        )
    for data_type in (
        pa.date32(),
        pa.time32("s"),
        pa.timestamp("ms", "Europe/Rome"),
        pa.timestamp("ns"),
        pa.duration("us"),
    ):
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([999.5]), np.array([9999.5]), 0.1),
            precision=Precision("integer", 0, 100),
        )
    for data_type in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        add(data_type, categories([0.2, 0.3, 0.5], 0.1), categories=text.cast(pa.string()))
    add(
        pa.dictionary(pa.int32(), pa.large_string(), ordered=True),
        categories([0.5, 0.5]),
        categories=pa.array(["x", "y"], pa.large_string()),
    )
    add(pa.bool_(), categories([0.5, 0.5], 0.3), categories=pa.array([False, True]))
    add(pa.int8(), categories([0.9, 0.1], 0.3), categories=pa.array([0, 1], pa.int8()))
    add(pa.int64(), categories([0.9, 0.1]), categories=pa.array([2**62 + 1, -(2**62)]))
    add(pa.date32(), categories([0.9, 0.1], 0.5), categories=pa.array([1, 2], pa.int32()).cast(pa.date32()))
    add(pa.binary(), categories([0.5, 0.5], 0.1), categories=pa.array([b"\0", b"xyz"]))
    for data_type, layout in ((pa.string(), "%Y-%m-%d"), (pa.int32(), "%Y%m%d")):
        day = 86_400 * 10**9
        add(
            data_type,
            Marginal("axis", np.ones(1), np.array([1000.0 * day]), np.array([9000.0 * day]), 0.1),
            precision=Precision("integer", 0, day),
        )
        formats[columns[-1].name] = layout
    columns += [
        FittedColumn("empty", "empty", "empty"),
        FittedColumn("nothing", "empty", "empty"),
        FittedColumn("constant", "category", "constant", categories([1.0]), pa.array(["only"])),
        FittedColumn("constant, or missing", "number", "constant", atoms([3.0], [1.0], 0.25), precision=integer),
    ]
    fields += [
        pa.field("empty", pa.dictionary(pa.int8(), pa.string())),
        pa.field("nothing", pa.null()),
        pa.field("constant", pa.string(), nullable=False),
        pa.field("constant, or missing", pa.int16()),
    ]
    return columns, pa.schema(fields, {"table": "zoo"}), formats


def drawn(model: GaussianCopula, where, rows: int = 60_000) -> pd.DataFrame:
    batch = model.draw(1, 0, rows, parse_conditions(where))
    batch.validate(full=True)
    assert batch.schema.equals(model.schema, check_metadata=True)
    return batch.to_pandas()


def distance(left: pd.Series, right: pd.Series) -> float:
    """Total variation over at most twenty bins, missing being one of them."""
    number = pd.api.types.is_numeric_dtype(right)
    both = pd.concat([side.astype(float if number else object) for side in (left, right)], ignore_index=True)
    if number and right.nunique() > 20:
        both = pd.qcut(both, 20, duplicates="drop")
    codes = pd.factorize(both.astype(str))[0]
    size = codes.max() + 1
    a = np.bincount(codes[: len(left)], minlength=size) / len(left)
    b = np.bincount(codes[len(left) :], minlength=size) / len(right)
    return 0.5 * float(np.abs(a - b).sum())
