from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.text_types import NULL_TEXTS, Guess, Misfit, convert, guess, parse_type
from shardsynth.errors import InputError

TOKENS = st.one_of(
    st.sampled_from(
        ["", "NA", " ", "0", "-1", "00123", "9223372036854775807", "9223372036854775808", "1.5", "1e400", "inf", "+5"]
        + ["true", "FALSE", "2020-02-29", "2021-02-29", "0000-01-01", "9999-12-31", "2020-01-01 10:00", "x", "1,5"]
        + ["2020-01-01T10:00:00.123456789", "2020-01-01T10:00:00Z", "2020-01-01T10:00:00.5+02:00", "-", ".5", "0x1F"]
    ),
    st.integers().map(str),
    st.floats(allow_nan=False).map(repr),
    st.datetimes().map(str),
    st.dates().map(str),
    st.text(max_size=5),
    st.none(),
)


def guess_of(texts: list[str | None]) -> Guess:
    return guess(pa.array(texts, pa.string()), NULL_TEXTS)


@settings(max_examples=300, deadline=None)
@given(st.lists(TOKENS, max_size=6), st.lists(TOKENS, max_size=6))
def test_a_guess_does_not_depend_on_how_the_file_was_cut(left, right):
    whole = guess_of(left + right)
    assert guess_of(left).join(guess_of(right)) == whole
    assert guess_of(right).join(guess_of(left)) == whole
    assert whole.join(whole) == whole.join(Guess()) == whole


@settings(max_examples=300, deadline=None)
@given(st.lists(TOKENS, max_size=8))
def test_every_value_fits_the_type_that_was_guessed_for_it(texts):
    array = pa.array(texts, pa.string())
    kind = str(guess_of(texts).type).replace("double", "float64")
    converted = convert(array, parse_type(kind.replace("date32[day]", "date32")), NULL_TEXTS)
    missing = [text is None or (kind != "string" and text.strip() in ("", *NULL_TEXTS)) for text in texts]
    assert [value is None for value in converted.to_pylist()] == missing


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", " 2 ", None, "NA"], "int64"),
        (["00123", "4"], "string"),
        (["-0.5", "1e-3", "inf"], "double"),
        (["9223372036854775808"], "string"),
        (["9223372036854775808", "1.5"], "string"),
        (["1e400"], "string"),
        (["true", "False"], "bool"),
        (["true", "1"], "string"),
        (["2020-02-29", None], "date32[day]"),
        (["2021-02-29"], "string"),
        (["2020-01-01", "2020-01-01 10:00"], "timestamp[ms]"),
        (["2020-01-01T10:00:00.123456"], "timestamp[us]"),
        (["2020-01-01T10:00:00.123456789"], "timestamp[ns]"),
        (["2020-01-01T10:00:00.123456789", "9999-01-01"], "string"),
        (["2020-01-01T10:00:00+02:00", "2020-01-01T10:00:00Z"], "timestamp[ms, tz=UTC]"),
        (["2020-01-01T10:00:00+02:00", "2020-01-01"], "string"),
        (["+4912345"], "string"),
        (["", " ", "NaN", None], "null"),
    ],
)
def test_guesses(texts, kind):
    assert str(guess_of(texts).type) == kind


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["5.0", "6", ""], "int8", [5, 6, None]),
        (["1.5", "2"], "decimal128(10,2)", None),
        (["31/12/2020"], "date32 %d/%m/%Y", [datetime.date(2020, 12, 31)]),
        (["31.12.2020 10:30"], "timestamp[ms] %d.%m.%Y %H:%M", [datetime.datetime(2020, 12, 31, 10, 30)]),
        (["12:30", "01:02:03"], "time32[ms]", [datetime.time(12, 30), datetime.time(1, 2, 3)]),
        (["90"], "duration[ms]", [datetime.timedelta(milliseconds=90)]),
        (["b", "a", None, "b"], "dictionary", ["b", "a", None, "b"]),
        ([" NA ", ""], "string", [" NA ", ""]),
        (["1", "0", "TRUE"], "bool", [True, False, True]),
        ([1, 2], "string", ["1", "2"]),
        ([1, 2], "int8", [1, 2]),
    ],
)
def test_conversion(texts, kind, values):
    wanted = parse_type(kind)
    converted = convert(pa.array(texts), wanted, NULL_TEXTS)
    assert converted.type == wanted.type
    if values is not None:
        assert converted.to_pylist() == values


@pytest.mark.parametrize(
    ("good", "bad", "kind"),
    [
        ("5", "300", "int8"),
        ("5", "5.5", "int64"),
        ("5", "-1", "uint16"),
        ("1.5", "1.555", "decimal128(10,2)"),
        ("1", "1e39", "float32"),
        ("31/12/2020", "12/31/2020", "date32 %d/%m/%Y"),
        ("2020-01-01 10:00Z", "2020-01-01 10:00", "timestamp[ms, UTC]"),
        ("10:00", "25:00", "time64[us]"),
        ("", "x", "null"),
        ("1", "T", "bool"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 6, 99])
def test_the_first_misfit_is_named(good, bad, kind, before):
    texts = [good] * before + [bad] + [good, bad] * 3
    with pytest.raises(Misfit) as caught:
        convert(pa.array(texts), parse_type(kind), NULL_TEXTS)
    assert caught.value.row == before


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("in8", "did you mean 'int8'"),
        ("timestmp[ms]", "did you mean 'timestamp"),
        ("nothing like it", "known types"),
        ("timestamp[s]", "Parquet has no timestamp"),
        ("date64", "the nearest is date32"),
        ("timestamp[ms, Mars/Olympus]", "not an Arrow type"),
        ("decimal128(99,2)", "not an Arrow type"),
        ("int8 %d", "layout goes with a date"),
        ("timestamp[ms, UTC] %d", "layout goes with a date"),
    ],
)
def test_a_type_that_cannot_be(kind, message):
    with pytest.raises(InputError, match=message):
        parse_type(kind)


def test_synonyms_and_zones():
    assert parse_type("integer").type == pa.int64()
    assert parse_type("category").type == pa.dictionary(pa.int32(), pa.string())
    assert parse_type("timestamp[us, tz=Europe/Berlin]").type == pa.timestamp("us", "Europe/Berlin")
    assert str(parse_type("date32 %d/%m/%Y")) == "date32[day] %d/%m/%Y"


@pytest.mark.parametrize(
    ("texts", "kind", "missing"),
    [
        (["5.25", ".", "1"], "double", 1),
        ([" . ", "7"], "int64", 1),
        (["2020-01-31", "."], "date32[day]", 1),
        ([".", "."], "null", 2),
        (["low", "."], "string", 0),
        (["true", "."], "string", 0),
    ],
)
def test_a_lone_point_is_a_missing_number_or_date_as_sas_writes_it(texts, kind, missing):
    found = guess(pa.array(texts, pa.string()), NULL_TEXTS)
    assert str(found.type) == kind
    assert convert(pa.array(texts), parse_type(kind.replace("date32[day]", "date32")), NULL_TEXTS).null_count == missing
