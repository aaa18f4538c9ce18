"""The private Gaussian copula: sensitivity and noise by hand, what is refused, and how good it is on Adult."""

from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables.public import COLUMNS, SCHEMA, counted

from shardsynth import Job
from shardsynth.data.coding import TableCoder
from shardsynth.data.columns import Column
from shardsynth.data.public_codes import public_cells, public_coder
from shardsynth.errors import JobError, MetadataError, ModelError
from shardsynth.metrics.quality import quality
from shardsynth.models.copula.dp_fit import fit_copula_with_dp
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.dp.columns import check_dp_columns
from shardsynth.models.dp.noise import Guarantee, l2_sensitivity, scale_for, with_noise
from shardsynth.models.dp.tables import (
    NoisyTables,
    _by_coarse_code,
    _join_groups,
    draw_tables,
    groups_for,
    number_of_tables,
    on_simplex,
)
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile
from shardsynth.summaries.ranges import ScoreRanges

pytest.importorskip("opendp")


def everything(counts: Counts, coder: TableCoder) -> np.ndarray:
    """All counts that get noise, without the groups (joining cells cannot lengthen a difference of +1 and -1)."""
    d = len(coder.columns)
    parts = [_by_coarse_code(c, h) for c, h in zip(coder.columns, counts.hist)]
    parts += [counts.pair(i, j).ravel() for j in range(d) for i in range(j)]
    return np.concatenate(parts)


row = st.tuples(
    st.one_of(st.none(), st.integers(-50, 50)),
    st.one_of(st.none(), st.floats(-5, 15)),
    st.sampled_from(["a", "b", "c", "not listed", None]),
    st.one_of(st.none(), st.booleans()),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(row, min_size=1, max_size=12), row, st.data())
def test_replacing_a_row_moves_the_counts_by_no_more_than_the_sensitivity(rows, other, data) -> None:
    coder = public_coder(COLUMNS, 100, 0)
    place = data.draw(st.integers(0, len(rows) - 1))
    tables = [
        pa.Table.from_pylist([dict(zip("nxcd", r)) for r in found], SCHEMA)
        for found in (rows, [*rows[:place], other, *rows[place + 1 :]])
    ]
    first, second = (everything(counted(coder, table), coder) for table in tables)
    assert np.linalg.norm(first - second) <= l2_sensitivity(number_of_tables(4)) + 1e-9


def test_the_sensitivity_is_reached() -> None:
    assert number_of_tables(4) == 10 and l2_sensitivity(10) == math.sqrt(20)
    coder = public_coder(COLUMNS, 100, 0)
    one, two = ([{"n": 1, "x": 1.0, "c": "a", "d": True}], [{"n": 5, "x": 8.0, "c": "b", "d": False}])
    first, second = (everything(counted(coder, pa.Table.from_pylist(r, SCHEMA)), coder) for r in (one, two))
    assert np.linalg.norm(first - second) == pytest.approx(math.sqrt(20))


@pytest.mark.parametrize(("epsilon", "delta", "tables"), [(1.0, 1e-6, 120), (0.3, 1e-5, 1), (5.0, 1e-9, 2278)])
def test_the_noise_is_what_concentrated_privacy_asks_for(epsilon: float, delta: float, tables: int) -> None:
    found = scale_for(epsilon, delta, tables)
    # Canonne, Kamath, Steinke 2020, corollary 13: rho = sensitivity^2 / (2 scale^2), delta by the best order alpha.
    rho = 2 * tables / (2 * found.scale**2)
    alpha = 1 + np.exp(np.linspace(-6, 9, 200_000))
    log = (alpha - 1) * (alpha * rho - epsilon) + alpha * np.log1p(-1 / alpha) - np.log(alpha - 1)
    assert np.exp(log.min()) == pytest.approx(delta, rel=0.02)
    assert found.epsilon <= epsilon and found.sensitivity == math.sqrt(2 * tables)


def test_a_budget_beyond_all_use_gives_hardly_any_noise() -> None:
    """OpenDP cannot compute the epsilon of noises that are still smaller."""
    found = scale_for(10_000.0, 1e-6, 1)
    assert 9_000 < found.epsilon <= 10_000 and 0 < found.scale < 0.05


def test_whether_tables_are_drawn_follows_from_the_public_number_of_rows() -> None:
    coder = public_coder(COLUMNS, 4000, 0)
    table = pa.table({"n": [0] * 50, "x": [0.5] * 50, "c": ["a"] * 50, "d": [True] * 50}).cast(SCHEMA)
    counts = counted(coder, table)
    assert draw_tables(counts, coder, 4000, 5.0, 1e-6).tables
    with pytest.raises(ModelError, match="needs noise of"):
        draw_tables(counts, coder, 50, 5.0, 1e-6)


def test_adult_at_epsilon_one() -> None:
    assert scale_for(1.0, 1e-6, number_of_tables(15)).scale == pytest.approx(70.2, abs=0.1)


def test_noise_is_whole_numbers_of_the_scale_and_new_every_time() -> None:
    counts = np.full((50, 100), 1000)
    first, second = with_noise(counts, 20.0), with_noise(counts, 20.0)
    assert first.dtype == np.int64 and first.shape == (50, 100)
    assert not np.array_equal(first, second)
    assert abs((first - counts).mean()) < 5 * 20 / math.sqrt(5000)
    assert (first - counts).std() == pytest.approx(20.0, rel=0.05)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_the_simplex_has_no_negative_entry_and_keeps_the_sum(values: list[float]) -> None:
    x = np.array(values)
    found = on_simplex(x)
    assert (found >= 0).all() and found.sum() == pytest.approx(max(x.sum(), 0.0), abs=1e-6)
    inside = np.abs(x)
    assert on_simplex(inside) == pytest.approx(inside, abs=1e-9)


def test_codes_come_from_the_metadata_alone() -> None:
    coder = public_coder(COLUMNS, 100, 0)
    table = pa.table(
        {"n": [-9, -3, 0, 9, 99], "x": [-1.0, 0.0, 5.0, 10.0, 11.0], "c": ["a", "b", "c", "a", "z"], "d": [True] * 5}
    ).cast(SCHEMA)
    counts = counted(coder, table)
    whole = _by_coarse_code(coder.columns[0], counts.hist[0])
    assert len(whole) == 13 + 1 and whole[0] == 2 and whole[3] == 1 and whole[12] == 2
    cells = public_cells(COLUMNS[1])
    assert cells.lo[0] == cells.hi[0] == 0.0 and cells.hi[-1] == 10.0
    spread = _by_coarse_code(coder.columns[1], counts.hist[1])
    assert spread[0] == 2 and spread[-2] == 2 and spread.sum() == 5
    assert counts.hist[2].tolist() == [2, 1, 1, 0]
    joined = _join_groups(np.array([[1, 2], [3, 4], [5, 6]]), np.array([0, 0, 1]))
    assert joined.tolist() == [[4, 6], [5, 6]]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column("a", pa.int8(), "numerical", "number", {}), "'a'.*range_min and range_max"),
        (Column("b", pa.string(), "categorical", "category", {}), "'b'.*range_values"),
        (Column("b", pa.int8(), "ordinal", "category", {"range_values": ["x"]}), "no values of the type int8"),
        (Column("k", pa.string(), "id", "id", {}), "'k'.*regex_format"),
    ],
)
def test_what_only_the_table_could_tell_is_refused(column: Column, message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        public_coder([column], 100, 0)
        check_dp_columns([column])


def test_noise_that_drowns_the_pairs_is_refused_with_the_figure() -> None:
    spent = Guarantee(1.0, 1e-6, 300.0, 2278, "x")
    with pytest.raises(ModelError, match=r"noise of 300 a cell.*2,659 rows leave 665.*at least 3,600 rows"):
        groups_for(2659, spent)
    assert groups_for(3600, spent) == 2 and groups_for(10**6, spent) == 8


def test_what_the_refusal_says_would_do_does_and_no_less() -> None:
    with pytest.raises(ModelError) as refused:
        groups_for(2659, scale_for(1.0, 1e-6, 2278))
    columns, epsilon = re.search(r"at most (\d+) columns or an epsilon of ([\d.]+)", str(refused.value)).groups()
    assert groups_for(2659, scale_for(1.0, 1e-6, number_of_tables(int(columns)))) == 2
    assert groups_for(2659, scale_for(float(epsilon), 1e-6, 2278)) == 2
    for columns_more, epsilon_less in ((int(columns) + 1, 1.0), (67, float(epsilon) - 0.02)):
        with pytest.raises(ModelError):
            groups_for(2659, scale_for(epsilon_less, 1e-6, number_of_tables(columns_more)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"tvae": {}}}, "covers native Gaussian copulas and autoregressive models, not 'tvae'"),
        ({"models": {"gaussian_copula": {"engine": "sdv"}}}, "engine sdv"),
        ({"models": {"gaussian_copula": {"marginals": "beta"}}}, "marginals cannot be used under differential privacy"),
        ({"models": {"gaussian_copula": {}, "b": {"model": "gaussian_copula"}}}, "one model a job"),
        ({"metadata": None}, "needs `metadata`"),
        ({"pseudonymize": {"a": "key"}}, "pseudonymize are learned"),
        ({"privacy": {"epsilon": 0}}, "epsilon"),
        ({"privacy": {"epsilon": 1, "delta": 1}}, "delta"),
    ],
)
def test_settings_that_would_break_the_guarantee_are_refused(changes: dict, message: str) -> None:
    plain = {
        "input": "x",
        "output": "y",
        "metadata": "m.json",
        "models": {"gaussian_copula": {}},
        "privacy": {"epsilon": 1},
    }
    assert Job.parse(plain).privacy.delta == 1e-6
    with pytest.raises(JobError, match=message):
        Job.parse({**plain, **changes})


def test_saved_tables_come_back(tmp_path) -> None:
    coder = public_coder(COLUMNS, 100, 0)
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "n": rng.integers(-3, 9, 4000),
            "x": rng.random(4000),
            "c": rng.choice(["a", "b"], 4000),
            "d": rng.random(4000) < 0.3,
        }
    ).cast(SCHEMA)
    drawn = draw_tables(counted(coder, table), coder, 4000, 5.0, 1e-6)
    drawn.save(tmp_path / "t")
    back = NoisyTables.load(tmp_path / "t")
    assert back.guarantee == drawn.guarantee and back.rows == 4000
    assert all(np.array_equal(back.pair(i, j), drawn.pair(i, j)) for j in range(4) for i in range(j))
    assert np.array_equal(back.pair(2, 0), back.pair(0, 2).T)
    batches = []
    for noisy in (back, *(draw_tables(counted(coder, table), coder, 4000, 5.0, 1e-6) for _ in range(2))):
        fit = fit_copula_with_dp(noisy, coder, SCHEMA)
        batches.append(GaussianCopula.from_fit(fit, SCHEMA, COLUMNS, generators={}, name="m").draw(0, 0, 4000))
    for batch in batches:
        assert batch.schema.equals(SCHEMA)
        assert pc.mean(batch["d"].cast(pa.int8())).as_py() == pytest.approx(0.3, abs=0.05)
        assert batch["n"].null_count < 80
    # Noise on no missing rows is hardly ever taken for missing rows; it has no seed.
    assert min(batch["n"].null_count for batch in batches) == 0


def test_adult_at_epsilon_one_scores_at_least_085(adult_dir) -> None:
    table = pq.read_table(adult_dir).unify_dictionaries().combine_chunks()
    columns = []
    for field in table.schema:
        values = table[field.name]
        if pa.types.is_dictionary(field.type):
            known = sorted(v for v in pc.unique(values.cast(pa.string())).to_pylist() if v is not None)
            columns.append(Column(field.name, field.type, "categorical", "category", {"range_values": known}))
        else:
            ends = {"range_min": pc.min(values).as_py(), "range_max": pc.max(values).as_py()}
            columns.append(Column(field.name, field.type, "numerical", "number", ends))
    coder = public_coder(columns, table.num_rows, 0)
    drawn = draw_tables(counted(coder, table), coder, table.num_rows, 1.0, 1e-6)
    assert drawn.guarantee.epsilon <= 1.0
    model = GaussianCopula.from_fit(
        fit_copula_with_dp(drawn, coder, table.schema), table.schema, columns, generators={}, name="m"
    )
    made = pa.Table.from_batches([model.draw(0, 0, table.num_rows)])
    profile = Profile.empty(table.schema)
    for batch in table.to_batches():
        profile.update(batch, 0)
    exact = TableCoder.from_profile(profile, columns)
    scores = []
    for rows in (table, made):
        ranges = ScoreRanges.empty(exact.columns)
        for batch in rows.to_batches():
            ranges.update(batch)
        scores.append(Counts.empty(exact, fit=False, score=ranges))
        for batch in rows.to_batches():
            scores[-1].update(batch, 0)
    found = quality(*scores, exact)
    assert found["score"] > 0.85 and found["all_pairs"]["score"] > 0.9
