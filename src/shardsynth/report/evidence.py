"""Metrics of the models -> the tables of the privacy, utility, detection and cost sections, models side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardsynth.report.figures import ColumnFigure
from shardsynth.report.judgement import seconds_per_million
from shardsynth.report.plots import finite
from shardsynth.report.text import seconds, shown

_DASH = "\u2013"
Metrics = Mapping[str, Any]
Models = Sequence[tuple[str, Metrics]]

#: Columns of the missingness table.
MOST_MISSING = 40


@dataclass(frozen=True)
class EvidenceLine:
    """One line of a table.

    Attributes:
        name: What is measured.
        meaning: In a sentence.
        values: Text per model; what follows a line break is smaller.
        levels: ``fail``, ``caution`` or empty, per model.
        reference: What real rows reach, or what chance gives.
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
    found = [_at(metrics.get(area), path) for _, metrics in models]
    if not any(found):
        return None
    levels = []
    for _, metrics in models:
        findings = (metrics.get(area) or {}).get("findings") or []
        hit = [f["level"] for f in findings if f["measure"] == ".".join(path)]
        levels.append("fail" if "fail" in hit else hit[0] if hit else "")
    first = next(value for value in found if value)
    values = tuple(text(value) if value else _DASH for value in found)
    return EvidenceLine(name, meaning, values, tuple(levels), reference(first))


def _at(value: Any, path: Sequence[str]) -> Mapping[str, Any]:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def percent(value: Any, digits: int = 1) -> str:
    """A share as per cent; a dash for none."""
    number = finite(value)
    return _DASH if number is None else f"{decimal(100 * number, digits)}\u202f%"


def decimal(value: Any, digits: int = 2) -> str:
    """A number to some places; a dash for none."""
    number = finite(value)
    if number is None:
        return _DASH
    text = f"{number:.{digits}f}"
    return text.replace("-", "\u2212") if text.strip("-0.") else text.lstrip("-")


def interval(value: Mapping[str, Any], form: Callable[..., str], digits: int, key: str) -> str:
    """A figure, and on the next line its interval."""
    return f"{form(value[key], digits)}\n{form(value['low'], digits)} to {form(value['high'], digits)}"


def privacy_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The privacy table."""
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
            "The same against all training rows, as the share of rows that would have to be copies to explain it.",
            lambda v: interval(v, percent, 0, "share"),
            lambda v: percent(0.0, 0),
        ),
        _line(
            models,
            "privacy",
            ("exact_matches",),
            "Exact copies",
            "Rows equal to a training row in every column; beside it, of the unseen real rows.",
            lambda v: f"{v['rows']:,}\n{percent(v['share'], 2)}",
            lambda v: _few(v["holdout_rows"]) or f"{v['holdout_rows']:,}\n{percent(v['holdout_share'], 2)}",
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


def _few(rows: int) -> str:
    """How few real rows are told."""
    return "fewer than 5" if 0 < rows < 5 else ""


def _attack_lines(models: Models) -> list[EvidenceLine | None]:
    words = (
        (("attacks", "singling_out_one"), "Singling out, one column", "A value that one person alone has."),
        (("attacks", "singling_out_many"), "Singling out, several columns", "A combination that one person alone has."),
        (("attacks", "linkability"), "Linkability", "Two halves of a record found to belong together."),
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
        for path, name, meaning in words
    ]


def findings_of(models: Models) -> tuple[tuple[str, str, str], ...]:
    """(model, level, text) of every finding."""
    return tuple(
        (name, finding["level"], finding["text"])
        for name, metrics in models
        for finding in (metrics.get("privacy") or {}).get("findings") or []
    )


def utility_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The utility table."""
    found = next((u for _, m in models if (u := m.get("utility") or {}).get("target")), None)
    if found is None:
        return ()
    metric = str(found["metric"]).replace("R2", "R\u00b2")

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
            "Overlap of the importance of columns, 1 where both models lean on the same.",
            lambda u: decimal((u.get("importance") or {}).get("overlap"), 2),
            "1",
        ),
    )


def importance_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The columns that matter most to the model of real rows, and what the others make of them."""
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
    """The detection table."""
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
            "Fewer rows are harder to tell apart; beside it, unseen real rows against training rows.",
            lambda v: interval(v, decimal, 3, "auc"),
            lambda v: "",
        ),
    ]
    held = next((h for _, m in models if (h := (m.get("detection") or {}).get("holdout"))), None)
    found = [line for line in lines if line is not None]
    if held and len(found) == 2:
        found[1] = EvidenceLine(**{**found[1].__dict__, "reference": interval(held, decimal, 3, "auc")})
    return tuple(found)


def giveaways(models: Models) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Per model, the columns that give it away and the AUC lost without them."""
    return tuple(
        (name, tuple((c["column"], decimal(c["drop"], 3)) for c in found))
        for name, metrics in models
        if (found := (metrics.get("detection") or {}).get("giveaways"))
    )


def cost_lines(models: Models) -> tuple[EvidenceLine, ...]:
    """The cost table."""

    def line(name: str, meaning: str, text: Callable[[Mapping[str, Any]], str]) -> EvidenceLine:
        return EvidenceLine(name, meaning, tuple(text(m) for _, m in models), ("",) * len(models))

    def took(stage: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda m: _seconds((m.get("seconds") or {}).get(stage))

    lines = [
        line("Fitting", "", took("fit")),
        line("Sampling", "", took("sample")),
        line("Scoring", "", took("score")),
        line("Judging", "Privacy, utility and detection.", took("judge")),
        line("Rows per second", "Sampling speed.", lambda m: _count(m.get("rows_per_second"))),
        line("A million more rows", "Sampling alone, the model is there.", lambda m: _seconds(seconds_per_million(m))),
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
    """Columns with missing values, the worst reproduced first; real shares as the columns' figures tell them."""
    found = []
    for figure in columns:
        cell = next((cell for cell in figure.rows if cell.kind == "missing"), None)
        if cell is None:
            continue
        gap = max((abs(made - (cell.real or 0.0)) for made in cell.synthetic), default=0.0)
        values = tuple(percent(made) for made in cell.synthetic) or (_DASH,) * models
        real = "few" if cell.real is None else percent(cell.real)
        held = "" if cell.holdout is None else f" (holdout {percent(cell.holdout)})"
        found.append((gap, EvidenceLine(figure.name, "", values, ("",) * len(values), real + held, column=True)))
    found.sort(key=lambda item: -item[0])
    return tuple(line for _, line in found[:MOST_MISSING])
