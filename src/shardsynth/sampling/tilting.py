"""Exact draws of Gaussian vectors inside boxes: rejection sampling from minimax-tilted sequential proposals.

Botev 2017, "The normal law under linear restrictions: simulation and estimation via minimax tilting", J. R. Stat. Soc.
B 79. Coordinates are drawn one after the other from shifted normals truncated to what the box leaves them; the
shifts mu solve the paper's saddle-point problem. A proposal is accepted with probability exp(psi(x, mu) - max psi).
Without this rejection step (GHK) the draws would be biased.

Here the target is a *union* of disjoint boxes, and box b counts ``weight_b`` times its probability. So a box is first
chosen with probability proportional to its envelope, ``weight_b exp(max psi_b)``. With one coordinate every proposal is
accepted. All arithmetic is that of ``elementary``: the same bits on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shardsynth.sampling import elementary

Floats = NDArray[np.float64]

_PLAIN_STEPS, _DAMPED_STEPS = 30, 200
_TOLERANCE = 1e-9
_SMALLEST_PIVOT = 1e-4  # least standard deviation of a coordinate, given those before it


@dataclass(frozen=True)
class Boxes:
    """Boxes in the units of the coordinates, one per row.

    Attributes:
        low: float64[b, c], lower ends, may be -inf.
        high: float64[b, c], upper ends, may be inf.
        weight: float64[b], how many times each box counts.
    """

    low: Floats
    high: Floats
    weight: Floats


class TiltedSampler:
    """Draws from N(0, correlation), restricted to weighted boxes.

    Args:
        correlation: float64[c, c], the correlations of the coordinates.
        boxes: Disjoint boxes.

    Attributes:
        log_envelope: Logarithm of an upper bound of the total weighted probability of the boxes. That probability is
            the bound times the acceptance rate.
    """

    def __init__(self, correlation: Floats, boxes: Boxes) -> None:
        factor = cholesky(correlation)
        scale = factor.diagonal()
        self._scale = scale
        self._lower = factor / scale[:, None] - np.eye(len(factor))
        self._low, self._high = boxes.low / scale, boxes.high / scale
        self._shift, self._peak = self._tilt()
        self._first = elementary.Truncated(self._low[:, 0] - self._shift[:, 0], self._high[:, 0] - self._shift[:, 0])
        with np.errstate(divide="ignore"):
            bound = self._peak + elementary.log(np.maximum(boxes.weight, 1e-300))
        top = float(bound.max())
        share = np.cumsum(elementary.exp(bound - top))
        self.log_envelope = top + float(elementary.log(share[-1]))
        self._choice = share / share[-1]

    @property
    def uniforms(self) -> int:
        """Uniforms per proposal: one for the box, one per coordinate, one for the acceptance."""
        return int(self._low.shape[1]) + 2

    def propose(
        self, u: Floats, box: NDArray[np.int64] | None = None
    ) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """One proposal per row of ``u``.

        Args:
            u: float64[n, c + 2], uniforms in (0, 1).
            box: int64[n], the box of each row; None: chosen at random, by weight and probability.

        Returns:
            The points, float64[n, c]; which of them are accepted, bool[n]; and their boxes, int64[n].
        """
        if box is None:
            box = np.minimum(np.searchsorted(self._choice, u[:, 0]), len(self._choice) - 1)
        points, ratio = self._sequence(box, u[:, 1:-1])
        return points * self._scale, u[:, -1] < ratio, box

    def _sequence(self, box: NDArray[np.int64], u: Floats) -> tuple[Floats, Floats]:
        """Sequential proposals in units of ``scale``, and exp(psi - max psi)."""
        rows, size = u.shape
        deviates, points = np.empty((size, rows)), np.empty((rows, size))
        place = self._first[box]  # the first interval does not depend on the other coordinates
        factor, exponent = place.factor, place.exponent - self._peak[box]
        for k in range(size):
            centre = np.zeros(rows)
            for j in range(k):
                centre = centre + self._lower[k, j] * deviates[j]
            shift, low, high = self._shift[box, k], self._low[box, k], self._high[box, k]
            if k:
                place = elementary.Truncated((low - centre) - shift, (high - centre) - shift)
                factor, exponent = factor * place.factor, exponent + place.exponent
            deviates[k] = place.draw(u[:, k]) + shift
            points[:, k] = np.minimum(np.maximum(deviates[k] + centre, low), high)
            exponent = exponent + shift * (0.5 * shift - deviates[k])
        return points, factor * elementary.exp(exponent)

    def _tilt(self) -> tuple[Floats, Floats]:
        """Shifts [b, c] and max psi [b] of each box. Shifts are 0 where the search finds no saddle point."""
        boxes, size = self._low.shape
        x, shift = self._nearest_points(), np.zeros((boxes, size))
        solved = np.ones(boxes, np.bool_)
        if size > 1:
            solved[:] = False
            for damped in (False, True):
                left = np.flatnonzero(~solved)
                x[left], shift[left], error = self._saddle_points(left, damped)
                solved[left] = (error < 1e-6) & self._inside(left, x[left])
        shift = np.where(solved[:, None], shift, 0.0)
        return shift, np.where(solved, self._psi(x, shift), self._plain_bound())

    def _saddle_points(self, boxes: NDArray[np.int64], damped: bool) -> tuple[Floats, Floats, Floats]:
        """Newton's method: points, shifts, and the largest component of the gradient that is left.

        Args:
            boxes: Which boxes.
            damped: Halve each step that makes the gradient larger. (Undamped steps often succeed all the same.)
        """
        x = self._nearest_points()[boxes]
        shift, free = np.zeros_like(x), x.shape[1] - 1
        gradient, jacobian = self._gradient(boxes, x, shift)
        error, length = np.abs(gradient).max(axis=1), np.ones(len(boxes))
        step = solve(jacobian, -gradient)
        for _ in range(_DAMPED_STEPS if damped else _PLAIN_STEPS):
            active = np.flatnonzero((error > _TOLERANCE) & (length > 1e-4))
            if not len(active):
                break
            move = length[active, None] * step[active]
            new_x, new_shift = x[active], shift[active]
            new_x[:, :free] += move[:, :free]
            new_shift[:, :free] += move[:, free:]
            gradient, jacobian = self._gradient(boxes[active], new_x, new_shift)
            new_error = np.nan_to_num(np.abs(gradient).max(axis=1), nan=np.inf)
            better = (new_error < error[active]) | (not damped)
            length[active] = np.where(better, 1.0, 0.5 * length[active])
            moved = active[better]
            x[moved], shift[moved], error[moved] = new_x[better], new_shift[better], new_error[better]
            step[moved] = np.clip(np.nan_to_num(solve(jacobian[better], -gradient[better])), -1e6, 1e6)
        return x, shift, error

    def _nearest_points(self) -> Floats:
        """A point of each box (in deviates) near the origin: the start of the search for the saddle point."""
        x = np.zeros_like(self._low)
        for k in range(x.shape[1] - 1):
            centre = dot(self._lower[k], x)
            x[:, k] = np.minimum(np.maximum(0.0, self._low[:, k] - centre), self._high[:, k] - centre)
        return x

    def _inside(self, boxes: NDArray[np.int64], x: Floats) -> NDArray[np.bool_]:
        """Whether each saddle point lies in its box: only then is psi at most its value there."""
        inside = np.ones(len(x), np.bool_)
        for k in range(x.shape[1] - 1):
            point = x[:, k] + dot(self._lower[k], x)
            inside &= (point >= self._low[boxes, k] - 1e-6) & (point <= self._high[boxes, k] + 1e-6)
        return inside

    def _psi(self, x: Floats, shift: Floats) -> Floats:
        """psi(x, shift) of each box, plus a margin for the tolerance of the solver."""
        psi = np.full(len(x), 1e-6 if x.shape[1] > 1 else 0.0)
        for k in range(x.shape[1]):
            centre = dot(self._lower[k], x) + shift[:, k]
            part = elementary.interval(self._low[:, k] - centre, self._high[:, k] - centre)
            psi = psi + (shift[:, k] * (0.5 * shift[:, k] - x[:, k]) + part.log_probability)
        return psi

    def _plain_bound(self) -> Floats:
        """Upper bound of psi without shifts: the sum of the largest log probabilities that the intervals can have."""
        boxes, size = self._low.shape
        bound = np.zeros(boxes)
        low, high = np.full((boxes, size), -np.inf), np.full((boxes, size), np.inf)  # of the deviates
        for k in range(size):
            least, most = np.zeros(boxes), np.zeros(boxes)
            for j in range(k):
                if self._lower[k, j] == 0:
                    continue
                ends = self._lower[k, j] * low[:, j], self._lower[k, j] * high[:, j]
                least, most = least + np.minimum(*ends), most + np.maximum(*ends)
            low[:, k], high[:, k] = self._low[:, k] - most, self._high[:, k] - least
            with np.errstate(invalid="ignore"):
                middle = 0.5 * (self._low[:, k] + self._high[:, k])
            middle = np.where(np.isfinite(middle), middle, np.where(np.isfinite(self._low[:, k]), np.inf, -np.inf))
            centre = np.clip(middle, least, most)
            finite = np.isfinite(centre)
            centre = np.where(finite, centre, 0.0)
            likeliest = elementary.interval(self._low[:, k] - centre, self._high[:, k] - centre)
            bound = bound + np.where(finite, likeliest.log_probability, 0.0)
        return bound

    def _gradient(self, chosen: NDArray[np.int64], x: Floats, shift: Floats) -> tuple[Floats, Floats]:
        """Gradient [b, 2(c-1)] of psi in (x, shift) for the chosen boxes, and its Jacobian (the paper's appendix)."""
        boxes, size = x.shape
        free = size - 1
        push, change = np.empty((boxes, size)), np.empty((boxes, size))
        for k in range(size):
            centre = dot(self._lower[k], x) + shift[:, k]
            push[:, k], change[:, k] = _mean(self._low[chosen, k] - centre, self._high[chosen, k] - centre)
        gradient = np.empty((boxes, 2 * free))
        jacobian = np.zeros((boxes, 2 * free, 2 * free))
        for i in range(free):
            gradient[:, i] = dot(self._lower[:, i], push) - shift[:, i]
            gradient[:, free + i] = (shift[:, i] - x[:, i]) + push[:, i]
            jacobian[:, free + i, free + i] = 1.0 + change[:, i]
            for j in range(free):
                jacobian[:, i, j] = dot(self._lower[:, i] * self._lower[:, j], change)
                mixed = change[:, i] * self._lower[i, j] - float(i == j)
                jacobian[:, free + i, j] = mixed
                jacobian[:, j, free + i] = mixed
        return gradient, jacobian


def cholesky(matrix: Floats) -> Floats:
    """Lower Cholesky factor by elementwise operations; pivots below 1e-4 are raised to it."""
    rest, size = np.array(matrix, np.float64), len(matrix)
    factor = np.zeros((size, size))
    for k in range(size):
        pivot = np.sqrt(max(rest[k, k], _SMALLEST_PIVOT**2))
        factor[k:, k] = rest[k:, k] / pivot
        factor[k, k] = pivot
        rest = rest - factor[:, k : k + 1] * factor[None, :, k]
    return factor


def _mean(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Mean of a standard normal in (low, high), and its derivative with respect to a shift of both ends."""
    place = elementary.interval(low, high)
    mean = place.at_low - place.at_high
    ends = np.where(np.isinf(low), 0.0, low) * place.at_low - np.where(np.isinf(high), 0.0, high) * place.at_high
    return mean, ends - mean * mean


def dot(weights: Floats, columns: Floats) -> Floats:
    """``columns @ weights`` in a fixed order, without BLAS."""
    total = np.zeros(len(columns))
    for k in range(len(weights)):
        if weights[k] != 0:
            total = total + weights[k] * columns[:, k]
    return total


def solve(matrices: Floats, right: Floats) -> Floats:
    """Solutions of linear systems [b, m, m] x = [b, m] by Gaussian elimination with row pivots, elementwise."""
    a, y = matrices.copy(), right.copy()
    boxes, size = y.shape
    every = np.arange(boxes)
    for k in range(size):
        pivot = k + np.argmax(np.abs(a[:, k:, k]), axis=1)
        swapped, value = a[every, pivot].copy(), y[every, pivot].copy()
        a[every, pivot], y[every, pivot] = a[:, k].copy(), y[:, k].copy()
        a[:, k], y[:, k] = swapped, value
        divisor = np.where(np.abs(a[:, k, k]) < 1e-300, 1e-300, a[:, k, k])
        for i in range(k + 1, size):
            ratio = a[:, i, k] / divisor
            a[:, i] = a[:, i] - ratio[:, None] * a[:, k]
            y[:, i] = y[:, i] - ratio * y[:, k]
    for k in range(size - 1, -1, -1):
        rest = y[:, k].copy()
        for j in range(k + 1, size):
            rest = rest - a[:, k, j] * y[:, j]
        y[:, k] = rest / np.where(np.abs(a[:, k, k]) < 1e-300, 1e-300, a[:, k, k])
    return y
