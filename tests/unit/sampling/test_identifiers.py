"""Ids and personal data: made from the row number, unique, in the format seen, never a real value on purpose."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.columns import Column, role_of_sdtype
from shardsynth.errors import InputError, MetadataError, ModelError
from shardsynth.sampling import identifiers, patterns
from shardsynth.sampling.formats import learn_format
from shardsynth.sampling.personal import BLOCK


def column(kind: pa.DataType, sdtype: str = "id", **options: Any) -> Column:
    return Column("c", kind, sdtype, role_of_sdtype(sdtype), options)


def learnt(kind: pa.DataType, values: list[Any], sdtype: str = "id", **options: Any) -> dict[str, Any]:
    generator = identifiers.learn(column(kind, sdtype), pa.array(values, kind), options)
    return json.loads(json.dumps(generator))  # a generator is plain data


REGEXES = [
    *(r"E-H-\d{6}-T[1-3]", r"\d{30}", r"[A-Z]{2}", r"P[1-9]\d{0,3}", r"(ab|a)(c|bc)\d", r"\w{3,5}", r"ä[à-ü]{4}"),
    *(r"(?:foo|ba[rz]){2}-\d+", r"[^a-z]{3}", r"^x?$", r"\S{2}\s\W", r"(a|b)(?:c{2,3}|d)*"),
]


@pytest.mark.parametrize("regex", REGEXES)
def test_strings_of_a_regex_are_distinct_and_match(regex: str) -> None:
    n = min(20_000, patterns.count(regex))
    made = patterns.strings(regex, 7, 0, n).to_pylist()
    assert len(set(made)) == n > 0
    assert all(re.fullmatch(regex, text) for text in made)


@pytest.mark.parametrize("regex", [r"[ab]{3}", r"P[1-9]\d{0,2}", r"(ab|a)(c|bc)\d", r"[0-9]{2}-[xyz]{2}", r"a|b|cd"])
def test_all_strings_of_a_small_regex_are_reached(regex: str) -> None:
    n = patterns.count(regex)
    assert len(set(patterns.strings(regex, 3, 0, n).to_pylist())) == n
    with pytest.raises(ValueError, match=f"has {n} strings"):
        patterns.strings(regex, 3, 0, n + 1)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(REGEXES), st.integers(0, 2**64 - 1), st.data())
def test_any_split_gives_the_same_strings(regex: str, key: int, data: st.DataObject) -> None:
    n = min(500, patterns.count(regex))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    whole = patterns.strings(regex, key, 0, n)
    parts = [patterns.strings(regex, key, a, b - a) for a, b in zip([0, *cuts], [*cuts, n])]
    assert pa.concat_arrays(parts).equals(whole)


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        *(("[", "not a valid"), (r"(a)\1", "cannot be enumerated"), (r"a(?=b)", "cannot be enumerated")),
        *((r"\d{9999999}", "repeat of more"), (r"(ab|c){1,40}", "alternatives")),
    ],
)
def test_expressions_that_cannot_be_enumerated(regex: str, message: str) -> None:
    with pytest.raises(MetadataError, match=message) as error:
        identifiers.learn(column(pa.string(), regex_format=regex), pa.array([], pa.string()))
    assert "'c'" in str(error.value)


@pytest.mark.parametrize(
    ("values", "regex"),
    [
        ([f"MRN-{i:06d}" for i in range(0, 900_000, 777)], r"MRN\-[0-9]{6}"),
        ([f"P{i}" for i in range(1, 1500, 7)], r"P[1-9][0-9]{0,3}"),
        ([f"{a}-{i}" for i in range(10, 60) for a in ("AB", "CD")], r"[A-Z]{2}\-[1-9][0-9]{1}"),
        (["Smith19", "Jones23"], r"[A-Z]{1}[a-z]{4}[1-9][0-9]{1}"),
        ([f"{i * 2654435761 % 2**32:08x}" for i in range(500)], "[0-9a-f]{8}"),
        (["", None], "[0-9a-z]{8}"),
    ],
)
def test_formats(values: list[str], regex: str) -> None:
    assert learn_format(value for value in values if value).regex == regex


def test_a_literal_is_one_that_every_value_shares() -> None:
    assert learn_format([f"K-2019-{i:04d}" for i in range(50)]).regex == r"K\-2019\-[0-9]{4}"
    few = learn_format(["Huber-1951"] * 3).regex
    assert "H" not in few and "1951" not in few
    mixed = learn_format([f"A{i:03d}" for i in range(99)] + ["secret"]).regex
    assert "secret" not in mixed


@given(st.lists(st.text("ABab01-_ é\n", max_size=8), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_sample_gives_distinct_strings(values: list[str]) -> None:
    generator = learnt(pa.string(), values)
    made = identifiers.make(generator, pa.string(), 0, 3000)
    assert len(pc.unique(made)) == 3000


def test_a_learned_format_grows_when_it_runs_out() -> None:
    generator = learnt(pa.string(), [f"P{i}" for i in range(100, 999)])
    made = identifiers.make(generator, pa.string(), 0, 50_000)
    assert len(pc.unique(made)) == 50_000
    assert {len(text) for text in made.to_pylist()} == {4, 5, 6}
    assert pa.concat_arrays(
        [identifiers.make(generator, pa.string(), first, 12_500) for first in range(0, 50_000, 12_500)]
    ).equals(made)


def test_a_given_format_does_not_grow() -> None:
    generator = identifiers.learn(column(pa.string(), regex_format=r"[A-Z]\d"), pa.array([], pa.string()))
    assert identifiers.capacity(generator) == 260
    identifiers.check_capacity(generator, 260, "c")
    with pytest.raises(InputError, match="'c'.*260 distinct strings, but 261 rows.*regex_format"):
        identifiers.check_capacity(generator, 261, "c")
    with pytest.raises(ModelError):
        identifiers.make(generator, pa.string(), 200, 61)


def test_whole_numbers_count_from_one_or_keep_their_digits() -> None:
    dense = learnt(pa.int32(), list(range(5, 500)))
    assert identifiers.make(dense, pa.int32(), 3, 3).to_pylist() == [4, 5, 6]
    spread = learnt(pa.int64(), [10_000_000 + 99_991 * i for i in range(800)])
    made = identifiers.make(spread, pa.int64(), 0, 10_000)
    assert len(pc.unique(made)) == 10_000
    assert pc.min(made).as_py() >= 10**7 and pc.max(made).as_py() < 10**8
    small = learnt(pa.int8(), [1, 2, 3])
    with pytest.raises(InputError, match="127 distinct numbers.*wider integer"):
        identifiers.check_capacity(small, 128, "c")
    assert identifiers.make(learnt(pa.float64(), [1.0, None, 3.0]), pa.float64(), 0, 3).type == pa.float64()


def test_regex_of_whole_numbers() -> None:
    generator = identifiers.learn(column(pa.int32(), regex_format=r"[1-9]\d{5}"), pa.array([], pa.int32()))
    made = identifiers.make(generator, pa.int32(), 0, 900_000)
    assert len(pc.unique(made)) == 900_000 and pc.min(made).as_py() == 100_000
    for regex in (r"\d{1,3}", r"A\d", r"\d{12}"):
        with pytest.raises(MetadataError, match="'c' of type int32.*whole numbers"):
            identifiers.learn(column(pa.int32(), regex_format=regex), pa.array([], pa.int32()))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string(), True)]
)
def test_exact_types(kind: pa.DataType) -> None:
    assert identifiers.make(learnt(pa.string(), ["a1", "b2"]), kind, 0, 5).type == kind


def test_a_dictionary_too_narrow_for_ids() -> None:
    with pytest.raises(ModelError, match="index type"):
        identifiers.make(learnt(pa.string(), ["a1", "b2"]), pa.dictionary(pa.int8(), pa.string()), 0, 500)


@pytest.mark.parametrize("sdtype", ["id", "name", "email", "unknown"])
def test_values_are_never_more_than_a_dictionary_index_holds(sdtype: str) -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    generator = learnt(kind, [f"x{i}" for i in range(100)], sdtype)
    made = pa.chunked_array([identifiers.make(generator, kind, first, 500) for first in (0, 500, 10**9)])
    assert len(pc.unique(made.cast(pa.string()))) <= 128 and len(made) == 1500
    identifiers.check_capacity(generator, 10**9, "c")
    key = learnt(kind, [f"x{i}" for i in range(100)], sdtype, unique=True)
    assert identifiers.capacity(key) == 128
    with pytest.raises(InputError, match="'c': it is a key, and the index.*128 values, but 129 rows"):
        identifiers.check_capacity(key, 129, "c")


def test_missing_values_and_repeats() -> None:
    generator = learnt(pa.string(), ["a1", None, "b2", None], rows_per_value=4)
    made = identifiers.make(generator, pa.string(), 0, 40_000)
    assert made.null_count == pytest.approx(20_000, rel=0.05)
    assert len(pc.unique(made.drop_null())) == pytest.approx(10_000 * (1 - 0.5**4), rel=0.05)
    assert identifiers.make(generator, pa.string(), 7, 100).equals(made.slice(7, 100))
    assert identifiers.make(learnt(pa.string(), ["a1", None], unique=True), pa.string(), 0, 50).null_count == 0


def test_ids_of_the_real_table(mds_dir: Path) -> None:
    real = pa.concat_tables([pq.read_table(file) for file in sorted(mds_dir.glob("*.parquet"))])["ID"]
    generator = identifiers.learn(column(pa.string()), real, {"seed": 5, "unique": True})
    parts = [identifiers.make(generator, pa.string(), first, 10_000) for first in range(0, 1_000_000, 10_000)]
    made = pa.concat_arrays(parts)
    assert len(pc.unique(made)) == 1_000_000
    assert pc.all(pc.match_substring_regex(made, "^(?:" + generator["regex"] + ")$")).as_py()
    assert pc.all(pc.match_substring_regex(made, r"^[A-Z]-H-[0-9]{6}-T[0-9]-[0-9]-D[0-9]-[0-9]$")).as_py()
    assert pc.sum(pc.is_in(made, value_set=real.combine_chunks())).as_py() < 20


def test_a_million_ids_of_a_hundred_tasks_are_distinct_and_match() -> None:
    regex = "(DE|FR)-[0-9]{4}-[A-HJ-NP-Z]{4}"
    generator = identifiers.learn(column(pa.string(), regex_format=regex), pa.array(["DE-1"]))
    made = pa.concat_arrays([identifiers.make(generator, pa.string(), n * 10_000, 10_000) for n in range(100)])
    assert pc.count_distinct(made).as_py() == 1_000_000
    assert pc.all(pc.match_substring_regex(made, f"^{regex}$")).as_py()


def test_of_a_composite_key_the_widest_column_never_repeats_and_the_others_go_round() -> None:
    visits = pa.array([1, 2, 3, 4, 5] * 20, pa.int8())
    table = pa.table({"patient": [f"P{n // 5:05d}" for n in range(100)], "visit": visits})
    columns = [Column(name, table.schema.field(name).type, "id", "id") for name in table.schema.names]
    made = identifiers.learn_all(table, columns, [], seed=1, composite=["patient", "visit"])
    for name in table.schema.names:
        identifiers.check_capacity(made[name], 10**6, name)
    parts = [
        pa.table([identifiers.make(made[c.name], c.type, first, 1000) for c in columns], table.schema.names)
        for first in (0, 1000, 7 * 10**8)
    ]
    rows = pa.concat_tables(parts)
    assert pc.count_distinct(rows["patient"]).as_py() == 3000 and rows["patient"].null_count == 0
    assert set(rows["visit"].to_pylist()) == {1, 2, 3, 4, 5} and rows.schema.field("visit").type == pa.int8()


def test_a_personal_part_of_a_composite_key_goes_round() -> None:
    table = pa.table({"mail": [f"p{n % 7}@x.org" for n in range(70)], "visit": [f"V{n:05d}" for n in range(70)]})
    columns = [Column("mail", pa.string(), "email", "pii"), Column("visit", pa.string(), "id", "id")]
    made = identifiers.learn_all(table, columns, [], seed=1, composite=["mail", "visit"])
    rows = pa.table([identifiers.make(made[c.name], c.type, 0, 1000) for c in columns], ["mail", "visit"])
    counts = [pc.count_distinct(column).as_py() for column in rows.columns]
    assert 1000 in counts and rows.group_by(["mail", "visit"]).aggregate([]).num_rows == 1000


def test_personal_data_are_fakers_and_the_same_for_any_split() -> None:
    generator = learnt(pa.string(), ["Ada Secret", None, "Bo Secret", "Cy Secret"], "first_name", seed=3)
    assert generator["kind"] == "pii"
    first = BLOCK - 3000
    made = identifiers.make(generator, pa.string(), first, 6000)
    parts = [identifiers.make(generator, pa.string(), first + 1500 * i, 1500) for i in range(4)]
    assert pa.concat_arrays(parts).equals(made)
    assert made.null_count == pytest.approx(1500, rel=0.1)
    assert len(pc.unique(made)) > 100
    assert "Secret" not in " ".join(made.drop_null().to_pylist())
    other = identifiers.make(learnt(pa.string(), [], "first_name", seed=4), pa.string(), first, 6000)
    assert not other.equals(made)


@pytest.mark.parametrize("sdtype", ["name", "first_name", "email", "ssn", "phone_number", "street_address", "address"])
def test_as_many_distinct_personal_values_as_the_input_had(sdtype: str) -> None:
    unique = learnt(pa.string(), [f"v{i}" for i in range(2000)], sdtype)
    assert pc.count_distinct(identifiers.make(unique, pa.string(), 0, 20_000)).as_py() == 20_000
    few = learnt(pa.string(), [f"v{i % 80}" for i in range(2000)], sdtype)
    made = identifiers.make(few, pa.string(), 0, 2000)
    assert set(made.value_counts().field("counts").to_pylist()) == {25}
    assert len(pc.unique(identifiers.make(few, pa.string(), 0, 79))) == 79
    some = learnt(pa.string(), [f"v{i * 7 // 10}" for i in range(2000)], sdtype)
    assert pc.count_distinct(identifiers.make(some, pa.string(), 0, 2000)).as_py() == 1400
    for generator in (unique, few, some):
        whole = identifiers.make(generator, pa.string(), 999, 700)
        parts = [identifiers.make(generator, pa.string(), 999 + 100 * i, 100) for i in range(7)]
        assert pa.concat_arrays(parts).equals(whole)
        assert len(identifiers.make(generator, pa.string(), 10**15, 3)) == 3


def test_counts_of_the_whole_input_go_before_those_of_the_sample() -> None:
    generator = learnt(pa.string(), [f"v{i}" for i in range(50)], "name", counts=(30, 400))
    assert pc.count_distinct(identifiers.make(generator, pa.string(), 0, 5000)).as_py() == 30


def test_personal_values_keep_their_form() -> None:
    made = {
        sdtype: identifiers.make(learnt(pa.string(), ["x"], sdtype), pa.string(), 0, 3000)
        for sdtype in ("ssn", "email", "street_address", "date_of_birth")
    }
    for sdtype, form in (
        ("ssn", r"\d{3}-\d{2}-\d{4}"),
        ("email", r"[^@ ]+@[^@ ]+\.[a-z]+"),
        ("street_address", r"\d+ .*"),
    ):
        assert pc.all(pc.match_substring_regex(made[sdtype], f"^{form}$")).as_py(), sdtype
    assert len(pc.unique(made["date_of_birth"].cast(pa.date32()))) == 3000
    numbers = identifiers.make(learnt(pa.int32(), [1, 2], "postcode"), pa.int32(), 0, 3000)
    assert len(pc.unique(numbers)) == 3000 and pc.min(numbers).as_py() >= 10_000


def test_a_model_of_before_the_numberings_draws_what_it_drew() -> None:
    generator = {key: v for key, v in learnt(pa.string(), ["x"], "name", seed=3).items() if key != "numbering"}
    assert identifiers.make(generator, pa.string(), 0, 2).to_pylist() == ["Lori Sanford", "Zachary Guerrero"]


def test_personal_keys_do_not_repeat() -> None:
    generator = learnt(pa.string(), ["a@b.c"], "email", unique=True)
    made = identifiers.make(generator, pa.string(), 0, 100_000)
    assert len(pc.unique(made)) == 100_000
    assert pc.all(pc.match_substring_regex(made, r"^[^@\s]+@[^@\s]+\.[^@\s]+$")).as_py()


def test_personal_numbers_unknown_kinds_and_locales() -> None:
    made = identifiers.make(learnt(pa.float64(), [1.0], "latitude"), pa.float64(), 0, 100)
    assert -90 <= pc.min(made).as_py() < pc.max(made).as_py() <= 90
    unknown = identifiers.make(learnt(pa.string(), ["a secret"], "unknown"), pa.string(), 0, 100)
    assert pc.all(pc.match_substring_regex(unknown, "^sdv-pii-[0-9a-z]{5}$")).as_py()
    german = identifiers.make(learnt(pa.string(), ["x"], "city", locales=["de_DE", "en_US"]), pa.string(), 0, 100)
    assert german.null_count == 0


@pytest.mark.parametrize(
    ("kind", "sdtype", "options", "message"),
    [
        (pa.string(), "frist_name", {}, "'c'.*did you mean 'first_name'"),
        (pa.int8(), "first_name", {}, "'c' of type int8.*makes text"),
        (pa.string(), "first_name", {"locales": "xx_XX"}, "'c'.*no locale 'xx_XX'"),
        (pa.date32(), "unknown", {}, "'c' of type date32"),
    ],
)
def test_personal_columns_that_faker_cannot_fill(kind: Any, sdtype: str, options: Any, message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        identifiers.learn(column(kind, sdtype), pa.array([], kind), options)


def test_generators_survive_json() -> None:
    generator = learnt(pa.string(), ["a1", "b2"])
    assert np.uint64(generator["key"]) == generator["key"]


def test_letters_that_one_person_has_are_no_format() -> None:
    values = pa.array([f"SECRET-{n}" for n in range(12)] + [None] * 12)
    column = Column("serial", pa.string(), "id", "id")
    assert "SECRET" in identifiers.learn(column, values)["regex"]
    hers = np.array([7] * 12 + list(range(12)), np.uint64)
    assert "SECRET" not in identifiers.learn(column, values, {"persons": hers})["regex"]
    each = np.arange(24, dtype=np.uint64)
    made = identifiers.learn(column, values, {"persons": each})
    assert made == identifiers.learn(column, values)


@pytest.mark.parametrize(
    ("largest", "start"),
    [
        ([301, 304, 306], 401),
        ([1700, 1718], 2001),
        ([9100, 9105], 10_001),
        ([402, 40_017], 100_001),  # one row's number is far beyond the others: its first digit is not told
        ([0], 1),
        ([3 * 2**61], 1),  # no room above it
    ],
)
def test_numbers_start_above_those_of_the_input(largest, start):
    column = Column("id", pa.int64(), "id", "id")
    generator = identifiers.learn(column, pa.array([1, 2, 3]), {"largest": largest})
    made = identifiers.make(generator, pa.int64(), 0, 3)
    assert made.to_pylist() == [start, start + 1, start + 2] and not set(made.to_pylist()) & set(largest)


def test_scrambled_numbers_begin_as_no_number_of_the_input_does():
    column = Column("mrn", pa.int64(), "id", "id")
    real = pa.array(np.random.default_rng(0).integers(1_000_000, 6_000_000, 2_000))
    generator = identifiers.learn(column, real)
    made = identifiers.make(generator, pa.int64(), 0, 5_000)
    assert len(set(made.to_pylist())) == 5_000 and not set(made.to_pylist()) & set(real.to_pylist())
    assert {len(str(number)) for number in made.to_pylist()} == {7}


def test_long_texts_of_letters_are_ids_too() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), 300)) for _ in range(200)]
    made = identifiers.make(learnt(pa.string(), texts), pa.string(), 0, 50).to_pylist()
    assert {len(text) for text in made} == {300} and not set(made) & set(texts)


def test_whole_numbers_of_a_regex_have_all_its_digits() -> None:
    generator = identifiers.learn(column(pa.int64(), regex_format=r"^\d{6}$"), pa.array([], pa.int64()))
    made = identifiers.make(generator, pa.int64(), 0, 5000)
    assert pc.min(made).as_py() >= 100_000 and pc.max(made).as_py() <= 999_999
    assert len(pc.unique(made)) == 5000 and identifiers.capacity(generator) == 900_000
    with pytest.raises(MetadataError, match="begins with 0"):
        identifiers.learn(column(pa.int64(), regex_format=r"00[1-3]"), pa.array([], pa.int64()))


def test_the_shared_start_of_a_run_belongs_to_the_format() -> None:
    rng = np.random.default_rng(0)
    orders = [f"ORD-20{year}-{number:06d}" for year, number in zip(rng.integers(18, 24, 1000), rng.permutation(10**6))]
    made = identifiers.make(learnt(pa.string(), orders), pa.string(), 0, 2000).to_pylist()
    assert all(text.startswith("ORD-20") and len(text) == 15 for text in made) and len(set(made)) == 2000
    few = [f"P10{number:03d}" for number in rng.permutation(1000)[:500]]  # with the start fixed, half would be real
    made = identifiers.make(learnt(pa.string(), few), pa.string(), 0, 2000).to_pylist()
    assert not all(text.startswith("P10") for text in made)
