"""Names and values as text for a page: short, on one line, without control characters and marks of direction."""

from __future__ import annotations

import math
import re
from typing import Any

_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def shown(text: str, limit: int = 120) -> str:
    r"""Text on one line: at most about ``limit`` characters, with an ellipsis where it is longer.

    Control characters, line breaks and marks of writing direction appear as their escapes (``\x1b``, ``\u202e``).
    Right-to-left letters stay as they are. Empty and blank text is described in words.
    """
    too_long = len(text) > limit
    text = _ESCAPED.sub(_escape, text[: limit - 1] if too_long else text)
    if too_long:
        return f"{text}\u2026"
    if not text:
        return "(empty text)"
    return text if text.strip() else f"({len(text)} {'space' if len(text) == 1 else 'spaces'})"


def isolated(text: str, limit: int = 60) -> str:
    """``shown`` for use inside a sentence: its writing direction does not change that of the words around it."""
    return f"\u2068{shown(text, limit)}\u2069"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def value_label(value: Any, limit: int = 120) -> str:
    """A category's value as a label, at most about ``limit`` characters."""
    return shown(value if isinstance(value, str) else str(value), limit)


def decimals(step: float, most: int = 10) -> int:
    """Digits after the point that multiples of ``step`` need, at most ``most``."""
    for digits in range(most):
        if math.isclose(round(step, digits), step, rel_tol=1e-9):
            return digits
    return most


def number(value: float, step: float) -> str:
    """A number that is a multiple of ``step``, with thousands separators."""
    if value == 0:
        return "0"
    if abs(value) >= 1e15 or step < 1e-9:
        return f"{value:.6g}"
    text = f"{value:,.{decimals(step)}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text


def short_number(value: float, step: float) -> str:
    """``number`` for an axis: k, M and G stand for thousands, millions and billions."""
    for least, scale, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / scale:.4g}{letter}"
    return number(value, step)


def seconds(value: float) -> str:
    """A duration in seconds as text: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
