"""A file of named arrays and JSON with bytes that depend on nothing but its content.

A zip archive with fixed dates, fixed order and fixed compression: equal content, equal bytes, equal checksum. Plain
``.npy`` and JSON inside, never a pickle.
"""

from __future__ import annotations

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
    """Members by name: ``bytes`` as they are, not compressed again; arrays as ``name.npy``; others as ``name.json``."""
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
            stored = isinstance(member, bytes) or len(content) < 64  # bytes are compressed already
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, content, compresslevel=1)
    return out.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """Inverse of ``pack``."""
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
    """``pack`` into a file; the caller gives a temporary name and renames."""
    Path(path).write_bytes(pack(members))


def read(path: str | Path) -> dict[str, Any]:
    """``unpack`` a file.

    Raises:
        RunError: Missing, truncated or not such a file.
    """
    try:
        return unpack(Path(path).read_bytes())
    except (OSError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise RunError(f"{path}: not a readable summary ({type(error).__name__}); delete it and resume") from None
