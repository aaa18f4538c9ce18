"""Inputs that are not tables, unpack to too much, or have lines of megabytes: refused by name, in seconds."""

from __future__ import annotations

import bz2
import gzip
import os
import socket
import threading
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from shardsynth.commands.old_config import read_old
from shardsynth.data.importer import import_table
from shardsynth.data.metadata import read
from shardsynth.data.shards import open_shards
from shardsynth.data.unpacking import parse_size
from shardsynth.errors import InputError, ShardError
from shardsynth.job import Job

ROWS = "".join(f"{i},x\n" for i in range(2000))


def test_a_fifo_a_device_and_a_socket_are_refused_wherever_a_file_is_opened(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "b.parquet")
    for source in (str(tmp_path), f"{tmp_path}/*.parquet", str(tmp_path / "b.parquet"), [str(tmp_path / "b.parquet")]):
        with pytest.raises(InputError, match=r"b.parquet: is a FIFO \(named pipe\)"):
            open_shards(source)
    with pytest.raises(InputError, match="is a device"):
        open_shards("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "c.csv"))
        with pytest.raises(InputError, match="c.csv: is a socket"):
            import_table(tmp_path / "c.csv", tmp_path / "out")
    os.symlink(tmp_path / "b.parquet", tmp_path / "link.yaml")
    for read_it in (Job.load, read_old, lambda path: read(path, pa.schema([]))):
        with pytest.raises(InputError, match=r"link.yaml: is a FIFO"):
            read_it(tmp_path / "link.yaml")


@pytest.mark.parametrize(("ending", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress), ("", bytes)])
def test_text_that_unpacks_to_more_than_the_limit_is_stopped(tmp_path, ending, packed):
    path = tmp_path / f"t.csv{ending}"
    path.write_bytes(packed(f"a,b\n{ROWS}".encode()))
    assert import_table(path, tmp_path / "whole", max_unpacked=50_000)
    with pytest.raises(ShardError, match=r"t.csv.*unpack to more than 10.0 kB: stopped; .*--max-unpacked"):
        import_table(path, tmp_path / "out", max_unpacked=10_000)
    assert not (tmp_path / "out").exists()


def test_by_itself_the_limit_is_a_hundred_times_the_size_and_no_small_file_meets_it(tmp_path, monkeypatch):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"1\n" * 200_000))
    assert 100 * path.stat().st_size < 400_000  # it unpacks to more, and to less than a gigabyte
    assert import_table(path, tmp_path / "out")
    monkeypatch.setattr("shardsynth.data.delimited.LEAST_TEXT", 1000)
    with pytest.raises(ShardError, match="unpack to more than"):
        import_table(path, tmp_path / "other")


def test_a_workbook_and_a_feather_file_are_stopped_too(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for i in range(500):
        book.active.append([f"c{i}" if i == 0 else "x" * 50])
    book.save(tmp_path / "t.xlsx")
    feather.write_feather(pa.table({"a": np.zeros(100_000)}), tmp_path / "t.feather", compression="zstd")
    for name in ("t.xlsx", "t.feather"):
        with pytest.raises(ShardError, match=f"{name}: .*unpack to more than 20.0 kB"):
            import_table(tmp_path / name, tmp_path / "out", max_unpacked=20_000)
        assert import_table(tmp_path / name, tmp_path / name.replace(".", "-"))


def test_a_sheet_with_a_row_of_an_endless_number_ends(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.active.append([1])
    book.save(tmp_path / "t.xlsx")
    with zipfile.ZipFile(tmp_path / "t.xlsx") as old, zipfile.ZipFile(tmp_path / "far.xlsx", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'<row r="2"', b'<row r="99999999999"'))
    with pytest.raises(ShardError, match="has more than 1,048,576 rows"):
        import_table(tmp_path / "far.xlsx", tmp_path / "out")


@pytest.mark.parametrize("text", ["2GB", "500 MB", "1.5gb", "1000", "7 B"])
def test_sizes(text):
    assert parse_size(text) == {"2GB": 2e9, "500 MB": 5e8, "1.5gb": 1.5e9, "1000": 1000, "7 B": 7}[text]


@pytest.mark.parametrize("text", ["", "0", "-1GB", "many", "1e9", "5XB", "9" * 30])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match="wanted a size such as 2GB"):
        parse_size(text)


def test_after_an_error_no_thread_reads_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 1000 + "1,2,3\n" + "1,2\n" * 8_000_000)
    started = time.monotonic()
    with pytest.raises(ShardError, match="row 1001 .* has 3 fields where the header has 2"):
        import_table(path, tmp_path / "out")
    seconds = time.monotonic() - started
    position = path.stat().st_size
    assert seconds < 60, f"{seconds:.1f} s of {position:,} bytes"
    assert threading.active_count() < 20


@pytest.mark.parametrize("text", ["x" * 4_000_000, "x" * 4_000_000 + "\n1\n", '"' + "x" * 4_000_000, '"' * 4_000_001])
def test_a_header_of_megabytes_is_refused_in_linear_time(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    started = time.monotonic()
    with pytest.raises(ShardError, match=r"the header (is longer|cannot be read)"):
        import_table(tmp_path / "t.csv", tmp_path / "out")
    assert time.monotonic() - started < 60


def test_a_value_of_a_megabyte_is_read(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1," + "x" * 1_500_000 + "\n2,y\n")
    (part,) = import_table(tmp_path / "t.csv", tmp_path / "out")
    assert [len(text) for text in pq.read_table(part)["b"].to_pylist()] == [1_500_000, 1]
