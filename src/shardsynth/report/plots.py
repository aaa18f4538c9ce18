"""From pair scores to packed matrices for heat maps, and from losses to the points of a curve."""

from __future__ import annotations

import base64
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.report.grids import nice
from shardsynth.report.text import number

#: Columns of a heat map; of a wider table, the columns of the worst pairs are drawn.
MOST_COLUMNS = 500
#: Pairs in the table of the worst.
MOST_WORST = 50
#: Byte of a pair that is not known.
_ABSENT = 255
#: Points of a curve.
_MOST_POINTS = 400


@dataclass(frozen=True)
class WorstPair:
    """One of the pairs of columns with the lowest scores.

    Attributes:
        first: Name of a column.
        second: Name of the other.
        real: Their association in the real rows (Pearson's r, or Cramer's V).
        synthetic: The same in the synthetic rows.
        score: Pair score of all synthetic rows.
        equal: Pair score of as many synthetic rows as the holdout has.
        holdout: Pair score of the holdout.
        contributes: Whether it counts in the default score.
    """

    first: str
    second: str
    real: float | None
    synthetic: float | None
    score: float
    equal: float | None
    holdout: float | None
    contributes: bool


@dataclass(frozen=True)
class PairMaps:
    """Upper triangles of all heat maps: one byte per pair, in base64.

    Attributes:
        columns: Names of the columns drawn, in table order.
        real: Association of the real rows (Pearson's r or Cramer's V): byte = 100 + round(100 r), 255 unknown.
        synthetic: The same of each model's rows.
        scores: Pair score of each model: byte = round(200 score), 255 unknown.
        worst: Per model, the worst pairs.
        pairs: Per model, the number of pairs scored.
    """

    columns: tuple[str, ...]
    real: str
    synthetic: tuple[str, ...]
    scores: tuple[str, ...]
    worst: tuple[tuple[WorstPair, ...], ...]
    pairs: tuple[int, ...]


def pair_maps(order: Sequence[str], qualities: Sequence[Mapping[str, Any]]) -> PairMaps:
    """Pack the pairs of all models.

    Args:
        order: All column names in table order.
        qualities: Per model, ``quality`` of its metrics.
    """
    pairs_by_model = [quality.get("pairs") or [] for quality in qualities]
    columns = _columns_drawn(order, pairs_by_model)
    place = {name: k for k, name in enumerate(columns)}
    size = len(columns) * (len(columns) - 1) // 2
    real = np.full(size, _ABSENT, dtype=np.uint8)
    synthetic, scores = [], []
    for pairs in pairs_by_model:
        synthetic_map, score_map = (np.full(size, _ABSENT, dtype=np.uint8) for _ in range(2))
        for pair in pairs:
            first, second = (place.get(name, -1) for name in pair["columns"])
            if first < 0 or second < 0 or first == second:
                continue
            at = _triangle(first, second, len(columns))
            real[at] = _signed(association(pair, "real"), real[at])
            synthetic_map[at] = _signed(association(pair, "synthetic"), _ABSENT)
            score = finite(pair.get("score"))
            score_map[at] = _ABSENT if score is None else round(200 * min(max(score, 0.0), 1.0))
        synthetic.append(_packed(synthetic_map))
        scores.append(_packed(score_map))
    counts = tuple(int(q.get("pairs_total") or len(pairs)) for q, pairs in zip(qualities, pairs_by_model))
    worst = tuple(_worst(quality) for quality in qualities)
    return PairMaps(columns, _packed(real), tuple(synthetic), tuple(scores), worst, counts)


def _columns_drawn(order: Sequence[str], pairs_by_model: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """Columns that have pairs, in table order; of too many, those whose worst pair is worst."""
    lowest: dict[str, float] = {}
    for pairs in pairs_by_model:
        for pair in pairs:
            score = finite(pair.get("score"))
            for name in pair["columns"]:
                lowest[name] = min(lowest.get(name, math.inf), math.inf if score is None else score)
    names = [name for name in order if name in lowest]
    if len(names) > MOST_COLUMNS:
        worst = set(sorted(names, key=lambda name: lowest[name])[:MOST_COLUMNS])
        names = [name for name in names if name in worst]
    return tuple(names)


def _triangle(first: int, second: int, size: int) -> int:
    """Place of a pair in an upper triangle that is stored row by row, without the diagonal."""
    low, high = min(first, second), max(first, second)
    return low * (2 * size - low - 1) // 2 + high - low - 1


def association(pair: Mapping[str, Any], table: str) -> float | None:
    """Association of a pair.

    Args:
        pair: Its entry in ``quality``.
        table: ``real`` or ``synthetic``.

    Returns:
        Pearson's r, or Cramer's V where the pair has no r; None where it has neither.
    """
    r = finite(pair.get(table))
    return finite(pair.get(f"{table}_association")) if r is None else r


def _signed(value: Any, absent: Any) -> Any:
    """Byte of a number from -1 to 1, or ``absent``."""
    known = finite(value)
    return absent if known is None else 100 + round(100 * min(max(known, -1.0), 1.0))


def _packed(values: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _worst(quality: Mapping[str, Any]) -> tuple[WorstPair, ...]:
    scored = [(score, p) for p in quality.get("pairs") or [] if (score := finite(p.get("score"))) is not None]
    worst = [pair for _, pair in heapq.nsmallest(MOST_WORST, scored, key=lambda item: item[0])]
    chosen = {tuple(pair["columns"]) for pair in worst}
    equal, holdout = (
        {
            tuple(pair["columns"]): finite(pair.get("score"))
            for pair in (quality.get(key) or {}).get("pairs") or []
            if tuple(pair["columns"]) in chosen
        }
        for key in ("at_holdout_rows", "holdout")
    )
    return tuple(
        WorstPair(
            str(pair["columns"][0]),
            str(pair["columns"][1]),
            association(pair, "real"),
            association(pair, "synthetic"),
            float(pair["score"]),
            equal.get(tuple(pair["columns"])),
            holdout.get(tuple(pair["columns"])),
            bool(pair.get("contributes")),
        )
        for pair in worst
    )


def finite(value: Any) -> float | None:
    """The number as a float, or None where it is missing, NaN or infinite."""
    if value is None:
        return None
    as_float = float(value)
    return as_float if math.isfinite(as_float) else None


@dataclass(frozen=True)
class Curve:
    """One loss over the epochs, in SVG units.

    Attributes:
        name: Which loss.
        points: ``x,y x,y ...`` for an SVG polyline.
        first: Loss of the first epoch.
        last: Loss of the last epoch.
    """

    name: str
    points: str
    first: float
    last: float


@dataclass(frozen=True)
class CurvePlot:
    """The losses of one model.

    Attributes:
        curves: One per loss.
        epochs: Number of epochs.
        marks: Place and text of each mark of the vertical axis.
    """

    curves: tuple[Curve, ...]
    epochs: int
    marks: tuple[tuple[float, str], ...]


def curve_plot(losses: Mapping[str, Sequence[float]], width: float, height: float) -> CurvePlot | None:
    """Losses as curves in a box.

    Args:
        losses: Value per epoch by name of the loss.
        width: Width of the box, in SVG units.
        height: Its height.

    Returns:
        None where no value is finite.
    """
    series = {name: np.asarray(values, dtype=np.float64) for name, values in losses.items()}
    series = {name: values for name, values in series.items() if len(values) and np.isfinite(values).any()}
    if not series:
        return None
    everything = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.05 * (high - low) or max(abs(high) * 0.05, 1e-6)
    low, high = low - margin, high + margin
    epochs = max(len(values) for values in series.values())

    def drawn(name: str, values: npt.NDArray[np.float64]) -> Curve:
        known = values[np.isfinite(values)]
        at = np.flatnonzero(np.isfinite(values)).astype(np.float64)
        first, last = float(known[0]), float(known[-1])
        if len(known) > _MOST_POINTS:  # means of neighbouring epochs
            known = np.array([part.mean() for part in np.array_split(known, _MOST_POINTS)])
            at = np.array([part.mean() for part in np.array_split(at, _MOST_POINTS)])
        x = at / max(epochs - 1, 1) * width
        y = (high - known) / (high - low) * height
        return Curve(name, " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y)), first, last)

    marks = tuple(((high - value) / (high - low) * height, text) for value, text in round_marks(low, high))
    return CurvePlot(tuple(drawn(name, values) for name, values in series.items()), epochs, marks)


def round_marks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    """Round values between ``low`` and ``high`` with their text: two to ``most`` of them."""
    step = nice((high - low) / most)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(k * step, number(k * step, step).replace("-", "\u2212")) for k in range(first, last + 1)]
