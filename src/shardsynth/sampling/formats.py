"""The format of identifiers, learned from a sample: a regular expression that gives their shape and contains no value.

A letter or digit goes into the expression as itself only if all sampled values share it, and if there are many
different values: then it belongs to the format ("MRN-") and not to a person.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonprefix

#: Distinct values that must share a letter or digit before the expression may contain it.
ENOUGH_VALUES = 10
_MOST_LAYOUTS = 5
_RUNS = re.compile(r"[0-9]+|[A-Z]+|[a-z]+|.", re.DOTALL)
_HEX = set("0123456789abcdef")


@dataclass(frozen=True)
class Format:
    """A learned format.

    Attributes:
        regex: Matches the strings that are made first.
        head: When ``regex`` has no more strings, one run of characters grows. This is the expression before that run.
        grown: Character class of the run that grows, such as ``[0-9]``.
        length: Longest length of that run in ``regex``.
        tail: The expression after that run.
    """

    regex: str
    head: str
    grown: str
    length: int
    tail: str

    def longer(self, by: int) -> str:
        """Expression of the strings whose growing run is ``by`` characters longer; no shorter string matches it."""
        return f"{self.head}{self.grown}{{{self.length + by}}}{self.tail}"


#: Format of a column whose sample is empty.
UNKNOWN = Format("[0-9a-z]{8}", "", "[0-9a-z]", 8, "")


def learn_format(values: Iterable[str]) -> Format:
    """Format of the values. Which characters it contains as themselves: see the module's docstring."""
    distinct = sorted({value for value in values if value})
    if not distinct:
        return UNKNOWN
    layouts = Counter(tuple(map(_kind, _RUNS.findall(value))) for value in distinct)
    frequent = [layout for layout, count in layouts.most_common(_MOST_LAYOUTS) if count >= 0.01 * len(distinct)]
    if sum(layouts[layout] for layout in frequent) >= 0.95 * len(distinct):
        groups = [[_RUNS.findall(v) for v in distinct if tuple(map(_kind, _RUNS.findall(v))) == x] for x in frequent]
        return _joined([_by_runs(group, len(layouts) == 1) for group in groups])
    lengths = Counter(map(len, distinct))
    common = sorted((length for length, _ in lengths.most_common(_MOST_LAYOUTS)), reverse=True)
    return _joined([_by_position([v for v in distinct if len(v) == length], len(lengths) == 1) for length in common])


def _kind(run: str) -> str:
    if run[0].isascii() and run[0].isalnum():
        return "0" if run[0].isdigit() else "A" if run[0].isupper() else "a"
    return ("a" if run.isalnum() else run) if run.isprintable() else " "


_CLASSES = {"0": "[0-9]", "A": "[A-Z]", "a": "[a-z]"}


def _joined(parts: Sequence[tuple[str, tuple[str, str, int, str]]]) -> Format:
    """The format of several alternatives. The first one (the most frequent, or the longest) grows."""
    regexes = list(dict.fromkeys(regex for regex, _ in parts))
    regex = regexes[0] if len(regexes) == 1 else "(?:" + "|".join(regexes) + ")"
    return Format(regex, *parts[0][1])


def _by_runs(group: Sequence[Sequence[str]], only_group: bool) -> tuple[str, tuple[str, str, int, str]]:
    """Expression of values with the same kinds of runs; the longest run of digits grows, or else of letters."""
    pieces: list[str] = []
    growing: tuple[int, str, str, int] | None = None
    for place, runs in enumerate(zip(*group)):
        kind = _kind(runs[0])
        shared = len(set(runs)) == 1
        if kind not in _CLASSES:
            pieces.append(re.escape(kind))
        elif shared and only_group and len(group) >= ENOUGH_VALUES:
            pieces.append(re.escape(runs[0]))
        else:
            low, high = min(map(len, runs)), max(map(len, runs))
            head = commonprefix(runs) if low == high and only_group and _wide(group, place, len(group)) else ""
            if head:  # such as the century of a year
                pieces.append(re.escape(head) + _CLASSES[kind] + _times(low - len(head), low - len(head)))
                continue
            first = "[1-9]" if kind == "0" and not any(run[0] == "0" for run in runs) else ""
            rest = (low - 1, high - 1) if first else (low, high)
            pieces.append(first + (_CLASSES[kind] + _times(*rest) if rest[1] else ""))
            if growing is None or (kind == "0", high) >= (growing[2] == "[0-9]", growing[3]):
                growing = (place, first, _CLASSES[kind], high)
    if growing is None:
        return "".join(pieces), ("".join(pieces) + "-", "[0-9]", 0, "")
    place, first, grown, high = growing
    length = high - 1 if first else high
    return "".join(pieces), ("".join(pieces[:place]) + first, grown, length, "".join(pieces[place + 1 :]))


def _wide(group: Sequence[Sequence[str]], place: int, distinct: int) -> bool:
    """Whether so many values differ outside of the shared start of a run that hardly any made one is a real one."""
    free = 0.0  # as a logarithm: texts of hundreds of letters have more values than a float can hold
    for number, runs in enumerate(zip(*group)):
        kind = _kind(runs[0])
        if kind in _CLASSES and len(set(runs)) > 1:
            shared = len(commonprefix(runs)) if number == place else 0
            free += math.log(10.0 if kind == "0" else 26.0) * (min(map(len, runs)) - shared)
    return distinct >= ENOUGH_VALUES and free >= math.log(max(1e8, 1000.0 * distinct)) - 1e-9


def _times(low: int, high: int) -> str:
    return f"{{{low}}}" if low == high else f"{{{low},{high}}}"


def _by_position(group: Sequence[str], only_group: bool) -> tuple[str, tuple[str, str, int, str]]:
    """Expression of values of one length that share no runs: an alphabet per position. It grows at the end."""
    letters = {c for value in group for c in value if c.isalnum()}
    pieces = []
    for characters in (set(column) for column in zip(*group)):
        if len(characters) == 1 and only_group and len(group) >= ENOUGH_VALUES:
            pieces.append(re.escape(*characters))
            continue
        kinds = {_kind(c) for c in characters}
        alphabet = "".join(_CLASSES[kind][1:-1] for kind in "0Aa" if kind in kinds)
        if letters <= _HEX and alphabet:
            alphabet = "0-9a-f"
        pieces.append("[" + alphabet + "".join(re.escape(kind) for kind in sorted(kinds - set("0Aa"))) + "]")
    place = max(i for i, piece in enumerate(pieces)) if pieces else 0
    regex = re.sub(r"(\[[^\]]*\])\1+", lambda m: f"{m[1]}{{{len(m[0]) // len(m[1])}}}", "".join(pieces))
    return regex, ("".join(pieces[: place + 1]), "[0-9]", 0, "")
