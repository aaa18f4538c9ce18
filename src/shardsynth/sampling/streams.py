"""Counter-based random streams: the random words of any row, without drawing those of the rows before it.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a 256-bit counter and a 128-bit key
into four 64-bit words, with integer operations only. So a word is the same on every machine. A *stream* is a key, made
from (seed, model name). Row ``i`` has the words ``i * w`` to ``(i + 1) * w - 1`` of its stream, whatever task, batch or
thread draws it.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_WORDS_PER_BLOCK = 4
_LAYER_SHIFT = 192  # the counter's highest word counts layers: independent streams under one key


def _digest(size: int, *parts: object) -> bytes:
    """Hash of the parts; each is preceded by its length, so that ('ab', 'c') and ('a', 'bc') differ."""
    state = blake2b(digest_size=size, person=b"shardsynth")
    for part in parts:
        text = str(part).encode()
        state.update(len(text).to_bytes(8, "little") + text)
    return state.digest()


def stream_key(seed: int, model: str) -> tuple[int, int]:
    """Philox key (two 64-bit words) of a model's stream.

    Args:
        seed: The job's seed, any integer.
        model: Name of the model in the run: two models never share random words.
    """
    digest = _digest(16, "stream", int(seed), model)
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def chunk_seed(seed: int, model: str, chunk: int) -> int:
    """63-bit seed of one chunk, for engines that only take a seed (stock SDV, Faker)."""
    return int.from_bytes(_digest(8, "chunk", int(seed), model, int(chunk)), "little") >> 1


def random_words(key: tuple[int, int], first_row: int, n: int, words_per_row: int, *, layer: int = 0) -> Words:
    """Random words of rows ``first_row`` to ``first_row + n - 1``.

    Args:
        key: From ``stream_key``.
        first_row: Global number of the first row, below 2^63.
        n: Rows.
        words_per_row: Words of each row. With another number, the rows have other words.
        layer: Number of an independent stream with the same key (the attempt of a rejection sampler), below 2^63.

    Returns:
        uint64 array [n, words_per_row], uniform on 0 .. 2^64 - 1.
    """
    block, skip = divmod(first_row * words_per_row, _WORDS_PER_BLOCK)
    generator = np.random.Philox(key=np.array(key, np.uint64), counter=block + (layer << _LAYER_SHIFT))
    words: Words = generator.random_raw(skip + n * words_per_row)
    return words[skip:].reshape(n, words_per_row)


def lanes(words: Words) -> NDArray[np.uint16]:
    """The words uint64[n, w] cut into 16-bit lanes uint16[n, 4 w], low bits first on any machine."""
    return words.astype("<u8", copy=False).view("<u2")


def uniforms(words: Words) -> NDArray[np.float64]:
    """Words as float64 in the open interval (0, 1): odd multiples of 2^-53. No step rounds."""
    return (words >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
