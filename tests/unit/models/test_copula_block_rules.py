"""Pairs of columns whose categories fall into blocks: no row of the copula lies across them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.copula import native

from shardsynth.errors import ModelError
from shardsynth.models.copula.block_rules import block_rule
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions

ROWS = 3_000
SDTYPES = {"planned": "categorical", "actual": "categorical", "code": "categorical", "age": "numerical"}
ARMS = ["low", "high", "placebo"]


def trial() -> pa.Table:
    """15 % fail the screening, by both treatments; of the others a tenth got another one. ``code`` follows from it."""
    rng = np.random.default_rng(3)
    failed = rng.random(ROWS) < 0.15
    planned = rng.choice(ARMS, ROWS, p=[0.4, 0.35, 0.25])
    actual = np.where(rng.random(ROWS) < 0.1, rng.choice(ARMS, ROWS), planned)
    actual = np.where(failed, "failed", actual)
    absent = rng.random(ROWS) < 0.05
    codes = {"low": "L", "high": "H", "placebo": "P", "failed": "F"}
    return pa.table(
        {
            "planned": np.where(failed, "failed", planned),
            "age": rng.normal(50, 9, ROWS).round() + 8 * failed,
            "actual": pa.array([None if gone else value for gone, value in zip(absent, actual)]),
            "code": pa.array([None if gone else codes[value] for gone, value in zip(absent, actual)]),
        }
    )


@pytest.fixture(scope="module")
def model() -> GaussianCopula:
    return native(trial(), sdtypes=SDTYPES)


def across(rows) -> int:
    known = rows[rows.actual.notna()]
    return int(((known.planned == "failed") != (known.actual == "failed")).sum())


def test_no_row_lies_across_the_blocks(model: GaussianCopula) -> None:
    rows, real = model.draw(1, 0, 40_000).to_pandas(), trial().to_pandas()
    assert len(model.blocks) == 1 and across(rows) == 0
    for name in ("planned", "actual"):
        found, wanted = (t[name].value_counts(normalize=True).sort_index() for t in (rows, real))
        np.testing.assert_allclose(found, wanted, atol=0.03)
    pairs = rows.dropna().groupby("actual").code.nunique()
    assert pairs.eq(1).all() and len(pairs) == 4
    assert rows.actual.isna().mean() == pytest.approx(0.05, abs=0.01)
    assert rows[rows.planned == "failed"].age.mean() > rows[rows.planned != "failed"].age.mean() + 3


def test_conditions_and_completed_rows(model: GaussianCopula) -> None:
    rows = model.draw(2, 0, 3_000, parse_conditions("planned == 'failed'")).to_pandas()
    assert across(rows) == 0 and set(rows.planned) == {"failed"}
    assert set(model.draw(2, 0, 3_000, parse_conditions("actual == 'low'")).to_pandas().actual) == {"low"}
    known = pa.table({"planned": ["failed", "low"] * 400})
    completed = model.complete(known, 1).to_pandas()
    assert completed.planned.tolist() == ["failed", "low"] * 400 and across(completed) == 0


def test_a_row_does_not_depend_on_the_range(model: GaussianCopula) -> None:
    whole = model.draw(3, 0, 5_000)
    for first, n in ((0, 1), (1_234, 2_000), (4_999, 1)):
        assert model.draw(3, first, n).equals(whole.slice(first, n))


def test_saved_and_loaded(model: GaussianCopula, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert GaussianCopula.load(tmp_path).draw(2, 0, 5_000).equals(model.draw(2, 0, 5_000))
    card = json.loads((tmp_path / "model.json").read_text())
    (rule,) = card["block_rules"]
    for wrong in ({"column": 1}, {"given": rule["column"]}, {"table": rule["table"][1:]}, {"table": [[9] * 4] * 4}):
        (tmp_path / "model.json").write_text(json.dumps({**card, "block_rules": [{**rule, **wrong}]}))
        with pytest.raises(ModelError, match="block_rules: "):
            GaussianCopula.load(tmp_path)


def test_what_one_person_has_ties_no_blocks_together(model: GaussianCopula) -> None:
    """Twelve visits of one patient lie across: nobody else comes out so."""
    table, persons = trial(), np.arange(ROWS, dtype=np.uint64)
    actual, code = table["actual"].to_pylist(), table["code"].to_pylist()
    for row in np.flatnonzero(np.asarray(table["planned"]) == "failed")[:12]:
        actual[row], code[row], persons[row] = "low", "L", 10**6
    table = table.set_column(2, "actual", pa.array(actual)).set_column(3, "code", pa.array(code))
    assert across(native(table, sdtypes=SDTYPES, persons=persons).draw(1, 0, 20_000).to_pandas()) == 0


@pytest.mark.parametrize(
    "together",
    [
        [[300, 10], [10, 300]],  # ties
        [[600, 0], [0, 10]],  # a block of too few
        [[300, 300]],  # one block
        [[30, 0, 6], [0, 30, 6]],  # a category between
    ],
)
def test_what_makes_no_blocks(together: list[list[int]]) -> None:
    assert block_rule(1, 0, np.array(together), 5) is None


def test_evidence_of_blocks() -> None:
    evidence, rule = block_rule(4, 2, np.array([[50, 0, 0], [0, 40, 60], [3, 0, 0]]), 5)
    assert evidence > 50 and rule.table == ((0, 0, 0), (2, 1, 2), (0, 1, 2))
    _, rule = block_rule(4, 2, np.array([[60, 0, 4], [0, 60, 4]]), 5)
    assert rule.table == ((0, 0, 2), (1, 1, 2))  # a category that goes with none stays
