"""Changed model files of every family: refused by one clear error, or rows within the ranges that the files state."""

from __future__ import annotations

import copy
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load_file, save
from tests.runs.fuzz.frame import Subject, Wrong
from tests.tables import autoregressive
from tests.tables.copula import native, of_common_factors
from tests.tables.deep import fit, prepare
from tests.tables.every_kind import table as every_kind

from shardsynth import load_model
from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.data.values import axis, decoded
from shardsynth.errors import ConditionError
from shardsynth.models.autoregressive.fit import fit_autoregressive
from shardsynth.models.base import NativeModel
from shardsynth.models.columns.forms import StorageForm
from shardsynth.models.families import load_native

ROWS = 200
OLD_RUN = Path(__file__).parents[1] / "old_run.tar.xz"
#: What stands in the place of a number of an array.
NUMBERS = (
    np.nan,
    np.inf,
    -np.inf,
    0,
    -1,
    -2,
    1,
    2,
    0.5,
    1e308,
    -1e308,
    1e19,
    2**31 - 1,
    2**31,
    2**62,
    -(2**63),
    1e-320,
)
#: What stands in the place of a value of ``model.json``.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 10**6, 10**9, 2**31, 2**63, 2**64, 10**400, 0.5, 1.5, -0.1, 1e308, "", "a", "axis",
    "category", "latent", "relation", "constant", "id", "empty", "NaN", "../../etc/passwd", "x" * 100_000, [], {}, [0],
    [[]], {"a": 1}, "name", "seed_instance", "binary", "(a|b){4000}", "[0-9]{1000}", "%", "%Y", "%s" * 50, "string", "pii",
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """A model's files as they were written."""

    card: dict[str, Any]
    arrays: dict[str, np.ndarray]
    provenance: str | None


@dataclass(frozen=True)
class Prepared:
    """All models, and the folder in which each changed one is written."""

    models: dict[str, Files]
    folder: Path


def prepare_models(folder: Path) -> Prepared:
    """A model of every family of an old run, and small ones with relations, generators and every type of column."""
    with tarfile.open(OLD_RUN) as archive:
        archive.extractall(folder, filter="data")
    sources = sorted((folder / "run" / "models").iterdir())
    people = autoregressive.people(600)
    quick = {"embedding": 4, "hidden": 4, "max_epochs": 1, "batch_size": 64}
    tiny = {"epochs": 1, "embedding_dim": 4, "batch_size": 60, "generator_dim": (8,), "discriminator_dim": (8,)}
    made: dict[str, Any] = {
        "copula of people": native(people),
        "copula of common factors": of_common_factors(),
        "copula of every kind": native(every_kind(400, 3).drop_columns(["bytes", "half"])),
        "autoregressive with relations": fit_autoregressive(autoregressive.given(prepare(people), _options(quick))),
        "ctgan with few categories": fit("ctgan", prepare(people), _deep("ctgan", {**tiny, "max_categories": 2})),
    }
    for name, model in made.items():
        model.save(folder / name)
        sources.append(folder / name)
    models = {}
    for source in sources:
        provenance = source / "run.json"
        models[source.name] = Files(
            json.loads((source / "model.json").read_text()),
            load_file(source / "model.safetensors"),
            provenance.read_text() if provenance.exists() else None,
        )
    return Prepared(models, folder / "changed")


def _options(options: dict[str, Any]) -> Any:
    from shardsynth.models.autoregressive.options import AutoregressiveOptions

    return AutoregressiveOptions.parse(options)


def _deep(family: str, options: dict[str, Any]) -> Any:
    from shardsynth.models.ctgan.options import DeepOptions

    return DeepOptions.parse(family, options)


def attempt(prepared: Prepared, random: Random) -> str:
    """Change one to three things in one model's files; load it, describe it, draw and complete rows."""
    files = copy.deepcopy(prepared.models[random.choice(sorted(prepared.models))])
    raw: dict[str, bytes] = {}
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        random.choice((change_array, change_array, change_card, change_card, change_bytes))(files, raw, random)
    folder = prepared.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_files(folder, files, raw, random)
    model = load_model(folder)
    rows = model.sample(ROWS, first_row=random.choice((0, 7, 10**6)))
    rows.validate(full=True)
    loaded = load_native(folder, str(model.card["family"]))
    check_ranges(loaded, rows)
    _ = model.learned_distributions
    if loaded.schema.names and random.random() < 0.2:
        name = random.choice(loaded.schema.names)
        try:
            given = loaded.draw(1, 0, 20, _condition(rows, name))
            given.validate(full=True)
            loaded.complete(rows.select([name]), 3).validate(full=True)
        except ConditionError:
            pass
    return "right rows"


def write_files(folder: Path, files: Files, raw: dict[str, bytes], random: Random) -> None:
    """Write a model's files, those of ``raw`` with damaged bytes."""
    written = {
        "model.json": json.dumps(files.card).encode(),
        "model.safetensors": _saved(files.arrays),
        **({} if files.provenance is None else {"run.json": files.provenance.encode()}),
    }
    for name, content in written.items():
        (folder / name).write_bytes(_damaged(content, raw[name], random) if name in raw else content)


def _condition(rows: pa.Table, name: str) -> Any:
    from shardsynth.sampling.conditions import parse_conditions

    value = rows[name][0].as_py()
    return parse_conditions({name: None if isinstance(value, bytes) else value})


def check_ranges(model: NativeModel, rows: pa.Table) -> None:
    """Every value lies in the range, or is one of the categories, that the model's files state."""
    for column, field in zip(model.fitted, model.schema):  # type: ignore[attr-defined]
        if column.treatment not in ("latent", "constant", "relation"):
            continue
        values = decoded(rows[column.name])
        if column.categories is not None:
            held = column.categories
            known = pc.is_in(
                values.cast(pa.string()) if pa.types.is_string_view(values.type) else values,
                value_set=held.cast(pa.string()) if pa.types.is_string_view(held.type) else held,
                skip_nulls=True,
            )
            if not pc.all(pc.or_(known, values.is_null())).as_py():
                raise Wrong(f"column {column.name!r}: a value that is no category of the model")
        elif column.marginal is not None:
            form: StorageForm = model.forms[column.name]
            plain = _axis(column, field, values, form)
            ends = np.array([column.marginal.lo.min(), column.marginal.hi.max()])
            stored = form.array(form.of_raw(ends), None)
            low, high = _axis(column, field, decoded(stored), form)
            present = plain[~np.isnan(plain)]
            slack = (
                1e-6 * max(abs(low), abs(high), 1.0) if field.type == pa.float16() else 1e-9 * max(abs(low), abs(high))
            )
            if len(present) and not (present.min() >= low - slack and present.max() <= high + slack):
                raise Wrong(f"column {column.name!r}: {present.min()} to {present.max()}, learned: {low} to {high}")
            if not np.isfinite(present).all():
                raise Wrong(f"column {column.name!r}: not finite")


def _axis(column: Any, field: pa.Field, values: pa.Array, form: StorageForm) -> np.ndarray:
    sdtype = "datetime" if column.role == "datetime" else "numerical"
    options = {} if form.datetime_format is None else {"datetime_format": form.datetime_format}
    plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return axis(Column(column.name, plain, sdtype, role_of_sdtype(sdtype), options), values)[0]


def _saved(arrays: dict[str, np.ndarray]) -> bytes:
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def change_array(files: Files, raw: dict[str, bytes], random: Random) -> None:
    """Change one array, or swap two."""
    arrays = files.arrays
    name = random.choice(sorted(arrays))
    array = np.array(arrays[name])
    flat = array.reshape(-1)
    kind = random.choice(("flip", "flip", "number", "number", "swap", "shape", "length", "dtype", "drop", "add", "mix"))
    if kind == "flip" and array.nbytes:
        view = flat.view(np.uint8)
        view[random.randrange(len(view))] ^= 1 << random.randrange(8)
        arrays[name] = array
    elif kind == "number" and array.size:
        with np.errstate(all="ignore"):
            value = np.array(random.choice(NUMBERS))
            value = value if array.dtype.kind == "f" else np.nan_to_num(value).astype(np.float64).astype(np.int64)
            flat[random.randrange(len(flat))] = value.astype(array.dtype)
        arrays[name] = array
    elif kind == "swap":
        other = random.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    elif kind == "shape":
        arrays[name] = array.reshape(random.choice([(1, -1), (-1, 1), (-1,)])) if array.size else array.reshape(0, 3)
    elif kind == "length":
        count = random.choice((0, 1, max(len(flat) - 1, 0), len(flat) // 2))
        arrays[name] = flat[:count] if random.random() < 0.5 else np.concatenate([flat, flat[:count], flat[:1]])
    elif kind == "dtype":
        with np.errstate(all="ignore"):
            arrays[name] = array.astype(random.choice(("f8", "f4", "f2", "i8", "i4", "u1", "u8", "?")))
    elif kind == "drop":
        del arrays[name]
    elif kind == "add":
        arrays[random.choice((f"{name}.starts", "extra", f"network.{name}"))] = array
    elif array.size:
        places = list(range(len(flat)))
        random.shuffle(places)
        arrays[name] = flat[places].reshape(array.shape)


def change_card(files: Files, raw: dict[str, bytes], random: Random) -> None:
    """Change, delete, add, rename or swap something in ``model.json``."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(files.card)
    if not places:
        return
    # a place near the root as often as one in a long list
    by_depth = [place for place in places if isinstance(place[0], dict)] if random.random() < 0.7 else places
    holder, key = random.choice(by_depth or places)
    kind = random.choice(("value", "value", "value", "delete", "add", "rename", "swap", "double"))
    if kind == "value":
        value = holder[key]
        near: list[Any] = []
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            near = [value + 1, value - 1, -value, value * 2, float(value)]
        holder[key] = random.choice([*near, *VALUES])
    elif kind == "delete":
        del holder[key]
    elif kind == "add" and isinstance(holder, dict):
        holder[random.choice(("extra", "pickle", "__class__", "p_missing"))] = random.choice(VALUES)
    elif kind == "rename" and isinstance(holder, dict):
        holder[f"{key}s"] = holder.pop(key)
    elif kind == "double" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        other, name = random.choice(places)
        holder[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(holder[key])


def change_bytes(files: Files, raw: dict[str, bytes], random: Random) -> None:
    """Damage the bytes of a file once it is written."""
    raw[random.choice(("model.json", "model.safetensors", "run.json"))] = random.choice(
        (b"flip", b"cut", b"empty", b"twice", b"digits", b"deep", b"null", b"list")
    )


def _damaged(content: bytes, how: bytes, random: Random) -> bytes:
    if how == b"flip" and content:
        place = random.randrange(len(content) if random.random() < 0.5 else min(len(content), 2000))
        return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]
    if how == b"cut":
        return content[: random.randrange(len(content) + 1)]
    if how == b"twice":
        return content + content
    if how == b"digits":
        return content.replace(b"0", b"9" * random.choice((1, 5, 5000)), 1)
    return {b"deep": b"[" * 100_000, b"null": b"null", b"list": b"[1]"}.get(how, b"")


SUBJECT = Subject("model-files", prepare_models, attempt)
