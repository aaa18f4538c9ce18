"""The files of a native model, ``model.json`` and ``model.safetensors``: reading, writing, and its fitted columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from shardsynth.data.columns import schema_from_text
from shardsynth.data.values import Precision, kind_of, plain_type
from shardsynth.errors import ModelError
from shardsynth.models.columns.arrow_stream import is_plain_stream
from shardsynth.models.columns.card import Card, parsed, read_model_json
from shardsynth.models.columns.checks import Array, check_arrays, starts
from shardsynth.models.columns.fitted import FittedColumn, Marginal
from shardsynth.models.columns.ragged import Ragged
from shardsynth.models.columns.references import check_references
from shardsynth.models.columns.relations import Relation, relation_from_json
from shardsynth.sampling.identifiers import make
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.memory import available_memory

#: The two files of a model.
CARD, ARRAYS = "model.json", "model.safetensors"
#: Largest absolute value on an axis.
LARGEST = float(np.finfo(np.float64).max)
#: A model in memory takes about so many times the size of its arrays' file.
_COPIES = 2


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


@dataclass
class ModelFile:
    """The two files of a model's folder, while it is loaded. Nothing but the card is checked before ``check``.

    Attributes:
        folder: The model's.
        card: ``model.json``, checked against the family's schema.
        plain: The same as plain data.
        arrays: Those of ``model.safetensors``.
    """

    folder: Path
    card: Any
    plain: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    _checked: set[str] = field(default_factory=set)

    def check(self, wanted: Mapping[str, Array]) -> dict[str, Ragged]:
        """Check arrays (see ``checks.check_arrays``); those with parts are returned.

        Raises:
            ModelError: One is missing, or is not what it must be.
        """
        ragged = check_arrays(self.folder / ARRAYS, self.arrays, wanted)
        self._checked |= {*wanted, *map(starts, ragged)}
        return ragged

    def refuse_others(self) -> None:
        """ModelError if there is an array that was not checked."""
        for name in sorted(set(self.arrays) - self._checked):
            raise self.wrong(f"array {name[:80]!r} does not belong to the model", ARRAYS)

    def wrong(self, what: str, name: str = CARD) -> ModelError:
        """The error that says what is wrong in one of the files."""
        return ModelError(f"{self.folder / name}: {what}; the file is damaged: fit or import the model again")


def read_files(folder: Path, families: Sequence[str], title: str, newest: int, schema: type[Card]) -> ModelFile:
    """Read what ``write_files`` wrote. Runs no code from the folder.

    Args:
        folder: The model's.
        families: Families that the caller can read.
        title: Their name in an error, such as ``a native Gaussian copula``.
        newest: The latest format that the caller knows.
        schema: Of ``model.json``.

    Raises:
        ModelError: The folder holds no such model, one of a later format, or one that is damaged or does not fit into
            this machine's memory.
    """
    folder = Path(folder)
    try:
        plain = read_model_json(folder / CARD)
        if plain.get("engine") != "native" or plain.get("family") not in families:
            raise ModelError(f"{folder}: not {title}")
        if isinstance(plain.get("format"), int) and plain["format"] > newest:
            raise ModelError(f"{folder}: written by a later shardsynth (format {plain['format']})")
        card = parsed(schema, folder / CARD, plain)
        size, room = (folder / ARRAYS).stat().st_size, available_memory()
        if size * _COPIES > room:
            raise ModelError(
                f"{folder / ARRAYS}: needs about {size * _COPIES / 2**30:.1f} GiB of memory, {room / 2**30:.1f} GiB "
                "are free; load it on a machine with more"
            )
        arrays = load_file(folder / ARRAYS)
    except OSError as error:
        raise ModelError(f"{folder}: no readable {CARD} and {ARRAYS} ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError, SafetensorError, MemoryError):
        raise ModelError(f"{folder / ARRAYS}: cannot be read; it is damaged: fit or import the model again") from None
    return ModelFile(folder, card, plain, arrays)


def load_columns(
    file: ModelFile, *, least_code: int = 0, within: float = 1e-6, computed: str = "relation"
) -> tuple[pa.Schema, tuple[FittedColumn, ...], tuple[Relation, ...]]:
    """Schema, columns and relations of a model, checked.

    Args:
        file: The model's files.
        least_code: Least code of a category; -1 where an imported model may draw "missing" as one.
        within: What the probabilities of a column may miss in their sum.
        computed: Treatment of the columns that relations compute: ``latent`` where the network draws them, too.

    Raises:
        ModelError: Something is not what it must be.
    """
    schema, cards = _schema(file), file.plain["columns"]
    names = [card["name"] for card in cards]
    encoded = file.check({"categories": Array("uint8", parts=names)})["categories"]
    categories = [_decoded(file, i, encoded[i], schema) for i in range(len(cards))]
    by_code = [card["marginal"] is not None and card["marginal"]["kind"] == "category" for card in cards]
    held = [0 if values is None else len(values) for values in categories]
    low = [least_code if coded else -LARGEST for coded in by_code]
    high = [n - 1 if coded else LARGEST for n, coded in zip(held, by_code)]
    value = Array("float64", parts=names, minimum=low, maximum=high, whole=by_code)
    in_order = [not coded for coded in by_code]
    arrays = file.check(
        {
            "probability": Array("float64", parts=names, minimum=0.0, sums_to=1.0, within=within),
            "lo": replace(value, never_falls=in_order),
            "hi": replace(value, never_falls=in_order, not_below="lo"),
        }
    )
    for key in ("lo", "hi"):
        if not np.array_equal(arrays[key].starts, arrays["probability"].starts):
            raise file.wrong(f"array {starts(key)!r} is not that of 'probability'", ARRAYS)
    with np.errstate(over="ignore"):
        if not np.isfinite(arrays["hi"].values - arrays["lo"].values).all():
            raise file.wrong("array 'hi' is too far from 'lo'", ARRAYS)
    columns = tuple(column_of(card, i, arrays, categories[i]) for i, card in enumerate(cards))
    for column in columns:
        check_ends(file, column)
    relations = tuple(relation_from_json(relation) for relation in file.plain.get("relations", ()))
    check_references(file.wrong, schema, columns, relations, file.plain, computed)
    return schema, columns, relations


def check_ends(file: ModelFile, column: FittedColumn) -> None:
    """ModelError where the ends, beyond which the tails of a column lie, are not within its quantile function."""
    marginal = column.marginal
    if marginal is None or marginal.ends is None:
        return
    low, high = marginal.ends
    if marginal.kind != "axis" or not (len(marginal.lo) and marginal.lo[0] <= low <= high <= marginal.hi[-1]):
        raise file.wrong(f"columns: the ends of {column.name[:80]!r} are not in order within its values")


def _schema(file: ModelFile) -> pa.Schema:
    """The model's Arrow schema, which has its columns in their order."""
    schema = schema_of(file, file.plain["schema"])
    names = schema.names
    if names != [card["name"] for card in file.plain["columns"]]:
        raise file.wrong("columns: are not those of the schema")
    if len(set(names)) < len(names):
        raise file.wrong("columns: two have the same name")
    return schema


def schema_of(file: ModelFile, text: str) -> pa.Schema:
    """An Arrow schema that a model file holds as text; ModelError where it is none."""
    try:
        schema = schema_from_text(text)
        _ = schema.names, [str(type_) for type_ in schema.types]
    except (pa.ArrowException, ValueError, OSError, MemoryError):
        raise file.wrong("schema: is no Arrow schema") from None
    return schema


def _decoded(file: ModelFile, index: int, encoded: NDArray[np.uint8], schema: pa.Schema) -> pa.Array | None:
    """Categories of a column, of its type, each once."""
    where = f"array 'categories' of {schema.names[index]!r}"
    if not len(encoded):
        return None
    try:
        if not is_plain_stream(encoded.tobytes()):
            raise file.wrong(f"{where} is no plain Arrow stream", ARRAYS)
        categories = _categories(encoded)
        categories.validate(full=True)
        missing = categories.is_null(nan_is_null=True).true_count
    except (pa.ArrowException, ValueError, IndexError, OSError, MemoryError):
        raise file.wrong(f"{where} cannot be read", ARRAYS) from None
    found, wanted = plain_type(categories.type), plain_type(schema.types[index])
    if found != wanted and not (kind_of(found) == kind_of(wanted) == "text"):
        raise file.wrong(f"{where} is of type {found}, not {wanted}", ARRAYS)
    if missing:
        raise file.wrong(f"{where} has missing values", ARRAYS)
    return categories


def column_card(column: FittedColumn) -> dict[str, Any]:
    """A column as JSON; its arrays lie in the safetensors file."""
    marginal = column.marginal
    return {
        "name": column.name,
        "role": column.role,
        "treatment": column.treatment,
        "marginal": None if marginal is None else _marginal_card(marginal),
        "precision": None if column.precision is None else column.precision.to_json(),
        "emit_nan": column.emit_nan,
        "distribution": column.distribution,
    }


def _marginal_card(marginal: Marginal) -> dict[str, Any]:
    ends = {} if marginal.ends is None else {"ends": list(marginal.ends)}
    return {"kind": marginal.kind, "p_missing": marginal.p_missing, **ends}


def column_arrays(columns: Sequence[FittedColumn]) -> dict[str, Ragged]:
    """The arrays of all columns: ``probability``, ``lo``, ``hi``, and ``categories`` as bytes."""
    none = np.zeros(0)
    arrays = {
        key: Ragged.of([none if c.marginal is None else getattr(c.marginal, key) for c in columns], np.float64)
        for key in ("probability", "lo", "hi")
    }
    arrays["categories"] = Ragged.of([_ipc(c.categories) for c in columns], np.uint8)
    return arrays


def column_of(
    card: Mapping[str, Any], index: int, arrays: Mapping[str, Ragged], categories: pa.Array | None
) -> FittedColumn:
    """A column from its entry in the card, its arrays, and its categories."""
    marginal = None
    if card["marginal"] is not None:
        probability, lo, hi = (arrays[key][index] for key in ("probability", "lo", "hi"))
        entry = card["marginal"]
        ends = None if entry.get("ends") is None else (float(entry["ends"][0]), float(entry["ends"][1]))
        marginal = Marginal(entry["kind"], probability, lo, hi, entry["p_missing"], ends)
    return FittedColumn(
        card["name"],
        card["role"],
        card["treatment"],
        marginal,
        categories,
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


def _categories(encoded: NDArray[np.uint8]) -> pa.Array:
    """Inverse of ``_ipc``."""
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
