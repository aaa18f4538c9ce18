"""Iceberg tables are read by their own metadata: rows of now, and no others."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.avro import AvroError, read_avro
from shardsynth.data.shards import open_shards, read_batches
from shardsynth.errors import ShardError

#: A table by pyiceberg 0.12.0: five rows, overwritten by three others, and two appended.
TABLE = """
/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Mf/EGRdADoLvBunjDRE4cIHdej848CSZUF4MreWZb4tRIOVj0SwB3uDubcMl9PzMPY8Hc/tKQmy5DB8
yZxneGv71LjuIRozHUMwSrjn0vaxao2xnvVVV9lju8WrOElABEhvPVTK7Zw/esMdiW3htP2k2Z4OlfhmJ7W6a9toO2Vd1FXHMpLM2+CxM24r5VSk
V7yxUStCGsSNb8PLcMj+Qc4GQLJh68Is4TzmPLlIvsBUDzZ6p2/Aqj2SRFM/q7FQrvKLMohVzxqiK3rnOkjtK/MLZDSrHhFSVlYkanG2lOY58jK3
PAwozwEDD8BU4+IkXnxZnRKWkfXCh6SvN8m0KvSc4UrRldNaD70WuI1Kxf/KT1t3gCut7jFgLMwyv5FQAm2OulN1kmNxK840cWNB5ecfIJXBe38W
7DwQcYfdqphh8jgCfbIRHslgSAlx25Ch5osrXRS/93lmJM8F7mEyulAj9MIAJcmtmoKayJkopqEfnAuTqPrcMvmTpbhUKRl2jqd8Rs1oaD5nuv/Q
vcggNmW3MSik6XCVTL5kAF4xl9EP+1fUHH9BxkTkWdB2aE2YEqAmS8Fx2A8fI6tTRbsiJ8zuWav/I0Jws9ZoEYcH6BOX3/BIlzhEX6Ej6jpv8KZ5
pYeeS7nwIG/QC9X3Lea4SfwLtmMdnmrzrEgVr83zvQG8hc7ulnULKEV/i+2DFH9N9w3jFpAfzmYiNS6X4b1o+BtxZFbUW5S10iukEQNA2h8esKeN
V593VBhv95kHY4xcoXa6gP6y9drhUlX81xICQjbod24WpktwHT+cA2D005Jn0vF+Lp/eczTkOHqGxiSURT49Jd5kSndfWePvVQ9SldJc/ce9Y/Px
UGqtkDQhgjHKuNZdg+qFE3C+nQmOmDGn+7Ixw9+y+PREHReCjWEblubNw+ukqeOpmKEXTk7QOPf9agKPygXd3db+PsapVagHIA075M/O3pkXRq8H
puhKKKh7t2NIL3Ufg/3ScU+afOmUhBsPMi2fCvCMeZi/0NwU6dzVFfJv0KEdUCxe/UinxzZ0VJUxSJn4rhiuwMm6IKjxPwCBDJfgKnbAw6x3rI55
6L/QuyLfoIRDZF1CVH84SX95qQ378InZR0CWGA1YLUm5H2C11NsYBudwOoP7p10ZFw+Xw8sadhlcgO2+9A0gjruooeXOikWBfR/4E2Yq5thzO15b
KjhK3ux6oIkx6IO23R/zBPFhtG3xo48yUzwlT1vaQ7qqDi3aE86n19kB7VJr98JrhJEY6Vo2QtiTxQem9SQ4sVn/8qtBnjEU+rPZMhGKkSRQGLdi
0SfR4aCGyVGLsKnW7W07qkmZpN49h4G12tPNvkzn8ZOcWTZs6vcFi1N+Sq7/nlM8lhHfRBFNNIS4B78WPoofi9TsNn9sdzzi4NUdiosC1mgxXdpX
6UWBIW7Go405uCooDnK9hBbDAKK9chpECp1RsOQEfwdYhwd3K02iohoxcqwvhXwvNPS8dOrT8RkEtTe1S4uuvPOwlBRRJ6hT79qBSNdvtm2f43bY
AwwyZNrmzsshuFauIM3ecTRf7TdnBvXkFTXm4n9o43ukEMJBQTQmOs08kh5qJJnCfMAeNYzE+9RBgmCqhtJneG3FPg9M8irkEFw3v9aBlVLjk9om
jMgs+kWKsx7ebkHjTJKDrZL2jJ3P/D41lEiyooRm3Iy+6bdki6awjmvHEZ+fpniXZNY3QVGCd2mNLcw41KFEsfr18iCGqtBXfXKX14kjkGitq9pd
bhcRVxcbVzRu0VxdTXdalTlrP5hptdlom0i6j5MEzAxICvv6HWTU7m37bBRggX57j5ob2e6xVAwUioMOKUcnNkeVctaAzj+IBj4+3O4KhcAY8KEg
q58pOq8zFnbSkQ/TvxC6SJacuEFqKDbx1q4QAXoUY8MZF6WPNbt5qkREwlQ6WO1ty26c9idGLIRs8/1zfS9LkYMjXZ4zPNrNCVcor1UF8Ht7jnuI
zz5IlHwSmSdS5/jCihICWRo+9TQ/FjYpAXNFn3T1VyYRZcJIhfwQCFnuiIJ7A+pkBBWSOUA5IbGoxJJRU7Qg4p9692dwpea5O1APxe2CAmbL12TK
HfX7PiWgmW5erulr36dY7cF8vgYUZeINMlyrAG8LWoRy8cU/zjo/tGjB6zvtImVQUcQLVhgMIaKZCSp1Z2XNqXRV9yw/oEeFfs5J9PGartCPvh7j
H6HXLmrEOfQ2irKJryZRrDXC+IadVoEk+F9v6lxqrdBfsjY7VKonZ8RtWnJ1PM13UlqtKPkJPxI/hCE9UzaPoMUKcLC7Jk08+RxR3kCj0ruZjX9V
0vLYGU1MdChhRJ8S8BhlR3G6MQMDHv0iSpZ2PXIZBHKCRBLSROO0THTpDMYbsuQcuokxsUB4T0Gt9Gcix/XzivfH8Kh3meh0b37hLP1yu6qxmI3t
/6cyfPZ75iT1A4CUBWM77S6hX+a1ROSU52WvCrSXhQEk5ON1yHSpwNsWOXxnjVpu61Cx1m7TmCdYP9HFoocH252uf1McYCu+ogC4G75vcVp3yfw/
8IlpVdQCm+91sjUBR8JTeeFc6Fqom2Lol4pR9UClpyj9oAB6CBU5QLFOD6Rh08VEr5ilNQuXplitd1l0xoe2qUuIp2fj/bMTY5cOG9ujie3t313E
6E94PZWP0uzrVKGvHfDFv7ANP27zJTvRfIRiSkzHfHQ56RhnFUcwAuLsEl3uwWUtyvqATYlomUL4xvqtR/QcMvzeKhkP+dAjMcvVBXIEqf+7Q7VE
bsxIsHF8d4jXs6kDhrwBySNerm26cnyWvVD/ir2PnXyXpQnaaJGuKHoWoWphsHNn8x6WEUocC1UFjQDOkHvmNXEZlBWkvEADfPDbkfCWfH0anN0m
4LTUNBeJT9F6LDurNB3h+VaVaDM3lVEibk94UjlU6QfEH5cyvG17pHVlFxImp+qSQpgJiopaxRZXzcs/EJlfcIQUulz+QYF9RTuPcvmXwmKqxDma
LSqktvfL3qaQpG6G0XWf3Lc8Fx1I6A5Kwfa9xBPfuiYkLBZZd60M5+QOBmDTVZPGYIeeUpsnx/6WAEVPAUdw8YrCNVQtLIfLBaVoX1m3gxErzAk0
FAL9ou4CWoyuMslVAAktHJwO4zenRwrunSVLsmq+Jvna7gvAW4IY+t0HtkqKMqtlLGtxGGbgsZZzrXosqFRDdedxTmAKhstyUGWEOKDG730TEOHY
K6Q1Xnl2/LsOKZQu7UfkNRlGna/fCkX0H13QuWpXPSmlyfTstDfLEOU0smT98obSIjPIPuD9ZTJWMI2hdZ5cr16nbBREjaGy01cz0cmpP8mV4hPS
2rJ3rYsbNmYly/Bs45SIZiUlVaBjm354LFpVpbcwNZO40H431rPgbxlpxnguuY4JnCDqO5gLMNk0zfh87xWpdL6JdWg72nSj0AUwVWorLMjjMg3h
6LsN0vZc9ew8IBGRgQG3oRqphsSOodabvabDJwRZA/AQLZA5WAhFeGzFkRFF7Gv6KwJ0+t4dLgAvrjFxiH1bbhwLvQb46U2Vgawy1ZD4ADYe7qaC
JIpNM2EWfphyQe1Tmm6+8D1DPL87EpGcFl3RIaUiw1LIQr5aTkyJ6fcSO0wumIr9jO0MsZ+1wGKSsNqPuaHAl8RySicPnr1dELTYcf68m007KoV3
HV6iv3y68TkqtJ8i2Z94rIWjpu4ChSrps9aMEoETHWBKRVGeciOyWcX4j5dLRnlS9NVvKIOLRaQmaoO4DqLxaFm//v1Acvd142zBB4AAwr/YFcjN
7SR+svLdD4l78u0zHEZnGifjMQWDg/yRhAQ0G52SNpvJ+d2kF5jfZZMzhpFvaLqqzBsf/m0+vkINGpX0qi49BcrvmeoEWR2l97fKO87i3HaI1ToX
SGlVMCtb5Bmkl6GIgbVWaO7HhsWBrcsfSPfwHN1WuhZwGJBWm0o36z+7dprr1LBauVY9L16pReavUDj/IWL7cBf4qVoC30zcgSjRDd6kCpIfI5OV
pqIdFqcgHTAH29iLIiYqEV4ojHg6xPuQS4xx5oV89kk+BfoqwEUeowP8OcL256/O4ffRa//FuQBi4XCsKa8cYKLxCS6Ur7JLswhxUaotBAb0n8AP
1EimXmz5YZ1gX9gdJT+CprpBAqmPBVgp+c0GDqiEOxycW6+X5H4NrLiyfDMsnSBHq2WMo3FrsfeDaY+LzPa8V9LaAUqpjk32ZhUEqw/vBEIdJWro
pUioomB5bfuCKEHVEhxJLxcVa5eV06h6IPdwTb5DC/4uCHaVmasSvYpDVRhjk6deKLffwxduRpJf/kDtN9sYmbZ32ETwP61DX005jGsj+HkJLmz7
mh0cvimhAk6nU/BPt+vptJcSUouWiDD39rMO4yUo+I5qp3Q6ubo2aG/ZBeP4oQ97xthjCfvlPFWXRt7RzKIGvDlZ1t3Y2bid97yRcbo22wlu9mXo
SOESG7FBTy4n/5HbI2ueUmz43yKYYj2lF5oUrmzbKPocyGN+UUJNpjAQzSqoM11bJta+G9NnT0bgjxfGt7A80yDOe1G1xf2faw8+Ro62ppJ0l4Gm
Y0+i8uNO8DXaaQlYVwaLsvUPueP2wIeZTllAaYJ3ug/GxBTG9j8AJSYcgnYkdWaahzAz6UfO5qJC/ialyv2rPR3w45TPcrdcyvBnXAtezAOeWjZh
eFN2tnftBsKkKE8CS5/Ta6zK9h8HwGZUwd6rAJ3h0oZKlsQG35pdu+i/kr99jLBB0KRyhdRr+BV4HkdX3vTx3FaeyFztcX55k7btzjMg0QE3SCOK
2x4FrqA096zMBBwFWUmPGUroHhN5C9f0y+vUDZKxSYzAico5Ln+YaGKQ0qUnjmGrYFoT3QKc+XJzHBWsLd6ASThWPeIXZlBdoGPbCDxrXFt/xibp
aVY5n+0gN0lIyxgA8L1I4zq+aiBkxWsOPeMpgdth0pky4uOICSa318yrkNR2Marl6fMTiSHHlI/opN0t4PrcBwHrRIv/yJquOur+zJyiEJus9bOA
GlLNdvRSPBNiCVfe2C7/jiPnns5huRnrGYy1ZMCq+caPT2ZThKlx2N0njP5NFpx5jvvhSsShP3QZqUWfcCFtkwXpzMQxpL8fitpvIyA19kDAce0t
n5s8X7aa1kV7E7yAmMxHLgxf+MsSY6FPJ9HZAemkRUUgRRrpvgJSH0yafhz/iRZ8Q8LIIRZLkIDriq2uWdpjSsjNjqDhs/RMFckmIkO1BrbpYex2
LZTWDpGx0hplo87GB9r8EYQLO+BH5WMXQOG1r7lFiykGgETurM3M+6ohIwHiAeKZlrsAFj6Tox2GwoAb4/9hhEhaGwhu0i2zbLeS6+FvGZBBiF0n
6ycrBQwFBHvb318U75sqoJTJvWvxE/NbgEtA50zLWmcbpW3RRBhR14l9j1j63NElleRFW24vWyvkMrYW5ShGO04oAqwVeYzD/G9oJO3XfS3Z6vEm
l4C9IAzuyhHbggDxTCqirUiJF+2iX0y/A8AQ8b3y4PFwh0ksC20u8KCsIIgFowkXLpd38spnyxztPmBCJ/0bwDo2sDTcoiC5hohNeqZ5hiZ4SK1M
R39Fynmp0u1yow/Te8LKlB5lg6BfTd/OjBgAAJqH3fQf7q3TAAGAIYCQAwC5myMascRn+wIAAAAABFla
"""


def ids(folder: Path) -> list[int]:
    data = open_shards(str(folder))
    batches = (batch for shard in data.shards for batch in read_batches(shard, data.schema))
    return sorted(n for batch in batches for n in batch["id"].to_pylist())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(TABLE))) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "t"  # it was written elsewhere: a folder can be moved


def test_rows_of_now_are_read(table: Path) -> None:
    assert len(list((table / "data").iterdir())) == 3
    assert ids(table) == [100, 101, 102, 200, 201]


def test_what_cannot_be_read_is_refused(table: Path) -> None:
    newest = max((table / "metadata").glob("*.metadata.json"))
    text = newest.read_text()
    data = json.loads(text)
    data["schemas"][0]["fields"][1]["name"] = "gender"
    newest.write_text(json.dumps(data))
    with pytest.raises(ShardError, match="were renamed, added or dropped .* plain Parquet first"):
        open_shards(str(table))
    newest.write_text(json.dumps({**json.loads(text), "location": "s3://bucket/t"}))
    with pytest.raises(ShardError, match="has files in other places"):
        open_shards(str(table))
    newest.write_text(json.dumps({**json.loads(text), "current-snapshot-id": -1}))
    with pytest.raises(ShardError, match="has no rows"):
        open_shards(str(table))
    newest.write_text(text[:100])
    with pytest.raises(ShardError, match="metadata of the Iceberg table cannot be read"):
        open_shards(str(table))
    newest.write_text(text)
    for path in (table / "metadata").glob("snap-*.avro"):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ShardError, match="metadata of the Iceberg table cannot be read"):
        open_shards(str(table))


def number(value: int) -> bytes:
    coded, out = (value << 1) ^ (value >> 63), b""
    while coded > 0x7F:
        coded, out = coded >> 7, out + bytes([coded & 0x7F | 0x80])
    return out + bytes([coded])


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return number(len(raw)) + raw


def avro(schema: Any, rows: list[bytes], codec: str = "null") -> bytes:
    block = b"".join(rows)
    if codec == "deflate":
        block = zlib.compress(block)[2:-4]
    elif codec == "snappy":
        block = pa.compress(block, "snappy", asbytes=True) + zlib.crc32(block).to_bytes(4, "big")
    elif codec == "zstandard":
        block = pa.compress(block, "zstd", asbytes=True)
    header = number(2) + text("avro.schema") + text(json.dumps(schema)) + text("avro.codec") + text(codec) + number(0)
    mark = b"0123456789abcdef"
    return b"Obj\x01" + header + mark + number(len(rows)) + number(len(block)) + block + mark


def record(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields]}


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_avro(tmp_path: Path, codec: str) -> None:
    inner = record("point", ("x", "double"), ("y", ["null", "int"]))
    schema = record(
        "row",
        *(("a", inner), ("b", "point"), ("c", {"type": "array", "items": "string"}), ("d", "boolean")),
        *(
            ("e", {"type": "fixed", "name": "f", "size": 2}),
            ("g", {"type": "enum", "name": "h", "symbols": ["p", "q"]}),
        ),
    )
    point = b"\0\0\0\0\0\0\xf8\x3f"
    row = point + number(0) + point + number(1) + number(-3) + number(3) + text("s") + text("t") + text("") + number(0)
    row += b"\x01zz" + number(1)
    (tmp_path / "a.avro").write_bytes(avro(schema, [row, row], codec))
    expected = {
        "a": {"x": 1.5, "y": None},
        "b": {"x": 1.5, "y": -3},
        "c": ["s", "t", ""],
        "d": True,
        "e": b"zz",
        "g": "q",
    }
    assert read_avro(tmp_path / "a.avro") == [expected, expected]
    (tmp_path / "a.avro").write_bytes(avro(schema, [row, row], codec)[:-1])
    with pytest.raises(AvroError):
        read_avro(tmp_path / "a.avro")


@pytest.mark.parametrize(
    ("status", "content", "form", "message"),
    [
        (1, 1, "PARQUET", "has rows deleted within files"),
        (1, 0, "ORC", "has files that are not Parquet"),
        (2, 0, "PARQUET", "has no rows"),
        (0, 0, "PARQUET", None),
    ],
)
def test_deletes_and_other_formats_are_refused(
    tmp_path: Path, status: int, content: int, form: str, message: str | None
) -> None:
    where = "file:///elsewhere/t"
    data = record("data_file", ("content", "int"), ("file_path", "string"), ("file_format", "string"))
    entry = number(status) + number(content) + text(f"{where}/data/a.parquet") + text(form)
    for folder in ("data", "metadata"):
        (tmp_path / folder).mkdir()
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "data" / "a.parquet")
    pq.write_table(pa.table({"id": [3, 4]}), tmp_path / "data" / "old.parquet")
    manifests = avro(record("manifest_file", ("manifest_path", "string")), [text(f"{where}/metadata/m.avro")])
    (tmp_path / "metadata" / "list.avro").write_bytes(manifests)
    manifest = avro(record("manifest_entry", ("status", "int"), ("data_file", data)), [entry], "deflate")
    (tmp_path / "metadata" / "m.avro").write_bytes(manifest)
    snapshot = {"snapshot-id": 7, "manifest-list": f"{where}/metadata/list.avro"}
    metadata = {
        **{"location": where, "current-snapshot-id": 7, "snapshots": [snapshot], "current-schema-id": 0},
        "schemas": [{"schema-id": 0, "fields": [{"id": 1, "name": "id"}]}],
    }
    (tmp_path / "metadata" / "v2.metadata.json").write_text(json.dumps(metadata))
    if message is None:
        assert ids(tmp_path) == [1, 2]
        return
    with pytest.raises(ShardError, match=message):
        open_shards(str(tmp_path))
