"""The normal distribution, computed with additions, multiplications, divisions and square roots only.

The last bit of a library function (``exp``, ``log``, ``ndtr``) depends on the CPU and the C library. Here every step is
one IEEE operation per element, and none are fused: the same input gives the same bits on any machine. Relative errors
are about 1e-15.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# ln 2 in two parts: k * _LN2_HIGH is exact for |k| < 2^11.
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_INVERSE_SQRT_2PI = 0.3989422804014327
_LOG_SQRT_2PI = 0.9189385332046728
_DISTANT = 9.0  # farther out, tails are computed by their logarithm
_LAST_NODE = 12  # of the tail's table: P(Z > 12) is about 1e-14 of P(Z > 9)
_PER_UNIT = 128  # nodes of the tail's table per unit

# Chebyshev coefficients of (x + 2) * Q(x) / phi(x) in t = (x - 5) / (x + 5), x >= 0 (by mpmath, to 40 digits).
_MILLS = (
    1.548419526289845,
    -0.7147756055465746,
    0.20251455925598635,
    -0.04005125240189972,
    0.003088791842191655,
    0.0013436397440810255,
    -0.0006863923096257009,
    0.000168875532453346,
    -2.2877214544510034e-05,
    2.831700394772872e-07,
    5.352691449526571e-07,
    -8.068012307933983e-08,
    -5.763015220582885e-09,
    2.955451535425583e-09,
    -6.103001537961186e-11,
    -9.177210232882413e-11,
    6.864898179320318e-12,
    2.945028070466989e-12,
    -3.301409400180295e-13,
    -1.052066143815476e-13,
    1.3363916762766121e-14,
    4.259360898889196e-15,
    -4.876840554877698e-16,
    -1.9092171962297452e-16,
)

# Wichura 1988, algorithm AS 241 (PPND16): numerators and denominators, highest power first.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """An interval of the standard normal.

    Attributes:
        log_probability: Logarithm of its probability.
        at_low: Density at its lower end over its probability.
        at_high: Density at its upper end over its probability.
    """

    log_probability: Floats
    at_low: Floats
    at_high: Floats


def exp(x: Floats) -> Floats:
    """e^x; 0 below -745."""
    x = np.clip(np.asarray(x, np.float64), -800.0, 700.0)
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = np.ones_like(r)
    for n in range(14, 0, -1):
        total = total * (r / n) + 1.0
    half = np.rint(k * 0.5)  # in two steps, so that neither power of two leaves the range
    return np.ldexp(np.ldexp(total, half.astype(np.int32)), (k - half).astype(np.int32))


def log(x: Floats) -> Floats:
    """Natural logarithm of x > 0."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    exponent = np.where(low, exponent - 1, exponent).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    total = np.full_like(s, 1.0 / 25.0)
    for n in range(23, 0, -2):
        total = total * square + 1.0 / n
    return exponent * _LN2_HIGH + (2.0 * s * total + exponent * _LN2_LOW)


def density(x: Floats) -> Floats:
    """Standard normal density."""
    x = np.asarray(x, np.float64)
    return _INVERSE_SQRT_2PI * exp(-0.5 * (x * x))


def mills(x: Floats) -> Floats:
    """Mills' ratio P(Z > x) / density(x) for x >= 0, from a Chebyshev series."""
    x = np.minimum(np.asarray(x, np.float64), 1e300)
    t = 2.0 * ((x - 5.0) / (x + 5.0))
    last = before = np.zeros_like(t)
    for coefficient in _MILLS[:0:-1]:
        last, before = (t * last - before) + coefficient, last
    return ((0.5 * t) * last - before + _MILLS[0]) / (x + 2.0)


def upper_tail(x: Floats) -> Floats:
    """P(Z > x) for x >= 0, relative error about 1e-15; 0 beyond 38."""
    x = np.minimum(np.asarray(x, np.float64), 40.0)
    return mills(x) * density(x)


def interval(low: Floats, high: Floats) -> Interval:
    """P(low < Z < high) and the densities at its ends, with small relative errors also far out in the tails.

    Args:
        low: Lower ends, may be -inf.
        high: Upper ends, above the lower ones, may be inf.
    """
    place = _Place(low, high)
    near = np.where(place.aside, 1.0 / place.mass, 0.0)
    far = place.density_ratio * near
    at_low = np.where(place.aside, np.where(place.flip, far, near), density(low) / place.around)
    at_high = np.where(place.aside, np.where(place.flip, near, far), density(high) / place.around)
    return Interval(place.log_probability(), at_low, at_high)


class Truncated:
    """Standard normals truncated to intervals. What does not depend on the draw is computed once.

    The probability of an interval is ``factor * exp(exponent)``, so that it cannot underflow.

    Args:
        low: Lower ends [n], may be -inf.
        high: Upper ends [n], above the lower ones, may be inf.
    """

    def __init__(self, low: Floats, high: Floats) -> None:
        self.low, self.high = low, high
        self._flip = high <= 0  # reflect it, so that the end nearer to the origin is the left one
        near, far = np.where(self._flip, -high, low), np.where(self._flip, -low, high)
        self._aside = near >= 0
        start, end = _tail(np.abs(near)), _tail(np.abs(far))
        self._start = start
        self.factor = np.where(self._aside, start, 1.0 - start) - end
        self._sign = np.where(self._aside, -1.0, 1.0)
        self.exponent = np.zeros_like(near)
        self._distant = near > _DISTANT
        if self._distant.any():
            place = _Place(near[self._distant], far[self._distant])
            self.factor[self._distant] = place.mass
            self.exponent[self._distant] = -0.5 * (place.near * place.near) - _LOG_SQRT_2PI

    def __getitem__(self, chosen: NDArray[np.int64]) -> Truncated:
        """The intervals at the indices ``chosen``."""
        new = object.__new__(Truncated)
        new.__dict__ = {name: values[chosen] for name, values in self.__dict__.items()}
        return new

    def draw(self, u: Floats) -> Floats:
        """One normal from each interval, by inversion at the uniforms u [n] in (0, 1)."""
        # Away from the origin the upper tail is inverted, else the lower one: small probabilities have small errors.
        z = self._sign * quantile(self._start + self._sign * (u * self.factor))
        if self._distant.any():
            near = np.where(self._flip, -self.high, self.low)[self._distant]
            z[self._distant] = _beyond(near, (u * self.factor)[self._distant])
        z = np.where(self._flip, -z, z)
        return np.minimum(np.maximum(z, self.low), self.high)


class _Place:
    """Whether intervals contain the origin or lie aside of it, and their probabilities.

    Attributes:
        flip: The interval is on the negative side: it is reflected.
        aside: The origin is not inside.
        near: The end next to the origin if aside, else 0.
        density_ratio: Density at the far end over density at the near one.
        mass: Probability over the density at the near end, if aside.
        around: Probability, if the origin is inside.
    """

    def __init__(self, low: Floats, high: Floats) -> None:
        self.flip = high <= 0
        near, far = np.where(self.flip, -high, low), np.where(self.flip, -low, high)
        self.aside = near >= 0
        below = np.where(self.aside, 0.0, upper_tail(np.abs(near)))
        self.around = np.where(self.aside, 1.0, (1.0 - below) - upper_tail(np.abs(far)))
        self.near = np.where(self.aside, near, 0.0)
        self.density_ratio = exp(-0.5 * ((far - self.near) * (far + self.near)))
        self.mass = np.maximum(mills(self.near) - mills(far) * self.density_ratio, 1e-300)

    def log_probability(self) -> Floats:
        """Logarithm of the probability of each interval."""
        beside = (log(self.mass) - 0.5 * (self.near * self.near)) - _LOG_SQRT_2PI
        return np.where(self.aside, beside, log(self.around))


def _beyond(low: Floats, mass: Floats) -> Floats:
    """The z > low with P(low < Z < z) = mass * density(low), far out in the tail: Newton's method on log P(Z > z)."""
    tail = mills(low)
    target = log(np.maximum(1.0 - mass / tail, 1e-300)) + log(tail)  # log of P(Z > z) / density(low)
    z = np.sqrt(low * low - 2.0 * (target - log(tail)))
    for _ in range(4):
        ratio = mills(z)
        z = np.maximum(z + ratio * ((log(ratio) - 0.5 * ((z - low) * (z + low))) - target), low)
    return z


def quantile(p: Floats) -> Floats:
    """Inverse of the normal cdf (Wichura 1988), p in (0, 1); about -38 for p = 0."""
    p = np.asarray(p, np.float64)
    q = p - 0.5
    r = 0.180625 - q * q
    z = q * _ratio(_CENTRE, r)
    tail = np.abs(q) > 0.425
    if not tail.any():
        return z
    beside = q[tail]
    root = np.sqrt(-log(np.maximum(np.where(beside < 0, p[tail], 1.0 - p[tail]), 1e-310)))
    value = _ratio(_TAIL, root - 1.6)
    far = root > 5.0
    if far.any():
        value[far] = _ratio(_FAR_TAIL, root[far] - 5.0)
    z[tail] = np.where(beside < 0, -value, value)
    return z


@cache
def _nodes() -> tuple[Floats, Floats]:
    """P(Z > x) and the density at the nodes x = 0, 1/128, ... of the table."""
    x = np.arange(_LAST_NODE * _PER_UNIT + 1) / _PER_UNIT
    return upper_tail(x), density(x)


def _tail(x: Floats) -> Floats:
    """P(Z > x) for x >= 0 by Taylor's series at the nearest node, four times faster than ``upper_tail``.

    The relative error is below 1e-11 up to 9; beyond 12 it is 0.
    """
    tails, densities = _nodes()
    beyond = x > _LAST_NODE
    x = np.minimum(x, float(_LAST_NODE))
    node = np.rint(x * _PER_UNIT)
    at, index = node * (1.0 / _PER_UNIT), node.astype(np.int64)
    h = x - at
    square = at * at
    total = h * (1.0 / 120.0) * (square * (square - 6.0) + 3.0) - (1.0 / 24.0) * (at * (square - 3.0))
    total = h * total + (1.0 / 6.0) * (square - 1.0)
    total = h * total - 0.5 * at
    total = h * (h * total + 1.0)
    return np.where(beyond, 0.0, tails[index] - densities[index] * total)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: Floats) -> Floats:
    values = []
    for row in coefficients:
        total = np.full_like(r, row[0])
        for coefficient in row[1:]:
            total = total * r + coefficient
        values.append(total)
    return np.asarray(values[0] / values[1])
