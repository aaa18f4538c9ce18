"""A file of named arrays and JSON objects. Its bytes depend on its content alone.

It is a zip archive with fixed dates, order and compression: equal content, equal bytes, equal checksum. It holds plain
``.npy`` and JSON, never a pickle.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from shardsynth.errors import RunError

Array = npt.NDArray[Any]
Member = Union[bytes, Array, dict[str, Any]]

_DATE = (1980, 1, 1, 0, 0, 0)


def pack(members: Mapping[str, Member]) -> bytes:
    """Bytes of an archive.

    Args:
        members: Content by name. An array becomes ``name.npy`` and a dictionary ``name.json``. ``bytes`` are kept as
            they are, under ``name``, and are not compressed again.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(members):
            member = members[name]
            if isinstance(member, np.ndarray):
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.ascontiguousarray(member), version=(1, 0), allow_pickle=False)
                name, content = f"{name}.npy", buffer.getvalue()  # noqa: PLW2901
            elif isinstance(member, dict):
                text = json.dumps(member, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
                name, content = f"{name}.json", text.encode()  # noqa: PLW2901
            else:
                content = member
            stored = (
                isinstance(member, bytes) or len(content) < 64
            )  # members of bytes are Parquet files, which are compressed already
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, content, compresslevel=1)
    return out.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """Members by name, from the bytes that ``pack`` made."""
    members: dict[str, Any] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            raw = archive.read(name)
            if name.endswith(".npy"):
                members[name[:-4]] = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
            elif name.endswith(".json"):
                members[name[:-5]] = json.loads(raw)
            else:
                members[name] = raw
    return members


def write(path: str | Path, members: Mapping[str, Member]) -> None:
    """Write an archive to ``path``: a temporary file, which the caller renames when its task commits."""
    Path(path).write_bytes(pack(members))


def read(path: str | Path) -> dict[str, Any]:
    """Members by name, from a file that ``write`` made.

    Raises:
        RunError: The file is missing, cut short or not an archive.
    """
    try:
        return unpack(Path(path).read_bytes())
    except (OSError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise RunError(f"{path}: not a readable summary ({type(error).__name__}); delete it and resume") from None


def value_to_json(value: Any) -> Any:
    """A value of a column of text or bytes, as JSON can hold it: bytes become base64 text."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def value_from_json(value: Any, binary: bool) -> Any:
    """Inverse of ``value_to_json``; ``binary`` says whether the column holds bytes. None stays None."""
    return base64.b64decode(value) if binary and value is not None else value
