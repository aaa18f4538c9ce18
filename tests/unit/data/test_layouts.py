"""Dates and numbers as text or whole numbers: read and written as they came."""

from __future__ import annotations

import datetime as dt
from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from shardsynth.data.columns import Column
from shardsynth.data.layouts import LAYOUT, DateLayout, layout_from
from shardsynth.data.learn_layout import (
    Counted,
    date_forms,
    integer_date_form,
    learn_date_layout,
    learn_number_layout,
)
from shardsynth.data.number_layout import NumberLayout
from shardsynth.data.values import column_native, instant_of
from shardsynth.errors import MetadataError

DAYS = ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y%m%d", "%d%b%Y", "%d-%b-%y", "%b %d, %Y", "%Y_%m_%d"]
CLOCKS = ["", "T%H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I.%M.%S %p", ":%H:%M:%S", "T%H:%M:%S%z"]
ZONES = ["Z", "+01:00", "-0530"]


def moments(n: int = 120) -> list[dt.datetime]:
    random = np.random.default_rng(0)
    start = dt.datetime(1951, 1, 1, tzinfo=dt.timezone.utc)
    return [start + dt.timedelta(seconds=int(s)) for s in random.integers(0, 70 * 365 * 86_400, n)]


def counted(texts: list[str]) -> Counted:
    values, rows = np.unique(np.array(texts, dtype=object), return_counts=True)
    return Counted.of(values.tolist(), rows)


def learned(texts: list[str]) -> DateLayout:
    values = counted(texts)
    layout = learn_date_layout(date_forms(values)[0], values)
    assert layout is not None
    assert layout_from(layout.text) == layout
    return layout


def back(layout: DateLayout | NumberLayout, texts: list[str]) -> list[str]:
    values, good = layout.read(np.array(texts, dtype=object))
    assert good.all()
    return layout.write(values)


@pytest.mark.parametrize(("day", "clock"), product(DAYS, CLOCKS))
def test_every_layout_is_found_and_written_as_it_came(day: str, clock: str) -> None:
    texts = [moment.strftime(day + clock) for moment in moments()]
    if clock.endswith("%f"):
        texts = [text[:-3] for text in texts]  # milliseconds
    if day == "%d%b%Y":
        texts = [text.upper() for text in texts]  # DATE9 of SAS
    if clock.endswith("%z"):
        zone = ZONES[DAYS.index(day) % len(ZONES)]
        texts = [text[: -len("+0000")] + zone for text in texts]
    layout = learned(texts)
    assert back(layout, texts) == texts
    if "%y" not in day and not clock:
        days = (
            layout.read(np.array(texts, dtype=object))[0].astype(f"datetime64[{layout.unit}]").astype("datetime64[D]")
        )
        assert [str(day) for day in days] == [moment.date().isoformat() for moment in moments()]


def test_zeros_and_capitals_are_written_as_they_came() -> None:
    texts = [f"{m.month}/{m.day}/{m.year} {m.hour % 12 + 1}:{m.minute:02d} pm" for m in moments()]
    layout = learned(texts)
    assert back(layout, texts) == texts
    assert (layout.case, layout.form) == ("lower", "%-m/%-d/%Y %-I:%M %p")


def test_a_format_is_decided_over_the_whole_column() -> None:
    early = [f"0{1 + k % 9}/0{1 + k % 7}/2020" for k in range(100)]
    assert date_forms(counted([*early, "25/03/2020"])) == ["%d/%m/%Y"]
    assert date_forms(counted(early)) == ["%m/%d/%Y", "%d/%m/%Y"]
    assert date_forms(counted(["31/02/2020", "01/01/2020"])) == []


def test_two_digit_years_mean_1936_to_2035() -> None:
    texts = [f"{1 + k % 28:02d}/05/{k % 100:02d}" for k in range(36, 120)] * 5
    layout = learned(texts)
    assert layout.pivot
    years = layout.read(np.array(texts, dtype=object))[0].astype(f"datetime64[{layout.unit}]").astype("datetime64[Y]")
    assert (str(years.min()), str(years.max())) == ("1936", "2019")
    assert back(layout, texts) == texts


def test_dates_of_several_precisions_keep_theirs() -> None:
    texts = [m.strftime("%Y-%m-%d") for m in moments(300)] + ["2003"] * 20 + ["2004-05"] * 10 + ["2004-05-01"]
    values = counted(texts)
    assert date_forms(values) == ["ISO8601"]
    layout = learned(texts)
    assert layout.partial == ("%Y", "%Y-%m")
    assert back(layout, texts) == texts
    counts = layout.read(np.array(["2004", "2004-05", "2004-05-01", "2004-04-30"], dtype=object))[0]
    assert counts[3] < counts[1] < counts[2], "a month lies just before its first day"
    between = counts[2] + np.array([3, 43_200_001])
    assert layout.write(between) == ["2004-05-01", "2004-05-02"], "what no date has is rounded to a day"
    assert layout.apart(counts).tolist() == [True, True, False, False]


def test_a_day_month_year_column_can_have_years_alone() -> None:
    texts = [m.strftime("%d/%m/%Y") for m in moments(300)] + ["2003"] * 5 + ["05/2004"] * 5
    layout = learn_date_layout("%d/%m/%Y", counted(texts))
    assert layout is not None and layout.partial == ("%Y", "%m/%Y")
    assert back(layout, texts) == texts


def test_open_ends_and_words_among_dates() -> None:
    texts = [m.strftime("%Y-%m-%d") for m in moments(300)] + ["9999-12-31"] * 20 + ["unknown"] * 10 + ["typo"]
    layout = learned(texts)
    assert layout.unit == "us" and layout.lenient
    assert [text for text, _ in layout.specials] == ["unknown"]
    assert back(layout, texts[:-1]) == texts[:-1]
    assert not layout.read(np.array(["typo"], dtype=object))[1][0], "what hardly anyone has is learned by nobody"


def test_several_offsets_keep_their_shares() -> None:
    offsets = ["+00:00", "+01:00", "-05:00"]
    texts = [m.strftime("%Y-%m-%d %H:%M:%S") + offsets[k % 3] for k, m in enumerate(moments(3_000))]
    layout = learned(texts)
    values, good = layout.read(np.array(texts, dtype=object))
    assert good.all()
    written = layout.write(values)
    assert np.array_equal(layout.read(np.array(written, dtype=object))[0], values), "the instant is the same"
    shares = [np.mean([text.endswith(offset) for text in written]) for offset in offsets]
    assert np.allclose(shares, 1 / 3, atol=0.04)


def test_whole_numbers_that_are_dates() -> None:
    days = np.array([int(m.strftime("%Y%m%d")) for m in moments()])
    rows = np.ones(len(days), np.int64)
    assert integer_date_form(days, rows) == "%Y%m%d"
    assert integer_date_form(np.unique(days // 100), np.ones(len(np.unique(days // 100)), np.int64)) == "%Y%m"
    assert integer_date_form(np.append(days, 20201345), np.append(rows, 1)) is None
    assert integer_date_form(np.append(days, 99999999), np.append(rows, 9)) == "%Y%m%d"
    column = Column("d", pa.int64(), "datetime", "datetime", {"datetime_format": "%d%m%Y"})
    values, _ = column_native(column, pa.array([1022020, 31122020]))
    assert values.astype("datetime64[ns]").astype("datetime64[D]").astype(str).tolist() == ["2020-02-01", "2020-12-31"]


def test_what_a_user_writes_is_read_in_the_layout_of_the_column() -> None:
    march = np.datetime64("2020-03-05", "ns").astype(np.int64)
    assert instant_of("05/03/2020", "%d/%m/%Y") == march
    assert instant_of("2020-03-05", "%d/%m/%Y") == march, "or as ISO text"
    zoned = DateLayout("%Y-%m-%dT%H:%M:%S%z", zones=(("+01:00", ()),))
    assert instant_of("2020-03-05T01:00:00+01:00", zoned.text) == march
    assert instant_of("1,234.5", NumberLayout(1, thousands=",").text) == 1234.5
    with pytest.raises(ValueError):
        instant_of("yesterday", "%d/%m/%Y")


def test_text_that_is_no_date_is_named_without_its_value() -> None:
    column = Column("d", pa.string(), "datetime", "datetime", {"datetime_format": "%Y-%m-%d"})
    with pytest.raises(MetadataError, match=r"'d': 1 of 2 values \(the first one in row 1 of those read\)") as error:
        column_native(column, pa.array(["2020-01-01", "secret"]))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"date": "%Y", "unit": "h"}',
        '{"date": "%Y", "zones": [["+01:00; x", [1]]]}',
        '{"date": "%Y", "partial": ["(%x+)*"]}',
        '{"number": {"digits": 99, "specials": []}}',
        '{"number": 1}',
        '{"other": 1}',
    ],
)
def test_a_damaged_layout_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        layout_from(text)


def numbers(form: str) -> list[str]:
    random = np.random.default_rng(1)
    if form == "thousands":
        return [f"{n:,}" for n in random.integers(5_000, 400_000, 300)]
    values = np.exp(random.normal(1, 1, 300)).round(2).tolist()
    if form == "comma":
        return [str(value).replace(".", ",") for value in values]
    if form == "percent":
        return [f"{value:.1f} %" for value in values]
    return [f"{value * 1_000:,.2f}".replace(",", " ").replace(".", ",") for value in values]


@pytest.mark.parametrize("form", ["thousands", "comma", "percent", "french"])
def test_numbers_as_text_are_written_as_they_came(form: str) -> None:
    texts = numbers(form)
    layout = learn_number_layout(counted(texts))
    assert layout is not None
    assert layout_from(layout.text) == layout
    assert back(layout, texts) == texts


def test_values_beyond_a_limit_have_a_place_beside_it() -> None:
    values = np.exp(np.random.default_rng(2).normal(1, 1, 300)).round(2)
    texts = [f"{value:.2f}" for value in values] + ["<0.50"] * 60 + [">100"] * 9 + ["hemolyzed"] * 6 + ["?"]
    layout = learn_number_layout(counted(texts))
    assert layout is not None and layout.lenient and layout.places == 3
    assert back(layout, texts[:-1]) == texts[:-1]
    below, limit, above = layout.read(np.array(["<0.50", "0.50", ">100"], dtype=object))[0]
    assert (below, limit, above) == (0.498, 0.5, 100.002)
    assert layout.write(np.array([0.497, 0.51449])) == ["0.50", "0.51"], "what no text has is rounded"
    column = Column("v", pa.string(), "numerical", "number", {LAYOUT: layout.text})
    read, nulls = column_native(column, pa.array(["<0.50", None, "?", "2.25"]))
    assert read[[0, 3]].tolist() == [0.498, 2.25]
    assert nulls is not None and nulls.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "texts",
    [
        [f"{n:05d}" for n in range(300)],  # codes
        [str(n) for n in range(300)],  # whole numbers can be codes
        [f"{n // 10}.{n % 10}" + ("0" if n % 3 else "") for n in range(2_500, 2_800)],  # ICD-9
        [f"1E{n}" for n in range(300)],
        ["a", "b", "c"] * 100,
    ],
)
def test_codes_are_no_measured_numbers(texts: list[str]) -> None:
    assert learn_number_layout(counted(texts)) is None


def test_instants_of_which_some_have_no_time_keep_their_share() -> None:
    random = np.random.default_rng(0)
    texts = []
    for k, (day, minute) in enumerate(zip(random.integers(0, 3_000, 3_000), random.integers(480, 1_000, 3_000))):
        moment = dt.datetime(2015, 1, 1) + dt.timedelta(days=int(day), minutes=int(minute))
        texts.append(moment.strftime("%Y-%m-%dT%H:%M" if k % 3 else "%Y-%m-%d"))
    texts += ["2020-05"] * 50
    distinct, rows = np.unique(np.array(texts, dtype=object), return_counts=True)
    layout = learn_date_layout("ISO8601", Counted(distinct, rows))
    assert layout is not None and layout.partial == ("%Y-%m",) and abs(layout.bare - 333) < 5
    assert layout_from(layout.text) == layout
    counts, good = layout.read(np.array(texts, dtype=object))
    written = layout.write(counts)
    assert good.all() and written[-50:] == ["2020-05"] * 50
    assert all(a[:10] == b[:10] for a, b in zip(texts, written)), "no day is another one"
    assert abs(np.mean([len(text) == 10 for text in written[:-50]]) - 1 / 3) < 0.04
    hours = {int(text[11:13]) for text in written if len(text) == 16}
    assert hours <= set(range(8, 17)), "no time of day beyond the real ones"
