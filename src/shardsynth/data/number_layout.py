"""Numbers that a column writes as text: decimal comma, thousands, units, and values beyond a limit (``<0.5``)."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]

#: Signs of a value beyond a limit, and how many steps of the finest grid its place lies from the limit.
SIGNS = {"<": -2, "<=": -1, "=<": -1, "≤": -1, ">=": 1, "=>": 1, "≥": 1, ">": 2}


#: Most decimals of numbers as text: more have no place in float64.
MOST_DIGITS = 12


@dataclass(frozen=True)
class NumberLayout:
    """Numbers as text.

    On the axis a number is itself. A value beyond a limit has a place of its own beside the limit: ``<0.5`` lies just
    below 0.5, ``>100`` just above 100. So it is learned together with the numbers, and written back as it came.

    Attributes:
        digits: Most decimals.
        least: Fewest decimals; beyond these no text ends with a zero.
        decimal: The decimal sign.
        thousands: The sign between groups of three digits; empty without one.
        before: Text before each number.
        after: Text after each number, such as ``%``.
        specials: Texts that are no plain number, each with its place on the axis.
        lenient: Whether any other text is missing; else it is an error.
    """

    digits: int = 0
    least: int = 0
    decimal: str = "."
    thousands: str = ""
    before: str = ""
    after: str = ""
    specials: tuple[tuple[str, float], ...] = ()
    lenient: bool = False

    #: NumPy dtype of the axis.
    dtype = np.dtype(np.float64)
    #: Nanoseconds of one unit of the axis: it counts no time.
    nanoseconds = 0
    #: What the values are, for an error.
    what = "number"

    @property
    def places(self) -> int:
        """Decimals of the axis: one more than the text has, where values beyond a limit lie between two numbers."""
        return self.digits + 1 if any(round(place, self.digits) != place for _, place in self.specials) else self.digits

    @property
    def text(self) -> str:
        """The layout as text."""
        return json.dumps({"number": asdict(self)})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NumberLayout:
        """The layout of a JSON object."""
        layout = cls(**{**data, "specials": tuple((str(text), float(place)) for text, place in data["specials"])})
        if not (0 <= layout.least <= layout.digits <= MOST_DIGITS):
            raise ValueError("decimals of a layout of numbers")
        return layout

    @property
    def rounded_by(self) -> float:
        """By how much the number that is written can lie beside a value."""
        return 0.5 * 10.0**-self.digits if self.places > self.digits else 0.0

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Of the text of a plain number; its groups: the sign, the whole part, the decimals."""
        whole = r"\d+" if not self.thousands else rf"\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|\d+"
        before, after, decimal = map(re.escape, (self.before, self.after, self.decimal))
        return re.compile(rf"{before}([+-]?)({whole})(?:{decimal}(\d*))?{after}")

    def read(self, texts: Texts) -> tuple[Floats, Mask]:
        """Texts [n], no None, as numbers float64[n], and bool[n]: which are numbers of this layout."""
        values, good = np.zeros(len(texts)), np.zeros(len(texts), np.bool_)
        places = dict(self.specials)
        for index, text in enumerate(texts.tolist()):
            found = self.number(str(text))
            if found is None:
                found = places.get(str(text))
            if found is not None:
                values[index], good[index] = found, True
        return values, good

    def number(self, text: str) -> float | None:
        """A plain number; None for any other text."""
        match = self.pattern.fullmatch(text.strip())
        if match is None:
            return None
        whole = match[2].replace(self.thousands, "") if self.thousands else match[2]
        return float(f"{match[1]}{whole}.{match[3] or 0}")

    def write(self, values: Floats) -> list[str]:
        """Inverse of ``read``, for finite numbers [n], rounded to the decimals of the text."""
        scale = 10.0**self.places
        places = {round(place * scale): text for text, place in self.specials}
        texts = []
        for value in np.asarray(values, np.float64).tolist():
            special = places.get(round(value * scale))
            texts.append(self._plain(value) if special is None else special)
        return texts

    def apart(self, values: Floats) -> Mask:
        """bool[n]: numbers that must keep a place of their own, since no plain number has them."""
        scale = 10.0**self.places
        places = [round(place * scale) for _, place in self.specials]
        return np.asarray(np.isin(np.rint(values * scale), places), np.bool_)

    def instant(self, written: str) -> float:
        """A number that a user wrote: in this layout, or plainly.

        Raises:
            ValueError: It is neither.
        """
        values, good = self.read(np.array([written], dtype=object))
        return float(values[0]) if good[0] else float(written)

    def _plain(self, value: float) -> str:
        number = f"{value + 0.0:,.{self.digits}f}"
        if float(number.replace(",", "")) == 0:
            number = number.lstrip("-")
        whole, point, decimals = number.partition(".")
        decimals = decimals[: self.least] + decimals[self.least :].rstrip("0")
        point = self.decimal if decimals else ""
        return f"{self.before}{whole.replace(',', self.thousands)}{point}{decimals}{self.after}"
