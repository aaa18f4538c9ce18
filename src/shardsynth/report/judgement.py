"""Metrics of a run -> one verdict per model and question, and a recommendation with its reasons.

The questions are a reader's: is it like the real table (fidelity), does it copy people (privacy), can one work with it
(utility), can one tell it apart (detection), what does it cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shardsynth.report.plots import finite
from shardsynth.report.text import isolated, seconds
from shardsynth.report.verdicts import card, floor

AREAS = ("Fidelity", "Privacy", "Utility", "Detection", "Cost")
_RANK = {"best": 0, "good": 1, "fair": 2, "none": 3, "poor": 4}

#: Largest loss against training on real rows -> level and words.
_UTILITY = ((0.02, "best", "As useful as real"), (0.05, "good", "Nearly as useful"), (0.15, "fair", "Less useful"))
#: Largest AUC of the classifier -> level and words.
_DETECTION = ((0.6, "best", "Hard to tell apart"), (0.75, "good", "Mostly alike"), (0.9, "fair", "Can be told apart"))
#: Share of copies that the pull could not have ruled out, from which on "no sign" is a weak word.
_WEAK = 0.25


@dataclass(frozen=True)
class Verdict:
    """One question answered.

    Attributes:
        area: One of ``AREAS``.
        level: ``best``, ``good``, ``fair``, ``poor`` or ``none``.
        words: The answer in a few words.
        detail: The figure behind it.
    """

    area: str
    level: str
    words: str
    detail: str = ""


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Recommendation:
    """What to do, and why.

    Attributes:
        model: Name of the model recommended, or empty.
        lead: The sentence.
        reasons: Sentences for it.
        others: Name of each other model, and why not that.
    """

    model: str
    lead: str
    reasons: tuple[str, ...]
    others: tuple[tuple[str, str], ...]


def verdicts(name: str, metrics: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """The verdicts on one model, in the order of ``AREAS``."""
    found = card(name, metrics)
    detail = "" if found.score is None else floor(found.score)
    if detail and found.reference is not None:
        detail += f" (real {floor(found.reference)})"
    return (
        Verdict("Fidelity", found.level, found.verdict, detail),
        _privacy(metrics.get("privacy") or {}),
        _utility(metrics.get("utility") or {}),
        _detection(metrics.get("detection") or {}),
        _cost(metrics),
    )


def _privacy(figures: Mapping[str, Any]) -> Verdict:
    if not figures.get("closest_record"):
        return Verdict("Privacy", "none", "Not measured")
    findings = figures.get("findings") or []
    failed = [f for f in findings if f["level"] == "fail"]
    closer = f"{100 * figures['closest_record']['closer_to_training']:.0f}\u202f% closer to training"
    if failed:
        return Verdict("Privacy", "poor", "Copies real rows", f"{len(failed)} of the tests failed")
    if findings:
        return Verdict("Privacy", "fair", "Look closer", closer)
    if (finite((figures.get("pull") or {}).get("high")) or 0.0) > _WEAK:
        return Verdict("Privacy", "good", "No sign of copying", "few holdout rows: a weak test")
    return Verdict("Privacy", "best", "No sign of copying", closer)


def _utility(figures: Mapping[str, Any]) -> Verdict:
    made, real = finite(figures.get("train_synthetic")), finite(figures.get("train_real"))
    if made is None or real is None:
        return Verdict("Utility", "none", "Not measured")
    metric = str(figures.get("metric", "")).split(",")[0].replace("R2", "R\u00b2")
    detail = f"{metric} {made:.3f} (real {real:.3f})"
    if real - (finite(figures.get("guessing")) or 0.0) < 0.05:
        return Verdict("Utility", "none", "Nothing to predict", detail)
    level, words = next(((lv, w) for most, lv, w in _UTILITY if real - made <= most + 1e-9), ("poor", "Of little use"))
    return Verdict("Utility", level, words, detail)


def _detection(figures: Mapping[str, Any]) -> Verdict:
    area = finite(figures.get("auc"))
    if area is None:
        return Verdict("Detection", "none", "Not measured")
    level, words = next(((lv, w) for most, lv, w in _DETECTION if area <= most), ("poor", "Easily told apart"))
    held, equal = figures.get("holdout") or {}, figures.get("at_holdout_rows") or {}
    detail = f"AUC {area:.3f}"
    if None not in (real := finite(held.get("auc")), made := finite(equal.get("auc"))):
        # More rows are easier to tell apart: beside real rows stands what as many synthetic ones reach.
        detail += f"; on {held['rows']:,} rows {made:.3f} (real {real:.3f})"
    return Verdict("Detection", level, words, detail)


def _cost(metrics: Mapping[str, Any]) -> Verdict:
    took: Mapping[str, Any] = metrics.get("seconds") or {}
    fit, million = finite(took.get("fit")), seconds_per_million(metrics)
    if fit is None and million is None:
        return Verdict("Cost", "none", "Not measured")
    words = "" if fit is None else f"{seconds(fit)} to fit"
    return Verdict("Cost", "none", words, "" if million is None else f"{seconds(million)} per million rows")


def seconds_per_million(metrics: Mapping[str, Any], *, with_fit: bool = False) -> float | None:
    """Seconds of work for a million rows: sampling, or sampling and this run's fit spread over its rows."""
    took: Mapping[str, Any] = metrics.get("seconds") or {}
    rows = finite((metrics.get("rows") or {}).get("synthetic"))
    parts = [finite(took.get(stage)) for stage in (("fit", "sample") if with_fit else ("sample",))]
    if not rows or any(part is None for part in parts):
        return None
    return sum(part for part in parts if part is not None) / rows * 1e6


def recommendation(models: Sequence[_Named]) -> Recommendation | None:
    """The model to take: none that copies; of the rest the closest to real, then the most useful. None: no models."""
    if not models:
        return None
    found = {model.name: verdicts(model.name, model.metrics) for model in models}
    scores = {model.name: card(model.name, model.metrics).score or 0.0 for model in models}

    def order(name: str) -> tuple[float, ...]:
        fidelity, privacy, utility, detection, _ = found[name]
        # Privacy: only fails and cautions move a model down; a strong and a weak "no sign" are one.
        cautious = {"fair": 1, "poor": 2}.get(privacy.level, 0)
        ranks = [_RANK[v.level] for v in (fidelity, utility, detection)]
        return (cautious, *(float(rank) for rank in ranks), -scores[name])

    ranked = sorted(found, key=order)
    best = ranked[0]
    fidelity, privacy, utility, detection, cost = found[best]
    others = tuple((name, _why_not(found[name], found[best])) for name in ranked[1:])
    measured = privacy.level != "none"
    if privacy.level == "poor":
        lead = "No model can be recommended: each repeats training rows more than chance explains."
        return Recommendation("", lead, (), tuple((name, _findings(models, name)) for name in ranked))
    if fidelity.level in ("poor", "none"):
        lead = "No model can be recommended: none is close to the real table."
        return Recommendation("", lead, (), tuple((name, _why_not(found[name], found[name])) for name in ranked))
    name = isolated(best)
    lead = (
        f"Take {name}." if measured else f"{name} is the closest, but whether it may leave the house was not measured."
    )
    reasons = [
        f"Fidelity: {_lower(fidelity.words)}, {fidelity.detail}.",
        f"Privacy: {_lower(privacy.words)}{'; ' + privacy.detail if privacy.detail else ''}."
        if measured
        else "Privacy: no holdout, so nothing to compare with. Set `evaluate.holdout` and run again.",
    ]
    if privacy.level == "fair":
        reasons.append(_findings(models, best))
    if utility.level != "none":
        reasons.append(f"Utility: {_lower(utility.words)}, {utility.detail}.")
    if detection.level != "none":
        reasons.append(f"Detection: {_lower(detection.words)}, {detection.detail}.")
    if cost.words:
        reasons.append(f"Cost: {cost.words}{', ' + cost.detail if cost.detail else ''}.")
    return Recommendation(best, lead, tuple(reasons), others)


def _why_not(found: Sequence[Verdict], best: Sequence[Verdict]) -> str:
    worse = [
        f"{v.area.lower()}: {_lower(v.words)}{', ' + v.detail if v.detail else ''}"
        for v, other in zip(found, best)
        if v.area != "Cost"
        and (_RANK[v.level] > _RANK[other.level] or v.level == "poor")
        and not (v.area == "Privacy" and v.level == "good")  # a weak "no sign" is none against a model
    ]
    return ("; ".join(worse) or "a little farther from the real table") + "."


def _findings(models: Sequence[_Named], name: str) -> str:
    found = next(model for model in models if model.name == name).metrics.get("privacy") or {}
    return " ".join(finding["text"] for finding in found.get("findings") or [])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
