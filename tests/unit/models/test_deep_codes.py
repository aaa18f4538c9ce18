"""What the networks see of a table, and what of it may stand in a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.deep import Prepared, prepare, read

from shardsynth.errors import ModelError
from shardsynth.models.ctgan.codes import DeepCoding, check_memory
from shardsynth.models.ctgan.modes import fit_modes
from shardsynth.models.ctgan.options import DeepOptions
from shardsynth.models.ctgan.table import DeepTable, encode_rows


def coding(prepared: Prepared, family: str = "ctgan", **options: object) -> DeepCoding:
    parsed = DeepOptions.parse(family, options)
    return DeepCoding.fit(prepared.profile, prepared.coder, prepared.counts, parsed, prepared.table.schema)


def encode(columns: DeepCoding, prepared: Prepared) -> DeepTable:
    sample = prepared.profile.sample
    return encode_rows(columns, prepared.coder, [sample], sample.num_rows, 0)


def histogram(values: np.ndarray, bins: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count, edges = np.histogram(values, bins)
    used = count > 0
    return (0.5 * (edges[1:] + edges[:-1]))[used], count[used].astype(float), np.diff(edges)[used]


def test_modes_are_found_and_needless_ones_dropped() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-5, 1, 6000), rng.normal(10, 0.5, 3000), rng.normal(30, 3, 1000)])
    modes = fit_modes(*histogram(values), len(values))
    assert len(modes) == 3
    np.testing.assert_allclose(modes.mean, [-5, 10, 30], atol=0.3)
    np.testing.assert_allclose(modes.std, [1, 0.5, 3], rtol=0.2)
    np.testing.assert_allclose(modes.weight, [0.6, 0.3, 0.1], atol=0.01)


def test_modes_of_one_value_of_two_and_of_a_spike() -> None:
    one = fit_modes(np.array([5.0]), np.array([1.0]), np.array([0.0]), 100)
    assert len(one) == 1 and one.std[0] > 0 and one.mean[0] == 5
    spike = fit_modes(
        np.array([0.0, 50.0, 60.0]), np.array([0.9, 0.05, 0.05]), np.array([0.0, 10, 10]), 1000, floor=0.1
    )
    assert abs(spike.mean[0]) < 0.5 and spike.weight[0] > 0.85


def test_values_come_back_from_modes_and_places() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 900), rng.normal(100, 5, 100)])
    modes = fit_modes(*histogram(values), 1000)
    chosen, places = modes.encode(values, rng)
    back = modes.decode(chosen, places)
    assert np.mean(np.abs(back - values) < 1e-3) > 0.98
    assert np.abs(places).max() <= 0.99 + 1e-6


def test_codes_are_compact_and_missing_is_a_mode() -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {"x": pa.array(rng.normal(size=500), mask=rng.random(500) < 0.3), "c": rng.choice(["a", "b"], 500)}
    )
    prepared = prepare(table)
    columns = coding(prepared)
    rows = encode(columns, prepared)
    assert rows.codes.dtype == np.int8 and rows.places.dtype == np.float32
    missing = columns.columns[0].missing(rows.codes[:, 0])
    assert missing is not None
    np.testing.assert_array_equal(missing, prepared.profile.sample["x"].combine_chunks().is_null())
    assert not rows.places[missing].any()


def test_copulagan_writes_atoms_exactly_and_follows_the_marginal() -> None:
    rng = np.random.default_rng(0)
    value = np.where(rng.random(4000) < 0.4, 0.0, rng.gamma(2, 3, 4000))
    prepared = prepare(pa.table({"x": value}))
    (column,) = coding(prepared, "copulagan").columns
    rows = encode(coding(prepared, "copulagan"), prepared)
    back = column.values(rows.codes[:, 0], rows.places[:, 0], None)
    assert abs((back == 0).mean() - 0.4) < 0.03
    assert np.corrcoef(back, prepared.profile.sample["x"].to_numpy())[0, 1] > 0.99


def test_nothing_to_learn_is_said() -> None:
    table = pa.table({"same": ["v"] * 100})
    with pytest.raises(ModelError, match="no column is left to learn"):
        coding(prepare(table))


def test_too_wide_for_the_device_is_refused_with_advice() -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"wide": rng.integers(0, 900, 20_000).astype(str), "x": rng.normal(size=20_000)})
    columns = coding(prepare(table, {"wide": "categorical"})).columns
    options = DeepOptions.parse("ctgan", {})
    assert "M parameters" in check_memory(columns, options, 20_000, 2**34, "cpu")
    with pytest.raises(ModelError, match=r"too much.*'wide' \(\d+\).*max_categories"):
        check_memory(columns, options, 20_000, 2**20, "cpu")


def test_adult_is_coded_in_little_memory(adult_dir: Path) -> None:
    prepared = prepare(read(adult_dir))
    columns = coding(prepared)
    rows = encode(columns, prepared)
    assert rows.codes.nbytes + rows.places.nbytes < 50 * len(rows)
