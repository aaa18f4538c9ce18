"""Task numbers as text in Slurm's notation: ``0-9,12``."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 10_000_000


def format_ranges(numbers: Iterable[int]) -> str:
    """Numbers, in any order, as ``0-9,12``."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def parse_ranges(text: str) -> list[int]:
    """Inverse of `format_ranges`. It also reads Slurm's step ``:2``, and ignores the throttle ``%4``.

    Raises:
        ValueError: The text is none of this kind.
    """
    numbers: list[int] = []
    for span in text.partition("%")[0].split(","):
        if not span:
            continue
        ends, _, step = span.partition(":")
        first, _, last = ends.partition("-")
        some = range(int(first), int(last or first) + 1, int(step or 1))
        if len(some) > _MOST:
            raise ValueError("more numbers than tasks can be")
        numbers += some
    return numbers
