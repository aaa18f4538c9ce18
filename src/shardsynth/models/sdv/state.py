"""Control of what a stock synthesizer does on the side: randomness, output, threads, GPU.

A synthesizer of SDV draws from the global generators of Python, NumPy and torch, from those of its model and from those
of each RDT transformer. It prints, warns and shows progress. A deep one moves to a GPU when it is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np


def seed_synthesizer(synthesizer: Any, seed: int, *, deep: bool) -> None:
    """Seed every generator in a fitted synthesizer; nothing depends on an earlier draw.

    Args:
        synthesizer: SDV's object.
        seed: Any integer; each seed gives its own streams (512 bits of state each).
        deep: Whether the model draws from torch.
    """
    state: Any = np.random.RandomState(_words(seed, "model"))
    if deep:
        state = (state, _torch_generator(seed))
    synthesizer.reset_sampling()
    synthesizer._set_random_state(state)
    for name, transformer in _transformers(synthesizer):
        transformer.random_states = {
            **transformer.random_states,
            "reverse_transform": np.random.RandomState(_words(seed, name)),
        }


def _words(seed: int, name: str) -> list[int]:
    """Sixteen 32-bit words to seed a Mersenne twister with: 512 bits, so that no two chunks get the same stream."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=64).digest()
    return [int(word) for word in np.frombuffer(digest, dtype="<u4")]


def _torch_generator(seed: int) -> Any:
    """Torch's generator for a chunk. Its seed has only 32 bits; 20 more bits choose how many numbers are skipped."""
    import torch

    first, second, *_ = _words(seed, "torch")
    generator = torch.Generator().manual_seed(first)
    torch.empty(second % 2**20, dtype=torch.int32).random_(generator=generator)
    return generator


def _transformers(synthesizer: Any) -> Iterator[tuple[str, Any]]:
    """Every RDT transformer of a synthesizer that has random states, with a unique name."""
    normalizer = getattr(synthesizer, "_gaussian_normalizer_hyper_transformer", None)
    for kind, hyper in (("data", synthesizer._data_processor._hyper_transformer), ("normal", normalizer)):
        if hyper is not None:
            for name, transformer in hyper.field_transformers.items():
                if transformer is not None:
                    yield f"{kind}:{name}", transformer
    model = synthesizer._model
    inner = getattr(model, "_transformer", None) or getattr(model, "transformer", None)
    for info in getattr(inner, "_column_transform_info_list", ()):
        yield f"column:{info.column_name}", info.transform


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """A context without SDV's warnings, prints and progress bars."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def isolated(seed: int) -> Iterator[None]:
    """``silenced``, with global random states that follow from the seed; the old states are restored afterwards."""
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    first, *_ = words = _words(seed, "global")
    random.seed(first)
    np.random.seed(words)
    torch.manual_seed(first)
    try:
        with silenced():
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@contextlib.contextmanager
def held_threads(threads: int) -> Iterator[None]:
    """A context in which torch and BLAS use so many threads."""
    from threadpoolctl import threadpool_limits

    from shardsynth.models.training.torch_threads import torch_threads

    with torch_threads(threads), threadpool_limits(threads):
        yield


@contextlib.contextmanager
def no_gpu() -> Iterator[None]:
    """A context in which a stock deep model is loaded onto the CPU, whatever device it was saved from."""
    import torch

    available, from_bytes = torch.cuda.is_available, torch.storage._load_from_bytes
    torch.cuda.is_available = lambda: False
    torch.storage._load_from_bytes = lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    try:
        yield
    finally:
        torch.cuda.is_available, torch.storage._load_from_bytes = available, from_bytes
