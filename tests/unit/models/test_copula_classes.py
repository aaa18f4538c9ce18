"""Rare classes of a target: all groups of rows draw from the same latents, and have the same outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.tables.copula import native

from shardsynth.errors import ConditionError, ModelError
from shardsynth.models.copula.classes import Group
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions

ROWS = 6_000

SDTYPES = {
    "label": "categorical",
    "x": "numerical",
    "twice": "numerical",
    "z": "numerical",
    "y": "numerical",
}


def spread_in_one_class(fraud_up_to: int, others_up_to: int) -> pa.Table:
    """A class of 3 %; the numbers of one group are few enough to be atoms. ``twice`` follows from them."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=ROWS)
    rare = z > 1.9
    x = np.where(rare, rng.integers(0, fraud_up_to, ROWS), rng.integers(0, others_up_to, ROWS))
    free = rng.integers(0, 100_000, ROWS)
    return pa.table({"label": np.where(rare, "fraud", "ok"), "x": x, "twice": 2 * x + 7, "z": z.round(3), "y": free})


@pytest.fixture(scope="module")
def wide_class() -> GaussianCopula:
    return native(spread_in_one_class(60_000, 1_500), "label", sdtypes=SDTYPES)


def test_a_column_that_only_the_other_rows_spread_keeps_its_values_in_the_class():
    table = spread_in_one_class(1_500, 60_000)
    model = native(table, "label", sdtypes=SDTYPES)
    rows, real = model.draw(1, 0, 60_000).to_pandas(), table.to_pandas()
    found, wanted = (np.quantile(t.x[t.label == "fraud"], [0.05, 0.25, 0.5, 0.75, 0.95]) for t in (rows, real))
    np.testing.assert_allclose(found, wanted, atol=60)  # 0.04 of the range; it was 320, by other random bits
    assert (rows.twice == 2 * rows.x + 7).all()


def test_computed_columns_hold_in_every_group(wide_class):
    assert [column.treatment for column in wide_class.columns].count("relation") == 1
    for rows in (
        wide_class.draw(1, 0, 30_000).to_pandas(),
        wide_class.draw(1, 0, 1_000, parse_conditions("label == 'fraud'")).to_pandas(),
    ):
        assert (rows.label == "fraud").sum() > 500
        assert (rows.twice == 2 * rows.x + 7).all()


def test_conditions_that_only_a_class_can_meet_hold_on_every_row(wide_class):
    rows = wide_class.draw(0, 0, 20_000, parse_conditions("x > 7000 and y >= 54321")).to_pandas()
    assert rows.x.min() > 7000 and rows.y.min() >= 54321


def test_a_class_is_not_left_out_of_a_condition_in_silence(wide_class):
    with pytest.raises(ConditionError, match="'twice' has a parent without fixed values .* condition on 'x'"):
        wide_class.draw(0, 0, 10, parse_conditions("twice > 1000"))
    rows = wide_class.draw(0, 0, 1_000, parse_conditions("twice > 1000 and label == 'ok'")).to_pandas()
    assert rows.twice.min() > 1000 and set(rows.label) == {"ok"} and (rows.twice == 2 * rows.x + 7).all()


def test_a_row_does_not_depend_on_the_batch(wide_class):
    whole = wide_class.draw(3, 0, 4_000)
    parts = [wide_class.draw(3, start, 100) for start in range(0, 4_000, 100)]
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([whole]))


@pytest.mark.parametrize("named", ["other", "c"])  # a value of this name may be there before
def test_rare_categories_that_count_as_other_do_so_in_every_group(named):
    rng = np.random.default_rng(0)
    rare = rng.random(ROWS) < 0.04
    place = np.where(rare, rng.choice(3, ROWS, p=[0.48, 0.04, 0.48]), rng.choice(3, ROWS, p=[0.2, 0.6, 0.2]))
    seldom = rng.random(ROWS) < np.where(rare, 0.3, 0.2)
    kind = np.where(seldom, [f"r{i}" for i in range(ROWS)], np.array(["a", named, "b"])[place])
    sizes = {name: place * 9 + rng.integers(0, 12, ROWS) for name in ("low", "high")}  # the order of the kinds
    sdtypes = {"label": "categorical", "kind": "categorical", "low": "numerical", "high": "numerical"}
    table = pa.table({"label": np.where(rare, "fraud", "ok"), "kind": kind, **sizes})
    model = native(table, "label", sdtypes=sdtypes, rare={"as": "other"})
    assert 1 in model.groups[1].columns
    rows = model.draw(1, 0, 40_000).to_pandas()
    for label in ("fraud", "ok"):
        wanted = np.mean((seldom | (kind == "other"))[rare == (label == "fraud")])
        assert (rows.kind[rows.label == label] == "other").mean() == pytest.approx(wanted, abs=0.04), label


@pytest.mark.parametrize("text", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("known", [["label"], ["amount"], ["kind"], ["label", "amount", "kind"]])
def test_rows_are_completed_whatever_type_holds_the_text(in_types, text, known):
    table, model = in_types[text]
    rows = table.select(known).slice(0, 300)
    completed = model.complete(rows, 0)
    assert completed.schema.equals(model.schema)
    as_text = in_types[pa.string()]
    wanted = as_text[1].complete(as_text[0].select(known).slice(0, 300), 0)
    assert completed.to_pylist() == wanted.to_pylist()


@pytest.fixture(scope="module")
def in_types() -> dict[pa.DataType, tuple[pa.Table, GaussianCopula]]:
    """A table and its model, by the type of its text; every third label is not known in the table."""
    rng = np.random.default_rng(0)
    rare = rng.random(ROWS) < 0.04
    label = pa.array(np.where(rare, "fraud", "ok"))
    place = np.where(rare, rng.choice(3, ROWS, p=[0.48, 0.04, 0.48]), rng.choice(3, ROWS, p=[0.2, 0.6, 0.2]))
    kind = pa.array(np.array(["a", "b", "c"])[place])
    sizes = {name: place * 9 + rng.integers(0, 12, ROWS) for name in ("amount", "high")}  # the order of the kinds
    gaps = pc.if_else(pa.array(np.arange(ROWS) % 3 == 0), None, label)
    sdtypes = {"label": "categorical", "amount": "numerical", "high": "numerical", "kind": "categorical"}
    found = {}
    for text in (pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        table = pa.table({"label": held(label, text), **sizes, "kind": held(kind, text)})
        model = native(table, "label", sdtypes=sdtypes)
        assert list(model.groups[0].columns) == [1, 2, 3]
        found[text] = table.set_column(0, "label", held(gaps, text)), model
    return found


def held(array: pa.Array, text: pa.DataType) -> pa.Array:
    return array.dictionary_encode().cast(text) if pa.types.is_dictionary(text) else array.cast(text)


def test_a_damaged_file_is_refused_before_its_first_use(wide_class, tmp_path):
    others, rare = wide_class.groups
    names = [latent.columns[0] for latent in wide_class.latents]
    first = min(rare.columns)
    fewer = Group(
        rare.segments,
        {column: own for column, own in rare.columns.items() if column != first},
        {latent: own for latent, own in rare.cuts.items() if names[latent] != first},
    )
    damaged = {
        "do not all have the same columns": (others, fewer),
        "the first group needs a segment": (replace(others, segments=()), replace(rare, segments=(0, 1))),
        "each rare class exactly one": (replace(others, segments=(0, 1)), replace(rare, segments=())),
    }
    wide_class.save(tmp_path)
    assert GaussianCopula.load(tmp_path).draw(0, 0, 500).equals(wide_class.draw(0, 0, 500))
    for what, groups in damaged.items():
        replace(wide_class, groups=groups).save(tmp_path)
        with pytest.raises(ModelError, match=rf"model\.json.*classes.groups: .*{what}"):
            GaussianCopula.load(tmp_path)
