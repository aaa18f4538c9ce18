"""What the networks see of a table, and what of it may stand in a model file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.deep import Prepared, fit, prepare

from shardsynth.errors import ModelError
from shardsynth.models.ctgan.codes import DeepCoding
from shardsynth.models.ctgan.options import DeepOptions

TINY = {"epochs": 1, "batch_size": 100, "compress_dims": [8], "decompress_dims": [8], "embedding_dim": 4}


def coding(prepared: Prepared, family: str = "ctgan", **options: object) -> DeepCoding:
    parsed = DeepOptions.parse(family, options)
    return DeepCoding.fit(prepared.profile, prepared.coder, prepared.counts, parsed, prepared.table.schema)


def test_preparation_does_not_grow_with_rows() -> None:
    rng = np.random.default_rng(0)
    seconds = []
    for rows in (20_000, 400_000):
        prepared = prepare(pa.table({f"x{i}": rng.gamma(2, 2, rows) for i in range(5)}), sample_rows=1000)
        begun = time.perf_counter()
        coding(prepared)
        seconds.append(time.perf_counter() - begun)
    assert seconds[1] < 5 * seconds[0] + 0.2


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
