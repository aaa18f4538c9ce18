"""Completing rows: a row keeps the values that it has; the others are drawn given these, one column after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.gaps import filled
from shardsynth.data.values import axis, decoded, without_view
from shardsynth.errors import ConditionError
from shardsynth.models.autoregressive.codes import BinnedColumn
from shardsynth.models.autoregressive.sampler import BLOCK, in_blocks, lanes_of, places, stacked
from shardsynth.models.columns.known import check_columns, warn_of_unknown
from shardsynth.sampling.streams import stream_key

if TYPE_CHECKING:
    from shardsynth.models.autoregressive.parameters import AutoregressiveParameters


def complete(model: AutoregressiveParameters, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
    """Fill in the missing values of rows.

    A value that is filled in is never missing. A given value stays exactly as it is. For the model it stands for its
    bin; a number outside all bins stands for the nearest one. An unknown category is an error. Computed columns are
    filled in from their parents.

    Args:
        model: A model of ``order: any``.
        rows: Some or all of the model's columns; a column that is absent counts as missing in every row.
        seed: Any integer.
        first_row: Global number of the first row, so that parts of a table can be completed one by one.

    Returns:
        The rows in the model's schema.

    Raises:
        ConditionError: The model's order is fixed.
        InputError: A column is not one of the model's, or has another type.
    """
    if model.options.order == "fixed":
        raise ConditionError(
            f"model {model.name!r} learned one order of its columns (order: fixed) and cannot complete rows; "
            "fit a model of order: any"
        )
    check_columns(model.schema, rows)
    n = rows.num_rows
    known = np.array([_known(c, rows) for c in model.coding.columns], np.int16).reshape(-1, n)
    key = stream_key(seed, f"{model.name}/complete")

    def make(block: int) -> list[NDArray[Any]]:
        known_block = np.full((len(known), BLOCK), -1, np.int16)
        start, stop = max(block * BLOCK, first_row), min((block + 1) * BLOCK, first_row + n)
        known_block[:, start - block * BLOCK : stop - block * BLOCK] = known[:, start - first_row : stop - first_row]
        block_arrays: list[NDArray[Any]] = _block(model, key, block, known_block)
        return block_arrays

    codes, lanes = in_blocks(first_row, n, model.threads, make) if len(known) and n else (known, known)
    drawn = model.assembled(model.writer.arrays(codes, lambda column: places(lanes[column])), first_row, n)
    arrays = []
    for name, array in zip(model.schema.names, drawn.columns):
        if name not in rows.column_names:
            arrays.append(array)
            continue
        arrays.append(filled(rows[name].combine_chunks(), array))
    return pa.Table.from_arrays(arrays, schema=model.schema)


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _block(
    model: AutoregressiveParameters, key: tuple[int, int], block: int, known: NDArray[np.int16]
) -> list[NDArray[Any]]:
    """Codes and places of one block: the known codes enter first, then the others are drawn in schema order.

    Args:
        model: The model.
        key: Key of the random stream.
        block: Number of the block.
        known: Codes int16[columns, BLOCK], -1 where a value is to be drawn.
    """
    sampler, lanes = model.sampler, lanes_of(key, block, len(known))
    rows = sampler.begin(BLOCK)
    known_codes = torch.from_numpy(known)
    for column in range(len(known)):
        column_codes = known_codes[column]
        embedding = sampler.embedding(column)[column_codes.clamp(min=0).long()]
        rows.context += torch.where(column_codes[:, None] >= 0, embedding, torch.zeros_like(embedding))
    rows.known = {column: known_codes[column] for column in range(1, len(known))}
    shares = torch.from_numpy(lanes.codes)
    for column, coded in enumerate(model.coding.columns):
        lacking = known_codes[column] < 0
        if not lacking.any():
            rows.codes[column] = known_codes[column]
            continue
        present = torch.ones(coded.size)
        present[len(coded.ends) :] = 0.0
        before = rows.context.clone()
        sampler.draw(rows, column, shares[column], allowed=present)
        rows.context = torch.where(lacking[:, None], rows.context, before)
        rows.codes[column] = torch.where(lacking, rows.codes[column], known_codes[column])
    arrays: list[NDArray[Any]] = [stacked(rows), lanes.places]
    return arrays


def _known(column: BinnedColumn, rows: pa.Table) -> NDArray[np.int16]:
    """Codes int16[n] of a column's values, -1 where there is none."""
    if column.name not in rows.column_names:
        return np.full(rows.num_rows, -1, np.int16)
    array = rows[column.name].combine_chunks()
    if column.fit.categories is None:
        sdtype = "datetime" if column.fit.role == "datetime" else "numerical"
        values, missing = axis(Column(column.name, array.type, sdtype, column.fit.role), array)
        return np.where(missing, -1, column.codes_of_values(np.where(missing, 0.0, values))).astype(np.int16)
    plain = without_view(decoded(array))
    index = pc.index_in(plain, value_set=column.fit.categories.cast(plain.type))
    category = np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64)
    missing = np.asarray(plain.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    unknown = (category < 0) & ~missing
    warn_of_unknown(column.name, unknown)
    missing |= unknown
    return np.where(missing, -1, column.codes_of_values(np.maximum(category, 0))).astype(np.int16)
