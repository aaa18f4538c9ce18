from __future__ import annotations

import bz2
import datetime
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.data.importer import import_table
from shardsynth.errors import InputError, ShardError


def imported(tmp_path: Path, content: str | bytes, name: str = "table.csv", **options) -> pa.Table:
    source = tmp_path / name
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    return pa.concat_tables(pq.read_table(part) for part in import_table(source, tmp_path / "shards", **options))


def refused(tmp_path: Path, content: str | bytes, name: str = "table.csv", error=ShardError, **options) -> str:
    with pytest.raises(error) as caught:
        imported(tmp_path, content, name, **options)
    assert [each.name for each in tmp_path.iterdir()] == [name], "nothing is left behind"
    return str(caught.value)


# --- what comes out -----------------------------------------------------------------------------------------------


def test_types_are_inferred_over_the_whole_file(tmp_path):
    rows = "".join(f"{i},{i},{i:05d},2020-01-01,yes\n" for i in range(50_000))
    table = imported(tmp_path, f"late,int,code,day,word\n{rows}2.5,-1,7,2020-01-01 10:00,no\n")
    assert dict(zip(table.column_names, map(str, table.schema.types))) == {
        "late": "double",
        "int": "int64",
        "code": "string",
        "day": "timestamp[ms]",
        "word": "string",
    }
    assert table.num_rows == 50_001
    assert table["code"][7].as_py() == "00007"


def test_types_can_be_given(tmp_path):
    table = imported(
        tmp_path,
        "age,when,code,x,c,d\n5.0,2020-01-01,1,1.5,b,31/12/2020\n,,2,,a,\n",
        types={"age": "int8", "when": "timestamp[ms]", "code": "string", "x": "decimal128(10,2)"}
        | {"c": "dictionary", "d": "date32 %d/%m/%Y"},
    )
    assert table.schema.types == [
        pa.int8(),
        pa.timestamp("ms"),
        pa.string(),
        pa.decimal128(10, 2),
        pa.dictionary(pa.int32(), pa.string()),
        pa.date32(),
    ]
    assert table["age"].to_pylist() == [5, None]
    assert table["d"].to_pylist() == [datetime.date(2020, 12, 31), None]


def test_missing_and_quoted(tmp_path):
    table = imported(tmp_path, 'text,number\n"",""\n,\nNA,NA\n"NA",7\nx,8\n')
    assert table["text"].to_pylist() == ["", None, None, "NA", "x"]
    assert table["number"].to_pylist() == [None, None, None, 7, 8]


def test_own_null_values(tmp_path):
    table = imported(tmp_path, "a,b\n-99,NA\n5,?\n", null_values=["-99", "?"])
    assert table.to_pydict() == {"a": [None, 5], "b": ["NA", None]}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_newlines(tmp_path, newline, end):
    text = '\na,"b\nc"\n1,"x\ny"\n\n2,"say ""hi"", then"' + end
    table = imported(tmp_path, text.replace("\n", newline))
    assert table.to_pydict() == {"a": [1, 2], f"b{newline}c": [f"x{newline}y", 'say "hi", then']}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.csv.gz", gzip.compress),
        ("t.csv.bz2", bz2.compress),
        ("t.CSV", bytes),
        ("t.csv.zst", lambda raw: pa.compress(raw, "zstd", asbytes=True)),
    ],
)
def test_compressed(tmp_path, name, pack):
    assert imported(tmp_path, pack(b"a,b\n1,2\n"), name).to_pydict() == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("t.tsv", "a\tb\n1\tx,y\n", {}),
        ("t.csv", "a;b\n1;x,y\n", {}),
        ("t.txt", "a|b\n1|x,y\n", {}),
        ("t.csv", "a b\n1 x,y\n", {"delimiter": " "}),
        ("t.csv", '"a",b\n"1","x,y"\n', {}),
    ],
)
def test_delimiters(tmp_path, name, text, options):
    assert imported(tmp_path, text, name, **options).to_pydict() == {"a": [1], "b": ["x,y"]}


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("\ufeffa,b\né,1\n".encode(), {}),
        ("\ufeffa,b\né,1\n".encode("utf-16-le"), {}),
        ("a,b\né,1\n".encode("cp1252"), {"encoding": "cp1252"}),
    ],
)
def test_encodings(tmp_path, content, options):
    assert imported(tmp_path, content, **options).to_pydict() == {"a": ["é"], "b": [1]}


def test_a_header_alone_gives_one_empty_shard(tmp_path):
    table = imported(tmp_path, "a,b", types={"b": "int8"})
    assert table.num_rows == 0
    assert table.schema.types == [pa.null(), pa.int8()]


def test_one_column_of_nothing_stays_empty(tmp_path):
    assert imported(tmp_path, "a,b\n1,\n2,NA\n").schema.types == [pa.int64(), pa.null()]


CELLS = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "date32": st.dates(),
    "timestamp[us]": st.datetimes(),
    "string": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
}


@st.composite
def tables(draw) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=2, max_size=5))
    rows = draw(st.integers(1, 12))
    arrays = [
        pa.array(
            draw(st.lists(CELLS[kind] | st.none(), min_size=rows, max_size=rows)),
            pa.date32() if kind == "date32" else kind,
        )
        for kind in kinds
    ]
    return pa.table(arrays, [f"{kind} {i}" for i, kind in enumerate(kinds)])


def as_csv(table: pa.Table) -> str:
    """Strings quoted, missing empty, everything else plain."""

    def cell(value) -> str:
        if value is None:
            return ""
        return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else str(value)

    rows = zip(*(column.to_pylist() for column in table.columns))
    return "".join(",".join(map(cell, row)) + "\n" for row in [table.column_names, *rows])


@settings(max_examples=120, deadline=None)
@given(tables(), st.integers(1, 13))
def test_round_trip_through_csv(tmp_path_factory, table, rows_per_shard):
    folder = tmp_path_factory.mktemp("trip")
    source = folder / "table.csv"
    source.write_bytes(as_csv(table).encode())
    given_types = {name: name.split()[0] for name in table.column_names}
    parts = import_table(source, folder / "typed", types=given_types, rows_per_shard=rows_per_shard)
    shards = [pq.read_table(part) for part in parts]
    assert pa.concat_tables(shards).equals(table)
    assert {len(shard) for shard in shards[:-1]} <= {rows_per_shard}
    assert 1 <= len(shards[-1]) <= rows_per_shard

    texts = {name: "string" for name in table.column_names if name.startswith("string")}
    inferred = pa.concat_tables(pq.read_table(part) for part in import_table(source, folder / "found", types=texts))
    assert inferred.to_pydict() == table.to_pydict(), "inference loses nothing"
    for name, found in zip(table.column_names, inferred.schema.types):
        if table[name].null_count < len(table) and not name.startswith("timestamp"):
            assert found == table.schema.field(name).type


@settings(max_examples=40, deadline=None)
@given(tables())
def test_round_trip_through_feather(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("trip")
    table = table.replace_schema_metadata({"made by": "hand"})
    pyarrow.feather.write_feather(table, str(folder / "table.feather"), chunksize=3)
    with pa.OSFile(str(folder / "table.arrows"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    for name in ("table.feather", "table.arrows"):
        (part,) = import_table(folder / name, folder / name.partition(".")[2])
        assert pq.read_table(part).equals(table, check_metadata=True)


def test_shards_are_in_natural_order_and_exact(tmp_path):
    source = tmp_path / "t.csv"
    source.write_text("a\n" + "".join(f"{i}\n" for i in range(300_007)))
    parts = import_table(source, tmp_path / "out", rows_per_shard=100_000)
    assert [part.name for part in parts] == [f"part-{i:05d}.parquet" for i in range(4)]
    assert [pq.read_metadata(part).num_rows for part in parts] == [100_000, 100_000, 100_000, 7]
    assert pa.concat_tables(map(pq.read_table, parts))["a"].to_pylist() == list(range(300_007))


def test_a_dictionary_that_all_batches_share_unpacks_once(tmp_path):
    words = pa.array([f"{i:0100d}" for i in range(2_000)])
    batch = pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([0, 1999], pa.int32()), words)], ["word"])
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        for _ in range(50):
            writer.write_batch(batch)
    import_table(tmp_path / "t.arrow", tmp_path / "out", max_unpacked=1_000_000)  # 50 times 0.2 MB with the dictionary
    with pytest.raises(ShardError, match="unpack to more than"):
        import_table(tmp_path / "t.arrow", tmp_path / "out2", max_unpacked=100_000)


def test_feather_columns_can_be_cast(tmp_path):
    table = pa.table({"n": [1, 2], "text": ["5", ""], "s": pa.array([1, 2], pa.timestamp("s"))})
    pyarrow.feather.write_feather(table, str(tmp_path / "t.feather"))
    (part,) = import_table(tmp_path / "t.feather", tmp_path / "out", types={"n": "int8", "text": "int16"})
    assert pq.read_schema(part).types == [pa.int8(), pa.int16(), pa.timestamp("ms")]
    with pytest.raises(ShardError, match="column 'n', row 2 .* does not fit bool"):
        pyarrow.feather.write_feather(pa.table({"n": ["true", "7"]}), str(tmp_path / "t.feather"))
        import_table(tmp_path / "t.feather", tmp_path / "out2", types={"n": "bool"})


# --- Excel --------------------------------------------------------------------------------------------------------


def workbook(path: Path, **sheets: list[list]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_excel(tmp_path):
    stamp = datetime.datetime(2020, 5, 17, 10, 30)
    day = datetime.datetime(2020, 5, 17)
    source = workbook(
        tmp_path / "t.xlsx",
        data=[["n", "x", "code", "day", "stamp", "flag", "gone"], [], [1, 1.5, "00123", day, stamp, True, None]]
        + [[None, 2, "NA", None, day, False, "#DIV/0!"], ["NA"]],
    )
    (part,) = import_table(source, tmp_path / "out")
    table = pq.read_table(part)
    assert table.to_pylist()[0] == {
        "n": 1,
        "x": 1.5,
        "code": "00123",
        "day": day.date(),
        "stamp": stamp,
        "flag": True,
        "gone": None,
    }
    assert list(map(str, table.schema.types)) == [
        *("int64", "double", "string", "date32[day]", "timestamp[ms]", "bool", "null")
    ]
    assert table.num_rows == 3


def test_excel_sheets(tmp_path):
    source = workbook(tmp_path / "t.xlsx", one=[["a"], [1]], two=[["b"], [2], [3, 4]], three=[])
    (part,) = import_table(source, tmp_path / "out", sheet="one")
    assert pq.read_table(part).to_pydict() == {"a": [1]}
    for sheet, message in [
        (None, "has 3 sheets: say which of 'one', 'two', 'three'"),
        ("four", "has no sheet 'four'"),
        ("two", r"row 2 .* has 2 cells where the header has 1"),
        ("three", "sheet 'three' is empty"),
    ]:
        with pytest.raises(InputError, match=message):
            import_table(source, tmp_path / "no", sheet=sheet)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "the file is empty"),
        ("\n\n", {}, "the file is empty"),
        ("a,b,a\n1,2,3\n", {}, "columns 1 and 3 are both named 'a'"),
        (",b\n1,2\n", {}, "column 1 of 2 has no name"),
        ("a, \n1,2\n", {}, "column 2 of 2 has no name"),
        ("a,b\n1,2\n3\n", {}, "row 2 (the header not counted) has 1 fields where the header has 2"),
        ('a,b\n1,"x\ny"\n\n3,4,secret\n', {}, "row 2 (the header not counted) has 3 fields"),
        ('a,b\n1,2\n3,"secret\n5,6\n', {}, "row 2 (the header not counted): a quote is left open"),
        ('a,"b\n1,secret\n', {}, "the header cannot be read: is a quote left open?"),
        ('a,b\n1,"secret' + "x" * (20 << 20) + '"\n', {}, "a row is longer than 2 MB"),
        (b"a,b\n1,2\nsecret,\xff\n", {}, "line 3 is not utf-8 text"),
        (
            "a,b\n1,2\nsecret,4\n",
            {"types": {"a": "int8"}},
            "column 'a', row 2 (the header not counted): the value (--show-values quotes it) does not fit int8",
        ),
        ("a,b\n1,2\n300,4\n", {"types": {"a": "int8"}}, "does not fit int8"),
    ],
)
def test_content_at_fault(tmp_path, content, options, message):
    said = refused(tmp_path, content, **options)
    assert message in said
    assert "table.csv" in said
    assert "secret" not in said, "no value of the data in an error"


def test_the_value_at_fault_is_quoted_when_asked(tmp_path):
    said = refused(tmp_path, "a,b\n1,2\nsecret,4\n", types={"a": "int8"}, show_values=True)
    assert "row 2 (the header not counted): the value 'secret' does not fit int8" in said


def test_the_row_of_a_misfit_counts_over_blocks(tmp_path):
    rows = "".join(f"{i},{'x' * 90}\n" for i in range(200_000))
    said = refused(tmp_path, f"a,b\n{rows}boom,\n", types={"a": "int64"})
    assert "row 200001 " in said


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("t.sas9", {}, "known are .csv"),
        ("t.parquet", {}, "Parquet already"),
        ("t.xls", {}, "save it as .xlsx"),
        ("t.csv", {"delimiter": "||"}, "one ASCII character"),
        ("t.csv", {"delimiter": '"'}, "one ASCII character"),
        ("t.csv", {"encoding": "klingon"}, "encoding 'klingon' is not known"),
        ("t.csv", {"rows_per_shard": 0}, "must be 1 or more"),
        ("t.csv", {"types": {"aeg": "int8"}}, "no such column; did you mean 'age'?"),
        ("t.csv", {"types": {"age": "in8"}}, "did you mean 'int8'"),
    ],
)
def test_options_at_fault(tmp_path, name, options, message):
    assert message in refused(tmp_path, "age,b\n1,2\n", name, InputError, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv.gz",
            gzip.compress(b"a,b\n" + b"".join(b"%d,x\n" % i for i in range(9000)))[:9999],
            "is cut short, or not compressed",
        ),
        ("t.csv.gz", b"a,b\n1,2\n", "is cut short, or not compressed"),
        ("t.feather", b"FEA1 and so on", "Feather version 1"),
        ("t.feather", b"ARROW1 not", "not a Feather or Arrow file"),
        ("t.feather", b"", "the file is empty"),
        ("t.xlsx", b"PK not", "not an Excel workbook"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    assert message in refused(tmp_path, content, name)


def test_source_and_destination(tmp_path):
    source = tmp_path / "t.csv"
    with pytest.raises(InputError, match="no such file"):
        import_table(source, tmp_path / "out")
    with pytest.raises(InputError, match="is not a file"):
        import_table(tmp_path, tmp_path / "out")
    source.write_text("a\n1\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    for taken in (tmp_path / "full", source):
        with pytest.raises(InputError, match="not an empty folder"):
            import_table(source, taken)
    (tmp_path / "empty").mkdir()
    for free in (tmp_path / "empty", tmp_path / "deep" / "er"):
        assert import_table(source, free) == [free / "part-00000.parquet"]
        assert [each.name for each in free.iterdir()] == ["part-00000.parquet"]
