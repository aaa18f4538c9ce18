"""The pair maps as PNG files, for slides and papers: real, synthetic and their difference side by side."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shardsynth.report.plots import PairMaps
from shardsynth.standalone.files import write_atomic

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Colours of -1, 0 and 1 (readable without colour vision: dark blue, white, dark red), and of "not known".
_LOW, _ZERO, _HIGH, _UNKNOWN = (33, 102, 172), (255, 255, 255), (178, 24, 43), (225, 225, 225)
_MAP_PIXELS, _GAP = 480, 16


def write_pictures(folder: Path, names: Sequence[str], maps: PairMaps) -> list[Path]:
    """Write ``pairs-<model>.png`` for every model that has pairs; returns the files."""
    size = len(maps.columns)
    if size < 2:
        return []
    real = _unpacked(maps.real, size)
    written = []
    for number, (name, packed) in enumerate(zip(names, maps.synthetic)):
        made = _unpacked(packed, size)
        panels = [_coloured(matrix) for matrix in (real, made, made - real)]
        path = folder / f"pairs-{_safe(name, number)}.png"
        write_atomic(path, png(_side_by_side(panels)))
        written.append(path)
    return written


def png(pixels: Pixels) -> bytes:
    """A PNG file (ISO/IEC 15948) of uint8[height, width, 3], without interlacing."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 3)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _unpacked(packed: str, size: int) -> Floats:
    """float64[size, size] of a packed upper triangle; NaN where not known."""
    values = np.frombuffer(base64.b64decode(packed), np.uint8).astype(np.float64)
    values = np.where(values == 255, np.nan, (values - 100) / 100)
    found = np.full((size, size), np.nan)
    rows, columns = np.triu_indices(size, 1)
    found[rows, columns] = found[columns, rows] = values
    return found


def _coloured(matrix: Floats) -> Pixels:
    level = np.clip(np.nan_to_num(matrix), -1.0, 1.0)[..., None]
    low, zero, high = (np.array(colour, np.float64) for colour in (_LOW, _ZERO, _HIGH))
    colours = np.where(level < 0, zero + (low - zero) * -level, zero + (high - zero) * level)
    colours[np.isnan(matrix)] = _UNKNOWN
    scale = max(1, _MAP_PIXELS // len(matrix))
    return np.rint(colours).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)


def _side_by_side(panels: Sequence[Pixels]) -> Pixels:
    gap = np.full((len(panels[0]), _GAP, 3), 255, np.uint8)
    parts = [panels[0]]
    for panel in panels[1:]:
        parts += [gap, panel]
    return np.concatenate(parts, axis=1)


def _safe(name: str, number: int) -> str:
    """A model's name where it can be a file's, else its number."""
    return name if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", name) else str(number)
