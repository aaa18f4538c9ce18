"""Checks plain data, as YAML or JSON give them, for numbers and texts that nothing can use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

#: More values no job file has; aliases of YAML can stand for far more than were written.
MOST_VALUES = 1_000_000
_DEEPEST = 50
_NO_TEXT = re.compile("[\ud800-\udfff]")


def problems(data: Any) -> Iterator[str]:
    """What is wrong with single values, each as ``key: what was found, what was wanted``; no text is shown.

    Args:
        data: Mappings, lists, texts, numbers and None; with aliases of YAML, also within themselves.
    """
    stack: list[tuple[str, Any, int]] = [("", data, 0)]
    seen = 0
    while stack:
        key, value, depth = stack.pop()
        seen += 1
        if seen > MOST_VALUES or depth > _DEEPEST:
            what = f"more than {MOST_VALUES:,} values, or one {_DEEPEST} levels deep, or a list that holds itself"
            place = key.partition("[")[0][:100]
            yield f"{place}: holds {what}; wanted fewer"
            return
        if isinstance(value, dict):
            for name, inner in reversed(list(value.items())):
                if isinstance(name, str) and _NO_TEXT.search(name):
                    yield f"{key or 'a key'}: a name holds a character that is no text (half a character)"
                stack.append((f"{key}.{name}" if key else str(name), inner, depth + 1))
        elif isinstance(value, (list, tuple)):
            stack += [(f"{key}[{place}]", inner, depth + 1) for place, inner in reversed(list(enumerate(value)))]
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
