from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardsynth.errors import ConditionError
from shardsynth.sampling.conditions import Condition, Conditions, check_no_number, parse_conditions


def parsed(where) -> list[tuple]:
    return [(test.column, test.operator, test.values) for test in parse_conditions(where).tests]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Gender == "F"', [("Gender", "in", ("F",))]),
        ("Gender == 'F' and AGE >= 60", [("Gender", "in", ("F",)), ("AGE", ">=", (60,))]),
        ("40 <= AGE < 60.5", [("AGE", ">=", (40,)), ("AGE", "<", (60.5,))]),
        ("60 > AGE", [("AGE", "<", (60,))]),
        ("x != -1", [("x", "not in", (-1,))]),
        ("x in [1, 2]", [("x", "in", (1, 2))]),
        ("x not in ('a', 'b')", [("x", "not in", ("a", "b"))]),
        ("`hours-per-week` > 40 and `a b` == 1", [("hours-per-week", ">", (40,)), ("a b", "in", (1,))]),
        (
            "x == 'with ` and \\' inside' and `größe (cm)` == 1",
            [("x", "in", ("with ` and ' inside",)), ("größe (cm)", "in", (1,))],
        ),
        ("isnull(x) and notnull(`y z`)", [("x", "null", (True,)), ("y z", "null", (False,))]),
        ("x == None and y != null", [("x", "null", (True,)), ("y", "null", (False,))]),
        ("x is None and y is not None", [("x", "null", (True,)), ("y", "null", (False,))]),
        (
            "not isnull(x) and not y == 3 and not z < 4",
            [("x", "null", (False,)), ("y", "not in", (3,)), ("z", ">=", (4,))],
        ),
        ("flag == True", [("flag", "in", (True,))]),
        ("(a == 1) and (b == 2 and c == 3)", [("a", "in", (1,)), ("b", "in", (2,)), ("c", "in", (3,))]),
    ],
)
def test_expressions(text, expected):
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            {"Gender": "F", "AGE": {">=": 60, "<": 70}},
            [("Gender", "in", ("F",)), ("AGE", ">=", (60,)), ("AGE", "<", (70,))],
        ),
        ({"x": None}, [("x", "null", (True,))]),
        ({"x": {"null": False}}, [("x", "null", (False,))]),
        ({"x": [1, 2], "y": {"not in": ["a"]}}, [("x", "in", (1, 2)), ("y", "not in", ("a",))]),
        ({"x": {"==": 1}, "y": {"!=": None}}, [("x", "in", (1,)), ("y", "null", (False,))]),
        ([{"x": 1}, {"x": {"<": 3}}], [("x", "in", (1,)), ("x", "<", (3,))]),
    ],
)
def test_mappings(where, expected):
    assert parsed(where) == expected


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("AGE >", "cannot read"),
        ("", "cannot read"),
        ("a == 1 or b == 2", "'or' is not supported"),
        ("AGE", "comparisons joined by 'and'"),
        ("AGE == BGE", "text needs quotes"),
        ("1 == 1", "needs a column name"),
        ("f(x) == 1", "needs a column name"),
        ("len(x)", "isnull"),
        ("isnull('x')", "column name"),
        ("not (a == 1 and b == 2)", "single test"),
        ("x == a + 1", "text needs quotes"),
        ("x == 2 + 1", "joined by 'and'"),
        ("x in 3", "a list of values"),
        ("x == [1, 2]", "one value"),
        ("x in []", "at least one value"),
        ("__import__('os').system('true')", "isnull"),
        ('Gender == "F" # and AGE >= 60', "no comments"),
        ("_column_0_ == 1 and `a` ==", "cannot read"),
        ("(" * 5000 + "a == 1" + ")" * 5000, "nested more than"),
        ("not " * 5000 + "a == 1", "nested more than"),
        ("a == 1 b == 2", "joined by 'and'"),
        ("a == 1;", "';' is not of the language"),
        ("a == 1e400", "too large"),
        ("a == 007", "leading zeros"),
        ("a == 1__0", "a number is written as"),
        ("a == 9" + "9" * 500, "at most 300 digits"),
        (r'a == "C:\data"', "backslash"),
        ('a == "x" "y"', "joined by 'and'"),
        ('a == b"x"', "joined by 'and'|text needs quotes"),
        ("a == 'x", "does not end"),
        ("`` == 1", "does not end, or is empty"),
        ("a = 1", "equal is written =="),
        ("a == 1 & b == 2", "joined by 'and'"),
        ("a == 1 \0", "cannot read"),
        ("x" * 200_000, "at most 100,000 characters"),
        ({"x": {"~": 3}}, "operator '~'"),
        ({"x": object()}, "cannot compare"),
        ({"x": float("nan")}, "isnull"),
        ([3], "mapping"),
    ],
)
def test_what_cannot_be_read_is_explained(where, why):
    with pytest.raises(ConditionError, match=why):
        parse_conditions(where)


scalars = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())


@given(
    tests=st.lists(
        st.one_of(
            st.builds(Condition.of, st.text("ab `é-", min_size=1), st.sampled_from(["<", "<=", ">", ">="]), scalars),
            st.builds(Condition.of, st.text("abc"), st.sampled_from(["in", "not in"]), st.lists(scalars, min_size=1)),
            st.builds(Condition.of, st.text("abc"), st.just("null"), st.booleans()),
        ),
        max_size=5,
    )
)
def test_json_form_reads_back_as_itself(tests):
    conditions = Conditions(tuple(tests))
    assert parse_conditions(json.loads(json.dumps(conditions.to_json()))) == conditions


def test_an_internal_name_is_a_name_like_any_other():
    assert parsed("`a b` == 1 and _column_0_ == 2") == [("a b", "in", (1,)), ("_column_0_", "in", (2,))]


def test_text_is_taken_as_it_stands():
    assert parsed(r"""x in ["a#b", 'it\'s', "\u00e9\t\\"]""") == [("x", "in", ("a#b", "it's", "é\t\\"))]
    assert parsed("\ufb01 == 1") == [("\ufb01", "in", (1,))]  # not normalised to "fi"


@example([("A\u00b7", "")])
@given(st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=4))
def test_any_name_and_any_text_can_be_written(pairs):
    conditions = Conditions(tuple(Condition.of(name, "==", value) for name, value in pairs))
    assert parse_conditions(str(conditions)) == conditions


def test_text_form_reads_back_as_itself():
    conditions = parse_conditions({"a b": {"not in": [1]}, "x": ["u", 'q"'], "y": {"<": 2.5, "null": False}})
    assert parse_conditions(str(conditions)) == conditions
    assert conditions.columns == ("a b", "x", "y")
    assert len(conditions.on("y")) == 2


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("class == 1 and is >= 2", "class == 1 and `is` >= 2"),
        ('class in ["a", "class == b"]', "class in ['a', 'class == b']"),
        ("isnull(from) and lambda is not None", "isnull(from) and notnull(lambda)"),
        ("in != 3 and x is None", "`in` != 3 and isnull(x)"),
        ("`a``b` == 1 and isnull(in)", "`a``b` == 1 and isnull(`in`)"),
        ("not class < 2", "class >= 2"),
    ],
)
def test_columns_named_by_a_keyword_of_python(where, shown):
    assert str(parse_conditions(where)) == shown


@pytest.mark.parametrize(
    ("type_", "layout", "value", "spelling"),
    [
        (pa.date32(), None, 2015, 'seen >= "2015-01-01"'),
        (pa.date64(), None, 20150630, 'seen >= "2015-06-30"'),
        (pa.timestamp("us", "Europe/Berlin"), None, 16436.5, 'seen >= "2015-01-01"'),
        (pa.dictionary(pa.int8(), pa.date32()), None, True, 'seen >= "2015-01-01"'),
        (pa.string(), "%Y-%m-%d", 2015, 'seen >= "2015-01-01"'),
        (pa.time64("us"), None, 12, 'seen >= "12:30:00"'),
    ],
)
def test_a_number_is_no_date(type_, layout, value, spelling):
    with pytest.raises(ConditionError, match=spelling):
        check_no_number("seen", [value], type_, layout)


@pytest.mark.parametrize(
    ("type_", "layout"),
    [(pa.int32(), "%Y%m%d"), (pa.int32(), None), (pa.duration("s"), None), (pa.string(), None), (pa.float64(), None)],
)
def test_numbers_go_with_what_holds_numbers(type_, layout):
    check_no_number("seen", [20150630], type_, layout)
