"""From metrics of a run to what the page says in words: a card per model, a headline, the models side by side.

Every score stands beside the score of real rows that no model saw. No model can be expected to score more than those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shardsynth.report.plots import finite
from shardsynth.report.text import isolated, seconds, shown

#: Largest gap to the reference, level, and words of the verdict.
LEVELS = (
    (0.02, "best", "Very close to real"),
    (0.05, "good", "Close to real"),
    (0.10, "fair", "Noticeably different"),
    (float("inf"), "poor", "Far from real"),
)

#: Path of keys in ``quality``, name and meaning, in the order shown.
FIGURES = (
    (("score",), "Overall", "The mean of columns and linked pairs."),
    (("all_pairs", "score"), "Overall, all pairs", "The same with every pair of columns counted."),
    (("column_shapes",), "Columns", "How alike each column's values are spread."),
    (("column_pair_trends",), "Linked pairs", "How alike two columns go together, pairs linked in the real rows only."),
    (("all_pairs", "column_pair_trends"), "All pairs", "The same over every pair of columns."),
    (
        ("real_bins", "score"),
        "Overall, real bins",
        "Numbers cut on the range of the real table, not on each table's own: one outlier moves no other row. The "
        "verdict follows this.",
    ),
    (
        ("real_bins", "all_pairs", "score"),
        "Overall, all pairs, real bins",
        "The same with every pair of columns counted.",
    ),
    (("real_bins", "column_pair_trends"), "Linked pairs, real bins", "Linked pairs, cut likewise."),
    (("real_bins", "all_pairs", "column_pair_trends"), "All pairs, real bins", "All pairs, cut likewise."),
)


#: Share of values within the real range that a column with tails has at least.
_VALID_WITH_TAILS = 0.99


@dataclass(frozen=True)
class FigureRow:
    """One line of a card.

    Attributes:
        name: Name of the score.
        meaning: The same in a sentence.
        everything: Score of all synthetic rows.
        equal: Score of as many synthetic rows as the holdout has.
        holdout: Score of the holdout.
    """

    name: str
    meaning: str
    everything: float | None
    equal: float | None
    holdout: float | None


@dataclass(frozen=True)
class Card:
    """The verdict on one model, in words and figures.

    Attributes:
        name: The model's name.
        engine: Its family and who made it, in words.
        level: ``best``, ``good``, ``fair``, ``poor`` or ``none``.
        verdict: The level in words.
        score: Overall score, at the holdout's number of rows where it is known.
        reference: Overall score of the holdout.
        rows: Lines of the table.
        equal_rows: Number of rows of the holdout.
        synthetic_rows: Number of synthetic rows.
        diagnostic: Diagnostic score.
        warnings: Sentences about what is wrong.
        costs: What, and its time or speed.
    """

    name: str
    engine: str
    level: str
    verdict: str
    score: float | None
    reference: float | None
    rows: tuple[FigureRow, ...]
    equal_rows: int | None
    synthetic_rows: int | None
    diagnostic: float | None
    warnings: tuple[str, ...]
    costs: tuple[tuple[str, str], ...]


class ScoredModel(Protocol):
    """A model and its metrics."""

    @property
    def name(self) -> str:
        """Its name in the job."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """``metrics/<name>.json``."""


def rounded(value: Any) -> float | None:
    """The number with six decimals, or None where it is missing, NaN or infinite."""
    number = finite(value)
    return None if number is None else round(number, 6)


def _at(metrics: Mapping[str, Any] | None, path: Sequence[str]) -> float | None:
    """The number at a path of keys, or None."""
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return finite(value) if isinstance(value, (int, float)) else None


def column_score(metrics: Mapping[str, Any], name: str) -> float | None:
    """Score of one column in a ``quality`` or ``diagnostic`` mapping, None where it has none."""
    score = (metrics.get("columns") or {}).get(name)
    return finite(score.get("score") if isinstance(score, Mapping) else score)


def level_of(score: float | None, reference: float | None) -> tuple[str, str]:
    """Level and words for a score beside its reference; without a reference, 1 takes its place."""
    if score is None:
        return "none", "No score"
    gap = (1.0 if reference is None else reference) - score
    return next((name, words) for most, name, words in LEVELS if gap <= most + 1e-9)


def card(name: str, metrics: Mapping[str, Any]) -> Card:
    """The verdict card of one model's ``metrics/<name>.json``."""
    quality: Mapping[str, Any] = metrics.get("quality") or {}
    holdout, equal = quality.get("holdout"), quality.get("at_holdout_rows")
    lines = tuple(
        FigureRow(words, meaning, _at(quality, path), _at(equal, path), _at(holdout, path))
        for path, words, meaning in FIGURES
        if _at(quality, path) is not None or _at(holdout, path) is not None
    )
    # The verdict follows the larger of two gaps: with linked pairs and with all pairs, at equal numbers of rows.
    overall = [line for line in lines if line.name.startswith("Overall")]
    on_real = [line for line in overall if line.name.endswith("real bins")]  # older runs do not have them
    judged = [(_first(line.equal, line.everything), line.holdout) for line in on_real or overall]
    judged = [(score, reference) for score, reference in judged if score is not None]
    judged.sort(key=lambda item: (1.0 if item[1] is None else item[1]) - (item[0] or 0.0), reverse=True)
    level, words = level_of(*judged[0]) if judged else level_of(None, None)
    rows: Mapping[str, Any] = metrics.get("rows") or {}
    return Card(
        name=name,
        engine=_engine(name, metrics),
        level=level,
        verdict=words,
        score=_first(_at(equal, ("score",)), _at(quality, ("score",))),
        reference=_at(holdout, ("score",)),
        rows=lines,
        equal_rows=_whole(equal.get("rows") or rows.get("holdout")) if equal else None,
        synthetic_rows=_whole(rows.get("synthetic")),
        diagnostic=_at(metrics.get("diagnostic"), ("score",)),
        warnings=tuple(_warnings(metrics, rows)),
        costs=tuple(_costs(metrics)),
    )


def compared_score(metrics: Mapping[str, Any]) -> float | None:
    """The overall score by which models are compared: on the real table's bins, where it was counted so."""
    quality: Mapping[str, Any] = metrics.get("quality") or {}
    both = quality.get("at_holdout_rows"), quality
    paths = (("real_bins", "score"), ("score",))
    return _first(*(_at(figures, path) for path in paths for figures in both))


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _whole(value: Any) -> int | None:
    number = finite(value)
    return int(number) if number else None


def _engine(name: str, metrics: Mapping[str, Any]) -> str:
    """Family and engine of a model in words; the family only where the name does not say it."""
    family, engine = str(metrics.get("family") or ""), metrics.get("engine")
    words = {"sdv": "stock SDV", "native": "shardsynth's own"}.get(str(engine), shown(str(engine or ""), 40))
    parts = [shown(family, 40) if family and family != name else "", words if engine else ""]
    return ", ".join(part for part in parts if part)


def _is_broken(figures: Any, score: float | None) -> bool:
    """Whether values of a column are not valid; a few beyond the real range are those of a tail."""
    bounded = isinstance(figures, Mapping) and figures.get("metric") == "BoundaryAdherence"
    return score is not None and score < (_VALID_WITH_TAILS if bounded else 0.99995)


def _warnings(metrics: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    """Sentences: the fit used a sample, values are not valid, columns or types differ."""
    warnings = []
    if rows.get("sampled"):
        fitted, real = int(rows.get("fitted") or 0), int(rows.get("real") or 0)
        warnings.append(
            f"Fitted on a random sample of {fitted:,} of the {real:,} training rows: "
            "this engine needs all its rows in memory. The scores use all rows."
        )
    diagnostic = metrics.get("diagnostic") or {}
    validity = _at(diagnostic, ("data_validity",))
    structure = _at(diagnostic, ("data_structure",))
    scored = diagnostic.get("columns") or {}
    columns = [name for name in scored if _is_broken(scored[name], column_score(diagnostic, name))]
    if validity is not None and validity < 0.99995 and (columns or not scored):
        names = ", ".join(isolated(name, 40) for name in columns[:4])
        more = f" and {len(columns) - 4:,} more" if len(columns) > 4 else ""
        warnings.append(
            f"Validity {floor(validity)}: some values lie outside the real range or categories"
            + (f", in {names}{more}." if names else ".")
        )
    if structure is not None and structure < 1:
        warnings.append(f"Structure {floor(structure)}: columns or types differ from the real table's.")
    return warnings


def floor(score: float | None, digits: int = 3) -> str:
    """A score as text, rounded down, so that only a perfect one reads 1.000; a dash where there is none."""
    if score is None:
        return "\u2013"
    scale = 10**digits
    return f"{int(score * scale + 1e-9) / scale:.{digits}f}"


def _costs(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What costs time, and how long or how fast it is."""
    stage_seconds: Mapping[str, Any] = metrics.get("seconds") or {}
    words = {"fit": "Fitting", "sample": "Sampling", "score": "Scoring"}
    costs = [(words[key], seconds(value)) for key in words if (value := finite(stage_seconds.get(key))) is not None]
    speed = finite(metrics.get("rows_per_second"))
    if speed is not None:
        costs.append(("Speed", f"{speed:,.0f} rows/s"))
    return costs


def headline(models: Sequence[ScoredModel]) -> tuple[str, ...]:
    """One or two sentences for the top of the page: the best model, and whether privacy was measured."""
    cards = [card(model.name, model.metrics) for model in models]
    scored = [(item.score, item) for item in cards if item.score is not None]
    if not scored:
        return ("No model has a score yet.",)
    score, best = max(scored, key=lambda item: item[0])
    only = len(scored) == 1
    first = f"{isolated(best.name)} {'scores' if only else 'comes closest to the real table: it scores'} {floor(score)}"
    if best.reference is not None:
        first += f"; real rows that no model has seen score {floor(best.reference)}."
    else:
        first += ". There is no holdout, so there is no score of real rows to compare it with."
    sentences = [first]
    if not any(model.metrics.get("privacy") for model in models):
        sentences.append(
            "Privacy was not measured: a high score says that the tables are alike, not that this one is safe to share."
        )
    return tuple(sentences)


@dataclass(frozen=True)
class ComparisonLine:
    """One line of the table that compares models.

    Attributes:
        name: What is compared.
        meaning: The same in a sentence.
        values: Text per model.
        best: Whether a model has the best value.
        holdout: The same of the holdout, or empty.
    """

    name: str
    meaning: str
    values: tuple[str, ...]
    best: tuple[bool, ...]
    holdout: str


def side_by_side(models: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[ComparisonLine, ...]:
    """The table that compares models, by scores of all synthetic rows.

    Args:
        models: Name and metrics of each model.
    """
    lines = []
    for path, words, meaning in FIGURES:
        values = [_at(metrics.get("quality"), path) for _, metrics in models]
        holdouts = [_at((metrics.get("quality") or {}).get("holdout"), path) for _, metrics in models]
        reference = _first(*holdouts)
        lines.append(_line(words, meaning, values, [floor(value) for value in values], True, floor(reference)))
    for key, words, meaning in (
        ("data_validity", "Validity", "Share of values inside the real range and categories."),
        ("data_structure", "Structure", "Whether the columns and types are the real table's."),
    ):
        values = [_at(metrics.get("diagnostic"), (key,)) for _, metrics in models]
        lines.append(_line(words, meaning, values, [floor(value) for value in values], True, ""))
    for key, words in (("fitted", "Rows fitted on"), ("synthetic", "Rows made")):
        counts = [_at(metrics.get("rows"), (key,)) for _, metrics in models]
        texts = ["\u2013" if value is None else f"{value:,.0f}" for value in counts]
        lines.append(_line(words, "", [None] * len(counts), texts, True, ""))
    for key, words in (("fit", "Fitting"), ("sample", "Sampling"), ("score", "Scoring")):
        durations = [_at(metrics.get("seconds"), (key,)) for _, metrics in models]
        texts = ["\u2013" if value is None else seconds(value) for value in durations]
        lines.append(_line(words, "", durations, texts, False, ""))
    speeds = [_at(metrics, ("rows_per_second",)) for _, metrics in models]
    texts = ["\u2013" if value is None else f"{value:,.0f}" for value in speeds]
    lines.append(_line("Rows per second", "Sampling speed.", speeds, texts, True, ""))
    return tuple(line for line in lines if any(text != "\u2013" for text in line.values))


def _line(
    name: str, meaning: str, values: Sequence[float | None], texts: Sequence[str], high_is_best: bool, holdout: str
) -> ComparisonLine:
    """A line; models with the same text as the best are best too, unless all have it."""
    known = [(value, text) for value, text in zip(values, texts) if value is not None]
    best_text = (max if high_is_best else min)(known, key=lambda item: item[0])[1] if known else None
    differ = len({text for _, text in known}) > 1
    best = tuple(differ and value is not None and text == best_text for text, value in zip(texts, values))
    return ComparisonLine(name, meaning, tuple(texts), best, holdout)
