"""A native Gaussian copula as a stock SDV ``GaussianCopulaSynthesizer``: a pickle that SDV loads and samples.

A stock synthesizer is fitted to rows that the native model drew (no real row is used), so that every part of it is as
SDV makes it. Then its learned parameters are replaced by those of the model.

Exact are: categories (a uniform latent that is cut into intervals), the correlations, and missing numbers and dates
(SDV's ``is_null`` columns are latents too, shared as in the model). Not exact are: an empirical marginal, which becomes
the nearest named family if that is near enough, else a kernel density over at most 200 weighted knots of its quantile
function (the KS distance is reported); a missing category, which becomes one more category; and a computed column,
which becomes a correlated one unless it is a function of one category.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.metadata import TABLE
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.sdv.derived import Derived, derive
from shardsynth.models.sdv.export_columns import (
    DRAWN_ROWS,
    column_of,
    described,
    ensure_both,
    labels_of,
    save_pickle,
    set_axis,
)
from shardsynth.models.sdv.marginals import listed, stock_marginal, uniform
from shardsynth.models.sdv.state import silenced

if TYPE_CHECKING:
    import pandas as pd

    from shardsynth.models.copula.model import GaussianCopula

Floats = NDArray[np.float64]

_IS_NULL = ".is_null"


@dataclass(frozen=True)
class Output:
    """One column of SDV's copula.

    Attributes:
        univariate: Its distribution.
        latent: Its row in ``Derived.correlation``; -1: independent of all others.
    """

    univariate: Any
    latent: int


def lost_by_export(model: GaussianCopula) -> list[str]:
    """Lines for what the stock synthesizer of a model does not hold, besides its marginals."""
    return not_held(model, derive(model))


def export(model: GaussianCopula, path: str | Path) -> dict[str, float]:
    """Write a model as the pickle of a stock synthesizer.

    Args:
        model: A native copula.
        path: File to write.

    Returns:
        By name of each number or date: the KS distance of its marginal in SDV to the native one.
    """
    synthesizer, lost = to_stock(model)
    save_pickle(synthesizer, Path(path))
    return lost


def to_stock(model: GaussianCopula) -> tuple[Any, dict[str, float]]:
    """The stock synthesizer of a model; and by name of each number or date, the KS distance of its marginals."""
    columns = [column_of(model, i) for i in range(len(model.columns))]
    derived = derive(model)
    columns = [as_category(column) if column.name in derived.functions else column for column in columns]
    batch = model.draw(0, 0, DRAWN_ROWS)
    frame = frames.to_pandas(pa.Table.from_batches([batch]), columns)
    with silenced():
        synthesizer = _skeleton(model, columns, frame)
        outputs, lost = parametrised(synthesizer, model, columns, frame, derived)
        _set_copula(synthesizer, outputs, derived.correlation)
        return synthesizer, lost


def not_held(model: GaussianCopula, derived: Derived) -> list[str]:
    """Lines for what SDV's copula cannot hold: computed columns, rare classes, and rules."""
    lines = [
        not_computed(relation.name, relation.describe())
        for relation in model.relations
        if relation.name not in derived.functions
    ]
    if model.groups:
        target = model.schema.names[model.target]
        lines.append(f"rare classes of {target!r}: lost, their rows have the distributions of the whole table")
    if model.rules:
        lines.append(f"{len(model.rules)} rules on which rows may be missing: lost, SDV's rows break them now and then")
    return lines


def not_computed(column: str, how: str) -> str:
    """The line for a computed column that SDV draws."""
    return f"column {column!r}: not computed any more ({how}), only correlated"


def as_category(column: Column) -> Column:
    """A computed column, which SDV draws as a category."""
    return Column(column.name, column.type, "categorical", "category", column.options)


def _skeleton(model: GaussianCopula, columns: Sequence[Column], frame: pd.DataFrame) -> Any:
    """A stock synthesizer fitted to drawn rows: all but its parameters is as it has to be."""
    synthesizer = unfitted(model, columns, frame, "norm")
    data = {TABLE: frame}
    synthesizer.auto_assign_transformers(data)
    synthesizer.update_transformers(with_gaps(columns, frame))
    synthesizer.fit(data)
    return synthesizer


def unfitted(model: GaussianCopula, columns: Sequence[Column], frame: pd.DataFrame, distribution: str) -> Any:
    """A stock synthesizer of these columns; the frame gets values and gaps where the model has them."""
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    table = described(model, columns, frame)
    for name, share in _missing_shares(model).items():
        if name in frame:
            ensure_both(frame, name, share)
    return GaussianCopulaSynthesizer(
        Metadata.load_from_dict({"tables": {TABLE: table}, "METADATA_SPEC_VERSION": "V2"}),
        default_distribution=distribution,
    )


def with_gaps(columns: Sequence[Column], frame: pd.DataFrame) -> dict[str, Any]:
    """SDV's transformers of the numbers and dates of a frame that have missing values: these get a latent."""
    from rdt.transformers import FloatFormatter, UnixTimestampEncoder

    transformers: dict[str, Any] = {}
    for column in columns:
        settings = {"missing_value_generation": "from_column", "enforce_min_max_values": True}
        if column.role not in ("number", "datetime") or not frame[column.name].isna().any():
            continue
        if frame[column.name].dtype.kind == "M":
            transformers[column.name] = UnixTimestampEncoder(**settings)
        else:
            transformers[column.name] = FloatFormatter(**settings, learn_rounding_scheme=True)
    return transformers


def _missing_shares(model: GaussianCopula) -> dict[str, float]:
    shares = {column.name: 0.0 for column in model.columns if column.treatment in ("latent", "relation", "constant")}
    for latent in model.latents:
        if latent.kind == "missing":
            shares.update({model.columns[i].name: latent.p_missing for i in latent.columns})
    return shares


def parametrised(
    synthesizer: Any,
    model: GaussianCopula,
    columns: Sequence[Column],
    frame: pd.DataFrame,
    derived: Derived,
    without: Collection[str] = (),
) -> tuple[dict[str, Output], dict[str, float]]:
    """Replace the parameters of columns by the model's, except for the copula itself.

    Args:
        synthesizer: A fitted stock synthesizer.
        model: The model.
        columns: Its columns.
        frame: The rows that the synthesizer was fitted to.
        derived: From ``derive``.
        without: Columns that stay as they are.

    Returns:
        The columns of SDV's copula that are the model's, and the KS distances by column.
    """
    values = {model.columns[x.columns[0]].name: k for k, x in enumerate(model.latents) if x.kind == "value"}
    values.update(derived.latents)
    gaps = {model.columns[i].name: k for k, x in enumerate(model.latents) if x.kind == "missing" for i in x.columns}
    shares = _missing_shares(model)
    hyper = synthesizer._data_processor._hyper_transformer
    outputs: dict[str, Output] = {}
    lost: dict[str, float] = {}
    for column, fitted in zip(columns, model.columns):
        if column.name in without:
            continue
        if column.role not in ("category", "number", "datetime"):
            if column.role == "empty":
                _set_intervals(hyper.field_transformers[column.name], {None: [0.0, 1.0]})
                outputs[column.name] = Output(uniform(0.0, 1.0), -1)
            continue
        latent = values.get(column.name, -1)
        transformer = hyper.field_transformers[column.name]
        share = derived.missing.get(column.name, shares.get(column.name, 0.0))
        if column.role == "category":
            _set_intervals(transformer, _intervals(column, fitted, share, derived))
            outputs[column.name] = Output(uniform(0.0, 1.0), latent)
            continue
        marginal = derived.marginals.get(column.name, fitted.marginal)
        assert marginal is not None
        factor = frames.nanoseconds_of(column) if frame[column.name].dtype.kind == "M" else 1
        points = listed(marginal, fitted) if share == 0 and factor == 1 else None
        if points is not None:
            lost[column.name] = 0.0
            outputs[column.name] = Output(uniform(0.0, 1.0), latent)
            _encode(hyper, column.name, frame[column.name].dtype, *points)
            continue
        narrow = _narrow(column, fitted)
        stock = stock_marginal(marginal, fitted, factor, narrow or np.float64)
        lost[column.name] = stock.distance
        outputs[column.name] = Output(stock.univariate, latent)
        set_axis(transformer, synthesizer._data_processor.formatters.get(column.name), stock, frame[column.name])
        if narrow is not None:
            _set_dtype(synthesizer._data_processor, column.name, np.dtype(narrow))
        if column.name + _IS_NULL in synthesizer._model.columns:
            # Uniform on [p - 1/2, p + 1/2]; SDV takes values above 1/2 as missing.
            outputs[column.name + _IS_NULL] = Output(uniform(share - 0.5, 1.0), gaps.get(column.name, -1))
    return outputs, lost


def _intervals(column: Column, fitted: FittedColumn, share: float, derived: Derived) -> dict[Any, list[float]]:
    """Category -> ``[start, end]`` of its interval of the uniform latent, in latent order; None: missing, last."""
    if fitted.name in derived.functions:
        function = derived.functions[fitted.name]
        shown = labels_of(column, pa.array([value for value in function if value is not None], column.value_type))
        return dict(zip([*shown, None], function.values()))
    marginal = derived.marginals.get(fitted.name, fitted.marginal)
    assert marginal is not None and fitted.categories is not None
    labels = labels_of(column, fitted.categories)
    ends = marginal.cumulative * (1.0 - share)
    intervals: dict[Any, list[float]] = {}
    start = 0.0
    for place, end in zip(marginal.lo.astype(np.int64).tolist(), ends.tolist()):
        if end > start:
            intervals[labels[place] if place >= 0 else None] = [start, end]
            start = end
    if share > 0 and start < 1.0:
        intervals[None] = [start, 1.0]
    last = next(reversed(intervals))
    intervals[last][1] = 1.0
    return intervals


def _set_intervals(transformer: Any, intervals: Mapping[Any, list[float]]) -> None:
    transformer._set_fitted_parameters(transformer.columns[0], dict(intervals), transformer.dtype)
    transformer.frequencies = {label: interval[1] - interval[0] for label, interval in intervals.items()}


def _encode(hyper: Any, name: str, dtype: Any, values: Floats, share: Floats) -> None:
    """Make SDV draw a number of few values as a category: exact, and much faster than a density.

    Args:
        hyper: SDV's ``HyperTransformer``.
        name: The column.
        dtype: Its type in the frame.
        values: float64[m], its values.
        share: float64[m], their probabilities.
    """
    from rdt.transformers import UniformEncoder

    encoder, replaced = UniformEncoder(), hyper.field_transformers[name]
    ends = np.cumsum(share) / share.sum()
    starts = np.concatenate([[0.0], ends[:-1]])
    shown = values.astype(dtype).tolist()
    encoder.columns, encoder.column_prefix, encoder.dtype = [name], name, dtype
    encoder._set_fitted_parameters(name, {v: [a, b] for v, a, b in zip(shown, starts, ends)}, dtype)
    encoder.frequencies = dict(zip(shown, (ends - starts).tolist()))
    hyper.field_transformers[name] = encoder
    hyper._transformers_sequence = [encoder if x is replaced else x for x in hyper._transformers_sequence]


def _narrow(column: Column, fitted: FittedColumn) -> Any:
    """NumPy's type of a float32 or float16 column without a grid; else None.

    Rounding to this type turns the narrow kernels around atoms into the atoms.
    """
    kind = column.value_type
    ungridded = fitted.precision is None or fitted.precision.kind == "float"
    return kind.to_pandas_dtype() if pa.types.is_floating(kind) and kind.bit_width < 64 and ungridded else None


def _set_dtype(processor: Any, name: str, dtype: Any) -> None:
    """Make SDV return a column in this type."""
    processor._dtypes[name] = dtype
    processor._hyper_transformer.field_transformers[name]._dtype = dtype
    processor.formatters[name]._dtype = dtype


def _set_copula(synthesizer: Any, outputs: Mapping[str, Output], correlation: Floats) -> None:
    """Replace the fitted Gaussian copula by the model's, in the order of SDV's columns."""
    names = list(synthesizer._model.columns)
    places = [outputs[name].latent for name in names]
    matrix = np.eye(len(names))
    scale = np.sqrt(np.diag(correlation))
    unit = correlation / np.outer(scale, scale)
    for i, latent in enumerate(places):
        for j, other_latent in enumerate(places[:i]):
            if latent >= 0 and other_latent >= 0:
                matrix[i, j] = matrix[j, i] = unit[latent, other_latent]
    replace_copula(synthesizer, names, [outputs[name].univariate for name in names], matrix)


def replace_copula(synthesizer: Any, names: Sequence[str], univariates: Sequence[Any], matrix: Floats) -> None:
    """Put another Gaussian copula in place of the fitted one.

    Args:
        synthesizer: A fitted stock synthesizer.
        names: Columns of its copula, in its order.
        univariates: One distribution for each.
        matrix: float64[d, d], their correlations.
    """
    from copulas.multivariate import GaussianMultivariate

    gaussian = GaussianMultivariate.from_dict(
        {"columns": names, "univariates": [u.to_dict() for u in univariates], "correlation": matrix.tolist()}
    )
    gaussian.univariates = list(univariates)  # ``to_dict`` drops a density's bandwidth and weights
    with contextlib.suppress(AttributeError):
        gaussian.distribution = {name: type(u) for name, u in zip(names, univariates)}
    synthesizer._model = gaussian
    synthesizer.reset_sampling()
