"""Which rows a call gets, after other calls and completions of the same model."""

from dataclasses import replace
from pathlib import Path

import pytest

from shardsynth.errors import RunError
from shardsynth.run.row_ledger import RowsWanted, reserve, reserve_known

CARD = {"rows": 3000, "seed": 0}


def wanted(model: Path, rows: int, **options) -> RowsWanted:
    plain = RowsWanted(model, rows, seed=0, where=None, first_row=None, go_on=False, same_rows=False)
    return replace(plain, **options)


def test_rows_completed_since_then_move_neither_the_same_rows_nor_the_refusal(tmp_path):
    assert reserve(wanted(tmp_path, 100), CARD) == 3000
    assert reserve_known(tmp_path, 50, 0, "d1", CARD) == 3100
    for rows in (100, 101, 200, 10):
        assert reserve(wanted(tmp_path, rows, same_rows=True), CARD) == 3000
    for rows in (100, 101, 5000):
        with pytest.raises(RunError, match=f"rows 3,000 to {3000 + rows:,} of this model were asked for before"):
            reserve(wanted(tmp_path, rows), CARD)
    assert reserve(wanted(tmp_path, 100, go_on=True), CARD) == 3200
    assert reserve_known(tmp_path, 50, 0, "d1", CARD) == 3100


def test_the_first_rows_come_after_those_completed_before_and_are_the_same_again(tmp_path):
    assert reserve_known(tmp_path, 50, 0, "d1", CARD) == 3000
    assert reserve(wanted(tmp_path, 100), CARD) == 3050
    assert reserve_known(tmp_path, 50, 0, "d2", CARD) == 3150
    assert reserve(wanted(tmp_path, 200, same_rows=True), CARD) == 3050
    for rows in (20, 50, 101):
        with pytest.raises(RunError, match="asked for before"):
            reserve(wanted(tmp_path, rows), CARD)
    assert reserve(wanted(tmp_path, 10, go_on=True), CARD) == 3250


def test_a_first_row_that_is_named_does_not_move_the_rows_of_other_calls(tmp_path):
    assert reserve(wanted(tmp_path, 10, first_row=9000), CARD) == 9000
    assert reserve(wanted(tmp_path, 10, same_rows=True), CARD) == 3000
    assert reserve_known(tmp_path, 50, 0, "d1", CARD) == 9010
    with pytest.raises(RunError, match="asked for before"):
        reserve(wanted(tmp_path, 10), CARD)
    assert reserve(wanted(tmp_path, 10, seed=5), CARD) == 0
