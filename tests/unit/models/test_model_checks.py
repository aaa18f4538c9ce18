"""The vocabulary of checks of model files: each says file, array, part and what is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file
from tests.tables.copula import simple_fit

from shardsynth.errors import ModelError
from shardsynth.models.columns.arrow_stream import is_plain_stream
from shardsynth.models.columns.checks import Array, check_arrays
from shardsynth.models.copula.model import GaussianCopula

FILE = Path("model.safetensors")
PARTS = ["age", "sex", "empty"]


def joined(**changes):
    arrays = {"x": np.array([1.0, 2, 3, 5, 4]), "x.starts": np.array([0, 3, 5, 5])}
    return {**arrays, **changes}


@pytest.mark.parametrize(
    ("wanted", "changes", "what"),
    [
        (Array("float64", parts=PARTS), {"x": np.zeros(5, np.float32)}, "'x' is of dtype float32, not float64"),
        (Array("float64", parts=PARTS), {"x": np.zeros((5, 1))}, r"'x' is of shape \[5, 1\], not \[any\]"),
        (Array("float64", parts=PARTS), {"x": np.array([1, 2, 3, np.nan, 4])}, "of 'sex': value 0 is not finite"),
        (Array("float64", parts=PARTS), {"x.starts": np.array([0, 6, 5, 5])}, "'x.starts' does not cut the 5 values"),
        (Array("float64", parts=PARTS), {"x.starts": np.array([0, 3, 5])}, "'x.starts' is of shape"),
        (Array("float64", parts=PARTS, lengths=[3, 1, 0]), {}, "of 'sex' has 2 values, not 1"),
        (Array("float64", parts=PARTS, minimum=[0, 5, 0]), {}, "of 'sex': value 1 is too small"),
        (Array("float64", parts=PARTS, maximum=4), {}, "of 'sex': value 0 is too large"),
        (Array("float64", parts=PARTS, below=[4, 5, 0]), {}, "of 'sex': value 0 is out of range"),
        (Array("float64", parts=PARTS, increasing=True), {}, "of 'sex': value 1 is not above the one before it"),
        (Array("float64", parts=PARTS, never_falls=True), {}, "of 'sex': value 1 is below the one before it"),
        (Array("float64", parts=PARTS, sums_to=6.0), {}, "of 'sex' does not sum to 6"),
        (Array("float64", parts=PARTS, whole=True), {"x": np.array([1, 2, 3, 0.5, 4])}, "value 0 is no whole number"),
        (
            Array("float64", parts=PARTS, not_below="y"),
            {"y": np.full(5, 2.0)},
            "of 'age': value 0 is below that of 'y'",
        ),
        (Array("float64", parts=PARTS), {"x": None}, "has no array 'x'"),
    ],
)
def test_what_is_wrong_is_named(wanted, changes, what):
    arrays = {key: value for key, value in joined(**changes).items() if value is not None}
    with pytest.raises(ModelError, match=what):
        check_arrays(FILE, arrays, {"x": wanted})


def test_order_and_range_may_differ_by_part():
    wanted = Array("float64", parts=PARTS, increasing=[True, False, True], maximum=[3, 5, 0], whole=[True, True, False])
    assert list(check_arrays(FILE, joined(), {"x": wanted})["x"][1]) == [5, 4]


def test_plain_arrays_have_a_shape_and_a_parity():
    check_arrays(FILE, {"x": np.array([1, 3, 5], np.int32)}, {"x": Array("int32", (3,), increasing=True, parity=1)})
    with pytest.raises(ModelError, match="value 1 is even"):
        check_arrays(FILE, {"x": np.array([1, 2, 5], np.int32)}, {"x": Array("int32", (3,), parity=1)})


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_a_compressed_stream_is_seen_before_it_is_read(codec):
    sink = io.BytesIO()
    batch = pa.record_batch({"categories": pa.array(["a"] * 10_000)})
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    assert is_plain_stream(sink.getvalue()) == (codec is None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    columns = {"age": rng.integers(20, 90, 500), "sex": pa.array(rng.choice(["f", "m"], 500)).dictionary_encode()}
    table = pa.table({**columns, "id": [f"P{i:05d}" for i in range(500)]})
    generators = {"id": {"kind": "string", "regex": "P[0-9]{5}", "key": 1, "missing": 0.0, "repeat": 1}}
    folder = tmp_path_factory.mktemp("model")
    GaussianCopula.from_fit(simple_fit(table), table.schema, generators=generators).save(folder)
    return folder


def changed(folder, tmp_path, arrays=None, **card):
    stored = load_file(folder / "model.safetensors")
    save_file({**stored, **(arrays or {})}, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({**json.loads((folder / "model.json").read_text()), **card}))
    return tmp_path


def test_an_array_that_no_check_names_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="'tails' does not belong to the model"):
        GaussianCopula.load(changed(folder, tmp_path, {"tails": np.zeros(3)}))


def test_an_unknown_key_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match=r"model\.json: pickle: Extra inputs are not permitted"):
        GaussianCopula.load(changed(folder, tmp_path, pickle="x"))


@pytest.mark.parametrize(
    "generator",
    [
        {"kind": "pii", "function": "seed_instance", "locales": ["en_US"], "unique": False},
        {"kind": "pii", "function": "binary", "locales": ["en_US"], "unique": False},
        {"kind": "pii", "function": "name", "locales": ["../x"], "unique": False},
        {"kind": "os.system", "function": "true"},
        {"kind": "string", "regex": "("},
        {"kind": "string", "regex": "P", "head": "P", "grown": "[0]", "length": 1, "tail": ""},
        {"kind": "string", "regex": "P", "grown": "[0-9]"},
        {"kind": "number", "regex": "[a-z]{3}"},
        {"kind": "number", "regex": "([0-9]|[0-9]{2}){900}"},
        {"kind": "count", "start": 1, "limit": 2**64 - 1},
        {"kind": "count", "start": 1, "limit": 10, "cycle": 2**40},
    ],
)
def test_a_generator_is_of_a_fixed_list_and_makes_values_of_its_column(folder, tmp_path, generator):
    GaussianCopula.load(folder)
    with pytest.raises(ModelError, match="generators"):
        GaussianCopula.load(
            changed(folder, tmp_path, generators={"id": {"key": 1, "missing": 0.0, "repeat": 1, **generator}})
        )


def test_a_value_of_the_file_is_not_shown(folder, tmp_path):
    card = json.loads((folder / "model.json").read_text())
    card["columns"][0]["treatment"] = "Mrs Secret"
    with pytest.raises(ModelError) as error:
        GaussianCopula.load(changed(folder, tmp_path, columns=card["columns"]))
    assert "columns.0.treatment" in str(error.value)
    assert "Secret" not in str(error.value)
