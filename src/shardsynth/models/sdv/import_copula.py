"""A fitted stock ``GaussianCopulaSynthesizer`` as a native model: the same distribution, sampled at disk speed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent, Marginal
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.copula.nearest import nearest_correlation
from shardsynth.models.sdv.import_columns import (
    arrow_type,
    axis_grid,
    categories_of,
    foreign,
    generator_of,
    is_datetime,
    is_missing,
    tabulated,
    unlearned,
)
from shardsynth.models.sdv.marginals import univariate_functions
from shardsynth.models.sdv.synthesizers import StockModel

_IS_NULL = ".is_null"


def import_copula(synthesizer: Any, state: Mapping[str, Any] | None, path: Path) -> GaussianCopula:
    """Native model of an opened pickle.

    Args:
        synthesizer: SDV's object.
        state: What this project's stock engine saved beside it; None for SDV's own pickle.
        path: The pickle, for errors.

    Raises:
        ModelError: It is no copula of SDV, not fitted, or has constraints or transformers that a native model cannot
            follow.
    """
    _check(synthesizer, path)
    if state is not None:
        stock = StockModel(synthesizer, dict(state))
        columns, schema, generators = stock.columns, stock.schema, stock.generators
    else:
        columns, generators = _columns(synthesizer)
        schema = pa.schema([(column.name, column.type) for column in columns])
    fit = _fit(synthesizer, columns, state or {})
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
        raise ModelError(
            f"{path}: the synthesizer has constraints, which its copula alone does not meet; fit one without them"
        )


def _columns(synthesizer: Any) -> tuple[list[Column], dict[str, dict[str, Any]]]:
    """Columns of the table that SDV was fitted to, and generators, by name, of those that it did not learn."""
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


def _is_uniform(transformer: Any) -> bool:
    from rdt.transformers import UniformEncoder

    return isinstance(transformer, UniformEncoder)


def _fit(synthesizer: Any, columns: list[Column], state: Mapping[str, Any]) -> CopulaFit:
    """The synthesizer's copula as one over ``columns``."""
    model = synthesizer._model
    univariates = dict(zip(model.columns, model.univariates))
    transformers = synthesizer._data_processor._hyper_transformer.field_transformers
    formatters = synthesizer._data_processor.formatters
    fitted: list[FittedColumn] = []
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
            fitted_column = _category(column, transformer, univariate, nan)
        else:
            absent = _missing_share(transformer, univariates.get(column.name + _IS_NULL))
            fitted_column = _axis(column, transformer, formatters.get(column.name), univariate, absent, nan)
            if absent > 0 and column.name + _IS_NULL in univariates:
                latents.append(Latent("missing", (place,), absent))
                sources.append(column.name + _IS_NULL)
            elif absent > 0:
                coins.append(Latent("missing", (place,), absent))
        fitted.append(fitted_column)
        if fitted_column.treatment == "latent":
            latents.append(Latent("value", (place,)))
            sources.append(column.name)
    matrix = np.eye(len(latents) + len(coins))
    named = np.nan_to_num(model.correlation.loc[sources, sources].to_numpy(dtype=np.float64))
    scale = np.sqrt(np.diag(named))
    matrix[: len(latents), : len(latents)] = nearest_correlation(named / np.outer(scale, scale))
    return CopulaFit(fitted, latents + coins, matrix, [], ["imported from a stock GaussianCopulaSynthesizer"])


def _category(column: Column, transformer: Any, univariate: Any, nan: bool) -> FittedColumn:
    """A category column: each interval of SDV's uniform encoding has the probability that SDV's distribution gives it.

    Missing is the code -1.
    """
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
        return FittedColumn(column.name, "category", "empty")
    marginal = Marginal("category", share[share > 0] / share.sum(), index, index)
    treatment = "constant" if len(index) == 1 else "latent"
    values = categories_of(column, labels)
    return FittedColumn(column.name, "category", treatment, marginal, values, Precision(), nan, _learned(univariate))


def _learned(univariate: Any) -> dict[str, Any]:
    """A distribution as SDV's ``get_learned_distributions`` shows it."""
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


def _axis(column: Column, transformer: Any, formatter: Any, univariate: Any, absent: float, nan: bool) -> FittedColumn:
    """A number or date: SDV's distribution, clipped and rounded as SDV does it."""
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
    return FittedColumn(column.name, column.role, treatment, marginal, None, precision, nan, _learned(univariate))
