"""Damaged and odd tables for `import`: whole shards, or one clear error and no shards."""

from __future__ import annotations

import bz2
import gzip
import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather
from tests.runs.fuzz.frame import Subject, Wrong

from shardsynth.data.importer import import_table
from shardsynth.errors import ShardsynthError

#: Cells of a text table.
CELLS = (
    "", "1", "-1", "007", "1.5", "1e400", "NaN", "inf", "true", "2020-01-02", "2020-99-99", "9999-12-31 23:59:59.999999999", "x",
    '"', '""', '"a,b"', '"a\nb"', "\r", "\0", "é", "x" * 5000, "9" * 30, "NA", "=1+1", " ", "\t", ";", "|", "#",
)  # fmt: skip
#: More unpacked bytes than any of these tables has.
MOST = 20_000_000


@dataclass(frozen=True)
class Prepared:
    """The folder, and whole files by the end of their names."""

    folder: Path
    files: dict[str, bytes]


def prepare(folder: Path) -> Prepared:
    """One table in every format."""
    import openpyxl

    rows = [("a", "b", "c"), *((i, f"text {i}", i / 4) for i in range(300))]
    text = "\n".join(",".join(map(str, row)) for row in rows).encode() + b"\n"
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    workbook, table = io.BytesIO(), pa.table({"a": list(range(300)), "b": ["x", "y", None] * 100})
    book.save(workbook)
    files = {".csv": text, ".tsv": text.replace(b",", b"\t"), ".xlsx": workbook.getvalue()}
    files[".csv.gz"], files[".csv.bz2"] = gzip.compress(text), bz2.compress(text)
    with pa.output_stream(folder / "t.zst", compression="zstd") as out:
        out.write(text)
    files[".csv.zst"] = (folder / "t.zst").read_bytes()
    feather.write_feather(table, folder / "t.feather", compression="zstd")
    files[".feather"] = (folder / "t.feather").read_bytes()
    with pa.ipc.new_stream(folder / "t.arrows", table.schema) as writer:
        writer.write_table(table)
    files[".arrows"] = (folder / "t.arrows").read_bytes()
    return Prepared(folder, files)


def attempt(prepared: Prepared, random: Random) -> str:
    """Damage a file, or write odd text; import it."""
    out = prepared.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    if random.random() < 0.4:
        end, content = ".csv", _odd_text(random)
        if random.random() < 0.2:
            content = content.decode().encode(random.choice(("utf-16", "utf-8-sig", "latin-1")), errors="replace")
    else:
        end = random.choice(sorted(prepared.files))
        content = _damaged(bytearray(prepared.files[end]), random)
    path = prepared.folder / f"table{end}"
    path.write_bytes(content)
    try:
        parts = import_table(path, out, rows_per_shard=random.choice((7, 1000)), max_unpacked=MOST)
    except ShardsynthError:
        if out.exists() or any(p.name.startswith(".") for p in prepared.folder.iterdir()):
            raise Wrong("an import that failed left something") from None
        raise
    tables = [pq.read_table(part) for part in parts]
    for table in tables:
        table.validate(full=True)
        if table.schema != tables[0].schema:
            raise Wrong("the shards have different schemas")
    return "imported"


def _odd_text(random: Random) -> bytes:
    width = random.choice((1, 2, 3, 30))
    delimiter, end = random.choice((",", ";", "\t", "|")), random.choice(("\n", "\r\n", "\r"))
    lines = [delimiter.join(random.choice((*[f"c{i}"] * 40, "", "c0")) for i in range(width))]
    for _ in range(random.choice((0, 1, 5, 200))):
        cells = width if random.random() < 0.98 else random.randrange(width + 2)
        lines.append(delimiter.join(random.choice(CELLS) for _ in range(cells)))
    return end.join(lines).encode()


def _damaged(content: bytearray, random: Random) -> bytes:
    kind = random.choice(("flip", "flip", "cut", "zero", "insert", "empty", "twice", "whole"))
    place = random.randrange(len(content))
    if kind == "flip":
        for _ in range(random.choice((1, 3, 20))):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "zero":
        content[place : place + 50] = bytes(len(content[place : place + 50]))
    elif kind == "insert":
        content[place:place] = bytes(random.randrange(256) for _ in range(random.randrange(100)))
    elif kind == "empty":
        content.clear()
    elif kind == "twice":
        content += bytes(content)
    return bytes(content)


SUBJECT = Subject("import-files", prepare, attempt)
