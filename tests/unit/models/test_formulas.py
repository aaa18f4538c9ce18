"""Columns that are computed by a formula are found on a sample, and come back on their grid."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.models.columns.relations import relation_from_json

N = 1_500


def found(columns: dict, instants: tuple[str, ...] = (), categories: tuple[str, ...] = (), **grids: Precision) -> dict:
    table = pa.table(columns)
    roles = dict.fromkeys(instants, ("datetime", "datetime")) | dict.fromkeys(categories, ("categorical", "category"))
    described = [Column(f.name, f.type, *roles.get(f.name, ("numerical", "number"))) for f in table.schema]
    relations = guess_relations(described, table, grids)
    batch = table.combine_chunks().to_batches()[0]
    for relation in relations:
        assert relation_from_json(json.loads(json.dumps(relation.to_json()))) == relation
        assert relation.violations(batch) == 0
    return {relation.name: relation for relation in relations}


def cents(digits: int) -> Precision:
    return Precision("decimal", digits=digits)


def test_an_end_is_a_start_and_a_duration() -> None:
    rng = np.random.default_rng(0)
    start = np.datetime64("2022-01-03", "ms") + 900_000 * rng.integers(0, 10_000, N)
    minutes = rng.choice([15, 30, 45], N)
    gone = rng.random(N) < 0.2
    columns = {
        "start": pa.array(start, mask=gone),
        "minutes": minutes,
        "end": pa.array(start + 60_000 * minutes, mask=gone),
    }
    grid = Precision("integer", unit=900_000)
    relations = found(columns, ("start", "end"), ("minutes",), start=grid, end=grid)
    assert relations["end"].describe() == "end = start + minutes"
    instants = (np.array([9e5, 0.0]), np.array([False, True]))
    values, missing = relations["end"].apply({"start": instants, "minutes": (np.array([1, 1]), np.zeros(2, bool))})
    assert values[0] == 9e5 + 30 * 60_000 and missing.tolist() == [False, True]


def test_a_rounded_duration_is_computed_from_two_instants() -> None:
    rng = np.random.default_rng(1)
    start = np.datetime64("2015-01-01", "s") + rng.integers(0, 10**8, N)
    length = rng.exponential(4e5, N).astype(int)
    relations = found(
        {"a": start, "b": start + length, "days": length // 86_400}, ("a", "b"), days=Precision("integer")
    )
    assert relations["days"].describe() == "days = the time from a to b"


@pytest.mark.parametrize("categories", [(), ("year",)])
def test_parts_of_a_date(categories: tuple[str, ...]) -> None:
    rng = np.random.default_rng(2)
    born = np.datetime64("1950-01-01", "D") + rng.integers(0, 9_000, N)
    years = born.astype("datetime64[Y]").astype(int) + 1970
    relations = found({"born": born, "year": years}, ("born",), categories)
    assert relations["year"].describe() == "year is the year of born"


def test_shares_of_a_hundred() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 101, N)
    second = np.array([rng.integers(0, 101 - x) for x in first])
    whole = Precision("integer")
    relations = found({"a": first, "b": second, "c": 100 - first - second}, a=whole, b=whole, c=whole)
    assert set(relations) == {"c"} and relations["c"].offset == 100


def test_bmi_and_pounds_within_rounding() -> None:
    rng = np.random.default_rng(4)
    weight, height = rng.normal(80, 12, N).round(1), rng.normal(1.7, 0.1, N).round(2)
    columns = {"kg": weight, "m": height, "bmi": (weight / height**2).round(1), "lb": (weight * 2.20462).round(1)}
    relations = found(columns, kg=cents(1), m=cents(2), bmi=cents(1), lb=cents(1))
    assert relations["bmi"].describe() == "bmi ~ kg x m^-2"
    assert relations["lb"].parents == ("kg",)


def test_a_category_that_is_a_range_of_a_number() -> None:
    rng = np.random.default_rng(5)
    amount = (np.where(rng.random(N) < 0.1, -1, 1) * rng.lognormal(3, 1, N)).round(2)
    kind = np.where(amount < 0, "refund", "sale")
    relations = found({"amount": amount, "kind": kind}, categories=("kind",), amount=cents(2))
    assert relations["kind"].cuts == (0.0,)


def test_independent_columns_have_no_relation() -> None:
    rng = np.random.default_rng(6)
    columns = {name: rng.normal(50, 10, N).round(1) for name in "abcdef"}
    columns["when"] = np.datetime64("2020-01-01", "s") + rng.integers(0, 10**7, N)
    columns["code"] = rng.integers(0, 5, N)
    assert found(columns, ("when",), ("code",)) == {}


def test_nothing_is_a_function_of_a_number_without_a_grid() -> None:
    """Bins of floats of many digits hold no single values: all rows became the one value that a bin held."""
    rng = np.random.default_rng(11)
    paid = np.float32(0.9456) * np.maximum(rng.integers(-9, 16, N), 0).astype(np.float32)
    columns = {"paid": paid.astype(np.float64), "any": (paid > 0).astype(np.int64)}
    relations = found(columns, (), ("any",), paid=Precision())
    assert relations["any"].describe() == "any follows from ranges of paid"


def test_a_term_and_its_group_stay_together_though_many_terms_are_rare() -> None:
    """Adverse events: the group of a term is computed, unless that would move too many rows to other groups."""
    rng = np.random.default_rng(12)
    term = np.where(rng.random(N) < 0.7, rng.integers(0, 20, N), rng.integers(20, 2_000, N))
    columns = {"term": [f"term {k}" for k in term], "group": [f"group {k % 4}" for k in term]}
    relations = found(columns, (), ("term", "group"))
    assert relations["group"].describe() == "group is a function of term"
    columns["group"] = ["others" if k >= 20 else f"group {k % 4}" for k in term]
    assert "group" not in found(columns, (), ("term", "group"))


def test_numbers_that_are_never_present_together_are_no_product() -> None:
    rng = np.random.default_rng(13)
    arm = rng.integers(0, 3, N)
    columns = {f"dose{k}": pa.array(rng.gamma(3, 2, N) + 0.1, mask=arm != k) for k in range(3)}
    assert found({**columns, "age": rng.integers(18, 90, N)}) == {}


def test_a_column_of_halves_of_floats_is_left_out():
    values = pa.array([0.5, 1.5, 2.5, 0.5] * 50).cast(pa.float16())
    table = pa.table({"half": values, "text": pa.array(["a", "b", "c", "a"] * 50)})
    columns = [Column(name, table.schema.field(name).type, "categorical", "category") for name in table.column_names]
    assert guess_relations(columns, table, {}) == []
