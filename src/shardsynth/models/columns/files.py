"""The files of a native model, ``model.json`` and ``model.safetensors``: reading, writing, and its fitted columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.ragged import Ragged
from shardsynth.sampling.identifiers import make
from shardsynth.standalone.files import write_atomic


def write_files(
    folder: Path, card: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], ragged: Mapping[str, Ragged]
) -> None:
    """Write a model's folder: the same bytes for the same model.

    Args:
        folder: Is made if it is not there.
        card: What ``model.json`` holds.
        tensors: Arrays of ``model.safetensors``.
        ragged: Arrays of different lengths; each gets a second array, ``<key>.starts``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dict(tensors)
    for key, value in ragged.items():
        arrays[key], arrays[f"{key}.starts"] = value.values, value.starts
    tensor_bytes = save({key: np.asarray(value, order="C") for key, value in arrays.items()})
    write_atomic(folder / "model.safetensors", tensor_bytes)
    text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"
    write_atomic(folder / "model.json", text)


def read_files(
    folder: Path, families: Sequence[str], title: str, newest: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, Ragged]]:
    """Read what ``write_files`` wrote: card, tensors, and the ragged arrays among them. Runs no code from the folder.

    Args:
        folder: The model's.
        families: Families that the caller can read.
        title: Their name in an error, such as ``a native Gaussian copula``.
        newest: The latest format that the caller knows.

    Raises:
        ModelError: The folder holds no such model, or one of a later format.
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if card.get("engine") != "native" or card.get("family") not in families:
            raise ModelError(f"{folder}: not {title}")
        if card["format"] > newest:
            raise ModelError(f"{folder}: written by a later shardsynth (format {card['format']})")
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: no readable model.json and model.safetensors ({error})") from error
    ragged = {
        key: Ragged(value, tensors[f"{key}.starts"]) for key, value in tensors.items() if f"{key}.starts" in tensors
    }
    return card, tensors, ragged


def column_card(column: FittedColumn) -> dict[str, Any]:
    """A column as JSON; its arrays lie in the safetensors file."""
    marginal = column.marginal
    return {
        "name": column.name,
        "role": column.role,
        "treatment": column.treatment,
        "marginal": None if marginal is None else {"kind": marginal.kind, "p_missing": marginal.p_missing},
        "precision": None if column.precision is None else column.precision.to_json(),
        "emit_nan": column.emit_nan,
        "distribution": column.distribution,
    }


def column_arrays(columns: Sequence[FittedColumn]) -> dict[str, Ragged]:
    """The arrays of all columns: ``probability``, ``lo``, ``hi``, and ``categories`` as bytes."""
    none = np.zeros(0)
    arrays = {
        key: Ragged.of([none if c.marginal is None else getattr(c.marginal, key) for c in columns], np.float64)
        for key in ("probability", "lo", "hi")
    }
    arrays["categories"] = Ragged.of([_ipc(c.categories) for c in columns], np.uint8)
    return arrays


def column_of(card: Mapping[str, Any], index: int, arrays: Mapping[str, Ragged]) -> FittedColumn:
    """Inverse of ``column_card`` and ``column_arrays``."""
    marginal = None
    if card["marginal"] is not None:
        probability, lo, hi = (arrays[key][index] for key in ("probability", "lo", "hi"))
        marginal = Marginal(card["marginal"]["kind"], probability, lo, hi, card["marginal"]["p_missing"])
    return FittedColumn(
        card["name"],
        card["role"],
        card["treatment"],
        marginal,
        _categories(arrays["categories"][index]),
        None if card["precision"] is None else Precision.from_json(card["precision"]),
        card["emit_nan"],
        card["distribution"],
    )


def _ipc(categories: pa.Array | None) -> NDArray[np.uint8]:
    """Categories as an Arrow IPC stream, which keeps any type and runs no code when it is read."""
    if categories is None:
        return np.zeros(0, np.uint8)
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([categories], ["categories"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), np.uint8)


def _categories(encoded: NDArray[np.uint8]) -> pa.Array | None:
    """Inverse of ``_ipc``."""
    if not len(encoded):
        return None
    categories = pa.ipc.open_stream(encoded.tobytes()).read_all().column(0).combine_chunks()
    return categories.chunk(0) if isinstance(categories, pa.ChunkedArray) else categories


def unlearned_array(
    column: FittedColumn,
    data_type: pa.DataType,
    first_row: int,
    n: int,
    forms: Mapping[str, Any],
    generators: Mapping[str, dict[str, Any]],
) -> pa.Array:
    """Arrow array [n] of a column that no network sees: empty, constant, or made from the row number.

    Raises:
        ModelError: The model has no generator for the column.
    """
    if column.treatment == "empty":
        return pa.nulls(n, data_type)
    if column.treatment == "constant":
        assert column.marginal is not None
        form = forms[column.name]
        return form.array(np.repeat(form.of_raw(column.marginal.lo[:1]), n), None)
    if column.name not in generators:
        raise ModelError(f"column {column.name!r}: the model has no generator for it")
    return make(generators[column.name], data_type, first_row, n)
