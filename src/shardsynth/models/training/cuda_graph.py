"""A training step on a GPU as one CUDA graph: hundreds of kernels are launched by one call from Python."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Steps before the recording, in which libraries initialise and optimisers allocate their state.
_FIRST = 3


class Recorded:
    """A training step; the first calls run it, all later ones replay a recording.

    Args:
        step: Changes tensors in place, always of the same shapes, and returns tensors. The next call overwrites these.
        random: The generator that the step draws from.
    """

    def __init__(self, step: Callable[[], tuple[Tensor, ...]], random: torch.Generator) -> None:
        self._step, self._random = step, random
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._done = 0
        self._results: tuple[Tensor, ...] = ()

    def __call__(self) -> tuple[Tensor, ...]:
        """One step; returns what ``step`` returns."""
        if self._done < _FIRST:
            self._done += 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._results = self._step()
            torch.cuda.current_stream().wait_stream(self._stream)
            return self._results
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(self._random)
            with torch.cuda.graph(self._graph):
                self._results = self._step()
        self._graph.replay()
        return self._results
