"""Wide copulas: few common factors in the place of a dense factor, where they give the correlations to within errors."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file
from tests.tables.copula import SIZE, loadings, of_common_factors, products, profiled

from shardsynth.data.coding import TableCoder
from shardsynth.data.ends import EndRule
from shardsynth.errors import ModelError
from shardsynth.models.copula.factor import Factor, common_factor
from shardsynth.models.copula.factor_analysis import LEAST_ERROR, MISSED, factor_analysis, joined
from shardsynth.models.copula.fit import fit_copula
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.copula.tables import GRID
from shardsynth.sampling.conditions import parse_conditions
from shardsynth.standalone.cpus import allowed_threads
from shardsynth.summaries.counts import Counts


@pytest.fixture(scope="module")
def model() -> GaussianCopula:
    return of_common_factors()


def drawn(model: GaussianCopula, n: int, where: str | None = None) -> np.ndarray:
    conditions = None if where is None else parse_conditions(where)
    batch = model.draw(3, 0, n, conditions)
    return np.array([np.nan_to_num(c.to_numpy(zero_copy_only=False).astype(float)) for c in batch.columns])


def test_the_factor_gives_the_correlations_on_the_grid() -> None:
    found = loadings()
    factor = Factor.of(*common_factor(found))
    assert np.abs(factor.correlation - products(found)).max() < 4e-6
    assert (factor.whole.sum(axis=1) % 2 == 1).all()
    assert np.abs(np.sqrt((factor.whole**2.0).sum(axis=1)) / GRID - 1).max() < 1e-6


def test_rows_have_the_correlations(model) -> None:
    values = drawn(model, 200_000)
    numbers = [i for i in range(1, SIZE) if i % 3 != 2]
    expected = model.correlation[np.ix_(numbers, numbers)]
    assert np.abs(np.corrcoef(values[numbers]) - expected).max() < 0.02  # of segments, not of normal numbers
    flags = [i for i in range(SIZE) if i % 3 == 2]
    both = values[flags] @ values[flags].T / 200_000
    wanted = 0.25 + np.arcsin(np.clip(model.correlation[np.ix_(flags, flags)], -1, 1)) / (2 * np.pi)
    assert np.abs(both - wanted).max() < 0.006
    assert abs(model.draw(3, 0, 50_000).column("x0").null_count / 50_000 - 0.25) < 0.01


def test_any_split_and_any_threads_give_the_same_rows(model, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole = model.draw(7, 5, 17_000)
    parts = [model.draw(7, first, n) for first, n in ((5, 1), (6, 700), (706, 16_299))]
    assert pa.Table.from_batches(parts).combine_chunks().to_batches()[0].equals(whole)
    for threads in (2, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        assert allowed_threads() == threads
        assert model.draw(7, 5, 17_000).equals(whole)


def test_conditions_hold_and_move_the_others(model) -> None:
    """Given x1 > 1 and x2 == 1, another column has the mean of the rows of the plain sample that meet them."""
    plain, given = drawn(model, 400_000), drawn(model, 60_000, "x1 > 1 and x2 == 1")
    assert (given[1] > 1).all() and (given[2] == 1).all()
    kept = plain[:, (plain[1] > 1) & (plain[2] == 1)]
    others = [i for i in range(SIZE) if i not in (1, 2)]
    error = 5 * np.sqrt(1 / kept.shape[1] + 1 / given.shape[1])
    assert np.abs(kept.mean(axis=1) - given.mean(axis=1))[others].max() < error
    assert np.abs(kept.std(axis=1) - given.std(axis=1))[others].max() < error


def test_rows_are_completed(model) -> None:
    source = pa.Table.from_batches([model.draw(1, 0, 3_000)])
    found = model.complete(source.select(["x1", "x2", "x20"]), 5)
    assert found.select(["x1", "x2", "x20"]).equals(source.select(["x1", "x2", "x20"]))
    numbers = [f"x{i}" for i in range(3, SIZE) if i % 3 != 2]
    now, before = (
        np.array([np.corrcoef(t["x1"].to_numpy(), t[name].to_numpy())[0, 1] for name in numbers])
        for t in (found, source)
    )
    assert np.abs(now - before).max() < 0.09


def test_a_saved_model_is_the_same_and_a_damaged_one_is_refused(model, tmp_path) -> None:
    model.save(tmp_path)
    again = GaussianCopula.load(tmp_path)
    assert again.draw(2, 9, 500).equals(model.draw(2, 9, 500))
    card = json.loads((tmp_path / "model.json").read_text())
    assert (card["format"], card["factors"]) == (4, 8)
    file = tmp_path / "model.safetensors"
    arrays = load_file(file)
    twice = arrays["own"].copy()
    twice[3] *= 3
    for own, what in (
        (arrays["own"][:-1], r"'own' is of shape \[37, 16\], not \[38, 16\]"),
        (twice, "'factor' with 'own': a row is not of length 1"),
        (arrays["own"] + np.eye(38, 16, dtype=np.int32), "'factor' with 'own': a row has an even sum"),
    ):
        save_file({**arrays, "own": np.ascontiguousarray(own)}, file)
        with pytest.raises(ModelError, match=what):
            GaussianCopula.load(tmp_path)
    save_file({key: array for key, array in arrays.items() if key != "own"}, file)
    with pytest.raises(ModelError, match="no array 'own'"):
        GaussianCopula.load(tmp_path)
    save_file(arrays, file)
    (tmp_path / "model.json").write_text(json.dumps({**card, "factors": 9}))
    with pytest.raises(ModelError, match=r"'factor' is of shape \[38, 8\], not \[38, 9\]"):
        GaussianCopula.load(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({key: card[key] for key in card if key != "factors"}))
    with pytest.raises(ModelError, match="factor"):
        GaussianCopula.load(tmp_path)


# ---------------------------------------------------------------- factor analysis


def estimates(matrix: np.ndarray, rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Sample correlations of normal numbers, and their errors."""
    z = np.random.default_rng(seed).standard_normal((rows, len(matrix))) @ np.linalg.cholesky(matrix).T
    found = np.corrcoef(z.T)
    return found, np.maximum((1 - found**2) / np.sqrt(rows), 1e-9)


def test_common_factors_are_found_and_are_nearer_to_the_truth() -> None:
    truth = products(loadings(300, 6))
    found, error = estimates(truth, 2_000)
    kept = factor_analysis(found, error, 2_000)
    assert kept is not None and kept.shape == (300, 8)
    off = ~np.eye(300, dtype=bool)
    assert np.square(products(kept) - truth)[off].mean() < 0.8 * np.square(found - truth)[off].mean()


def test_a_pair_that_they_miss_is_kept() -> None:
    common = loadings(300, 6)
    unique = np.sqrt(1 - (common**2).sum(axis=1))
    truth = products(common)
    pairs = [(i, i + 1) for i in range(0, 20, 2)]
    for i, j in pairs:
        truth[i, j] = truth[j, i] = truth[i, j] + 0.9 * unique[i] * unique[j]
    found, error = estimates(truth, 5_000)
    kept = factor_analysis(found, error, 5_000)
    assert kept is not None and 8 <= kept.shape[1] <= 300 / 8
    rows, columns = np.array(pairs).T
    limit = MISSED * np.maximum(error, LEAST_ERROR)[rows, columns]
    assert (np.abs(products(kept) - found)[rows, columns] < limit).all()
    assert kept.shape[1] > 8


@pytest.mark.parametrize("rows", [500, 100_000])
def test_what_has_no_few_factors_stays_as_it_is(rows) -> None:
    """Neighbours that are alike, as in a series: every eigenvector counts."""
    place = np.arange(300)
    truth = 0.97 ** np.abs(place[:, None] - place)
    assert factor_analysis(*estimates(truth, rows), rows) is None


def test_parts_are_independent_of_each_other() -> None:
    whole = joined([np.ones((2, 1)), np.full((1, 2), 0.5)])
    assert whole is not None and whole.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0.5, 0.5]]
    assert joined([np.ones((2, 1)), None]) is None and joined([]) is None


def test_a_wide_table_is_fitted_by_factors() -> None:
    """510 columns, some of them with missing values: the pairs' correlations come back."""
    size, n = 510, 1_000
    rng = np.random.default_rng(0)
    common = loadings(size, 4)
    z = rng.standard_normal((n, 4)) @ common.T
    z += rng.standard_normal((n, size)) * np.sqrt(1 - (common**2).sum(axis=1))
    arrays = [pa.array(np.rint(z[:, i] * 4).astype(np.int16), mask=rng.random(n) < 0.1 * (i < 5)) for i in range(size)]
    table = pa.table(arrays, [f"x{i}" for i in range(size)])
    profile, _, columns = profiled(table, dict.fromkeys(table.column_names, "numerical"))
    coder = TableCoder.from_profile(profile, columns, ends=EndRule())
    counts = Counts.empty(coder, fit=True, score=None, relations=[])
    counts.update(table.to_batches()[0], 0)
    fit = fit_copula(profile, coder, counts, {}, [])
    model = GaussianCopula.from_fit(fit, table.schema)
    assert model.own is not None and len(model.latents) == size + 5
    assert any("common factors" in note for note in model.notes)
    off = ~np.eye(size, dtype=bool)
    error = (model.correlation[:size, :size] - products(common))[off]
    assert np.sqrt(np.square(error).mean()) < 1 / np.sqrt(n)
    assert np.abs(model.correlation[:size, size:]).max() < 1e-5
    assert model.draw(0, 0, 100).schema.equals(model.schema)
