"""A native CTGAN, CopulaGAN or TVAE as a stock SDV synthesizer: a pickle that SDV loads and samples.

A stock synthesizer is made from rows that the native model drew (no real row is used), without training. Then its
modes, categories, frequencies and weights are replaced by those of the model.

Exact are: networks, modes (missing is one more mode, with mean NaN), categories, and the frequencies by which
conditions are drawn. The generator stays in ``eval`` mode with its settled normalisation. Not exact, and reported, are:
categories that share a token (all come out as the most frequent of them), a CopulaGAN's empirical marginals (they
become SDV's nearest ones), and a TVAE's categories (SDV takes the most probable one where the native model draws one).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.metadata import TABLE
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.ctgan.columns import ModeColumn
from shardsynth.models.ctgan.model import DeepModel
from shardsynth.models.ctgan.parameters import condition_cdf
from shardsynth.models.sdv.export_columns import (
    DRAWN_ROWS,
    column_of,
    described,
    ensure_both,
    labels_of,
    save_pickle,
    set_axis,
)
from shardsynth.models.sdv.marginals import StockMarginal, digits_of, stock_marginal
from shardsynth.models.sdv.options import CLASSES, OPTIONS
from shardsynth.models.sdv.state import silenced

if TYPE_CHECKING:
    import pandas as pd

#: Share of a category that the networks do not know: SDV keeps its position, but almost never draws it.
_NEVER = 1e-12


@dataclass(frozen=True)
class _Place:
    """A column in the rows of SDV's networks.

    Attributes:
        info: SDV's ``ColumnTransformInfo`` of the column.
        column: The learned column; None for a constant or an empty one, which SDV learns too.
        number: Its number among the learned columns, or -1.
    """

    info: Any
    column: ModeColumn | None
    number: int


def export(model: DeepModel, path: str | Path) -> list[str]:
    """Write a model as the pickle of a stock synthesizer.

    Args:
        model: A native deep model.
        path: File to write.

    Returns:
        Lines that say what is not exact.
    """
    synthesizer, lost = to_stock(model)
    lost += [
        f"column {relation.name!r}: not computed any more ({relation.describe()}), as the networks draw it"
        for relation in model.coding.relations
    ]
    save_pickle(synthesizer, Path(path))
    return lost


def to_stock(model: DeepModel) -> tuple[Any, list[str]]:
    """The stock synthesizer of a model, and lines that say what is not exact."""
    columns = [column_of(model, i) for i in range(len(model.fitted))]
    batch = model.draw(0, 0, DRAWN_ROWS)
    frame = frames.to_pandas(pa.Table.from_batches([batch]), columns)
    with silenced():
        synthesizer = _skeleton(model, columns, frame)
        lost = list(_parametrised(synthesizer, model, columns, frame))
    if model.options.family == "tvae" and model.options.decode == "sample":
        lost.append("SDV takes a TVAE's most probable category and mode where the native model draws one")
    ended = [column.name for column in model.coding.columns if column.has_tails and not column.normal]
    if ended:
        names = ", ".join(map(repr, ended[:4])) + (f" and {len(ended) - 4} more" if len(ended) > 4 else "")  # noqa: PLR2004
        lost.append(f"tails: values of {names} end at the fifth most extreme one")
    return synthesizer, lost


def _skeleton(model: DeepModel, columns: Sequence[Column], frame: pd.DataFrame) -> Any:
    """A stock synthesizer made from drawn rows: all but what a training learns is as it has to be."""
    import sdv.single_table
    from rdt.transformers import FloatFormatter, UnixTimestampEncoder
    from sdv.metadata import Metadata

    table = described(model, columns, frame)
    nullable = {column.name for column in model.coding.columns if column.nullable}
    for fitted in model.fitted:
        if fitted.treatment in ("latent", "constant"):
            ensure_both(frame, fitted.name, 1.0 if fitted.name in nullable else 0.0)
    native_options = model.options.to_json()
    options = {
        key: native_options[key] for key in OPTIONS[model.options.family] if key in native_options and key != "epochs"
    }
    synthesizer = getattr(sdv.single_table, CLASSES[model.options.family])(
        Metadata.load_from_dict({"tables": {TABLE: table}, "METADATA_SPEC_VERSION": "V2"}),
        epochs=0,
        enable_gpu=False,
        **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()},
        **({"default_distribution": "norm"} if model.options.family == "copulagan" else {}),
    )
    synthesizer.auto_assign_transformers({TABLE: frame})
    transformers: dict[str, Any] = {}
    for column in columns:  # NaN comes out of the networks as such, and is left as it is
        if column.role in ("number", "datetime"):
            settings: dict[str, Any] = {"missing_value_generation": None, "enforce_min_max_values": True}
            transformers[column.name] = (
                UnixTimestampEncoder(**settings)
                if frame[column.name].dtype.kind == "M"
                else FloatFormatter(**settings, learn_rounding_scheme=True)
            )
    synthesizer.update_transformers(transformers)
    synthesizer.fit({TABLE: frame})
    synthesizer.epochs = synthesizer._model_kwargs["epochs"] = (
        model.options.epochs
    )  # as it was trained, not as it was put together
    return synthesizer


def _parametrised(synthesizer: Any, model: DeepModel, columns: Sequence[Column], frame: pd.DataFrame) -> Iterator[str]:
    """Replace the parameters by the model's; yields lines that say what is not exact."""
    processor, inner = synthesizer._data_processor, synthesizer._model
    transformer = inner._transformer if model.options.is_gan else inner.transformer
    learned = {column.name: (number, column) for number, column in enumerate(model.coding.columns)}
    by_name = {column.name: column for column in columns}
    fitted = {column.name: column for column in model.fitted}
    normals = getattr(synthesizer, "_gaussian_normalizer_hyper_transformer", None)
    places = []
    for info in transformer._column_transform_info_list:
        name = str(info.column_name)
        number, column = learned.get(name, (-1, None))
        if column is None:
            places.append(_Place(_of_one(info), None, -1))
            continue
        series = frame[name]
        factor = frames.nanoseconds_of(by_name[name]) if series.dtype.kind == "M" else 1
        if column.modes is None:
            if column.folded is not None and len(column.folded):
                yield f"column {name!r}: {len(column.folded)} rare categories come out as the most frequent of them"
            places.append(_Place(_categories(info, column, by_name[name]), column, number))
            continue
        _set_ends(processor, name, fitted[name], factor, series)
        if column.normal:
            assert column.fit.marginal is not None and normals is not None
            stock = stock_marginal(column.fit.marginal, column.fit, factor, named_only=column.nullable)
            normals.field_transformers[name]._univariate = stock.univariate
            if stock.distance > 0.005:
                yield f"column {name!r}: KS distance {stock.distance:.3f} to the native marginal"
        places.append(_Place(_modes(info, column, 1 if column.normal else factor), column, number))
    transformer._column_transform_info_list = [place.info for place in places]
    transformer.output_info_list = [place.info.output_info for place in places]
    transformer.output_dimensions = sum(place.info.output_dimensions for place in places)
    _set_network(inner, model, places)


def _of_one(info: Any) -> Any:
    """SDV's entry of a column of one value, with a single mode, so that nothing is drawn."""
    if info.column_type == "discrete":
        return info
    from ctgan.data_transformer import SpanInfo

    _set_mixture(info.transform, info.transform._bgm_transformer.means_.ravel()[:1], np.array([1e-9]), np.ones(1))
    return info._replace(output_info=[SpanInfo(1, "tanh"), SpanInfo(1, "softmax")], output_dimensions=2)


def _categories(info: Any, column: ModeColumn, described_as: Column) -> Any:
    from ctgan.data_transformer import SpanInfo

    assert column.learned is not None and column.folded is not None and column.fit.categories is not None
    codes = column.learned
    if len(column.folded):
        assert column.folded_share is not None
        codes = np.append(codes, column.folded[np.argmax(column.folded_share)])
    encoder = info.transform
    encoder._uniques = labels_of(described_as, column.fit.categories.take(pa.array(codes)))
    encoder._dummy_na, encoder._num_dummies = column.nullable, len(codes)
    encoder._indexer = list(range(len(codes)))
    encoder.dummies = [*encoder._uniques, *([np.nan] if column.nullable else [])]
    encoder.output_properties = {
        f"value{i}": {"sdtype": "float", "next_transformer": None} for i in range(len(encoder.dummies))
    }
    return info._replace(output_info=[SpanInfo(column.size, "softmax")], output_dimensions=column.size)


def _modes(info: Any, column: ModeColumn, factor: int) -> Any:
    from ctgan.data_transformer import SpanInfo

    assert column.modes is not None
    mean, std, weight = column.modes.mean * factor, column.modes.std * factor, column.share
    if column.nullable:
        mean, std = np.append(mean, np.nan), np.append(std, np.nan)
    _set_mixture(info.transform, mean, std, weight)
    return info._replace(
        output_info=[SpanInfo(1, "tanh"), SpanInfo(column.size, "softmax")], output_dimensions=1 + column.size
    )


def _set_mixture(normalizer: Any, mean: NDArray[Any], std: NDArray[Any], weight: NDArray[Any]) -> None:
    mixture, k = normalizer._bgm_transformer, len(mean)
    mixture.means_, mixture.covariances_ = mean.reshape(k, 1), (std**2).reshape(k, 1, 1)
    mixture.weights_, mixture.precisions_cholesky_ = weight, (1.0 / std).reshape(k, 1, 1)
    mixture.n_components = normalizer.max_clusters = k
    normalizer.valid_component_indicator = np.ones(k, np.bool_)


def _set_ends(processor: Any, name: str, fitted: FittedColumn, factor: int, series: pd.Series[Any]) -> None:
    """Set where SDV clips a column, and how it rounds."""
    assert fitted.marginal is not None and fitted.precision is not None
    # SDV's networks have no tails: their values end where those of the rows they were trained on do
    far = fitted.marginal.ends or (fitted.marginal.lo[0], fitted.marginal.hi[-1])
    ends = fitted.precision.snap(np.array(far)) * factor
    marginal = StockMarginal(None, float(ends[0]), float(ends[1]), digits_of(fitted.precision, factor), 0.0)
    set_axis(processor._hyper_transformer.field_transformers[name], processor.formatters.get(name), marginal, series)


def _set_network(inner: Any, model: DeepModel, places: Sequence[_Place]) -> None:
    """Replace the network by the model's, with positions in SDV's order."""
    layout = model.coding.layout
    rows: list[int] = []  # SDV's position -> ours, -1 where the networks have none
    conditions: list[int] = []
    shares: list[NDArray[Any]] = []
    share = np.diff(
        condition_cdf(model.coding, log_rows=model.rows if model.options.condvec == "log" else None), prepend=0.0
    )
    start = dict(zip(layout.conditional.tolist(), layout.condition_start.tolist()))
    axes = np.cumsum([column.is_axis for column in model.coding.columns]) - 1
    for place in places:
        size = place.info.output_dimensions
        if place.column is None:
            rows += [-1] * size
            if place.info.column_type == "discrete":
                conditions += [-1] * size
                shares.append(np.full(size, _NEVER))
            continue
        first = int(layout.start[place.number])
        if place.column.is_axis:
            rows += [int(layout.tanh[axes[place.number]]), *range(first, first + size - 1)]
            continue
        rows += range(first, first + size)
        first_condition = start[place.number]
        conditions += range(first_condition, first_condition + size)
        shares.append(np.maximum(share[first_condition : first_condition + size], _NEVER))
    weights = {key: value.detach().clone() for key, value in model.network.state_dict().items()}
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("seq."))
    for key in (f"seq.{last}.weight", f"seq.{last}.bias"):
        weights[key] = _taken(weights[key], rows, 0)
    if not model.options.is_gan:
        from ctgan.synthesizers.tvae import Decoder

        weights["sigma"] = _taken(weights["sigma"], rows, 0)
        inner.decoder = Decoder(model.options.embedding_dim, model.options.decompress_dims, len(rows))
        inner.decoder.load_state_dict(weights)
        inner.decoder.eval()
        return
    from ctgan.synthesizers.ctgan import Generator

    condition_width = layout.condition_width
    for key in [key for key in weights if key.endswith("fc.weight")] + [f"seq.{last}.weight"]:
        before, vector = (
            weights[key][:, : weights[key].shape[1] - condition_width],
            weights[key][:, weights[key].shape[1] - condition_width :],
        )
        weights[key] = torch.cat([before, _taken(vector, conditions, 1)], dim=1)
    inner._generator = Generator(model.options.embedding_dim + len(conditions), model.options.generator_dim, len(rows))
    inner._generator.load_state_dict(weights)
    inner._generator.eval()
    _set_sampler(inner._data_sampler, shares)


def _taken(tensor: torch.Tensor, positions: Sequence[int], dim: int) -> torch.Tensor:
    """The tensor's entries at the positions along a dimension; 0 where a position is -1."""
    index = torch.tensor([max(p, 0) for p in positions], dtype=torch.long)
    missing = torch.tensor([p < 0 for p in positions])
    if not tensor.shape[dim]:
        return torch.zeros(*(len(positions) if d == dim else n for d, n in enumerate(tensor.shape)))
    shape = [1] * tensor.dim()
    shape[dim] = len(positions)
    return tensor.index_select(dim, index).masked_fill(missing.view(shape), 0.0)


def _set_sampler(sampler: Any, shares: Sequence[NDArray[Any]]) -> None:
    """Set the probabilities by which SDV draws condition vectors; ``shares`` has one array per category column."""
    sizes = [len(share) for share in shares]
    probability = np.zeros((len(shares), max(sizes, default=0)))
    for number, share in enumerate(shares):
        probability[number, : len(share)] = share
    sampler._discrete_column_category_prob = probability
    sampler._discrete_column_n_category = np.array(sizes, np.int32)
    sampler._discrete_column_cond_st = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)[: len(sizes)]
    sampler._n_discrete_columns, sampler._n_categories = len(sizes), sum(sizes)
    sampler._rid_by_cat_cols = []
