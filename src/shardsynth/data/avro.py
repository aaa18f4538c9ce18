"""Files of Avro, as far as Iceberg's lists of files need them (https://avro.apache.org/docs/1.12.0/specification/)."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa


class AvroError(Exception):
    """The bytes are no Avro file, or one with a type or a compression that is not read."""


def read_avro(path: Path) -> list[dict[str, Any]]:
    """The records of a file.

    Raises:
        AvroError: It is none.
    """
    try:
        cursor = _Cursor(path.read_bytes())
        if cursor.take(4) != b"Obj\x01":
            raise AvroError("no Avro")
        header = cursor.value({"type": "map", "values": "bytes"}, {})
        schema, codec = json.loads(header["avro.schema"]), header.get("avro.codec", b"null").decode()
        mark = cursor.take(16)
        records: list[dict[str, Any]] = []
        while not cursor.ended:
            count, size = cursor.long(), cursor.long()
            block = _Cursor(_unpacked(cursor.take(size), codec))
            names: dict[str, Any] = {}
            records += [block.value(schema, names) for _ in range(count)]
            if cursor.take(16) != mark:
                raise AvroError("a damaged block")
        return records
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError, zlib.error, struct.error) as error:
        raise AvroError(type(error).__name__) from None
    except (pa.ArrowException, MemoryError):
        raise AvroError("a damaged block") from None


def _unpacked(block: bytes, codec: str) -> bytes:
    if codec == "null":
        return block
    if codec == "deflate":
        return zlib.decompress(block, -15)
    if codec == "zstandard":
        return bytes(pa.CompressedInputStream(pa.BufferReader(block), "zstd").read())
    if codec == "snappy":
        return bytes(pa.decompress(block[:-4], _Cursor(block).varint(), "snappy", asbytes=True))
    raise AvroError(f"the compression {codec!r}")


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    @property
    def ended(self) -> bool:
        return self._place >= len(self._data)

    def take(self, count: int) -> bytes:
        if count < 0 or self._place + count > len(self._data):
            raise AvroError("cut short")
        self._place += count
        return self._data[self._place - count : self._place]

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise AvroError("a damaged number")

    def long(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def value(self, schema: Any, names: dict[str, Any]) -> Any:
        """The next value, of a schema; ``names`` are the schemas with a name so far."""
        if isinstance(schema, list):
            return self.value(schema[self.long()], names)
        if isinstance(schema, str):
            schema = names.get(schema, {"type": schema})
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.value(kind, names)
        if "name" in schema and kind in ("record", "fixed", "enum"):
            names[schema["name"]] = schema
        if kind == "record":
            return {field["name"]: self.value(field["type"], names) for field in schema["fields"]}
        if kind in ("array", "map"):
            return self._blocks(schema, names)
        if kind in ("int", "long"):
            return self.long()
        if kind == "enum":
            return schema["symbols"][self.long()]
        if kind in ("bytes", "string"):
            raw = self.take(self.long())
            return raw if kind == "bytes" else raw.decode()
        if kind == "fixed":
            return self.take(schema["size"])
        plain = {"null": 0, "boolean": 1, "float": 4, "double": 8}
        if kind not in plain:
            raise AvroError(f"the type {kind!r}")
        raw = self.take(plain[kind])
        if kind == "boolean":
            return raw != b"\x00"
        return None if kind == "null" else struct.unpack("<f" if kind == "float" else "<d", raw)[0]

    def _blocks(self, schema: dict[str, Any], names: dict[str, Any]) -> Any:
        listed: list[Any] = []
        pairs: dict[str, Any] = {}
        while count := self.long():
            if count < 0:
                self.long()
            for _ in range(abs(count)):
                if schema["type"] == "array":
                    listed.append(self.value(schema["items"], names))
                else:
                    key = self.take(self.long()).decode()
                    pairs[key] = self.value(schema["values"], names)
        return listed if schema["type"] == "array" else pairs
