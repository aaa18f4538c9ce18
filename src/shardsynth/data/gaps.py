"""The gaps of known values, filled with drawn ones."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.values import decoded, without_view


def has_gap(known: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a value is null or NaN."""
    return bool(pc.any(decoded(known).is_null(nan_is_null=True)).as_py())


def filled(known: pa.Array | pa.ChunkedArray, drawn: pa.Array) -> pa.Array:
    """The known values, with the drawn ones in their gaps, in the type of the known values.

    Args:
        known: Values; null and NaN are gaps.
        drawn: As many values, of the same type.
    """
    if isinstance(known, pa.ChunkedArray) and known.num_chunks == 1:
        known = known.chunk(0)
    absent = decoded(known).is_null(nan_is_null=True)
    if not pc.any(absent).as_py() and isinstance(known, pa.Array):
        return known
    plain = pc.if_else(absent, without_view(decoded(drawn)), without_view(decoded(known)))
    if not pa.types.is_dictionary(known.type):
        return plain if plain.type == known.type else plain.cast(known.type)
    codes = pc.index_in(plain, value_set=drawn.dictionary)
    if codes.null_count > plain.null_count:  # a value that the model does not hold
        return plain.dictionary_encode().cast(known.type)
    return pa.DictionaryArray.from_arrays(
        codes.cast(known.type.index_type), drawn.dictionary, ordered=known.type.ordered
    )


def hidden_where(array: pa.Array, hidden: pa.Array) -> pa.Array:
    """The array with some values made missing, in its type."""
    if pa.types.is_dictionary(array.type):
        indices = pc.if_else(hidden, pa.scalar(None, array.type.index_type), array.indices)
        return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=array.type.ordered)
    plain = without_view(array)
    return pc.if_else(hidden, pa.scalar(None, plain.type), plain).cast(array.type)
