"""Rows completed: what a row has stays, what it lacks is drawn given it, a column at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.values import axis, decoded
from shardsynth.errors import ConditionError
from shardsynth.models.autoregressive.codes import BinnedColumn
from shardsynth.models.autoregressive.sampler import BLOCK, in_blocks, lanes_of, places, stacked
from shardsynth.models.columns.known import check_columns
from shardsynth.sampling.streams import stream_key

if TYPE_CHECKING:
    from shardsynth.models.autoregressive.parameters import AutoregressiveParameters


def complete(model: AutoregressiveParameters, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
    """Fill in the missing values of rows.

    What is filled in is never missing. Given values stay what they are, also where the model holds them only within a
    bin, or not at all (then the row is completed as if its value lay in the nearest bin; an unknown category is an
    error). Computed columns are filled in from their parents.

    Args:
        model: Of ``order: any``.
        rows: Some or all of the model's columns; those that are not there are missing everywhere.
        seed: Any integer.
        first_row: Global number of the first row: parts of a table can be completed on their own.

    Returns:
        The rows in the model's schema.

    Raises:
        ConditionError: The model's order is fixed, or a value is none that it learned.
        InputError: A column is not the model's, or not of its type.
    """
    if model.options.order == "fixed":
        raise ConditionError(f"model {model.name!r} learned one order of its columns: rows are completed by order: any")
    check_columns(model.schema, rows)
    n = rows.num_rows
    known = np.stack([_known(c, rows) for c in model.coding.columns])
    key = stream_key(seed, f"{model.name}/complete")

    def make(block: int) -> list[NDArray[Any]]:
        own = np.full((len(known), BLOCK), -1, np.int16)
        start, stop = max(block * BLOCK, first_row), min((block + 1) * BLOCK, first_row + n)
        own[:, start - block * BLOCK : stop - block * BLOCK] = known[:, start - first_row : stop - first_row]
        made: list[NDArray[Any]] = _block(model, key, block, own)
        return made

    codes, lanes = in_blocks(first_row, n, model.threads, make)
    drawn = model.assembled(model.writer.arrays(codes, lambda column: places(lanes[column])), first_row, n)
    arrays = []
    for name, array in zip(model.schema.names, drawn.columns):
        if name not in rows.column_names:
            arrays.append(array)
            continue
        given = rows[name].combine_chunks()
        given = given.chunk(0) if isinstance(given, pa.ChunkedArray) else given
        arrays.append(_filled(given, array))
    return pa.Table.from_arrays(arrays, schema=model.schema)


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _block(
    model: AutoregressiveParameters, key: tuple[int, int], block: int, known: NDArray[np.int16]
) -> list[NDArray[Any]]:
    """Codes and places of one block: the given columns enter first, then the others are drawn in schema order."""
    sampler, lanes = model.sampler, lanes_of(key, block, len(known))
    rows = sampler.begin(BLOCK)
    given = torch.from_numpy(known)
    for column in range(len(known)):
        own = given[column]
        embedding = sampler.embedding(column)[own.clamp(min=0).long()]
        rows.context += torch.where(own[:, None] >= 0, embedding, torch.zeros_like(embedding))
    shares = torch.from_numpy(lanes.codes)
    for column, coded in enumerate(model.coding.columns):
        lacking = given[column] < 0
        if not lacking.any():
            rows.codes[column] = given[column]
            continue
        present = torch.ones(coded.size)
        present[len(coded.ends) :] = 0.0
        before = rows.context.clone()
        sampler.draw(rows, column, shares[column], allowed=present)
        rows.context = torch.where(lacking[:, None], rows.context, before)
        rows.codes[column] = torch.where(lacking, rows.codes[column], given[column])
    found: list[NDArray[Any]] = [stacked(rows), lanes.places]
    return found


def _known(column: BinnedColumn, rows: pa.Table) -> NDArray[np.int16]:
    """Codes int16[n] of a column's given values, -1 where it has none."""
    if column.name not in rows.column_names:
        return np.full(rows.num_rows, -1, np.int16)
    array = rows[column.name].combine_chunks()
    if column.fit.categories is None:
        sdtype = "datetime" if column.fit.role == "datetime" else "numerical"
        values, missing = axis(Column(column.name, array.type, sdtype, column.fit.role), array)
        return np.where(missing, -1, column.codes_of_values(np.where(missing, 0.0, values))).astype(np.int16)
    plain = decoded(array)
    index = pc.index_in(plain, value_set=column.fit.categories.cast(plain.type))
    found = np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64)
    missing = np.asarray(plain.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.bool_)
    if (found[~missing] < 0).any():
        row = int(np.flatnonzero((found < 0) & ~missing)[0])
        raise ConditionError(f"column {column.name!r}, row {row}: a category that the model did not learn")
    return np.where(missing, -1, column.codes_of_values(np.maximum(found, 0))).astype(np.int16)


def _filled(given: pa.Array, drawn: pa.Array) -> pa.Array:
    """The given values, and the drawn ones where there are none, in the given type."""
    absent = given.is_null(nan_is_null=True)
    if not pa.types.is_dictionary(given.type):
        return pc.if_else(absent, drawn, given)
    value_type = given.type.value_type
    plain = pc.if_else(absent, drawn.cast(value_type), given.cast(value_type))
    found = pc.index_in(plain, value_set=drawn.dictionary)
    if found.null_count:  # values that the model does not hold
        return plain.dictionary_encode().cast(given.type)
    indices = found.cast(given.type.index_type)
    return pa.DictionaryArray.from_arrays(indices, drawn.dictionary, ordered=given.type.ordered)
