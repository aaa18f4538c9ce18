"""PNG files by their own rules, and what the colours say."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from shardsynth.report.pictures import png, write_pictures
from shardsynth.report.plots import pair_maps


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


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
