"""Which rows may be missing: rules that hold on every row of the table hold on every row of the copula."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.copula import native

from shardsynth.errors import ModelError
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.models.sdv.export_copula import not_held
from shardsynth.sampling.conditions import parse_conditions

ROWS = 4_000
NUMBERS = ("visit1", "visit2", "visit3", "dose", "free", "a", "b", "c", "d")


def copula(table: pa.Table, **more: object) -> GaussianCopula:
    sdtypes = {name: "numerical" if name in NUMBERS else "categorical" for name in table.column_names}
    return native(table, sdtypes=sdtypes, **more)


def visits(seed: int = 1) -> pa.Table:
    """Three visits, each only after the one before; treatment values only where the screening did not fail."""
    rng = np.random.default_rng(seed)
    first = rng.random(ROWS) < 0.2
    second = first | (rng.random(ROWS) < 0.3)
    third = second | (rng.random(ROWS) < 0.3)
    arm = rng.choice(["low", "high", "failed"], ROWS, p=[0.5, 0.35, 0.15])
    unknown = rng.random(ROWS) < 0.1
    status = np.where(rng.random(ROWS) < 0.6, "done", "left")
    base = rng.normal(size=ROWS)

    def numbers(absent: np.ndarray) -> pa.Array:
        return pa.array(np.where(absent, np.nan, base + rng.normal(0, 0.7, ROWS)), from_pandas=True)

    return pa.table(
        {
            "visit1": numbers(first),
            "visit2": numbers(second),
            "visit3": numbers(third),
            "arm": pa.array([None if u else a for u, a in zip(unknown, arm)]),
            "dose": numbers((arm == "failed") | (rng.random(ROWS) < 0.1)),
            "status": pa.array([None if a == "failed" else s for a, s in zip(arm, status)]),
            "free": numbers(rng.random(ROWS) < 0.5),
        }
    )


@pytest.fixture(scope="module")
def model() -> GaussianCopula:
    return copula(visits())


def test_patterns_hold_on_every_row_and_shares_stay(model: GaussianCopula) -> None:
    rows, real = model.draw(1, 0, 60_000).to_pandas(), visits().to_pandas()
    assert not (rows.visit1.isna() & rows.visit2.notna()).any()
    assert not (rows.visit2.isna() & rows.visit3.notna()).any()
    failed = rows.arm == "failed"
    assert rows[failed].dose.isna().all() and rows[failed].status.isna().all()
    assert rows[rows.arm.isin(["low", "high"])].status.notna().all()
    assert not (rows.status.isna() & rows.dose.notna()).any()
    for name in real:
        assert rows[name].isna().mean() == pytest.approx(real[name].isna().mean(), abs=0.015), name
    for name in ("visit1", "visit3", "dose", "free"):
        assert rows[name].median() == pytest.approx(real[name].median(), abs=0.05)
    assert "visit1 is missing only where visit2 is" in model.notes
    assert not any("free" in note for note in model.notes)


def test_shares_stay_where_many_columns_are_missing_with_one() -> None:
    """An absent patient has none of six measurements; each is missing on some more rows."""
    rng = np.random.default_rng(4)
    core = rng.random(ROWS) < 0.17
    gaps = [core, *(core | (rng.random(ROWS) < 0.05) for _ in range(6))]
    names = ("visit1", "visit2", "visit3", "a", "b", "c", "d")
    values = [pa.array(np.where(gap, np.nan, rng.normal(size=ROWS)), from_pandas=True) for gap in gaps]
    rows = copula(pa.table(dict(zip(names, values)))).draw(1, 0, 40_000).to_pandas()
    for name, gap in zip(names, gaps):
        assert not (rows.visit1.isna() & rows[name].notna()).any()
        assert rows[name].isna().mean() == pytest.approx(gap.mean(), abs=0.012)


def test_conditions_hold_and_the_patterns_follow_them(model: GaussianCopula) -> None:
    rows = model.draw(1, 0, 4_000, parse_conditions("visit2 > 0")).to_pandas()
    assert rows.visit2.min() > 0 and rows.visit1.notna().all()
    rows = model.draw(1, 0, 4_000, parse_conditions("isnull(visit1)")).to_pandas()
    assert rows[["visit1", "visit2"]].isna().all(axis=None)
    rows = model.draw(1, 0, 4_000, parse_conditions("arm == 'failed'")).to_pandas()
    assert rows[["dose", "status"]].isna().all(axis=None)
    rows = model.draw(1, 0, 4_000, parse_conditions("dose > 0")).to_pandas()
    assert rows.dose.min() > 0


def test_completed_rows_keep_the_patterns_of_what_is_drawn(model: GaussianCopula) -> None:
    known = pa.table({"arm": ["failed", "low"] * 500})
    rows = model.complete(known, 1).to_pandas()
    assert rows.status[0::2].isna().all() and rows.status[1::2].notna().all()
    assert not (rows.visit1.isna() & rows.visit2.notna()).any()


def test_saved_and_loaded(model: GaussianCopula, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = GaussianCopula.load(tmp_path)
    assert loaded.rules == model.rules and len(model.rules) >= 4
    assert loaded.draw(2, 0, 5_000).equals(model.draw(2, 0, 5_000))
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["format"] == 3
    for wrong in ({"latent": 0}, {"given": 99}, {"kind": "nested", "states": [1]}, {"states": [0]}):
        broken = [{**rule, **wrong} for rule in card["missing_rules"][:1]]
        (tmp_path / "model.json").write_text(json.dumps({**card, "missing_rules": broken}))
        with pytest.raises(ModelError, match="missing_rules: "):
            GaussianCopula.load(tmp_path)


def test_an_export_says_that_they_are_lost(model: GaussianCopula) -> None:
    lines = not_held(model, SimpleNamespace(functions=()))
    assert f"{len(model.rules)} rules on which rows may be missing: lost, SDV's rows break them now and then" in lines


@pytest.mark.parametrize("rows_of_one", [3, 12])
def test_the_pattern_of_one_person_is_not_learned(rows_of_one: int) -> None:
    """One patient has a first visit missing and a second one all the same, on many rows: nobody else comes out so."""
    table = visits()
    absent = np.asarray(table["visit1"].is_null())
    persons = np.arange(ROWS, dtype=np.uint64) // np.uint64(2)
    hers = np.flatnonzero(np.asarray(table["visit2"].is_null()) & absent)[:rows_of_one]
    persons[hers] = 10**6
    values = table["visit2"].to_pylist()
    for row in hers:
        values[row] = 0.5
    planted = table.set_column(1, "visit2", pa.array(values, pa.float64()))
    rows = copula(planted, persons=persons).draw(1, 0, 60_000).to_pandas()
    assert not (rows.visit1.isna() & rows.visit2.notna()).any()


def test_a_table_without_a_pattern_has_no_rule() -> None:
    rng = np.random.default_rng(2)
    table = pa.table(
        {name: pa.array(np.where(rng.random(3_000) < 0.3, np.nan, rng.normal(size=3_000)), from_pandas=True)
         for name in "abcd"}
    )  # fmt: skip
    assert copula(table).rules == ()
