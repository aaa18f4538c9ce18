"""Files of R, made by R 4.2.2 and haven 2.5.1, and back into files of R."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.commands.export_table import _WRITERS
from shardsynth.data.codebook import Codebook
from shardsynth.data.importer import import_table
from shardsynth.errors import InputError, ModelError, ShardError

#: f <- data.frame(x = labelled(rep(c(1.5, 2, tagged_na("a"), NA, tagged_na("b"), 2), 2),
#:                              c(two = 2, refused = tagged_na("a")), label = "A score")); f$stage <- ordered factor;
#: day, whole_day: the same dates as doubles and as integers; id: an integer64 of 2^53 + 1; saveRDS(f, compress = "xz")
RDS = """
/Td6WFoAAAFpIt42AgAhARYAAAB0L+Wj4AfZAjtdACwCfBn5r/QdO56YNX7q0PQhTbNFUsa9mj0WI1Wt1o02x1s+9quajzDzqJhjRhc9PGGNeHDp
JXW8KwYtPweEfdjdA5Xid7Dj6KbcRJ7XXr+zECG3AwOFVlBA8boGvleJFdml20nX8haAyTFT7dX9o1SKzJHLhrzVkL5cIFAJfrDRY7O7IKhRZS51
12J+5dY4Qr19BJ7Sd2PSnQ9w2MjcqFGNXIj25bWmxlG8snXCafQuSRKs9nMqJPIpZereame/gPKrt46SMSaSLWC2Wp3RRedVaTNFxS7qkZJRw1uh
1fYv2F/8W5FyBsTD5q93J6lIkjb0LBC+p6lx/JVQMjj2UOIm2Xonr7GpvmX0iYOYYoHeDbHM/FrZUOgVFJwka06Ibsv0jJYCP2b3POvR4B8oLXL6
E3FD0B0T6+0rbJ/Cl0D9sx97oSqjV94UoJzUNoNs7hsZ7AYdKULoqwSkYGmyAM4xaswyWKvzJddcq2PG1peQtXTWSHc0LlmOIbc7AqoOkYgjocNR
8eHrp0bbwhmemteOzzlRCtTQbjbrveJimnF7jWW3LrhvepX4TZfJR+9RR1UgtEG28v1LQsVnZNp6G2LFLbw3MMW7TpyCHY3GFneKVngJwH6pBREK
X9+otc5+oBbGt9At4xyv2oAz04OOeq60jZxiEv4MVGIiHQf1cwgjV1SAaRss2ybjZlV/IgUxUkLJHJrhNNlgkplUm0QK6ZUnqPoRWEFoBGAlRpXq
CYTSL8uWpaf4rQv1frwAAPDfp6cAAdME2g8AAFwCyuA+MA2LAgAAAAABWVo=
"""
#: save(h, k, g, f): a vector, a function, and two data frames
RDATA = """
/Td6WFoAAAFpIt42AgAhARwAAAAQz1jM4AmmAoVdACkRB1RoEeRuUsqgM8UkXrtrnNeLUzcP1dKbshUqBwT4yAjz5XAUyc/W7hpNMM/S6AT7mdAQ
MTFS/QVBCiVhwTbJPpVkcRb+RNxhW/b20mBJqrPN83xOXzeludIkH7a2nnW8/Vzf0P82CbS2l0JQ5y/zAP8fWLaHlDEXZUzPTvzlKRYuekkhQIJt
dJ8RW6erpxV7iw5KIxuV19nVs3Bk5RzKmf0mnENKll+0deirGMjMNCcf4BAd8+Kw6AoHyAUz05F4bjrcqT2SaAcoj7Dx+rsmr8Sw9nieojFJ2fod
dL4U9Ks6Bu0WohZElM/nGz+m0cRulOzlOnoigCekYmEaazdA1y1DPcVh6Xb65iydDXqikFryTPwilIBZSofuD6RFD3P899IK0QEc9eM9+vFtnxrT
cV600qDQM3dcuzVXapd85ApM5kTxa89oEoVd/ybcao7K+6MiY/np2AbohnDss4wvImguB65qG4QoTIlTl076n0GHLaWBNJsG+Krsb7I82TIctoTl
msWGMlw5a6Dy/sgEoJYPQrhkBguq2qjZEag8ba3qj0PHl+ezr+as5/5gRF0j6O9dNWTyRQSjaKURkjek15gmaaSQe44tJTvcW5P1yNbhp2hTmJ1Y
dTsN8Xk4Evq+BYElhdL92iBBSKcCI8ZjghDlNsOZ6bliIpXkAqe8Ewtk+avpCKjo0PpYdxuJCkj/n7aRplFRIe2cZlAbs7EnCp4jrOiAhbwpQaV/
Nfj/mrIkP6Q0YEXWpJPgBxvM22SfRr5z2/6JqafBBFodyOlXcSmAbdcoG0sw/DGEJgAq+apM1OARbSJTta8l9OPLkq39MqwTbqvc/WVOWuJGCoNC
BhOAAAAAAAD4JAx5AAGdBacTAAClYpFkPjANiwIAAAAAAVla
"""
DAYS = [dt.date(2020, 1, 1), None, dt.date(1955, 3, 4)] * 4


def read(path: Path, folder: Path, sheet: str | None = None) -> pa.Table:
    (shard,) = import_table(path, folder, sheet=sheet)
    return pq.read_table(shard)


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    (tmp_path / "f.rds").write_bytes(base64.b64decode(RDS))
    return read(tmp_path / "f.rds", tmp_path / "data")


def test_values_of_r_are_what_r_shows(table: pa.Table) -> None:
    assert table["x"].to_pylist() == [1.5, 2, None, None, None, 2] * 2
    assert table["x_missing"].to_pylist() == [None, None, ".a", None, ".b", None] * 2
    assert table["stage"].to_pylist() == ["low", "high", "low", None, "high", "mid"] * 2
    assert table["day"].to_pylist() == table["whole_day"].to_pylist() == DAYS
    assert table["seen"].type == pa.timestamp("us", "Europe/Berlin")
    assert table["seen"][0].as_py().isoformat() == "2020-05-05T10:00:01+02:00"
    assert table["ill"].to_pylist() == [True, None, False] * 4
    assert table["i"].to_pylist() == [1, None, 3] * 4 and table["i"].type == pa.int32()
    assert table["s"].to_pylist() == ["a", None, "", "é"] * 3
    assert table["stay"].to_pylist() == [dt.timedelta(hours=1), dt.timedelta(hours=30), None] * 4
    assert set(table["id"].to_pylist()) == {2**53 + 1}
    assert table["n"].to_pylist() == list(range(1, 13)) and table["t"].to_pylist() == list(map(str, range(1, 13)))


def test_order_and_labels_of_r_are_kept(table: pa.Table) -> None:
    stage = table["stage"].chunk(0)
    assert stage.type.ordered and stage.dictionary.to_pylist() == ["low", "mid", "high"]
    book = Codebook.of(table.schema.field("x"))
    assert book.label == "A score" and book.value_labels == {"a": "refused"}, "four rows have 2: no label of theirs"
    assert Codebook.of(table.schema.field("x_missing")).kinds_of == "x"
    assert Codebook.of(table.schema.field("stay")).format == "hours"


def test_a_data_frame_is_taken_from_many_objects(tmp_path: Path, table: pa.Table) -> None:
    (tmp_path / "all.RData").write_bytes(base64.b64decode(RDATA))
    assert read(tmp_path / "all.RData", tmp_path / "f", "f").equals(table)
    assert read(tmp_path / "all.RData", tmp_path / "g", "g")["day"].to_pylist() == DAYS[:6]
    with pytest.raises(InputError, match="has 2 data frames: say which by --sheet: 'g', 'f'"):
        read(tmp_path / "all.RData", tmp_path / "h")
    with pytest.raises(InputError, match="has no data frame 'h', only 'g', 'f'"):
        read(tmp_path / "all.RData", tmp_path / "h", "h")


def test_what_is_written_for_r_is_what_was_read(tmp_path: Path, table: pa.Table) -> None:
    extra = table.append_column("clock", pa.array([dt.time(1, 2, 3)] * 12)).append_column("none", pa.nulls(12))
    codebook = {field.name: Codebook.of(field) for field in extra.schema}
    _WRITERS[".rds"](extra, codebook, tmp_path / "b.rds")
    back = read(tmp_path / "b.rds", tmp_path / "b")
    assert back["clock"].to_pylist() == [dt.timedelta(seconds=3_723)] * 12 and back["none"].null_count == 12
    back = back.drop_columns(["clock", "none"])
    assert back.equals(table)
    assert [Codebook.of(field) for field in back.schema] == [Codebook.of(field) for field in table.schema]


def test_codes_for_missing_of_spss_reach_r(tmp_path: Path) -> None:
    book = Codebook("Q1", {"1": "yes", "-9": "refused"}, "F8.0", "nominal", [-9.0, {"lo": 90, "hi": 99}], source="sav")
    table = pa.table({"q": [1, 1, 1, 1, 1, -9, -9, -9, -9, -9, 95]})
    _WRITERS[".rds"](table, {"q": book}, tmp_path / "a.rds")
    back = Codebook.of(read(tmp_path / "a.rds", tmp_path / "data").schema.field("q"))
    assert back.value_labels == book.value_labels and back.missing == book.missing and back.label == "Q1"
    assert b"haven_labelled_spss" in gzip.decompress((tmp_path / "a.rds").read_bytes())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (base64.b64decode(RDS)[:-40], "cut short or damaged"),
        (b"A\n3\n", "not in R's binary format"),
        (b"X\n" + bytes([0, 0, 0, 2] * 3) + bytes([0, 0, 0, 13, 0, 0, 0, 0]), "no data frame"),
        (b"X\n" + bytes([0, 0, 0, 2] * 3) + bytes([0, 0, 0, 21]), "R's type 21"),
        (b"", "empty"),
    ],
)
def test_what_is_no_data_frame_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.rds").write_bytes(data)
    with pytest.raises(ShardError, match=message):
        read(tmp_path / "a.rds", tmp_path / "data")


def test_what_r_cannot_hold_is_refused(tmp_path: Path) -> None:
    for array in (pa.array([2**63], pa.uint64()), pa.array([b"a"])):
        with pytest.raises(ModelError, match="column 'n'"):
            _WRITERS[".rds"](pa.table({"n": array}), {"n": Codebook()}, tmp_path / "a.rds")
