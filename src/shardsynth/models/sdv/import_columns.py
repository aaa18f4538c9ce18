"""What both imports read from SDV's fitted transformers: types, generators, categories, grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.marginals import grid_unit
from shardsynth.models.sdv.options import CLASSES
from shardsynth.sampling import identifiers

Floats = NDArray[np.float64]

#: Segments of a tabulated distribution.
_SEGMENTS = 1_024
#: A grid of fewer points is tabulated point by point.
_GRID_POINTS = 2_048
#: Nanoseconds of the unit of each sign in a datetime format.
_NANOSECONDS = {"f": 1, "S": 10**9, "M": 60 * 10**9, "H": 3_600 * 10**9, "d": 86_400 * 10**9}


def foreign(name: str, transformer: Any) -> ModelError:
    """The error for a column with a transformer that a native model has no counterpart of."""
    return ModelError(
        f"column {name!r}: SDV transforms it by {type(transformer).__name__}, which a native model cannot follow; "
        "fit the synthesizer with SDV's default transformers"
    )


def arrow_type(dtype: Any, labels: list[Any]) -> pa.DataType:
    """Arrow's type for a pandas dtype; for a column of objects, the type of its labels."""
    if dtype.kind == "M":
        return pa.timestamp("ns")
    if dtype.kind == "O" or str(dtype) in ("category", "string"):
        labels = [x for x in labels if not is_missing(x)]
        if not labels:
            return pa.string()
        try:
            return pa.array(labels).type
        except (pa.ArrowException, TypeError):
            return pa.string()
    return pa.from_numpy_dtype(getattr(dtype, "numpy_dtype", dtype))


def generator_of(column: Column, transformer: Any, unique: bool) -> dict[str, Any]:
    """Generator of a column that SDV generates: by regex, by Faker, or by counting.

    Args:
        column: The column.
        transformer: SDV's generator.
        unique: Whether the column is a key.
    """
    empty = pa.array([], column.type)
    regex = getattr(transformer, "regex_format", None)
    if regex is not None:
        column = Column(column.name, column.type, "id", "id", {"regex_format": regex})
        return identifiers.learn(column, empty, {"unique": True})
    if column.role == "pii":
        return identifiers.learn(column, empty, {"unique": unique, "locales": getattr(transformer, "locales", None)})
    pattern = getattr(transformer, "function_kwargs", {}).get("text")
    text = pa.array([str(pattern).replace("?", "a")] if pattern else [], pa.string()).cast(pa.string())
    sample = text if pa.types.is_string(column.type) else empty
    return identifiers.learn(Column(column.name, column.type, "id", "id", {}), sample, {"unique": unique})


def is_datetime(transformer: Any) -> bool:
    """Whether the transformer is the one for datetimes."""
    from rdt.transformers import UnixTimestampEncoder

    return type(transformer) is UnixTimestampEncoder


def unlearned(column: Column, state: Mapping[str, Any]) -> FittedColumn:
    """A column that SDV did not learn: generated, constant or empty.

    Args:
        column: The column.
        state: What the stock engine saved beside the synthesizer; empty for SDV's own pickle.
    """
    constants = state.get("constants")
    if column.role in ("id", "pii"):
        return FittedColumn(column.name, column.role, column.role)
    if constants is None or column.name not in constants or constants[column.name].isna().all():
        return FittedColumn(column.name, column.role, "empty")
    value = constants[column.name].iloc[0]
    one, zero = np.ones(1), np.zeros(1)
    if column.role == "category":
        return FittedColumn(
            column.name, "category", "constant", Marginal("category", one, zero, zero),
            categories_of(column, [value]), Precision(),
        )  # fmt: skip
    number = float(value.value if hasattr(value, "value") else value)
    if column.role == "datetime" and hasattr(value, "value"):
        number = float(value.value // frames.nanoseconds_of(column))
    marginal = Marginal("axis", one, np.array([number]), np.array([number]))
    return FittedColumn(column.name, column.role, "constant", marginal, None, Precision())


def categories_of(column: Column, labels: list[Any]) -> pa.Array:
    """Labels of SDV's encoder as an Arrow array of the column's value type."""
    import pandas as pd

    plain = Column(column.name, column.value_type, column.sdtype, "category", {})
    frame = pd.DataFrame({column.name: pd.Series(labels, dtype=object)})
    schema = pa.schema([(column.name, column.value_type)])
    return frames.to_arrow(frame, schema, [plain], clip=False).column(0)


def is_missing(label: Any) -> bool:
    """Whether a label of SDV's means missing: None or NaN."""
    return label is None or (isinstance(label, float) and np.isnan(label))


def axis_grid(
    column: Column, transformer: Any, formatter: Any
) -> tuple[Precision, tuple[float | None, float | None], float, float]:
    """Grid, ends and unit of a number or date.

    Args:
        column: The column.
        transformer: Its ``FloatFormatter`` or ``UnixTimestampEncoder``.
        formatter: SDV's formatter of the column, for the rounding; None without one.

    Returns:
        The grid; the two values to which SDV clips, in SDV's unit, None where it does not; the number of SDV's units in
        one unit of the axis; and the shift, in units of the axis, that comes from SDV's truncation of datetimes.
    """
    low, high = (float(v) if v is not None else None for v in (transformer._min_value, transformer._max_value))
    factor, shift, precision = 1.0, 0.0, Precision()
    if is_datetime(transformer):
        factor = float(frames.nanoseconds_of(column))
        unit = max(1, int(_finest(transformer.datetime_format) // factor))
        precision, shift = Precision("integer", 0, unit), 0.5 * (unit - 1)  # SDV truncates to the format's finest part
    else:
        digits = getattr(formatter, "_rounding_digits", None)
        digits = transformer._rounding_digits if digits is None else digits
        if pa.types.is_integer(column.value_type) or digits == 0:
            precision = Precision("integer")
        elif digits is not None and 0 < digits < 14:
            precision = Precision("decimal", digits=int(digits))
        if digits is not None:  # SDV rounds after it clips
            low, high = (None if v is None else float(np.round(v, digits)) for v in (low, high))
    return precision, (low, high), factor, shift


def _finest(layout: str | None) -> int:
    """Nanoseconds of the finest part of a datetime format."""
    return min((size for sign, size in _NANOSECONDS.items() if layout and f"%{sign}" in layout), default=1)


def tabulated(
    cdf: Callable[[Floats], Floats],
    ppf: Callable[[Floats], Floats],
    ends: tuple[float | None, float | None],
    precision: Precision,
    p_missing: float,
) -> Marginal:
    """A distribution as a marginal: point by point on a grid of few points, else with knots at even normal scores.

    Args:
        cdf: Distribution function.
        ppf: Quantile function.
        ends: Values are clipped to these; None: not clipped.
        precision: Grid of the values.
        p_missing: Share of missing values.
    """
    u = np.concatenate([[0.0], ndtr(np.linspace(-6.0, 6.0, _SEGMENTS - 1)), [1.0]])
    knots = np.asarray(ppf(np.clip(u, 1e-9, 1 - 1e-9)), dtype=np.float64)
    finite = np.isfinite(knots)
    knots = np.interp(np.arange(len(knots)), np.flatnonzero(finite), knots[finite])
    low = float(knots[0]) if ends[0] is None else ends[0]
    high = float(knots[-1]) if ends[1] is None else ends[1]
    knots = np.maximum.accumulate(np.clip(knots, low, high))
    unit = grid_unit(precision)
    if low >= high or knots[0] == knots[-1]:
        value = precision.snap(np.array([knots[0]]))
        return Marginal("axis", np.ones(1), value, value, p_missing)
    if unit and (high - low) / unit < _GRID_POINTS:
        points = precision.snap(np.asarray(low + unit * np.arange(round((high - low) / unit) + 1), dtype=np.float64))
        inner = np.clip(np.nan_to_num(cdf(0.5 * (points[:-1] + points[1:]))), 0.0, 1.0)
        share = np.diff(np.concatenate([[0.0], np.maximum.accumulate(inner), [1.0]]))
        used = share > 1e-12
        return Marginal("axis", share[used] / share[used].sum(), points[used], points[used], p_missing)
    return Marginal("axis", np.diff(u), knots[:-1], knots[1:], p_missing)


_DEEP_FAMILIES = {name: family for family, name in CLASSES.items() if family != "gaussian_copula"}


def family_of(synthesizer: Any) -> str | None:
    """``ctgan``, ``copulagan`` or ``tvae`` for a deep synthesizer of SDV; None for anything else."""
    return _DEEP_FAMILIES.get(type(synthesizer).__name__)
