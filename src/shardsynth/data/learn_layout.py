"""How a column of text or whole numbers writes dates or numbers: learned from its distinct values."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from shardsynth.data.columns import COMMON_ROWS
from shardsynth.data.layouts import _ISO_FORMS, ISO, UNITS, DateLayout, layout_from, zone_of
from shardsynth.data.number_layout import MOST_DIGITS, SIGNS, NumberLayout

Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]

#: Least share of the rows that are dates, or numbers, in a column of them.
_MOSTLY = 0.9
_MOST_SPECIALS = 20
_CLOCK_PLACES = 48  # times of day that stand for those that are not known
_TRIED = 2_000  # distinct values on which the way of writing is tried
_LAST_YEAR = 2035  # of dates with two-digit years that mean the time of living persons
_NUMBER = r"[+-]?(?:\d[\d., '\u00a0\u202f]*)?\d"
_SIGN = re.compile(rf"({'|'.join(sorted(map(re.escape, SIGNS), key=len, reverse=True))})\s*({_NUMBER}.*)")


@dataclass(frozen=True)
class Counted:
    """Distinct texts of a column, with the rows of each.

    Attributes:
        texts: object[n], no None.
        rows: int64[n].
    """

    texts: Texts
    rows: Integers

    @classmethod
    def of(cls, texts: Sequence[str], rows: Integers) -> Counted:
        """Of texts and their rows."""
        return cls(np.array(list(texts), dtype=object), np.asarray(rows, np.int64))

    def head(self, most: int) -> Counted:
        """At most so many of them, evenly chosen."""
        step = max(1, -(-len(self.texts) // most))
        return Counted(self.texts[::step], self.rows[::step])


def date_forms(counted: Counted) -> list[str]:
    """Strftime formats that nearly all texts follow, the likeliest first; ``ISO8601`` for dates of several precisions.

    A format that fits is one that all texts follow, but for a few that are dates of less precision or words.
    """
    texts = counted.texts
    if not len(texts):
        return []
    usual = [str(text) for text in texts[np.argsort(-counted.rows, kind="stable")][:20].tolist()]
    if not any(re.search(r"\d", text) for text in usual) or max(map(len, usual)) > 40:
        return []
    if _is_partial_iso(texts):
        return [ISO]
    found: dict[str, float] = {}
    few = counted.head(200)
    for form in dict.fromkeys(form for text in usual[:3] for form in _forms_of(text)):
        layout = DateLayout(form, "us")
        if not _followed(layout, Counted.of(usual, np.ones(len(usual), np.int64)), 0.5) or not _followed(layout, few):
            continue
        share = _share(layout, counted)
        if share >= _MOSTLY:
            found[form] = share
    best = max(found.values(), default=0.0)
    return [form for form, share in found.items() if share == best]


def _share(layout: DateLayout, counted: Counted) -> float:
    good = layout.read(counted.texts)[1]
    return float(counted.rows[good].sum() / max(counted.rows.sum(), 1))


def _followed(layout: DateLayout, counted: Counted, least: float = _MOSTLY) -> bool:
    return _share(layout, counted) >= least


def _is_partial_iso(texts: Texts) -> bool:
    """Whether texts are ISO dates of at least two precisions, of which one is the day or finer."""
    used = set()
    for text in texts.tolist():
        length = len(str(text))
        form = {4: 0, 7: 1, 10: 2, 16: 3, 19: 4}.get(length)
        if form is None or not re.fullmatch(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?)?)?)?", str(text)):
            return False
        used.add(form)
    good = DateLayout(ISO, "ms", partial=_ISO_FORMS).read(texts)[1]
    return len(used) > 1 and max(used) >= 2 and bool(good.all())


def _forms_of(text: str) -> list[str]:
    """Formats that one text follows."""
    import pandas as pd
    from pandas.tseries.api import guess_datetime_format

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guesses = [guess_datetime_format(text, dayfirst=first) for first in (False, True)]
    own = [form for form in _known_forms().get(_marks(text), []) if _follows(text, form)]
    both = [guess for guess in guesses if guess] + own
    return [form for form in dict.fromkeys(both) if not pd.isna(pd.to_datetime(text, format=form, errors="coerce"))]


def _follows(text: str, form: str) -> bool:
    try:
        moment = dt.datetime.strptime(text, form)
    except ValueError:
        return False
    return 1 <= moment.year <= 9999


def _marks(text: str) -> str:
    """The signs between the numbers and words of a date."""
    return "|".join(re.findall(r"[^0-9A-Za-z]+", re.sub(_ZONES, "", text)))


_ZONES = r"(Z|[+-]\d\d:?\d\d)$"
_DAYS = ("%Y{0}%m{0}%d", "%m{0}%d{0}%Y", "%d{0}%m{0}%Y", "%d{0}%b{0}%Y", "%d{0}%b{0}%y", "%m{0}%d{0}%y", "%d{0}%m{0}%y")
_MORE_DAYS = ("%Y%m%d", "%d%b%Y", "%d%b%y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%Y{0}%m", "%m{0}%Y", "%b{0}%Y")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f", "%I:%M %p", "%I:%M:%S %p", "%I:%M:%S.%f %p", "%I:%M%p")
_MORE_CLOCKS = ("%H.%M", "%H.%M.%S", "%I.%M.%S %p", "%I.%M.%S.%f %p", "%I:%M:%S:%f%p", "%I:%M:%S:%f %p")
_COMPACT = ("%Y%m%d%H%M%S%f", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%dT%H%M%S", "%Y%m%d_%H%M%S", "%Y%m%d %H%M%S", "%Y%m")


@lru_cache(maxsize=1)
def _known_forms() -> dict[str, list[str]]:
    """Formats by their marks."""
    days = list(dict.fromkeys(day.format(mark) for day in (*_DAYS, *_MORE_DAYS) for mark in "-/. _"))
    clocks = [
        join + clock + zone for join, clock in product(" T:_", (*_CLOCKS, *_MORE_CLOCKS)) for zone in ("", "%z", " %z")
    ]
    forms: dict[str, list[str]] = {}
    for form in [day + clock for day, clock in product(days, ["", *clocks])] + [*_COMPACT, "%Y%m%dT%H%M%S%z"]:
        forms.setdefault(_marks(form.replace("%z", "").replace("%", "")), []).append(form)
    return forms


def learn_date_layout(form: str, counted: Counted, whole: bool = True) -> DateLayout | None:
    """How dates of a format are written.

    Args:
        form: strftime format, or ``ISO8601``.
        counted: The distinct texts.
        whole: Whether these are all of the column, not those of a sample.

    Returns:
        The layout; None where fewer than 9 of 10 rows are dates of the format.
    """
    given = layout_from(form)
    assert isinstance(given, DateLayout)
    if given.partial:
        return _partial_layout(given, counted)
    layout = given
    good = layout.read(counted.texts)[1]
    if not good.all():
        layout = replace(layout, unit="us")
        far = layout.read(counted.texts)[1]
        layout, good = (layout, far) if far.sum() > good.sum() else (given, good)
    dates = counted.rows[good].sum()
    if not dates:
        return None
    rest = Counted(counted.texts[~good], counted.rows[~good])
    if len(rest.texts):
        layout, kept = _with_rest(layout, form, rest)
        if dates + kept < _MOSTLY * counted.rows.sum() or dates < 0.5 * counted.rows.sum():
            return None
    counts, good = layout.read(counted.texts)
    plain = good & ~layout.apart(counts)
    if "%y" in form and _year(int(counts[plain].max()), layout.unit) > _LAST_YEAR:
        layout = replace(layout, pivot=True)
    layout = _as_written(layout, Counted(counted.texts[plain], counted.rows[plain]))
    if len(rest.texts):
        layout = _with_words(layout, rest, whole)
    return layout


def _year(count: int, unit: str) -> int:
    return int(np.array([count]).astype(f"datetime64[{unit}]").astype("datetime64[Y]").astype(np.int64)[0]) + 1970


def _with_rest(layout: DateLayout, form: str, rest: Counted) -> tuple[DateLayout, int]:
    """The layout with the formats of less precise dates that the rest follows, and the rows of the rest that it has."""
    day = next((part for part in ("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y") if form == part), None)
    if day is None:
        return layout, int(rest.rows[rest.rows >= COMMON_ROWS].sum())
    month = re.sub(r"%d[-/.]|[-/.]%d", "", day)
    trial = DateLayout(day, "ms", partial=("%Y", month))
    used = [part for part in trial.partial if DateLayout(day, "ms", partial=(part,)).read(rest.texts)[1].any()]
    if not used:
        return layout, int(rest.rows[rest.rows >= COMMON_ROWS].sum())
    layout = replace(layout, unit="ms", partial=tuple(used))
    good = layout.read(rest.texts)[1]
    return layout, int(rest.rows[good | (rest.rows >= COMMON_ROWS)].sum())


def _partial_layout(given: DateLayout, counted: Counted) -> DateLayout | None:
    forms = [
        form for form in _ISO_FORMS if DateLayout(ISO, "ms", partial=(form,))._read_partial(*_none(counted))[1].any()
    ]
    if not forms:
        return None
    layout = replace(given, form=forms[-1], partial=tuple(forms[:-1]))
    if len(forms) > 1 and forms[-2] == "%Y-%m-%d":
        layout = _with_bare_days(replace(layout, partial=tuple(forms[:-2])), counted)
    good = layout.read(counted.texts)[1]
    if counted.rows[good].sum() < _MOSTLY * counted.rows.sum():
        return None
    return layout if good.all() else _with_words(layout, Counted(counted.texts[~good], counted.rows[~good]), True)


def _with_bare_days(layout: DateLayout, counted: Counted) -> DateLayout:
    """The layout of instants of which some are written without their time.

    Days are too many to have places of their own: how many are bare is learned, not which.
    """
    counts, good = layout.read(counted.texts)
    whole = good & ~layout.apart(counts)
    days = np.array([len(str(text)) == len("2024-05-31") for text in counted.texts.tolist()], np.bool_)
    bare, timed = int(counted.rows[days].sum()), int(counted.rows[whole].sum())
    minutes = np.sort(counts[whole] * layout.nanoseconds // (60 * UNITS["s"]) % 1_440)
    clock = minutes[np.arange(_CLOCK_PLACES) * len(minutes) // _CLOCK_PLACES]
    return replace(layout, bare=max(1, round(1_000 * bare / (bare + timed))), clock=tuple(map(int, clock.tolist())))


def _none(counted: Counted) -> tuple[Texts, Integers, npt.NDArray[np.bool_]]:
    size = len(counted.texts)
    return counted.texts, np.zeros(size, np.int64), np.zeros(size, np.bool_)


def _with_words(layout: DateLayout, rest: Counted, whole: bool) -> DateLayout:
    """The layout with places for common texts that are no dates: days before the first one."""
    good = layout.read(rest.texts)[1]
    words = [(str(t), int(n)) for t, n in zip(rest.texts[~good].tolist(), rest.rows[~good].tolist())]
    common = sorted((text for text, rows in words if rows >= COMMON_ROWS))[:_MOST_SPECIALS]
    day = 86_400 * 1_000_000_000 // layout.nanoseconds
    first = layout._count("1800-01-01")
    specials = tuple((text, first - (k + 1) * day) for k, text in enumerate(common))
    return replace(layout, specials=specials, lenient=len(common) < len(words) or not whole)


def _as_written(layout: DateLayout, counted: Counted) -> DateLayout:
    """The layout with fraction, offsets, capitals and zeros as the texts have them."""
    tried = counted.head(_TRIED)
    if layout.zoned and re.search("%z$", layout.form, re.IGNORECASE):
        layout = replace(layout, zones=_zones(layout, counted))
    if "%f" in layout.form:
        layout = _with_fraction(layout, tried)
    counts = layout.read(tried.texts)[0]
    best, best_share = layout, -1.0
    for case, padding in product(("", "upper", "lower"), ((), ("d", "m"), ("H", "I"), ("d", "m", "H", "I"), ("d",))):
        form = layout.form
        for letter in padding:
            form = form.replace(f"%{letter}", f"%-{letter}")
        if padding and form == layout.form:
            continue
        other = replace(layout, form=form, case=case)
        share = float(np.mean([a == b for a, b in zip(other.write(counts), tried.texts.tolist())]))
        if share > best_share:
            best, best_share = other, share
        if share == 1.0:
            break
    return best


def _with_fraction(layout: DateLayout, tried: Counted) -> DateLayout:
    written = replace(layout, fraction=6).write(layout.read(tried.texts)[0])
    digits = Counter(6 - len(a) + len(b) for a, b in zip(written, map(str, tried.texts.tolist())))
    if len(digits) == 1:
        (count,) = digits
        return layout if count == 6 or not 1 <= count <= 9 else replace(layout, fraction=count)
    trimmed = replace(layout, fraction=-1)
    same = np.mean([a == b for a, b in zip(trimmed.write(layout.read(tried.texts)[0]), tried.texts.tolist())])
    return trimmed if same > 0.5 else layout


def _zones(layout: DateLayout, counted: Counted) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The offsets of the texts, each with its share of every month in thousandths; without rare ones."""
    offsets = [zone_of(str(text)) for text in counted.texts.tolist()]
    rows: Counter[str] = Counter()
    for offset, count in zip(offsets, counted.rows.tolist()):
        if offset is not None:
            rows[offset] += count
    common = sorted(offset for offset, count in rows.items() if count >= COMMON_ROWS) or sorted(rows)[:1]
    if len(common) == 1:
        return () if common == ["+0000"] else ((common[0], ()),)
    counts = layout.read(counted.texts)[0].astype(f"datetime64[{layout.unit}]")
    months = counts.astype("datetime64[M]").astype(np.int64) % 12
    table = np.zeros((len(common), 12))
    for offset, month, count in zip(offsets, months.tolist(), counted.rows.tolist()):
        if offset in common:
            table[common.index(offset), month] += count
    overall = table.sum(axis=1, keepdims=True)
    table = np.where(table.sum(axis=0) >= 2 * COMMON_ROWS, table, overall)
    shares = np.rint(1_000 * table / table.sum(axis=0)).astype(np.int64)
    return tuple((offset, tuple(row)) for offset, row in zip(common, shares.tolist()))


def integer_date_form(values: Integers, rows: Integers) -> str | None:
    """The format of whole numbers that are dates, YYYYMMDD or YYYYMM; None where they are none.

    Args:
        values: Distinct values.
        rows: Of each.
    """
    for form, low, high, least in (("%Y%m%d", 18_000_101, 22_001_231, 10), ("%Y%m", 190_001, 210_012, 12)):
        inside = (values >= low) & (values <= high)
        if len(values) < least or rows[inside].sum() < _MOSTLY * rows.sum() or inside.sum() < least:
            continue
        texts = values[inside].astype(str).astype(object)
        if not DateLayout(form).read(texts)[1].all():
            continue
        outside = values[~inside]
        if all(rows[~inside] >= COMMON_ROWS) and all(str(abs(v)).strip("9") in ("", "0") for v in outside.tolist()):
            return form
    return None


def learn_number_layout(counted: Counted, *, certain: bool = False) -> NumberLayout | None:
    """How numbers are written as text; None where the texts are no measured numbers.

    Args:
        counted: The distinct texts.
        certain: Whether the metadata call them numbers: then plain numbers need no more evidence.
    """
    stripped = [str(text).strip() for text in counted.texts.tolist()]
    beyond = [_SIGN.fullmatch(text) for text in stripped]
    numbers = [match[2] if match else text for match, text in zip(beyond, stripped)]
    total = counted.rows.sum()
    digits = np.array([re.search(r"\d", text) is not None for text in numbers], np.bool_)
    if not total or counted.rows[digits].sum() < 0.5 * total:
        return None
    layout = _number_layout(numbers, counted.rows)
    if layout is None:
        return None
    values = [layout.number(text) for text in numbers]
    plain = np.array([v is not None and m is None for v, m in zip(values, beyond)], np.bool_)
    special = np.array([v is not None and m is not None for v, m in zip(values, beyond)], np.bool_)
    share = counted.rows[plain | special].sum() / total
    distinct = len({v for v, is_plain in zip(values, plain.tolist()) if is_plain})
    if share < _MOSTLY or distinct < (1 if certain else 15):
        return None
    texts = [text for text, is_plain in zip(stripped, plain.tolist()) if is_plain]
    layout = replace(layout, digits=max(_decimals(text, layout) for text in texts))
    if layout.digits > MOST_DIGITS:
        return None
    layout = _with_least(layout, texts)
    rare = counted.rows[counted.rows < COMMON_ROWS].sum() / total
    odd = bool(layout.thousands or layout.after or layout.before or layout.decimal != ".") or special.any()
    written = np.mean([a == b for a, b in zip(layout.write(np.array([layout.number(t) for t in texts])), texts)])
    code = any(re.match(r"[+-]?0\d", text) for text in texts)
    if not certain and (code or written < 0.98 or not (odd or (layout.digits > 0 and rare > 0.3))):
        return None
    return _with_specials(layout, counted, beyond, values)


def _number_layout(numbers: Sequence[str], rows: Integers) -> NumberLayout | None:
    tail = Counter[str]()
    for text, count in zip(numbers, rows.tolist()):
        match = re.fullmatch(rf"{_NUMBER}(\D*)", text)
        if match:
            tail[match[1]] += count
    if not tail:
        return None
    after = tail.most_common(1)[0][0]
    best, best_share = None, 0.0
    for decimal, thousands in ((".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", " "), (".", "'")):
        layout = NumberLayout(decimal=decimal, thousands=thousands, after=after)
        good = np.array([layout.number(text) is not None for text in numbers], np.bool_)
        if thousands and not any(thousands in text for text in numbers):
            continue
        share = float(rows[good].sum() / rows.sum())
        if share > best_share + 1e-9:
            best, best_share = layout, share
    return best


def _decimals(text: str, layout: NumberLayout) -> int:
    match = layout.pattern.fullmatch(text)
    return len(match[3] or "") if match else 0


def _with_least(layout: NumberLayout, texts: Sequence[str]) -> NumberLayout:
    return replace(layout, least=min(_decimals(text, layout) for text in texts))


def _with_specials(
    layout: NumberLayout, counted: Counted, beyond: Sequence[re.Match[str] | None], values: Sequence[float | None]
) -> NumberLayout:
    """The layout with the places of values beyond a limit, and of common words below the smallest number."""
    step = 10.0 ** -(layout.digits + 1)
    specials: list[tuple[str, float]] = []
    words: list[str] = []
    left_out = 0
    for text, rows, match, value in zip(counted.texts.tolist(), counted.rows.tolist(), beyond, values):
        if value is not None and match is None:
            continue
        if rows < COMMON_ROWS:
            left_out += 1
        elif value is not None and match is not None:
            specials.append((str(text), round(value + SIGNS[match[1]] * step, layout.digits + 1)))
        else:
            words.append(str(text))
    numbers = [value for value in values if value is not None]
    first = np.floor(min(numbers)) - 1.0
    specials += [(text, float(first - k)) for k, text in enumerate(sorted(words)[:_MOST_SPECIALS])]
    places = Counter(place for _, place in specials)  # "<0.5" and "< 0.5" are one place: the first stands for both
    if any(count > 1 for count in places.values()):
        specials = [(t, p) for k, (t, p) in enumerate(specials) if p not in [q for _, q in specials[:k]]]
        left_out += 1
    return replace(layout, specials=tuple(specials), lenient=bool(left_out))
