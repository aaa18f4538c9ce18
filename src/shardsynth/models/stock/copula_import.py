"""A fitted stock ``GaussianCopulaSynthesizer`` as a native model: the same distribution, sampled at disk speed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import CopulaFit, FitColumn, Latent, Marginal
from shardsynth.models.copula.nearest import nearest_correlation
from shardsynth.models.stock.marginals import univariate_functions
from shardsynth.models.stock.state import silenced
from shardsynth.models.stock.synthesizers import STATE, StockModel, unpickle
from shardsynth.sampling import identifiers

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]

_IS_NULL = ".is_null"
_SEGMENTS = 1_024
_GRID_POINTS = 2_048
_NANOSECONDS = {"f": 1, "S": 10**9, "M": 60 * 10**9, "H": 3_600 * 10**9, "d": 86_400 * 10**9}


def import_stock(path: str | Path, trust: bool = False, sha256: str | None = None) -> Any:
    """Native model of a stock synthesizer's pickle, SDV's own or this project's: a copula, or see ``deep_import``.

    SDV's encoding carries over exactly: a category is an interval of a uniform latent, a number may be missing by an
    independent coin or by its ``is_null`` latent; distributions of numbers are tabulated. Ids and personal columns
    get generators of their own (formats as in SDV's metadata).

    Args:
        path: The pickle. Opening it runs the code that it names.
        trust: Open it whatever it is.
        sha256: Open it if it has this checksum.

    Raises:
        ModelError: Not trusted, not a fitted synthesizer of a native family, or one with constraints or transformers
            that a native model cannot follow.
    """
    from shardsynth.models.copula.model import GaussianCopula

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the pickle cannot be read: {error.strerror}") from None
    if not trust and (sha256 is None or hashlib.sha256(data).hexdigest() != sha256):
        raise ModelError(
            f"{path}: opening a pickle runs the code in it; give --trust-pickle if you know where it comes from"
        )
    synthesizer = unpickle(data, str(path))
    state = synthesizer.__dict__.pop(STATE, None) if hasattr(synthesizer, "__dict__") else None
    from shardsynth.models.stock.deep_import import family_of, import_deep

    if family_of(synthesizer) is not None:
        with silenced():
            return import_deep(synthesizer, state, path)
    _check(synthesizer, path)
    with silenced():
        if state is not None:
            stock = StockModel(synthesizer, state)
            columns, schema, generators = stock.columns, stock.schema, stock.generators
        else:
            columns, generators = _columns(synthesizer)
            schema = pa.schema([(column.name, column.type) for column in columns])
        fit = _fit(synthesizer, columns, {} if state is None else state)
    return GaussianCopula.from_fit(fit, schema, columns, generators=generators)


def _check(synthesizer: Any, path: Path) -> None:
    from copulas.multivariate import GaussianMultivariate
    from sdv.single_table import GaussianCopulaSynthesizer

    if not isinstance(synthesizer, GaussianCopulaSynthesizer):
        raise ModelError(
            f"{path}: holds a {type(synthesizer).__name__}, not a synthesizer of SDV that has a native family"
        )
    if not synthesizer._fitted or not isinstance(synthesizer._model, GaussianMultivariate):
        raise ModelError(f"{path}: the synthesizer is not fitted; fit it in SDV first")
    if synthesizer.get_constraints():
        raise ModelError(f"{path}: the synthesizer has constraints, which its copula alone does not meet")


def _columns(synthesizer: Any) -> tuple[list[Column], dict[str, dict[str, Any]]]:
    """Columns of the table that the synthesizer was fitted to, and generators of those that it does not learn."""
    processor = synthesizer._data_processor
    described = processor.metadata.columns
    columns: list[Column] = []
    generators: dict[str, dict[str, Any]] = {}
    for name, dtype in processor._dtypes.items():
        options = {key: value for key, value in described[name].items() if key != "sdtype"}
        transformer = processor._hyper_transformer.field_transformers.get(name)
        learned = name in synthesizer._model.columns
        role = role_of_sdtype(described[name]["sdtype"])
        if learned:
            role = "category" if _is_uniform(transformer) else "datetime" if is_datetime(transformer) else "number"
        kind = arrow_type(dtype, list(getattr(transformer, "intervals", None) or {}) if learned else [])
        column = Column(str(name), kind, described[name]["sdtype"], role, options)
        columns.append(column)
        if not learned and transformer is not None and transformer.is_generator():
            generators[column.name] = generator_of(column, transformer, name in processor._keys)
        elif not learned:
            raise foreign(column.name, transformer)
    return columns, generators


def foreign(name: str, transformer: Any) -> ModelError:
    """A column that SDV makes in a way of its own."""
    return ModelError(
        f"column {name!r}: SDV transforms it by {type(transformer).__name__}, which a native model cannot follow; "
        "fit the synthesizer with SDV's default transformers"
    )


def arrow_type(dtype: Any, labels: list[Any]) -> pa.DataType:
    """Arrow's type of a pandas dtype; of a column of objects, that of its labels."""
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
    """Generator of a column that SDV makes up: by regex, by Faker, or by counting."""
    empty = pa.array([], column.type)
    regex = getattr(transformer, "regex_format", None)
    if regex is not None:
        column = Column(column.name, column.type, "id", "id", {"regex_format": regex})
        return identifiers.learn(column, empty, {"unique": True})
    if column.role == "pii":
        return identifiers.learn(column, empty, {"unique": unique, "locales": getattr(transformer, "locales", None)})
    made = getattr(transformer, "function_kwargs", {}).get("text")
    text = pa.array([str(made).replace("?", "a")] if made else [], pa.string()).cast(pa.string())
    sample = text if pa.types.is_string(column.type) else empty
    return identifiers.learn(Column(column.name, column.type, "id", "id", {}), sample, {"unique": unique})


def _is_uniform(transformer: Any) -> bool:
    from rdt.transformers import UniformEncoder

    return isinstance(transformer, UniformEncoder)


def is_datetime(transformer: Any) -> bool:
    """Whether SDV holds the column as instants."""
    from rdt.transformers import UnixTimestampEncoder

    return type(transformer) is UnixTimestampEncoder


def _fit(synthesizer: Any, columns: list[Column], state: Mapping[str, Any]) -> CopulaFit:
    """The copula of the synthesizer, in terms of ``columns``."""
    model = synthesizer._model
    univariates = dict(zip(model.columns, model.univariates))
    transformers = synthesizer._data_processor._hyper_transformer.field_transformers
    formatters = synthesizer._data_processor.formatters
    fitted: list[FitColumn] = []
    latents: list[Latent] = []
    sources: list[Any] = []
    coins: list[Latent] = []
    for place, column in enumerate(columns):
        if column.name not in univariates:
            fitted.append(unlearned(column, state))
            continue
        transformer = transformers.get(column.name)
        univariate = univariates[column.name]
        nan = column.name in state.get("nan", ())
        if _is_uniform(transformer):
            made = _category(column, transformer, univariate, nan)
        else:
            absent = _missing_share(transformer, univariates.get(column.name + _IS_NULL))
            made = _axis(column, transformer, formatters.get(column.name), univariate, absent, nan)
            if absent > 0 and column.name + _IS_NULL in univariates:
                latents.append(Latent("missing", (place,), absent))
                sources.append(column.name + _IS_NULL)
            elif absent > 0:
                coins.append(Latent("missing", (place,), absent))
        fitted.append(made)
        if made.treatment == "latent":
            latents.append(Latent("value", (place,)))
            sources.append(column.name)
    matrix = np.eye(len(latents) + len(coins))
    named = np.nan_to_num(model.correlation.loc[sources, sources].to_numpy(dtype=np.float64))
    scale = np.sqrt(np.diag(named))
    matrix[: len(latents), : len(latents)] = nearest_correlation(named / np.outer(scale, scale))
    return CopulaFit(fitted, latents + coins, matrix, [], ["imported from a stock GaussianCopulaSynthesizer"])


def unlearned(column: Column, state: Mapping[str, Any]) -> FitColumn:
    """A column that never reached SDV: an id, or one that holds one value."""
    constants = state.get("constants")
    if column.role in ("id", "pii"):
        return FitColumn(column.name, column.role, column.role)
    if constants is None or column.name not in constants or constants[column.name].isna().all():
        return FitColumn(column.name, column.role, "empty")
    value = constants[column.name].iloc[0]
    one, zero = np.ones(1), np.zeros(1)
    if column.role == "category":
        return FitColumn(
            column.name, "category", "constant", Marginal("category", one, zero, zero),
            categories_of(column, [value]), Precision(),
        )  # fmt: skip
    number = float(value.value if hasattr(value, "value") else value)
    if column.role == "datetime" and hasattr(value, "value"):
        from shardsynth.data.frames import nanoseconds_of

        number = float(value.value // nanoseconds_of(column))
    marginal = Marginal("axis", one, np.array([number]), np.array([number]))
    return FitColumn(column.name, column.role, "constant", marginal, None, Precision())


def categories_of(column: Column, labels: list[Any]) -> pa.Array:
    """Labels of SDV's encoder as the column's categories."""
    import pandas as pd

    from shardsynth.data import frames

    plain = Column(column.name, column.value_type, column.sdtype, "category", {})
    frame = pd.DataFrame({column.name: pd.Series(labels, dtype=object)})
    schema = pa.schema([(column.name, column.value_type)])
    return frames.to_arrow(frame, schema, [plain], clip=False).column(0)


def _category(column: Column, transformer: Any, univariate: Any, nan: bool) -> FitColumn:
    """Intervals of SDV's uniform latent, through its distribution; missing is the code -1."""
    intervals = [(label, edges) for label, edges in transformer.intervals.items() if edges[1] > edges[0]]
    labels = [label for label, _ in intervals if not is_missing(label)]
    inner = np.array([edges[1] for _, edges in intervals[:-1]], dtype=np.float64)
    cdf, _ = univariate_functions(univariate)
    ends = np.concatenate([[0.0], cdf(inner) if len(inner) else [], [1.0]])
    share = np.clip(np.diff(np.maximum.accumulate(ends)), 0.0, 1.0)
    codes, place = [], 0
    for label, _ in intervals:
        codes.append(-1.0 if is_missing(label) else float(place))
        place += not is_missing(label)
    index = np.array(codes)[share > 0]
    if not labels or (index < 0).all():
        return FitColumn(column.name, "category", "empty")
    marginal = Marginal("category", share[share > 0] / share.sum(), index, index)
    treatment = "constant" if len(index) == 1 else "latent"
    values = categories_of(column, labels)
    return FitColumn(column.name, "category", treatment, marginal, values, Precision(), nan, _learned(univariate))


def is_missing(label: Any) -> bool:
    """Whether a category of SDV's is the missing one."""
    return label is None or (isinstance(label, float) and np.isnan(label))


def _learned(univariate: Any) -> dict[str, Any]:
    """SDV's own words for a distribution."""
    from sdv.single_table import GaussianCopulaSynthesizer

    names = {kind.__name__: name for name, kind in GaussianCopulaSynthesizer._DISTRIBUTIONS.items()}
    parameters = dict(univariate.to_dict())
    name = names.get(str(parameters.pop("type")).rsplit(".", maxsplit=1)[-1], "unknown")
    plain = {k: v if isinstance(v, (list, str)) else float(v) for k, v in parameters.items() if v is not None}
    return {"distribution": name, "learned_parameters": plain}


def _missing_share(transformer: Any, is_null: Any) -> float:
    if transformer is None or transformer.null_transformer is None:
        return 0.0
    nulls = transformer.null_transformer
    if is_null is not None:
        cdf, _ = univariate_functions(is_null)
        return float(np.clip(1.0 - cdf(np.array([0.5]))[0], 0.0, 1.0))
    return float(nulls._null_percentage or 0.0) if nulls.nulls else 0.0


def _axis(column: Column, transformer: Any, formatter: Any, univariate: Any, absent: float, nan: bool) -> FitColumn:
    """A number or date: SDV's distribution, clipped and rounded as SDV does."""
    from rdt.transformers import FloatFormatter

    if not (type(transformer) is FloatFormatter or is_datetime(transformer)):
        raise foreign(column.name, transformer)
    precision, (low, high), factor, shift = axis_grid(column, transformer, formatter)
    cdf, ppf = univariate_functions(univariate)
    marginal = tabulated(
        lambda x: cdf((x + shift) * factor),
        lambda u: np.asarray(ppf(u)) / factor - shift,
        (None if low is None else low / factor, None if high is None else high / factor),
        precision,
        absent,
    )
    only = len(marginal.lo) == 1 and marginal.lo[0] == marginal.hi[0]
    treatment = "constant" if only and absent == 0 else "latent"
    return FitColumn(column.name, column.role, treatment, marginal, None, precision, nan, _learned(univariate))


def axis_grid(
    column: Column, transformer: Any, formatter: Any
) -> tuple[Precision, tuple[float | None, float | None], float, float]:
    """Grid of a number or date, where SDV clips it, SDV's units in one of ours, and what SDV's cutting shifts it by."""
    low, high = (float(v) if v is not None else None for v in (transformer._min_value, transformer._max_value))
    factor, shift, precision = 1.0, 0.0, Precision()
    if is_datetime(transformer):
        from shardsynth.data.frames import nanoseconds_of

        factor = float(nanoseconds_of(column))
        unit = max(1, int(_finest(transformer.datetime_format) // factor))
        precision, shift = Precision("integer", 0, unit), 0.5 * (unit - 1)  # SDV cuts a format's last digit off
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
    """A distribution as a quantile function: point by point on a grid of few points, else on knots even in z.

    Args:
        cdf: Distribution function.
        ppf: Quantile function.
        ends: Values are clipped to these; None: not.
        precision: Grid of the values.
        p_missing: Share of missing values.
    """
    from scipy.special import ndtr

    from shardsynth.models.columns.marginals import grid_unit

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
