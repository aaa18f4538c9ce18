"""What the networks see of a table, and what of it may stand in a model file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.models.deep_tables import Prepared, fit, prepare, read

from shardsynth.errors import ModelError
from shardsynth.models.deep.codes import DeepCoding, check_memory
from shardsynth.models.deep.modes import fit_modes
from shardsynth.models.deep.options import DeepOptions
from shardsynth.models.deep.table import DeepTable, encode_rows

TINY = {"epochs": 1, "batch_size": 100, "compress_dims": [8], "decompress_dims": [8], "embedding_dim": 4}


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


def test_as_many_modes_as_the_stock_mixture_and_as_likely() -> None:
    mixture = pytest.importorskip("sklearn.mixture")
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(size=8000))
    stock = mixture.BayesianGaussianMixture(
        n_components=10,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=0.001,
        random_state=0,
        max_iter=300,
    ).fit(values[:, None])
    modes = fit_modes(*histogram(values, 1000), len(values))
    density = modes.weight / modes.std * np.exp(-0.5 * ((values[:, None] - modes.mean) / modes.std) ** 2)
    likelihood = np.log(density.sum(axis=1) / np.sqrt(2 * np.pi)).mean()
    assert abs(len(modes) - (stock.weights_ > 0.005).sum()) <= 2
    assert abs(likelihood - stock.score(values[:, None])) < 0.05


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


def test_preparation_does_not_grow_with_rows() -> None:
    rng = np.random.default_rng(0)
    seconds = []
    for rows in (20_000, 400_000):
        prepared = prepare(pa.table({f"x{i}": rng.gamma(2, 2, rows) for i in range(5)}), sample_rows=1000)
        begun = time.perf_counter()
        coding(prepared)
        seconds.append(time.perf_counter() - begun)
    assert seconds[1] < 5 * seconds[0] + 0.2


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


def test_rare_categories_and_extremes_are_not_in_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = np.where(np.arange(1000) < 3, "the-only-duke", rng.choice(["clerk", "baker"], 1000))
    money = rng.normal(1000, 100, 1000).round(2)
    money[7] = 987_654.25
    model = fit("tvae", prepare(pa.table({"job": names, "money": money})), TINY)
    model.save(tmp_path)
    everything = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"baker" in everything and b"duke" not in everything
    assert np.float64(987_654.25).tobytes() not in everything
    drawn = model.draw(0, 0, 3000)
    assert set(drawn["job"].to_pylist()) == {"clerk", "baker"}
    assert max(drawn["money"].to_pylist()) < 2000


def test_many_categories_share_a_token_that_is_expanded_by_their_frequencies() -> None:
    rng = np.random.default_rng(0)
    weight = 1.0 / np.arange(1, 201)
    names = np.array([f"c{i:03d}" for i in range(200)])
    table = pa.table({"c": rng.choice(names, 20_000, p=weight / weight.sum()), "x": rng.normal(size=20_000)})
    prepared = prepare(table)
    folded = coding(prepared, max_categories=20)
    (column,) = (c for c in folded.columns if not c.is_axis)
    assert column.size == 20 and column.learned is not None and column.folded is not None
    assert len(column.learned) == 19 and any("share one token" in note for note in folded.notes)
    token = np.full(50_000, 19)
    drawn = column.values(token, None, rng.random(50_000))
    assert set(drawn.tolist()) <= set(column.folded.tolist())
    share = np.bincount(drawn, minlength=200)[column.folded] / 50_000
    np.testing.assert_allclose(share, column.folded_share, atol=0.005)
    rows = fit("tvae", prepared, {**TINY, "max_categories": 20}).draw(0, 0, 5000)
    assert len(set(rows["c"].to_pylist())) > 50


def test_three_hundred_thousand_categories() -> None:
    rng = np.random.default_rng(0)
    many = np.char.add("user", rng.integers(0, 300_000, 330_000).astype(str))
    many[:30_000] = "guest"
    table = pa.table({"user": many, "x": rng.normal(size=330_000).astype(np.float32)})
    prepared = prepare(table, sample_rows=20_000)
    drawn = fit("tvae", prepared, TINY).draw(0, 0, 1000)
    assert drawn.schema.equals(table.schema)
    assert "guest" in drawn["user"].to_pylist()


def test_a_column_of_nothing_but_rare_categories_is_missing_or_other_or_refused() -> None:
    def strict(values: list) -> pa.Table:
        array = pa.array(values)
        fields = [pa.field("n", array.type, nullable=False), pa.field("x", pa.float64())]
        return pa.table([array, pa.array(np.arange(300.0))], schema=pa.schema(fields))

    names = [f"n{i}" for i in range(300)]
    table = pa.table({"n": names, "x": np.arange(300.0)})
    assert fit("tvae", prepare(table, {"n": "categorical"}), TINY).draw(0, 0, 20)["n"].null_count == 20
    other = fit("tvae", prepare(strict(names), {"n": "categorical"}), TINY).draw(0, 0, 20)
    assert set(other["n"].to_pylist()) == {"other"}
    with pytest.raises(ModelError, match="'n'"):
        coding(prepare(strict(list(range(300))), {"n": "categorical"}))


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


def test_adult_is_coded_in_a_moment(adult_dir: Path) -> None:
    prepared = prepare(read(adult_dir))
    begun = time.perf_counter()
    columns = coding(prepared)
    rows = encode(columns, prepared)
    assert time.perf_counter() - begun < 5
    assert rows.codes.nbytes + rows.places.nbytes < 50 * len(rows)
