"""Rows under conditions: every row meets them, and they are distributed as the rows of a large sample that do."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables.copula import simple_fit
from tests.tables.copula_by_hand import adult_copula, distance, drawn

from shardsynth.data.columns import Column
from shardsynth.data.values import Precision
from shardsynth.errors import SHOW_VALUES, ConditionError
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent, Marginal
from shardsynth.models.columns.formulas import DatePartRelation, StepRelation
from shardsynth.models.columns.operands import Amount
from shardsynth.models.columns.relations import FlagRelation, Operand, Relation, SumRelation
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions
from shardsynth.sampling.identifiers import learn


@pytest.fixture(scope="module")
def adult(adult_dir) -> GaussianCopula:
    return adult_copula(adult_dir)


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 9000), max_size=4), first=st.integers(0, 2**50))
def test_any_split_gives_the_same_rows(adult, cuts, first):
    where = parse_conditions('sex == "Female" and age >= 60 and education == "Bachelors" and fnlwgt < 150000')
    whole = adult.prepare(where)
    pieces = adult.prepare(where)
    edges = [0, *sorted(cuts), 9000]
    parts = [adult.draw(3, first + a, b - a, pieces) for a, b in zip(edges, edges[1:])]
    expected = pa.Table.from_batches([adult.draw(3, first, 9000, whole)])
    assert pa.Table.from_batches(parts).combine_chunks().equals(expected)
    assert whole.acceptance() == pieces.acceptance()


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("sex == 'Femal'", "did you mean 'Female'"),
        ("sex in ['Female', 'x']", "no category 'x'"),
        ("gender == 'Female'", "no column 'gender'"),
        ("Age > 30", "did you mean 'age'"),
        ("age > 200", "goes from 17 to 90"),
        ("age > 40 and age < 30", "leaves no value"),
        ("age == 40.5", "nearest is 4[01]"),
        ("age == 1000", "nearest is 90"),
        ("fnlwgt == -5", "nearest is 1[0-9]{4}"),
        ("sex < 'M'", "have no order"),
        ("age == 'forty'", "cannot be compared"),
        ("isnull(sex)", "never missing"),
        ("isnull(occupation) and notnull(occupation)", "both missing and not"),
        ("isnull(occupation) and occupation == 'Sales'", "cannot be missing and have a value"),
        ("education == 'Bachelors' and `education-num` == 9", "contradictory"),
        ("`education-num` == 99", "nearest is 16"),
        ("`education-num` > 16", "goes from 1 to 16"),
    ],
)
def test_impossible_conditions_name_what_is_possible(adult, where, why, monkeypatch):
    monkeypatch.setenv(SHOW_VALUES, "1")
    with pytest.raises(ConditionError, match=why):
        adult.prepare(parse_conditions(where))


@pytest.mark.parametrize("where", ["sex == 'Femal'", "age > 200", "age == 1000", "age > 40 and age < 30"])
def test_without_show_values_no_value_of_the_model_is_named(adult, where, monkeypatch):
    monkeypatch.delenv(SHOW_VALUES, raising=False)
    with pytest.raises(ConditionError, match=r"--show-values") as hidden:
        adult.prepare(parse_conditions(where))
    assert not re.search(r"Female|\b90\b|\b17\b", str(hidden.value))


# ---------------------------------------------------------------- relations, types


def flags_and_more() -> GaussianCopula:
    """TET2 = bi or other with a shared indicator; a sum; a date, a datetime, a decimal, an id, a constant."""
    schema = pa.schema(
        [
            ("any", pa.int8()),
            ("bi", pa.int8()),
            ("other", pa.int8()),
            ("total", pa.int16()),
            ("p", pa.int16()),
            ("q", pa.int16()),
            ("day", pa.date32()),
            ("at", pa.timestamp("ms", "Europe/Rome")),
            ("price", pa.decimal128(8, 2)),
            ("x", pa.float64()),
            ("name", pa.string()),
            ("one", pa.string()),
            ("void", pa.float32()),
        ]
    )
    flag, codes, integer = pa.array([0, 1], pa.int8()), np.array([0.0, 1.0]), Precision("integer")

    def column(name, marginal=None, treatment="latent", **options):
        role = "category" if "categories" in options else "number"
        return FittedColumn(name, role, treatment, marginal, **options)

    small = np.arange(4.0)
    columns = [
        column("any", treatment="relation", categories=flag),
        column("bi", Marginal("category", np.array([0.8, 0.2]), codes, codes, 0.1), categories=flag),
        column("other", Marginal("category", np.array([0.7, 0.3]), codes, codes, 0.1), categories=flag),
        column("total", treatment="relation", precision=integer),
        column("p", Marginal("axis", np.full(4, 0.25), small, small), precision=integer),
        column("q", Marginal("axis", np.full(4, 0.25), small, small), precision=integer),
        column("day", Marginal("axis", np.ones(1), np.array([18261.502]), np.array([18992.498])), precision=integer),
        column(
            "at",
            Marginal("axis", np.ones(1), np.array([1.6e12]), np.array([1.7e12])),
            precision=Precision("integer", 0, 1000),
        ),
        column(
            "price",
            Marginal("axis", np.ones(1), np.array([-0.00498]), np.array([99.99498])),
            precision=Precision("decimal", digits=2),
        ),
        column(
            "x",
            Marginal("axis", np.array([0.5, 0.5]), np.array([0.0, 0.0]), np.array([0.0, 10.0])),
            precision=Precision(),
        ),
        column("name", treatment="id"),
        column(
            "one", Marginal("category", np.ones(1), np.zeros(1), np.zeros(1)), "constant", categories=pa.array(["only"])
        ),
        column("void", treatment="empty"),
    ]
    latents = [Latent("value", (i,)) for i in (1, 2, 4, 5, 6, 7, 8, 9)] + [Latent("missing", (1, 2), 0.1)]
    matrix = 0.3 * np.ones((9, 9)) + 0.7 * np.eye(9)
    pair = (0, 1)
    relations = [
        FlagRelation((Operand("bi", pair), Operand("other", pair)), Operand("any", pair), (1, 1, 1), (0, 0, 0)),
        SumRelation((Operand("p"), Operand("q")), Operand("total"), 1e-9, integer),
    ]
    generators = {"name": learn(Column("name", pa.string(), "id", "id"), pa.array(["P-001", "P-002"]))}
    return GaussianCopula.from_fit(CopulaFit(columns, latents, matrix, relations), schema, generators=generators)


@pytest.fixture(scope="module")
def model() -> GaussianCopula:
    return flags_and_more()


@pytest.fixture(scope="module")
def plain(model) -> pd.DataFrame:
    return model.draw(5, 0, 400_000).to_pandas()


@pytest.mark.parametrize(
    ("where", "query"),
    [
        ("any == 1", "any == 1"),
        ("any == 0 and p >= 2", "any == 0 and p >= 2"),
        ("any == 1 and bi == 0", "any == 1 and bi == 0"),
        ("isnull(any)", "any.isnull()"),
        ("notnull(any)", "any.notnull()"),
        ("total == 3", "total == 3"),
        ("total >= 5 and q != 3", "total >= 5 and q != 3"),
    ],
)
def test_conditions_on_computed_columns(model, plain, where, query):
    plain_rows, found = plain.query(query, engine="python"), drawn(model, where, 30_000)
    assert len(found.query(query, engine="python")) == 30_000
    for name in ("any", "bi", "other", "total", "p", "q", "x"):
        assert distance(found[name], plain_rows[name]) < 0.015 + 1.5 / np.sqrt(len(plain_rows)), name
    joint = [(rows.groupby(["p", "q"]).size() / len(rows)) for rows in (found, plain_rows)]
    assert 0.5 * joint[0].sub(joint[1], fill_value=0).abs().sum() < 0.03


@pytest.mark.parametrize(
    ("where", "test"),
    [
        (
            "day >= '2021-06-01' and day < '2021-07-01'",
            lambda d: d.day.between(dt.date(2021, 6, 1), dt.date(2021, 6, 30)),
        ),
        ({"day": dt.date(2021, 6, 1)}, lambda d: d.day == dt.date(2021, 6, 1)),
        ("day in ['2020-02-01', '2021-03-01']", lambda d: d.day.isin([dt.date(2020, 2, 1), dt.date(2021, 3, 1)])),
        ("at < '2021-01-01'", lambda d: d["at"] < pd.Timestamp("2021-01-01", tz="Europe/Rome")),
        (
            {"at": {">=": dt.datetime(2023, 1, 1, tzinfo=dt.timezone.utc)}},
            lambda d: d["at"] >= pd.Timestamp("2023-01-01", tz="UTC"),
        ),
        ("price == 12.34", lambda d: d.price.astype(float) == 12.34),
        ("12.345 < price <= 12.4", lambda d: d.price.astype(float).between(12.35, 12.4)),
        ("x == 3.7", lambda d: d.x == 3.7),
        ("x in [0, 3.7]", lambda d: d.x.isin([0, 3.7])),
        ("x > 0", lambda d: d.x > 0),
        ("2 <= x < 2.5", lambda d: d.x.between(2, 2.5)),
        ("x not in [0]", lambda d: d.x != 0),
        ("p not in [1, 2]", lambda d: ~d.p.isin([1, 2])),
        ("one == 'only' and isnull(void)", lambda d: d.one == "only"),
    ],
)
def test_conditions_on_every_kind_of_value(model, where, test):
    assert test(drawn(model, where, 3000)).all()


def test_a_part_of_a_segment_is_drawn_evenly(model):
    days = pd.to_datetime(drawn(model, "'2021-06-01' <= day < '2021-06-11' ", 50_000).day)
    assert np.abs(days.dt.day.value_counts(normalize=True) - 0.1).max() < 0.012


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("any == 2", "no category 2"),
        ("total == 7", "nearest is 6"),
        ("total > 1 and isnull(total)", "cannot be missing and have a value"),
        ("name == '3'", "not learned"),
        ("one == 'other'", "no category 'other'"),
        ("one != 'only'", "leaves no value"),
        ("notnull(void)", "always missing"),
        ("void > 3", "always missing"),
        ("isnull(bi) and notnull(other)", "contradictory"),
        ("bi == 1 and any == 0", "contradictory"),
        ("day == 'tomorrow'", "cannot be compared"),
        ("p in [0, 9]", "nearest is 3"),
    ],
)
def test_impossible_conditions_on_them(model, where, why, monkeypatch):
    monkeypatch.setenv(SHOW_VALUES, "1")
    with pytest.raises(ConditionError, match=why):
        model.prepare(parse_conditions(where))


def test_relations_whose_parents_are_not_atoms_name_the_parents():
    schema = pa.schema([("sum", pa.float64()), ("a", pa.float64()), ("b", pa.float64())])
    wide = Marginal("axis", np.ones(1), np.zeros(1), np.ones(1))
    columns = [
        FittedColumn("sum", "number", "relation", precision=Precision()),
        *(FittedColumn(n, "number", "latent", wide) for n in "ab"),
    ]
    relation = SumRelation((Operand("a"), Operand("b")), Operand("sum"), 1e-9, Precision())
    fit = CopulaFit(columns, [Latent("value", (1,)), Latent("value", (2,))], np.eye(2), [relation])
    with pytest.raises(ConditionError, match="put the condition on 'a', 'b'"):
        GaussianCopula.from_fit(fit, schema).prepare(parse_conditions("sum > 1"))


def _computed_from(parent: FittedColumn, relation: Relation, derived: FittedColumn, kinds: list[pa.DataType]):
    fit = CopulaFit([parent, derived], [Latent("value", (0,))], np.eye(1), [relation])
    names = [parent.name, derived.name]
    return GaussianCopula.from_fit(fit, pa.schema(list(zip(names, kinds))))


def test_a_date_of_an_instant_is_a_condition_on_the_instant():
    day = 86_400 * 10**6
    spread = Marginal("axis", np.ones(4) / 4, np.arange(4) * 100.0 * day, np.arange(1, 5) * 100.0 * day)
    start = FittedColumn("start", "datetime", "latent", spread, None, Precision("integer", unit=1_000_000))
    relation = DatePartRelation(Amount("start", None, 1000), Amount("admit", None, day * 1000), "date")
    admit = FittedColumn("admit", "datetime", "relation", None, None, Precision("integer"))
    model = _computed_from(start, relation, admit, [pa.timestamp("us"), pa.date32()])
    for where, days in (
        ("admit == '1970-05-01'", {120}),
        ("admit >= '1970-12-30' and admit < '1971-01-02'", {363, 364, 365}),
        ("admit in ['1970-01-01', '1970-04-11']", {0, 100}),
    ):
        rows = model.draw(1, 0, 3000, parse_conditions(where))
        assert set(rows["admit"].cast(pa.int32()).to_pylist()) == days
        assert set((rows["start"].cast(pa.int64()).to_numpy() // day).tolist()) == days
    rows = model.draw(1, 0, 200_000, parse_conditions("admit < '1970-01-05'"))
    share = np.bincount(rows["admit"].cast(pa.int32()).to_numpy(), minlength=4) / 200_000
    assert np.abs(share - 0.25).max() < 0.01
    with pytest.raises(ConditionError, match="admit"):
        model.draw(1, 0, 5, parse_conditions("admit == '1999-01-01'"))


def test_a_group_of_a_number_is_a_condition_on_the_number():
    spread = Marginal("axis", np.ones(2) / 2, np.array([0.0, 50.0]), np.array([50.0, 5000.0]))
    amount = FittedColumn("amount", "number", "latent", spread, None, Precision("decimal", digits=2))
    labels = pa.array(["high", "low", "middle"])
    relation = StepRelation(Amount("amount"), Operand("group", tuple(labels.to_pylist())), (10.0, 1000.0), (1, 2, 0))
    group = FittedColumn("group", "category", "relation", None, labels)
    model = _computed_from(amount, relation, group, [pa.float64(), pa.string()])
    whole = model.draw(1, 0, 100_000).to_pandas()
    for name, low, high in (("low", 0, 9.995), ("middle", 9.995, 999.995), ("high", 999.995, 5001)):
        rows = model.draw(2, 0, 5000, parse_conditions(f"group == '{name}'")).to_pandas()
        assert set(rows["group"]) == {name} and rows["amount"].between(low, high).all()
        expected = whole.loc[whole["group"] == name, "amount"]
        assert rows["amount"].mean() == pytest.approx(expected.mean(), rel=0.05)
    both = model.draw(2, 0, 5000, parse_conditions("group != 'middle'")).to_pandas()
    assert set(both["group"]) == {"low", "high"}


def test_times_and_hours_of_the_changes_of_clocks_are_written_as_text():
    rows = 2_000
    seconds = np.random.default_rng(1).integers(0, 86_400, rows)
    when = pa.array((1_679_788_800 + 10_000 * np.arange(rows)) * 10**6).cast(pa.timestamp("us", "Europe/Berlin"))
    labels = pa.array([dt.time(8), dt.time(20)] * (rows // 2), pa.time32("s"))
    table = pa.table({"at": pa.array(seconds * 10**6, pa.time64("us")), "when": when, "shift": labels})
    model = GaussianCopula.from_fit(simple_fit(table, categories={"shift"}), table.schema)

    def passing(where: str) -> pa.RecordBatch:
        return model.draw(0, 0, 500, model.prepare(parse_conditions(where)))

    assert min(passing('at >= "12:30"')["at"].to_pylist()) >= dt.time(12, 30)
    assert set(passing('shift == "20:00:00"')["shift"].to_pylist()) == {dt.time(20)}
    for text, instant in (("2023-03-26 02:30", "2023-03-26 01:00Z"), ("2023-10-29 02:30", "2023-10-29 00:30Z")):
        drawn_rows = passing(f'when < "{text}"')["when"].to_pylist()
        assert max(pd.Timestamp(moment) for moment in drawn_rows) < pd.Timestamp(instant)
