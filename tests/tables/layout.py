"""A layout of columns, and the same as the ctgan package says it."""

from __future__ import annotations

import numpy as np

from shardsynth.models.ctgan.codes import Layout

#: Column sizes as ctgan lists them: a numeric column with 3 modes, a category of 4, a numeric one with 2, a category of 2.
LAYOUT = Layout(
    width=13,
    start=np.array([1, 4, 9, 11]),
    size=np.array([3, 4, 2, 2]),
    tanh=np.array([0, 8]),
    conditional=np.array([1, 3]),
)


def stock_layout() -> list:
    from ctgan.data_transformer import SpanInfo

    def axis(modes: int) -> list:
        return [SpanInfo(1, "tanh"), SpanInfo(modes, "softmax")]

    return [axis(3), [SpanInfo(4, "softmax")], axis(2), [SpanInfo(2, "softmax")]]
