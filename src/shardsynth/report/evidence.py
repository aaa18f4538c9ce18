"""From metrics of the models to the tables of privacy, utility, detection, cost and missing values, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shardsynth.report.figures import ColumnFigure
from shardsynth.report.judgement import seconds_per_million
from shardsynth.report.plots import finite
from shardsynth.report.text import seconds, shown

_DASH = "\u2013"
Metrics = Mapping[str, Any]
Models = Sequence[tuple[str, Metrics]]

#: Columns in the table of missing values.
MOST_MISSING = 40


@dataclass(frozen=True)
class EvidenceLine:
    """One line of a table.

    Attributes:
        name: What is measured.
        meaning: The same in a sentence.
        values: Text per model; the text after a line break is drawn smaller.
        levels: ``fail``, ``caution`` or empty, per model.
        reference: The figure of real rows, or of chance.
        column: Whether ``name`` is a column's name.
    """

    name: str
    meaning: str
    values: tuple[str, ...]
    levels: tuple[str, ...]
    reference: str = ""
    column: bool = False


def _line(
    models: Models,
    area: str,
    path: Sequence[str],
    name: str,
    meaning: str,
    text: Callable[[Mapping[str, Any]], str],
    reference: Callable[[Mapping[str, Any]], str],
) -> EvidenceLine | None:
    """A line of the figures at ``path`` in an area of the metrics; None where no model has them.

    Args:
        models: Name and metrics of each model.
        area: ``privacy`` or ``detection``.
        path: Keys inside the area, from outside in.
        name: Name of the line.
        meaning: The same in a sentence.
        text: From a model's figures to their text.
        reference: The same for the reference, from the figures of the first model that has some.
    """
    figures = [_section(metrics.get(area), path) for _, metrics in models]
    if not any(figures):
        return None
    levels = []
    for _, metrics in models:
        findings = (metrics.get(area) or {}).get("findings") or []
        model_levels = [finding["level"] for finding in findings if finding["measure"] == ".".join(path)]
        levels.append("fail" if "fail" in model_levels else model_levels[0] if model_levels else "")
    first = next(section for section in figures if section)
    values = tuple(text(section) if section else _DASH for section in figures)
    return EvidenceLine(name, meaning, values, tuple(levels), reference(first))


def _section(value: Any, path: Sequence[str]) -> Mapping[str, Any]:
    """The mapping at a path of keys; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def percent(value: Any, digits: int = 1) -> str:
    """A share from 0 to 1 as a percentage; a dash where it is missing or not finite."""
    number = finite(value)
    return _DASH if number is None else f"{decimal(100 * number, digits)}\u202f%"


def decimal(value: Any, digits: int = 2) -> str:
    """A number with ``digits`` decimals; a dash where it is missing or not finite."""
    number = finite(value)
    if number is None:
        return _DASH
    text = f"{number:.{digits}f}"
    return text.replace("-", "\u2212") if text.strip("-0.") else text.lstrip("-")


def interval(value: Mapping[str, Any], form: Callable[..., str], digits: int, key: str) -> str:
    """A figure (at ``key``), and on the next line its interval from ``low`` to ``high``, each written by ``form``."""
    return f"{form(value[key], digits)}\n{form(value['low'], digits)} to {form(value['high'], digits)}"


def privacy_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The table of privacy: one line per figure that a model has."""
    lines = [
        _line(
            models,
            "privacy",
            ("closest_record",),
            "Closer to training rows",
            "Rows nearer to a training row than to one of as many unseen rows; ties count half.",
            lambda v: interval(v, percent, 1, "closer_to_training"),
            lambda v: percent(0.5, 0),
        ),
        _line(
            models,
            "privacy",
            ("pull",),
            "Pull to training rows",
            "The same against all training rows: the share of rows that would have to be copies to explain it.",
            lambda v: interval(v, percent, 0, "share"),
            lambda v: percent(0.0, 0),
        ),
        _line(
            models,
            "privacy",
            ("exact_matches",),
            "Exact copies",
            "Rows equal to a training row in every column. Beside it: the same of unseen real rows.",
            lambda v: f"{v['rows']:,}\n{percent(v['share'], 2)}",
            lambda v: (
                "fewer than 5"
                if 0 < v["holdout_rows"] < 5
                else f"{v['holdout_rows']:,}\n{percent(v['holdout_share'], 2)}"
            ),
        ),
        _line(
            models,
            "privacy",
            ("near_matches",),
            "Near copies",
            "Rows as near to a training row as only 1\u202f% of the unseen real rows are.",
            lambda v: interval(v, percent, 2, "share"),
            lambda v: percent(v["holdout_share"], 2),
        ),
        _line(
            models,
            "privacy",
            ("neighbour_ratio",),
            "Nearest over second nearest",
            "5th percentile and median of the ratio of both distances; near 0 one real row is singled out.",
            lambda v: f"{decimal(v['fifth'])} / {decimal(v['median'])}",
            lambda v: f"{decimal(v['holdout_fifth'])} / {decimal(v['holdout_median'])}",
        ),
        _line(
            models,
            "privacy",
            ("membership",),
            "Membership of isolated records",
            "AUC of an attacker who asks which of the most isolated records were trained on.",
            lambda v: interval(v, decimal, 2, "auc"),
            lambda v: "0.50",
        ),
    ]
    lines += _attack_lines(models)
    return tuple(line for line in lines if line is not None)


def _attack_lines(models: Models) -> list[EvidenceLine | None]:
    attacks = (
        (("attacks", "singling_out_one"), "Singling out, one column", "A value that one person alone has."),
        (("attacks", "singling_out_many"), "Singling out, several columns", "A combination that one person alone has."),
        (("attacks", "linkability"), "Linkability", "Two halves of a record that are linked to each other."),
        (("attacks", "inference"), "Inference", "A secret guessed from the other columns; the column at most risk."),
    )

    def text(value: Mapping[str, Any]) -> str:
        column = f", {shown(str(value['column']), 30)}" if value.get("column") else ""
        return interval(value, percent, 1, "risk") + column

    return [
        _line(
            models,
            "privacy",
            path,
            name,
            f"Risk beyond the same attack on unseen rows. {meaning}",
            text,
            lambda v: percent(0.0, 0),
        )
        for path, name, meaning in attacks
    ]


def findings_of(models: Models) -> tuple[tuple[str, str, str], ...]:
    """Model, level (``fail`` or ``caution``) and text of every finding about privacy."""
    return tuple(
        (name, finding["level"], finding["text"])
        for name, metrics in models
        for finding in (metrics.get("privacy") or {}).get("findings") or []
    )


def utility_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The table of utility; empty where no model has a target."""
    first = next((u for _, m in models if (u := m.get("utility") or {}).get("target")), None)
    if first is None:
        return ()
    metric = str(first["metric"]).replace("R2", "R\u00b2")

    def line(name: str, meaning: str, text: Callable[[Mapping[str, Any]], str], reference: str) -> EvidenceLine:
        figures = [m.get("utility") or {} for _, m in models]
        values = tuple(text(u) if u.get("target") else _DASH for u in figures)
        return EvidenceLine(name, meaning, values, ("",) * len(values), reference)

    real = [finite((m.get("utility") or {}).get("train_real")) for _, m in models]
    best = max((value for value in real if value is not None), default=None)
    return (
        line(
            f"{metric}, trained on synthetic",
            "Of real rows that no model saw.",
            lambda u: decimal(u["train_synthetic"], 3),
            decimal(best, 3),
        ),
        line(
            "Lost against training on real",
            "As many rows; with a 95\u202f% interval.",
            lambda u: f"{decimal(u['gap'], 3)}\n{decimal(u['gap_low'], 3)} to {decimal(u['gap_high'], 3)}",
            "0",
        ),
        line(
            "Agreement on what matters",
            "Overlap of the importance of columns, 1 where both models use the same columns equally.",
            lambda u: decimal((u.get("importance") or {}).get("overlap"), 2),
            "1",
        ),
    )


def importance_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """Importance of columns for the booster trained on synthetic rows, beside the one trained on real rows.

    Columns that have less than 0.001 in the latter are left out.
    """
    tables = [
        {c["column"]: c for c in ((m.get("utility") or {}).get("importance") or {}).get("columns") or []}
        for _, m in models
    ]
    first = next((table for table in tables if table), {})
    return tuple(
        EvidenceLine(
            name,
            "",
            tuple(decimal(table[name]["synthetic"], 3) if name in table else _DASH for table in tables),
            ("",) * len(tables),
            decimal(column["real"], 3),
            column=True,
        )
        for name, column in first.items()
        if column["real"] > 0.001
    )


def detection_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The table of detection; the line of as many rows as the holdout has takes the holdout's AUC as reference."""
    lines = [
        _line(
            models,
            "detection",
            (),
            "AUC",
            "Of a classifier between synthetic and training rows.",
            lambda v: interval(v, decimal, 3, "auc"),
            lambda v: "0.5",
        ),
        _line(
            models,
            "detection",
            ("at_holdout_rows",),
            "AUC, on as many rows as the holdout has",
            "Fewer rows are harder to tell apart. Beside it: unseen real rows against training rows.",
            lambda v: interval(v, decimal, 3, "auc"),
            lambda v: "",
        ),
    ]
    holdout = next((h for _, m in models if (h := (m.get("detection") or {}).get("holdout"))), None)
    present = [line for line in lines if line is not None]
    if holdout and len(present) == 2:
        present[1] = replace(present[1], reference=interval(holdout, decimal, 3, "auc"))
    return tuple(present)


def giveaways(models: Models) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Per model, the columns by which its rows are recognised, and the AUC that the classifier loses without each."""
    return tuple(
        (name, tuple((c["column"], decimal(c["drop"], 3)) for c in columns))
        for name, metrics in models
        if (columns := (metrics.get("detection") or {}).get("giveaways"))
    )


def cost_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The table of costs: seconds of work, and rows per second."""

    def line(name: str, meaning: str, text: Callable[[Mapping[str, Any]], str]) -> EvidenceLine:
        return EvidenceLine(name, meaning, tuple(text(m) for _, m in models), ("",) * len(models))

    def stage_seconds(stage: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda m: _seconds((m.get("seconds") or {}).get(stage))

    lines = [
        line("Fitting", "", stage_seconds("fit")),
        line("Sampling", "", stage_seconds("sample")),
        line("Scoring", "", stage_seconds("score")),
        line("Judging", "Privacy, utility and detection.", stage_seconds("judge")),
        line("Rows per second", "Sampling speed.", lambda m: _count(m.get("rows_per_second"))),
        line(
            "A million more rows", "Sampling alone, from the fitted model.", lambda m: _seconds(seconds_per_million(m))
        ),
        line(
            "A million rows of this run",
            "The fit spread over the rows that were made.",
            lambda m: _seconds(seconds_per_million(m, with_fit=True)),
        ),
    ]
    return tuple(line for line in lines if any(value != _DASH for value in line.values))


def _seconds(value: Any) -> str:
    number = finite(value)
    return _DASH if number is None else seconds(number)


def _count(value: Any) -> str:
    number = finite(value)
    return _DASH if number is None else f"{number:,.0f}"


def missing_lines(columns: Sequence[ColumnFigure], models: int) -> tuple[EvidenceLine, ...]:
    """Columns with missing values; those whose share a model misses most come first.

    Args:
        columns: Figures of the columns: they hide shares of few real rows.
        models: Number of models.
    """
    lines_by_gap = []
    for figure in columns:
        cell = next((cell for cell in figure.rows if cell.kind == "missing"), None)
        if cell is None:
            continue
        gap = max((abs(share - (cell.real or 0.0)) for share in cell.synthetic), default=0.0)
        values = tuple(percent(share) for share in cell.synthetic) or (_DASH,) * models
        real = "few" if cell.real is None else percent(cell.real)
        holdout = "" if cell.holdout is None else f" (holdout {percent(cell.holdout)})"
        line = EvidenceLine(figure.name, "", values, ("",) * len(values), real + holdout, column=True)
        lines_by_gap.append((gap, line))
    lines_by_gap.sort(key=lambda item: -item[0])
    return tuple(line for _, line in lines_by_gap[:MOST_MISSING])
