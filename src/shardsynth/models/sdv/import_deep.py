"""A fitted stock CTGAN, CopulaGAN or TVAE synthesizer as a native model: the same networks, sampled at disk speed.

Modes, categories and weights are exact, also from a GPU's pickle on a CPU. Two things are as in native models:
conditions are drawn by the true frequencies (SDV draws them by logarithms of counts, as ``condvec: log`` does), and a
generator's normalisation is settled on generated rows (SDV takes the statistics of each batch of 500).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.layouts import layout_of
from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.ctgan.codes import DeepCoding, Layout
from shardsynth.models.ctgan.columns import ModeColumn
from shardsynth.models.ctgan.fit import settle
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.models.ctgan.modes import STDS, Modes
from shardsynth.models.ctgan.options import DeepOptions, option_names
from shardsynth.models.ctgan.parameters import make_network
from shardsynth.models.sdv.import_columns import (
    arrow_type,
    axis_grid,
    categories_of,
    family_of,
    foreign,
    generator_of,
    is_datetime,
    is_missing,
    tabulated,
    unlearned,
)
from shardsynth.models.sdv.marginals import univariate_functions
from shardsynth.models.sdv.synthesizers import StockModel

_NONE = np.zeros(0, np.int64)


def import_deep(synthesizer: Any, state: Mapping[str, Any] | None, path: Path) -> DeepModel:
    """Native model of an opened pickle.

    Args:
        synthesizer: SDV's object.
        state: What this project's stock engine saved beside it; None for SDV's own pickle.
        path: The pickle, for errors.

    Raises:
        ModelError: Not fitted, with constraints, or with transformers that a native model cannot follow.
    """
    family = family_of(synthesizer)
    assert family is not None
    inner = synthesizer._model
    if not synthesizer._fitted or inner is None:
        raise ModelError(f"{path}: the synthesizer is not fitted; fit it in SDV first")
    if synthesizer.get_constraints():
        raise ModelError(
            f"{path}: the synthesizer has constraints, which its networks alone do not meet; fit one without them"
        )
    is_gan = family != "tvae"
    infos = {
        str(i.column_name): i for i in (inner._transformer if is_gan else inner.transformer)._column_transform_info_list
    }
    if state is not None:
        stock = StockModel(synthesizer, dict(state))
        columns, schema, generators = stock.columns, stock.schema, stock.generators
    else:
        columns, generators = _columns(synthesizer, infos)
        schema = pa.schema([(column.name, column.type) for column in columns])
    strange = set(infos) - {column.name for column in columns}
    if strange:
        name = sorted(strange)[0]
        raise foreign(name, synthesizer._data_processor._hyper_transformer.field_transformers.get(name.split(".")[0]))
    sampler = inner._data_sampler if is_gan else None
    table: list[FittedColumn] = []
    learned: list[ModeColumn] = []
    number = {name: k for k, name in enumerate(n for n, i in infos.items() if i.column_type == "discrete")}
    for column in columns:
        info = infos.get(column.name)
        nan = column.name in (state or {}).get("nan", ())
        if info is None:
            table.append(unlearned(column, state or {}))
            continue
        if info.column_type == "discrete":
            mode_column = _category(column, info, sampler, number[column.name], nan)
        else:
            mode_column = _axis(synthesizer, column, info, nan)
        learned.append(mode_column)
        table.append(mode_column.fit)
    options = _options(family, synthesizer)
    coding = DeepCoding(tuple(table), tuple(learned), (f"imported from a stock {type(synthesizer).__name__}",))
    network = make_network(options, coding.layout)
    stored = inner._generator if is_gan else inner.decoder
    network.load_state_dict(_weights(stored.state_dict(), options, coding, list(infos)))
    rows = int(sampler._data_length) if sampler is not None else 0
    if is_gan and stored.training:  # SDV leaves it in this mode; an exported native model is settled already
        settle(network, coding, options, rows, 0, torch.device("cpu"))
    formats = {c.name: text for c in columns if (text := layout_of(c)) is not None}
    return DeepModel(schema, options, coding, network.eval(), rows, generators, formats, family)


def _columns(synthesizer: Any, infos: Mapping[str, Any]) -> tuple[list[Column], dict[str, dict[str, Any]]]:
    """Columns of the table that SDV was fitted to, and generators, by name, of those that it did not learn."""
    processor = synthesizer._data_processor
    described = processor.metadata.columns
    columns: list[Column] = []
    generators: dict[str, dict[str, Any]] = {}
    for name, dtype in processor._dtypes.items():
        options = {key: value for key, value in described[name].items() if key != "sdtype"}
        transformer = processor._hyper_transformer.field_transformers.get(name)
        info, role = infos.get(str(name)), role_of_sdtype(described[name]["sdtype"])
        if info is not None:
            role = (
                "category" if info.column_type == "discrete" else "datetime" if is_datetime(transformer) else "number"
            )
        labels = [x for x in info.transform.dummies if not is_missing(x)] if role == "category" and info else []
        column = Column(str(name), arrow_type(dtype, labels), described[name]["sdtype"], role, options)
        columns.append(column)
        if info is None and transformer is not None and transformer.is_generator():
            generators[column.name] = generator_of(column, transformer, name in processor._keys)
        elif info is None:
            raise foreign(column.name, transformer)
    return columns, generators


def _category(column: Column, info: Any, sampler: Any, number: int, nan: bool) -> ModeColumn:
    """A category column: categories in SDV's order, missing last, with the frequencies that SDV trained on."""
    encoder = info.transform
    nullable = bool(encoder._dummy_na)
    size = info.output_dimensions
    share = np.full(size, 1.0 / size)
    if sampler is not None:
        rows = sampler._rid_by_cat_cols[number] if len(sampler._rid_by_cat_cols) else None
        counted = sampler._discrete_column_category_prob[number, :size] if rows is None else [len(r) for r in rows]
        share = np.maximum(np.asarray(counted, np.float64), 1e-12)
        share /= share.sum()
    labels = list(encoder._uniques)
    if not labels:
        fit = FittedColumn(column.name, "category", "empty", emit_nan=nan)
        return ModeColumn(fit, share, True, None, False, _NONE, _NONE, _NONE.astype(np.float64))
    present = share[: len(labels)]
    absent = float(share[-1]) if nullable else 0.0
    index = np.arange(len(labels), dtype=np.float64)
    marginal = Marginal("category", present / present.sum(), index, index, absent)
    values = categories_of(column, labels)
    fit = FittedColumn(column.name, "category", "latent", marginal, values, Precision(), nan)
    return ModeColumn(fit, share, nullable, None, False, np.arange(len(labels)), _NONE, _NONE.astype(np.float64))


def _axis(synthesizer: Any, column: Column, info: Any, nan: bool) -> ModeColumn:
    """A number or date: modes in the unit of the column's axis, clipped and rounded as SDV does it."""
    from rdt.transformers import FloatFormatter

    processor = synthesizer._data_processor
    transformer = processor._hyper_transformer.field_transformers.get(column.name)
    if not (type(transformer) is FloatFormatter or is_datetime(transformer)):
        raise foreign(column.name, transformer)
    nulls = transformer.null_transformer
    coin = 0.0
    if nulls is not None and nulls.nulls and nulls._missing_value_generation == "random":
        coin = float(nulls._null_percentage or 0.0)
    precision, (low, high), factor, shift = axis_grid(column, transformer, processor.formatters.get(column.name))
    gaussian = getattr(synthesizer, "_gaussian_normalizer_hyper_transformer", None)
    normal = gaussian is not None
    valid = np.asarray(info.transform.valid_component_indicator, np.bool_)
    mixture = info.transform._bgm_transformer
    mean, std = (np.ravel(a)[valid] for a in (mixture.means_, np.sqrt(mixture.covariances_)))
    weight = np.asarray(mixture.weights_, np.float64)[valid]
    share = weight / weight.sum()
    nullable = bool(np.isnan(mean[-1]))  # a native model's missing mode
    if nullable:
        mean, std, weight = mean[:-1], std[:-1], weight[:-1]
    if not normal:
        mean, std = mean / factor - shift, std / factor
    ends = (None if low is None else low / factor, None if high is None else high / factor)
    absent = coin + (1.0 - coin) * (float(share[-1]) if nullable else 0.0)
    if gaussian is not None:
        cdf, ppf = univariate_functions(gaussian.field_transformers[column.name]._univariate)
        marginal = tabulated(
            lambda x: cdf((x + shift) * factor), lambda u: np.asarray(ppf(u)) / factor - shift, ends, precision, absent
        )
    else:
        lowest = float((mean - STDS * std).min()) if ends[0] is None else ends[0]
        highest = float((mean + STDS * std).max()) if ends[1] is None else ends[1]
        marginal = Marginal("axis", np.ones(1), np.array([lowest]), np.array([highest]), absent)
    fit = FittedColumn(column.name, column.role, "latent", marginal, None, precision, nan)
    return ModeColumn(fit, share, nullable, Modes(mean, std, weight / weight.sum()), normal, coin=coin)


def _options(family: str, synthesizer: Any) -> DeepOptions:
    known = set(option_names(family))
    sdv_options = {
        key: value
        for key, value in synthesizer.get_parameters().items()
        if key in known and (key, value) != ("epochs", 0)
    }
    return DeepOptions.parse(family, {**sdv_options, "device": "cpu"})


def _weights(
    stored: Mapping[str, torch.Tensor], options: DeepOptions, coding: DeepCoding, order: list[str]
) -> dict[str, torch.Tensor]:
    """SDV's weights, their positions in the order of the schema's columns.

    Args:
        stored: SDV's ``state_dict``.
        options: The model's options.
        coding: The columns in schema order.
        order: Names of the learned columns in SDV's order.
    """
    by_name = {column.name: column for column in coding.columns}
    theirs = Layout.of([by_name[name] for name in order])
    place = {name: k for k, name in enumerate(order)}
    rows: list[NDArray[Any]] = []
    vector: list[NDArray[Any]] = []
    starts = dict(zip(theirs.conditional.tolist(), theirs.condition_start.tolist()))
    for column in coding.columns:
        k = place[column.name]
        first = int(theirs.start[k]) - column.is_axis
        rows.append(np.arange(first, first + column.size + column.is_axis))
        if not column.is_axis:
            vector.append(starts[k] + np.arange(column.size))
    outputs = torch.from_numpy(np.concatenate(rows))
    weights = {key: value.detach().cpu().clone() for key, value in stored.items()}
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("seq."))
    for key in (f"seq.{last}.weight", f"seq.{last}.bias", "sigma"):
        if key in weights:
            weights[key] = weights[key].index_select(0, outputs)
    if options.is_gan and vector:
        inputs = torch.from_numpy(np.concatenate(vector))
        for key in [key for key in weights if key.endswith("fc.weight")] + [f"seq.{last}.weight"]:
            before, vectors = weights[key].split([weights[key].shape[1] - len(inputs), len(inputs)], dim=1)
            weights[key] = torch.cat([before, vectors.index_select(1, inputs)], dim=1)
    return weights
