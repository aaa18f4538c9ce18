"""How much a packed file may unpack to: some small files unpack to more than any memory or disk holds."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from shardsynth.errors import InputError, ShardError
from shardsynth.standalone.files import human_bytes

#: A file may unpack to so many times its size where nothing else is said, and always to so many bytes.
TIMES = 100
LEAST_TEXT, LEAST_BOOK = 1_000_000_000, 256_000_000
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass
class Unpacked:
    """Counts the bytes that a file unpacks to.

    Attributes:
        path: The file.
        limit: Most bytes.
        seen: Bytes so far.
    """

    path: Path
    limit: int
    seen: int = 0

    @classmethod
    def of(cls, path: Path, most: int | None, least: int) -> Unpacked:
        """With the limit that the user gave, else with that of the file's size, and at least ``least`` bytes."""
        return cls(path, most if most is not None else max(least, TIMES * path.stat().st_size))

    def add(self, count: int) -> None:
        """Count bytes; ShardError where they are too many."""
        self.seen += count
        if self.seen > self.limit:
            raise ShardError(
                f"{self.path}: {human_bytes(self.path.stat().st_size)} unpack to more than "
                f"{human_bytes(self.limit)}: stopped; if the file is what you expect, `--max-unpacked SIZE` raises the "
                "limit"
            )


def check_zip(path: Path, most: int | None) -> None:
    """Refuse a workbook whose members unpack to too much, by the sizes that it states; what is no zip passes.

    Raises:
        ShardError: They do.
    """
    unpacked = Unpacked.of(path, most, LEAST_BOOK)
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [member.file_size for member in archive.infolist()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return
    unpacked.add(sum(sizes))


def parse_size(text: str) -> int:
    """Bytes of a text such as ``2GB`` or ``500 MB``; InputError for any other."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?)\s*([a-zA-Z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS or float(match[1]) == 0:
        raise InputError(f"--max-unpacked {text[:40]!r}: wanted a size such as 2GB or 500MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
