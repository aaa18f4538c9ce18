"""The pair maps as PNG files, for slides and papers: real, synthetic and their difference side by side."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from shardsynth.report.plots import PairMaps
from shardsynth.standalone.files import write_atomic

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Colours of -1, 0 and 1 (readable without colour vision: dark blue, white, dark red), and of "not known".
_LOW, _ZERO, _HIGH, _UNKNOWN = (33, 102, 172), (255, 255, 255), (178, 24, 43), (225, 225, 225)
#: Width of a map and of the white space between two maps, in pixels. A map of many columns is wider: one pixel a pair.
_MAP_PIXELS, _GAP = 480, 16


def write_pictures(folder: Path, names: Sequence[str], maps: PairMaps) -> list[Path]:
    """Write one picture per model: real, synthetic and difference side by side.

    Args:
        folder: Where to write; must exist.
        names: The models' names, in the order of ``maps.synthetic``.
        maps: The associations of all pairs.

    Returns:
        The files ``pairs-<model>.png``; none where fewer than two columns have pairs. A name that cannot be part of a
        file name is replaced by the model's number.
    """
    size = len(maps.columns)
    if size < 2:
        return []
    real = _unpacked(maps.real, size)
    paths = []
    for number, (name, packed) in enumerate(zip(names, maps.synthetic)):
        synthetic = _unpacked(packed, size)
        panels = [_coloured(matrix) for matrix in (real, synthetic, synthetic - real)]
        path = folder / f"pairs-{_file_name(name, number)}.png"
        write_atomic(path, png(_side_by_side(panels)))
        paths.append(path)
    return paths


def png(pixels: Pixels) -> bytes:
    """A PNG file of uint8[height, width, 3]; the same bytes for the same pixels and the same Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _unpacked(packed: str, size: int) -> Floats:
    """float64[size, size] of a packed upper triangle; NaN where not known."""
    values = np.frombuffer(base64.b64decode(packed), np.uint8).astype(np.float64)
    values = np.where(values == 255, np.nan, (values - 100) / 100)
    matrix = np.full((size, size), np.nan)
    rows, columns = np.triu_indices(size, 1)
    matrix[rows, columns] = matrix[columns, rows] = values
    return matrix


def _coloured(matrix: Floats) -> Pixels:
    """The map of a matrix: a square of equal pixels per pair."""
    association = np.clip(np.nan_to_num(matrix), -1.0, 1.0)[..., None]
    low, zero, high = (np.array(colour, np.float64) for colour in (_LOW, _ZERO, _HIGH))
    colours = np.where(association < 0, zero + (low - zero) * -association, zero + (high - zero) * association)
    colours[np.isnan(matrix)] = _UNKNOWN
    scale = max(1, _MAP_PIXELS // len(matrix))
    return np.rint(colours).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)


def _side_by_side(panels: Sequence[Pixels]) -> Pixels:
    gap = np.full((len(panels[0]), _GAP, 3), 255, np.uint8)
    parts = [panels[0]]
    for panel in panels[1:]:
        parts += [gap, panel]
    return np.concatenate(parts, axis=1)


def _file_name(name: str, number: int) -> str:
    """A model's name where every file system takes it, else its number."""
    return name if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", name) else str(number)
