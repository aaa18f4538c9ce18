"""PNG files by their own rules, and what the colours say."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from shardsynth.report.pictures import png, write_pictures
from shardsynth.report.plots import pair_maps


def decoded(content: bytes) -> np.ndarray:
    """A reader of just these files: chunks with their checksums, no filter, 8-bit RGB."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", content[place + 8 + length : place + 12 + length])[0]
        chunks[kind] = data
        place += 12 + length
    width, height, bits, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (bits, colour) == (8, 2) and chunks[b"IEND"] == b""
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_a_picture_comes_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    assert np.array_equal(decoded(png(pixels)), pixels)


def test_maps_side_by_side(tmp_path) -> None:
    pairs = [
        {"columns": ["a", "b"], "score": 0.9, "real": 1.0, "synthetic": -1.0},
        {"columns": ["a", "c"], "score": 0.9, "real": 0.0, "synthetic": 0.0},
    ]
    maps = pair_maps(["a", "b", "c"], [{"pairs": pairs}, {"pairs": pairs}])
    files = write_pictures(tmp_path, ["copula", "../<script>"], maps)
    assert [f.name for f in files] == ["pairs-copula.png", "pairs-1.png"]
    image = decoded(files[0].read_bytes())
    side = image.shape[0]
    cell = side // 3

    def middle(panel, row, column):
        return image[row * cell + cell // 2, panel * (side + 16) + column * cell + cell // 2].tolist()  # noqa: E731

    assert middle(0, 0, 1) == [178, 24, 43] and middle(1, 0, 1) == [33, 102, 172] == middle(2, 1, 0)
    assert middle(0, 0, 2) == [255, 255, 255] and middle(0, 1, 2) == [225, 225, 225]
    assert write_pictures(tmp_path, ["m"], pair_maps([], [{}])) == []
