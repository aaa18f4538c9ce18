"""Checks plain data, as YAML or JSON give them, for numbers and texts that nothing can use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

#: More values no job file has; aliases of YAML can stand for far more than were written.
MOST_VALUES = 1_000_000
_NO_TEXT = re.compile("[\ud800-\udfff]")


def problems(data: Any) -> Iterator[str]:
    """What is wrong with single values, each as ``key: what was found, what was wanted``; no text is shown.

    Args:
        data: Mappings, lists, texts, numbers and None; with aliases of YAML, also within themselves.
    """
    stack: list[tuple[str, Any]] = [("", data)]
    seen = 0
    while stack:
        key, value = stack.pop()
        seen += 1
        if seen > MOST_VALUES:
            yield f"holds more than {MOST_VALUES:,} values, or a list that holds itself; wanted fewer"
            return
        if isinstance(value, dict):
            for name, inner in reversed(list(value.items())):
                if isinstance(name, str) and _NO_TEXT.search(name):
                    yield f"{key or 'a key'}: a name holds a character that is no text (half a character)"
                stack.append((f"{key}.{name}" if key else str(name), inner))
        elif isinstance(value, (list, tuple)):
            stack += [(f"{key}[{place}]", inner) for place, inner in reversed(list(enumerate(value)))]
        elif isinstance(value, str):
            if _NO_TEXT.search(value):
                yield f"{key}: holds a character that is no text (half a character); wanted a text without it"
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                yield f"{key}: found a number of {len(hex(value)) - 2} hexadecimal digits; wanted one below 2^63"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{key}: found {value}; wanted a finite number"
