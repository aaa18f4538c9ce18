"""Rare classes of a target: their values survive, alone, under conditions and in completed rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.copula import native

from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions

ROWS = 60_000


def fraud(rows: int = ROWS, seed: int = 5) -> pa.Table:
    """A class of 0.2 %: amounts of median 3,122 in place of 20."""
    rng = np.random.default_rng(seed)
    rare = rng.random(rows) < 0.002
    amount = np.where(rare, rng.lognormal(np.log(3122), 0.5, rows), rng.lognormal(np.log(20), 1, rows)).round(2)
    age = rng.normal(50, 10, rows).round(1)
    return pa.table({"amount": amount, "age": age, "fraud": pa.array(rare.astype(np.int8))})


def shifted(rows: int = ROWS, seed: int = 6) -> pa.Table:
    """A class of 0.6 % that differs in two numbers, which do not depend on each other elsewhere, and in a category."""
    rng = np.random.default_rng(seed)
    kind = np.where(rng.random(rows) < 0.006, "rare", rng.choice(["a", "b"], rows))
    rare = kind == "rare"
    return pa.table(
        {
            "x": np.where(rare, rng.normal(40, 3, rows), rng.normal(20, 10, rows)).round(2),
            "y": np.where(rare, rng.normal(-5, 1, rows), rng.normal(0, 4, rows)),
            "free": rng.normal(size=rows),
            "country": np.where(
                rare & (rng.random(rows) < 0.8), "XX", rng.choice(["DE", "FR", "XX"], rows, p=[0.6, 0.38, 0.02])
            ),
            "kind": kind,
        }
    )


@pytest.fixture(scope="module")
def frauds() -> GaussianCopula:
    return native(fraud(), target="fraud")


@pytest.fixture(scope="module")
def two_shifts() -> GaussianCopula:
    return native(shifted(), target="kind")


def drawn(model: GaussianCopula, rows: int = 100_000):
    return model.draw(1, 0, rows).to_pandas()


def test_amounts_of_a_rare_class_survive(frauds):
    rows, plain = drawn(frauds), drawn(native(fraud()))
    rare = rows[rows["fraud"] == 1]
    assert 140 < len(rare) < 260
    assert rare["amount"].median() == pytest.approx(3122, rel=0.15)
    assert rows.loc[rows["fraud"] == 0, "amount"].median() == pytest.approx(20, rel=0.05)
    assert (rows.loc[rows["fraud"] == 0, "amount"] > 1500).mean() < 1e-4
    assert (rare["amount"] > 1000).mean() > 0.95
    assert (plain.loc[plain["fraud"] == 1, "amount"] > 1000).mean() < 0.8  # without a distribution of its own
    assert [group.segments for group in frauds.groups] == [(0,), (1,)]
    assert list(frauds.groups[0].columns) == [0]  # ages are alike: they keep the Gaussian


def test_two_shifts_and_a_category(two_shifts):
    rows = drawn(two_shifts)
    rare, rest = rows[rows["kind"] == "rare"], rows[rows["kind"] != "rare"]
    assert len(rare) == pytest.approx(600, abs=90)
    assert rare["x"].median() == pytest.approx(40, abs=1) and rare["y"].median() == pytest.approx(-5, abs=0.3)
    assert (rare["country"] == "XX").mean() == pytest.approx(0.8, abs=0.06)
    assert (rest["country"] == "XX").mean() == pytest.approx(0.02, abs=0.004)
    assert rest["x"].std() == pytest.approx(10, rel=0.03)
    assert abs(rows[["x", "y"]].corr().iloc[0, 1]) < 0.05


def test_conditions_and_groups(two_shifts):
    rare = two_shifts.draw(2, 0, 1000, conditions=parse_conditions("kind == 'rare'")).to_pandas()
    assert set(rare["kind"]) == {"rare"} and rare["x"].median() == pytest.approx(40, abs=1)
    some = two_shifts.draw(2, 0, 3000, conditions=parse_conditions("x > 38 and country == 'XX'")).to_pandas()
    assert (some["x"] > 38).all() and set(some["country"]) == {"XX"}
    everything = drawn(two_shifts, 400_000)
    among = everything[(everything["x"] > 38) & (everything["country"] == "XX")]
    assert (some["kind"] == "rare").mean() == pytest.approx((among["kind"] == "rare").mean(), abs=0.06)
    others = two_shifts.draw(2, 0, 500, conditions=parse_conditions("kind != 'rare' and x > 38")).to_pandas()
    assert "rare" not in set(others["kind"]) and (others["x"] > 38).all()


def test_rows_do_not_depend_on_how_they_are_cut(two_shifts):
    whole = two_shifts.draw(3, 0, 6000)
    for first, n in ((0, 1), (17, 2500), (5999, 1)):
        assert two_shifts.draw(3, first, n).equals(whole.slice(first, n))
    known = shifted(300, seed=9).drop_columns(["kind"])
    completed = two_shifts.complete(known, 1)
    assert two_shifts.complete(known.slice(100, 50), 1, 100).to_pylist() == completed.slice(100, 50).to_pylist()


def test_completed_rows_know_their_class(two_shifts):
    real = shifted(15_000, seed=9)
    completed = two_shifts.complete(real.drop_columns(["kind"]), 1).to_pandas()
    wanted, found = real.to_pandas()["kind"] == "rare", completed["kind"] == "rare"
    assert found.mean() == pytest.approx(wanted.mean(), abs=0.003)
    assert (wanted & found).sum() > 0.5 * wanted.sum()
    given = pa.table({"kind": ["rare"] * 200 + ["a"] * 200})
    completed = two_shifts.complete(given, 1).to_pandas()
    assert completed["x"][:200].median() == pytest.approx(40, abs=1.5)
    assert completed["x"][200:].median() == pytest.approx(20, abs=2.5)


def test_saved_and_loaded(two_shifts, frauds, tmp_path):
    two_shifts.save(tmp_path / "a")
    loaded = GaussianCopula.load(tmp_path / "a")
    assert loaded.draw(1, 0, 5000).equals(two_shifts.draw(1, 0, 5000))
    loaded.save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    native(fraud(3000), target="fraud").save(tmp_path / "c")  # six rows of the class: too few
    native(fraud(3000)).save(tmp_path / "d")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "d" / name).read_bytes()


def test_a_class_of_few_persons_gets_nothing_of_its_own():
    table = fraud()
    persons = np.arange(ROWS, dtype=np.uint64) * np.uint64(2**40)
    assert native(table, target="fraud", persons=persons).groups
    persons[np.asarray(table["fraud"]) == 1] %= np.uint64(2**42)  # the frauds are of four persons
    assert not native(table, target="fraud", persons=persons).groups


def test_no_class_value_is_a_value_of_the_table(frauds):
    """Beyond its fifth most extreme values a class has tails, with the share of five rows; no value of a row is there."""
    real = fraud().to_pandas()
    own = np.sort(real.loc[real["fraud"] == 1, "amount"].to_numpy())
    marginal = frauds.groups[1].columns[0].marginal
    for beyond in (marginal.hi <= own[4], marginal.lo >= own[-5]):
        assert marginal.probability[beyond].sum() <= 5 / len(own) + 1e-9
    edges = np.concatenate([marginal.lo, marginal.hi])
    assert np.abs(edges - np.concatenate([own[:4], own[-4:]])[:, None]).min() > 0.01
    rows = frauds.draw(2, 0, 20_000, conditions=parse_conditions("fraud == 1")).to_pandas()
    assert (rows["amount"] > own[-5]).mean() <= 1.3 * 5 / len(own)


def test_a_class_that_one_column_tells_exactly():
    """Frauds are the largest amounts: they stay so, but as a class, which countries depend on, too."""
    rng, rows = np.random.default_rng(8), 40_000
    rare = rng.random(rows) < 0.005
    amount = np.where(rare, rng.lognormal(8, 0.3, rows), rng.lognormal(3, 0.7, rows)).round(2)
    country = np.where(rare & (rng.random(rows) < 0.8), "XX", rng.choice(["DE", "FR", "XX"], rows, p=[0.6, 0.38, 0.02]))
    table = pa.table({"amount": amount, "country": country, "fraud": pa.array(rare.astype(np.int8))})
    model = native(table, target="fraud")
    drawn = model.draw(1, 0, 60_000).to_pandas()
    frauds = drawn[drawn["fraud"] == 1]
    assert len(frauds) == pytest.approx(60_000 * rare.mean(), rel=0.35)
    assert drawn.loc[drawn["fraud"] == 0, "amount"].max() < frauds["amount"].min()
    assert len(model.groups) == 2
    assert frauds["amount"].median() == pytest.approx(2981, rel=0.1)
    assert (frauds["country"] == "XX").mean() == pytest.approx(0.8, abs=0.1)
