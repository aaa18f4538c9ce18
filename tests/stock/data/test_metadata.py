"""SDV metadata: detected by SDV, corrected by exact counts, read from the user's file, published without persons."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data import detection
from shardsynth.data import metadata as md
from shardsynth.data.personal import suspects
from shardsynth.errors import MetadataError
from shardsynth.summaries.profile import Profile, ProfileOptions


def profile_of(table: pa.Table, sample_rows: int = 200_000, distinct: int = 10_000) -> Profile:
    options = ProfileOptions(total_rows=len(table), sample_rows=sample_rows, distinct=distinct)
    profile, offset = Profile.empty(table.schema, options), 0
    for batch in table.to_batches():
        profile.update(batch, offset)
        offset += batch.num_rows
    return profile.cut()


def detect(table: pa.Table, **options: Any) -> dict[str, Any]:
    profile = profile_of(table, **options)
    found = detection.detect(profile.sample, profile, table.schema)
    load_with_sdv(found)
    return found


def load_with_sdv(metadata: dict[str, Any]) -> Any:
    from sdv.metadata import Metadata

    loaded = Metadata.load_from_dict(json.loads(json.dumps(metadata)))
    loaded.validate()
    return loaded


def described(table: pa.Table, **options: Any) -> dict[str, Any]:
    return dict(md.table_of(detect(table, **options))["columns"])


def folder_table(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])


def test_every_kind_of_column() -> None:
    n = 40
    table = pa.table(
        {
            "flag": pa.array([i % 2 for i in range(n)], pa.int8()),
            "answer": pa.array([i % 3 == 0 for i in range(n)]),
            "count": pa.array([None, *range(39)], pa.int16()),
            "dose": pa.array([0.2 * (i % 20) for i in range(n)], pa.float32()),
            "price": pa.array([Decimal(i * i).scaleb(-2) for i in range(n)], pa.decimal128(9, 4)),
            "when": pa.array([datetime.date(2020, 1, 1) + datetime.timedelta(i) for i in range(n)]),
            "moment": pa.array(range(n), pa.timestamp("ms", "Europe/Berlin")),
            "written": [f"{1 + i % 28:02d}.03.2021" for i in range(n)],
            "clock": pa.array(range(n), pa.time32("s")),
            "group": pa.array(["b", "a", None, "c"] * 10).dictionary_encode(),
            "nothing": pa.array([None] * n, pa.string()),
            "void": pa.nulls(n),
        }
    )
    found = described(table)
    assert list(found) == table.schema.names
    assert found["flag"] == {
        **{"sdtype": "ordinal", "range_is_nullable": False, "high_cardinality": False, "range_values": [0, 1]}
    }
    assert found["answer"]["range_values"] == [False, True]
    assert found["count"] == {
        **{"sdtype": "numerical", "range_is_nullable": True, "range_min": 0, "range_max": 38, "decimal_places": 0}
    }
    assert (found["dose"]["range_max"], found["dose"]["decimal_places"]) == (3.8, 1)
    assert (found["price"]["range_max"], found["price"]["decimal_places"]) == (15.21, 2)
    assert found["when"]["range_max"] == "2020-02-09 00:00:00"
    assert found["moment"]["sdtype"] == "datetime"
    assert found["written"] == {
        **{"sdtype": "datetime", "range_is_nullable": False, "datetime_format": "%d.%m.%Y"},
        **{"range_min": "01.03.2021", "range_max": "28.03.2021"},
    }
    assert (found["clock"]["sdtype"], found["clock"]["range_max"]) == ("numerical", n - 1)
    assert (found["group"]["range_values"], found["group"]["range_is_nullable"]) == (["a", "b", "c"], True)
    roles = {column.name: column.role for column in md.columns(detect(table), table.schema)}
    assert roles["nothing"] == roles["void"] == "empty"
    assert (roles["flag"], roles["count"], roles["written"]) == ("category", "number", "datetime")


def test_what_the_sample_missed_is_corrected_by_the_counts() -> None:
    n = 3000
    table = pa.table(
        {
            "x": pa.array([*range(2, 12)] * 300, pa.int64()),
            "flag": pa.array([0, 1] * (n // 2), pa.int8()),
            "group": ["a", "b", "c"] * 1000,
        }
    )
    rare = pa.table({"x": pa.array([None], pa.int64()), "flag": pa.array([7], pa.int8()), "group": ["zz"]})
    table = pa.concat_tables([table, rare, rare.set_column(0, "x", pa.array([40]))])
    found = described(table, sample_rows=200)
    assert found["x"] == {
        **{"sdtype": "numerical", "range_is_nullable": True, "range_min": 2, "range_max": 40, "decimal_places": 0}
    }
    assert found["flag"]["range_values"] == [0, 1, 7]
    assert found["group"]["range_values"] == ["a", "b", "c", "zz"]


def test_a_key_that_repeats_outside_the_sample_is_no_key() -> None:
    names = [f"p{i:04d}" for i in range(2000)]
    unique = detect(pa.table({"code": names, "x": [1.5, 2.5] * 1000}), sample_rows=50)
    assert md.table_of(unique)["primary_key"] == "code"
    assert md.keys_of(unique) == ["code"]
    twice = detect(pa.table({"code": [*names[:-1], "p0000"], "x": [1.5, 2.5] * 1000}), sample_rows=50)
    assert "primary_key" not in md.table_of(twice)
    assert md.table_of(twice)["columns"]["code"]["sdtype"] in ("id", "categorical")


def test_a_measurement_that_happens_not_to_repeat_is_no_key() -> None:
    platelets = np.random.default_rng(0).permutation(2000)[:30]
    found = detect(pa.table({"platelets": pa.array(platelets, pa.int32()), "row": pa.array(range(30))}))
    assert md.table_of(found)["primary_key"] == "row"
    assert md.table_of(found)["columns"]["platelets"]["sdtype"] == "numerical"


def test_a_name_alone_does_not_make_a_number_personal() -> None:
    table = pa.table(
        {"state": pa.array([0, 1] * 20, pa.int8()), "latitude": [47.1, 47.2] * 20, "city": ["a", "b"] * 20}
    )
    found = described(table)
    assert found["state"]["sdtype"] == "ordinal"
    assert found["latitude"] == {"sdtype": "latitude", "range_is_nullable": False, "pii": True}
    assert found["city"]["sdtype"] == "categorical"  # a list of two, each on 20 rows
    assert described(pa.table({"city": [f"c{i}" for i in range(60)]}))["city"]["sdtype"] == "city"


def test_free_text_and_text_that_never_repeats_are_not_learned() -> None:
    n = 200
    table = pa.table(
        {
            "note": [f"the patient number {i} came back on day {i * 7}" for i in range(n)],
            "ticket": [f"{i % 7}/{i * 37}" if i else None for i in range(n)],
            "colour": ["red", "blue"] * 100,
        }
    )
    found = detect(table)
    roles = {column.name: column.role for column in md.columns(found, table.schema)}
    assert roles == {"note": "pii", "ticket": "id", "colour": "category"}
    assert [suspect.column for suspect in suspects(found, table)] == ["note"]


def test_suspects_are_named_without_a_value() -> None:
    table = pa.table(
        {
            "contact": ["secret@example.org", "b@example.org"] * 20,
            "call": ["+41 44 123 45 67", "044 123 45 68"] * 20,
            "date_of_birth": ["1950-03-01", "1961-07-09"] * 20,
            "birth_outcome": ["live", "still"] * 20,
            "email": ["q", "r"] * 20,
            "fine": ["u", "v"] * 20,
        }
    )
    found = suspects(detect(table), table)
    assert [suspect.column for suspect in found] == ["contact", "call", "date_of_birth", "email"]
    assert "secret" not in str(found)


def test_more_categories_than_sdv_lists() -> None:
    found = described(pa.table({"g": [f"v{i % 600}" for i in range(6000)]}))
    assert found["g"] == {"sdtype": "categorical", "range_is_nullable": False, "high_cardinality": True}


def test_one_row_and_odd_names() -> None:
    table = pa.table({"": [1.5], "ä.b": ["x"], "x'\"\n": pa.array([True]), "id": ["a1"]})
    assert [column.name for column in md.columns(detect(table), table.schema)] == table.schema.names


def test_dates_that_nanoseconds_cannot_hold_stay_dates() -> None:
    days = [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)] * 10
    found = described(pa.table({"d": days}))["d"]
    assert found == {"sdtype": "datetime", "range_is_nullable": False}


@pytest.mark.parametrize("name", ["adult_dir", "mds_dir"])
def test_real_tables_agree_with_what_sdv_detects_on_all_rows(name: str, request: pytest.FixtureRequest) -> None:
    from sdv.metadata import Metadata

    from shardsynth.data import frames

    table = folder_table(request.getfixturevalue(name))
    ours = md.table_of(detect(table))
    frame = frames.to_pandas(table)
    theirs = md.table_of(Metadata.detect_from_dataframes({"table": frame}).to_dict())
    assert ours.get("primary_key") == theirs.get("primary_key")
    for column, options in theirs["columns"].items():
        options.get("range_values", []).sort()
        assert ours["columns"][column] == options, column
    load_with_sdv({"tables": {"table": ours}}).validate_data({"table": frame})


def test_public_metadata_hold_no_person(mds_dir: Path) -> None:
    table = folder_table(mds_dir)
    lonely = table.slice(0, 1).set_column(
        table.schema.get_field_index("WHO_2016"),
        table.schema.field("WHO_2016"),
        pa.array(["secret"]).dictionary_encode().cast(table.schema.field("WHO_2016").type),
    )
    profile = profile_of(pa.concat_tables([table, lonely]).unify_dictionaries())
    full = detection.detect(profile.sample, profile, table.schema)
    assert "secret" in json.dumps(full)
    shown = md.public(full, profile)
    text = json.dumps(shown)
    assert "secret" not in text and "range_min" not in text and "range_max" not in text
    assert md.table_of(shown)["columns"]["SEX"]["range_values"] == ["F", "M"]
    assert md.table_of(shown)["columns"]["TET2"]["range_values"] == [0, 1]
    load_with_sdv(shown)
    assert "range_values" not in json.dumps(md.public(full))
    load_with_sdv(md.public(full))
    assert md.columns(shown, table.schema)[0].role == "id"


SCHEMA = pa.schema([("age", pa.int8()), ("sex", pa.string()), ("seen", pa.string())])
GOOD = {
    "age": {"sdtype": "numerical"},
    "sex": {"sdtype": "categorical"},
    "seen": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
}


def write(tmp_path: Path, columns: dict[str, Any], **rest: Any) -> Path:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"tables": {"people": {"columns": columns, **rest}}, "METADATA_SPEC_VERSION": "V2"}))
    return path


def test_read_puts_the_columns_in_the_schemas_order(tmp_path: Path) -> None:
    shuffled = dict(reversed(list(GOOD.items())))
    found = md.read(write(tmp_path, shuffled, primary_key=None), SCHEMA)
    assert list(found["tables"]) == ["table"]
    assert list(md.table_of(found)["columns"]) == SCHEMA.names
    load_with_sdv(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": None, "aeg": {"sdtype": "numerical"}}, "column 'age' of the shards.*did you mean 'aeg'"),
        ({"agee": {"sdtype": "numerical"}}, "column 'agee' of the metadata.*did you mean 'age'"),
        ({"age": {"sdtype": "datetime"}}, "'age'.*int8.*datetime_format"),
        ({"sex": {"sdtype": "boolean"}}, "'sex' is of type string.*'boolean'.*possible: .*categorical"),
        ({"age": {"sdtype": "email"}}, "'age' is of type int8.*'email'"),
        ({"seen": {"sdtype": "datetime"}}, "'seen'.*add its datetime_format"),
        ({"sex": {"sdtype": "categoricl"}}, "not recognized.*did you mean 'categorical'"),
        ({"sex": {"sdtype": "categorical", "range_mim": 3}}, "range_mim"),
        ({"sex": {"sdtype": "id", "regex_format": "["}}, "regex"),
    ],
)
def test_wrong_metadata_say_what_to_do(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    columns = {name: options for name, options in {**GOOD, **change}.items() if options}
    with pytest.raises(MetadataError, match=message):
        md.read(write(tmp_path, columns), SCHEMA)


@pytest.mark.parametrize(
    "old",
    [
        {"columns": GOOD, "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1"},
        {"tables": {"t": {"columns": GOOD}}, "relationships": [], "METADATA_SPEC_VERSION": "V1"},
        {
            "columns": {**GOOD, "age": {"sdtype": "numerical", "computer_representation": "Int64"}},
            "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1",
        },
        {
            "fields": {
                "age": {"type": "numerical", "subtype": "integer"},
                "sex": {"type": "categorical"},
                "seen": {"type": "datetime", "format": "%Y-%m-%d"},
            }
        },
    ],
)
def test_older_forms_are_upgraded_by_sdv(tmp_path: Path, old: dict[str, Any]) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(old))
    found = md.table_of(md.read(path, SCHEMA))
    assert found["columns"] == GOOD
