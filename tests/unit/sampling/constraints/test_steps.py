"""Every constraint class: the way there and back, SDV's opinion of the result, whatever a model draws."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables.constrained import CONSTRAINTS, METADATA, constrained_table

from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.values import Precision
from shardsynth.errors import JobError
from shardsynth.sampling.constraints.declared import bind, check_declared
from shardsynth.sampling.constraints.ordered import needs_anchor
from shardsynth.sampling.constraints.step import ConstrainedColumn
from shardsynth.sampling.constraints.table import TableConstraints


def table_of(data: pa.Table, declared, metadata=METADATA, facts=None) -> TableConstraints:
    columns = {c.name: c for c in columns_of(metadata, data.schema)}
    arrays = {name: data[name].combine_chunks() for name in data.column_names}
    steps = bind(
        declared,
        lambda name: ConstrainedColumn(columns[name], **(facts or {}).get(name, {})),
        data.column_names,
        anchored=lambda names: needs_anchor(names, arrays),
        known=lambda step: frozenset(step.labels(arrays).dictionary.to_pylist()),
    )
    return TableConstraints(data.schema, tuple(steps))


def batch_of(data: pa.Table) -> pa.RecordBatch:
    return data.combine_chunks().to_batches()[0]


FACTS = {
    "low": {"precision": Precision("decimal", digits=1)},
    "mid": {"precision": Precision("decimal", digits=1)},
    "high": {"precision": Precision("decimal", digits=2)},
}


def metadata_of(**columns: str) -> dict:
    described = {name: {"sdtype": sdtype} for name, sdtype in columns.items()}
    return {"tables": {"table": {"columns": described}}, "METADATA_SPEC_VERSION": "V2"}


def test_a_table_comes_back_as_it_was_and_every_row_is_valid():
    data = constrained_table()
    table = TableConstraints.from_json(table_of(data, CONSTRAINTS, facts=FACTS).to_json())
    inner = table.transform(batch_of(data))
    assert "end" not in inner.schema.names and "country#city#zone" in inner.schema.names
    restored, fine = table.restore(inner)
    assert fine.all()
    assert restored.schema.equals(data.schema)
    for name in data.column_names:
        assert restored.column(name).to_pylist() == data[name].to_pylist(), name


ORDERED = {"low_column_name": "a", "high_column_name": "b"}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(-100, 100), st.none() | st.integers(0, 27)), min_size=1),
    strict=st.booleans(),
    kind=st.sampled_from(
        [pa.int16(), pa.float32(), pa.float64(), pa.decimal128(9, 2), pa.date32(), pa.timestamp("us")]
    ),
)
def test_two_columns_in_order_of_any_type(rows, strict, kind):
    low = [a for a, _ in rows]
    high = [None if b is None else (a or 0) + b + strict for a, b in rows]
    temporal = pa.types.is_temporal(kind)

    def typed(values):
        if temporal:
            days = [None if v is None else dt.date(2020, 1, 1) + dt.timedelta(days=v) for v in values]
            return pa.array(days, pa.date32()).cast(kind)
        return pa.array([None if v is None else Decimal(v) if pa.types.is_decimal(kind) else v for v in values], kind)

    data = pa.table({"a": typed(low), "b": typed(high)})
    metadata = metadata_of(a="datetime", b="datetime") if temporal else metadata_of(a="numerical", b="numerical")
    declared = [{"class_name": "Inequality", "parameters": {**ORDERED, "strict_boundaries": strict}}]
    table = table_of(data, declared, metadata)
    restored, fine = table.restore(table.transform(batch_of(data)))
    assert fine.all()
    assert restored.equals(batch_of(data))


def test_text_dates_stay_text():
    metadata = metadata_of(a="datetime", b="datetime")
    for name in "ab":
        metadata["tables"]["table"]["columns"][name]["datetime_format"] = "%d.%m.%Y"
    data = pa.table({"a": ["01.02.2020", "05.03.2021", None], "b": ["03.02.2020", None, "09.09.2022"]})
    table = table_of(data, [{"class_name": "Inequality", "parameters": ORDERED}], metadata)
    restored, fine = table.restore(table.transform(batch_of(data)))
    assert fine.all() and restored.to_pydict() == data.to_pydict()


def test_a_chain_of_inequalities_needs_no_drawing_again_whatever_the_order():
    declared = [
        {"class_name": "Inequality", "parameters": {"low_column_name": "b", "high_column_name": "c"}},
        {"class_name": "Inequality", "parameters": {"low_column_name": "a", "high_column_name": "b"}},
    ]
    data = pa.table({"a": [1, 2, 3], "b": [2, 2, 9], "c": [5, 6, 10]})
    table = table_of(data, declared, metadata_of(a="numerical", b="numerical", c="numerical"))
    assert table.replaced == {"b", "c"}
    inner = table.transform(batch_of(data))
    shuffled = pa.RecordBatch.from_arrays(
        [a.take(pa.array([2, 0, 1])) if i else a for i, a in enumerate(inner.columns)], schema=inner.schema
    )
    restored, fine = table.restore(shuffled)
    assert fine.all()
    assert all(a <= b <= c for a, b, c in zip(*restored.to_pydict().values()))


def test_constraints_that_share_a_column_are_kept_by_drawing_again():
    declared = [
        {"class_name": "FixedCombinations", "parameters": {"column_names": ["a", "b"]}},
        {"class_name": "FixedCombinations", "parameters": {"column_names": ["b", "c"]}},
    ]
    data = pa.table({"a": ["x", "y"], "b": ["p", "q"], "c": ["r", "s"]})
    table = table_of(data, declared, metadata_of(a="categorical", b="categorical", c="categorical"))
    inner = table.transform(batch_of(data))
    mixed = pa.RecordBatch.from_arrays([inner.column(0), inner.column(1).take(pa.array([0, 0]))], schema=inner.schema)
    assert table.restore(mixed)[1].tolist() == [True, False]


def test_a_rare_combination_written_as_other_is_drawn_again():
    data = pa.table({"a": ["x", "y"], "b": ["p", "q"]})
    table = table_of(
        data,
        [{"class_name": "FixedCombinations", "parameters": {"column_names": ["a", "b"]}}],
        metadata_of(a="categorical", b="categorical"),
    )
    joint = pa.array(['["x","p"]', "other", None]).dictionary_encode()
    batch = pa.RecordBatch.from_arrays([joint.cast(table.inner.field(0).type)], schema=table.inner)
    restored, fine = table.restore(batch)
    assert fine.tolist() == [True, False, False] and restored.column("b")[0].as_py() == "p"


@pytest.mark.parametrize("text", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_combinations_come_back_in_the_type_of_their_columns(text):
    def column(values):
        array = pa.array(values)
        return array.dictionary_encode().cast(text) if pa.types.is_dictionary(text) else array.cast(text)

    data = pa.table({"a": column(["x", "y", "x"]), "b": column(["p", None, "p"])})
    table = table_of(
        data,
        [{"class_name": "FixedCombinations", "parameters": {"column_names": ["a", "b"]}}],
        metadata_of(a="categorical", b="categorical"),
    )
    restored, fine = table.restore(table.transform(batch_of(data)))
    assert fine.all() and restored.schema.equals(data.schema)
    assert restored.to_pylist() == data.to_pylist()


def test_no_value_goes_beyond_the_ends_or_off_the_grid():
    data = pa.table({"a": pa.array([0, 50, 100], pa.int8()), "b": pa.array([10, 60, 100], pa.int8())})
    facts = {"b": {"low": 10.0, "high": 100.0, "precision": Precision("integer", origin=0, unit=10)}}
    table = table_of(
        data, [{"class_name": "Inequality", "parameters": ORDERED}], metadata_of(a="numerical", b="numerical"), facts
    )
    inner = pa.RecordBatch.from_arrays([pa.array([0, 99, 101], pa.int8()), pa.array([3, 120, 0])], schema=table.inner)
    restored, fine = table.restore(inner)
    assert restored.column("b").to_pylist()[:2] == [10, 100]
    assert fine.tolist() == [True, True, False]  # 101 lies over every b that may be made


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"class_name": "Inequalty", "parameters": {}}, "did you mean 'Inequality'"),
        ({"class_name": "Inequality", "parameters": {"low_column_name": "start"}}, "'high_column_name' is missing"),
        ({"class_name": "FixedIncrements", "parameters": {"column_nam": "dose"}}, "did you mean 'column_name'"),
        (
            {"class_name": "FixedIncrements", "parameters": {"column_name": "does", "increment_value": 5}},
            "did you mean 'dose'",
        ),
        ({"class_name": "FixedCombinations", "parameters": {"column_names": ["city", "city"]}}, "names a column twice"),
    ],
)
def test_a_wrong_declaration_is_one_clear_sentence(declared, words):
    with pytest.raises(JobError, match=words):
        check_declared(declared, 0, constrained_table(10).column_names)


def test_a_column_that_no_model_learns_cannot_be_constrained():
    with pytest.raises(JobError, match="'id' is an id"):
        table_of(
            constrained_table(50), [{"class_name": "FixedCombinations", "parameters": {"column_names": ["id", "city"]}}]
        )
    with pytest.raises(JobError, match="'age' is of sdtype 'numerical', wanted categorical"):
        table_of(
            constrained_table(50),
            [{"class_name": "FixedCombinations", "parameters": {"column_names": ["age", "city"]}}],
        )
